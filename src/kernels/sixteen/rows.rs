//! Float operations on rows of activations, sixteen values at a time: the same operations in the same order as in
//! [`crate::kernels::float`], which the compiler does not vectorise where the program is linked for size.

use super::Arithmetic;
use crate::kernels::float;
use crate::numeric::tree16;
use core::slice::{from_mut, from_ref};

/// The 16 values at the start of `x`.
#[inline(always)]
fn get<S: Arithmetic>(s: S, x: &[f32; 16]) -> S::V {
    // SAFETY: the array holds 16 values.
    unsafe { s.load_f32(x.as_ptr()) }
}

#[inline(always)]
fn put<S: Arithmetic>(s: S, x: &mut [f32; 16], v: S::V) {
    // SAFETY: the array holds 16 values.
    unsafe { s.put_f32(x.as_mut_ptr(), v) }
}

/// The largest of 16 values, none of them NaN, and `least`.
#[inline(always)]
fn largest<S: Arithmetic>(s: S, v: S::V, least: f32) -> f32 {
    s.array(v).iter().fold(least, |a, &b| if b > a { b } else { a })
}

#[inline(always)]
fn abs_max<S: Arithmetic>(s: S, x: &[[f32; 16]]) -> f32 {
    let mut m = s.zero();
    for c in x {
        m = s.max(s.abs(get(s, c)), m);
    }
    largest(s, m, 0.0)
}

/// `x * scale` rounded to int8, not below `least`; returns the sums of the codes.
#[inline(always)]
fn codes<S: Arithmetic>(s: S, x: &[[f32; 16]], q: &mut [[i8; 16]], scale: f32, least: i32) -> S::I {
    let (scale, mut sum) = (s.splat(scale), s.zero_int());
    for (x, q) in x.iter().zip(q) {
        let code = s.clamp_int(s.round(s.mul(get(s, x), scale)), least);
        // SAFETY: the array has room for 16.
        unsafe { s.put_i8(q.as_mut_ptr(), code) };
        sum = s.add_int(sum, code);
    }
    sum
}

/// See [`crate::quant::ActKind::Row`].
#[inline(always)]
pub(in crate::kernels) fn quantize_row<S: Arithmetic>(
    s: S,
    x: &[f32],
    q: &mut [i8],
    d: &mut [f32],
    sums: &mut [i16],
) -> i32 {
    let (chunks, rest) = x.as_chunks::<16>();
    if !rest.is_empty() {
        return float::quantize_row(x, q, d, sums);
    }
    let amax = f64::from(abs_max(s, chunks));
    d[0] = (127.0 / if amax > 1e-5 { amax } else { 1e-5 }) as f32;
    s.sum_int(codes(s, chunks, q.as_chunks_mut().0, d[0], -128))
}

/// See [`crate::quant::ActKind::Block32`].
#[inline(always)]
pub(in crate::kernels) fn quantize_block32<S: Arithmetic>(
    s: S,
    x: &[f32],
    q: &mut [i8],
    d: &mut [f32],
    bsums: &mut [i16],
) -> i32 {
    if !x.len().is_multiple_of(32) {
        return float::quantize_block32(x, q, d, bsums);
    }
    let mut total = 0;
    for (((x, q), d), bsum) in x.chunks_exact(32).zip(q.chunks_exact_mut(32)).zip(d).zip(bsums) {
        let x = x.as_chunks().0;
        let amax = abs_max(s, x);
        let id = if amax > 0.0 { 127.0 / amax } else { 0.0 };
        let sum = s.sum_int(codes(s, x, q.as_chunks_mut().0, id, -127));
        *d = amax / 127.0;
        *bsum = sum as i16; // |sum| <= 32 * 127
        total += sum;
    }
    total
}

/// See [`crate::quant::ActKind::Block256`].
#[inline(always)]
pub(in crate::kernels) fn quantize_block256<S: Arithmetic>(
    s: S,
    x: &[f32],
    q: &mut [i8],
    d: &mut [f32],
    bsums: &mut [i16],
) -> i32 {
    if !x.len().is_multiple_of(256) {
        return float::quantize_block256(x, q, d, bsums);
    }
    let mut total = 0;
    for (((x, q), d), bsums) in x.chunks_exact(256).zip(q.chunks_exact_mut(256)).zip(d).zip(bsums.chunks_exact_mut(16))
    {
        let (chunks, q) = (x.as_chunks().0, q.as_chunks_mut().0);
        let amax = abs_max(s, chunks);
        let m = x.iter().copied().find(|v| v.abs() == amax).unwrap_or(0.0);
        let id = if m != 0.0 { -127.0 / m } else { 0.0 };
        for ((x, q), bsum) in chunks.iter().zip(q).zip(bsums) {
            let sum = s.sum_int(codes(s, from_ref(x), from_mut(q), id, -128));
            *bsum = sum as i16; // |sum| <= 16 * 128
            total += sum;
        }
        *d = if id != 0.0 { 1.0 / id } else { 0.0 };
    }
    total
}

