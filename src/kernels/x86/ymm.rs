//! AVX2 with F16C, with or without AVX-VNNI: 8 rows at a time.

use super::{levels, nibble_counts};
use crate::kernels::lanes::{Dot, Lanes, Rows};
use crate::kernels::sixteen::Sixteen;
use core::arch::asm;
use core::arch::x86_64::*;

/// Proof that the CPU has AVX2 and F16C, and AVX-VNNI if so said.
#[derive(Clone, Copy)]
pub(super) struct Ymm<const VNNI: bool>(());

impl<const VNNI: bool> Ymm<VNNI> {
    /// # Safety
    /// The CPU has those instructions.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Ymm(())
    }
}

/// Lane-wise operations of two vectors.
macro_rules! lane_wise {
    ($($name:ident = $intrinsic:ident),* $(,)?) => {$(
        #[inline(always)]
        fn $name(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: `self` proves the instructions.
            unsafe { $intrinsic(a, b) }
        }
    )*};
}

/// Lane-wise operations of two vectors of f32.
macro_rules! float_wise {
    ($($name:ident = $intrinsic:ident),* $(,)?) => {$(
        #[inline(always)]
        fn $name(self, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: `self` proves the instructions.
            unsafe { _mm256_castps_si256($intrinsic(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b))) }
        }
    )*};
}

/// Four rows' first dwords, rows `r .. r + 4`.
///
/// # Safety
/// The rows hold 4 bytes.
#[inline(always)]
unsafe fn four(at: Rows, r: usize) -> __m128i {
    // SAFETY: by contract; SSE2 is always there.
    unsafe {
        let d = |i| at.row(r + i).cast::<i32>().read_unaligned();
        _mm_setr_epi32(d(0), d(1), d(2), d(3))
    }
}

