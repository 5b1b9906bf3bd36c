//! Base-3 digits in bytes, as TQ1_0 and PTQ1_0 store them: a byte is `ceil(v * 256 / 243)` of the five-digit
//! number `v`, so that digit `n` is the integer part of `3 * frac(3^n * byte / 256)`. Every byte decodes.

const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// Digits minus 1. `out` is a whole number of times as long as `bytes`: digit `n` of byte `m` is `out[n * bytes + m]`.
#[inline(always)]
pub(super) fn unpack(bytes: &[u8], out: &mut [i8]) {
    for (out, power) in out.chunks_exact_mut(bytes.len()).zip(POWERS) {
        for (o, b) in out.iter_mut().zip(bytes) {
            *o = (u16::from(b.wrapping_mul(power)) * 3 >> 8) as i8 - 1;
        }
    }
}

/// The inverse, of digits 0..=2; a byte with fewer than five digits has zeros below.
pub(super) fn pack(codes: &[u8], bytes: &mut [u8]) {
    let width = bytes.len();
    for (m, b) in bytes.iter_mut().enumerate() {
        let digits = codes.iter().skip(m).step_by(width);
        let v: u16 = digits.zip(POWERS.iter().rev()).map(|(c, p)| u16::from(*c) * u16::from(*p)).sum();
        *b = (v * 256).div_ceil(243) as u8; // v <= 242
    }
}
