//! The model file in memory: mapped, or copied.

use super::memory::Arena;
use crate::exit::{Code, Failure, Outcome};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The bytes of a file. They stay until the program ends: a process runs one model.
pub(crate) struct ModelFile {
    pub(crate) bytes: &'static [u8],
    /// Whether the bytes are pages of the file rather than a copy.
    pub(crate) mapped: bool,
}

/// Maps `path`, or copies it where `map` is false.
///
/// A mapped file must not be cut short while it is in use: see [`super::signal::explain_bus_errors`].
pub(crate) fn open(path: &Path, map: bool) -> Outcome<ModelFile> {
    let mut file = File::open(path).map_err(|e| Failure::file(path, &e))?;
    let about = file.metadata().map_err(|e| Failure::file(path, &e))?;
    if about.is_dir() {
        return Err(Failure::new(Code::NoInput, "is a folder, not a model file").about(path));
    }
    if !about.is_file() || about.len() == 0 {
        let what = if about.is_file() { "is empty" } else { "is not a regular file" };
        return Err(Failure::new(Code::Data, what).about(path));
    }
    if map {
        super::signal::explain_bus_errors();
        // SAFETY: the mapping is read-only and private to us; that nobody changes the file meanwhile is what
        // the user is told in the documentation, and what `--no-mmap` is for.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Failure::file(path, &e))?;
        // Where the file system keeps files in large pages, the file is read in large pieces and its addresses are
        // found faster: a quarter more speed. A hint, no more.
        let _ = map.advise(memmap2::Advice::HugePage);
        return Ok(ModelFile { bytes: Box::leak(Box::new(map)), mapped: true });
    }
    let length = usize::try_from(about.len()).map_err(|_| Failure::new(Code::Memory, "is too large").about(path))?;
    let copy = Arena::reserve(length).map_err(|f| f.about(path))?.leak();
    let copy = &mut copy[..length];
    file.read_exact(copy).map_err(|e| Failure::file(path, &e))?;
    Ok(ModelFile { bytes: copy, mapped: false })
}

/// Drops a written file from the system's cache, where it lies in small pages: whoever maps it next reads what is on
/// the disk, into large pages where there are such.
pub(crate) fn forget(file: &File) {
    // SAFETY: advice about an open file changes no memory of ours. If it is not taken, nothing is lost.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

impl ModelFile {
    /// Asks the system to keep the bytes in memory.
    pub(crate) fn lock(&self) {
        super::memory::lock(self.bytes);
    }
}
