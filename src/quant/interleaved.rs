//! What the types with interleaved rows share: trill's own layouts of file types that have a scale for each block.
//! Codes and scales are those of the file type, and so is the arithmetic: results have the same bits.
//!
//! A block is `ROWS` rows by `BLOCK` columns: the rows' binary16 scales, then for each four columns 16 bytes that hold
//! their codes of all rows. So a vector of 16 bytes, multiplied by four activations, leaves sums of rows in its lanes
//! that need not be added up, and the float step takes a row in each lane.
//!
//! In the types of 2 bits (16 rows) byte `4 * g + i` holds column `i` of rows `g`, `4 + g`, `8 + g` and `12 + g`, the
//! first lowest, as the weight plus 1; the last with its upper bit flipped, which makes it the weight less 1 as a
//! two's-complement number. So masks give sums of whole rows, as in [`super::t2`].

use super::{ActKind, ActRow, BlockHealth, Panel, QuantType, TypeInfo};
use super::{q1_0, q1_0_r32, q2_0, q2_0_g128_r16, q2_0_r16, tq1_0, tq2_0, tq2_0_r16};
use crate::numeric::f16_to_f32;

/// A layout.
pub(super) trait Interleaved {
    /// The file type.
    const SOURCE: QuantType;
    /// Rows of a group, at most 32.
    const ROWS: usize = 16;
    /// Columns that share a scale.
    const BLOCK: usize;
    /// Columns that share an activation's scale.
    const UNIT: usize;
    /// Bytes of a block.
    const BYTES: usize = Self::ROWS * 2 + Self::ROWS * Self::BLOCK / 4;

    /// The weight of row `row` at column `k`.
    fn code(codes: &[u8], row: usize, k: usize) -> i8 {
        let byte = codes[k / 4 * 16 + row % 4 * 4 + k % 4] ^ 0x80;
        (byte >> (row / 4 * 2) & 3) as i8 - 1
    }

    /// Sets it, in a block of zero bytes.
    fn set(codes: &mut [u8], row: usize, k: usize, code: i8) {
        let field = (code + 1) as u8 & 3 ^ if row / 4 == 3 { 2 } else { 0 };
        codes[k / 4 * 16 + row % 4 * 4 + k % 4] |= field << (row / 4 * 2);
    }
}

/// The facts of `L`.
pub(super) const fn info<L: Interleaved>(name: &'static str, id: u32) -> TypeInfo {
    TypeInfo {
        name,
        ggml_id: Some(id),
        block: L::BLOCK,
        bytes: L::BYTES,
        row_tail: 0,
        more_lanes: &[],
        tail: 0,
        act: if L::UNIT == 32 { ActKind::Block32 } else { ActKind::Block256 },
        decode: |group, out| decode::<L>(group, 0, out),
        encode: Some(encode::<L>),
        dot: |group, act| dot::<L>(group, 0, act),
        check: check::<L>,
    }
}

/// How the rows of `L` are read.
pub(super) const fn panel<L: Interleaved>() -> Panel {
    Panel { rows: L::ROWS, decode: decode::<L>, dot: dot::<L> }
}

/// Scale of row `row` of a block.
#[inline(always)]
fn scale(block: &[u8], row: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[2 * row], block[2 * row + 1]]))
}

fn decode<L: Interleaved>(group: &[u8], row: usize, out: &mut [f32]) {
    for (block, out) in group.chunks_exact(L::BYTES).zip(out.chunks_exact_mut(L::BLOCK)) {
        let d = scale(block, row);
        out.iter_mut().enumerate().for_each(|(k, o)| *o = d * f32::from(L::code(&block[2 * L::ROWS..], row, k)));
    }
}

/// For each unit `acc = acc + (isum as f32) * (d * da)`, as [`super::block::dot32`] and [`super::block::dot256`].
fn dot<L: Interleaved>(group: &[u8], row: usize, act: ActRow<'_>) -> f32 {
    let mut acts = act.q.chunks_exact(L::UNIT).zip(act.d);
    let mut acc = 0f32;
    for block in group.chunks_exact(L::BYTES) {
        let (d, codes) = (scale(block, row), &block[2 * L::ROWS..]);
        for (start, (q, da)) in (0..L::BLOCK).step_by(L::UNIT).zip(&mut acts) {
            let weights = (start..).map(|k| i32::from(L::code(codes, row, k)));
            let isum: i32 = q.iter().zip(weights).map(|(q, w)| w * i32::from(*q)).sum();
            acc += isum as f32 * (d * da);
        }
    }
    acc
}

