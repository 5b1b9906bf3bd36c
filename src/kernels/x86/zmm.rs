//! AVX-512: 16 rows at a time. Instructions: F, BW, VL, VBMI, VNNI.

use super::nibble_counts;
use crate::kernels::lanes::{Dot, Lanes, Rows};
use crate::kernels::sixteen::Sixteen;
use core::arch::asm;
use core::arch::x86_64::*;

/// Proof that the CPU has the instructions named above.
#[derive(Clone, Copy)]
pub(super) struct Zmm(());

impl Zmm {
    /// # Safety
    /// The CPU has the instructions named above.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Zmm(())
    }
}

/// Lane-wise operations of two vectors.
macro_rules! lane_wise {
    ($($name:ident = $intrinsic:ident),* $(,)?) => {$(
        #[inline(always)]
        fn $name(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: `self` proves the instructions.
            unsafe { $intrinsic(a, b) }
        }
    )*};
}

/// Lane-wise operations of two vectors of f32.
macro_rules! float_wise {
    ($($name:ident = $intrinsic:ident),* $(,)?) => {$(
        #[inline(always)]
        fn $name(self, a: __m512i, b: __m512i) -> __m512i {
            // SAFETY: `self` proves the instructions.
            unsafe { _mm512_castps_si512($intrinsic(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b))) }
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

/// Bytes times 2. The compiler does not look inside: it would turn a chain of triples into products with 9, 27, 81
/// and 243, for which there is no instruction on bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn double(a: __m512i) -> __m512i {
    let twice;
    // SAFETY: an addition of registers.
    unsafe {
        asm!("vpaddb {twice}, {a}, {a}", twice = lateout(zmm_reg) twice, a = in(zmm_reg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    twice
}

impl Lanes for Zmm {
    const N: usize = 16;
    const COLUMN_VECTORS: usize = 4;
    const WIDE: bool = true;
    const BIAS: i32 = 128;
    type V = __m512i;

    lane_wise!(
        and = _mm512_and_si512,
        or = _mm512_or_si512,
        xor = _mm512_xor_si512,
        add = _mm512_add_epi32,
        sub = _mm512_sub_epi32,
        mul = _mm512_mullo_epi32,
    );

    float_wise!(fadd = _mm512_add_ps, fsub = _mm512_sub_ps, fmul = _mm512_mul_ps, fdiv = _mm512_div_ps,);

    #[inline(always)]
    fn splat(self, v: u32) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_set1_epi32(v as i32) }
    }

    #[inline(always)]
    fn shr(self, a: __m512i, n: u32) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_srlv_epi32(a, _mm512_set1_epi32(n as i32)) }
    }

    #[inline(always)]
    fn sra(self, a: __m512i, n: u32) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_srav_epi32(a, _mm512_set1_epi32(n as i32)) }
    }

    #[inline(always)]
    fn triple(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_add_epi8(double(a), a) }
    }

    #[inline(always)]
    fn shl(self, a: __m512i, n: u32) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_sllv_epi32(a, _mm512_set1_epi32(n as i32)) }
    }

    #[inline(always)]
    fn float(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_castps_si512(_mm512_cvtepi32_ps(a)) }
    }

    #[inline(always)]
    fn half(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_castps_si512(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(a))) }
    }

    #[inline(always)]
    fn bits(self, a: __m512i, c: usize, place: u32) -> __m512i {
        // Byte i of a quadword becomes the 8 bits that start where its bit lies, less `place`.
        let byte = |i: u64| (32 * (i / 4) + 4 * c as u64 + i % 4).wrapping_sub(u64::from(place)) & 63;
        let control = (0..8).fold(0, |all, i| all | byte(i) << (8 * i));
        // SAFETY: `self` proves the instructions.
        unsafe {
            let bytes = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(control as i64), a);
            _mm512_and_si512(bytes, _mm512_set1_epi8((1u8 << place) as i8))
        }
    }

    #[inline(always)]
    fn crumbs(self, a: __m512i, c: usize) -> __m512i {
        let control = (0..8u64).fold(0, |all, i| all | (32 * (i / 4) + 8 * c as u64 + 2 * (i % 4)) << (8 * i));
        // SAFETY: `self` proves the instructions.
        unsafe {
            let bytes = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(control as i64), a);
            _mm512_and_si512(bytes, _mm512_set1_epi8(3))
        }
    }

    #[inline(always)]
    fn fields(self, a: __m512i, field: usize) -> __m512i {
        let n = 2 * field as i32;
        // SAFETY: `self` proves the instructions.
        unsafe {
            let by = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
            _mm512_srlv_epi32(a, _mm512_add_epi32(by, _mm512_set1_epi32(n)))
        }
    }

    #[inline(always)]
    fn thirds(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            // 3 * 86 and 3 * 171 are the first to reach 256 and 512.
            let (one, two) = (_mm512_set1_epi8(86), _mm512_set1_epi8(171u8 as i8));
            let ones = _mm512_maskz_set1_epi8(_mm512_cmpge_epu8_mask(a, one), 1);
            _mm512_mask_blend_epi8(_mm512_cmpge_epu8_mask(a, two), ones, _mm512_set1_epi8(2))
        }
    }

    #[inline(always)]
    fn lookup(self, a: __m512i, table: &[u8; 32]) -> __m512i {
        // SAFETY: `self` proves the instructions; the table is 32 bytes.
        unsafe {
            let table = _mm256_loadu_si256(table.as_ptr().cast());
            _mm512_permutexvar_epi8(a, _mm512_castsi256_si512(table))
        }
    }

    #[inline(always)]
    fn madd(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_dpwssd_epi32(acc, a, b) }
    }

    #[inline(always)]
    fn signed(self, codes: __m512i) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_xor_si512(codes, _mm512_set1_epi8(-128)) }
    }

    #[inline(always)]
    fn dot(self, part: __m512i, codes: __m512i, act: __m512i, how: Dot) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            if how == Dot::Signs {
                let (low, counts) = (_mm512_set1_epi8(15), _mm512_broadcast_i32x4(nibble_counts()));
                let x = _mm512_xor_si512(codes, act);
                let first = _mm512_shuffle_epi8(counts, _mm512_and_si512(x, low));
                let second = _mm512_shuffle_epi8(counts, _mm512_and_si512(_mm512_srli_epi32::<4>(x), low));
                return _mm512_dpbusd_epi32(part, _mm512_add_epi8(first, second), _mm512_set1_epi8(1));
            }
            _mm512_dpbusd_epi32(part, codes, act)
        }
    }

    #[inline(always)]
    fn close(self, part: __m512i, _: Dot) -> __m512i {
        part
    }

    #[inline(always)]
    fn pick(self, v: __m512i, index: __m512i) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_permutexvar_epi32(index, v) }
    }

    #[inline(always)]
    fn sum(self, v: __m512i) -> i32 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_reduce_add_epi32(v) }
    }

    #[inline(always)]
    unsafe fn broadcast(self, p: *const u8) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(self, at: Rows) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the rows.
        unsafe {
            let v = _mm512_castsi128_si512(four(at, 0));
            let v = _mm512_inserti32x4::<1>(v, four(at, 4));
            let v = _mm512_inserti32x4::<2>(v, four(at, 8));
            _mm512_inserti32x4::<3>(v, four(at, 12))
        }
    }

    #[inline(always)]
    unsafe fn load4(self, at: Rows) -> [__m512i; 4] {
        // SAFETY: `self` proves the instructions, the caller the rows.
        unsafe {
            let row = |r: usize| _mm_loadu_si128(at.row(r).cast());
            // Rows r, r + 4, r + 8, r + 12 in the four quarters; then each quarter is a 4 x 4 transpose.
            let rows = |r: usize| {
                let v = _mm512_castsi128_si512(row(r));
                let v = _mm512_inserti32x4::<1>(v, row(r + 4));
                let v = _mm512_inserti32x4::<2>(v, row(r + 8));
                _mm512_inserti32x4::<3>(v, row(r + 12))
            };
            let (a, b, c, d) = (rows(0), rows(1), rows(2), rows(3));
            let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab_low, cd_low),
                _mm512_unpackhi_epi64(ab_low, cd_low),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn sixteen(self, p: *const u8) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn bytes(self, p: *const u8) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn halves(self, p: *const u8) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_castps_si512(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))) }
    }

    #[inline(always)]
    unsafe fn get(self, p: *const f32) -> __m512i {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_castps_si512(_mm512_loadu_ps(p)) }
    }

    #[inline(always)]
    unsafe fn put(self, p: *mut f32, v: __m512i) {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_storeu_ps(p, _mm512_castsi512_ps(v)) }
    }

    #[inline(always)]
    unsafe fn columns(self, p: [*const u8; 4]) -> [__m512i; 4] {
        // SAFETY: `self` proves the instructions, the caller the addresses.
        unsafe {
            let [a, b, c, d] = each!(p in [p[0], p[1], p[2], p[3]] => _mm512_loadu_si512(p.cast()));
            let (ab_low, ab_high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
            [
                _mm512_unpacklo_epi16(ab_low, cd_low),
                _mm512_unpackhi_epi16(ab_low, cd_low),
                _mm512_unpacklo_epi16(ab_high, cd_high),
                _mm512_unpackhi_epi16(ab_high, cd_high),
            ]
        }
    }

    /// Each quarter of a vector comes from its own quarter of the columns.
    #[inline(always)]
    unsafe fn put_column(self, p: *mut f32, v: usize, value: __m512i) {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe {
            let put = |quarter: usize, part| _mm_storeu_ps(p.add(16 * quarter + 4 * v), _mm_castsi128_ps(part));
            put(0, _mm512_castsi512_si128(value));
            put(1, _mm512_extracti32x4_epi32::<1>(value));
            put(2, _mm512_extracti32x4_epi32::<2>(value));
            put(3, _mm512_extracti32x4_epi32::<3>(value));
        }
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}

impl Sixteen for Zmm {
    type V = __m512;
    const ROWS: usize = 4;
    const WIDENS: bool = true;

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_set1_ps(v) }
    }

    #[inline(always)]
    fn trees(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: `self` proves the instructions; the array has room.
        unsafe {
            // 16 -> 8: halves of two vectors side by side; 8 -> 4: quarters of four.
            let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
            let quarters = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
            // Within each quarter (c0 + c2) + (c1 + c3).
            let pairs = _mm512_add_ps(quarters, _mm512_shuffle_ps::<0b00_00_11_10>(quarters, quarters));
            let sums = _mm512_add_ps(pairs, _mm512_shuffle_ps::<0b01>(pairs, pairs));
            let first = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), sums);
            let mut out = [0f32; 4];
            _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(first));
            out
        }
    }

    #[inline(always)]
    fn mul_add(self, acc: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_add_ps(acc, _mm512_mul_ps(a, b)) }
    }

    #[inline(always)]
    unsafe fn load_f32(self, p: *const f32) -> __m512 {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u8) -> __m512 {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u8) -> __m512 {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> __m512 {
        // SAFETY: `self` proves the instructions, the caller the address.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_levels(
        self,
        p: *const u8,
        shift: usize,
        mask: i8,
        high: Option<[u8; 2]>,
        table: &[i8; 16],
    ) -> __m512 {
        // A register holds the table. Without `high` no mask is needed: of an index four bits count, and tables repeat.
        // SAFETY: `self` proves the instructions, the caller the addresses.
        unsafe {
            let float = |p: *const i8| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())));
            let table = float(table.as_ptr());
            let numbers = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let numbers = _mm512_srl_epi32(numbers, _mm_cvtsi32_si128(shift as i32));
            match high {
                None => _mm512_permutexvar_ps(numbers, table),
                Some(high) => {
                    let upper = _mm512_maskz_set1_epi32(u16::from_le_bytes(high), i32::from(mask) + 1);
                    let lower = _mm512_and_si512(numbers, _mm512_set1_epi32(i32::from(mask)));
                    _mm512_permutexvar_ps(_mm512_or_si512(lower, upper), table)
                }
            }
        }
    }

    #[inline(always)]
    fn array(self, v: __m512) -> [f32; 16] {
        let mut a = [0f32; 16];
        // SAFETY: `self` proves the instructions; the array has room.
        unsafe { _mm512_storeu_ps(a.as_mut_ptr(), v) };
        a
    }

    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        Lanes::prefetch(self, p);
    }
}
