//! The CPU's features and the kernels chosen for them.

use crate::exit::{Failure, Outcome};
use trill::cpu::{CpuFeatures, Feature};
use trill::kernels::{self, Kernels};

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

/// The features in the form that `trill --version` promises.
pub(crate) fn describe(f: &CpuFeatures) -> String {
    let bit = |feature| u8::from(f.has(feature));
    format!(
        "NEON={} DOTPROD={} I8MM={} AVX2={} AVX512VNNI={}",
        bit(Feature::Neon),
        bit(Feature::DotProd),
        bit(Feature::I8mm),
        bit(Feature::Avx2),
        bit(Feature::Avx512Vnni)
    )
}

/// The best kernels, or those that `TRILL_KERNELS` names.
pub(crate) fn kernels() -> Outcome<Kernels> {
    let forced = std::env::var("TRILL_KERNELS").ok().filter(|name| !name.is_empty());
    let features = features();
    kernels::select(&features, forced.as_deref()).map_err(|error| {
        let usable = kernels::CANDIDATES.iter().filter(|c| (c.runs_on)(&features)).map(|c| c.name());
        Failure::from(error)
            .remedy(format!("set TRILL_KERNELS to one of: {}", usable.collect::<Vec<_>>().join(", ")))
            .about(format!("TRILL_KERNELS={}", forced.unwrap_or_default()).as_ref())
    })
}
