//! The model file in memory: mapped, or copied.

use super::files::Identity;
use crate::exit::{Code, Failure, Outcome, reason};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes of a file. They stay until the program ends: a process runs one model.
pub(crate) struct ModelFile {
    /// The whole file; its start, where the address space has no room for more.
    pub(crate) bytes: &'static [u8],
    /// Bytes of the whole file.
    pub(crate) length: u64,
    /// Where a copy is read from.
    file: Option<File>,
}

/// Bytes of a file that are mapped first where not all of it can be, and how much more each time.
const START: u64 = 256 << 10;
const MORE: u64 = 4;

/// Maps `path`. Where the address space (`ulimit -v`) has no room for the file, only its start is mapped: enough to say
/// what it would take.
///
/// A mapped file must not be cut short while it is in use: see [`super::signal::explain_bus_errors`].
pub(crate) fn open(path: &Path) -> Outcome<ModelFile> {
    let file = super::files::regular(path)?;
    let length = file.metadata().map_err(|e| Failure::file(path, &e))?.len();
    if length == 0 {
        return Err(Failure::new(Code::Data, "is empty").about(path));
    }
    super::signal::explain_bus_errors();
    let no_room = |e: &std::io::Error| e.kind() == std::io::ErrorKind::OutOfMemory;
    let bytes = match part(&file, length) {
        Err(e) if no_room(&e) => part(&file, START.min(length)),
        mapped => mapped,
    };
    let bytes = bytes.map_err(|e| if no_room(&e) { too_long(length).about(path) } else { Failure::file(path, &e) })?;
    Ok(ModelFile { bytes, length, file: Some(file) })
}

/// A file of `length` bytes finds no room in the address space.
fn too_long(length: u64) -> Failure {
    let (need, have) = (super::memory::size(length), super::memory::size(super::memory::available()));
    Failure::new(Code::Memory, format!("{need} of address space are needed for the file and {have} can be had"))
        .remedy("raise the limit with ulimit -v")
}

/// Maps the first `length` bytes.
fn part(file: &File, length: u64) -> std::io::Result<&'static [u8]> {
    let length = usize::try_from(length).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    // SAFETY: the mapping is read-only and private to us; that nobody changes the file meanwhile is what
    // the user is told in the documentation, and what `--no-mmap` is for.
    let map = unsafe { memmap2::MmapOptions::new().len(length).map(file) }?;
    // Where the file system keeps files in large pages, the file is read in large pieces and its addresses are
    // found faster: a quarter more speed. A hint, no more.
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(Box::leak(Box::new(map)))
}

/// Maps a file that nobody else writes: its lock is held, or it has no name yet.
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
        ModelFile { bytes, length: bytes.len() as u64, file: None }
    }

    /// Whether all of it is at hand.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.length
    }

    /// Refuses a file of which there is only the start.
    pub(crate) fn must_be_whole(&self) -> Outcome {
        if self.is_whole() { Ok(()) } else { Err(too_long(self.length)) }
    }

    /// More of the file's start. Only for one that is not whole.
    pub(crate) fn longer(self) -> Outcome<ModelFile> {
        let wanted = (self.bytes.len() as u64).saturating_mul(MORE).min(self.length);
        let mapped = self.file.as_ref().map(|file| part(file, wanted));
        match mapped {
            Some(Ok(bytes)) => Ok(ModelFile { bytes, ..self }),
            _ => self.must_be_whole().map(|()| self),
        }
    }

    /// Which file it is; none for a model in the program.
    pub(crate) fn identity(&self) -> Vec<Identity> {
        let about = self.file.as_ref().and_then(|file| file.metadata().ok());
        about.iter().map(Identity::of).collect()
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
        Ok(ModelFile { bytes: memory, length: self.length, file: None })
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
