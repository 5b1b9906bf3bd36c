//! The CPU's features and the kernels chosen for them.

use crate::exit::{Failure, Outcome};
use trill::cpu::CpuFeatures;
use trill::kernels::{self, Kernels};

/// What the running CPU has.
pub(crate) fn features() -> CpuFeatures {
    let mut features = CpuFeatures::compiled();
    #[cfg(target_arch = "aarch64")]
    {
        features.neon |= std::arch::is_aarch64_feature_detected!("neon");
        features.dotprod |= std::arch::is_aarch64_feature_detected!("dotprod");
        features.i8mm |= std::arch::is_aarch64_feature_detected!("i8mm");
    }
    #[cfg(target_arch = "x86_64")]
    {
        features.avx2 |= is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        features.avx_vnni |= is_x86_feature_detected!("avxvnni");
        features.avx512_vnni |= is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni");
    }
    features
}

/// The features in the form that `trill --version` promises.
pub(crate) fn describe(f: &CpuFeatures) -> String {
    let bit = u8::from;
    format!(
        "NEON={} DOTPROD={} I8MM={} AVX2={} AVX512VNNI={}",
        bit(f.neon),
        bit(f.dotprod),
        bit(f.i8mm),
        bit(f.avx2),
        bit(f.avx512_vnni)
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
