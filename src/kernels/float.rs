//! Operations on floats, written once in the canonical order of [`crate::numeric`] over plain arrays, so
//! that the compiler vectorises them for whatever level they are inlined into, with the same bits.
//! `float_kernels!` makes one level's table.

pub(super) use crate::numeric::dot16;
use crate::numeric::{exp, round_even, tanh, tree16};
use crate::quant::{QuantType, RowSpan, s2_residual, s2_step};

/// Defines `FLOAT`, the [`super::FloatKernels`] of the surrounding module, compiled with the given target
/// features.
macro_rules! float_kernels {
    ($($feature:literal)?) => {
        mod float_level {
            use crate::kernels::{KvRows, attend, float};
            use crate::kv_cache::format::{F16, Q2, Q3, Q4, Q8, RowFormat};
            use crate::quant::RowSpan;
            $(#[target_feature(enable = $feature)])?
            pub(super) fn quantize_none(_: &[f32], _: &mut [i8], _: &mut [f32], _: &mut [i16]) -> i32 { 0 }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn quantize_row(x: &[f32], q: &mut [i8], d: &mut [f32], s: &mut [i16]) -> i32 { float::quantize_row(x, q, d, s) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn quantize_block32(x: &[f32], q: &mut [i8], d: &mut [f32], s: &mut [i16]) -> i32 { float::quantize_block32(x, q, d, s) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn quantize_block256(x: &[f32], q: &mut [i8], d: &mut [f32], s: &mut [i16]) -> i32 { float::quantize_block256(x, q, d, s) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn quantize_sign(x: &[f32], q: &mut [i8], d: &mut [f32], s: &mut [i16]) -> i32 { float::quantize_sign(x, q, d, s) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn rmsnorm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) { float::rmsnorm(x, w, eps, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) { float::silu_mul(gate, up) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn gelu_mul(gate: &mut [f32], up: &[f32]) { float::gelu_mul(gate, up) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn relu2_mul(gate: &mut [f32], up: &[f32]) { float::relu2_mul(gate, up) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn rope_neox(head: &mut [f32], cos: &[f32], sin: &[f32]) { float::rope_neox(head, cos, sin) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn rope_norm(head: &mut [f32], cos: &[f32], sin: &[f32]) { float::rope_norm(head, cos, sin) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn hadamard(head: &mut [f32]) { attend::hadamard(head) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn softmax(scores: &mut [f32]) -> f32 { float::softmax(scores) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn add_dots(q: &[f32], width: usize, rows: &[f32], scale: f32, out: &mut [f32]) { attend::add_dots(q, width, rows, scale, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn bounds(w: &RowSpan<'_>, far: f32, near: f32, bounds: &mut [f32]) { float::bounds(w, far, near, bounds) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn store_f16(values: &[f32], row: &mut [u8]) { F16::store(values, row) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn scores_f16(q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) { attend::scores::<_, F16>(attend::Plain, q, head_dim, k, scale, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn mix_f16(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) { attend::mix::<_, F16>(attend::Plain, weights, head_dim, v, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn store_q8(values: &[f32], row: &mut [u8]) { Q8::store(values, row) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn scores_q8(q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) { attend::scores::<_, Q8>(attend::Plain, q, head_dim, k, scale, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn mix_q8(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) { attend::mix::<_, Q8>(attend::Plain, weights, head_dim, v, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn store_q4(values: &[f32], row: &mut [u8]) { Q4::store(values, row) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn scores_q4(q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) { attend::scores::<_, Q4>(attend::Plain, q, head_dim, k, scale, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn mix_q4(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) { attend::mix::<_, Q4>(attend::Plain, weights, head_dim, v, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn store_q2(values: &[f32], row: &mut [u8]) { Q2::store(values, row) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn scores_q2(q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) { attend::scores::<_, Q2>(attend::Plain, q, head_dim, k, scale, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn mix_q2(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) { attend::mix::<_, Q2>(attend::Plain, weights, head_dim, v, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn store_q3(values: &[f32], row: &mut [u8]) { Q3::store(values, row) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn scores_q3(q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) { attend::scores::<_, Q3>(attend::Plain, q, head_dim, k, scale, out) }
            $(#[target_feature(enable = $feature)])?
            pub(super) fn mix_q3(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) { attend::mix::<_, Q3>(attend::Plain, weights, head_dim, v, out) }
        }

        const FLOAT: $crate::kernels::FloatKernels = $crate::kernels::FloatKernels {
            quantize: [
                float_level::quantize_none,
                float_level::quantize_row,
                float_level::quantize_block32,
                float_level::quantize_block256,
                float_level::quantize_sign,
            ],
            rmsnorm: float_level::rmsnorm,
            silu_mul: float_level::silu_mul,
            gelu_mul: float_level::gelu_mul,
            relu2_mul: float_level::relu2_mul,
            rope_neox: float_level::rope_neox,
            rope_norm: float_level::rope_norm,
            hadamard: float_level::hadamard,
            softmax: float_level::softmax,
            bounds: float_level::bounds,
            kv_store: [float_level::store_f16, float_level::store_q8, float_level::store_q4, float_level::store_q2, float_level::store_q3],
            scores: [float_level::scores_f16, float_level::scores_q8, float_level::scores_q4, float_level::scores_q2, float_level::scores_q3],
            add_dots: float_level::add_dots,
            mix: [float_level::mix_f16, float_level::mix_q8, float_level::mix_q4, float_level::mix_q2, float_level::mix_q3],
        };
    };
}

#[inline(always)]
fn abs_max(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut m = [0f32; 16];
    for c in chunks {
        for j in 0..16 {
            m[j] = if c[j].abs() > m[j] { c[j].abs() } else { m[j] };
        }
    }
    let mut most = 0f32;
    for v in m.iter().chain(rest) {
        most = if v.abs() > most { v.abs() } else { most };
    }
    most
}

#[inline(always)]
fn sum_i8(q: &[i8]) -> i32 {
    q.iter().map(|&v| v as i32).sum()
}

#[inline(always)]
pub(super) fn quantize_row(x: &[f32], q: &mut [i8], d: &mut [f32], _: &mut [i16]) -> i32 {
    let amax = abs_max(x) as f64;
    let s = (127.0 / if amax > 1e-5 { amax } else { 1e-5 }) as f32;
    for (q, x) in q.iter_mut().zip(x) {
        *q = round_even(x * s).clamp(-128, 127) as i8;
    }
    d[0] = s;
    sum_i8(q)
}

#[inline(always)]
pub(super) fn quantize_block32(x: &[f32], q: &mut [i8], d: &mut [f32], bsums: &mut [i16]) -> i32 {
    let mut total = 0;
    for (((x, q), d), s) in x.chunks(32).zip(q.chunks_mut(32)).zip(d).zip(bsums) {
        let amax = abs_max(x);
        let id = if amax > 0.0 { 127.0 / amax } else { 0.0 };
        for (q, x) in q.iter_mut().zip(x) {
            *q = round_even(x * id).clamp(-127, 127) as i8;
        }
        *d = amax / 127.0;
        let sum = sum_i8(q);
        *s = sum as i16; // |sum| <= 32 * 127
        total += sum;
    }
    total
}

#[inline(always)]
pub(super) fn quantize_block256(x: &[f32], q: &mut [i8], d: &mut [f32], bsums: &mut [i16]) -> i32 {
    for ((x, q), d) in x.chunks(256).zip(q.chunks_mut(256)).zip(d) {
        let amax = abs_max(x);
        let m = x.iter().copied().find(|v| v.abs() == amax).unwrap_or(0.0);
        let id = if m != 0.0 { -127.0 / m } else { 0.0 };
        for (q, x) in q.iter_mut().zip(x) {
            *q = round_even(x * id).clamp(-128, 127) as i8;
        }
        *d = if id != 0.0 { 1.0 / id } else { 0.0 };
    }
    let mut total = 0;
    for (q, s) in q.chunks(16).zip(bsums) {
        let sum = sum_i8(q);
        *s = sum as i16; // |sum| <= 16 * 128
        total += sum;
    }
    total
}

#[inline(always)]
pub(super) fn quantize_sign(x: &[f32], q: &mut [i8], _: &mut [f32], _: &mut [i16]) -> i32 {
    let mut sum = 0;
    for (x, q) in x.chunks(8).zip(q) {
        let bits = x.iter().enumerate().fold(0u8, |bits, (i, v)| bits | u8::from(*v >= 0.0) << i);
        *q = bits as i8;
        sum += 2 * bits.count_ones() as i32 - x.len() as i32;
    }
    sum
}

#[inline(always)]
pub(super) fn rmsnorm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let mean = dot16(x, x) / x.len() as f32;
    let scale = 1.0 / libm::sqrtf(mean + eps);
    for ((o, x), w) in out.iter_mut().zip(x).zip(w) {
        *o = x * scale * w;
    }
}

#[inline(always)]
pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + exp(-*g)) * u;
    }
}

#[inline(always)]
pub(super) fn gelu_mul(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        let x = *g;
        *g = 0.5 * x * (1.0 + tanh(0.797_884_6 * x * (1.0 + 0.044_715 * x * x))) * u;
    }
}

#[inline(always)]
pub(super) fn relu2_mul(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        let r = if *g > 0.0 { *g } else { 0.0 };
        *g = r * r * u;
    }
}

#[inline(always)]
pub(super) fn rope_neox(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, b) = head.split_at_mut(cos.len());
    for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
    }
}

#[inline(always)]
pub(super) fn rope_norm(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((p, c), s) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        *p = [p[0] * c - p[1] * s, p[0] * s + p[1] * c];
    }
}

/// `s = exp(s - max)`; returns one over the sum, summed in the canonical order.
#[inline(always)]
pub(super) fn softmax(s: &mut [f32]) -> f32 {
    let max = s.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let mut acc = [0f32; 16];
    let (chunks, rest) = s.as_chunks_mut::<16>();
    for c in chunks {
        for j in 0..16 {
            c[j] = exp(c[j] - max);
            acc[j] += c[j];
        }
    }
    for (j, v) in rest.iter_mut().enumerate() {
        *v = exp(*v - max);
        acc[j] += *v;
    }
    1.0 / tree16(&acc)
}

#[inline(always)]
pub(super) fn bounds(w: &RowSpan<'_>, far: f32, near: f32, bounds: &mut [f32]) {
    let groups = w.data.chunks_exact(w.row_bytes);
    for (group, bounds) in groups.zip(bounds.chunks_mut(QuantType::S2.lanes())) {
        for (lane, bound) in bounds.iter_mut().enumerate() {
            let (residual, step) = (s2_residual(group, lane), s2_step(group, lane));
            *bound += libm::sqrtf(residual * residual * far + step * step * near);
        }
    }
}
