//! The forward pass: a batch of tokens through every layer. What differs between architectures is read from
//! [`super::ArchSpec`] once per layer, never per element.

use super::arch::QkNorm;
use super::feed_forward::SkipBuffer;
use super::key_bias::{self, KeyBias};
use super::{Hparams, Layer, Model, RopeTable};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::kv_cache::{KvCache, KvType};
use crate::mem::Carver;
use crate::ops::{ActBuffer, HeadParts, ScreenBuffer, Workers, for_rows, linear, screen};
use crate::parallel::{Team, Tiling};
use crate::quant::Matrix;
use core::ops::ControlFlow;

/// Working memory of a batch of up to `batch` tokens. Widths in comments are per token.
pub(crate) struct Buffers<'s> {
    /// Residual stream, `n_embd`.
    pub(super) x: &'s mut [f32],
    /// Normed input of a matrix, the widest of them.
    pub(super) h: &'s mut [f32],
    /// Queries, keys, values: `q_dim + 2 * kv_dim`.
    qkv: &'s mut [f32],
    /// Attention output, `q_dim`.
    att: &'s mut [f32],
    /// Gate and up, `2 * n_ff`.
    pub(super) ff: &'s mut [f32],
    /// What a half-layer adds to the residual stream, `n_embd`.
    pub(super) delta: &'s mut [f32],
    /// Cosines and sines, global then local: `4 * n_rot / 2`.
    angles: &'s mut [f32],
    /// Attention scores of each thread: `group * context`.
    scores: &'s mut [f32],
    pub(crate) acts: ActBuffer<'s>,
    rope: RopeTable<'s>,
    rope_local: RopeTable<'s>,
    key_bias: KeyBias<'s>,
    /// For models with a sketch of their head.
    screen: Option<ScreenBuffer<'s>>,
    pub(crate) screening: Screening,
    pub(crate) skip: SkipBuffer<'s>,
}

/// How often the sketch of the output head was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screening {
    /// Tokens whose head was screened.
    pub tokens: usize,
    /// Of those, tokens for which the whole head was computed all the same.
    pub whole: usize,
    /// Rows of the head that were computed for the others.
    pub rows: usize,
}

impl<'s> Buffers<'s> {
    pub(crate) fn new(
        model: &Model<'_>,
        (batch, context, threads): (usize, usize, usize),
        keys: KvType,
        carver: &mut Carver<'s>,
    ) -> Result<Self> {
        let hp = &model.hparams;
        let widest = hp.n_embd.max(hp.q_dim()).max(hp.n_ff);
        Ok(Buffers {
            x: carver.take(batch * hp.n_embd, 0.0)?,
            h: carver.take(batch * widest, 0.0)?,
            qkv: carver.take(batch * (hp.q_dim() + 2 * hp.kv_dim()), 0.0)?,
            att: carver.take(batch * hp.q_dim(), 0.0)?,
            ff: carver.take(batch * 2 * hp.n_ff, 0.0)?,
            delta: carver.take(batch * hp.n_embd, 0.0)?,
            angles: carver.take(batch * 2 * hp.rope.n_rot, 0.0)?,
            scores: carver.take(threads * (hp.n_head / hp.n_head_kv) * context, 0.0)?,
            acts: ActBuffer::new(batch, widest, carver)?,
            rope: RopeTable::new(model, context, false, carver)?,
            rope_local: RopeTable::new(model, context, true, carver)?,
            key_bias: KeyBias::new(hp, keys, batch, context, carver)?,
            screen: match model.sketch {
                Some(_) => Some(ScreenBuffer::new(&model.output, batch, threads, carver)?),
                None => None,
            },
            screening: Screening::default(),
            skip: SkipBuffer::new(model, carver)?,
        })
    }

    /// The bits of what positions are turned into, which a context's length may decide.
    pub(crate) fn position_bits(&self) -> impl Iterator<Item = u64> {
        self.rope.bits().chain(self.rope_local.bits())
    }

    /// See [`RopeTable::fill_back`]; `local` for layers with a sliding window.
    pub(crate) fn angles_back(&self, local: bool, distance: usize, cos: &mut [f32], sin: &mut [f32]) {
        let table = if local { &self.rope_local } else { &self.rope };
        table.fill_back(distance, cos, sin);
    }
}

