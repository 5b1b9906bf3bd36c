//! Which instruction sets the machine has. The core does not ask the operating system: the shell hands
//! the bits in; what the compiler may assume anyway is known here.

/// Instruction sets that some kernel uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures {
    /// Armv8 vectors (always there on aarch64).
    pub neon: bool,
    /// Armv8.2 `SDOT`/`UDOT` (Cortex-A76, Raspberry Pi 5).
    pub dotprod: bool,
    /// Armv8.6 `SMMLA` (phones from about 2022).
    pub i8mm: bool,
    /// x86 AVX2 and F16C.
    pub avx2: bool,
    /// x86 AVX-VNNI (256-bit `VPDPBUSD` with VEX encoding).
    pub avx_vnni: bool,
    /// x86 AVX-512 F, BW, VL, VBMI and VNNI.
    pub avx512_vnni: bool,
}

impl CpuFeatures {
    /// What the target the code was compiled for guarantees.
    pub const fn compiled() -> Self {
        CpuFeatures {
            neon: cfg!(all(target_arch = "aarch64", target_feature = "neon")),
            dotprod: cfg!(all(target_arch = "aarch64", target_feature = "dotprod")),
            i8mm: cfg!(all(target_arch = "aarch64", target_feature = "i8mm")),
            avx2: cfg!(all(target_arch = "x86_64", target_feature = "avx2", target_feature = "f16c")),
            avx_vnni: false,
            avx512_vnni: cfg!(all(
                target_arch = "x86_64",
                target_feature = "avx512f",
                target_feature = "avx512bw",
                target_feature = "avx512vl",
                target_feature = "avx512vbmi",
                target_feature = "avx512vnni"
            )),
        }
    }
}
