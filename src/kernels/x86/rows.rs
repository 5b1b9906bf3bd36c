//! Float operations on rows of activations, sixteen values at a time: the same operations in the same order as in
//! [`crate::kernels::float`], which the compiler does not vectorise where the program is linked for size.

use super::floats::Sixteen;
use super::ymm::Ymm;
use super::zmm::Zmm;
use crate::kernels::float;
use crate::kernels::lanes::Lanes;
use crate::numeric::tree16;
use core::arch::x86_64::*;

/// 1.5 * 2^23: adding it rounds to an integer, see [`crate::numeric::round_even`].
const MAGIC: f32 = 12_582_912.0;

/// Element-wise arithmetic on [`Sixteen`] values.
pub(super) trait Arithmetic: Sixteen {
    /// Sixteen i32.
    type I: Copy;

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// `a` where `x >= limit` or either is NaN, else 0.
    fn unless_below(self, a: Self::V, x: Self::V, limit: Self::V) -> Self::V;
    /// See [`crate::numeric::round_even`].
    fn round(self, a: Self::V) -> Self::I;
    fn float(self, a: Self::I) -> Self::V;
    /// `2^half` and `2^(a - half)` where `half = a >> 1`.
    fn powers(self, a: Self::I) -> [Self::V; 2];
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    fn zero_int(self) -> Self::I;
    fn clamp_int(self, a: Self::I, least: i32) -> Self::I;
    fn sum_int(self, a: Self::I) -> i32;
    /// Writes values of -128 to 127.
    /// # Safety
    /// `p` has room for 16.
    unsafe fn put_i8(self, p: *mut i8, a: Self::I);
    /// # Safety
    /// `p` has room for 16 values.
    unsafe fn put_f32(self, p: *mut f32, v: Self::V);
}

/// The 16 values at the start of `x`.
#[inline(always)]
fn get<S: Arithmetic>(s: S, x: &[f32; 16]) -> S::V {
    // SAFETY: the array holds 16 values.
    unsafe { s.load_f32(x.as_ptr()) }
}

#[inline(always)]
fn put<S: Arithmetic>(s: S, x: &mut [f32; 16], v: S::V) {
    // SAFETY: the array holds 16 values.
    unsafe { s.put_f32(x.as_mut_ptr(), v) }
}

/// The largest of 16 values, none of them NaN, and `least`.
#[inline(always)]
fn largest<S: Arithmetic>(s: S, v: S::V, least: f32) -> f32 {
    s.array(v).iter().fold(least, |a, &b| if b > a { b } else { a })
}

#[inline(always)]
fn abs_max<S: Arithmetic>(s: S, x: &[[f32; 16]]) -> f32 {
    let mut m = s.zero();
    for c in x {
        m = s.max(s.abs(get(s, c)), m);
    }
    largest(s, m, 0.0)
}

/// `x * scale` rounded to int8, not below `least`; returns the sums of the codes.
#[inline(always)]
fn codes<S: Arithmetic>(s: S, x: &[[f32; 16]], q: &mut [[i8; 16]], scale: f32, least: i32) -> S::I {
    let (scale, mut sum) = (s.splat(scale), s.zero_int());
    for (x, q) in x.iter().zip(q) {
        let code = s.clamp_int(s.round(s.mul(get(s, x), scale)), least);
        // SAFETY: the array has room for 16.
        unsafe { s.put_i8(q.as_mut_ptr(), code) };
        sum = s.add_int(sum, code);
    }
    sum
}

/// See [`crate::quant::ActKind::Row`].
#[inline(always)]
pub(super) fn quantize_row<S: Arithmetic>(s: S, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) -> i32 {
    let (chunks, rest) = x.as_chunks::<16>();
    if !rest.is_empty() {
        return float::quantize_row(x, q, d, sums);
    }
    let amax = f64::from(abs_max(s, chunks));
    d[0] = (127.0 / if amax > 1e-5 { amax } else { 1e-5 }) as f32;
    s.sum_int(codes(s, chunks, q.as_chunks_mut().0, d[0], -128))
}

