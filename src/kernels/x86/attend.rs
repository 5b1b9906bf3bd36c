//! Attention on an f16 cache: several heads and positions at a time, so that a cached value is widened once for
//! the heads that share it, and four sums of 16 accumulators fold together. The other caches use the shared code.
#![allow(clippy::needless_range_loop)] // registers are walked by index

use super::floats::Sixteen;
use crate::kernels::{KvRows, attend};
use crate::kv_cache::format::{F16, RowFormat};

/// Address of row `t`: in the window of recent rows if it is there.
#[inline(always)]
fn row(rows: &KvRows<'_>, t: usize, head_dim: usize) -> *const u8 {
    if t < rows.recent_from {
        rows.packed[t * rows.row_bytes..][..rows.row_bytes].as_ptr()
    } else {
        let bytes = F16::bytes(head_dim);
        rows.recent[t % rows.ring * bytes..][..bytes].as_ptr()
    }
}

/// Heads of a tile, when `left` are to do.
#[inline(always)]
fn heads<S: Sixteen>(left: usize) -> usize {
    left.min(if S::ROWS == 4 { 4 } else { 1 })
}

/// See [`crate::kernels::ScoresFn`].
#[inline(always)]
pub(super) fn scores<S: Sixteen>(s: S, q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) {
    if !head_dim.is_multiple_of(16) {
        return attend::scores::<F16>(q, head_dim, k, scale, out);
    }
    let (n, group) = (k.range.len(), q.len() / head_dim);
    for i in (0..n).step_by(4) {
        // Past the end the last row is taken again, and its score not written.
        let mut rows = [core::ptr::null(); 4];
        for (p, place) in rows.iter_mut().enumerate() {
            *place = row(k, k.range.start + (i + p).min(n - 1), head_dim);
        }
        let mut g = 0;
        while g < group {
            let (q, out) = (&q[g * head_dim..], &mut out[g * n..]);
            let heads = heads::<S>(group - g);
            // SAFETY: the rows hold head_dim values, q and out so many heads.
            unsafe {
                match heads {
                    4 => score_tile::<S, 4>(s, q, head_dim, &rows, scale, out, i, n),
                    3 => score_tile::<S, 3>(s, q, head_dim, &rows, scale, out, i, n),
                    2 => score_tile::<S, 2>(s, q, head_dim, &rows, scale, out, i, n),
                    _ => score_tile::<S, 1>(s, q, head_dim, &rows, scale, out, i, n),
                }
            }
            g += heads;
        }
    }
}

/// `G` heads with positions `i .. i + 4` of `n`.
///
/// # Safety
/// `q` and `out` hold `G` heads, the rows `head_dim` values, a multiple of 16.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a tile is its operands
unsafe fn score_tile<S: Sixteen, const G: usize>(
    s: S,
    q: &[f32],
    head_dim: usize,
    rows: &[*const u8; 4],
    scale: f32,
    out: &mut [f32],
    i: usize,
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
                let k = s.load_f16(rows[p].add(2 * c));
                for g in 0..G {
                    acc[g][p] = s.mul_add(acc[g][p], x[g], k);
                }
            }
        }
        c += 16;
    }
    for g in 0..G {
        let sums = s.trees(acc[g]);
        for (out, sum) in out[g * n..(g + 1) * n][i..].iter_mut().zip(sums) {
            *out = sum * scale;
        }
    }
}

/// See [`crate::kernels::MixFn`].
#[inline(always)]
pub(super) fn mix<S: Sixteen>(s: S, weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) {
    if !head_dim.is_multiple_of(16) {
        return attend::mix::<F16>(weights, head_dim, v, out);
    }
    let (n, group) = (v.range.len(), out.len() / head_dim);
    let mut c = 0;
    while c < head_dim {
        let vectors = if head_dim - c >= 64 { 4 } else { 1 };
        let mut g = 0;
        while g < group {
            let (weights, out) = (&weights[g * n..], &mut out[g * head_dim..]);
            let heads = heads::<S>(group - g);
            // SAFETY: weights and out hold so many heads of n and head_dim values, and c + 16 * vectors <= head_dim.
            unsafe {
                match (heads, vectors) {
                    (4, 4) => mix_tile::<S, 4, 4>(s, weights, head_dim, v, out, c),
                    (3, 4) => mix_tile::<S, 3, 4>(s, weights, head_dim, v, out, c),
                    (2, 4) => mix_tile::<S, 2, 4>(s, weights, head_dim, v, out, c),
                    (_, 4) => mix_tile::<S, 1, 4>(s, weights, head_dim, v, out, c),
                    (4, _) => mix_tile::<S, 4, 1>(s, weights, head_dim, v, out, c),
                    (3, _) => mix_tile::<S, 3, 1>(s, weights, head_dim, v, out, c),
                    (2, _) => mix_tile::<S, 2, 1>(s, weights, head_dim, v, out, c),
                    _ => mix_tile::<S, 1, 1>(s, weights, head_dim, v, out, c),
                }
            }
            g += heads;
        }
        c += 16 * vectors;
    }
}

/// `G` heads, values `c .. c + 16 C`.
///
/// # Safety
/// `weights` and `out` hold `G` heads, and a head these values.
#[inline(always)]
unsafe fn mix_tile<S: Sixteen, const G: usize, const C: usize>(
    s: S,
    weights: &[f32],
    head_dim: usize,
    v: &KvRows<'_>,
    out: &mut [f32],
    c: usize,
) {
    let n = v.range.len();
    let mut acc = [[s.zero(); C]; G];
    for (i, t) in v.range.clone().enumerate() {
        let row = row(v, t, head_dim);
        // SAFETY: weight i of each head and values c .. c + 16 C of the row exist.
        unsafe {
            let mut p = [s.zero(); G];
            for g in 0..G {
                p[g] = s.splat(*weights.get_unchecked(g * n + i));
            }
            for x in 0..C {
                let value = s.load_f16(row.add(2 * (c + 16 * x)));
                for g in 0..G {
                    acc[g][x] = s.mul_add(acc[g][x], p[g], value);
                }
            }
        }
    }
    for g in 0..G {
        for x in 0..C {
            let at = g * head_dim + c + 16 * x;
            out[at..at + 16].copy_from_slice(&s.array(acc[g][x]));
        }
    }
}