/// Bytes times 2, hidden from the compiler: see `zmm`.
#[inline]
#[target_feature(enable = "avx2")]
fn double(a: __m256i) -> __m256i {
    let twice;
    // SAFETY: an addition of registers.
    unsafe {
        asm!("vpaddb {twice}, {a}, {a}", twice = lateout(ymm_reg) twice, a = in(ymm_reg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    twice
}

impl<const VNNI: bool> Lanes for Ymm<VNNI> {
    const N: usize = 8;
    const COLUMN_VECTORS: usize = 2;
    const WIDE: bool = VNNI;
    const BIAS: i32 = if VNNI { 128 } else { 0 };
    type V = __m256i;

    lane_wise!(
        and = _mm256_and_si256,
        or = _mm256_or_si256,
        xor = _mm256_xor_si256,
        add = _mm256_add_epi32,
        sub = _mm256_sub_epi32,
        mul = _mm256_mullo_epi32,
    );

    float_wise!(fadd = _mm256_add_ps, fsub = _mm256_sub_ps, fmul = _mm256_mul_ps, fdiv = _mm256_div_ps,);

    #[inline(always)]
    fn splat(self, v: u32) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_set1_epi32(v as i32) }
    }

    #[inline(always)]
    fn shr(self, a: __m256i, n: u32) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_srlv_epi32(a, _mm256_set1_epi32(n as i32)) }
    }

    #[inline(always)]
    fn sra(self, a: __m256i, n: u32) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_srav_epi32(a, _mm256_set1_epi32(n as i32)) }
    }

    #[inline(always)]
    fn triple(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_add_epi8(double(a), a) }
    }

    #[inline(always)]
    fn shl(self, a: __m256i, n: u32) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_sllv_epi32(a, _mm256_set1_epi32(n as i32)) }
    }

    #[inline(always)]
    fn float(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_castps_si256(_mm256_cvtepi32_ps(a)) }
    }

    #[inline(always)]
    fn half(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(low, low));
            _mm256_castps_si256(_mm256_cvtph_ps(_mm256_castsi256_si128(packed)))
        }
    }

    #[inline(always)]
    fn bits(self, a: __m256i, c: usize, place: u32) -> __m256i {
        let byte = 0x0101_0101 * (c / 2) as i32;
        // SAFETY: `self` proves the instructions.
        unsafe {
            let bits = _mm_setr_epi32(byte, byte + 0x0404_0404, byte + 0x0808_0808, byte + 0x0c0c_0c0c);
            let bytes = _mm256_shuffle_epi8(a, _mm256_set_m128i(bits, bits));
            let each = _mm256_set1_epi32(if c.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010u32 as i32 });
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, each), each);
            _mm256_and_si256(set, _mm256_set1_epi8((1u8 << place) as i8))
        }
    }

    #[inline(always)]
    fn crumbs(self, a: __m256i, c: usize) -> __m256i {
        // Each byte of a lane gets byte c, keeps its own field, moves it to the low nibble, then to bit 0.
        let byte = 0x0101_0101 * c as i32;
        // SAFETY: `self` proves the instructions.
        unsafe {
            let bytes = _mm_setr_epi32(byte, byte + 0x0404_0404, byte + 0x0808_0808, byte + 0x0c0c_0c0c);
            let low = _mm_setr_epi8(0, 1, 2, 3, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0);
            let four = _mm256_shuffle_epi8(a, _mm256_set_m128i(bytes, bytes));
            let own = _mm256_and_si256(four, _mm256_set1_epi32(0xc030_0c03u32 as i32));
            let near = _mm256_or_si256(own, _mm256_srli_epi32::<4>(own));
            _mm256_shuffle_epi8(_mm256_set_m128i(low, low), _mm256_and_si256(near, _mm256_set1_epi8(15)))
        }
    }

    #[inline(always)]
    fn fields(self, a: __m256i, field: usize) -> __m256i {
        let (low, high) = (2 * field as i64 * 0x1_0000_0001, (2 * field as i64 + 2) * 0x1_0000_0001);
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_srlv_epi32(a, _mm256_setr_epi64x(low, low, high, high)) }
    }

    #[inline(always)]
    fn thirds(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            // 3 * 86 and 3 * 171 are the first to reach 256 and 512. A comparison that holds is -1.
            let reaches = |v: u8| _mm256_cmpeq_epi8(_mm256_max_epu8(a, _mm256_set1_epi8(v as i8)), a);
            _mm256_abs_epi8(_mm256_add_epi8(reaches(86), reaches(171)))
        }
    }

    #[inline(always)]
    fn lookup(self, a: __m256i, table: &[u8; 32]) -> __m256i {
        // SAFETY: `self` proves the instructions; the table is 32 bytes.
        unsafe {
            let half = |i: usize| _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16 * i).cast()));
            let (low, high) = (_mm256_shuffle_epi8(half(0), a), _mm256_shuffle_epi8(half(1), a));
            // Bit 4 chooses, at bit 7.
            _mm256_blendv_epi8(low, high, _mm256_slli_epi32::<3>(a))
        }
    }

    #[inline(always)]
    fn madd(self, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)) }
    }

    #[inline(always)]
    fn signed(self, codes: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        if VNNI { unsafe { _mm256_xor_si256(codes, _mm256_set1_epi8(-128)) } } else { codes }
    }

    #[inline(always)]
    fn dot(self, part: __m256i, codes: __m256i, act: __m256i, how: Dot) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            match how {
                Dot::Signs => {
                    let (low, counts) = (_mm256_set1_epi8(15), _mm256_broadcastsi128_si256(nibble_counts()));
                    let x = _mm256_xor_si256(codes, act);
                    let first = _mm256_shuffle_epi8(counts, _mm256_and_si256(x, low));
                    let second = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi32::<4>(x), low));
                    let pairs = _mm256_maddubs_epi16(_mm256_add_epi8(first, second), _mm256_set1_epi8(1));
                    _mm256_add_epi32(part, _mm256_madd_epi16(pairs, ones))
                }
                _ if VNNI => _mm256_dpbusd_avx_epi32(part, codes, act),
                Dot::Narrow => _mm256_add_epi16(part, _mm256_maddubs_epi16(codes, act)),
                Dot::Wide => _mm256_add_epi32(part, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, act), ones)),
                // The code's sign moves to the activation: 2 * 128 * 127 fits.
                Dot::Signed => {
                    let (codes, act) = (_mm256_abs_epi8(codes), _mm256_sign_epi8(act, codes));
                    _mm256_add_epi32(part, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, act), ones))
                }
            }
        }
    }

    #[inline(always)]
    fn close(self, part: __m256i, how: Dot) -> __m256i {
        match how {
            // SAFETY: `self` proves the instructions.
            Dot::Narrow if !VNNI => unsafe { _mm256_madd_epi16(part, _mm256_set1_epi16(1)) },
            _ => part,
        }
    }

    #[inline(always)]
    fn pick(self, v: __m256i, index: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_permutevar8x32_epi32(v, index) }
    }

    #[inline(always)]
    fn sum(self, v: __m256i) -> i32 {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b1110>(v));
            _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b01>(v)))
        }
    }

    #[inline(always)]
    unsafe fn broadcast(self, p: *const u8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(self, at: Rows) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the rows.
        unsafe { _mm256_set_m128i(four(at, 4), four(at, 0)) }
    }

    #[inline(always)]
    unsafe fn load4(self, at: Rows) -> [__m256i; 4] {
        // SAFETY: `self` proves the instructions, the caller the rows.
        unsafe {
            let row = |r: usize| _mm_loadu_si128(at.row(r).cast());
            // Rows r and r + 4 in the two halves; then each half is a 4 x 4 transpose.
            let rows = |r: usize| _mm256_set_m128i(row(r + 4), row(r));
            let (a, b, c, d) = (rows(0), rows(1), rows(2), rows(3));
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn sixteen(self, p: *const u8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn bytes(self, p: *const u8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())) }
    }

    #[inline(always)]
    unsafe fn halves(self, p: *const u8) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128(p.cast()))) }
    }

    #[inline(always)]
    unsafe fn get(self, p: *const f32) -> __m256i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm256_castps_si256(_mm256_loadu_ps(p)) }
    }

    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: __m256i) {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm256_storeu_ps(p, _mm256_castsi256_ps(v)) }
    }

    #[inline(always)]
    unsafe fn columns(self, p: [*const u8; 4]) -> [__m256i; 4] {
        // SAFETY: `self` proves the instructions, the caller the addresses.
        unsafe {
            let [a, b, c, d] = each!(p in [p[0], p[1], p[2], p[3]] => _mm_loadu_si128(p.cast()));
            let (ab_low, ab_high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
            let (cd_low, cd_high) = (_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d));
            let low = _mm256_set_m128i(_mm_unpackhi_epi16(ab_low, cd_low), _mm_unpacklo_epi16(ab_low, cd_low));
            let high = _mm256_set_m128i(_mm_unpackhi_epi16(ab_high, cd_high), _mm_unpacklo_epi16(ab_high, cd_high));
            [low, high, low, high]
        }
    }

    #[inline(always)]
    unsafe fn put_column(self, p: *mut f32, v: usize, value: __m256i) {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm256_storeu_si256(p.add(8 * v).cast(), value) }
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}