/// See [`crate::quant::ActKind::Block32`].
#[inline(always)]
pub(super) fn quantize_block32<S: Arithmetic>(s: S, x: &[f32], q: &mut [i8], d: &mut [f32], bsums: &mut [i16]) -> i32 {
    if !x.len().is_multiple_of(32) {
        return float::quantize_block32(x, q, d, bsums);
    }
    let mut total = 0;
    for (((x, q), d), bsum) in x.chunks_exact(32).zip(q.chunks_exact_mut(32)).zip(d).zip(bsums) {
        let x = x.as_chunks().0;
        let amax = abs_max(s, x);
        let id = if amax > 0.0 { 127.0 / amax } else { 0.0 };
        let sum = s.sum_int(codes(s, x, q.as_chunks_mut().0, id, -127));
        *d = amax / 127.0;
        *bsum = sum as i16; // |sum| <= 32 * 127
        total += sum;
    }
    total
}

/// See [`crate::kernels::RmsNormFn`].
#[inline(always)]
pub(super) fn rmsnorm<S: Arithmetic>(s: S, x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    let (chunks, rest) = x.as_chunks::<16>();
    if !rest.is_empty() {
        return float::rmsnorm(x, w, eps, out);
    }
    let mut acc = s.zero();
    for c in chunks {
        let v = get(s, c);
        acc = s.mul_add(acc, v, v);
    }
    let mean = tree16(&s.array(acc)) / x.len() as f32;
    let scale = s.splat(1.0 / libm::sqrtf(mean + eps));
    for ((o, x), w) in out.as_chunks_mut().0.iter_mut().zip(chunks).zip(w.as_chunks().0) {
        put(s, o, s.mul(s.mul(get(s, x), scale), get(s, w)));
    }
}

/// See [`crate::numeric::exp`].
#[inline(always)]
fn exp<S: Arithmetic>(s: S, x: S::V) -> S::V {
    let least = s.splat(-87.3);
    let clamped = s.min(s.splat(88.7), s.max(least, x));
    let n = s.round(s.mul(clamped, s.splat(core::f32::consts::LOG2_E)));
    let nf = s.float(n);
    let r = s.sub(s.sub(clamped, s.mul(nf, s.splat(0.693_359_4))), s.mul(nf, s.splat(-2.121_944_4e-4)));
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = s.add(s.mul(p, r), s.splat(c));
    }
    let y = s.add(s.add(s.mul(p, s.mul(r, r)), r), s.splat(1.0));
    let [half, other] = s.powers(n);
    s.unless_below(s.mul(s.mul(y, half), other), x, least)
}

/// SiLU gate.
#[inline(always)]
pub(super) fn silu_mul<S: Arithmetic>(s: S, gate: &mut [f32], up: &[f32]) {
    let (chunks, rest) = gate.as_chunks_mut::<16>();
    let (ups, up_rest) = up.as_chunks::<16>();
    for (g, u) in chunks.iter_mut().zip(ups) {
        let v = get(s, g);
        let e = exp(s, s.mul(v, s.splat(-1.0)));
        put(s, g, s.mul(s.div(v, s.add(s.splat(1.0), e)), get(s, u)));
    }
    float::silu_mul(rest, up_rest);
}

/// See [`crate::kernels::SoftmaxFn`].
#[inline(always)]
pub(super) fn softmax<S: Arithmetic>(s: S, scores: &mut [f32]) -> f32 {
    let (chunks, rest) = scores.as_chunks_mut::<16>();
    let mut m = s.splat(f32::NEG_INFINITY);
    for c in chunks.iter() {
        m = s.max(get(s, c), m);
    }
    let max = rest.iter().fold(largest(s, m, f32::NEG_INFINITY), |a, &b| if b > a { b } else { a });
    let mut acc = s.zero();
    for c in chunks {
        let e = exp(s, s.sub(get(s, c), s.splat(max)));
        put(s, c, e);
        acc = s.add(acc, e);
    }
    let mut acc = s.array(acc);
    for (acc, v) in acc.iter_mut().zip(rest) {
        *v = crate::numeric::exp(*v - max);
        *acc += *v;
    }
    1.0 / tree16(&acc)
}

