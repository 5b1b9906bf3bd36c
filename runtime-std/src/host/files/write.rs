//! The only door through which files are written: models, sessions, what `tune` remembers.
//!
//! A file is written whole beside its place and put there in one step, so that at any moment its name leads to the old
//! file or to the new one. Until then it has no name at all (`O_TMPFILE`): whatever ends the program, even a power cut,
//! leaves nothing. Where the file system or a missing `/proc` does not allow that, and for the moment of replacing
//! another file (`link` cannot replace, `rename` needs a name), it has a random one that was nobody's before
//! (`O_EXCL`, `O_NOFOLLOW`), which errors, panics and signals remove ([`discard_all`]). Names are never used again, so
//! what a killed run may leave is in nobody's way. Nothing else in the folder is touched.

use super::read::{AT_ONCE, opened};
use super::{Identity, Refused, must_be_regular};
use crate::host::clock::fresh_seed;
use crate::host::signal;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

/// Links followed one after the other, as the kernel has it.
const LINKS_MAX: usize = 40;
/// Random names tried; one is nearly always free.
const NAMES_TRIED: usize = 16;

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// What the file in its place allowed, else whoever the user's `umask` lets.
    Usual,
    /// Its owner only.
    Private,
}

/// Where a file is to be written: links are followed once, when this is made.
#[derive(Debug)]
pub(crate) struct Target {
    /// As it was given, for people.
    path: PathBuf,
    folder: File,
    name: OsString,
    /// The regular file that had the name then.
    there: Option<fs::Metadata>,
}

/// The folder that a file lies in, or will: links are followed, whether or not they lead to something.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    let place = follow(path).unwrap_or_else(|_| path.to_owned());
    place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

impl Target {
    /// Finds the place that `path` names. If that is a symbolic link, the place is where it leads: that file is
    /// replaced, and the link stays.
    pub(crate) fn find(path: &Path) -> Result<Target, Refused> {
        // Asks about what the kernel would open, with its rules for links in folders that all may write to.
        let leads_to = match fs::metadata(path) {
            Ok(about) => must_be_regular(about.file_type()).map(|()| Some(Identity::of(&about)))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e.into()),
        };
        let place = follow(path)?;
        let name = name_of(&place)?.to_owned();
        let folder = open_folder(place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        let there = match fs::symlink_metadata(&place) {
            Ok(about) => must_be_regular(about.file_type()).map(|()| Some(about))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e.into()),
        };
        // A descriptor's link (`/dev/stdout`) may lead to a file that has lost its name.
        if there.as_ref().map(Identity::of) != leads_to {
            return Err(Refused::NoName);
        }
        Ok(Target { path: path.to_owned(), folder, name, there })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that had the name when it was looked up.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.there.as_ref().map(Identity::of)
    }

    /// The file that has the name now.
    pub(crate) fn identity_now(&self) -> Option<Identity> {
        let about = rustix::fs::statat(&self.folder, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Identity(about.st_dev, about.st_ino))
    }

    /// Opens the file that has the name, to read and write.
    pub(crate) fn open(&self) -> Result<File, Refused> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | AT_ONCE;
        let file = rustix::fs::openat(&self.folder, self.name.as_os_str(), flags, Mode::empty())?;
        opened(file.into())
    }

    /// What is at the name must be a regular file still, or nothing.
    fn check(&self) -> Result<(), Refused> {
        match rustix::fs::statat(&self.folder, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) if rustix::fs::FileType::from_raw_mode(about.st_mode).is_file() => Ok(()),
            Ok(_) => Err(Refused::Kind("something else by now")),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The last part of `path`, which must be a name.
fn name_of(path: &Path) -> Result<&OsStr, Refused> {
    let slash = path.as_os_str().as_bytes().last() == Some(&b'/');
    path.file_name().filter(|_| !slash).ok_or(Refused::NoName)
}

/// Follows symbolic links at the end of `path`, also to where nothing is yet.
fn follow(path: &Path) -> Result<PathBuf, Refused> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        name_of(&path)?;
        if !fs::symlink_metadata(&path).is_ok_and(|about| about.is_symlink()) {
            return Ok(path);
        }
        let to = fs::read_link(&path)?;
        path = path.parent().unwrap_or(Path::new("")).join(to);
    }
    Err(Errno::LOOP.into())
}

