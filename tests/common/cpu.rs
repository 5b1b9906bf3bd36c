//! What the CPU that runs a test or a benchmark has.

use trill::cpu::{CpuFeatures, Feature};

/// What the running CPU has.
pub(crate) fn features() -> CpuFeatures {
    let features = CpuFeatures::compiled();
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the system says what all cores have.
    let features = unsafe {
        features
            .assume(Feature::Neon, std::arch::is_aarch64_feature_detected!("neon"))
            .assume(Feature::DotProd, std::arch::is_aarch64_feature_detected!("dotprod"))
            .assume(Feature::I8mm, std::arch::is_aarch64_feature_detected!("i8mm"))
    };
    #[cfg(target_arch = "x86_64")]
    // SAFETY: CPUID says what the CPU has, and XGETBV which registers the system keeps.
    let features = unsafe {
        let f16c = is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni");
        features
            .assume(Feature::Avx2, f16c && is_x86_feature_detected!("avx2"))
            .assume(Feature::AvxVnni, is_x86_feature_detected!("avxvnni"))
            .assume(Feature::Avx512Vnni, f16c && avx512)
    };
    features
}
