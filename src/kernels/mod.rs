//! The same arithmetic as [`crate::quant`], vectorised: one table of functions per CPU level.
//!
//! `scalar.rs` fills every entry from the reference code; a backend is that table `.with(...)` its own
//! functions. A table is obtained through [`select`], which checks the CPU, so the safe methods of
//! [`Kernels`] only have to check shapes. Results are the same bits at every level (see
//! [`crate::numeric`] for the order of float operations).
//!
//! To add a backend: one folder, one line in [`CANDIDATES`]. The tests walk `CANDIDATES` x
//! [`QuantType::ALL`] and find it.
//!
//! Room rules: unsafe code is vector intrinsics and raw row pointers, each block with its reason.
#![allow(unsafe_code)]

use crate::cpu::{CpuFeatures, Feature};
use crate::kv_cache::KvType;
use crate::mem::TileMut;
use crate::quant::{ActKind, Acts, QuantType, RowSpan};

mod attend;
#[macro_use]
mod float;
mod gather;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[macro_use]
mod sixteen;

pub(crate) use gather::gather;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

/// A kernel was asked for that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelError {
    /// No level has that name.
    Unknown,
    /// The level exists but this CPU (or this build) does not have it.
    Unavailable,
}

impl core::fmt::Display for KernelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            KernelError::Unknown => "no kernels of that name exist",
            KernelError::Unavailable => "this machine cannot run those kernels",
        })
    }
}

impl core::error::Error for KernelError {}

/// Weight rows times activations: `out` row `t`, column `r` = row `r` of `w` . token `t` of `acts`, times
/// `w.scale`. `out.rows() == acts.n`, `out.cols() == w.rows`, `w.cols == acts.k`, `acts.kind` is the type's.
pub type RowsFn = unsafe fn(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>);
/// The same for chosen rows (T3R) or columns (T3C) alone: `list` has their numbers. Of chosen rows, `out` has one column
/// each, in the order of the list; of chosen columns, `acts` has one value each, `acts.k == list.len()`, a multiple of 4.
pub type ListedFn = unsafe fn(w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>);
/// f32 row to another form: see [`ActKind`]. Returns the sum of all int8 values or signs.
pub type QuantizeFn = unsafe fn(x: &[f32], q: &mut [i8], d: &mut [f32], bsums: &mut [i16]) -> i32;
/// `out = x / sqrt(mean(x^2) + eps) * w`.
pub type RmsNormFn = unsafe fn(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]);
/// `gate[i] = f(gate[i]) * up[i]`.
pub type GluFn = unsafe fn(gate: &mut [f32], up: &[f32]);
/// Rotates one head in place; `cos` and `sin` hold one value per pair.
pub type RopeFn = unsafe fn(head: &mut [f32], cos: &[f32], sin: &[f32]);
/// f32 values to one row of the cache.
pub type StoreFn = unsafe fn(values: &[f32], row: &mut [u8]);
/// Scores of the query heads `q` (whole heads of `head_dim`) against the cached keys: for head `g` and the `i`-th
/// position of the range `out[g * range.len() + i] = scale * q_g . k_i`.
pub type ScoresFn = unsafe fn(q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]);
/// Adds to scores what depends on the position alone: `out[g * n + i] += scale * q_g . rows_i`, where `q` and `rows` are rows
/// of `width` values and `n` is the number of `rows`.
pub type AddDotsFn = unsafe fn(q: &[f32], width: usize, rows: &[f32], scale: f32, out: &mut [f32]);
/// Scores to weights, not yet normalised: `e^(s - max)`; returns one over their sum.
pub type SoftmaxFn = unsafe fn(scores: &mut [f32]) -> f32;
/// `out_g = sum_i weights[g * range.len() + i] * v_i`, positions ascending.
pub type MixFn = unsafe fn(weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]);
/// Upper bounds of logits from those of their sketch `w` (S2): `bounds[r] += sqrt(residual_r^2 * far + step_r^2 * near)`.
pub type BoundsFn = unsafe fn(w: &RowSpan<'_>, far: f32, near: f32, bounds: &mut [f32]);
/// Normalised Walsh-Hadamard transform of one head, in place; its own inverse.
pub type HadamardFn = unsafe fn(head: &mut [f32]);

/// Cached keys or values of one head.
#[derive(Clone, Debug)]
pub struct KvRows<'a> {
    /// One row of `row_bytes` per position.
    pub packed: &'a [u8],
    /// Bytes of a packed row.
    pub row_bytes: usize,
    /// Rows of [`KvType::EXACT`]: those of positions `0 .. first`, then position `t` in row `first + (t - first) % ring`.
    pub exact: &'a [u8],
    /// Positions at the start of the text that are read from `exact`.
    pub first: usize,
    /// Rows of `exact` after the first ones.
    pub ring: usize,
    /// Positions from here on are read from `exact` too.
    pub recent_from: usize,
    /// What was taken from the packed keys; empty for nothing. Of no meaning for values.
    pub offset: &'a [f32],
    /// Positions attended to.
    pub range: core::ops::Range<usize>,
}

