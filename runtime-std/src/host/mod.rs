//! What the operating system gives: memory, files, threads, signals. All unsafe code of the shell is here
//! and in the terminal's raw mode.

pub(crate) mod affinity;
pub(crate) mod allocations;
pub(crate) mod attempts;
pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod fence;
pub(crate) mod files;
pub(crate) mod kept;
pub(crate) mod memory;
pub(crate) mod mmap;
pub(crate) mod signal;
pub(crate) mod thermal;
pub(crate) mod threads;

/// Whether a file descriptor is a terminal.
pub(crate) fn is_terminal(descriptor: i32) -> bool {
    // SAFETY: isatty only looks the number up.
    unsafe { libc::isatty(descriptor) == 1 }
}

/// A bug of ours ends with one line and exit code 70, whatever thread it happens in.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        files::discard_all();
        crate::terminal::restore();
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("unknown");
        crate::terminal::tell!("trill: internal error{place}: {what}; please report this line");
        // SAFETY: _exit ends the process at once; other threads and destructors are not waited for.
        unsafe { libc::_exit(i32::from(crate::exit::Code::Software as u8)) }
    }));
}
