//! The searches behind the K types' encoders: scale (and minimum) of a sub-block by weighted least squares.
//!
//! They follow the published algorithm of ggml's reference quantizers step by step, f32 operation by operation, so
//! that files come out byte for byte alike; `tests/quant_golden.rs` holds that.

use super::block::{bounds, widest};
use crate::numeric::round_even;

/// Below this a sub-block counts as all zero.
pub(super) const EPSILON: f32 = 1e-15;

/// How [`affine`] searches.
pub(super) struct Search {
    /// Largest code.
    pub(super) max_code: i32,
    /// The first trial's scale is `range / (max_code + start)`; each next one adds 0.1.
    pub(super) start: f32,
    /// Trials after the first.
    pub(super) steps: i32,
    /// Weighted sum of absolute instead of squared errors.
    pub(super) absolute: bool,
}

/// Fits `x = scale * code + min`, `min <= 0`: codes by rounding for a row of trial scales, for each the best scale
/// and minimum in closed form, and the trial of least error wins (later trials start from its minimum). Returns
/// the scale and `-min`.
pub(super) fn affine(x: &[f32], weights: &[f32], search: &Search, codes: &mut [u8]) -> (f32, f32) {
    let (lo, hi) = bounds(x);
    let lo = if lo > 0.0 { 0.0 } else { lo };
    if hi == lo {
        codes.fill(0);
        return (0.0, -lo);
    }
    let top = search.max_code as f32;
    let code = |x: f32, inverse: f32, min: f32| round_even(inverse * (x - min)).clamp(0, search.max_code) as u8;
    let error = |codes: &[u8], scale: f32, min: f32| {
        let parts = x.iter().zip(weights).zip(codes).map(|((x, w), c)| {
            let e = scale * f32::from(*c) + min - x;
            w * if search.absolute { e.abs() } else { e * e }
        });
        parts.fold(0.0, |a: f32, b| a + b)
    };
    let (sum_w, sum_x) = x.iter().zip(weights).fold((0.0, 0.0), |(a, b): (f32, f32), (x, w)| (a + w, b + w * x));

    let inverse = top / (hi - lo);
    codes.iter_mut().zip(x).for_each(|(c, x)| *c = code(*x, inverse, lo));
    let (mut scale, mut min) = (1.0 / inverse, lo);
    let mut best = error(codes, scale, min);
    let mut trial = [0u8; 32];
    let trial = &mut trial[..x.len()];
    for step in 0..=search.steps {
        let inverse = (search.start + 0.1 * step as f32 + top) / (hi - min);
        trial.iter_mut().zip(x).for_each(|(c, x)| *c = code(*x, inverse, min));
        let Some((s, m)) = least_squares(x, weights, trial, sum_w, sum_x) else { continue };
        let e = error(trial, s, m);
        if e < best {
            codes.copy_from_slice(trial);
            (best, scale, min) = (e, s, m);
        }
    }
    (scale, -min)
}

/// Scale and minimum (at most 0) of least weighted squared error for given codes.
fn least_squares(x: &[f32], weights: &[f32], codes: &[u8], sum_w: f32, sum_x: f32) -> Option<(f32, f32)> {
    let (mut sum_l, mut sum_l2, mut sum_xl) = (0f32, 0f32, 0f32);
    for ((x, w), c) in x.iter().zip(weights).zip(codes) {
        let l = f32::from(*c);
        sum_l += w * l;
        sum_l2 += w * l * l;
        sum_xl += w * l * x;
    }
    let determinant = sum_w * sum_l2 - sum_l * sum_l;
    if determinant <= 0.0 {
        return None;
    }
    let min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if min > 0.0 {
        return Some((sum_xl / sum_l2, 0.0));
    }
    Some(((sum_w * sum_xl - sum_x * sum_l) / determinant, min))
}

/// Sums of `x^2 * x * l` and `x^2 * l * l`: the scale of least error, weighted by `x^2`, is their ratio.
fn moments(x: &[f32], codes: &[i8]) -> (f32, f32) {
    x.iter().zip(codes).fold((0.0, 0.0), |(lx, l2), (x, c)| {
        let (w, l) = (x * x, f32::from(*c));
        (lx + w * x * l, l2 + w * l * l)
    })
}

fn to_codes(x: &[f32], inverse: f32, nmax: i32, codes: &mut [i8]) {
    codes.iter_mut().zip(x).for_each(|(c, x)| *c = round_even(inverse * x).clamp(-nmax, nmax - 1) as i8);
}

/// Fits `x = scale * code`, codes in `-nmax..nmax`, trying 19 scales around the one that makes the widest value
/// `-nmax` (Q6_K).
pub(super) fn scale_by_trials(x: &[f32], nmax: i32, codes: &mut [i8]) -> f32 {
    let max = widest(x);
    if max.abs() < EPSILON {
        codes.fill(-nmax as i8);
        return 0.0;
    }
    to_codes(x, -nmax as f32 / max, nmax, codes);
    let (lx, l2) = moments(x, codes);
    let mut scale = if l2 != 0.0 { lx / l2 } else { 0.0 };
    let mut best = scale * lx;
    let mut trial = [0i8; 16];
    for step in (-9..=9).filter(|s| *s != 0) {
        to_codes(x, -(nmax as f32 + 0.1 * step as f32) / max, nmax, &mut trial);
        let (lx, l2) = moments(x, &trial);
        if l2 > 0.0 && lx * lx > best * l2 {
            codes.copy_from_slice(&trial);
            scale = lx / l2;
            best = scale * lx;
        }
    }
    scale
}

/// Fits `x = scale * code`, codes in `-nmax..nmax`, by moving one code at a time, at most five rounds (Q3_K).
pub(super) fn scale_by_descent(x: &[f32], nmax: i32, codes: &mut [i8]) -> f32 {
    let max = widest(x);
    if max.abs() < EPSILON {
        codes.fill(-nmax as i8);
        return 0.0;
    }
    to_codes(x, -nmax as f32 / max, nmax, codes);
    let (mut lx, mut l2) = moments(x, codes);
    for _ in 0..5 {
        let mut changed = false;
        for (x, c) in x.iter().zip(codes.iter_mut()) {
            let (w, l) = (x * x, f32::from(*c));
            let rest = lx - w * x * l;
            if rest <= 0.0 {
                continue;
            }
            let rest2 = l2 - w * l * l;
            let moved = round_even(x * rest2 / rest).clamp(-nmax, nmax - 1) as i8;
            if moved == *c {
                continue;
            }
            let l = f32::from(moved);
            let (new_lx, new_l2) = (rest + w * x * l, rest2 + w * l * l);
            if new_l2 > 0.0 && new_lx * new_lx * l2 > lx * lx * new_l2 {
                (*c, lx, l2, changed) = (moved, new_lx, new_l2, true);
            }
        }
        if !changed {
            break;
        }
    }
    if l2 > 0.0 { lx / l2 } else { 0.0 }
}

/// Weights that favour large values: `rms + |x|` (Q4_K, Q5_K).
pub(super) fn rms_weights(x: &[f32]) -> [f32; 32] {
    let rms = libm::sqrtf(x.iter().fold(0.0, |a: f32, v| a + v * v) / x.len() as f32);
    let mut weights = [0.0; 32];
    weights.iter_mut().zip(x).for_each(|(w, x)| *w = rms + x.abs());
    weights
}
