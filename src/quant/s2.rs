//! S2, trill's own: a 2-bit sketch of an output head, four rows to a byte like T2. A group ends with 64 bytes: the
//! f32 `step` of each of its four rows, the f32 norm of what the sketch leaves out of each row, 32 bytes of zeros.
//!
//! Byte `k` of a group holds column `k`: the codes 0 to 3 of rows 0, 1, 2 from the low bits up and code - 2 of row 3 in
//! bits 7:6 as a two's-complement number. A weight is `step * (code - 1.5)`; with a step near one standard deviation
//! these are the best four evenly spaced levels for a Gaussian row.
//!
//! `dot` (Row): `((isum as f32) / d) * step`, where `isum = sum((2 * code - 3) * q)` and the step is halved when
//! read, which is exact. At `limits::EMBED_MAX` columns `|isum| <= 32768 * 3 * 128 < 2^24` converts exactly.

use super::{ActKind, ActRow, BlockHealth, Lane, TypeInfo};

/// Bytes after a group's columns.
const TAIL: usize = 64;

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
    encode: None,
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