/// Encodes each row as the file type does.
fn encode<L: Interleaved>(values: &[f32], group: &mut [u8]) {
    let cols = group.len() / L::BYTES * L::BLOCK;
    let source = L::SOURCE.info();
    let Some(encode) = source.encode else { return };
    group.fill(0);
    for (row, values) in values.chunks_exact(cols.max(1)).take(L::ROWS).enumerate() {
        for (values, block) in values.chunks_exact(L::BLOCK).zip(group.chunks_exact_mut(L::BYTES)) {
            let mut bytes = [0; SOURCE_MAX];
            encode(values, &mut bytes[..source.bytes]);
            place::<L>(L::SOURCE, &bytes[..source.bytes], row, block);
        }
    }
}

fn check<L: Interleaved>(data: &[u8]) -> BlockHealth {
    let mut health = BlockHealth::default();
    let ternary = L::SOURCE == QuantType::TQ2_0;
    for block in data.chunks_exact(L::BYTES) {
        health.blocks += 1;
        health.not_finite += usize::from((0..L::ROWS).any(|row| !scale(block, row).is_finite()));
        health.zero += usize::from((0..L::ROWS).all(|row| scale(block, row) == 0.0));
        if ternary {
            let invalid = |b: &u8| ((b ^ 0x80) & (b ^ 0x80) >> 1 & 0x55).count_ones() as usize;
            health.invalid_codes += block[2 * L::ROWS..].iter().map(invalid).sum::<usize>();
        }
    }
    health
}

/// Bytes of the largest block of a file type below.
const SOURCE_MAX: usize = 66;

/// Puts a block of type `from` into row `row` of a block of zero bytes.
#[inline(always)]
fn place<L: Interleaved>(from: QuantType, source: &[u8], row: usize, block: &mut [u8]) {
    let mut codes = [0i8; 256];
    let d = match from {
        QuantType::Q1_0 => read(source, &mut codes, 0, q1_0::unpack),
        QuantType::Q2_0 => read(source, &mut codes, 0, q2_0::unpack::<18, 64>),
        QuantType::Q2_0_G128 => read(source, &mut codes, 0, q2_0::unpack::<34, 128>),
        QuantType::TQ1_0 => read(source, &mut codes, 52, tq1_0::unpack),
        _ => read(source, &mut codes, 64, tq2_0::unpack),
    };
    let (scales, to) = block.split_at_mut(2 * L::ROWS);
    scales[2 * row..2 * row + 2].copy_from_slice(&d);
    codes[..L::BLOCK].iter().enumerate().for_each(|(k, code)| L::set(to, row, k, *code));
}

/// The codes of a block and the two bytes of its scale, which begin at byte `at`.
#[inline(always)]
fn read<const BYTES: usize, const BLOCK: usize>(
    source: &[u8],
    codes: &mut [i8; 256],
    at: usize,
    unpack: impl Fn(&[u8; BYTES]) -> ([i8; BLOCK], f32),
) -> [u8; 2] {
    let Some(block) = source.first_chunk::<BYTES>() else { return [0; 2] };
    codes[..BLOCK].copy_from_slice(&unpack(block).0);
    [block[at], block[at + 1]]
}

impl QuantType {
    /// The type that holds the codes and scales of this one with its rows interleaved, if there is one.
    pub fn interleaved(self) -> Option<QuantType> {
        match self {
            QuantType::Q1_0 => Some(QuantType::Q1_0_R32),
            QuantType::Q2_0 => Some(QuantType::Q2_0_R16),
            QuantType::Q2_0_G128 => Some(QuantType::Q2_0_G128_R16),
            QuantType::TQ1_0 | QuantType::TQ2_0 => Some(QuantType::TQ2_0_R16),
            _ => None,
        }
    }