impl Model<'_> {
    /// Rotates a stored key of layer `i` further, by the angle of `cos` and `sin`.
    pub(crate) fn turn_key(&self, kernels: &Kernels, i: usize, key: &mut [f32], cos: &[f32], sin: &[f32]) {
        let hp = &self.hparams;
        // A norm after the rotation has weights, which the rotation must not see; it leaves the length as it is.
        let weights = match hp.arch.qk_norm {
            QkNorm::AfterRope => self.layers.get(i).map_or(&[][..], |layer| layer.k_norm),
            QkNorm::None | QkNorm::BeforeRope => &[],
        };
        key.iter_mut().zip(weights).filter(|(_, w)| **w != 0.0).for_each(|(k, w)| *k /= w);
        kernels.rope(hp.arch.rope_neox, key, cos, sin);
        key.iter_mut().zip(weights).for_each(|(k, w)| *k *= w);
    }
}

/// What every step of a forward pass needs.
pub(crate) struct Pass<'p, 't, 'm> {
    pub(crate) team: &'p Team<'t>,
    pub(crate) kernels: &'p Kernels,
    pub(crate) model: &'p Model<'m>,
    /// Position of the batch's first token.
    pub(crate) start: usize,
    /// Tokens in the batch.
    pub(crate) n: usize,
}

