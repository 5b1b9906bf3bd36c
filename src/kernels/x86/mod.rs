//! x86-64 levels: sets of instructions ([`ymm`], [`zmm`]) for the shared [`super::lanes`].

use super::Kernels;
use core::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_cvtsi64_si128, _mm_loadu_si128, _mm_or_si128, _mm_set_epi64x,
    _mm_set1_epi8, _mm_set1_epi64x, _mm_setr_epi8, _mm_shuffle_epi8, _mm_srl_epi16,
};

/// The array of what the body gives for each value. `array::map` would be a function of its own without the level's
/// features, which calls one for each instruction.
macro_rules! each {
    ($v:ident in [$($x:expr),*] => $body:expr) => {
        [$({
            let $v = $x;
            $body
        }),*]
    };
}

mod arithmetic;
mod ymm;
mod zmm;

/// Set bits of the numbers 0 to 15.
#[inline(always)]
fn nibble_counts() -> __m128i {
    // SAFETY: SSE2 is always there.
    unsafe { _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4) }
}

/// Defines `TABLE`: the given table with this level's functions for the float types and those of [`super::lanes`], whose
/// tiles are of so many tokens at most.
macro_rules! level {
    ($features:literal, $token:ty, $base:expr, $($tokens:literal)*; $($ty:ident)*) => {
        /// This level's tiles of `V` vectors.
        const fn tiles<F: Style, const V: usize>() -> gemm::Tiles<$token> {
            #[target_feature(enable = $features)]
            fn tile<F: Style, const V: usize, const T: usize>(p: &gemm::Panel<$token>, job: &gemm::Job<'_>, t: usize) {
                // SAFETY: the features are enabled here; the panel and the job are those of `TileFn`.
                unsafe { gemm::tile::<$token, F, V, T>(<$token>::new(), p, job, t) }
            }
            gemm::Tiles { vectors: V, by_tokens: &[$(tile::<F, V, $tokens>),*] }
        }

        /// Those of four vectors of rows and of one.
        const fn two<F: Style>() -> [gemm::Tiles<$token>; 2] {
            [tiles::<F, 4>(), tiles::<F, 1>()]
        }

        pub(super) const TABLE: Kernels = level!(
            table $features, $token, $base;
            weights::rows: F32(), F16(), BF16();
            packed::rows: T2(tiles::<<packed::T2 as Unpack>::Style, 4>()),
                T3(tiles::<<packed::T3 as Unpack>::Style, 5>()),
                S2(tiles::<<packed::S2 as Unpack>::Style, 4>());
            lanes::rows: $($ty(two::<<lanes::$ty as Unpack>::Style>())),*;
            apart::rows: T3R(two::<<apart::T3R as Apart>::Style>()),
                T3C(two::<<apart::T3C as Apart>::Style>());
            interleaved::rows: Q1_0_R32(), Q2_0_R16(), Q2_0_G128_R16(), TQ2_0_R16()
        ).with_listed(listed::<apart::T3R>, listed::<apart::T3C>);

        #[target_feature(enable = $features)]
        fn listed<A: Apart>(w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
            // SAFETY: the features are enabled here; the shapes are those of `ListedFn`.
            unsafe { A::listed(<$token>::new(), w, list, acts, out) }
        }
    };
    (table $features:literal, $token:ty, $base:expr; $($room:ident::rows: $($ty:ident($($tiles:expr)?)),*);*) => {
        $base$($(.with(QuantType::$ty, {
            #[target_feature(enable = $features)]
            fn rows(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
                // SAFETY: the features are enabled here; the shapes are those of `RowsFn`.
                unsafe { $room::rows::<_, $room::$ty>(<$token>::new(), w, acts, out $(, $tiles)?) }
            }
            rows
        }))*)*
    };
}

/// Sixteen bytes `table[p[i] >> shift & mask]`; where bit `i` of `high` is set, the index is `mask + 1` more.
///
/// # Safety
/// The CPU has AVX2, `p` holds 16 bytes, and the indices are below 16.
#[inline(always)]
unsafe fn levels(p: *const u8, shift: usize, mask: i8, high: Option<[u8; 2]>, table: &[i8; 16]) -> __m128i {
    // SAFETY: by contract.
    unsafe {
        let v = _mm_srl_epi16(_mm_loadu_si128(p.cast()), _mm_cvtsi64_si128(shift as i64));
        let mut index = _mm_and_si128(v, _mm_set1_epi8(mask));
        if let Some(high) = high {
            let eight = |byte: u8| i64::from_le_bytes([byte; 8]);
            let bit = _mm_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
            let set = _mm_cmpeq_epi8(_mm_and_si128(_mm_set_epi64x(eight(high[1]), eight(high[0])), bit), bit);
            index = _mm_or_si128(index, _mm_and_si128(set, _mm_set1_epi8(mask + 1)));
        }
        _mm_shuffle_epi8(_mm_loadu_si128(table.as_ptr().cast()), index)
    }
}

mod avx2 {
    use super::ymm::Ymm;
    use crate::kernels::{
        Kernels, lanes,
        lanes::{Style, Unpack, apart, apart::Apart, gemm, interleaved, packed},
        scalar::BASE,
        sixteen::weights,
    };
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    float_kernels!("avx2,f16c");
    float_level!("avx2,f16c", Ymm<false>);
    const START: Kernels = Kernels { name: "avx2", float: FLOATS, ..BASE };
    lanes::lane_types!(level; "avx2,f16c", Ymm<false>, START, 1 2);
}

mod avx_vnni {
    use super::{avx2::FLOATS, ymm::Ymm};
    use crate::kernels::{
        Kernels, lanes,
        lanes::{Style, Unpack, apart, apart::Apart, gemm, interleaved, packed},
        scalar::BASE,
        sixteen::weights,
    };
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    const START: Kernels = Kernels { name: "avx-vnni", float: FLOATS, ..BASE };
    lanes::lane_types!(level; "avx2,f16c,avxvnni", Ymm<true>, START, 1 2);
}

mod avx512 {
    use super::zmm::Zmm;
    use crate::kernels::{
        Kernels, lanes,
        lanes::{Style, Unpack, apart, apart::Apart, gemm, interleaved, packed},
        scalar::BASE,
        sixteen::weights,
    };
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    float_kernels!("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c");
    float_level!("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c", Zmm);
    const START: Kernels = Kernels { name: "avx512-vnni", float: FLOATS, ..BASE };
    lanes::lane_types!(level; "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c", Zmm, START, 1 2 3);
}

pub(super) static AVX2: Kernels = avx2::TABLE;
pub(super) static AVX_VNNI: Kernels = avx_vnni::TABLE;
pub(super) static AVX512_VNNI: Kernels = avx512::TABLE;