fn open_folder(path: &Path) -> Result<File, Refused> {
    let open = |how: OFlags| rustix::fs::open(path, how | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    match open(OFlags::RDONLY) {
        // Files can be made in a folder that cannot be listed.
        Err(Errno::ACCESS) => Ok(open(OFlags::PATH)?.into()),
        other => Ok(other?.into()),
    }
}

/// What name a file has before it gets its own.
#[derive(Debug)]
enum Name {
    /// It has its own.
    Own,
    None,
    Random(Temporary),
}

/// A file that is being written, or one that has its place already. Dropped before [`Output::publish`], it is gone.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    name: Name,
    access: Access,
    target: Arc<Target>,
}

impl Output {
    /// An empty file for `target`.
    pub(crate) fn create(target: &Arc<Target>, access: Access) -> Result<Output, Refused> {
        let mode = match (access, &target.there) {
            (Access::Private, _) => Mode::RUSR | Mode::WUSR,
            (Access::Usual, Some(there)) => Mode::from_raw_mode(there.mode() & 0o777) | Mode::RUSR | Mode::WUSR,
            (Access::Usual, None) => Mode::from_raw_mode(0o666),
        };
        let (file, name) = match unnamed(&target.folder, mode) {
            Some(file) => (file, Name::None),
            None => named(&target.folder, mode)?,
        };
        Ok(Output { file, name, access, target: Arc::clone(target) })
    }

    /// The file that `target` names already.
    pub(crate) fn existing(file: File, target: &Arc<Target>) -> Output {
        Output { file, name: Name::Own, access: Access::Private, target: Arc::clone(target) }
    }

    /// Takes from everybody but the owner what they may do with the file, if it is this user's. True if that changed
    /// anything.
    pub(crate) fn make_private(&self) -> io::Result<bool> {
        let about = self.file.metadata()?;
        let open = about.mode() & 0o077 != 0 && about.uid() == rustix::process::geteuid().as_raw();
        if open {
            rustix::fs::fchmod(&self.file, Mode::RUSR | Mode::WUSR)?;
        }
        Ok(open)
    }

