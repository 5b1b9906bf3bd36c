//! Attention with rows unpacked 16 values at a time; all else is the shared code.

use core::arch::aarch64::*;

use crate::kernels::{KvRows, attend};
use crate::kv_cache::format::{Codes, RowFormat, scale_and_codes};

/// NEON is always there on aarch64.
#[derive(Clone, Copy)]
struct Neon;

/// Sixteen signed bytes to f32.
#[inline(always)]
fn widen(v: int8x16_t, out: &mut [f32; 16]) {
    // SAFETY: registers, and 16 values of room.
    unsafe {
        let (low, high) = (vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v));
        let quarters =
            [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)];
        for (i, quarter) in quarters.into_iter().enumerate() {
            vst1q_f32(out.as_mut_ptr().add(4 * i), vcvtq_f32_s32(quarter));
        }
    }
}

impl attend::Unpack for Neon {
    #[inline(always)]
    fn codes<F: RowFormat>(self, row: &[u8], out: &mut [f32]) -> f32 {
        let per_byte = match F::CODES {
            Codes::Half => return F::load(row, out),
            Codes::Int8 => 1,
            Codes::Levels { per_byte, .. } => per_byte,
        };
        if !out.len().is_multiple_of(16 * per_byte) {
            return F::load(row, out);
        }
        let (d, codes) = scale_and_codes(row);
        let low = out.len() / per_byte;
        let (codes, high) = codes.split_at(low);
        let codes = codes.as_chunks::<16>().0;
        // A group of bits at a time: nothing is divided.
        for (group, out) in out.chunks_exact_mut(low).enumerate() {
            for (i, (out, codes)) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes).enumerate() {
                // SAFETY: registers, and 16 bytes of codes.
                unsafe {
                    let v = vld1q_u8(codes.as_ptr());
                    match F::CODES {
                        Codes::Levels { per_byte, apart, table } => {
                            let bits = 8 / per_byte;
                            let v = vshlq_u8(v, vdupq_n_s8(-((group * bits) as i8)));
                            let mut v = vandq_u8(v, vdupq_n_u8((1 << bits) - 1));
                            if apart {
                                let at = group * low / 8 + 2 * i;
                                let eights = vcombine_u8(vdup_n_u8(high[at]), vdup_n_u8(high[at + 1]));
                                let bit = vdupq_n_u64(u64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
                                let set = vtstq_u8(eights, vreinterpretq_u8_u64(bit));
                                v = vorrq_u8(v, vandq_u8(set, vdupq_n_u8(1 << bits)));
                            }
                            widen(vqtbl1q_s8(vld1q_s8(table.as_ptr()), v), out);
                        }
                        _ => widen(vreinterpretq_s8_u8(v), out),
                    }
                }
            }
        }
        d
    }
}

#[target_feature(enable = "neon")]
pub(super) fn scores<F: RowFormat>(q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) {
    attend::scores::<_, F>(Neon, q, head_dim, k, scale, out);
}

#[target_feature(enable = "neon")]
pub(super) fn mix<F: RowFormat>(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) {
    attend::mix::<_, F>(Neon, weights, head_dim, v, out);
}
