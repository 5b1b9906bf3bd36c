//! Attention a tile of heads and positions at a time, so that a cached row is unpacked once for the heads that share it,
//! and four sums of 16 accumulators fold together. Rows are unpacked into a buffer that stays in the first-level cache, but F16
//! where widening costs nothing ([`Sixteen::WIDENS`]).
#![allow(clippy::needless_range_loop)] // registers are walked by index

use super::Sixteen;
use super::weights::{Element, F16 as Half, F32 as Single};
use crate::kernels::{KvRows, attend};
use crate::kv_cache::format::{Codes, Q8, RowFormat, scale_and_codes};
use crate::limits::HEAD_DIM_MAX;

/// Positions that are unpacked together.
const BLOCK: usize = 8;

/// Rows of consecutive positions, ready to be read.
struct Block {
    /// Past the end the last one again.
    rows: [*const u8; BLOCK],
    scales: [f32; BLOCK],
    packed: [bool; BLOCK],
    len: usize,
}

/// Whether rows of `F` can be unpacked 16 values at a time.
#[inline(always)]
fn fits<F: RowFormat>(head_dim: usize) -> bool {
    let per_byte = if let Codes::Levels { per_byte, .. } = F::CODES { per_byte } else { 1 };
    head_dim.is_multiple_of(16 * per_byte)
}

/// A level's unpacking of rows that [`fits`] approves of.
#[derive(Clone, Copy)]
struct Vector<S>(S);

impl<S: Sixteen> attend::Unpack for Vector<S> {
    #[inline(always)]
    fn codes<F: RowFormat>(self, row: &[u8], out: &mut [f32]) -> f32 {
        if let Codes::Half = F::CODES {
            for (out, halves) in out.as_chunks_mut::<16>().0.iter_mut().zip(row.as_chunks::<32>().0) {
                // SAFETY: 16 halves.
                *out = unsafe { self.0.array(self.0.load_f16(halves.as_ptr())) };
            }
            return 1.0;
        }
        let (d, codes) = scale_and_codes(row);
        let low = match F::CODES {
            Codes::Levels { per_byte, .. } => out.len() / per_byte,
            _ => out.len(),
        };
        assert!(low.is_multiple_of(16) && low <= codes.len());
        let (codes, high) = codes.split_at(low);
        // A group of bits at a time: the loop over them is written out, so shifts are constants.
        let per_byte = if let Codes::Levels { per_byte, .. } = F::CODES { per_byte } else { 1 };
        for group in 0..per_byte {
            let out = out[group * low..][..low].as_chunks_mut::<16>().0;
            for (i, (out, codes)) in out.iter_mut().zip(codes.as_chunks::<16>().0).enumerate() {
                // SAFETY: 16 bytes; a table has an entry for each number of its bits.
                *out = unsafe {
                    self.0.array(match F::CODES {
                        Codes::Levels { per_byte, apart, table } => {
                            let (bits, at) = (8 / per_byte, group * low / 8 + 2 * i);
                            let high = if apart { Some([high[at], high[at + 1]]) } else { None };
                            self.0.load_levels(codes.as_ptr(), bits * group, (1 << bits) - 1, high, &table)
                        }
                        _ => self.0.load_i8(codes.as_ptr()),
                    })
                };
            }
        }
        d
    }
}