/// Defines methods that are one intrinsic each.
macro_rules! intrinsics {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: `self` proves the instructions.
            unsafe { $body }
        }
    )*};
}

impl Arithmetic for Zmm {
    type I = __m512i;

    intrinsics! {
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        unless_below(a: __m512, x: __m512, limit: __m512) -> __m512 =
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, limit), a);
        round(a: __m512) -> __m512i = {
            let magic = _mm512_set1_ps(MAGIC);
            _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(a, magic)), _mm512_castps_si512(magic))
        };
        float(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        powers(a: __m512i) -> [__m512; 2] = {
            let half = _mm512_srai_epi32::<1>(a);
            each!(n in [half, _mm512_sub_epi32(a, half)] =>
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(n, _mm512_set1_epi32(127)))))
        };
        add_int(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        zero_int() -> __m512i = _mm512_setzero_si512();
        clamp_int(a: __m512i, least: i32) -> __m512i =
            _mm512_min_epi32(_mm512_max_epi32(a, _mm512_set1_epi32(least)), _mm512_set1_epi32(127));
        sum_int(a: __m512i) -> i32 = _mm512_reduce_add_epi32(a);
    }

    #[inline(always)]
    unsafe fn put_i8(self, p: *mut i8, a: __m512i) {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(a)) }
    }

    #[inline(always)]
    unsafe fn put_f32(self, p: *mut f32, v: __m512) {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_storeu_ps(p, v) }
    }
}

impl<const VNNI: bool> Arithmetic for Ymm<VNNI> {
    type I = [__m256i; 2];

    intrinsics! {
        add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])];
        sub(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])];
        mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])];
        div(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])];
        max(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])];
        min(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] = [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])];
        abs(a: [__m256; 2]) -> [__m256; 2] = each!(a in [a[0], a[1]] => _mm256_andnot_ps(_mm256_set1_ps(-0.0), a));
        unless_below(a: [__m256; 2], x: [__m256; 2], limit: [__m256; 2]) -> [__m256; 2] = [
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x[0], limit[0]), a[0]),
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x[1], limit[1]), a[1]),
        ];
        round(a: [__m256; 2]) -> [__m256i; 2] = {
            let magic = _mm256_set1_ps(MAGIC);
            each!(a in [a[0], a[1]] =>
                _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(a, magic)), _mm256_castps_si256(magic)))
        };
        float(a: [__m256i; 2]) -> [__m256; 2] = [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])];
        powers(a: [__m256i; 2]) -> [[__m256; 2]; 2] = {
            let half = [_mm256_srai_epi32::<1>(a[0]), _mm256_srai_epi32::<1>(a[1])];
            let other = [_mm256_sub_epi32(a[0], half[0]), _mm256_sub_epi32(a[1], half[1])];
            each!(n in [half, other] => each!(n in [n[0], n[1]] =>
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))))))
        };
        add_int(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] =
            [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])];
        zero_int() -> [__m256i; 2] = [_mm256_setzero_si256(); 2];
        clamp_int(a: [__m256i; 2], least: i32) -> [__m256i; 2] =
            each!(a in [a[0], a[1]] =>
                _mm256_min_epi32(_mm256_max_epi32(a, _mm256_set1_epi32(least)), _mm256_set1_epi32(127)));
    }

    #[inline(always)]
    fn sum_int(self, a: [__m256i; 2]) -> i32 {
        Lanes::sum(self, Lanes::add(self, a[0], a[1]))
    }

    #[inline(always)]
    unsafe fn put_i8(self, p: *mut i8, a: [__m256i; 2]) {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe {
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a[0], a[1]));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn put_f32(self, p: *mut f32, v: [__m256; 2]) {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
}