    /// Interleaves `rows`, at most a group of whole rows of this type and `row_bytes` each, into one group of
    /// [`QuantType::interleaved`]. Rows that are not there become zeros; nothing happens for types that have no
    /// such form.
    pub fn interleave(self, rows: &[u8], row_bytes: usize, group: &mut [u8]) {
        match self {
            QuantType::Q1_0 => interleave::<q1_0_r32::R32>(self, rows, row_bytes, group),
            QuantType::Q2_0 => interleave::<q2_0_r16::R16>(self, rows, row_bytes, group),
            QuantType::Q2_0_G128 => interleave::<q2_0_g128_r16::R16>(self, rows, row_bytes, group),
            QuantType::TQ1_0 | QuantType::TQ2_0 => interleave::<tq2_0_r16::R16>(self, rows, row_bytes, group),
            _ => {}
        }
    }
}

fn interleave<L: Interleaved>(from: QuantType, rows: &[u8], row_bytes: usize, group: &mut [u8]) {
    group.fill(0);
    for (row, bytes) in rows.chunks_exact(row_bytes.max(1)).take(L::ROWS).enumerate() {
        for (source, block) in bytes.chunks_exact(from.info().bytes).zip(group.chunks_exact_mut(L::BYTES)) {
            place::<L>(from, source, row, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuFeatures;
    use crate::kernels::select;
    use std::vec;
    use std::vec::Vec;

    /// Rows of any bytes with finite scales, the last group not full.
    fn rows(from: QuantType, n: usize, cols: usize) -> Vec<u8> {
        let t = from.info();
        let at = if matches!(from, QuantType::TQ1_0 | QuantType::TQ2_0) { t.bytes - 2 } else { 0 };
        let mut bytes: Vec<u8> = (0..n * cols / t.block * t.bytes).map(|i| (i * i * 31 % 1021 % 256) as u8).collect();
        bytes.chunks_exact_mut(t.bytes).for_each(|block| block[at + 1] = block[at + 1] & 0x83 | 0x30);
        bytes
    }

    #[test]
    fn interleaved_rows_are_the_same_weights_and_give_the_same_bits() {
        let scalar = select(&CpuFeatures::compiled(), Some("scalar")).unwrap();
        for from in [QuantType::Q1_0, QuantType::Q2_0, QuantType::Q2_0_G128, QuantType::TQ1_0, QuantType::TQ2_0] {
            let to = from.interleaved().unwrap();
            assert_eq!(from.info().act, to.info().act);
            let (n, cols) = (to.lanes() - 3, 512);
            let row_bytes = from.row_bytes(cols).unwrap();
            let source = rows(from, n, cols);
            let mut group = vec![0xffu8; to.row_bytes(cols).unwrap()];
            from.interleave(&source, row_bytes, &mut group);
            let x: Vec<f32> = (0..cols).map(|i| (i * 53 % 97) as f32 - 40.0).collect();
            let kind = to.info().act;
            let (mut q, mut d, mut bsums) = (vec![0; cols], vec![0.0; kind.scales(cols)], vec![0; kind.bsums(cols)]);
            let sum = scalar.quantize(kind, &x, &mut q, &mut d, &mut bsums);
            let act = ActRow { x: &[], q: &q, d: &d, bsums: &bsums, sum };
            let (mut a, mut b) = (vec![0f32; cols], vec![0f32; cols]);
            for (i, row) in source.chunks_exact(row_bytes).enumerate() {
                (from.info().decode)(row, &mut a);
                to.decode_lane(i, &group, &mut b);
                assert_eq!(a, b, "{from:?} row {i}");
                let (a, b) = ((from.info().dot)(row, act), to.dot_lane(i, &group, act));
                assert_eq!(a.to_bits(), b.to_bits(), "{from:?} row {i}");
            }
            // Code 3 is invalid where the file type says so, and only there.
            let invalid: usize = source.chunks_exact(row_bytes).map(|r| (from.info().check)(r).invalid_codes).sum();
            assert_eq!((to.info().check)(&group).invalid_codes, invalid, "{from:?}");
        }
    }
}