impl Block {
    /// Positions `i ..` of the range, as many as there are; unpacked into `buffer`, or F16 where it is.
    #[inline(always)]
    fn read<S: Sixteen, F: RowFormat>(s: S, kv: &KvRows<'_>, i: usize, head_dim: usize, buffer: &mut [f32]) -> Block {
        let len = BLOCK.min(kv.range.len() - i);
        let mut block = Block { rows: [core::ptr::null(); BLOCK], scales: [1.0; BLOCK], packed: [true; BLOCK], len };
        let start = kv.range.start + i;
        let packed = start >= kv.first && start + len <= kv.recent_from;
        if S::WIDENS && matches!(F::CODES, Codes::Half) {
            for p in 0..len {
                block.rows[p] = kv.row(start + p, Q8::bytes(head_dim)).0.as_ptr();
            }
        } else if packed {
            // Nearly all blocks: rows one after the other.
            let rows = kv.packed[start * kv.row_bytes..][..len * kv.row_bytes].chunks_exact(kv.row_bytes);
            for (p, (row, codes)) in rows.zip(buffer.chunks_exact_mut(head_dim)).enumerate() {
                block.scales[p] = attend::Unpack::codes::<F>(Vector(s), row, codes);
                block.rows[p] = codes.as_ptr().cast();
            }
        } else {
            for (p, codes) in buffer.chunks_exact_mut(head_dim).take(len).enumerate() {
                (block.scales[p], block.packed[p]) = attend::load::<_, F>(Vector(s), kv, start + p, codes);
                block.rows[p] = codes.as_ptr().cast();
            }
        }
        for p in len..BLOCK {
            block.rows[p] = block.rows[len - 1];
        }
        block
    }
}

/// Heads of a tile, when `left` are to do.
#[inline(always)]
fn heads<S: Sixteen>(left: usize) -> usize {
    left.min(if S::ROWS == 4 { 4 } else { 1 })
}

/// See [`crate::kernels::ScoresFn`].
#[inline(always)]
pub(in crate::kernels) fn scores<S: Sixteen, F: RowFormat>(
    s: S,
    q: &[f32],
    head_dim: usize,
    k: &KvRows<'_>,
    scale: f32,
    out: &mut [f32],
) {
    match F::CODES {
        _ if !fits::<F>(head_dim) => attend::scores::<_, F>(attend::Plain, q, head_dim, k, scale, out),
        Codes::Half if S::WIDENS => score_blocks::<S, F, Half>(s, q, head_dim, k, scale, out, &mut []),
        _ => score_blocks::<S, F, Single>(s, q, head_dim, k, scale, out, &mut [0f32; BLOCK * HEAD_DIM_MAX]),
    }
}

#[inline(always)]
fn score_blocks<S: Sixteen, F: RowFormat, E: Element>(
    s: S,
    q: &[f32],
    head_dim: usize,
    k: &KvRows<'_>,
    scale: f32,
    out: &mut [f32],
    buffer: &mut [f32],
) {
    let (n, group) = (k.range.len(), q.len() / head_dim);
    let offsets = attend::offsets(q, head_dim, k);
    for i in (0..n).step_by(BLOCK) {
        let block = Block::read::<S, F>(s, k, i, head_dim, buffer);
        for first in (0..block.len).step_by(4) {
            let mut g = 0;
            while g < group {
                let (q, heads) = (&q[g * head_dim..], heads::<S>(group - g));
                // SAFETY: the rows hold head_dim values, q so many heads.
                unsafe {
                    let out = &mut out[g * n + i + first..];
                    let offsets = &offsets[g..];
                    match heads {
                        4 => score_tile::<S, E, 4>(s, q, head_dim, &block, first, offsets, scale, out, n),
                        3 => score_tile::<S, E, 3>(s, q, head_dim, &block, first, offsets, scale, out, n),
                        2 => score_tile::<S, E, 2>(s, q, head_dim, &block, first, offsets, scale, out, n),
                        _ => score_tile::<S, E, 1>(s, q, head_dim, &block, first, offsets, scale, out, n),
                    }
                }
                g += heads;
            }
        }
    }
}

