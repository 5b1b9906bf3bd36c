//! I2_S as bitnet.cpp writes it on ARM since commit 112f853: 64 weights in 16 bytes, byte `j` holds the codes
//! `j`, `j + 16`, `j + 32`, `j + 48`, the first in the top two bits. All else as [`super::i2_s`], `dot` included.
//! Nothing in a file tells the two apart, so this one is used only when the user asks for it.

use super::block::{decode_blocks, encode_blocks};
use super::i2_s::{check, dot, pack, unpack};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "I2_S_ARM",
    ggml_id: None,
    block: 64,
    bytes: 16,
    row_tail: 0,
    more_lanes: &[],
    tail: 32,
    act: ActKind::Row,
    decode: |data, out| decode_blocks(data, out, |b| unpack::<16, 64>(b).map(|c| f32::from(c) - 1.0)),
    encode: Some(|values, out| encode_blocks(values, out, pack::<16, 64>)),
    dot: dot::<16, 64>,
    check: check::<16>,
};
