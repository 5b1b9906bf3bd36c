//! Which instruction sets the machine has. The core does not ask the operating system: the shell asks and says what it
//! found; what the compiler may assume anyway is known here.
//!
//! Room rules: the only unsafe code is the declaration that a feature is there.
#![allow(unsafe_code)]

/// An instruction set that some kernel uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Feature {
    /// Armv8 vectors (always there on aarch64).
    Neon,
    /// Armv8.2 `SDOT`/`UDOT` (Cortex-A76, Raspberry Pi 5).
    DotProd,
    /// Armv8.6 `SMMLA` (phones from about 2022).
    I8mm,
    /// x86 AVX2 and F16C.
    Avx2,
    /// x86 AVX-VNNI (256-bit `VPDPBUSD` with VEX encoding).
    AvxVnni,
    /// x86 AVX-512 F, BW, VL, VBMI and VNNI, and F16C.
    Avx512Vnni,
}

/// The instruction sets that the CPU is known to have. Kernels are chosen by it and run unasked, so safe code
/// cannot put anything in: it begins with none or with [`CpuFeatures::compiled`], and may leave some out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// Bit `1 << feature`.
    bits: u8,
}

impl CpuFeatures {
    /// What the target the code was compiled for guarantees.
    pub const fn compiled() -> Self {
        let arm = cfg!(target_arch = "aarch64");
        let x86 = cfg!(target_arch = "x86_64");
        let f16c = cfg!(target_feature = "f16c");
        CpuFeatures { bits: 0 }
            .put(Feature::Neon, arm && cfg!(target_feature = "neon"))
            .put(Feature::DotProd, arm && cfg!(target_feature = "dotprod"))
            .put(Feature::I8mm, arm && cfg!(target_feature = "i8mm"))
            .put(Feature::Avx2, x86 && f16c && cfg!(target_feature = "avx2"))
            .put(Feature::AvxVnni, x86 && cfg!(target_feature = "avxvnni"))
            .put(
                Feature::Avx512Vnni,
                x86 && f16c
                    && cfg!(all(
                        target_feature = "avx512f",
                        target_feature = "avx512bw",
                        target_feature = "avx512vl",
                        target_feature = "avx512vbmi",
                        target_feature = "avx512vnni"
                    )),
            )
    }

    /// With `feature` where `detected` says so.
    ///
    /// # Safety
    /// Where `detected` is true, every CPU that this program's threads run on has the feature, and the operating system
    /// keeps its registers: ask `is_x86_feature_detected!`, `is_aarch64_feature_detected!` or `getauxval`.
    #[must_use]
    pub const unsafe fn assume(self, feature: Feature, detected: bool) -> Self {
        self.put(feature, detected)
    }

    /// Without `feature`, though the CPU may have it.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        CpuFeatures { bits: self.bits & !(1 << feature as u8) }
    }

    /// Whether `feature` is known to be there.
    pub const fn has(self, feature: Feature) -> bool {
        self.bits & 1 << feature as u8 != 0
    }

    const fn put(self, feature: Feature, there: bool) -> Self {
        CpuFeatures { bits: self.bits | (there as u8) << feature as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_one_bit() {
        let all =
            [Feature::Neon, Feature::DotProd, Feature::I8mm, Feature::Avx2, Feature::AvxVnni, Feature::Avx512Vnni];
        for feature in all {
            let none = CpuFeatures::default();
            let only = none.put(feature, true);
            assert_eq!(only.put(feature, false), only);
            assert_eq!(only.without(feature), none);
            for other in all {
                assert_eq!(only.has(other), other == feature);
                assert_eq!(none.put(other, true).without(feature).has(other), other != feature);
            }
        }
    }

    /// The target's baseline says what its compiler may use, and not more.
    #[test]
    fn compiled_is_the_target() {
        let f = CpuFeatures::compiled();
        assert_eq!(f.has(Feature::Neon), cfg!(all(target_arch = "aarch64", target_feature = "neon")));
        assert_eq!(f.has(Feature::Avx2), cfg!(all(target_feature = "avx2", target_feature = "f16c")));
    }
}