/// `G` heads with the block's positions `first .. first + 4`; head `g`'s scores go to `out[g * n ..]`.
///
/// # Safety
/// `q` holds `G` heads, the rows `head_dim` values, a multiple of 16.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a tile is its operands
unsafe fn score_tile<S: Sixteen, E: Element, const G: usize>(
    s: S,
    q: &[f32],
    head_dim: usize,
    block: &Block,
    first: usize,
    offsets: &[f32],
    scale: f32,
    out: &mut [f32],
    n: usize,
) {
    let mut acc = [[s.zero(); 4]; G];
    let mut c = 0;
    while c < head_dim {
        // SAFETY: values c .. c + 16 exist.
        unsafe {
            let mut x = [s.zero(); G];
            for g in 0..G {
                x[g] = s.load_f32(q.as_ptr().add(g * head_dim + c));
            }
            for p in 0..4 {
                let k = E::load(s, block.rows[first + p].add(E::BYTES * c));
                for g in 0..G {
                    acc[g][p] = s.mul_add(acc[g][p], x[g], k);
                }
            }
        }
        c += 16;
    }
    for g in 0..G {
        let sums = s.trees(acc[g]);
        for p in 0..4.min(block.len - first) {
            let offset = if block.packed[first + p] { offsets[g] } else { 0.0 };
            out[g * n + p] = (sums[p] * block.scales[first + p] + offset) * scale;
        }
    }
}

/// See [`crate::kernels::AddDotsFn`].
#[inline(always)]
pub(in crate::kernels) fn add_dots<S: Sixteen>(
    s: S,
    q: &[f32],
    width: usize,
    rows: &[f32],
    scale: f32,
    out: &mut [f32],
) {
    if !width.is_multiple_of(16) {
        return attend::add_dots(q, width, rows, scale, out);
    }
    let (n, group) = (rows.len() / width, q.len() / width);
    for i in (0..n).step_by(4) {
        let len = 4.min(n - i);
        let mut g = 0;
        while g < group {
            let (q, heads) = (&q[g * width..], heads::<S>(group - g));
            // SAFETY: q holds so many heads; rows i .. i + len exist.
            unsafe {
                let (rows, out) = (rows.as_ptr().add(i * width), &mut out[g * n + i..]);
                match heads {
                    4 => add_tile::<S, 4>(s, q, width, rows, len, scale, out, n),
                    3 => add_tile::<S, 3>(s, q, width, rows, len, scale, out, n),
                    2 => add_tile::<S, 2>(s, q, width, rows, len, scale, out, n),
                    _ => add_tile::<S, 1>(s, q, width, rows, len, scale, out, n),
                }
            }
            g += heads;
        }
    }
}

/// `G` heads with `len` rows, 1 to 4; head `g`'s go to `out[g * n ..]`.
///
/// # Safety
/// `q` holds `G` rows of `width` values, `rows` so many, `width` is a multiple of 16.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a tile is its operands
unsafe fn add_tile<S: Sixteen, const G: usize>(
    s: S,
    q: &[f32],
    width: usize,
    rows: *const f32,
    len: usize,
    scale: f32,
    out: &mut [f32],
    n: usize,
) {
    let mut acc = [[s.zero(); 4]; G];
    for c in (0..width).step_by(16) {
        // SAFETY: values c .. c + 16 exist; past the last row it is read again.
        unsafe {
            let mut x = [s.zero(); G];
            for g in 0..G {
                x[g] = s.load_f32(q.as_ptr().add(g * width + c));
            }
            for p in 0..4 {
                let row = s.load_f32(rows.add(p.min(len - 1) * width + c));
                for g in 0..G {
                    acc[g][p] = s.mul_add(acc[g][p], x[g], row);
                }
            }
        }
    }
    for g in 0..G {
        let sums = s.trees(acc[g]);
        for p in 0..len {
            out[g * n + p] += sums[p] * scale;
        }
    }
}

/// See [`crate::kernels::MixFn`].
#[inline(always)]
pub(in crate::kernels) fn mix<S: Sixteen, F: RowFormat>(
    s: S,
    weights: &[f32],
    head_dim: usize,
    v: &KvRows<'_>,
    out: &mut [f32],
) {
    match F::CODES {
        _ if !fits::<F>(head_dim) => attend::mix::<_, F>(attend::Plain, weights, head_dim, v, out),
        Codes::Half if S::WIDENS => mix_blocks::<S, F, Half>(s, weights, head_dim, v, out, &mut []),
        _ => mix_blocks::<S, F, Single>(s, weights, head_dim, v, out, &mut [0f32; BLOCK * HEAD_DIM_MAX]),
    }
}

