//! [`Arithmetic`] of both widths.

use super::ymm::Ymm;
use super::zmm::Zmm;
use crate::kernels::lanes::Lanes;
use crate::kernels::sixteen::{Arithmetic, MAGIC};
use core::arch::x86_64::*;

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