    /// Whether the file is this user's; to root all are.
    pub(crate) fn is_own(&self) -> io::Result<bool> {
        let user = rustix::process::geteuid();
        Ok(user.is_root() || self.file.metadata()?.uid() == user.as_raw())
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Whether the name still leads to this file.
    pub(crate) fn is_in_place(&self) -> bool {
        self.file.metadata().is_ok_and(|about| self.target.identity_now() == Some(Identity::of(&about)))
    }

    /// Makes the file durable and gives it its name. A file that has the name by now is put away if `replace`, and is
    /// an error ([`io::ErrorKind::AlreadyExists`]) if not.
    pub(crate) fn publish(&mut self, replace: bool) -> Result<(), Refused> {
        if matches!(self.name, Name::Own) {
            return Ok(());
        }
        if let Some(there) = &self.target.there {
            // Its owner first: a change of owner may take bits of the mode away. Only root can, and need not.
            if rustix::process::geteuid().is_root() {
                let _ = std::os::unix::fs::fchown(&self.file, Some(there.uid()), Some(there.gid()));
            }
            if self.access == Access::Usual {
                rustix::fs::fchmod(&self.file, Mode::from_raw_mode(there.mode() & 0o777))?;
            }
        }
        self.file.sync_all()?;
        self.target.check()?;
        let (folder, name) = (self.target.folder.as_fd(), self.target.name.as_os_str());
        match &self.name {
            Name::Own => return Ok(()),
            Name::None if !replace => link(&self.file, folder, name)?,
            Name::None => {
                // It gets a random name for the blink of an eye.
                let temporary = Temporary::with(&self.target.folder, |name| link(&self.file, folder, name))?;
                rustix::fs::renameat(folder, temporary.name, folder, name)?;
                temporary.keep();
            }
            Name::Random(temporary) if replace => rustix::fs::renameat(folder, temporary.name, folder, name)?,
            Name::Random(temporary) => {
                let done = rustix::fs::renameat_with(folder, temporary.name, folder, name, RenameFlags::NOREPLACE);
                match done {
                    // A file system that cannot refuse by itself.
                    Err(Errno::INVAL | Errno::NOSYS) if self.target.identity_now().is_some() => {
                        return Err(Errno::EXIST.into());
                    }
                    Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(folder, temporary.name, folder, name)?,
                    other => other?,
                }
            }
        }
        if let Name::Random(temporary) = std::mem::replace(&mut self.name, Name::Own) {
            temporary.keep();
        }
        // The new name is safe once the folder is; not every file system can be asked.
        let _ = self.target.folder.sync_all();
        Ok(())
    }
}

/// A file without a name in `folder`, if it can be given one later.
fn unnamed(folder: &File, mode: Mode) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, ".", flags, mode).ok()?);
    let through_proc = fs::metadata(descriptor_path(&file)).ok()?;
    (Identity::of(&through_proc) == Identity::of(&file.metadata().ok()?)).then_some(file)
}

fn descriptor_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Gives a file without a name one in `folder`.
fn link(file: &File, folder: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<()> {
    rustix::fs::linkat(CWD, descriptor_path(file), folder, name, AtFlags::SYMLINK_FOLLOW)
}

/// A file with a random name in `folder`.
fn named(folder: &File, mode: Mode) -> Result<(File, Name), Refused> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = None;
    let temporary = Temporary::with(folder, |name| {
        file = Some(File::from(rustix::fs::openat(folder, name, flags, mode)?));
        Ok(())
    })?;
    Ok((file.ok_or(Errno::EXIST)?, Name::Random(temporary)))
}

/// A random name in a folder. The file that has it goes when this is dropped, or when the program ends early.
#[derive(Debug)]
struct Temporary {
    folder: File,
    name: &'static CStr,
    slot: Option<&'static Slot>,
}

impl Temporary {
    /// Makes a file with a name that no file has. `make` fails with [`Errno::EXIST`] for one that is taken.
    fn with(folder: &File, mut make: impl FnMut(&CStr) -> rustix::io::Result<()>) -> Result<Temporary, Refused> {
        let folder = folder.try_clone()?;
        signal::tidy_before_death();
        for _ in 0..NAMES_TRIED {
            let random = fresh_seed() << 32 | fresh_seed();
            let name = CString::new(format!(".trill-{random:016x}.part")).map_err(|_| Refused::NoName)?;
            // A signal handler may look at it at any time: it is never given back.
            let name: &'static CStr = Box::leak(name.into_boxed_c_str());
            // Noted before there is a file: a name that no file has does no harm.
            let slot = Slot::take(&folder, name);
            match make(name) {
                Ok(()) => return Ok(Temporary { folder, name, slot }),
                Err(error) => {
                    slot.inspect(|s| s.free());
                    if error != Errno::EXIST {
                        return Err(error.into());
                    }
                }
            }
        }
        Err(Errno::EXIST.into())
    }

    /// The file has another name now.
    fn keep(mut self) {
        if let Some(slot) = self.slot.take() {
            slot.free();
        }
        self.name = c"";
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = rustix::fs::unlinkat(&self.folder, self.name, AtFlags::empty());
        }
        if let Some(slot) = self.slot.take() {
            slot.free();
        }
    }
}

