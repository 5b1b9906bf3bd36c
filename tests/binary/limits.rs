//! Limits that the tests put on the program.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The process may have this many bytes of address space.
pub(crate) fn limited(mut command: Command, bytes: u64) -> Command {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: setrlimit is async-signal-safe and reads `limit` only.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command
}
