//! Ctrl-C and requests to end as flags that loops look at, a clear end when a mapped file breaks away, and no end that
//! leaves files behind.

use super::files;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// The signal that asked for the program's end (SIGTERM, SIGHUP); 0: none.
static END: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_interrupt(_: libc::c_int) {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn on_end(signal: libc::c_int) {
    END.store(signal, Ordering::Relaxed);
}

/// For signals that kill and that nobody waits for: what is written is removed first.
extern "C" fn on_death(signal: libc::c_int) {
    files::discard_all();
    crate::terminal::restore();
    // SAFETY: both calls are async-signal-safe. The signal is blocked here and comes again, and kills, on return.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
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
    // Only atomics, unlinkat and tcsetattr, which are allowed here.
    files::discard_all();
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

/// Installs a handler for a signal that nobody has set to be ignored, as `nohup` does.
fn install_unless_ignored(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: a zeroed sigaction is a valid value; with no new action the call only fills it.
    let ignored = unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    };
    if !ignored {
        install(signal, handler);
    }
}

/// From now on Ctrl-C is counted, and SIGTERM and SIGHUP are noted, instead of ending the program at once.
pub(crate) fn catch_interrupts() {
    install(libc::SIGINT, on_interrupt);
    [libc::SIGTERM, libc::SIGHUP].into_iter().for_each(|signal| install_unless_ignored(signal, on_end));
}

/// From now on signals that kill remove files that are being written first.
pub(crate) fn tidy_before_death() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let deadly = [
            libc::SIGQUIT,
            libc::SIGABRT,
            libc::SIGALRM,
            libc::SIGVTALRM,
            libc::SIGPROF,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGXCPU,
        ];
        deadly.into_iter().for_each(|signal| install_unless_ignored(signal, on_death));
    });
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

/// Whether messages are JSON.
pub(crate) fn reports_json() -> bool {
    AS_JSON.load(Ordering::Relaxed)
}

/// Whether Ctrl-C came since [`forget_interrupts`], or [`ending`].
pub(crate) fn interrupted() -> bool {
    INTERRUPTS.load(Ordering::Relaxed) > 0 || ending().is_some()
}

/// The signal that asked for the program's end, if one did. That is not forgotten.
pub(crate) fn ending() -> Option<libc::c_int> {
    Some(END.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// Starts counting afresh.
pub(crate) fn forget_interrupts() {
    INTERRUPTS.store(0, Ordering::Relaxed);
}