/// Files with random names that exist now, for the end of the program. There are never more than a few.
static SLOTS: [Slot; 8] =
    [const { Slot { folder: AtomicI32::new(-1), name: AtomicPtr::new(std::ptr::null_mut()) } }; 8];

#[derive(Debug)]
struct Slot {
    /// A descriptor; `-1` where the slot is free.
    folder: AtomicI32,
    name: AtomicPtr<libc::c_char>,
}

impl Slot {
    fn take(folder: &File, name: &'static CStr) -> Option<&'static Slot> {
        let free = |slot: &&Slot| {
            slot.folder.compare_exchange(-1, folder.as_raw_fd(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let slot = SLOTS.iter().find(free)?;
        slot.name.store(name.as_ptr().cast_mut(), Ordering::Release);
        Some(slot)
    }

    fn free(&self) {
        self.name.store(std::ptr::null_mut(), Ordering::Release);
        self.folder.store(-1, Ordering::Release);
    }
}

/// Removes every file that has a random name still. For ends without destructors: allowed in a signal handler.
pub(crate) fn discard_all() {
    for slot in &SLOTS {
        let (folder, name) = (slot.folder.load(Ordering::Acquire), slot.name.load(Ordering::Acquire));
        if folder >= 0 && !name.is_null() {
            // SAFETY: the name is a terminated string that lives as long as the program; unlinkat is
            // async-signal-safe and only reads it.
            unsafe { libc::unlinkat(folder, name, 0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("trill-door-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// An output that holds `text`, on a file system that has files without names, or as on one that has not.
    fn output(path: &Path, text: &str, without_name: bool) -> Output {
        let target = Arc::new(Target::find(path).unwrap());
        let mut output = Output::create(&target, Access::Usual).unwrap();
        if !without_name {
            let (file, name) = named(&target.folder, Mode::from_raw_mode(0o600)).unwrap();
            (output.file, output.name) = (file, name);
        }
        output.file().write_all(text.as_bytes()).unwrap();
        output
    }

    #[test]
    fn both_ways_of_writing_do_the_same() {
        let folder = Folder::new("ways");
        let path = folder.0.join("x");
        for without_name in [true, false] {
            drop(output(&path, "dropped", without_name));
            assert_eq!(folder.names(), 0);
            output(&path, "new", without_name).publish(false).unwrap();
            assert_eq!((folder.names(), fs::read_to_string(&path).unwrap().as_str()), (1, "new"));
            let exists = output(&path, "newer", without_name).publish(false).unwrap_err();
            assert!(matches!(exists, Refused::Io(e) if e.kind() == io::ErrorKind::AlreadyExists));
            assert_eq!((folder.names(), fs::read_to_string(&path).unwrap().as_str()), (1, "new"));
            output(&path, "newer", without_name).publish(true).unwrap();
            assert_eq!((folder.names(), fs::read_to_string(&path).unwrap().as_str()), (1, "newer"));
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_place_that_became_something_else_is_refused() {
        let folder = Folder::new("became");
        let path = folder.0.join("x");
        for without_name in [true, false] {
            let mut output = output(&path, "new", without_name);
            std::os::unix::fs::symlink("/dev/null", &path).unwrap();
            assert!(matches!(output.publish(true), Err(Refused::Kind(_))));
            drop(output);
            assert_eq!(folder.names(), 1);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn names_that_are_none() {
        let folder = Folder::new("names");
        for bad in [folder.0.join("x/"), folder.0.join(".."), PathBuf::from("/"), PathBuf::from(""), PathBuf::from(".")]
        {
            assert!(Target::find(&bad).is_err(), "{}", bad.display());
        }
        let (one, two) = (folder.0.join("one"), folder.0.join("two"));
        std::os::unix::fs::symlink(&one, &two).unwrap();
        std::os::unix::fs::symlink(&two, &one).unwrap();
        assert!(Target::find(&one).is_err());
    }
}
