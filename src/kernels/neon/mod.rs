//! aarch64 levels: plain NEON (Cortex-A53, A72), NEON with `SDOT` (Cortex-A76) and with `SMMLA` (newer phones).
//!
//! - `dot.rs`: the int8 dot-product step of each level.
//! - `weight.rs`: what a weight type tells the loops; the types: `blocks32.rs`,
//!   `ternary.rs`, `bits.rs`, `kquants.rs`, `packed.rs`, `apart.rs`, `interleaved.rs`.
//! - `gemv.rs`: one token. `gemm.rs`: several tokens. Both are generic over type and step, `inline(always)`,
//!   and become machine code only in the functions that `level!` makes below.
//! - `quad.rs`: sixteen floats, for [`super::sixteen`]; `signs.rs`: B1. The same at every level.

// Arrays of registers are walked by index, several side by side.
#![allow(clippy::needless_range_loop)]

mod apart;
mod bits;
mod blocks32;
mod dot;
mod gemm;
mod gemv;
mod interleaved;
mod kquants;
mod packed;
mod quad;
mod signs;
mod ternary;
mod weight;

pub(super) use dot::prefetch;

use super::scalar::BASE;
use super::sixteen::weights;
use super::{Kernels, RowsFn};
use crate::mem::TileMut;
use crate::quant::{Acts, QuantType, RowSpan};
use quad::Quad;

float_kernels!("neon");
float_level!("neon", Quad);

/// Rows of a float type.
#[target_feature(enable = "neon")]
fn float_rows<E: weights::Element>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    // SAFETY: the feature is enabled here; the shapes are those of `RowsFn`.
    unsafe { weights::rows::<_, E>(Quad::new(), w, acts, out) }
}

const fn floats<E: weights::Element>() -> RowsFn {
    float_rows::<E>
}

/// The functions of few tokens, compiled with a level's features.
macro_rules! few {
    ($module:ident, $dot:ident, $features:literal) => {
        mod $module {
            use super::dot::$dot as Step;
            use super::weight::Weight;
            use crate::mem::TileMut;
            use crate::quant::{Acts, RowSpan};

            #[target_feature(enable = $features)]
            #[inline(never)]
            pub(super) unsafe fn gemv<W: Weight>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) -> bool {
                // SAFETY: the caller keeps the contract of `RowsFn`.
                unsafe { W::few::<Step>(w, acts, out) }
            }
        }
    };
}

