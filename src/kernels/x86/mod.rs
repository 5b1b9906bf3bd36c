//! x86-64 levels.

use super::Kernels;
use super::scalar::BASE;

mod avx2 {
    float_kernels!("avx2,f16c");
    pub(super) const TABLE: super::Kernels = super::Kernels { name: "avx2", float: FLOAT, ..super::BASE };
}
mod avx_vnni {
    pub(super) const TABLE: super::Kernels = super::Kernels { name: "avx-vnni", ..super::avx2::TABLE };
}
mod avx512 {
    float_kernels!("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni,f16c");
    pub(super) const TABLE: super::Kernels = super::Kernels { name: "avx512-vnni", float: FLOAT, ..super::BASE };
}

pub(super) static AVX2: Kernels = avx2::TABLE;
pub(super) static AVX_VNNI: Kernels = avx_vnni::TABLE;
pub(super) static AVX512_VNNI: Kernels = avx512::TABLE;
