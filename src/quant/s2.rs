//! S2, trill's own: a 2-bit sketch of an output head, four rows to a byte like T2. A group ends with 64 bytes: the
//! f32 `step` of each of its four rows, the f32 norm of what the sketch leaves out of each row, 32 bytes of zeros.
//!
//! Byte `k` of a group holds column `k`: the codes 0 to 3 of rows 0, 1, 2 from the low bits up and code - 2 of row 3 in
//! bits 7:6 as a two's-complement number. A weight is `step * (code - 1.5)`; with a step near one standard deviation
//! these are the best four evenly spaced levels for a Gaussian row.
//!
//! `dot` (Row): `((isum as f32) / d) * step`, where `isum = sum((2 * code - 3) * q)` and the step is halved when
//! read, which is exact. At `limits::EMBED_MAX` columns `|isum| <= 32768 * 3 * 128 < 2^24` converts exactly.

use super::block::inverse;
use super::{ActKind, ActRow, BlockHealth, Lane, TypeInfo};

/// Bytes after a group's columns.
const TAIL: usize = 64;
/// Turns of [`fit`], at most; it settles in fewer.
const FIT_TURNS: usize = 8;

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "S2",
    ggml_id: Some(204),
    block: 64,
    bytes: 64,
    row_tail: TAIL,
    more_lanes: &[lane::<1>(), lane::<2>(), lane::<3>()],
    tail: 0,
    act: ActKind::Row,
    decode: decode::<0>,
    encode: Some(encode),
    dot: dot::<0>,
    check,
};

const fn lane<const LANE: usize>() -> Lane {
    Lane { decode: decode::<LANE>, dot: dot::<LANE> }
}

/// A group's columns, and the f32 values after them.
fn parts(group: &[u8]) -> (&[u8], &[[u8; 4]]) {
    let (columns, tail) = group.split_at(group.len().saturating_sub(TAIL));
    (columns, tail.as_chunks().0)
}

fn value(tail: &[[u8; 4]], index: usize) -> f32 {
    tail.get(index).map_or(0.0, |b| f32::from_le_bytes(*b))
}

/// Twice the weight of row `LANE` in `byte`, in steps: an odd number from -3 to 3.
#[inline(always)]
fn level<const LANE: usize>(byte: u8) -> i32 {
    if LANE == 3 { 2 * i32::from(byte as i8 >> 6) + 1 } else { 2 * i32::from(byte >> (2 * LANE) & 3) - 3 }
}

fn decode<const LANE: usize>(group: &[u8], out: &mut [f32]) {
    let (columns, tail) = parts(group);
    let half_step = 0.5 * value(tail, LANE);
    out.iter_mut().zip(columns).for_each(|(o, b)| *o = level::<LANE>(*b) as f32 * half_step);
}

fn dot<const LANE: usize>(group: &[u8], act: ActRow<'_>) -> f32 {
    let (columns, tail) = parts(group);
    let isum: i32 = columns.iter().zip(act.q).map(|(b, q)| level::<LANE>(*b) * i32::from(*q)).sum();
    isum as f32 / act.d[0] * (0.5 * value(tail, LANE))
}

fn check(group: &[u8]) -> BlockHealth {
    let steps = [0, 1, 2, 3].map(|i| value(parts(group).1, i));
    BlockHealth {
        blocks: 1,
        not_finite: usize::from(steps.iter().any(|s| !s.is_finite())),
        zero: usize::from(steps.iter().all(|s| *s == 0.0)),
        invalid_codes: 0,
    }
}

/// The best code (0 to 3) of `v` where `inverse` is one over the step.
fn nearest(v: f32, inverse: f32) -> u8 {
    (libm::floorf(v * inverse).clamp(-2.0, 1.0) + 2.0) as u8
}

/// The step for a row: from the best one for a Gaussian of the row's deviation, codes and least-squares step in turn
/// until they agree. Each turn lowers the squared error or leaves it.
fn fit(row: &[f32]) -> f32 {
    let energy: f64 = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let mut step = (0.9957 * libm::sqrt(energy / row.len().max(1) as f64)) as f32;
    for _ in 0..FIT_TURNS {
        let (mut along, mut levels) = (0f64, 0f64);
        for v in row {
            let level = f64::from(nearest(*v, inverse(step))) - 1.5;
            along += f64::from(*v) * level;
            levels += level * level;
        }
        let better = (along / levels.max(1.0)) as f32;
        if better == step {
            break;
        }
        step = better;
    }
    step
}