/// The functions of one level, compiled with its features, and its table. `$few` is where the functions of one
/// token are: `SMMLA` has nothing for them, and a second copy is a twentieth of the aarch64 file.
macro_rules! level {
    ($module:ident, $name:literal, $dot:ident, $features:literal, $few:ident) => {
        mod $module {
            use super::apart::Apart;
            use super::dot::$dot as Step;
            use super::gemm::{self, Job, Panel};
            use super::weight::{Style, Weight};
            use super::$few::gemv;
            use crate::kernels::{Kernels, RowsFn};
            use crate::mem::TileMut;
            use crate::quant::{Acts, RowSpan};

            #[target_feature(enable = $features)]
            #[inline(never)]
            unsafe fn tile4<S: Style>(panel: &Panel, job: &Job<4>) {
                // SAFETY: the caller's.
                unsafe { gemm::tile::<S, Step, 4>(panel, job) }
            }

            #[target_feature(enable = $features)]
            #[inline(never)]
            unsafe fn tile2<S: Style>(panel: &Panel, job: &Job<2>) {
                // SAFETY: the caller's.
                unsafe { gemm::tile::<S, Step, 2>(panel, job) }
            }

            #[target_feature(enable = $features)]
            unsafe fn rows<W: Weight>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
                // SAFETY: the caller keeps the contract of `RowsFn`; this CPU has the level's features.
                unsafe {
                    if acts.n > 0 && !gemv::<W>(w, acts, out) {
                        gemm::gemm::<W, Step>(w, acts, out, (tile4::<W::Style>, tile2::<W::Style>));
                    }
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn listed<A: Apart>(w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
                // SAFETY: the caller keeps the contract of `ListedFn`.
                unsafe { A::listed::<Step>(w, list, acts, out) }
            }

            const fn of<W: Weight>() -> RowsFn {
                rows::<W>
            }

            pub(super) const TABLE: Kernels = super::with_types!(Kernels { name: $name, ..super::BASE_NEON });
        }
    };
}

/// The table with every type's entry of the surrounding level.
macro_rules! with_types {
    ($table:expr) => {{
        use super::{apart, bits, blocks32, interleaved, kquants, packed, ternary};
        use crate::quant::QuantType;
        $table
            .with(QuantType::Q4_0, of::<blocks32::Q4_0>())
            .with(QuantType::Q4_1, of::<blocks32::Q4_1>())
            .with(QuantType::Q5_0, of::<blocks32::Q5_0>())
            .with(QuantType::Q5_1, of::<blocks32::Q5_1>())
            .with(QuantType::Q8_0, of::<blocks32::Q8_0>())
            .with(QuantType::Q8R, of::<blocks32::Q8R>())
            .with(QuantType::I2_S, of::<ternary::I2S>())
            .with(QuantType::I2_S_ARM, of::<ternary::I2SArm>())
            .with(QuantType::TQ1_0, of::<ternary::Tq1_0>())
            .with(QuantType::TQ2_0, of::<ternary::Tq2_0>())
            .with(QuantType::Q1_0, of::<bits::Q1_0>())
            .with(QuantType::Q2_0, of::<bits::Q2_0>())
            .with(QuantType::Q2_0_G128, of::<bits::Q2_0G128>())
            .with(QuantType::PTQ1_0, of::<ternary::Ptq1_0>())
            .with(QuantType::STQ1_0, of::<ternary::Stq1_0>())
            .with(QuantType::Q2_K, of::<kquants::Q2K>())
            .with(QuantType::Q3_K, of::<kquants::Q3K>())
            .with(QuantType::Q4_K, of::<kquants::Q4K>())
            .with(QuantType::Q5_K, of::<kquants::Q5K>())
            .with(QuantType::Q6_K, of::<kquants::Q6K>())
            .with(QuantType::T2, of::<packed::T2>())
            .with(QuantType::T3, of::<packed::T3>())
            .with(QuantType::T3R, of::<apart::T3R>())
            .with(QuantType::T3C, of::<apart::T3C>())
            .with_listed(listed::<apart::T3R>, listed::<apart::T3C>)
            .with(QuantType::S2, of::<packed::S2>())
            .with(QuantType::Q1_0_R32, of::<interleaved::Q1_0R32>())
            .with(QuantType::Q2_0_R16, of::<interleaved::Q2_0R16>())
            .with(QuantType::Q2_0_G128_R16, of::<interleaved::Q2_0G128R16>())
            .with(QuantType::TQ2_0_R16, of::<interleaved::Tq2_0R16>())
    }};
}
use with_types;

/// What all levels share.
const BASE_NEON: Kernels = Kernels { float: FLOATS, ..BASE }
    .with(QuantType::F32, floats::<weights::F32>())
    .with(QuantType::F16, floats::<weights::F16>())
    .with(QuantType::BF16, floats::<weights::BF16>())
    .with(QuantType::B1, signs::B1_ROWS)
    .with(QuantType::B1_64, signs::B1_64_ROWS);

few!(gemv_base, Mlal, "neon");
few!(gemv_dotprod, Sdot, "neon,dotprod");

level!(base, "neon", Mlal, "neon", gemv_base);
level!(dotprod, "neon-dotprod", Sdot, "neon,dotprod", gemv_dotprod);
level!(i8mm, "neon-i8mm", Smmla, "neon,dotprod,i8mm", gemv_dotprod);

pub(super) static NEON: Kernels = base::TABLE;
pub(super) static DOTPROD: Kernels = dotprod::TABLE;
pub(super) static I8MM: Kernels = i8mm::TABLE;
