//! Float operations sixteen values at a time: the same operations in the same order as in [`super::float`] and
//! [`super::attend`], in instructions, because the compiler vectorises no loop where the program is linked for size. Written
//! once over [`Sixteen`], of which each backend has its own, and made machine code by `float_level!`.
//!
//! - `weights.rs`: rows of F32, F16 and BF16. `attend.rs`: attention on the cache. `rows.rs`: norms, gates, softmax and the
//!   codes of activations.

pub(super) mod attend;
pub(super) mod rows;
pub(super) mod weights;

/// Sixteen f32. A value of the type is the proof that the CPU has the instructions.
pub(in crate::kernels) trait Sixteen: Copy {
    /// The values, in one or more registers.
    type V: Copy;
    /// Rows that share the loads of an activation.
    const ROWS: usize;
    /// Whether binary16 is widened wherever it is read, rather than once for all heads.
    const WIDENS: bool;

    fn zero(self) -> Self::V;
    fn splat(self, v: f32) -> Self::V;
    /// `acc + a * b`, both rounded.
    fn mul_add(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// `p` holds 16 values.
    unsafe fn load_f32(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` holds 16 values.
    unsafe fn load_f16(self, p: *const u8) -> Self::V;
    /// # Safety
    /// `p` holds 16 values.
    unsafe fn load_bf16(self, p: *const u8) -> Self::V;
    /// Signed bytes.
    /// # Safety
    /// `p` holds 16 bytes.
    unsafe fn load_i8(self, p: *const u8) -> Self::V;
    /// `table[p[i] >> shift & mask]`; where bit `i` of `high` is set, the index is `mask + 1` more. Indices are below 16, and
    /// the table repeats after those that there are.
    /// # Safety
    /// `p` holds 16 bytes.
    unsafe fn load_levels(
        self,
        p: *const u8,
        shift: usize,
        mask: i8,
        high: Option<[u8; 2]>,
        table: &[i8; 16],
    ) -> Self::V;
    fn array(self, v: Self::V) -> [f32; 16];
    /// [`crate::numeric::tree16`] of four vectors.
    fn trees(self, v: [Self::V; 4]) -> [f32; 4];
    /// A hint; any address will do.
    fn prefetch(self, p: *const u8);
}

/// 1.5 * 2^23: adding it rounds to an integer, see [`crate::numeric::round_even`].
pub(in crate::kernels) const MAGIC: f32 = 12_582_912.0;

/// Element-wise arithmetic on [`Sixteen`] values.
pub(in crate::kernels) trait Arithmetic: Sixteen {
    /// Sixteen i32.
    type I: Copy;

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// `a` where `x >= limit` or either is NaN, else 0.
    fn unless_below(self, a: Self::V, x: Self::V, limit: Self::V) -> Self::V;
    /// See [`crate::numeric::round_even`].
    fn round(self, a: Self::V) -> Self::I;
    fn float(self, a: Self::I) -> Self::V;
    /// `2^half` and `2^(a - half)` where `half = a >> 1`.
    fn powers(self, a: Self::I) -> [Self::V; 2];
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    fn zero_int(self) -> Self::I;
    fn clamp_int(self, a: Self::I, least: i32) -> Self::I;
    fn sum_int(self, a: Self::I) -> i32;
    /// Writes values of -128 to 127.
    /// # Safety
    /// `p` has room for 16.
    unsafe fn put_i8(self, p: *mut i8, a: Self::I);
    /// # Safety
    /// `p` has room for 16 values.
    unsafe fn put_f32(self, p: *mut f32, v: Self::V);
}

/// Defines `FLOATS`: the surrounding module's `FLOAT` with the operations of this folder, compiled with the given target
/// features for the token.
macro_rules! float_level {
    ($features:literal, $token:ty) => {
        mod attention {
            use super::*;
            use crate::kernels::KvRows;
            use crate::kernels::sixteen::attend;
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
            pub(super) fn add_dots(q: &[f32], width: usize, rows: &[f32], scale: f32, out: &mut [f32]) {
                // SAFETY: the features are enabled here.
                attend::add_dots(unsafe { <$token>::new() }, q, width, rows, scale, out);
            }
            #[target_feature(enable = $features)]
            pub(super) fn mix<F: RowFormat>(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) {
                // SAFETY: the features are enabled here.
                attend::mix::<_, F>(unsafe { <$token>::new() }, weights, head_dim, v, out);
            }
        }

        mod activations {
            use super::*;
            use crate::kernels::sixteen::rows;

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
            pub(super) fn quantize_block256(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) -> i32 {
                // SAFETY: the features are enabled here.
                rows::quantize_block256(unsafe { <$token>::new() }, x, q, d, sums)
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
            pub(super) fn relu2_mul(gate: &mut [f32], up: &[f32]) {
                // SAFETY: the features are enabled here.
                rows::relu2_mul(unsafe { <$token>::new() }, gate, up);
            }
            #[target_feature(enable = $features)]
            pub(super) fn softmax(scores: &mut [f32]) -> f32 {
                // SAFETY: the features are enabled here.
                rows::softmax(unsafe { <$token>::new() }, scores)
            }
        }

        pub(super) const FLOATS: $crate::kernels::FloatKernels = {
            use crate::kv_cache::format::{F16, Q2, Q3, Q4, Q8};
            use crate::quant::ActKind;
            let mut float = FLOAT;
            float.quantize[ActKind::Row as usize] = activations::quantize_row;
            float.quantize[ActKind::Block32 as usize] = activations::quantize_block32;
            float.quantize[ActKind::Block256 as usize] = activations::quantize_block256;
            float.rmsnorm = activations::rmsnorm;
            float.silu_mul = activations::silu_mul;
            float.relu2_mul = activations::relu2_mul;
            float.softmax = activations::softmax;
            float.add_dots = attention::add_dots;
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
            float
        };
    };
}