#[inline(always)]
fn mix_blocks<S: Sixteen, F: RowFormat, E: Element>(
    s: S,
    weights: &[f32],
    head_dim: usize,
    v: &KvRows<'_>,
    out: &mut [f32],
    buffer: &mut [f32],
) {
    let (n, group) = (v.range.len(), out.len() / head_dim);
    out.fill(0.0);
    for i in (0..n).step_by(BLOCK) {
        let block = Block::read::<S, F>(s, v, i, head_dim, buffer);
        let mut g = 0;
        while g < group {
            let heads = heads::<S>(group - g);
            let mut scaled = [[0f32; BLOCK]; 4];
            for (h, scaled) in scaled.iter_mut().enumerate().take(heads) {
                let weights = &weights[(g + h) * n + i..][..block.len];
                scaled.iter_mut().zip(weights).zip(block.scales).for_each(|((to, w), d)| *to = w * d);
            }
            let mut c = 0;
            while c < head_dim {
                let vectors = if head_dim - c >= 64 { 4 } else { 1 };
                let out = &mut out[g * head_dim + c..];
                // SAFETY: out holds so many heads, and these and the rows values c .. c + 16 * vectors.
                unsafe {
                    match (heads, vectors) {
                        (4, 4) => mix_tile::<S, E, 4, 4>(s, &scaled, &block, c, head_dim, out),
                        (3, 4) => mix_tile::<S, E, 3, 4>(s, &scaled, &block, c, head_dim, out),
                        (2, 4) => mix_tile::<S, E, 2, 4>(s, &scaled, &block, c, head_dim, out),
                        (_, 4) => mix_tile::<S, E, 1, 4>(s, &scaled, &block, c, head_dim, out),
                        (4, _) => mix_tile::<S, E, 4, 1>(s, &scaled, &block, c, head_dim, out),
                        (3, _) => mix_tile::<S, E, 3, 1>(s, &scaled, &block, c, head_dim, out),
                        (2, _) => mix_tile::<S, E, 2, 1>(s, &scaled, &block, c, head_dim, out),
                        _ => mix_tile::<S, E, 1, 1>(s, &scaled, &block, c, head_dim, out),
                    }
                }
                c += 16 * vectors;
            }
            g += heads;
        }
    }
}

/// Adds the block's positions to values `c .. c + 16 C` of `G` heads: head `g`'s weights, scales included, are `weights[g]`,
/// its sums `out[g * head_dim ..][..16 * C]`.
///
/// # Safety
/// The rows and `out` hold these values.
#[inline(always)]
unsafe fn mix_tile<S: Sixteen, E: Element, const G: usize, const C: usize>(
    s: S,
    weights: &[[f32; BLOCK]; 4],
    block: &Block,
    c: usize,
    head_dim: usize,
    out: &mut [f32],
) {
    let mut acc = [[s.zero(); C]; G];
    for g in 0..G {
        for x in 0..C {
            // SAFETY: by contract.
            acc[g][x] = unsafe { s.load_f32(out[g * head_dim + 16 * x..][..16].as_ptr()) };
        }
    }
    for p in 0..block.len {
        let mut weight = [s.zero(); G];
        for g in 0..G {
            weight[g] = s.splat(weights[g][p]);
        }
        for x in 0..C {
            // SAFETY: by contract.
            let value = unsafe { E::load(s, block.rows[p].add(E::BYTES * (c + 16 * x))) };
            for g in 0..G {
                acc[g][x] = s.mul_add(acc[g][x], weight[g], value);
            }
        }
    }
    for g in 0..G {
        for x in 0..C {
            out[g * head_dim + 16 * x..][..16].copy_from_slice(&s.array(acc[g][x]));
        }
    }
}
