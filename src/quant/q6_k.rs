//! Q6_K: 256 weights in 210 bytes, 16 sub-blocks of 16: `w = (d * scale_j) * (code - 32)`.
//!
//! Bytes 0..128 the codes' low four bits (weight `i`: the low (`i % 128 < 64`) or high nibble of byte
//! `i / 128 * 64 + i % 64`), 128..192 their upper two (bits `i % 128 / 32 * 2` and up of byte
//! `128 + i / 128 * 32 + i % 32`); 192..208 int8 `scale_j`; 208..210 `d` (binary16).
//!
//! `dot` (Block256): `acc = acc + (isum as f32) * (d * da)`,
//! `isum = sum_j(scale_j * sum((code - 32) * q))`, at most 128 * 32 * 128 * 256 = 2^27.

use super::block::{check_scales, decode_blocks, encode_blocks, half, half_bytes};
use super::k_block::Scaled;
use super::k_fit::scale_by_trials;
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q6_K",
    ggml_id: Some(14),
    block: 256,
    bytes: 210,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block256,
    decode: |data, out| decode_blocks(data, out, |b| unpack(b).values()),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| Scaled::dot(row, act, unpack),
    check: |data| check_scales::<210, 1>(data, |b| [half::<208, 210>(b)]),
};

/// Byte and shift of the low four bits of weight `i`.
fn low(i: usize) -> (usize, usize) {
    (i / 128 * 64 + i % 64, i % 128 / 64 * 4)
}

/// Byte and shift of the upper two bits of weight `i`.
fn high(i: usize) -> (usize, usize) {
    (128 + i / 128 * 32 + i % 32, i % 128 / 32 * 2)
}

fn unpack(b: &[u8; 210]) -> Scaled {
    let code = |i: usize| (b[low(i).0] >> low(i).1 & 15) | (b[high(i).0] >> high(i).1 & 3) << 4;
    Scaled {
        d: half::<208, 210>(b),
        scales: core::array::from_fn(|j| b[192 + j] as i8),
        codes: core::array::from_fn(|i| code(i) as i8 - 32),
    }
}

fn pack(v: &[f32; 256]) -> [u8; 210] {
    let mut b = [0; 210];
    let Some(k) = Scaled::encode(v, 128, 32, |x, codes| scale_by_trials(x, 32, codes)) else { return b };
    for (i, c) in k.codes.iter().enumerate() {
        let code = (c + 32) as u8;
        b[low(i).0] |= (code & 15) << low(i).1;
        b[high(i).0] |= (code >> 4) << high(i).1;
    }
    for (b, s) in b[192..208].iter_mut().zip(k.scales) {
        *b = s as u8;
    }
    b[208..].copy_from_slice(&half_bytes(k.d));
    b
}