impl KvRows<'_> {
    fn is_sound(&self, kv: KvType, head_dim: usize) -> bool {
        let rows = self.exact.len() / KvType::EXACT.row_bytes(head_dim).max(1);
        let recent = self.range.end > self.recent_from.max(self.first);
        head_dim > 0
            && head_dim <= crate::limits::HEAD_DIM_MAX
            && self.range.start < self.range.end
            && self.row_bytes == kv.row_bytes(head_dim)
            && self.range.end.min(self.recent_from).checked_mul(self.row_bytes).is_some_and(|n| n <= self.packed.len())
            && self.first.checked_add(self.ring).is_some_and(|n| n <= rows)
            && (!recent || self.ring > 0)
            && (kv.window() > 0 || self.first == 0 && !recent)
            && (self.offset.is_empty() || self.offset.len() == head_dim)
    }

    /// The bytes of row `t`, and whether they are of [`KvType::EXACT`].
    #[inline(always)]
    pub(crate) fn row(&self, t: usize, exact_bytes: usize) -> (&[u8], bool) {
        if t >= self.first && t < self.recent_from {
            return (&self.packed[t * self.row_bytes..][..self.row_bytes], false);
        }
        let slot = if t < self.first { t } else { self.first + (t - self.first) % self.ring };
        (&self.exact[slot * exact_bytes..][..exact_bytes], true)
    }
}

/// Operations on floats, written once in `float.rs` and compiled for each level.
#[derive(Clone, Copy)]
pub struct FloatKernels {
    /// Indexed by [`ActKind`].
    pub quantize: [QuantizeFn; ActKind::COUNT],
    /// Root-mean-square norm.
    pub rmsnorm: RmsNormFn,
    /// SiLU gate: `x / (1 + e^-x)`.
    pub silu_mul: GluFn,
    /// GELU gate, tanh form.
    pub gelu_mul: GluFn,
    /// Squared ReLU gate.
    pub relu2_mul: GluFn,
    /// Pairs `(j, j + n/2)`.
    pub rope_neox: RopeFn,
    /// Pairs `(2j, 2j + 1)`.
    pub rope_norm: RopeFn,
    /// Rotation of heads before they are quantized.
    pub hadamard: HadamardFn,
    /// Softmax without its division.
    pub softmax: SoftmaxFn,
    /// For screening the head.
    pub bounds: BoundsFn,
    /// Indexed by [`KvType`].
    pub kv_store: [StoreFn; KvType::COUNT],
    /// Indexed by [`KvType`] of the keys.
    pub scores: [ScoresFn; KvType::COUNT],
    /// Scores of what the keys are stored without.
    pub add_dots: AddDotsFn,
    /// Indexed by [`KvType`] of the values.
    pub mix: [MixFn; KvType::COUNT],
}

/// One CPU level's functions. Copy it freely; it is a table of pointers.
#[derive(Clone, Copy)]
pub struct Kernels {
    name: &'static str,
    rows: [RowsFn; QuantType::COUNT],
    /// For T3R.
    listed_rows: ListedFn,
    /// For T3C.
    listed_columns: ListedFn,
    float: FloatKernels,
}

impl Kernels {
    /// This table with another function for `ty`.
    const fn with(mut self, ty: QuantType, f: RowsFn) -> Self {
        self.rows[ty as usize] = f;
        self
    }

