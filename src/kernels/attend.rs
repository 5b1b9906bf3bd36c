//! Attention on the packed cache: the codes of a row are unpacked into a buffer that stays in the first-level
//! cache and serve all query heads that share it. Written once over [`RowFormat`], compiled for each level; a level may
//! bring its own way to unpack.

use super::KvRows;
use super::float::dot16;
use crate::kv_cache::format::{Q8, RowFormat};
use crate::limits::{HEAD_DIM_MAX, HEADS_MAX};

/// A level's way to unpack rows.
pub(super) trait Unpack: Copy {
    /// [`RowFormat::load`].
    fn codes<F: RowFormat>(self, row: &[u8], codes: &mut [f32]) -> f32;
}

/// As the format says it.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Unpack for Plain {
    #[inline(always)]
    fn codes<F: RowFormat>(self, row: &[u8], codes: &mut [f32]) -> f32 {
        F::load(row, codes)
    }
}

/// Row `t` of the cache as codes; their scale, and whether they are a packed row's.
#[inline(always)]
pub(super) fn load<U: Unpack, F: RowFormat>(unpack: U, rows: &KvRows<'_>, t: usize, codes: &mut [f32]) -> (f32, bool) {
    match rows.row(t, Q8::bytes(codes.len())) {
        (row, false) => (unpack.codes::<F>(row, codes), true),
        (row, true) => (unpack.codes::<Q8>(row, codes), false),
    }
}

/// For head `g` and the `i`-th position of the range, whose codes `k_i` stand with scale `d_i`:
/// `out[g * n + i] = (q_g . k_i * d_i + o_i) * scale`, where `o_i = q_g . offset` for packed rows, else 0.
#[inline(always)]
pub(super) fn scores<U: Unpack, F: RowFormat>(
    unpack: U,
    q: &[f32],
    head_dim: usize,
    k: &KvRows<'_>,
    scale: f32,
    out: &mut [f32],
) {
    let n = k.range.len();
    let mut codes = [0f32; HEAD_DIM_MAX];
    let codes = &mut codes[..head_dim];
    let offsets = offsets(q, head_dim, k);
    for (i, t) in k.range.clone().enumerate() {
        let (d, packed) = load::<U, F>(unpack, k, t, codes);
        for (g, q) in q.chunks_exact(head_dim).enumerate() {
            out[g * n + i] = (dot16(q, codes) * d + if packed { offsets[g] } else { 0.0 }) * scale;
        }
    }
}

/// See [`crate::kernels::AddDotsFn`].
#[inline(always)]
pub(super) fn add_dots(q: &[f32], width: usize, rows: &[f32], scale: f32, out: &mut [f32]) {
    let n = rows.len() / width;
    for (q, out) in q.chunks_exact(width).zip(out.chunks_exact_mut(n.max(1))) {
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(width)) {
            *out += dot16(q, row) * scale;
        }
    }
}

/// `q_g . offset` of each head.
#[inline(always)]
pub(super) fn offsets(q: &[f32], head_dim: usize, k: &KvRows<'_>) -> [f32; HEADS_MAX] {
    let mut offsets = [0f32; HEADS_MAX];
    if !k.offset.is_empty() {
        for (o, q) in offsets.iter_mut().zip(q.chunks_exact(head_dim)) {
            *o = dot16(q, k.offset);
        }
    }
    offsets
}

