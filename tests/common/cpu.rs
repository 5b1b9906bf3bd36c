//! What the CPU that runs the test has.

use trill::cpu::CpuFeatures;

pub(crate) fn features() -> CpuFeatures {
    #[allow(unused_mut)]
    let mut f = CpuFeatures::compiled();
    #[cfg(target_arch = "x86_64")]
    {
        f.avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        f.avx_vnni = is_x86_feature_detected!("avxvnni");
        f.avx512_vnni = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni");
    }
    f
}
