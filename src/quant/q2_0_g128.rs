//! Q2_0 with 128 weights to a scale, in 34 bytes: PrismML's PQ2_0 (number 142), and what PrismML's first files call
//! number 42. Layout, encoder and `dot` as [`super::q2_0`].

use super::block::{check_scales, decode_scaled, dot32, encode_blocks, half};
use super::q2_0::{pack, unpack};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "Q2_0_G128",
    ggml_id: Some(142),
    block: 128,
    bytes: 34,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block32,
    decode: |data, out| decode_scaled(data, out, unpack::<34, 128>),
    encode: Some(|values, out| encode_blocks(values, out, pack::<34, 128>)),
    dot: |row, act| dot32(row, act, unpack::<34, 128>),
    check: |data| check_scales::<34, 1>(data, |b| [half::<0, 34>(b)]),
};
