//! The file on the disk: locked, for its owner's eyes only, replaced as a whole or appended to.

use super::log::Store;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Only the user may read conversations.
const MODE: u32 = 0o600;

/// A session file that this process alone writes.
pub(super) struct Locked {
    file: File,
    /// Where the file lies, links resolved.
    path: PathBuf,
}

impl Locked {
    /// Opens the file at `path`, or makes an empty one. `WouldBlock`: another process has it.
    pub(super) fn open(path: &Path) -> io::Result<Locked> {
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("is not a regular file"));
            }
            lock(&file)?;
            let path = path.canonicalize()?;
            // Another process may have replaced the file between the opening and the lock.
            if fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino())) {
                let own = Locked { file, path };
                // What a crash left: whoever holds the lock of the file owns this one too.
                let _ = fs::remove_file(own.beside_path());
                return Ok(own);
            }
        }
    }

    fn beside_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        name.into()
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// An empty file beside this one, to be written and then put in its place.
    pub(super) fn beside(&self) -> io::Result<Locked> {
        let path = self.beside_path();
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&path)?;
        lock(&file)?;
        Ok(Locked { file, path })
    }

    /// Puts this file in the place of `other`, at once or not at all.
    pub(super) fn replace(&mut self, other: &Locked) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &other.path)?;
        self.path.clone_from(&other.path);
        // Some file systems cannot sync a folder; then the old file may come back after a power cut, whole.
        if let Some(folder) = self.path.parent() {
            let _ = File::open(folder).and_then(|f| f.sync_all());
        }
        Ok(())
    }

    /// Removes this file: it was not put in the other's place.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.path);
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
        self.file.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
