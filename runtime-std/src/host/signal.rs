//! Ctrl-C as a flag that loops look at, and a clear end when a mapped file breaks away.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_interrupt(_: libc::c_int) {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
}

/// Whether failures are to be told as JSON.
static AS_JSON: AtomicBool = AtomicBool::new(false);

macro_rules! broken_file {
    () => {
        "the model or session file could no longer be read (cut short, or its disk failed); check it, or use --no-mmap"
    };
}

extern "C" fn on_bus_error(_: libc::c_int) {
    const LINE: &str = concat!("trill: ", broken_file!(), "\n");
    const JSON: &str = concat!(r#"{"error":{"code":74,"message":""#, broken_file!(), "\"}}\n");
    let message = if AS_JSON.load(Ordering::Relaxed) { JSON } else { LINE };
    // Only an atomic flag and tcsetattr, which are allowed here.
    crate::terminal::restore();
    // SAFETY: write and _exit are async-signal-safe; the message is a constant.
    unsafe {
        libc::write(2, message.as_ptr().cast(), message.len());
        libc::_exit(i32::from(crate::exit::Code::Io as u8));
    }
}

fn install(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: the structure is zeroed, then filled as sigaction(2) asks; the handlers only do what is
    // allowed in a signal handler. No SA_RESTART: a blocked read returns, so that it can be given up.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// From now on Ctrl-C is counted instead of ending the program.
pub(crate) fn catch_interrupts() {
    install(libc::SIGINT, on_interrupt);
}

/// From now on a mapped file that shrinks ends the program with a message.
pub(crate) fn explain_bus_errors() {
    install(libc::SIGBUS, on_bus_error);
}

/// From now on a write beyond the limit on file sizes fails instead of ending the program.
pub(crate) fn ignore_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// From now on that message is JSON.
pub(crate) fn report_as_json() {
    AS_JSON.store(true, Ordering::Relaxed);
}

/// Whether Ctrl-C came since [`forget_interrupts`].
pub(crate) fn interrupted() -> bool {
    INTERRUPTS.load(Ordering::Relaxed) > 0
}

/// Starts counting afresh.
pub(crate) fn forget_interrupts() {
    INTERRUPTS.store(0, Ordering::Relaxed);
}
