//! Attention on the packed cache: rows are unpacked one at a time into a buffer that stays in the first-level
//! cache and serves all query heads that share it. Written once over [`RowFormat`], compiled for each level.

use super::KvRows;
use super::float::dot16;
use crate::kv_cache::format::{F16, RowFormat};
use crate::limits::HEAD_DIM_MAX;

/// Row `t` of the cache as f32: from the window of recent rows if it is there.
#[inline(always)]
fn load<F: RowFormat>(rows: &KvRows<'_>, t: usize, out: &mut [f32]) {
    if t < rows.recent_from {
        F::load(&rows.packed[t * rows.row_bytes..][..rows.row_bytes], out);
    } else {
        let bytes = F16::bytes(out.len());
        F16::load(&rows.recent[t % rows.ring * bytes..][..bytes], out);
    }
}

/// `out[g * n + i] = scale * q_g . k_i` over the `n` positions of the range.
#[inline(always)]
pub(super) fn scores<F: RowFormat>(q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) {
    let n = k.range.len();
    let mut row = [0f32; HEAD_DIM_MAX];
    let row = &mut row[..head_dim];
    for (i, t) in k.range.clone().enumerate() {
        load::<F>(k, t, row);
        for (g, q) in q.chunks_exact(head_dim).enumerate() {
            out[g * n + i] = dot16(q, row) * scale;
        }
    }
}

/// `out_g = sum_i weights[g * n + i] * v_i`, positions ascending.
#[inline(always)]
pub(super) fn mix<F: RowFormat>(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) {
    let n = v.range.len();
    let mut row = [0f32; HEAD_DIM_MAX];
    let row = &mut row[..head_dim];
    out.fill(0.0);
    for (i, t) in v.range.clone().enumerate() {
        load::<F>(v, t, row);
        for (g, o) in out.chunks_exact_mut(head_dim).enumerate() {
            let p = weights[g * n + i];
            for (o, v) in o.iter_mut().zip(row.iter()) {
                *o += p * v;
            }
        }
    }
}

/// Normalised Walsh-Hadamard transform over blocks of the largest power of two that divides the length: its own
/// inverse.
#[inline(always)]
pub(super) fn hadamard(head: &mut [f32]) {
    let block = 1usize << head.len().trailing_zeros();
    let norm = 1.0 / libm::sqrtf(block as f32);
    for part in head.chunks_exact_mut(block) {
        let mut half = 1;
        while half < block {
            for pair in part.chunks_exact_mut(2 * half) {
                let (a, b) = pair.split_at_mut(half);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        part.iter_mut().for_each(|v| *v *= norm);
    }
}
