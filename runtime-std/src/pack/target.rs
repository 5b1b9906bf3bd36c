//! The machine a file is packed for, and which packed layout suits it: T3 has fewer bytes, T2 less arithmetic.

use crate::exit::Outcome;
use crate::host::clock::Stopwatch;
use crate::host::memory::Block;
use crate::host::threads::side_by_side;
use std::time::Duration;
use trill::kernels::Kernels;
use trill::mem::TileMut;
use trill::quant::{ActKind, Acts, QuantType, RowSpan};

/// Machines that `--for` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Pi5,
    Phone,
    X86,
    Generic,
}

impl Target {
    pub(crate) const NAMES: [(&'static str, Target); 4] =
        [("pi5", Target::Pi5), ("phone", Target::Phone), ("x86", Target::X86), ("generic", Target::Generic)];

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|n| n.1 == self).map_or("", |n| n.0)
    }

    /// Whether interleaved rows are faster than rows as files have them.
    pub(crate) fn interleaves(self) -> bool {
        match self {
            Target::Pi5 | Target::Phone => true,
            Target::X86 | Target::Generic => false,
        }
    }

    /// The layout for matrices of any shape. A phone's memory is so fast that the arithmetic of T3 would be what its
    /// cores wait for; on the others memory is.
    pub(crate) fn layout(self) -> QuantType {
        match self {
            Target::Phone => QuantType::T2,
            Target::Pi5 | Target::X86 | Target::Generic => QuantType::T3,
        }
    }
}

/// How long all measurements take together.
const BUDGET: Duration = Duration::from_millis(1000);
/// Each layout is measured this often, in turn; the best counts.
const ROUNDS: u32 = 3;
/// The most memory that a measurement streams through: beyond every cache.
const BYTES_MAX: usize = 192 << 20;
/// What T2 must be faster by before its larger file is worth it.
const MARGIN: f64 = 1.03;
/// Rows that a kernel gets at a time: whole groups of both layouts.
const ROWS: usize = 80;
/// The same for types of which some kernels make tables first.
const ROWS_WITH_TABLES: usize = 256;

/// What an interleaved layout, which has the same bytes, must be faster by before it is worth the file.
const INTERLEAVED_MARGIN: f64 = 1.02;

/// Whether interleaved rows of `from` are faster on this machine, measured on rows of `cols` weights.
pub(crate) fn interleaving_pays(kernels: &Kernels, threads: usize, from: QuantType, cols: usize) -> Outcome<bool> {
    let Some(to) = from.interleaved() else { return Ok(false) };
    let mut memory = noise(BYTES_MAX)?;
    let (bytes, mut best) = (&*memory.bytes(), [0f64; 2]);
    for _ in 0..ROUNDS {
        for (best, ty) in best.iter_mut().zip([from, to]) {
            *best = best.max(speed(kernels, threads, ty, cols, bytes, BUDGET / (4 * ROUNDS)));
        }
    }
    let (kernels, names) = (kernels.name(), [from, to].map(|ty| ty.info().name));
    let [before, after] = best.map(|b| b / 1e9);
    log::info!(
        "measured {kernels}, {threads} threads, rows of {cols}: {} {before:.1}, {} {after:.1} thousand million weights/s",
        names[0],
        names[1]
    );
    Ok(best[1] > best[0] * INTERLEAVED_MARGIN)
}

/// Memory full of numbers drawn evenly.
pub(crate) fn noise(bytes: usize) -> Outcome<Block> {
    let mut memory = Block::reserve(bytes)?;
    let mut state = 1u64;
    for word in memory.bytes().as_chunks_mut::<8>().0 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *word = (state ^ state >> 29).to_le_bytes();
    }
    Ok(memory)
}

/// Speeds for one width of rows, in weights per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speeds {
    pub(crate) cols: usize,
    pub(crate) t2: f64,
    pub(crate) t3: f64,
}

impl Speeds {
    /// The layout to take.
    pub(crate) fn layout(&self) -> QuantType {
        if self.t2 > self.t3 * MARGIN { QuantType::T2 } else { QuantType::T3 }
    }
}

