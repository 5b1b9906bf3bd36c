//! Files of the user: how they are opened ([`read`]), and the only door through which trill writes any ([`write`]).
//!
//! What is opened must be what it is taken for. A path is looked at before it is opened, because opening a device may
//! already do something, and the descriptor is looked at afterwards, because the path may lead elsewhere by then.

mod read;
mod write;

pub(crate) use read::{if_regular, limited, next_data, regular, text, whole};
pub(crate) use write::{Access, Output, Target, discard_all, folder_of};

use crate::exit::{Code, Failure, reason};
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Why a path is not opened or not written to.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It leads to something that is no regular file: what.
    Kind(&'static str),
    /// It cannot be the name of a file, such as `..` or `x/`.
    NoName,
    Io(io::Error),
}

impl Refused {
    /// The failure of reading `path`.
    pub(crate) fn reading(self, path: &Path) -> Failure {
        match self {
            Refused::Io(error) => Failure::file(path, &error),
            _ => Failure::new(Code::NoInput, self.to_string()).about(path),
        }
    }

    /// The failure of making `path`.
    pub(crate) fn creating(self, path: &Path) -> Failure {
        Failure::new(Code::CannotCreate, self.to_string()).about(path)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Kind(kind) => write!(f, "is {kind}, not a regular file"),
            Refused::NoName => f.write_str("is not the name of a file"),
            Refused::Io(error) => f.write_str(&reason(error)),
        }
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Io(error) => error,
            other => io::Error::other(other.to_string()),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Io(error)
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        Refused::Io(error.into())
    }
}

/// Refuses everything but regular files.
fn must_be_regular(kind: FileType) -> Result<(), Refused> {
    let what = match kind {
        k if k.is_file() => return Ok(()),
        k if k.is_dir() => "a folder",
        k if k.is_fifo() => "a FIFO",
        k if k.is_socket() => "a socket",
        k if k.is_char_device() => "a character device",
        k if k.is_block_device() => "a block device",
        _ => "something else",
    };
    Err(Refused::Kind(what))
}

/// Which file it is, whatever names it has: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    pub(crate) fn of(about: &Metadata) -> Identity {
        Identity(about.dev(), about.ino())
    }
}
