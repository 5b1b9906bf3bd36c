//! Opening files to read.
//!
//! Models, sessions and the files of a model's folder are regular files: they are mapped, or read at places. Texts may
//! also come from a pipe (`-f <(echo x)`, `-f FIFO`, `-f -`), a terminal or `/dev/null`, as far as they end in time.

use super::{Refused, must_be_regular};
use crate::exit::{Code, Failure, Outcome, reason};
use crate::host::{is_terminal, memory};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of a text or of a JSON file that is read as a whole: far more than any context or vocabulary has, and what a
/// device or pipe without an end stops at.
const TEXT_MAX: u64 = 256 << 20;

/// Opens the regular file at `path`. Anything else is refused at once: nothing is waited for.
pub(crate) fn regular(path: &Path) -> Outcome<File> {
    if_regular(path).map_err(|refused| refused.reading(path))
}

/// The same, for those who tell by themselves what is wrong.
pub(crate) fn if_regular(path: &Path) -> Result<File, Refused> {
    must_be_regular(std::fs::metadata(path)?.file_type())?;
    opened(File::options().read(true).custom_flags(bits(AT_ONCE)).open(path)?)
}

/// How a file is opened that may have become something else since it was looked at.
pub(super) const AT_ONCE: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// The file just opened [`AT_ONCE`], if it is what it should be.
pub(super) fn opened(file: File) -> Result<File, Refused> {
    must_be_regular(file.metadata()?.file_type())?;
    let set = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, set - OFlags::NONBLOCK)?;
    Ok(file)
}

/// The whole regular file at `path`; `None` if there is none.
pub(crate) fn whole(path: &Path) -> Outcome<Option<Vec<u8>>> {
    match if_regular(path) {
        Err(Refused::Io(e)) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(refused) => Err(refused.reading(path)),
        Ok(file) => limited(file).map(Some).map_err(|f| f.about(path)),
    }
}

/// The text at `path`, which may be a pipe.
pub(crate) fn text(path: &Path) -> Outcome<Vec<u8>> {
    let io = |e: io::Error| Failure::file(path, &e);
    let refused = |r: Refused| r.reading(path);
    // Only what a device is can be seen from outside; a terminal is told when it is open, which does no harm.
    let about = std::fs::metadata(path).map_err(io)?;
    may_be_text(&about, true).map_err(refused)?;
    let file = File::options().read(true).custom_flags(bits(OFlags::NOCTTY)).open(path).map_err(io)?;
    may_be_text(&file.metadata().map_err(io)?, is_terminal(file.as_raw_fd())).map_err(refused)?;
    limited(file).map_err(|f| f.about(path))
}

fn may_be_text(about: &Metadata, terminal: bool) -> Result<(), Refused> {
    // Numbers of devices are fixed (`Documentation/admin-guide/devices.txt` of Linux).
    let allowed = match (rustix::fs::major(about.rdev()), rustix::fs::minor(about.rdev())) {
        (1, 3) => true,                     // /dev/null
        (5, 2) => false,                    // /dev/ptmx: opening it makes a terminal
        (4 | 5 | 136..=143, _) => terminal, // consoles, serial lines, /dev/tty, /dev/pts
        _ => false,
    };
    match about.file_type() {
        kind if kind.is_fifo() || kind.is_char_device() && allowed => Ok(()),
        kind => must_be_regular(kind),
    }
}

/// The next bytes of `file`, from `from` on, that are not a hole; `None` if there are none before `length`.
pub(crate) fn next_data(file: &File, from: usize, length: u64) -> Option<Range<usize>> {
    if from as u64 >= length {
        return None;
    }
    let seek = |to| rustix::fs::seek(file, to);
    let start = match seek(SeekFrom::Data(from as u64)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return None,
        // A file system that knows no holes.
        Err(_) => from as u64,
    };
    let end = seek(SeekFrom::Hole(start)).unwrap_or(length).min(length);
    let range = usize::try_from(start).ok()?.max(from)..usize::try_from(end).ok()?;
    (!range.is_empty()).then_some(range)
}

/// Everything that `from` has, at most [`TEXT_MAX`] bytes.
pub(crate) fn limited(from: impl Read) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(TEXT_MAX + 1).read_to_end(&mut bytes).map_err(|e| Failure::new(Code::Io, reason(&e)))?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(Failure::new(Code::Data, format!("has more than {}", memory::size(TEXT_MAX))));
    }
    Ok(bytes)
}

fn bits(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}
