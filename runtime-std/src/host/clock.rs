//! Time: a stopwatch, a seed, and the date for templates.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Measures from its making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Stopwatch(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// Seconds that all threads of this process have run for.
pub(crate) fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time` and nothing else.
    if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } != 0 {
        return 0.0;
    }
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// `count` per `seconds`, 0 if no time has passed.
pub(crate) fn rate(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// A seed that differs from run to run, small enough to be typed again.
pub(crate) fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u128(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos()));
    hasher.finish() >> 32
}

/// The local time in the form that `strftime(3)` makes of `format`; `None` if it is too long or malformed.
pub(crate) fn local_time(format: &str) -> Option<String> {
    let format = std::ffi::CString::new(format).ok()?;
    let mut text = [0u8; 256];
    // SAFETY: a zeroed `tm` is a valid value of that C structure; `localtime_r` only writes to it; `strftime`
    // writes at most the length it is given and reads a terminated string.
    let written = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&raw const now, &raw mut parts).is_null() {
            return None;
        }
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &raw const parts)
    };
    String::from_utf8(text.get(..written)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let year: i32 = local_time("%Y").unwrap().parse().unwrap();
        assert!((2024..3000).contains(&year));
        assert_eq!(local_time("100%%").unwrap(), "100%");
        assert!(local_time("\0").is_none());
    }

    #[test]
    fn cpu_time_is_that_of_running() {
        let (clock, before) = (Stopwatch::start(), cpu_seconds());
        while cpu_seconds() < before + 0.01 {
            assert!(clock.seconds() < 10.0);
        }
    }

    #[test]
    fn rates_are_finite() {
        assert_eq!(rate(5, 0.0), 0.0);
        assert_eq!(rate(5, 2.0), 2.5);
    }
}