    /// This table with other functions for chosen rows of T3R and chosen columns of T3C.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    const fn with_listed(self, listed_rows: ListedFn, listed_columns: ListedFn) -> Self {
        Kernels { listed_rows, listed_columns, ..self }
    }

    /// The level's name, as `TRILL_KERNELS` takes it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// See [`RowsFn`].
    ///
    /// # Panics
    /// If the shapes do not agree: a bug of the caller.
    pub fn rows(&self, ty: QuantType, w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        assert!(acts.kind == ty.info().act && acts.is_sound());
        assert!(w.cols == acts.k && out.rows() == acts.n && out.cols() == w.rows);
        assert!(w.is_sound(ty));
        // SAFETY: the table was selected for this CPU; shapes were checked above.
        unsafe { self.rows[ty as usize](w, acts, out) }
    }

    /// Rows `list` of the T3R matrix `w`: see [`ListedFn`].
    ///
    /// # Panics
    /// If the shapes do not agree: a bug of the caller.
    pub fn listed_rows(&self, w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        let ty = QuantType::T3R;
        assert!(acts.kind == ty.info().act && acts.is_sound() && w.cols == acts.k);
        assert!(w.is_sound(ty));
        assert!(out.rows() == acts.n && out.cols() == list.len() && list.iter().all(|&r| (r as usize) < w.rows));
        // SAFETY: the table was selected for this CPU; shapes were checked above.
        unsafe { (self.listed_rows)(w, list, acts, out) }
    }

    /// Columns `list` of the T3C matrix `w`: see [`ListedFn`].
    ///
    /// # Panics
    /// If the shapes do not agree: a bug of the caller.
    pub fn listed_columns(&self, w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
        let ty = QuantType::T3C;
        assert!(acts.kind == ty.info().act && acts.is_sound() && acts.k == list.len());
        assert!(list.len().is_multiple_of(4) && list.iter().all(|&c| (c as usize) < w.cols));
        assert!(w.is_sound(ty));
        assert!(out.rows() == acts.n && out.cols() == w.rows);
        // SAFETY: the table was selected for this CPU; shapes were checked above.
        unsafe { (self.listed_columns)(w, list, acts, out) }
    }

    /// See [`QuantizeFn`].
    ///
    /// # Panics
    /// If the lengths are not those of `kind`: a bug of the caller.
    pub fn quantize(&self, kind: ActKind, x: &[f32], q: &mut [i8], d: &mut [f32], bsums: &mut [i16]) -> i32 {
        assert!(
            q.len() == kind.codes(x.len()) && d.len() == kind.scales(x.len()) && bsums.len() == kind.bsums(x.len())
        );
        // SAFETY: the table was selected for this CPU; lengths were checked above.
        unsafe { self.float.quantize[kind as usize](x, q, d, bsums) }
    }

    /// See [`RmsNormFn`].
    ///
    /// # Panics
    /// If the lengths differ: a bug of the caller.
    pub fn rmsnorm(&self, x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
        assert!(x.len() == w.len() && x.len() == out.len());
        // SAFETY: the table was selected for this CPU; lengths were checked above.
        unsafe { (self.float.rmsnorm)(x, w, eps, out) }
    }

    /// The gate functions, by name.
    ///
    /// # Panics
    /// If the lengths differ: a bug of the caller.
    pub fn glu(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        assert!(gate.len() == up.len());
        let f = match activation {
            Activation::Silu => self.float.silu_mul,
            Activation::Gelu => self.float.gelu_mul,
            Activation::Relu2 => self.float.relu2_mul,
        };
        // SAFETY: the table was selected for this CPU; lengths were checked above.
        unsafe { f(gate, up) }
    }

    /// Rotates the first `2 * cos.len()` values of `head`; see [`RopeFn`].
    ///
    /// # Panics
    /// If the lengths do not agree: a bug of the caller.
    pub fn rope(&self, neox: bool, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert!(cos.len() == sin.len());
        let head = &mut head[..2 * cos.len()];
        let f = if neox { self.float.rope_neox } else { self.float.rope_norm };
        // SAFETY: the table was selected for this CPU; lengths were checked above.
        unsafe { f(head, cos, sin) }
    }

    /// See [`StoreFn`].
    ///
    /// # Panics
    /// If `row` is not a row of `kv` for that many values: a bug of the caller.
    pub fn kv_store(&self, kv: KvType, values: &[f32], row: &mut [u8]) {
        assert!(row.len() == kv.row_bytes(values.len()));
        // SAFETY: the table was selected for this CPU; lengths were checked above.
        unsafe { self.float.kv_store[kv as usize](values, row) }
    }

    /// See [`HadamardFn`].
    pub fn hadamard(&self, head: &mut [f32]) {
        // SAFETY: the table was selected for this CPU.
        unsafe { (self.float.hadamard)(head) }
    }

    /// See [`SoftmaxFn`].
    pub fn softmax(&self, scores: &mut [f32]) -> f32 {
        // SAFETY: the table was selected for this CPU.
        unsafe { (self.float.softmax)(scores) }
    }

    /// See [`BoundsFn`].
    ///
    /// # Panics
    /// If `w` is not S2 of that many rows: a bug of the caller.
    pub fn bounds(&self, w: &RowSpan<'_>, far: f32, near: f32, bounds: &mut [f32]) {
        assert!(w.is_sound(QuantType::S2) && bounds.len() == w.rows);
        // SAFETY: the table was selected for this CPU; shapes were checked above.
        unsafe { (self.float.bounds)(w, far, near, bounds) }
    }

    /// See [`ScoresFn`].
    ///
    /// # Panics
    /// If the lengths do not agree: a bug of the caller.
    pub fn scores(&self, kv: KvType, q: &[f32], head_dim: usize, k: &KvRows<'_>, scale: f32, out: &mut [f32]) {
        assert!(k.is_sound(kv, head_dim) && q.len().is_multiple_of(head_dim));
        assert!((q.len() / head_dim).checked_mul(k.range.len()) == Some(out.len()));
        // SAFETY: the table was selected for this CPU; lengths were checked above.
        unsafe { self.float.scores[kv as usize](q, head_dim, k, scale, out) }
    }

    /// See [`AddDotsFn`].
    ///
    /// # Panics
    /// If the lengths do not agree: a bug of the caller.
    pub fn add_dots(&self, q: &[f32], width: usize, rows: &[f32], scale: f32, out: &mut [f32]) {
        assert!(width > 0 && q.len().is_multiple_of(width) && rows.len().is_multiple_of(width));
        assert!(Some(out.len()) == (q.len() / width).checked_mul(rows.len() / width));
        // SAFETY: the table was selected for this CPU; lengths were checked above.
        unsafe { (self.float.add_dots)(q, width, rows, scale, out) }
    }

    /// See [`MixFn`].
    ///
    /// # Panics
    /// If the lengths do not agree: a bug of the caller.
    pub fn mix(&self, kv: KvType, weights: &[f32], head_dim: usize, v: &KvRows<'_>, out: &mut [f32]) {
        assert!(v.is_sound(kv, head_dim) && out.len().is_multiple_of(head_dim));
        assert!((out.len() / head_dim).checked_mul(v.range.len()) == Some(weights.len()));
        // SAFETY: the table was selected for this CPU; lengths were checked above.
        unsafe { self.float.mix[kv as usize](weights, head_dim, v, out) }
    }
}

