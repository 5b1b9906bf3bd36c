//! How many threads are best on this machine: measured once by `trill tune` (and `trill doctor`), remembered in a
//! small file, and the default from then on where `-t` is absent. Only big cores are considered: see
//! [`Cores`].

use crate::exit::{Outcome, reason};
use crate::host::affinity::Cores;
use crate::host::clock::{Stopwatch, cpu_seconds};
use crate::host::files::{self, Access, Output, Refused, Target};
use crate::host::threads::Pool;
use crate::pack::target::noise;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trill::kernels::Kernels;
use trill::mem::TileMut;
use trill::parallel::{Tiling, with_team};
use trill::quant::{ActKind, Acts, Matrix, QuantType};

/// How long all counts of threads take together.
const BUDGET: Duration = Duration::from_millis(900);
/// Counts are measured in turn, this often; the best time of each counts.
const ROUNDS: u32 = 3;
/// The most counts that are measured.
const COUNTS: usize = 12;
/// A larger count must be faster by this to be taken: the cores have other work, too.
const MARGIN: f64 = 1.03;
/// Threads that got less than this of their cores were measured beside other work: that says nothing for later.
const UNDISTURBED: f64 = 0.9;
/// Bytes of weights for measuring without a model: beyond every cache of a small machine.
const BYTES: usize = 48 << 20;
/// Weights in a row of them.
const COLS: usize = 2560;
/// Matrices that they are cut into, one after the other, as a model's are.
const MATRICES: usize = 24;
/// A file that is longer was not written by us.
const FILE_MAX: u64 = 64 << 10;
/// Lines for other machines that are kept.
const OTHERS_KEPT: usize = 32;

/// What was measured for a count of threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    pub(crate) threads: usize,
    /// Passes, or tokens, in a second.
    pub(crate) per_second: f64,
    /// What the threads got of as many cores, in the best round.
    pub(crate) cores: f64,
}

/// The counts worth measuring up to `most`: all, or all small ones and some of the others.
pub(crate) fn counts(most: usize) -> Vec<usize> {
    if most <= COUNTS {
        return (1..=most.max(1)).collect();
    }
    let mut counts: Vec<usize> = vec![1, 2, 3, 4, 6, 8, 12];
    while let Some(next) = counts.last().map(|n| n * 3 / 2).filter(|&n| n < most) {
        counts.push(next);
    }
    counts.push(most);
    counts.dedup();
    counts
}

/// Measures each count: `pass` does a unit of work with the threads of a pool.
pub(crate) fn measure(counts: &[usize], cores: &Cores, pass: &mut dyn FnMut(&Pool) -> Outcome) -> Outcome<Vec<Speed>> {
    let slot = BUDGET / (ROUNDS * u32::try_from(counts.len()).unwrap_or(1).max(1));
    let mut speeds: Vec<Speed> = counts.iter().map(|&threads| Speed { threads, per_second: 0.0, cores: 0.0 }).collect();
    for _ in 0..ROUNDS {
        for speed in &mut speeds {
            let pool = Pool::new(speed.threads, cores);
            pool.wait_for_all();
            // The first pass wakes the threads and fills the caches.
            pass(&pool)?;
            let (clock, before, mut passes) = (Stopwatch::start(), cpu_seconds(), 0u32);
            while passes == 0 || clock.elapsed() < slot {
                pass(&pool)?;
                passes += 1;
            }
            let (seconds, ran) = (clock.seconds().max(1e-9), cpu_seconds() - before);
            speed.per_second = speed.per_second.max(f64::from(passes) / seconds);
            speed.cores = speed.cores.max(ran / (seconds * speed.threads as f64));
            crate::generate::stop_if_interrupted()?;
        }
    }
    Ok(speeds)
}

