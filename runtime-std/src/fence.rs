//! When the fence closes, and what stays open: [`close`] is called where loading ends, before any thread that works on
//! the model is started. What the system refuses from then on is `host/fence.rs`.

use crate::commands::{CHAT, CONVERT, PACK, QUANTIZE, TUNE};
use crate::exit::{Code, Failure, Outcome};
use crate::host::affinity::Cores;
use crate::host::fence::{self, Fence};
use crate::host::memory::{self, Resident};
use crate::host::{clock, files, is_terminal};
use crate::options::Options;
use crate::{session, tune};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What `--sandbox` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sandbox {
    Off,
    /// As much as the kernel has.
    On,
    /// All of it, or nothing is done.
    Require,
}

impl Sandbox {
    /// What the user types, and what it is.
    pub(crate) const NAMES: [(&'static str, Sandbox); 3] =
        [("on", Sandbox::On), ("off", Sandbox::Off), ("require", Sandbox::Require)];
}

/// Closes the fence around this process, once; later calls find it closed.
///
/// # Errors
/// [`Code::Unavailable`] where `--sandbox require` was given and a part of the fence does not hold.
pub(crate) fn close(options: &Options) -> Outcome {
    static CLOSED: OnceLock<Fence> = OnceLock::new();
    if options.sandbox == Sandbox::Off {
        return Ok(());
    }
    let folders = folders(options);
    let closed = CLOSED.get_or_init(|| {
        read_for_later();
        let closed = fence::enter(&folders);
        tell(&closed, &folders);
        closed
    });
    match closed.gaps().next() {
        Some((part, why)) if options.sandbox == Sandbox::Require => {
            Err(Failure::new(Code::Unavailable, format!("--sandbox require: {part}: {why}"))
                .remedy("--sandbox on goes on with what there is"))
        }
        _ => Ok(()),
    }
}

/// The folders in which this command opens and makes files after loading.
fn folders(options: &Options) -> Vec<PathBuf> {
    let output = [&QUANTIZE, &PACK, &CONVERT].iter().any(|c| c.name == options.command);
    let kept = options.command == CHAT.name && !options.no_session && options.file.is_none() && is_terminal(0);
    let folder = if let Some(path) = &options.session {
        Some(files::folder_of(path))
    } else if output {
        options.operands.first().map(|path| files::folder_of(Path::new(path)))
    } else if kept {
        session::folder()
    } else if options.command == TUNE.name {
        tune::make_folder()
    } else {
        None
    };
    folder.into_iter().collect()
}

/// Opens what is read again later, looks at the cores, and lets the C library read the time zone: afterwards none of
/// it could be done.
fn read_for_later() {
    let _ = (memory::available(), Resident::read(), Cores::find(), clock::local_time("%Z"));
}

/// Says with `-v` what holds.
fn tell(closed: &Fence, folders: &[PathBuf]) {
    for (part, why) in closed.gaps() {
        log::debug!("no fence around {part}: {why}");
    }
    if closed.files.is_ok() {
        match folders {
            [] => log::debug!("the fence is closed: no file can be opened"),
            [folder, ..] => log::debug!("the fence is closed: no file can be opened but in {}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::RUN;

    #[test]
    fn only_what_a_command_writes_stays_open() {
        let run = Options { command: RUN.name, ..Options::default() };
        assert_eq!(folders(&run), [] as [PathBuf; 0]);
        let kept = Options { session: Some("/no/such/folder/x.session".into()), ..run.clone() };
        assert_eq!(folders(&kept), [PathBuf::from("/no/such/folder")]);
        assert_eq!(folders(&Options { session: Some("x.session".into()), ..run }), [PathBuf::from(".")]);
        let write = Options { command: QUANTIZE.name, operands: vec!["/a/b.gguf".into(), "Q8_0".into()], ..kept };
        assert_eq!(folders(&Options { session: None, ..write.clone() }), [PathBuf::from("/a")]);
        let chat = Options { command: CHAT.name, session: None, no_session: true, ..write };
        assert_eq!(folders(&chat), [] as [PathBuf; 0]);
    }
}
