//! Which cores to run on: the physical big ones, as many as the control group lets us use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A core as the system describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Core {
    cpu: usize,
    /// Logical CPUs with the same value are threads of one physical core.
    siblings: String,
    /// Relative speed; equal on machines with one kind of core.
    speed: u64,
}

/// The cores worth using.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    /// One logical CPU of each big physical core, in ascending order. Never empty.
    pub(crate) big: Vec<usize>,
    /// Logical CPUs this process may run on.
    pub(crate) allowed: usize,
    /// How many can run at the same time under the control group's quota.
    pub(crate) quota: usize,
}

impl Cores {
    /// Looks at the machine, the first time that it is asked.
    pub(crate) fn find() -> Cores {
        static FOUND: OnceLock<Cores> = OnceLock::new();
        FOUND.get_or_init(Cores::look).clone()
    }

    fn look() -> Cores {
        let allowed = allowed_cpus();
        let cores = allowed.iter().map(|&cpu| describe(Path::new("/sys/devices/system/cpu"), cpu)).collect();
        Cores { big: big_cores(cores), allowed: allowed.len(), quota: quota() }
    }

    /// Threads to use when the user does not say.
    pub(crate) fn threads(&self) -> usize {
        self.big.len().min(self.quota).clamp(1, trill::limits::THREADS_MAX)
    }
}

/// The logical CPUs this process may run on.
fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a zeroed cpu_set_t is an empty set; sched_getaffinity fills it; CPU_ISSET stays inside it.
    let found: Vec<usize> = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            Vec::new()
        } else {
            (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
        }
    };
    if found.is_empty() {
        return (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    }
    found
}

fn describe(root: &Path, cpu: usize) -> Core {
    let folder = root.join(format!("cpu{cpu}"));
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok().map(|s| s.trim().to_owned());
    let number = |name: &str| read(name)?.parse::<u64>().ok();
    Core {
        cpu,
        siblings: read("topology/thread_siblings_list").unwrap_or_else(|| cpu.to_string()),
        speed: number("cpu_capacity").or_else(|| number("cpufreq/cpuinfo_max_freq")).unwrap_or(0),
    }
}

/// One CPU of each physical core that is at least three quarters as fast as the fastest: a middle cluster
/// (Cortex-A7x beside an X core) counts, small cores (A5x) do not.
fn big_cores(cores: Vec<Core>) -> Vec<usize> {
    let fastest = cores.iter().map(|c| c.speed).max().unwrap_or(0);
    let mut physical = BTreeMap::new();
    for core in cores.into_iter().filter(|c| c.speed.saturating_mul(4) >= fastest.saturating_mul(3)) {
        physical.entry(core.siblings).or_insert(core.cpu);
    }
    let mut big: Vec<usize> = physical.into_values().collect();
    big.sort_unstable();
    if big.is_empty() { vec![0] } else { big }
}

/// CPUs' worth of time the control groups allow, rounded up.
fn quota() -> usize {
    let version_2 = super::cgroup::version_2().into_iter().filter_map(|folder| {
        let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
        let mut words = text.split_whitespace();
        whole_cpus(words.next()?, words.next()?)
    });
    let folder = PathBuf::from("/sys/fs/cgroup/cpu");
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let version_1 =
        read("cpu.cfs_quota_us").and_then(|most| whole_cpus(most.trim(), read("cpu.cfs_period_us")?.trim()));
    version_2.chain(version_1).min().unwrap_or(usize::MAX)
}

/// `max` or a negative quota means none.
fn whole_cpus(quota: &str, period: &str) -> Option<usize> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    usize::try_from(quota.checked_add(period.checked_sub(1)?)? / period).ok().map(|n| n.max(1))
}

/// Lets the calling thread run on these CPUs only. Where the system refuses (some phones do), it stays free.
pub(crate) fn pin(cpus: &[usize]) {
    // SAFETY: a zeroed cpu_set_t is an empty set; CPU_SET is kept inside it; sched_setaffinity only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus.iter().filter(|&&c| c < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0 {
            log::debug!("pinning refused: {}", std::io::Error::last_os_error());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(cpu: usize, siblings: &str, speed: u64) -> Core {
        Core { cpu, siblings: siblings.into(), speed }
    }

    #[test]
    fn hyper_threads_count_once() {
        let cores = (0..8).map(|c| core(c, &format!("{},{}", c % 4, c % 4 + 4), 0)).collect();
        assert_eq!(big_cores(cores), [0, 1, 2, 3]);
    }

    #[test]
    fn little_cores_are_left_out() {
        let speeds = [325, 325, 325, 325, 780, 780, 780, 1024];
        let cores = speeds.iter().enumerate().map(|(c, &s)| core(c, &c.to_string(), s)).collect();
        assert_eq!(big_cores(cores), [4, 5, 6, 7]);
        assert_eq!(big_cores(Vec::new()), [0]);
    }

    #[test]
    fn quotas() {
        assert_eq!(whole_cpus("max", "100000"), None);
        assert_eq!(whole_cpus("-1", "100000"), None);
        assert_eq!(whole_cpus("150000", "100000"), Some(2));
        assert_eq!(whole_cpus("1000", "100000"), Some(1));
        assert_eq!(whole_cpus("1000", "0"), None);
    }

    #[test]
    fn a_machine_without_sysfs_has_cores_too() {
        let folder = std::env::temp_dir().join("trill-no-such-folder");
        assert_eq!(describe(&folder, 3), core(3, "3", 0));
        assert!(Cores::find().threads() >= 1);
    }
}
