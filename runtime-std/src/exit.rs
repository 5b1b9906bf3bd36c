//! How the program ends: the exit code, and one line saying what, why and what mends it.

use crate::terminal;
use std::fmt::Display;
use std::path::Path;

/// Exit codes, after `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Everything asked for was done, or the reader of our output has gone away.
    Done = 0,
    /// Wrong usage.
    Usage = 64,
    /// The model or other input is bad.
    Data = 65,
    /// No such file, or one that cannot be read: not allowed, or not a regular file.
    NoInput = 66,
    /// The system does not give what was required.
    Unavailable = 69,
    /// A bug of ours.
    Software = 70,
    /// The output file cannot be created, or is there already.
    CannotCreate = 73,
    /// An I/O error while running.
    Io = 74,
    /// The memory plan does not fit.
    Memory = 75,
    /// Asked to end by SIGHUP, as when a terminal is closed.
    HungUp = 129,
    /// Stopped by the user.
    Interrupted = 130,
    /// Asked to end by SIGTERM.
    Terminated = 143,
}

/// Why the program ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// Result of anything the shell does.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(Code::Usage, message)
    }

    /// Appends what the user can do about it.
    pub(crate) fn remedy(mut self, remedy: impl Display) -> Self {
        self.message = format!("{}; {remedy}", self.message);
        self
    }

    /// Puts the file it is about in front.
    pub(crate) fn about(mut self, path: &Path) -> Self {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }

    /// A file could not be opened or read.
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, OutOfMemory, PermissionDenied};
        let code = match error.kind() {
            NotFound | PermissionDenied | IsADirectory | NotADirectory => Code::NoInput,
            OutOfMemory => Code::Memory,
            _ => Code::Io,
        };
        let failure = Failure::new(code, format!("{}: {}", path.display(), reason(error)));
        match error.raw_os_error() {
            Some(libc::EMFILE) => failure.remedy("raise the limit with ulimit -n"),
            _ => failure,
        }
    }

    /// Standard output could not be written. A reader that has gone away is no failure.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::new(Code::Done, ""),
            _ => Failure::new(Code::Io, format!("standard output: {}", reason(error))),
        }
    }

    /// Prints the failure to standard error, as one line or as JSON, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> u8 {
        let code = match (self.code, crate::host::signal::ending()) {
            (Code::Interrupted, Some(libc::SIGHUP)) => Code::HungUp,
            (Code::Interrupted, Some(_)) => Code::Terminated,
            (code, _) => code,
        } as u8;
        let message = &self.message;
        if json && self.code != Code::Done {
            terminal::tell_json(&serde_json::json!({"error": {"code": code, "message": message}}));
        } else if !message.is_empty() {
            terminal::tell!("trill: {message}");
        }
        code
    }
}

/// An I/O error in words, without the number that `io::Error` appends.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

impl From<trill::Error> for Failure {
    fn from(error: trill::Error) -> Self {
        use trill::Error as E;
        let code = match error {
            E::Mem(_) => Code::Memory,
            E::Kernel(_) | E::Sampler(_) => Code::Usage,
            E::Interrupted => Code::Interrupted,
            _ => Code::Data,
        };
        let failure = Failure::new(code, error.to_string());
        match error {
            E::ContextFull { .. } => failure.remedy("ask for more context with -c"),
            _ => failure,
        }
    }
}

macro_rules! through_core_error {
    ($($room:ty),*) => {$(
        impl From<$room> for Failure {
            fn from(error: $room) -> Self {
                trill::Error::from(error).into()
            }
        }
    )*};
}
through_core_error!(trill::gguf::GgufError, trill::mem::MemError, trill::kernels::KernelError);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn codes() {
        let missing = Failure::file(Path::new("x.gguf"), &Error::from_raw_os_error(2));
        assert_eq!(missing, Failure::new(Code::NoInput, "x.gguf: no such file or directory"));
        assert_eq!(Failure::stdout(&Error::from(ErrorKind::BrokenPipe)).code, Code::Done);
        assert_eq!(Failure::stdout(&Error::from_raw_os_error(28)).code, Code::Io);
        assert_eq!(Failure::from(trill::Error::Interrupted).code, Code::Interrupted);
        assert_eq!(Failure::from(trill::Error::NotFinite).code, Code::Data);
        assert_eq!(Failure::usage("a").remedy("b").message, "a; b");
    }
}
