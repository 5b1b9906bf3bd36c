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

mod attend;
mod floats;
mod rows;
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
            floats::rows: F32(), F16(), BF16();
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

/// Defines `FLOATS`: [`BASE`](super::scalar::BASE) with this level's float operations.
macro_rules! float_level {
    ($features:literal, $token:ty, $name:literal) => {
        mod attention {
            use super::*;
            use crate::kernels::KvRows;
            use crate::kernels::x86::attend;
            use crate::kv_cache::format::RowFormat;

            #[target_feature(enable = $features)]
            pub(super) fn scores<F: RowFormat>(
                q: &[f32],
                head_dim: usize,
                k: &KvRows<'_>,
                scale: f32,
                out: &mut [f32],
            ) {
                // SAFETY: the features are enabled here.
                attend::scores::<_, F>(unsafe { <$token>::new() }, q, head_dim, k, scale, out);
            }
            #[target_feature(enable = $features)]
            pub(super) fn mix<F: RowFormat>(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) {
                // SAFETY: the features are enabled here.
                attend::mix::<_, F>(unsafe { <$token>::new() }, weights, head_dim, v, out);
            }
        }

        mod activations {
            use super::*;
            use crate::kernels::x86::rows;

            #[target_feature(enable = $features)]
            pub(super) fn quantize_row(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) -> i32 {
                // SAFETY: the features are enabled here.
                rows::quantize_row(unsafe { <$token>::new() }, x, q, d, sums)
            }
            #[target_feature(enable = $features)]
            pub(super) fn quantize_block32(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) -> i32 {
                // SAFETY: the features are enabled here.
                rows::quantize_block32(unsafe { <$token>::new() }, x, q, d, sums)
            }
            #[target_feature(enable = $features)]
            pub(super) fn rmsnorm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
                // SAFETY: the features are enabled here.
                rows::rmsnorm(unsafe { <$token>::new() }, x, w, eps, out);
            }
            #[target_feature(enable = $features)]
            pub(super) fn silu_mul(gate: &mut [f32], up: &[f32]) {
                // SAFETY: the features are enabled here.
                rows::silu_mul(unsafe { <$token>::new() }, gate, up);
            }
            #[target_feature(enable = $features)]
            pub(super) fn softmax(scores: &mut [f32]) -> f32 {
                // SAFETY: the features are enabled here.
                rows::softmax(unsafe { <$token>::new() }, scores)
            }
        }

        pub(super) const FLOATS: Kernels = {
            use crate::kv_cache::format::{F16, Q2, Q3, Q4, Q8};
            use crate::quant::ActKind;
            let mut float = FLOAT;
            float.quantize[ActKind::Row as usize] = activations::quantize_row;
            float.quantize[ActKind::Block32 as usize] = activations::quantize_block32;
            float.rmsnorm = activations::rmsnorm;
            float.silu_mul = activations::silu_mul;
            float.softmax = activations::softmax;
            float.scores = [
                attention::scores::<F16>,
                attention::scores::<Q8>,
                attention::scores::<Q4>,
                attention::scores::<Q2>,
                attention::scores::<Q3>,
            ];
            float.mix = [
                attention::mix::<F16>,
                attention::mix::<Q8>,
                attention::mix::<Q4>,
                attention::mix::<Q2>,
                attention::mix::<Q3>,
            ];
            Kernels { name: $name, float, ..BASE }
        };
    };
}

mod avx2 {
    use super::{floats, ymm::Ymm};
    use crate::kernels::{
        Kernels, lanes,
        lanes::{Style, Unpack, apart, apart::Apart, gemm, interleaved, packed},
        scalar::BASE,
    };
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    float_kernels!("avx2,f16c");
    float_level!("avx2,f16c", Ymm<false>, "avx2");
    lanes::lane_types!(level; "avx2,f16c", Ymm<false>, FLOATS, 1 2);
}

mod avx_vnni {
    use super::{avx2::FLOATS, floats, ymm::Ymm};
    use crate::kernels::{
        Kernels, lanes,
        lanes::{Style, Unpack, apart, apart::Apart, gemm, interleaved, packed},
    };
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    const BASE: Kernels = Kernels { name: "avx-vnni", ..FLOATS };
    lanes::lane_types!(level; "avx2,f16c,avxvnni", Ymm<true>, BASE, 1 2);
}

mod avx512 {
    use super::{floats, zmm::Zmm};
    use crate::kernels::{
        Kernels, lanes,
        lanes::{Style, Unpack, apart, apart::Apart, gemm, interleaved, packed},
        scalar::BASE,
    };
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    float_kernels!("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c");
    float_level!("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c", Zmm, "avx512-vnni");
    lanes::lane_types!(level; "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c", Zmm, FLOATS, 1 2 3);
}

pub(super) static AVX2: Kernels = avx2::TABLE;
pub(super) static AVX_VNNI: Kernels = avx_vnni::TABLE;
pub(super) static AVX512_VNNI: Kernels = avx512::TABLE;