/// The same without a model, in gigabytes a second: weights in the layout for models that are packed, streamed as a
/// token does it.
pub(crate) fn measure_streams(kernels: &Kernels, counts: &[usize], cores: &Cores) -> Outcome<Vec<Speed>> {
    let mut memory = noise(BYTES)?;
    let (ty, bytes) = (QuantType::T3, &*memory.bytes());
    let row_bytes = ty.row_bytes(COLS).expect("whole blocks");
    let rows = bytes.len() / row_bytes / MATRICES * ty.lanes();
    let len = ty.tensor_bytes(rows, COLS).expect("small");
    let matrices: Vec<Matrix<'_>> =
        bytes.chunks(bytes.len() / MATRICES).filter_map(|b| Matrix::new(ty, rows, COLS, b.get(..len)?)).collect();
    let q: Vec<i8> = (0..COLS).map(|i| (i * 37 % 127) as i8 - 63).collect();
    let sums = [q.iter().map(|q| i32::from(*q)).sum()];
    let acts = Acts { kind: ActKind::Row, n: 1, k: COLS, x: &[], q: &q, d: &[1.0], bsums: &[], sums: &sums };
    let mut out = vec![0f32; rows];
    let mut pass = |pool: &Pool| {
        with_team(pool, |team| {
            for matrix in &matrices {
                let tiling = Tiling { rows: 1, row_grain: 1, segments: &[rows], col_grain: 8 * ty.lanes() };
                team.tiles(&mut out, tiling, &mut [] as &mut [u8], &|place, mut tile: TileMut<'_, f32>, _| {
                    kernels.rows(ty, &matrix.span(place.cols), &acts, &mut tile);
                });
            }
        });
        Ok(())
    };
    let mut speeds = measure(counts, cores, &mut pass)?;
    let gigabytes = (len * matrices.len()) as f64 / 1e9;
    speeds.iter_mut().for_each(|s| s.per_second *= gigabytes);
    Ok(speeds)
}

/// The count to take: the fewest threads that are about as fast as any.
fn best(speeds: &[Speed]) -> usize {
    let fastest = speeds.iter().fold(0f64, |m, s| m.max(s.per_second));
    speeds.iter().find(|s| s.per_second * MARGIN >= fastest).map_or(1, |s| s.threads)
}

/// Whether other work took the cores while this was measured.
fn disturbed(speeds: &[Speed]) -> bool {
    speeds.iter().any(|s| s.cores < UNDISTURBED)
}

/// The file that remembers; `None` where there is no place for it.
pub(crate) fn file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join("trill/threads"))
}

/// The folder of that file, made if it is not there.
pub(crate) fn make_folder() -> Option<PathBuf> {
    let folder = file()?.parent()?.to_owned();
    // If that fails, writing the file tells why.
    let _ = fs::create_dir_all(&folder);
    Some(folder)
}

/// What a count of threads is remembered for: the CPU, and what of it this process may use.
pub(crate) fn key(cores: &Cores) -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|l| l.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let arm = || Some(format!("implementer {} part {}", field("CPU implementer")?, field("CPU part")?));
    let cpu = field("model name").or_else(arm).unwrap_or_default();
    let quota = if cores.quota == usize::MAX { "no".to_owned() } else { cores.quota.to_string() };
    let cpus: Vec<String> = cores.big.iter().map(ToString::to_string).collect();
    format!("{}, {cpu}, big cores {}, quota {quota}", std::env::consts::ARCH, cpus.join(" "))
}

/// Threads to use when the user does not say: what was found best, else the big cores.
pub(crate) fn threads(cores: &Cores) -> usize {
    remembered(cores).unwrap_or_else(|| cores.threads())
}

/// What `tune` found best on this machine, if it ran. A file that is not understood is passed over with a line.
pub(crate) fn remembered(cores: &Cores) -> Option<usize> {
    let path = file()?;
    match read(&path) {
        Ok(lines) => lines.into_iter().find(|(_, k)| *k == key(cores)).map(|(n, _)| n.clamp(1, cores.threads())),
        Err(why) => {
            log::warn!("{}: {why}; ignored (`trill tune` writes it anew)", path.display());
            None
        }
    }
}

