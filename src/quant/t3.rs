//! T3, trill's own: ternary, 1.6 bits a weight, five rows to a byte; `w = scale * c`. After the last group a 32-byte
//! tail that begins with the f32 `scale`.
//!
//! Byte `k` of a group, read as a signed number `s_0`, holds column `k` of rows 0 to 4 in balanced base 3: with
//! `s_{j+1}` = `3 * s_j` wrapped to 8 bits, `3 * s_j = 256 * c_j + s_{j+1}`. All 256 bytes decode, 243 are written.
//! Summed over a row no digit need be taken out: with `S_j = sum(s_j * q)` row `j` is
//! `R_j = (3 * S_j - S_{j+1}) / 256` exactly, so five rows cost ten additions and six dot products. Read as unsigned
//! numbers `u_j = s_j + 128` the same chain gives `c_j + 1`: `R_j = (3 * U_j - U_{j+1}) / 256 - sum(q)`.
//!
//! `dot` (Row): `(R as f32) / d`; the caller multiplies by the scale. In the telescoped form `|3 * S_j - S_{j+1}|
//! <= 2^9 * 2^7 * n` stays within 32 bits for 32,768 columns, and beyond that wraps back as long as `R_j` itself
//! is divided out of a 64-bit difference.

use super::block::encode_signs;
use super::{ActKind, ActRow, BlockHealth, Lane, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "T3",
    ggml_id: Some(201),
    block: 64,
    bytes: 64,
    row_tail: 0,
    more_lanes: &[lane::<1>(), lane::<2>(), lane::<3>(), lane::<4>()],
    tail: 32,
    act: ActKind::Row,
    decode: decode::<0>,
    encode: Some(|values, group| encode_signs(values, group, encode_t3)),
    dot: dot::<0>,
    check,
};

const fn lane<const LANE: usize>() -> Lane {
    Lane { decode: decode::<LANE>, dot: dot::<LANE> }
}

/// Digit `j` (below 5) of `byte`: the weight of row `j`.
#[inline(always)]
pub(super) fn digit(byte: u8, j: usize) -> i32 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let s = byte.wrapping_mul(POWERS[j]);
    (3 * i32::from(s as i8) - i32::from(s.wrapping_mul(3) as i8)) >> 8
}

fn decode<const LANE: usize>(data: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(data).for_each(|(o, b)| *o = digit(*b, LANE) as f32);
}

fn dot<const LANE: usize>(group: &[u8], act: ActRow<'_>) -> f32 {
    let isum: i32 = group.iter().zip(act.q).map(|(b, q)| digit(*b, LANE) * i32::from(*q)).sum();
    isum as f32 / act.d[0]
}

/// Every byte is a sound group of five weights.
fn check(data: &[u8]) -> BlockHealth {
    BlockHealth { blocks: data.len() / 64, ..BlockHealth::default() }
}

/// The byte that holds the weights `w` (-1, 0 or 1) of five rows at one column.
pub fn encode_t3(w: [i8; 5]) -> u8 {
    // v = sum (w_j + 1) * 3^(4-j); the unsigned chain of ceil(256 v / 243) has the digits of v.
    let v = w.iter().fold(0u16, |v, w| v * 3 + (w + 1).clamp(0, 2) as u16);
    ((v * 256).div_ceil(243) as u8) ^ 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_five_comes_back() {
        for v in 0..243u16 {
            let w: [i8; 5] = core::array::from_fn(|j| (v / 3u16.pow(4 - j as u32) % 3) as i8 - 1);
            let b = encode_t3(w);
            let back: [i32; 5] = core::array::from_fn(|j| digit(b, j));
            assert_eq!(back, w.map(i32::from));
        }
        for b in 0..=255u8 {
            for w in (0..5).map(|j| digit(b, j)) {
                assert!((-1..=1).contains(&w));
            }
        }
    }
}