/// Measures this machine for each width of rows in `widths`, on `threads` threads, streaming through as many `weights`
/// as the model has, if they are not more than any cache holds.
pub(crate) fn measure(kernels: &Kernels, threads: usize, widths: &[usize], weights: usize) -> Outcome<Vec<Speeds>> {
    let mut memory = noise((weights / 4).clamp(1 << 16, BYTES_MAX))?;
    let bytes: &[u8] = memory.bytes();
    let slot = BUDGET / (2 * ROUNDS * u32::try_from(widths.len().max(1)).unwrap_or(1));
    let one = |&cols: &usize| {
        let mut speeds = Speeds { cols, t2: 0.0, t3: 0.0 };
        for _ in 0..ROUNDS {
            speeds.t2 = speeds.t2.max(speed(kernels, threads, QuantType::T2, cols, bytes, slot));
            // The same weights in fewer bytes.
            speeds.t3 =
                speeds.t3.max(speed(kernels, threads, QuantType::T3, cols, &bytes[..bytes.len() / 5 * 4], slot));
        }
        speeds
    };
    Ok(widths.iter().map(one).collect())
}

/// Weights per second of all threads together, each going through its share of `bytes` again and again.
fn speed(kernels: &Kernels, threads: usize, ty: QuantType, cols: usize, bytes: &[u8], time: Duration) -> f64 {
    let share = (bytes.len() / threads.max(1)).max(1);
    let shares = bytes.chunks(share).take(threads);
    side_by_side(shares, |bytes| rate_of_one(kernels, ty, cols, bytes, time)).into_iter().sum()
}

fn rate_of_one(kernels: &Kernels, ty: QuantType, cols: usize, bytes: &[u8], time: Duration) -> f64 {
    let kind = ty.info().act;
    let x: Vec<f32> = (0..cols).map(|i| (i * 37 % 127) as f32 - 63.0).collect();
    let (mut q, mut d, mut bsums) =
        (vec![0; kind.codes(cols)], vec![0.0; kind.scales(cols)], vec![0; kind.bsums(cols)]);
    let sums = [kernels.quantize(kind, &x, &mut q, &mut d, &mut bsums)];
    let acts = Acts { kind, n: 1, k: cols, x: &[], q: &q, d: &d, bsums: &bsums, sums: &sums };
    let row_bytes = ty.row_bytes(cols).expect("whole blocks");
    // A small share is less than a tile, but whole groups.
    let rows = if kind == ActKind::Row { ROWS } else { ROWS_WITH_TABLES };
    let at_once = (rows / ty.lanes()).min(bytes.len() / row_bytes) * row_bytes;
    if at_once == 0 {
        return 0.0;
    }
    let mut out = vec![0f32; rows];
    let (clock, mut rows) = (Stopwatch::start(), 0);
    loop {
        for data in bytes.chunks_exact(at_once) {
            let groups = data.len() / row_bytes;
            let span = RowSpan { data, rows: groups * ty.lanes(), cols, row_bytes, scale: 1.0 };
            kernels.rows(ty, &span, &acts, &mut TileMut::whole(&mut out[..span.rows], span.rows));
            rows += span.rows;
            if clock.elapsed() >= time {
                return (rows * cols) as f64 / clock.seconds();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_have_a_speed() {
        let kernels = crate::host::cpu::kernels().unwrap();
        // 4096 columns take a whole 16 KiB share a group.
        let speeds = measure(&kernels, 2, &[64, 4096], 1 << 18).unwrap();
        assert_eq!(speeds.iter().map(|s| s.cols).collect::<Vec<_>>(), [64, 4096]);
        assert!(speeds.iter().all(|s| s.t2 > 0.0 && s.t3 > 0.0), "{speeds:?}");
    }

    #[test]
    fn a_larger_file_must_pay() {
        let layout = |t2, t3| Speeds { cols: 64, t2, t3 }.layout();
        assert_eq!((layout(1.02, 1.0), layout(1.04, 1.0)), (QuantType::T3, QuantType::T2));
    }
}