impl Pass<'_, '_, '_> {
    /// Runs `tokens` (`n` of them) through all layers and writes their keys and values to the cache.
    /// `after_layer` is called with the number of layers done; it may stop the pass.
    pub(crate) fn forward(
        &self,
        tokens: &[u32],
        cache: &mut KvCache<'_>,
        b: &mut Buffers<'_>,
        after_layer: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<()> {
        self.embed(tokens, b);
        for (i, layer) in self.model.layers.iter().enumerate() {
            self.attention(i, layer, cache, b);
            self.feed_forward(i, layer, b);
            if after_layer(i + 1).is_break() {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }

    /// Logits of the batch's tokens `range`: `range.len() * n_vocab` values. With `top` only that many of the highest
    /// are asked for, and a model with a sketch of its head gives just those (see [`crate::ops`]'s screening).
    pub(crate) fn head(
        &self,
        range: core::ops::Range<usize>,
        top: Option<usize>,
        b: &mut Buffers<'_>,
        logits: &mut [f32],
    ) {
        let hp = self.hp();
        let e = hp.n_embd;
        let x = &b.x[range.start * e..range.end * e];
        let h = &mut b.h[..x.len()];
        self.norm(x, self.model.output_norm, h);
        match (top, &self.model.sketch, &mut b.screen) {
            (Some(need), Some(sketch), Some(buffer)) => {
                let at = Workers { team: self.team, kernels: self.kernels };
                let head = HeadParts { sketch, output: &self.model.output };
                let (whole, rows) = screen(&at, head, need, h, &mut b.acts, buffer, logits);
                b.screening.tokens += range.len();
                b.screening.whole += whole;
                b.screening.rows += rows;
            }
            _ => self.linear(&[self.model.output], h, &mut b.acts, logits),
        }
        if hp.logit_scale != 1.0 {
            for_rows(self.team, logits, hp.n_vocab, &|_, row| row.iter_mut().for_each(|v| *v *= hp.logit_scale));
        }
    }

    /// Token embeddings to the residual stream, and the angles of the tokens' positions.
    fn embed(&self, tokens: &[u32], b: &mut Buffers<'_>) {
        let (hp, n) = (self.hp(), self.n);
        for_rows(self.team, &mut b.x[..n * hp.n_embd], hp.n_embd, &|t, row| {
            self.model.embedding.decode_row(tokens[t] as usize, row);
            if hp.embedding_scale != 1.0 {
                row.iter_mut().for_each(|v| *v *= hp.embedding_scale);
            }
        });
        let (rope, local, half) = (&b.rope, &b.rope_local, hp.rope.n_rot / 2);
        b.key_bias.reach(self.start + n, rope, local);
        for_rows(self.team, &mut b.angles[..n * 4 * half], 4 * half, &|t, row| {
            let (global_part, local_part) = row.split_at_mut(2 * half);
            for (table, part) in [(rope, global_part), (local, local_part)] {
                let (cos, sin) = part.split_at_mut(half);
                table.fill(self.start + t, cos, sin);
            }
        });
    }

    pub(super) fn hp(&self) -> &Hparams {
        &self.model.hparams
    }

    pub(super) fn norm(&self, x: &[f32], weight: &[f32], out: &mut [f32]) {
        let w = weight.len();
        for_rows(self.team, out, w, &|t, row| self.kernels.rmsnorm(&x[t * w..(t + 1) * w], weight, self.hp().eps, row));
    }

    pub(super) fn linear(&self, parts: &[Matrix<'_>], x: &[f32], acts: &mut ActBuffer<'_>, out: &mut [f32]) {
        linear(self.team, self.kernels, parts, x, acts, out);
    }

    /// `x += residual_scale * norm(delta)`, the norm only where the architecture has one.
    pub(super) fn add(&self, x: &mut [f32], delta: &[f32], post_norm: &[f32], h: &mut [f32]) {
        let (e, scale) = (self.hp().n_embd, self.hp().residual_scale);
        let delta = if post_norm.is_empty() {
            delta
        } else {
            self.norm(delta, post_norm, h);
            h
        };
        for_rows(self.team, x, e, &|t, row| {
            let delta = &delta[t * e..(t + 1) * e];
            if scale == 1.0 {
                row.iter_mut().zip(delta).for_each(|(x, d)| *x += d);
            } else {
                row.iter_mut().zip(delta).for_each(|(x, d)| *x += d * scale);
            }
        });
    }

    fn attention(&self, i: usize, layer: &Layer<'_>, cache: &mut KvCache<'_>, b: &mut Buffers<'_>) {
        let (hp, n) = (self.hp(), self.n);
        let (e, q_dim) = (hp.n_embd, hp.q_dim());
        let width = q_dim + 2 * hp.kv_dim();
        let (x, h, qkv) = (&mut b.x[..n * e], &mut b.h[..n * e], &mut b.qkv[..n * width]);
        self.norm(x, layer.attn_norm, h);
        self.linear(layer.qkv_parts(), h, &mut b.acts, qkv);
        let half = hp.rope.n_rot / 2;
        let angles = &b.angles[..n * 4 * half];
        let cache_types = cache.types();
        let (windowed, whole_keys) = (hp.is_windowed(i), b.key_bias.is_off());
        let skip = if windowed { 2 * half } else { 0 };
        for_rows(self.team, qkv, width, &|t, row| {
            let (cos, sin) = angles[t * 4 * half + skip..][..2 * half].split_at(half);
            self.prepare_heads(layer, whole_keys, row, cos, sin);
            if whole_keys {
                self.rotate_heads(cache_types, row);
            }
        });
        if !whole_keys {
            let rows = &*qkv;
            for_rows(self.team, b.key_bias.room(n, hp), hp.n_head * hp.rope.n_rot, &|t, asked| {
                key_bias::ask(hp, layer, &rows[t * width..][..q_dim], asked);
            });
            for_rows(self.team, qkv, width, &|_, row| self.rotate_heads(cache_types, row));
        }
        let att = &mut b.att[..n * q_dim];
        let step = cache.step();
        let steps = qkv.chunks(step * width).zip(att.chunks_mut(step * q_dim));
        for (from, (qkv, att)) in (0..n).step_by(step).zip(steps) {
            for (t, row) in (from..).zip(qkv.chunks_exact(width)) {
                let (k, v) = row[q_dim..].split_at(hp.kv_dim());
                cache.store(self.kernels, i, self.start + t, k, v);
            }
            self.attend((i, from), windowed, cache, &b.key_bias, qkv, att, b.scores);
        }
        let delta = &mut b.delta[..n * e];
        let input = if layer.attn_sub_norm.is_empty() {
            &*att
        } else {
            let h = &mut b.h[..n * q_dim];
            self.norm(att, layer.attn_sub_norm, h);
            h
        };
        self.linear(&[layer.wo], input, &mut b.acts, delta);
        self.adjust(delta, &[(e, layer.scales[3])], layer.wo_bias);
        self.add(x, delta, layer.post_attn_norm, &mut b.h[..n * e]);
    }

    /// Scales, biases, norms and rotation of one token's queries, keys and values; without `whole_keys` no bias for keys.
    fn prepare_heads(&self, layer: &Layer<'_>, whole_keys: bool, row: &mut [f32], cos: &[f32], sin: &[f32]) {
        let (hp, kernels) = (self.hp(), self.kernels);
        let (q_dim, kv_dim) = (hp.q_dim(), hp.kv_dim());
        adjust_row(
            row,
            &[(q_dim, layer.scales[0]), (kv_dim, layer.scales[1]), (kv_dim, layer.scales[2])],
            if whole_keys { layer.qkv_bias } else { layer.qkv_bias.get(..q_dim).unwrap_or_default() },
        );
        if !whole_keys {
            let bias = layer.qkv_bias.get(q_dim + kv_dim..).unwrap_or_default();
            row[q_dim + kv_dim..].iter_mut().zip(bias).for_each(|(v, b)| *v += b);
        }
        let norm = |head: &mut [f32], weight: &[f32]| {
            let mut copy = [0f32; crate::limits::HEAD_DIM_MAX];
            let copy = &mut copy[..head.len()];
            copy.copy_from_slice(head);
            kernels.rmsnorm(copy, weight, hp.eps, head);
        };
        for (index, head) in row[..q_dim + kv_dim].chunks_exact_mut(hp.head_dim).enumerate() {
            let weight = if index < hp.n_head { layer.q_norm } else { layer.k_norm };
            if hp.arch.qk_norm == QkNorm::BeforeRope {
                norm(head, weight);
            }
            kernels.rope(hp.arch.rope_neox, head, cos, sin);
            if hp.arch.qk_norm == QkNorm::AfterRope {
                norm(head, weight);
            }
        }
    }

    /// Rotates what will meet in a rotated cache: queries and keys, or values.
    fn rotate_heads(&self, (k, v): (KvType, KvType), row: &mut [f32]) {
        let hp = self.hp();
        let keys_end = hp.q_dim() + hp.kv_dim();
        let range = match (k.rotates(), v.rotates()) {
            (false, false) => return,
            (true, false) => 0..keys_end,
            (false, true) => keys_end..row.len(),
            (true, true) => 0..row.len(),
        };
        row[range].chunks_exact_mut(hp.head_dim).for_each(|head| self.kernels.hadamard(head));
    }

    /// Attention in layer `i` of the batch's tokens from `from` on, whose rows are in `qkv`.
    #[allow(clippy::too_many_arguments)] // what it reads and what it writes
    fn attend(
        &self,
        (i, from): (usize, usize),
        windowed: bool,
        cache: &KvCache<'_>,
        key_bias: &KeyBias<'_>,
        qkv: &[f32],
        att: &mut [f32],
        scores: &mut [f32],
    ) {
        let hp = self.hp();
        let group = hp.n_head / hp.n_head_kv * hp.head_dim;
        let width = hp.q_dim() + 2 * hp.kv_dim();
        let tiling = Tiling { rows: qkv.len() / width, row_grain: 1, segments: &[hp.q_dim()], col_grain: group };
        self.team.tiles(att, tiling, scores, &|place, mut tile, scores| {
            let (t, head) = (place.rows.start, place.cols.start / group);
            let end = self.start + from + t + 1;
            let first = if windowed { end.saturating_sub(hp.sliding_window) } else { 0 };
            let (k, v) = cache.head(i, head, first..end);
            let ((k_type, v_type), d, n) = (cache.types(), hp.head_dim, end - first);
            let q = &qkv[t * width + place.cols.start..t * width + place.cols.end];
            let (out, scores) = (tile.row_mut(0), &mut scores[..place.cols.len() / d * n]);
            self.kernels.scores(k_type, q, d, &k, hp.attention_scale, scores);
            let heads = place.cols.start / d..place.cols.end / d;
            key_bias.add(self.kernels, hp, windowed, (from + t, heads), first..end, scores);
            let mut inverse = [0f32; crate::limits::HEADS_MAX];
            for (inverse, scores) in inverse.iter_mut().zip(scores.chunks_exact_mut(n)) {
                *inverse = self.kernels.softmax(scores);
            }
            self.kernels.mix(v_type, scores, d, &v, out);
            for (head, inverse) in out.chunks_exact_mut(d).zip(inverse) {
                head.iter_mut().for_each(|o| *o *= inverse);
                if v_type.rotates() {
                    self.kernels.hadamard(head);
                }
            }
        });
    }

    /// Applies `.scale` tensors and biases to every row, where there are any.
    pub(super) fn adjust(&self, out: &mut [f32], segments: &[(usize, f32)], bias: &[f32]) {
        if bias.is_empty() && segments.iter().all(|s| s.1 == 1.0) {
            return;
        }
        let width = segments.iter().map(|s| s.0).sum();
        for_rows(self.team, out, width, &|_, row| adjust_row(row, segments, bias));
    }
}

/// Multiplies each segment of the row by its factor, then adds the bias (if any).
fn adjust_row(row: &mut [f32], segments: &[(usize, f32)], bias: &[f32]) {
    let mut start = 0;
    for &(width, scale) in segments {
        if scale != 1.0 {
            row[start..start + width].iter_mut().for_each(|v| *v *= scale);
        }
        start += width;
    }
    row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
}
