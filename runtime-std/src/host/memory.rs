//! Working memory: one anonymous mapping, reserved before anything is loaded.

use crate::exit::{Code, Failure, Outcome, reason};
use std::fs;
use std::path::PathBuf;

/// A block of zeroed memory that starts on a page.
pub(crate) struct Arena(memmap2::MmapMut);

impl Arena {
    /// Reserves `bytes`, if the machine has them to give.
    pub(crate) fn reserve(bytes: usize) -> Outcome<Arena> {
        let have = available();
        if bytes as u64 > have {
            return Err(Failure::new(
                Code::Memory,
                format!("{} of memory are needed and {} can be had", size(bytes as u64), size(have)),
            ));
        }
        let map = memmap2::MmapMut::map_anon(bytes.max(1)).map_err(|e| {
            Failure::new(Code::Memory, format!("{} of memory were refused: {}", size(bytes as u64), reason(&e)))
        })?;
        // Fewer, larger pages where the system has them: less time to touch them all. A hint, no more.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Arena(map))
    }

    /// The memory.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The memory, for the rest of the program's life: a process runs one model.
    pub(crate) fn leak(self) -> &'static mut [u8] {
        let map: &'static mut memmap2::MmapMut = Box::leak(Box::new(self.0));
        &mut map[..]
    }
}

/// Asks the system to keep `bytes` in memory; a refusal is a warning.
pub(crate) fn lock(bytes: &[u8]) {
    // SAFETY: mlock changes no memory; the range is a live slice.
    let refused = unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) } != 0;
    if refused {
        let error = std::io::Error::last_os_error();
        log::warn!("--mlock: {}; raise the limit with ulimit -l", reason(&error));
    }
}

/// Bytes that can still be had: the least of free memory, the control group's and the address space's limit.
/// Limits that cannot be read do not count.
pub(crate) fn available() -> u64 {
    [free_memory(), control_group_left(), address_space_left()].into_iter().flatten().min().unwrap_or(u64::MAX)
}

/// Bytes in a page.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf only reads.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The most bytes of memory of its own (no file's pages) that this process held, as the kernel counts them.
pub(crate) fn peak_resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let peak = kib_field(&status, "VmHWM:")?;
    let file = kib_field(&status, "RssFile:")?;
    Some(peak.saturating_sub(file))
}

fn free_memory() -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// The bytes of a line like `MemAvailable:   123 kB`.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The folders of this process's control group and of those above it, version 2.
pub(crate) fn control_groups() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/');
    let mut folder = PathBuf::from("/sys/fs/cgroup").join(path);
    let mut all = Vec::new();
    while folder.starts_with("/sys/fs/cgroup") {
        all.push(folder.clone());
        folder.pop();
    }
    all
}

fn control_group_left() -> Option<u64> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let version_2 = control_groups().into_iter().filter_map(|folder| {
        let most = number(folder.join("memory.max"))?;
        Some(most.saturating_sub(in_use(&folder, number(folder.join("memory.current"))?, "inactive_file")))
    });
    let folder = PathBuf::from("/sys/fs/cgroup/memory");
    let version_1 = number(folder.join("memory.limit_in_bytes")).and_then(|most| {
        let used = number(folder.join("memory.usage_in_bytes"))?;
        Some(most.saturating_sub(in_use(&folder, used, "total_inactive_file")))
    });
    version_2.chain(version_1).min()
}

/// Memory used less the file pages that the kernel can drop at once.
fn in_use(folder: &std::path::Path, used: u64, droppable: &str) -> u64 {
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let pages = stat.lines().find_map(|l| l.strip_prefix(droppable)?.trim().parse::<u64>().ok());
    used.saturating_sub(pages.unwrap_or(0))
}

fn address_space_left() -> Option<u64> {
    // SAFETY: a zeroed rlimit is a valid value; getrlimit only fills it.
    let limit = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        (libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) == 0).then_some(limit.rlim_cur)?
    };
    if limit == libc::RLIM_INFINITY {
        return None;
    }
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(pages.saturating_mul(page_size() as u64)))
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arena_is_aligned_and_zero() {
        let arena = Arena::reserve(100_000).unwrap().leak();
        assert!((arena.as_ptr() as usize).is_multiple_of(page_size()) && arena.len() == 100_000);
        assert!(arena.iter().all(|&b| b == 0));
    }

    #[test]
    fn too_much_is_refused() {
        let failure = Arena::reserve(isize::MAX as usize).map(|_| ()).unwrap_err();
        assert_eq!(failure.code, Code::Memory);
    }

    #[test]
    fn fields_and_sizes() {
        assert_eq!(kib_field("A: 1 kB\nMemAvailable:    12 kB\n", "MemAvailable:"), Some(12 << 10));
        assert_eq!(kib_field("MemAvailable: x kB\n", "MemAvailable:"), None);
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(3 << 19), "1.5 MiB");
        assert_eq!(size(5 << 29), "2.50 GiB");
    }
}