/// `out_g = sum_i (weights[g * n + i] * d_i) * v_i` of codes `v_i` with scales `d_i`, positions ascending.
#[inline(always)]
pub(super) fn mix<U: Unpack, F: RowFormat>(
    unpack: U,
    weights: &[f32],
    head_dim: usize,
    v: &KvRows<'_>,
    out: &mut [f32],
) {
    let n = v.range.len();
    let mut codes = [0f32; HEAD_DIM_MAX];
    let codes = &mut codes[..head_dim];
    out.fill(0.0);
    for (i, t) in v.range.clone().enumerate() {
        let (d, _) = load::<U, F>(unpack, v, t, codes);
        for (g, o) in out.chunks_exact_mut(head_dim).enumerate() {
            let p = weights[g * n + i] * d;
            for (o, v) in o.iter_mut().zip(codes.iter()) {
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

#[cfg(test)]
mod tests {
    //! The scalar level against f64 arithmetic: the other levels are compared with the scalar one.

    use crate::kernels::{Activation, CANDIDATES, KvRows};
    use crate::kv_cache::KvType;
    use std::vec;
    use std::vec::Vec;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 2.0
            })
            .collect()
    }

    #[test]
    fn attention_is_a_weighted_mean() {
        let scalar = CANDIDATES.last().unwrap().kernels;
        for (head_dim, n, group) in [(64, 37, 3), (80, 1, 1), (128, 130, 4), (8, 16, 2)] {
            let (q, k, v) = (values(group * head_dim, 1), values(n * head_dim, 2), values(n * head_dim, 3));
            let bytes = KvType::F16.row_bytes(head_dim);
            let pack = |x: &[f32]| {
                let mut out = vec![0u8; n * bytes];
                for (row, x) in out.chunks_exact_mut(bytes).zip(x.chunks_exact(head_dim)) {
                    scalar.kv_store(KvType::F16, x, row);
                }
                out
            };
            let (kb, vb) = (pack(&k), pack(&v));
            let rows = |packed| KvRows {
                packed,
                row_bytes: bytes,
                exact: &[],
                first: 0,
                ring: 0,
                recent_from: usize::MAX,
                offset: &[],
                range: 0..n,
            };
            let (mut scores, mut out) = (vec![0f32; group * n], vec![0f32; group * head_dim]);
            scalar.scores(KvType::F16, &q, head_dim, &rows(&kb[..]), 0.125, &mut scores);
            let inverse: Vec<f32> = scores.chunks_exact_mut(n).map(|s| scalar.softmax(s)).collect();
            scalar.mix(KvType::F16, &scores, head_dim, &rows(&vb[..]), &mut out);
            for g in 0..group {
                let score = |t: usize| -> f64 {
                    (0..head_dim).map(|j| f64::from(q[g * head_dim + j]) * f64::from(k[t * head_dim + j])).sum::<f64>()
                        * 0.125
                };
                let weights: Vec<f64> = (0..n).map(|t| libm::exp(score(t))).collect();
                let sum: f64 = weights.iter().sum();
                for j in 0..head_dim {
                    let want: f64 = (0..n).map(|t| weights[t] / sum * f64::from(v[t * head_dim + j])).sum();
                    let got = f64::from(out[g * head_dim + j] * inverse[g]);
                    assert!((got - want).abs() < 5e-3, "{head_dim} {n} {g} {j}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn norms_gates_and_rotations_equal_their_equations() {
        let scalar = CANDIDATES.last().unwrap().kernels;
        let (x, w) = (values(100, 4), values(100, 5));
        let mut out = vec![0f32; 100];
        scalar.rmsnorm(&x, &w, 1e-5, &mut out);
        let mean = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / 100.0;
        for i in 0..100 {
            let want = f64::from(x[i]) / libm::sqrt(mean + 1e-5) * f64::from(w[i]);
            assert!((f64::from(out[i]) - want).abs() < 1e-5);
        }
        let gates: [(Activation, fn(f64) -> f64); 3] = [
            (Activation::Silu, |v| v / (1.0 + libm::exp(-v))),
            (Activation::Relu2, |v| v.max(0.0) * v.max(0.0)),
            (Activation::Gelu, |v| {
                0.5 * v * (1.0 + libm::tanh(libm::sqrt(2.0 / core::f64::consts::PI) * (v + 0.044715 * v * v * v)))
            }),
        ];
        for (activation, f) in gates {
            let mut gate = x.clone();
            scalar.glu(activation, &mut gate, &w);
            for i in 0..100 {
                assert!((f64::from(gate[i]) - f(f64::from(x[i])) * f64::from(w[i])).abs() < 1e-5, "{activation:?}");
            }
        }
        let mut head = values(64, 6);
        let before = head.clone();
        scalar.hadamard(&mut head);
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(x * x)).sum::<f64>();
        assert!(
            (norm(&head) - norm(&before)).abs() < 1e-3 && (head[0] - before.iter().sum::<f32>() / 8.0).abs() < 1e-5
        );
        scalar.hadamard(&mut head);
        assert!(head.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-5));
        for neox in [true, false] {
            let mut turned = before.clone();
            let (cos, sin) = (vec![0.6f32; 32], vec![0.8f32; 32]);
            scalar.rope(neox, &mut turned, &cos, &sin);
            let (i, j) = if neox { (3, 35) } else { (6, 7) };
            assert!((turned[i] - (before[i] * 0.6 - before[j] * 0.8)).abs() < 1e-6);
            assert!((turned[j] - (before[i] * 0.8 + before[j] * 0.6)).abs() < 1e-6);
        }
    }
}
