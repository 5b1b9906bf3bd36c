//! PTQ1_0 (PrismML): 128 ternary weights in 28 bytes, `w = d * (digit - 1)`.
//!
//! Bytes 0..16 hold five digits each (digit `n` of byte `m` is weight `16 * n + m`), 16..24 five (weight
//! `80 + 8 * n + m`), 24..26 four (weight `120 + 2 * n + m`), see [`super::trits`]; 26..28 `d` (binary16).
//!
//! `dot` (Block32): for each 32 of the block `acc = acc + (isum as f32) * (d * da)`, `isum = sum((digit - 1) * q)`.

use super::block::{check_scales, decode_scaled, dot32, encode_blocks, half, half_bytes, inverse, ternary_code, widest};
use super::{ActKind, TypeInfo, trits};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "PTQ1_0",
    ggml_id: Some(143),
    block: 128,
    bytes: 28,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block32,
    decode: |data, out| decode_scaled(data, out, unpack),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| dot32(row, act, unpack),
    check: |data| check_scales::<28, 1>(data, |b| [half::<26, 28>(b)]),
};

fn unpack(b: &[u8; 28]) -> ([i8; 128], f32) {
    let mut codes = [0; 128];
    trits::unpack(&b[..16], &mut codes[..80]);
    trits::unpack(&b[16..24], &mut codes[80..120]);
    trits::unpack(&b[24..26], &mut codes[120..]);
    (codes, half::<26, 28>(b))
}

fn pack(v: &[f32; 128]) -> [u8; 28] {
    let d = widest(v).abs();
    let id = inverse(d);
    let codes = v.map(|v| ternary_code(v, id));
    let mut b = [0; 28];
    trits::pack(&codes[..80], &mut b[..16]);
    trits::pack(&codes[80..120], &mut b[16..24]);
    trits::pack(&codes[120..], &mut b[24..26]);
    b[26..].copy_from_slice(&half_bytes(d));
    b
}
