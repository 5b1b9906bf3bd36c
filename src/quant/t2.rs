//! T2, trill's own: ternary, 2 bits a weight, four rows to a byte; `w = scale * c`. After the last group a 32-byte
//! tail that begins with the f32 `scale`.
//!
//! Byte `k` of a group holds column `k` of rows 0 to 3: the codes `c + 1` of rows 0, 1, 2 in bits 1:0, 3:2, 5:4 and `c`
//! of row 3 in bits 7:6 as a two's-complement number. So masking a byte leaves a number that adds up whole rows,
//! `S_j = sum((byte & (4^(j+1) - 1)) * q)` with the byte itself signed for `j = 3`, and with `X = sum(q)`
//! `R_0 = S_0 - X`, `R_1 = (S_1 - S_0) / 4 - X`, `R_2 = (S_2 - S_1) / 16 - X`, `R_3 = (S_3 - S_2) / 64`: three masks and
//! four dot products for four rows, no shift. Codes 3 (and -2 in row 3) do not occur; they read as +2 (and -2).
//!
//! `dot` (Row): `(R as f32) / d`; the caller multiplies by the scale. The integers are exact: at
//! `limits::FFN_MAX` columns `|S_j| <= 131072 * 128 * 128 = 2^31` only where every weight is at an extreme that does
//! not occur, and differences wrap back.

use super::block::encode_signs;
use super::{ActKind, ActRow, BlockHealth, Lane, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "T2",
    ggml_id: Some(200),
    block: 64,
    bytes: 64,
    row_tail: 0,
    more_lanes: &[lane::<1>(), lane::<2>(), lane::<3>()],
    tail: 32,
    act: ActKind::Row,
    decode: decode::<0>,
    encode: Some(|values, group| encode_signs(values, group, encode_t2)),
    dot: dot::<0>,
    check,
};

const fn lane<const LANE: usize>() -> Lane {
    Lane { decode: decode::<LANE>, dot: dot::<LANE> }
}

/// The weight of row `LANE` in `byte`.
#[inline(always)]
pub(super) fn weight<const LANE: usize>(byte: u8) -> i32 {
    if LANE == 3 { i32::from(byte as i8 >> 6) } else { i32::from(byte >> (2 * LANE) & 3) - 1 }
}

fn decode<const LANE: usize>(data: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(data).for_each(|(o, b)| *o = weight::<LANE>(*b) as f32);
}

fn dot<const LANE: usize>(group: &[u8], act: ActRow<'_>) -> f32 {
    let isum: i32 = group.iter().zip(act.q).map(|(b, q)| weight::<LANE>(*b) * i32::from(*q)).sum();
    isum as f32 / act.d[0]
}

fn check(data: &[u8]) -> BlockHealth {
    let invalid = |b: &u8| (b & b >> 1 & 0x15).count_ones() as usize + usize::from(b >> 6 == 2);
    BlockHealth { blocks: data.len() / 64, invalid_codes: data.iter().map(invalid).sum(), ..BlockHealth::default() }
}

/// The byte that holds the weights `w` (-1, 0 or 1) of four rows at one column.
pub fn encode_t2(w: [i8; 4]) -> u8 {
    let code = |r: usize| ((w[r] + 1) as u8 & 3) << (2 * r);
    code(0) | code(1) | code(2) | (w[3] as u8) << 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_four_comes_back() {
        for v in 0..81u16 {
            let w: [i8; 4] = core::array::from_fn(|j| (v / 3u16.pow(j as u32) % 3) as i8 - 1);
            let b = encode_t2(w);
            assert_eq!([weight::<0>(b), weight::<1>(b), weight::<2>(b), weight::<3>(b)], w.map(i32::from));
            assert_eq!(check(&[b; 64]).invalid_codes, 0);
        }
    }
}