/// See [`crate::kernels::RmsNormFn`].
#[inline(always)]
pub(in crate::kernels) fn rmsnorm<S: Arithmetic>(s: S, x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let (chunks, rest) = x.as_chunks::<16>();
    if !rest.is_empty() {
        return float::rmsnorm(x, w, eps, out);
    }
    let mut acc = s.zero();
    for c in chunks {
        let v = get(s, c);
        acc = s.mul_add(acc, v, v);
    }
    let mean = tree16(&s.array(acc)) / x.len() as f32;
    let scale = s.splat(1.0 / libm::sqrtf(mean + eps));
    for ((o, x), w) in out.as_chunks_mut().0.iter_mut().zip(chunks).zip(w.as_chunks().0) {
        put(s, o, s.mul(s.mul(get(s, x), scale), get(s, w)));
    }
}

/// See [`crate::numeric::exp`].
#[inline(always)]
fn exp<S: Arithmetic>(s: S, x: S::V) -> S::V {
    let least = s.splat(-87.3);
    let clamped = s.min(s.splat(88.7), s.max(least, x));
    let n = s.round(s.mul(clamped, s.splat(core::f32::consts::LOG2_E)));
    let nf = s.float(n);
    let r = s.sub(s.sub(clamped, s.mul(nf, s.splat(0.693_359_4))), s.mul(nf, s.splat(-2.121_944_4e-4)));
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = s.add(s.mul(p, r), s.splat(c));
    }
    let y = s.add(s.add(s.mul(p, s.mul(r, r)), r), s.splat(1.0));
    let [half, other] = s.powers(n);
    s.unless_below(s.mul(s.mul(y, half), other), x, least)
}

/// SiLU gate.
#[inline(always)]
pub(in crate::kernels) fn silu_mul<S: Arithmetic>(s: S, gate: &mut [f32], up: &[f32]) {
    let (chunks, rest) = gate.as_chunks_mut::<16>();
    let (ups, up_rest) = up.as_chunks::<16>();
    for (g, u) in chunks.iter_mut().zip(ups) {
        let v = get(s, g);
        let e = exp(s, s.mul(v, s.splat(-1.0)));
        put(s, g, s.mul(s.div(v, s.add(s.splat(1.0), e)), get(s, u)));
    }
    float::silu_mul(rest, up_rest);
}

/// Squared ReLU gate.
#[inline(always)]
pub(in crate::kernels) fn relu2_mul<S: Arithmetic>(s: S, gate: &mut [f32], up: &[f32]) {
    let (chunks, rest) = gate.as_chunks_mut::<16>();
    let (ups, up_rest) = up.as_chunks::<16>();
    for (g, u) in chunks.iter_mut().zip(ups) {
        let r = s.max(get(s, g), s.zero());
        put(s, g, s.mul(s.mul(r, r), get(s, u)));
    }
    float::relu2_mul(rest, up_rest);
}

/// See [`crate::kernels::SoftmaxFn`].
#[inline(always)]
pub(in crate::kernels) fn softmax<S: Arithmetic>(s: S, scores: &mut [f32]) -> f32 {
    let (chunks, rest) = scores.as_chunks_mut::<16>();
    let mut m = s.splat(f32::NEG_INFINITY);
    for c in chunks.iter() {
        m = s.max(get(s, c), m);
    }
    let max = rest.iter().fold(largest(s, m, f32::NEG_INFINITY), |a, &b| if b > a { b } else { a });
    let mut acc = s.zero();
    for c in chunks {
        let e = exp(s, s.sub(get(s, c), s.splat(max)));
        put(s, c, e);
        acc = s.add(acc, e);
    }
    let mut acc = s.array(acc);
    for (acc, v) in acc.iter_mut().zip(rest) {
        *v = crate::numeric::exp(*v - max);
        *acc += *v;
    }
    1.0 / tree16(&acc)
}
