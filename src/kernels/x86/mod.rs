//! x86-64 levels: sets of instructions ([`ymm`], [`zmm`]) for the shared [`super::lanes`].

use super::Kernels;

mod floats;
mod ymm;
mod zmm;

/// Defines `TABLE`: the given table with this level's functions for the float types and those of [`super::lanes`].
macro_rules! level {
    ($features:literal, $token:ty, $base:expr; $($ty:ident)*) => {
        level!(table $features, $token, $base; floats: F32 F16 BF16; packed: T2 T3 S2; lanes: $($ty)*);
    };
    (table $features:literal, $token:ty, $base:expr; $($room:ident: $($ty:ident)*);*) => {
        pub(super) const TABLE: Kernels = $base$($(.with(QuantType::$ty, {
            #[target_feature(enable = $features)]
            fn rows(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
                // SAFETY: the features are enabled here; the shapes are those of `RowsFn`.
                unsafe { $room::rows::<_, $room::$ty>(<$token>::new(), w, acts, out) }
            }
            rows
        }))*)*;
    };
}

mod avx2 {
    use super::{floats, ymm::Ymm};
    use crate::kernels::{Kernels, lanes, lanes::packed, scalar::BASE};
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    float_kernels!("avx2,f16c");
    pub(super) const FLOATS: Kernels = Kernels { name: "avx2", float: FLOAT, ..BASE };
    lanes::lane_types!(level; "avx2,f16c", Ymm<false>, FLOATS);
}

mod avx_vnni {
    use super::{avx2::FLOATS, floats, ymm::Ymm};
    use crate::kernels::{Kernels, lanes, lanes::packed};
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    const BASE: Kernels = Kernels { name: "avx-vnni", ..FLOATS };
    lanes::lane_types!(level; "avx2,f16c,avxvnni", Ymm<true>, BASE);
}

mod avx512 {
    use super::{floats, zmm::Zmm};
    use crate::kernels::{Kernels, lanes, lanes::packed, scalar::BASE};
    use crate::mem::TileMut;
    use crate::quant::{Acts, QuantType, RowSpan};

    float_kernels!("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c");
    const FLOATS: Kernels = Kernels { name: "avx512-vnni", float: FLOAT, ..BASE };
    lanes::lane_types!(level; "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c", Zmm, FLOATS);
}

pub(super) static AVX2: Kernels = avx2::TABLE;
pub(super) static AVX_VNNI: Kernels = avx_vnni::TABLE;
pub(super) static AVX512_VNNI: Kernels = avx512::TABLE;