/// The file's lines: a count, a tab, and what it is for. No file is no lines.
fn read(path: &Path) -> Result<Vec<(usize, String)>, String> {
    let file = match files::if_regular(path) {
        Ok(file) => file,
        Err(Refused::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(refused) => return Err(refused.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|e| reason(&e))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err("too long for what trill keeps there".to_owned());
    }
    let text = str::from_utf8(&bytes).map_err(|_| "not text".to_owned())?;
    let line = |line: &str| {
        let (count, key) = line.split_once('\t')?;
        let count = count.parse().ok().filter(|n| (1..=trill::limits::THREADS_MAX).contains(n))?;
        Some((count, key.to_owned()))
    };
    let told = |(i, l)| line(l).ok_or_else(|| format!("line {} is not a count of threads", i + 1));
    text.lines().enumerate().map(told).collect()
}

/// What to do from now on, after measuring.
pub(crate) struct Verdict {
    /// The best count; the default where other work disturbed the measurement.
    pub(crate) threads: usize,
    pub(crate) remembered: bool,
}

/// The best count, remembered for this machine. One that was measured beside other work would mislead for good: it is
/// said, and nothing changes.
pub(crate) fn settle(speeds: &[Speed], cores: &Cores) -> Verdict {
    if disturbed(speeds) {
        log::warn!("other programs took the cores meanwhile: not remembered; `trill tune` measures again");
        return Verdict { threads: threads(cores), remembered: false };
    }
    let threads = best(speeds);
    Verdict { threads, remembered: remember(threads, cores) }
}

/// Remembers `threads` for this machine; the file's other lines stay. Where that fails it is said, and nothing else.
fn remember(threads: usize, cores: &Cores) -> bool {
    let Some(path) = file() else {
        log::warn!("not remembered: neither XDG_CACHE_HOME nor HOME is set");
        return false;
    };
    match write(&path, threads, &key(cores)) {
        Ok(()) => true,
        Err(refused) => {
            log::warn!("{}: not remembered: {refused}", path.display());
            false
        }
    }
}

fn write(path: &Path, threads: usize, key: &str) -> Result<(), Refused> {
    let mut lines = read(path).unwrap_or_default();
    lines.retain(|(_, k)| k != key);
    lines.insert(0, (threads, key.to_owned()));
    lines.truncate(OTHERS_KEPT);
    let text: String = lines.iter().map(|(n, k)| format!("{n}\t{k}\n")).collect();
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut new = Output::create(&Arc::new(Target::find(path)?), Access::Usual)?;
    new.file().write_all(text.as_bytes())?;
    new.publish(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_count_is_measured_and_the_largest() {
        assert_eq!(counts(0), [1]);
        assert_eq!(counts(4), [1, 2, 3, 4]);
        let many = counts(64);
        assert!(many.len() <= COUNTS && many.starts_with(&[1, 2, 3, 4]) && many.ends_with(&[64]), "{many:?}");
        assert!(many.is_sorted_by(|a, b| a < b), "{many:?}");
    }

    #[test]
    fn the_fewest_threads_that_are_as_fast_win() {
        let speeds = |all: &[f64]| -> Vec<Speed> {
            all.iter().enumerate().map(|(i, &s)| Speed { threads: i + 1, per_second: s, cores: 1.0 }).collect()
        };
        assert_eq!(best(&speeds(&[9.3, 13.2, 13.3, 11.6])), 2);
        assert_eq!(best(&speeds(&[1.0, 1.9, 2.8, 3.7])), 4);
        assert_eq!(best(&[]), 1);
    }

    #[test]
    fn threads_that_lacked_their_cores_tell_nothing() {
        let speeds = |cores: [f64; 2]| [1, 2].map(|n| Speed { threads: n, per_second: 1.0, cores: cores[n - 1] });
        assert!(!disturbed(&speeds([0.99, 0.95])));
        assert!(disturbed(&speeds([1.0, 0.6])));
    }

    #[test]
    fn lines_for_other_machines_stay_and_damage_is_told() {
        let folder = std::env::temp_dir().join(format!("trill-tune-{}", std::process::id()));
        let path = folder.join("deep/threads");
        assert_eq!(read(&path), Ok(Vec::new()));
        write(&path, 3, "this").unwrap();
        write(&path, 5, "that").unwrap();
        write(&path, 2, "this").unwrap();
        assert_eq!(read(&path), Ok(vec![(2, "this".to_owned()), (5, "that".to_owned())]));
        for damage in ["x\tthis\n", "0\tthis\n", "3 this\n", "99999\tthis\n"] {
            fs::write(&path, damage).unwrap();
            assert!(read(&path).unwrap_err().contains("count of threads"), "{damage}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(read(&path), Err("not text".to_owned()));
        write(&path, 4, "this").unwrap();
        assert_eq!(read(&path), Ok(vec![(4, "this".to_owned())]));
        fs::remove_dir_all(folder).unwrap();
    }
}
