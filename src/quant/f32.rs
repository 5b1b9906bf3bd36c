//! F32: 4 bytes, little endian.

use super::{ActKind, ActRow, TypeInfo};
use crate::numeric::tree16;

pub(super) const INFO: TypeInfo =
    TypeInfo { name: "F32", ggml_id: 0, block: 1, bytes: 4, tail: 0, act: ActKind::F32, decode, encode: Some(encode), dot };

fn values(data: &[u8]) -> impl Iterator<Item = f32> + '_ {
    data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

fn decode(data: &[u8], out: &mut [f32]) {
    out.iter_mut().zip(values(data)).for_each(|(o, v)| *o = v);
}

fn encode(values: &[f32], out: &mut [u8]) {
    out.as_chunks_mut::<4>().0.iter_mut().zip(values).for_each(|(o, v)| *o = v.to_le_bytes());
}

fn dot(row: &[u8], act: ActRow<'_>) -> f32 {
    let mut acc = [0f32; 16];
    for (i, (w, x)) in values(row).zip(act.x).enumerate() {
        acc[i % 16] += w * x;
    }
    tree16(&acc)
}
