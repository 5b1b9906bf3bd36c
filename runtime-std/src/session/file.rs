//! The file on the disk: locked, for its owner's eyes only, replaced as a whole or appended to.

use super::log::Store;
use crate::host::files::{Access, Identity, Output, Refused, Target};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How often a file that is being replaced is looked at again.
const TRIES: usize = 100;

/// A session file that this process alone writes.
pub(super) struct Locked(Output);

/// What is at a path.
pub(super) enum Found {
    File(Locked),
    /// Nothing yet; here a file can be made.
    Nothing(Arc<Target>),
}

impl Locked {
    /// Opens the file at `path`. `WouldBlock`: another process has it. Nothing is made, changed or removed.
    pub(super) fn open(path: &Path) -> Result<Found, Refused> {
        for _ in 0..TRIES {
            let target = Arc::new(Target::find(path)?);
            if target.identity().is_none() {
                return Ok(Found::Nothing(target));
            }
            let file = match target.open() {
                Err(Refused::Io(e)) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            lock(&file)?;
            // Another process may have replaced the file between the opening and the lock.
            if target.identity_now() == Some(Identity::of(&file.metadata()?)) {
                return Ok(Found::File(Locked(Output::existing(file, &target))));
            }
        }
        Err(io::Error::from(io::ErrorKind::WouldBlock).into())
    }

    /// An empty file for `target`, which has no name yet.
    pub(super) fn create(target: &Arc<Target>) -> io::Result<Locked> {
        let output = Output::create(target, Access::Private)?;
        lock(output.file())?;
        Ok(Locked(output))
    }

    /// An empty file beside this one, to be written and then put in its place.
    pub(super) fn beside(&self) -> io::Result<Locked> {
        Locked::create(self.0.target())
    }

    pub(super) fn file(&self) -> &File {
        self.0.file()
    }

    /// Whether it belongs to this user.
    pub(super) fn is_own(&self) -> io::Result<bool> {
        self.0.is_own()
    }

    /// Sees to it that nobody else may read it. True if others could.
    pub(super) fn make_private(&self) -> io::Result<bool> {
        self.0.make_private()
    }

    /// Gives a file of [`Locked::create`] its name, which no file may have.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        Ok(self.0.publish(false)?)
    }

    /// Puts this file in the place of `other`, at once or not at all.
    pub(super) fn replace(&mut self, other: &Locked) -> io::Result<()> {
        if !other.0.is_in_place() {
            return Err(io::Error::other("the file was moved or removed"));
        }
        Ok(self.0.publish(true)?)
    }
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(e) => e,
    })
}

impl Store for Locked {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file().write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file().sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file().set_len(len)
    }
}
