//! Keys without what is known of them: where a model adds a bias to its keys (Qwen2), packed caches store the rest alone.
//!
//! Such biases are many times larger than the rest in a few values, and RoPE turns them, so that neither a row's scale nor a
//! mean over positions can take them in. But they are known exactly. With `R_t` the rotation of position `t`:
//!
//! ```text
//! q . R_t (k + b)  =  q . R_t k  +  q . R_t b
//!
//! q . R_t b  =  sum over pairs j of  cos_t,j * (q_x b_x + q_y b_y)  +  sin_t,j * (q_y b_x - q_x b_y)
//! ```
//!
//! where `x` and `y` are the two values of pair `j`. What stands in brackets is made once for a query ([`KeyBias::ask`]), the
//! angles are one table for all layers and heads, and the sum is one dot product of `n_rot` values for a position
//! ([`Kernels::add_dots`]). Values that RoPE leaves alone add the same to all scores of a query, which softmax does not see.

use super::{Hparams, Layer, RopeTable};
use crate::error::Result;
use crate::kernels::Kernels;
use crate::kv_cache::KvType;
use crate::mem::Carver;
use crate::model::arch::QkNorm;

/// Angles of all positions, and what the queries of a batch make of the biases; empty where keys are stored whole.
pub(crate) struct KeyBias<'s> {
    /// `n_rot` values: the cosines of a position's pairs, then their sines.
    width: usize,
    /// Of layers that attend to everything, or of all; `context` rows of `width`.
    global: &'s mut [f32],
    /// Of layers with a sliding window, where those have frequencies of their own.
    local: &'s mut [f32],
    /// Positions whose angles are there.
    filled: usize,
    /// For each token of a batch and each query head `width` values.
    asked: &'s mut [f32],
}

impl Hparams {
    /// Whether a cache of these keys holds them without their biases. A bias that is normed is no summand any more.
    pub(crate) fn keys_without_bias(&self, keys: KvType) -> bool {
        self.key_bias && keys.rotates() && self.arch.qk_norm == QkNorm::None
    }
}

impl Layer<'_> {
    /// The bias of the keys: `kv_dim` values, or empty.
    fn key_bias(&self, hp: &Hparams) -> &[f32] {
        self.qkv_bias.get(hp.q_dim()..hp.q_dim() + hp.kv_dim()).unwrap_or_default()
    }
}

impl<'s> KeyBias<'s> {
    pub(crate) fn new(
        hp: &Hparams,
        keys: KvType,
        batch: usize,
        context: usize,
        carver: &mut Carver<'s>,
    ) -> Result<KeyBias<'s>> {
        let width = if hp.keys_without_bias(keys) { hp.rope.n_rot } else { 0 };
        let local = if hp.arch.rope_base_local.is_some() { width } else { 0 };
        Ok(KeyBias {
            width,
            global: carver.take(context * width, 0.0)?,
            local: carver.take(context * local, 0.0)?,
            filled: 0,
            asked: carver.take(batch * hp.n_head * width, 0.0)?,
        })
    }

    /// Whether keys are stored whole.
    pub(super) fn is_off(&self) -> bool {
        self.width == 0
    }

    /// Makes the angles of the positions before `end` be there.
    pub(super) fn reach(&mut self, end: usize, rope: &RopeTable<'_>, rope_local: &RopeTable<'_>) {
        let (width, start) = (self.width, self.filled);
        if width == 0 || start >= end {
            return;
        }
        for (table, rows) in [(rope, &mut *self.global), (rope_local, &mut *self.local)] {
            for (t, row) in rows.chunks_exact_mut(width).enumerate().take(end).skip(start) {
                let (cos, sin) = row.split_at_mut(width / 2);
                table.fill(t, cos, sin);
            }
        }
        self.filled = end;
    }

    /// Room for what the first `n` tokens' queries make of the biases: for a token `n_head * n_rot` values.
    pub(super) fn room(&mut self, n: usize, hp: &Hparams) -> &mut [f32] {
        &mut self.asked[..n * hp.n_head * self.width]
    }

    /// Adds what the keys of one head at the positions of `range` lack to the `scores` of the query heads `heads` of the
    /// batch's token `t`.
    pub(super) fn add(
        &self,
        kernels: &Kernels,
        hp: &Hparams,
        windowed: bool,
        (t, heads): (usize, core::ops::Range<usize>),
        range: core::ops::Range<usize>,
        scores: &mut [f32],
    ) {
        let width = self.width;
        if width == 0 {
            return;
        }
        let angles = if windowed && !self.local.is_empty() { &*self.local } else { &*self.global };
        let asked = &self.asked[t * hp.n_head * width..][heads.start * width..heads.end * width];
        let rows = &angles[range.start * width..range.end * width];
        kernels.add_dots(asked, width, rows, hp.attention_scale, scores);
    }
}

/// What one token's queries (turned by RoPE, `q_dim` values) make of a layer's key bias: `n_head * n_rot` values to `out`.
pub(super) fn ask(hp: &Hparams, layer: &Layer<'_>, q: &[f32], out: &mut [f32]) {
    let (d, n_rot, group) = (hp.head_dim, hp.rope.n_rot, hp.n_head / hp.n_head_kv);
    let bias = layer.key_bias(hp);
    if bias.is_empty() {
        return out.fill(0.0);
    }
    for (h, (q, out)) in q.chunks_exact(d).zip(out.chunks_exact_mut(n_rot)).enumerate() {
        let b = &bias[h / group * d..][..d];
        let (cosines, sines) = out.split_at_mut(n_rot / 2);
        for (j, (c, s)) in cosines.iter_mut().zip(sines).enumerate() {
            let (x, y) = if hp.arch.rope_neox { (j, j + n_rot / 2) } else { (2 * j, 2 * j + 1) };
            *c = q[x] * b[x] + q[y] * b[y];
            *s = q[y] * b[x] - q[x] * b[y];
        }
    }
}
