//! What the types' files share: walking blocks, the two canonical block sums, scales in binary16.

use super::{ActRow, BlockHealth};
use crate::numeric::{f16_to_f32, f32_to_f16};

/// The binary16 at byte `AT` of a block.
#[inline(always)]
pub(super) fn half<const AT: usize, const BYTES: usize>(block: &[u8; BYTES]) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[AT], block[AT + 1]]))
}

/// `v` rounded to binary16 (half to even), little endian.
#[inline(always)]
pub(super) fn half_bytes(v: f32) -> [u8; 2] {
    f32_to_f16(v).to_le_bytes()
}

/// Sum of products, exact: |w| <= 255, |q| <= 128 and at most 256 of them stay under 2^23.
#[inline(always)]
pub(super) fn idot<W: Copy + Into<i32>>(w: &[W], q: &[i8]) -> i32 {
    w.iter().zip(q).map(|(w, q)| (*w).into() * i32::from(*q)).sum()
}

/// Walks whole blocks; `f` gives a block's values.
#[inline(always)]
pub(super) fn decode_blocks<const BYTES: usize, const BLOCK: usize>(
    data: &[u8],
    out: &mut [f32],
    f: impl Fn(&[u8; BYTES]) -> [f32; BLOCK],
) {
    for (block, out) in data.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        *out = f(block);
    }
}

/// Values of a type whose weights are `d * code`.
#[inline(always)]
pub(super) fn decode_scaled<const BYTES: usize, const BLOCK: usize>(
    data: &[u8],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> ([i8; BLOCK], f32),
) {
    decode_blocks(data, out, |block| {
        let (codes, d) = unpack(block);
        codes.map(|c| d * f32::from(c))
    });
}

/// Walks whole blocks; `f` gives a block's bytes.
#[inline(always)]
pub(super) fn encode_blocks<const BYTES: usize, const BLOCK: usize>(
    values: &[f32],
    out: &mut [u8],
    f: impl Fn(&[f32; BLOCK]) -> [u8; BYTES],
) {
    for (block, out) in values.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        *out = f(block);
    }
}

/// Counts what is odd about the scales of whole blocks.
#[inline(always)]
pub(super) fn check_scales<const BYTES: usize, const SCALES: usize>(
    data: &[u8],
    scales: impl Fn(&[u8; BYTES]) -> [f32; SCALES],
) -> BlockHealth {
    let mut health = BlockHealth::default();
    for block in data.as_chunks::<BYTES>().0 {
        let s = scales(block);
        health.blocks += 1;
        health.not_finite += usize::from(s.iter().any(|v| !v.is_finite()));
        health.zero += usize::from(s[0] == 0.0);
    }
    health
}

/// Canonical sum of [`super::ActKind::Block32`] types with weights `d * code`, sub-blocks of 32 in ascending
/// order: `acc = acc + (isum as f32) * (d * da)`, `isum` the exact sum of `code * q`.
#[inline(always)]
pub(super) fn dot32<const BYTES: usize, const BLOCK: usize>(
    row: &[u8],
    act: ActRow<'_>,
    unpack: impl Fn(&[u8; BYTES]) -> ([i8; BLOCK], f32),
) -> f32 {
    let mut acts = act.q.as_chunks::<32>().0.iter().zip(act.d);
    let mut acc = 0f32;
    for block in row.as_chunks::<BYTES>().0 {
        let (codes, d) = unpack(block);
        for (w, (q, da)) in codes.as_chunks::<32>().0.iter().zip(&mut acts) {
            acc += idot(w, q) as f32 * (d * da);
        }
    }
    acc
}

/// Canonical sum of [`super::ActKind::Block32`] types with weights `d * code + m`, blocks of 32 in ascending
/// order: `acc = acc + ((isum as f32) * (d * da) + m * (da * (bsum as f32)))`, `isum` the exact sum of
/// `code * q`, `bsum` that of `q`.
#[inline(always)]
pub(super) fn dot32_min<const BYTES: usize>(
    row: &[u8],
    act: ActRow<'_>,
    unpack: impl Fn(&[u8; BYTES]) -> ([u8; 32], f32, f32),
) -> f32 {
    let mut acc = 0f32;
    let acts = act.q.as_chunks::<32>().0.iter().zip(act.d).zip(act.bsums);
    for (block, ((q, da), bsum)) in row.as_chunks::<BYTES>().0.iter().zip(acts) {
        let (codes, d, m) = unpack(block);
        acc += idot(&codes, q) as f32 * (d * da) + m * (da * f32::from(*bsum));
    }
    acc
}

/// The first of the values of largest magnitude.
#[inline(always)]
pub(super) fn widest(values: &[f32]) -> f32 {
    values.iter().copied().fold(0.0, |m: f32, v| if v.abs() > m.abs() { v } else { m })
}

/// Smallest and largest value.
#[inline(always)]
pub(super) fn bounds(values: &[f32]) -> (f32, f32) {
    let first = values.first().copied().unwrap_or(0.0);
    values.iter().fold((first, first), |(lo, hi), &v| (if v < lo { v } else { lo }, if v > hi { v } else { hi }))
}

/// `1 / d`, or 0 for 0.
#[inline(always)]
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Canonical sum of [`super::ActKind::Block256`] types without minima, blocks in ascending order:
/// `acc = acc + (isum as f32) * (d * da)`. `f` gives a block's `isum` (exact) and `d`.
#[inline(always)]
pub(super) fn dot256<const BYTES: usize>(
    row: &[u8],
    act: ActRow<'_>,
    f: impl Fn(&[u8; BYTES], &[i8; 256]) -> (i32, f32),
) -> f32 {
    let mut acc = 0f32;
    for (block, (q, da)) in row.as_chunks::<BYTES>().0.iter().zip(act.q.as_chunks::<256>().0.iter().zip(act.d)) {
        let (isum, d) = f(block, q);
        acc += isum as f32 * (d * da);
    }
    acc
}

/// Nearest of -1, 0, 1 to `v / d` (halves away from zero), plus 1; `id` is `1 / d`.
#[inline(always)]
pub(super) fn ternary_code(v: f32, id: f32) -> u8 {
    (libm::roundf(v * id).clamp(-1.0, 1.0) + 1.0) as u8
}

/// The signs of the rows of one group, column by column as `byte` joins them; rows that are not there are zeros.
#[inline(always)]
pub(super) fn encode_signs<const LANES: usize>(values: &[f32], group: &mut [u8], byte: impl Fn([i8; LANES]) -> u8) {
    let cols = group.len();
    let sign = |v: &f32| i8::from(*v > 0.0) - i8::from(*v < 0.0);
    for (k, b) in group.iter_mut().enumerate() {
        *b = byte(core::array::from_fn(|row| values.get(row * cols + k).map_or(0, sign)));
    }
}

/// Sum of products of signs, given as bits (1: +1, 0: -1): equal bits less different bits.
#[inline(always)]
pub(super) fn idot_signs(w: &[u8], x: &[i8]) -> i32 {
    w.iter().zip(x).map(|(w, x)| 2 * (!(w ^ *x as u8)).count_ones() as i32 - 8).sum()
}
