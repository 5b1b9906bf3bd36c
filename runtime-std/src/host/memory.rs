//! Working memory: one anonymous mapping, reserved before anything is loaded.

use super::kept;
use crate::exit::{Code, Failure, Outcome, reason};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Zeroed bytes that start on a page.
pub(crate) struct Block(memmap2::MmapMut);

impl Block {
    /// Reserves `bytes`, if the machine has them to give.
    pub(crate) fn reserve(bytes: usize) -> Outcome<Block> {
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
        Ok(Block(map))
    }

    /// The bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The bytes, for the rest of the program's life: a process runs one model.
    pub(crate) fn leak(self) -> &'static mut [u8] {
        let map: &'static mut memmap2::MmapMut = Box::leak(Box::new(self.0));
        &mut map[..]
    }
}

/// A block for the core to work in: what its [`Carver`](trill::mem::Carver) leaves there cannot be read as bytes.
pub(crate) struct Arena(Block);

impl Arena {
    /// Reserves `bytes`, if the machine has them to give.
    pub(crate) fn reserve(bytes: usize) -> Outcome<Arena> {
        Block::reserve(bytes).map(Arena)
    }

    /// The memory.
    pub(crate) fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        room(self.0.bytes())
    }

    /// The memory, for the rest of the program's life.
    pub(crate) fn leak(self) -> &'static mut [MaybeUninit<u8>] {
        room(self.0.leak())
    }
}

/// The bytes of an arena, which nobody reads as bytes from here on.
fn room(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same bytes with the same alignment. What is left in them may be no `u8`, and an `Arena` has no way
    // back to its block's bytes: a mapping is never read when it ends.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Asks the system to keep `memory` in memory; a refusal is a warning.
pub(crate) fn lock<T>(memory: &[T]) {
    // SAFETY: mlock changes no memory; the range is a live slice.
    let refused = unsafe { libc::mlock(memory.as_ptr().cast(), size_of_val(memory)) } != 0;
    if refused {
        let why = reason(&std::io::Error::last_os_error());
        let allowed = lock_limit().map_or("unlimited".to_owned(), size);
        let wanted = size(size_of_val(memory) as u64);
        log::warn!(
            "--mlock: {wanted} could not be locked ({why}; ulimit -l is {allowed}) and may be swapped out; raise it with \
             ulimit -l unlimited"
        );
    }
}

/// Bytes that this process may lock.
fn lock_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_MEMLOCK)
}

/// What the machine gives. A limit that does not exist or cannot be read is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Free memory, and what the kernel can free at once: pages of files above all.
    pub(crate) free: Option<u64>,
    /// What the tightest control group still gives.
    pub(crate) group: Option<u64>,
    /// The whole address space that this process may have (`ulimit -v`).
    pub(crate) address_space: Option<u64>,
}

impl Limits {
    /// The limits as they are now.
    pub(crate) fn read() -> Limits {
        Limits { free: free_memory(), group: super::cgroup::memory_left(), address_space: address_space_limit() }
    }

    /// Bytes that can still be had: the least of all limits.
    pub(crate) fn available(&self) -> u64 {
        let space = self.address_space.map(|limit| limit.saturating_sub(address_space().unwrap_or(0)));
        [self.free, self.group, space].into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

/// Bytes that can still be had.
pub(crate) fn available() -> u64 {
    Limits::read().available()
}

/// Bytes in a page.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf only reads.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Memory that this process holds, as the kernel counts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    /// The most that was its own at any time. Where pages of files were taken away since, it is too high.
    pub(crate) peak: u64,
    /// Pages of files now: the model's, and the program's.
    pub(crate) file: u64,
}

impl Resident {
    /// The counts now.
    pub(crate) fn read() -> Option<Resident> {
        let status = kept::read("/proc/self/status").ok()?;
        let (peak, file) = (kib_field(&status, "VmHWM:")?, kib_field(&status, "RssFile:")?);
        Some(Resident { peak: peak.saturating_sub(file), file })
    }
}

fn free_memory() -> Option<u64> {
    kib_field(&kept::read("/proc/meminfo").ok()?, "MemAvailable:")
}

/// The bytes of a line like `MemAvailable:   123 kB`.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

fn address_space_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_AS)
}

/// What `ulimit` shows of a resource; `None` if it is unlimited.
pub(crate) fn soft_limit(resource: Resource) -> Option<u64> {
    // SAFETY: a zeroed rlimit is a valid value; getrlimit only fills it.
    let limit = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        (libc::getrlimit(resource, &raw mut limit) == 0).then_some(limit.rlim_cur)?
    };
    (limit != libc::RLIM_INFINITY).then_some(limit)
}

#[cfg(target_env = "gnu")]
pub(crate) type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(crate) type Resource = libc::c_int;

/// Bytes of address space that this process has.
fn address_space() -> Option<u64> {
    let pages: u64 = kept::read("/proc/self/statm").ok()?.split_whitespace().next()?.parse().ok()?;
    pages.checked_mul(page_size() as u64)
}

/// Threads of this process.
pub(crate) fn threads() -> Option<usize> {
    let status = kept::read("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix("Threads:")?.trim().parse().ok())
}

static AT_START: OnceLock<u64> = OnceLock::new();

/// Notes how much address space the program has before it does anything, and asks for one heap for all threads, so
/// that no thread reserves one of its own.
pub(crate) fn start() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt sets a parameter of the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    // The first stack holds the arguments, whatever their length: it is counted with the stacks.
    let status = kept::read("/proc/self/status").unwrap_or_default();
    let (all, stack) = (kib_field(&status, "VmSize:"), kib_field(&status, "VmStk:"));
    let _ = AT_START.set(all.unwrap_or(0).saturating_sub(stack.unwrap_or(0)));
}

/// Bytes of address space that the program had at its start: code, libraries, the first heap.
pub(crate) fn address_space_at_start() -> u64 {
    AT_START.get().copied().unwrap_or(0)
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
    fn blocks_are_aligned_and_zero() {
        let block = Block::reserve(100_000).unwrap().leak();
        assert!((block.as_ptr() as usize).is_multiple_of(page_size()) && block.len() == 100_000);
        assert!(block.iter().all(|&b| b == 0));
        let mut arena = Arena::reserve(100_032).unwrap();
        let mut carver = trill::mem::Carver::over(arena.room()).unwrap();
        assert_eq!(carver.take(50_000, 7u16).unwrap(), [7; 50_000]);
        assert!(carver.take(1, 0u8).is_err());
    }

    #[test]
    fn too_much_is_refused() {
        let failure = Block::reserve(isize::MAX as usize).map(|_| ()).unwrap_err();
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
