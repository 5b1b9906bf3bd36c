//! B1 (trill's own, BitNet b1.0): signs only on both sides, `w = alpha * sign`, one `alpha` for each row (output
//! channel).
//!
//! A row of `k` weights is `k / 8` bytes, bit `i % 8` of byte `i / 8` is weight `i` (1: +1, 0: -1), in blocks of 64
//! weights, and then the f32 `alpha`.
//!
//! `dot` (Sign): `((2 * popcount(xnor(w, x)) - k) as f32) * alpha`. The integer is the exact sum of the
//! products of signs, `|sum| <= k`.

use super::block::idot_signs;
use super::{ActKind, ActRow, BlockHealth, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "B1",
    ggml_id: Some(202),
    block: 64,
    bytes: 8,
    row_tail: 4,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Sign,
    decode,
    encode: Some(encode),
    dot,
    check,
};

/// Sign bits and `alpha`.
fn split(row: &[u8]) -> (&[u8], f32) {
    row.split_last_chunk::<4>().map_or((&[], 0.0), |(bits, alpha)| (bits, f32::from_le_bytes(*alpha)))
}

fn decode(row: &[u8], out: &mut [f32]) {
    let (bits, alpha) = split(row);
    for (i, o) in out.iter_mut().enumerate().take(bits.len() * 8) {
        *o = if bits[i / 8] >> (i % 8) & 1 == 1 { alpha } else { -alpha };
    }
}

/// `alpha` is the mean magnitude; 0 counts as positive.
fn encode(values: &[f32], row: &mut [u8]) {
    let Some((bits, alpha)) = row.split_last_chunk_mut::<4>() else { return };
    *alpha = mean_magnitude(values).to_le_bytes();
    for (b, v) in bits.iter_mut().zip(values.chunks(8)) {
        *b = sign_bits(v);
    }
}

fn dot(row: &[u8], act: ActRow<'_>) -> f32 {
    let (bits, alpha) = split(row);
    idot_signs(bits, act.q) as f32 * alpha
}

fn check(row: &[u8]) -> BlockHealth {
    let (_, alpha) = split(row);
    let (not_finite, zero) = (usize::from(!alpha.is_finite()), usize::from(alpha == 0.0));
    BlockHealth { blocks: 1, not_finite, zero, ..BlockHealth::default() }
}

/// The mean of `|v|`, summed in f64: exact if all magnitudes are equal.
pub(super) fn mean_magnitude(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
    (sum / values.len().max(1) as f64) as f32
}

/// Up to eight signs, the first in bit 0.
pub(super) fn sign_bits(values: &[f32]) -> u8 {
    values.iter().enumerate().fold(0, |bits, (i, v)| bits | u8::from(*v >= 0.0) << i)
}
