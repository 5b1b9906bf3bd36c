//! Q8R, trill's own: 8 bits a weight under one scale per row, for output heads; `w = scale * code`.
//!
//! A row of `k` weights is `k` int8 codes, in blocks of 32, and then the f32 `scale`. The code -128 does not occur
//! and is read as it stands.
//!
//! `dot` (Row): `((isum as f32) / d) * scale`, `isum = sum(code * q)`. Activations are made without -128, so at
//! `limits::FFN_MAX` columns `|isum| <= 131072 * 128 * 127 < 2^31`: kernels may sum in 32 bits.

use super::block::{idot, inverse, widest};
use super::{ActKind, ActRow, BlockHealth, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q8R",
    ggml_id: Some(205),
    block: 32,
    bytes: 32,
    row_tail: 4,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Row,
    decode,
    encode: Some(encode),
    dot,
    check,
};

/// Codes and scale.
fn split(row: &[u8]) -> (&[u8], f32) {
    row.split_last_chunk::<4>().map_or((&[], 0.0), |(codes, scale)| (codes, f32::from_le_bytes(*scale)))
}

fn decode(row: &[u8], out: &mut [f32]) {
    let (codes, scale) = split(row);
    out.iter_mut().zip(codes).for_each(|(o, c)| *o = scale * f32::from(*c as i8));
}

/// The largest magnitude becomes 127; halves are rounded away from zero.
fn encode(values: &[f32], row: &mut [u8]) {
    let Some((codes, scale)) = row.split_last_chunk_mut::<4>() else { return };
    let d = widest(values).abs() / 127.0;
    let id = inverse(d);
    *scale = d.to_le_bytes();
    codes.iter_mut().zip(values).for_each(|(c, v)| *c = libm::roundf(v * id).clamp(-127.0, 127.0) as i8 as u8);
}

fn dot(row: &[u8], act: ActRow<'_>) -> f32 {
    let (codes, scale) = split(row);
    // 64 bits hold the sum whatever the bytes and the activation are.
    let blocks = codes.as_chunks::<32>().0.iter().zip(act.q.as_chunks::<32>().0);
    let isum: i64 = blocks.map(|(c, q)| i64::from(idot(&c.map(|c| c as i8), q))).sum();
    isum as f32 / act.d[0] * scale
}

fn check(row: &[u8]) -> BlockHealth {
    let (codes, scale) = split(row);
    BlockHealth {
        blocks: 1,
        not_finite: usize::from(!scale.is_finite()),
        zero: usize::from(scale == 0.0),
        invalid_codes: codes.iter().filter(|c| **c == 0x80).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn the_widest_weight_comes_back_and_the_others_within_half_a_step() {
        let values: [f32; 64] = core::array::from_fn(|i| ((i * 37 % 64) as f32 - 31.5) * 0.013);
        let mut row = vec![0u8; 68];
        encode(&values, &mut row);
        let mut back = [0f32; 64];
        decode(&row, &mut back);
        let step = values.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
        for (v, b) in values.iter().zip(back) {
            assert!((v - b).abs() <= 0.5001 * step, "{v} {b}");
        }
        assert_eq!(check(&row), BlockHealth { blocks: 1, ..BlockHealth::default() });
    }

    #[test]
    fn rows_of_zeros_and_of_the_smallest_floats_are_sound() {
        for v in [0.0, 1e-45, 1e-38] {
            let mut row = vec![7u8; 36];
            encode(&[v; 32], &mut row);
            let mut back = [1f32; 32];
            decode(&row, &mut back);
            assert!(back.iter().all(|b| b.is_finite() && *b <= 2.0 * v), "{v}: {back:?}");
            assert_eq!(check(&row).invalid_codes, 0);
        }
    }
}