/// Up to four rows; those that are not there get the step 0.
fn encode(values: &[f32], group: &mut [u8]) {
    let (columns, tail) = group.split_at_mut(group.len().saturating_sub(TAIL));
    let cols = columns.len();
    let mut steps = [0f32; 4];
    for (step, row) in steps.iter_mut().zip(values.chunks_exact(cols.max(1))) {
        *step = fit(row);
    }
    let inverses = steps.map(inverse);
    let mut left = [0f64; 4];
    for (k, byte) in columns.iter_mut().enumerate() {
        let weights: [f32; 4] = core::array::from_fn(|row| values.get(row * cols + k).copied().unwrap_or(0.0));
        let codes: [u8; 4] = core::array::from_fn(|row| nearest(weights[row], inverses[row]));
        for row in 0..4 {
            let error = f64::from(weights[row]) - f64::from((f32::from(codes[row]) - 1.5) * steps[row]);
            left[row] += error * error;
        }
        *byte = encode_s2(codes);
    }
    // A bound must not be rounded down.
    let norms = left.map(|sum| if sum == 0.0 { 0.0 } else { (libm::sqrt(sum) as f32).next_up() });
    tail.fill(0);
    for (bytes, v) in tail.as_chunks_mut::<4>().0.iter_mut().zip(steps.iter().chain(&norms)) {
        *bytes = v.to_le_bytes();
    }
}

/// The byte that holds the codes (0 to 3) of four rows at one column.
pub fn encode_s2(codes: [u8; 4]) -> u8 {
    (codes[0] & 3) | (codes[1] & 3) << 2 | (codes[2] & 3) << 4 | codes[3].wrapping_sub(2) << 6
}

/// The step of row `lane` of a group.
pub fn s2_step(group: &[u8], lane: usize) -> f32 {
    value(parts(group).1, lane)
}

/// The norm of what the sketch leaves out of row `lane` of a group.
pub fn s2_residual(group: &[u8], lane: usize) -> f32 {
    value(parts(group).1, 4 + lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Rows of a group, about normal with different deviations.
    fn rows(count: usize, cols: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let mut normal = || (0..12).map(|_| uniform()).sum::<f32>();
        (0..count * cols).map(|i| normal() * (1 + i / cols) as f32 * 0.01).collect()
    }

    #[test]
    fn residuals_are_what_the_sketch_leaves_out() {
        let (cols, count) = (2560, 3);
        let values = rows(count, cols);
        let mut group = vec![0xAA; cols + TAIL];
        encode(&values, &mut group);
        for (lane, row) in values.chunks(cols).enumerate() {
            let mut sketch = vec![0f32; cols];
            let lanes = [decode::<0>, decode::<1>, decode::<2>];
            lanes[lane](&group, &mut sketch);
            let square = |v: f64| v * v;
            let error: f64 = row.iter().zip(&sketch).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
            let energy: f64 = row.iter().map(|v| square(f64::from(*v))).sum();
            let norm = f64::from(s2_residual(&group, lane));
            assert!(norm >= error.sqrt() && norm <= error.sqrt() * 1.000_001, "{norm} {}", error.sqrt());
            // The best four evenly spaced levels leave 11.9 % of a Gaussian's energy.
            assert!((error / energy - 0.119).abs() < 0.01, "{}", error / energy);
        }
        let mut absent = vec![1f32; cols];
        decode::<3>(&group, &mut absent);
        assert!(absent.iter().all(|v| *v == 0.0) && s2_residual(&group, 3) == 0.0);
    }

    #[test]
    fn every_group_of_four_comes_back() {
        for v in 0..=255u8 {
            let codes: [u8; 4] = core::array::from_fn(|j| v >> (2 * j) & 3);
            let b = encode_s2(codes);
            let levels = [level::<0>(b), level::<1>(b), level::<2>(b), level::<3>(b)];
            assert_eq!(levels, codes.map(|c| 2 * i32::from(c) - 3));
        }
    }
}