/// 16 accumulators to 8 to 4, in the canonical order.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn four_of(v: [__m256; 2]) -> __m128 {
    // SAFETY: by contract.
    unsafe {
        let v = _mm256_add_ps(v[0], v[1]);
        _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v))
    }
}

/// Sixteen signed bytes as f32.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn widen(bytes: __m128i) -> [__m256; 2] {
    // SAFETY: by contract.
    unsafe { each!(v in [bytes, _mm_unpackhi_epi64(bytes, bytes)] => _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v))) }
}

impl<const VNNI: bool> Sixteen for Ymm<VNNI> {
    type V = [__m256; 2];
    const ROWS: usize = 2;
    const WIDENS: bool = true;

    #[inline(always)]
    fn zero(self) -> [__m256; 2] {
        // SAFETY: `self` proves the instructions.
        unsafe { [_mm256_setzero_ps(); 2] }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> [__m256; 2] {
        // SAFETY: `self` proves the instructions.
        unsafe { [_mm256_set1_ps(v); 2] }
    }

    #[inline(always)]
    fn trees(self, [a, b, c, d]: [[__m256; 2]; 4]) -> [f32; 4] {
        // SAFETY: `self` proves the instructions; the array has room.
        unsafe {
            // 16 -> 8 -> 4, then (c0 + c2) + (c1 + c3) of all four at once, transposed.
            let (a, b, c, d) = (four_of(a), four_of(b), four_of(c), four_of(d));
            let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
            let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
            let even = _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movelh_ps(ab_high, cd_high));
            let odd = _mm_add_ps(_mm_movehl_ps(cd, ab), _mm_movehl_ps(cd_high, ab_high));
            let mut out = [0f32; 4];
            _mm_storeu_ps(out.as_mut_ptr(), _mm_add_ps(even, odd));
            out
        }
    }

    #[inline(always)]
    fn mul_add(self, acc: [__m256; 2], a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves the instructions.
        unsafe { [_mm256_add_ps(acc[0], _mm256_mul_ps(a[0], b[0])), _mm256_add_ps(acc[1], _mm256_mul_ps(a[1], b[1]))] }
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> [__m256; 2] {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> [__m256; 2] {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(16).cast()))] }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u8) -> [__m256; 2] {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe {
            let wide = [_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(16).cast())];
            let wide = [_mm256_cvtepu16_epi32(wide[0]), _mm256_cvtepu16_epi32(wide[1])];
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide[0])),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide[1])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> [__m256; 2] {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { widen(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn load_levels(
        self,
        p: *const u8,
        shift: usize,
        mask: i8,
        high: Option<[u8; 2]>,
        table: &[i8; 16],
    ) -> [__m256; 2] {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { widen(levels(p, shift, mask, high, table)) }
    }

    #[inline(always)]
    fn array(self, v: [__m256; 2]) -> [f32; 16] {
        let mut a = [0f32; 16];
        // SAFETY: `self` proves the instructions; the array has room.
        unsafe {
            _mm256_storeu_ps(a.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(a.as_mut_ptr().add(8), v[1]);
        }
        a
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        Lanes::prefetch(self, p);
    }
}
