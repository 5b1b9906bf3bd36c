//! TQ1_0: 256 ternary weights in 54 bytes, `w = d * (digit - 1)`.
//!
//! Bytes 0..32 hold five digits each (digit `n` of byte `m` is weight `32 * n + m`), 32..48 five (weight
//! `160 + 16 * n + m`), 48..52 four (weight `240 + 4 * n + m`), see [`super::trits`]; 52..54 `d` (binary16).
//!
//! `dot` (Block256): `acc = acc + (isum as f32) * (d * da)`, `isum = sum((digit - 1) * q)`, `|isum| <= 2^15`.

use super::block::{
    check_scales, decode_scaled, dot256, encode_blocks, half, half_bytes, idot, inverse, ternary_code, widest,
};
use super::{ActKind, TypeInfo, trits};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "TQ1_0",
    ggml_id: Some(34),
    block: 256,
    bytes: 54,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block256,
    decode: |data, out| decode_scaled(data, out, unpack),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| {
        dot256(row, act, |b, q| {
            let (codes, d) = unpack(b);
            (idot(&codes, q), d)
        })
    },
    check: |data| check_scales::<54, 1>(data, |b| [half::<52, 54>(b)]),
};

pub(super) fn unpack(b: &[u8; 54]) -> ([i8; 256], f32) {
    let mut codes = [0; 256];
    trits::unpack(&b[..32], &mut codes[..160]);
    trits::unpack(&b[32..48], &mut codes[160..240]);
    trits::unpack(&b[48..52], &mut codes[240..]);
    (codes, half::<52, 54>(b))
}

fn pack(v: &[f32; 256]) -> [u8; 54] {
    let d = widest(v).abs();
    let id = inverse(d);
    let codes = v.map(|v| ternary_code(v, id));
    let mut b = [0; 54];
    trits::pack(&codes[..160], &mut b[..32]);
    trits::pack(&codes[160..240], &mut b[32..48]);
    trits::pack(&codes[240..], &mut b[48..52]);
    b[52..].copy_from_slice(&half_bytes(d));
    b
}
