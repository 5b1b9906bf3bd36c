//! The model file in memory: mapped, or copied.

use crate::exit::{Code, Failure, Outcome, reason};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes of a file. They stay until the program ends: a process runs one model.
pub(crate) struct ModelFile {
    pub(crate) bytes: &'static [u8],
    /// Where a copy is read from.
    file: Option<File>,
}

/// Maps `path`.
///
/// A mapped file must not be cut short while it is in use: see [`super::signal::explain_bus_errors`].
pub(crate) fn open(path: &Path) -> Outcome<ModelFile> {
    let file = File::open(path).map_err(|e| Failure::file(path, &e))?;
    let about = file.metadata().map_err(|e| Failure::file(path, &e))?;
    if about.is_dir() {
        return Err(Failure::new(Code::NoInput, "is a folder, not a model file").about(path));
    }
    if !about.is_file() || about.len() == 0 {
        let what = if about.is_file() { "is empty" } else { "is not a regular file" };
        return Err(Failure::new(Code::Data, what).about(path));
    }
    super::signal::explain_bus_errors();
    // SAFETY: the mapping is read-only and private to us; that nobody changes the file meanwhile is what
    // the user is told in the documentation, and what `--no-mmap` is for.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Failure::file(path, &e))?;
    // Where the file system keeps files in large pages, the file is read in large pieces and its addresses are
    // found faster: a quarter more speed. A hint, no more.
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(ModelFile { bytes: Box::leak(Box::new(map)), file: Some(file) })
}

/// Maps a file that nobody else writes: its lock is held.
pub(crate) fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    super::signal::explain_bus_errors();
    // SAFETY: the mapping is read-only and private to us, and other processes of ours respect the lock.
    unsafe { memmap2::Mmap::map(file) }
}

/// Drops a written file from the system's cache, where it lies in small pages: whoever maps it next reads what is on
/// the disk, into large pages where there are such.
pub(crate) fn forget(file: &File) {
    // SAFETY: advice about an open file changes no memory of ours. If it is not taken, nothing is lost.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

impl ModelFile {
    /// Bytes that are part of the program, or in memory already.
    pub(crate) fn in_program(bytes: &'static [u8]) -> ModelFile {
        ModelFile { bytes, file: None }
    }

    /// A copy in `memory`, which has the file's length. It is read, not taken from the mapping: a file that breaks
    /// away is an error then, not a signal.
    pub(crate) fn copy(&self, memory: &'static mut [u8]) -> Outcome<ModelFile> {
        match &self.file {
            Some(file) => file
                .read_exact_at(memory, 0)
                .map_err(|e| Failure::new(Code::Io, format!("could not be read to its end: {}", reason(&e))))?,
            None => memory.copy_from_slice(self.bytes),
        }
        Ok(ModelFile { bytes: memory, file: None })
    }

    /// Tells the system that a few bytes here and there will be read, so that it does not read what lies around them
    /// (megabytes each time, on some disks), or that this is over.
    pub(crate) fn read_scattered(&self, scattered: bool) {
        if self.file.is_some() {
            let advice = if scattered { libc::MADV_RANDOM } else { libc::MADV_NORMAL };
            // SAFETY: the bytes are a whole mapping, and advice changes nothing in it. A refusal does no harm.
            unsafe { libc::madvise(self.bytes.as_ptr().cast_mut().cast(), self.bytes.len(), advice) };
        }
    }

    /// Asks the system to keep the bytes in memory.
    pub(crate) fn lock(&self) {
        super::memory::lock(self.bytes);
    }
}