/// The gate function of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh form of GELU.
    Gelu,
    /// `max(x, 0)^2`.
    Relu2,
}

/// A CPU level.
pub struct Candidate {
    /// Its table.
    kernels: &'static Kernels,
    /// Whether a CPU with these features can run it.
    pub runs_on: fn(&CpuFeatures) -> bool,
}

impl Candidate {
    /// The level's name.
    pub fn name(&self) -> &'static str {
        self.kernels.name
    }
}

/// Names of every level of every architecture, so that a wrong name and a missing level are told apart.
const NAMES: [&str; 7] = ["scalar", "neon", "neon-dotprod", "neon-i8mm", "avx2", "avx-vnni", "avx512-vnni"];

/// The levels this build has, best first.
pub static CANDIDATES: &[Candidate] = &[
    #[cfg(target_arch = "x86_64")]
    Candidate { kernels: &x86::AVX512_VNNI, runs_on: |f| f.has(Feature::Avx512Vnni) },
    #[cfg(target_arch = "x86_64")]
    Candidate { kernels: &x86::AVX_VNNI, runs_on: |f| f.has(Feature::Avx2) && f.has(Feature::AvxVnni) },
    #[cfg(target_arch = "x86_64")]
    Candidate { kernels: &x86::AVX2, runs_on: |f| f.has(Feature::Avx2) },
    #[cfg(target_arch = "aarch64")]
    Candidate {
        kernels: &neon::I8MM,
        runs_on: |f| f.has(Feature::Neon) && f.has(Feature::DotProd) && f.has(Feature::I8mm),
    },
    #[cfg(target_arch = "aarch64")]
    Candidate { kernels: &neon::DOTPROD, runs_on: |f| f.has(Feature::Neon) && f.has(Feature::DotProd) },
    #[cfg(target_arch = "aarch64")]
    Candidate { kernels: &neon::NEON, runs_on: |f| f.has(Feature::Neon) },
    Candidate { kernels: &scalar::KERNELS, runs_on: |_| true },
];

/// The best table for a CPU, or the one called `force`.
pub fn select(features: &CpuFeatures, force: Option<&str>) -> Result<Kernels, KernelError> {
    let mut usable = CANDIDATES.iter().filter(|c| (c.runs_on)(features));
    let found = match force {
        None => usable.next(),
        Some(name) if NAMES.contains(&name) => usable.find(|c| c.name() == name),
        Some(_) => return Err(KernelError::Unknown),
    };
    found.map(|c| *c.kernels).ok_or(KernelError::Unavailable)
}
