//! The feed-forward half of a layer. With a squared ReLU most of it is zero, and what is multiplied by zero need not be
//! read: up rows whose gate is not positive, and down columns whose int8 input is 0. A packed file has layouts from
//! which single ones can be read; whether that pays is decided layer by layer, by how many there were of late.

use super::Layer;
use super::forward::{Buffers, Pass};
use crate::error::Result;
use crate::kernels::Activation;
use crate::mem::Carver;
use crate::model::Model;
use crate::ops::{self, Chosen, Workers, for_rows};
use crate::quant::ActKind;

/// Tokens of a batch up to which each is taken alone: one, or a draft to verify.
const FEW: usize = 4;
/// Choosing pays while less than this share of the rows or columns is read: they are read in shorter runs.
const PAYS: f32 = 0.8;
/// A layer where choosing does not pay tries again after so many tokens.
const AGAIN: u32 = 32;
/// Weight of the newest token in a running share.
const NEWEST: f32 = 0.125;

/// What was read of one layer's up and down matrices, for tokens that were not read in large batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Skipping {
    /// Tokens.
    pub tokens: usize,
    /// Up rows read.
    pub rows: usize,
    /// Down columns read.
    pub columns: usize,
    up: Running,
    down: Running,
}

impl Skipping {
    /// The shares of positive gates and of down inputs that are not 0, of late.
    pub fn shares(&self) -> (f32, f32) {
        (self.up.share, self.down.share)
    }
}

/// The share that was needed of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Running {
    share: f32,
    /// Batches since it was last seen.
    unseen: u32,
    known: bool,
}

impl Running {
    /// Whether to choose for a batch of `n` tokens. Each token has rows of its own, which the others need not have.
    fn pays(&mut self, n: usize) -> bool {
        self.unseen += 1;
        self.share * n as f32 <= PAYS || self.unseen > AGAIN
    }

    fn saw(&mut self, chosen: usize, of: usize) {
        let now = chosen as f32 / of.max(1) as f32;
        self.share += if self.known { NEWEST * (now - self.share) } else { now };
        (self.unseen, self.known) = (0, true);
    }
}

/// What skipping needs; empty for models where nothing can be skipped.
pub(crate) struct SkipBuffer<'s> {
    chosen: Chosen<'s>,
    /// Results of the chosen rows, `n_ff`.
    results: &'s mut [f32],
    /// One for each layer.
    pub(crate) layers: &'s mut [Skipping],
    pub(crate) on: bool,
}

impl<'s> SkipBuffer<'s> {
    pub(crate) fn new(model: &Model<'_>, carver: &mut Carver<'s>) -> Result<Self> {
        let hp = &model.hparams;
        let (width, layers) = if hp.arch.activation == Activation::Relu2 { (hp.n_ff, hp.n_layer) } else { (0, 0) };
        Ok(SkipBuffer {
            chosen: Chosen::new(width, carver)?,
            results: carver.take(width, 0.0)?,
            layers: carver.take(layers, Skipping::default())?,
            on: true,
        })
    }
}

impl Pass<'_, '_, '_> {
    /// The feed-forward half of layer `i`.
    pub(super) fn feed_forward(&self, i: usize, layer: &Layer<'_>, b: &mut Buffers<'_>) {
        let (hp, n) = (self.hp(), self.n);
        let (e, ff) = (hp.n_embd, layer.down.cols());
        let may_skip = b.skip.on && n <= FEW && hp.arch.activation == Activation::Relu2;
        self.norm(&b.x[..n * e], layer.ffn_norm, &mut b.h[..n * e]);
        let [gate, up] = &layer.gate_up;
        let apart = may_skip && gate.ty().info().act == ActKind::Row && ops::has_rows_apart(up);
        // Where the gated values of a token begin.
        let stride = if apart && b.skip.layers[i].up.pays(n) {
            self.gate_positive(i, layer, b);
            ff
        } else {
            self.gate_all(layer, b);
            self.count(i, b, |s| s.rows += n * ff);
            2 * ff
        };
        self.sub_norm(layer, stride, b);
        if may_skip && ops::has_columns_apart(&layer.down) && b.skip.layers[i].down.pays(n) {
            self.down_nonzero(i, layer, b);
        } else {
            self.linear(&[layer.down], &b.h[..n * ff], &mut b.acts, &mut b.delta[..n * e]);
            self.count(i, b, |s| s.columns += n * ff);
        }
        self.count(i, b, |s| s.tokens += n);
        let (x, delta) = (&mut b.x[..n * e], &mut b.delta[..n * e]);
        self.adjust(delta, &[(e, layer.scales[6])], &[]);
        self.add(x, delta, layer.post_ffn_norm, &mut b.h[..n * e]);
    }

    /// Gated values, `stride` from one token to the next, to `h`, `n_ff` for each token, through the norm if there is one.
    fn sub_norm(&self, layer: &Layer<'_>, stride: usize, b: &mut Buffers<'_>) {
        let (hp, n, ff) = (self.hp(), self.n, layer.down.cols());
        let (weight, kept) = (layer.ffn_sub_norm, layer.ffn_kept);
        if weight.is_empty() || kept.is_empty() {
            for_rows(self.team, &mut b.h[..n * ff], ff, &|t, row| {
                let gated = &b.ff[t * stride..][..ff];
                if weight.is_empty() {
                    row.copy_from_slice(gated);
                } else {
                    self.kernels.rmsnorm(gated, weight, hp.eps, row);
                }
            });
            return;
        }
        // The norm is over all neurons, in their places: its sums have an order.
        let all = hp.n_ff;
        for_rows(self.team, &mut b.h[..n * all], all, &|t, row| {
            row.fill(0.0);
            kept.iter().zip(&b.ff[t * stride..]).for_each(|(&k, v)| row[k as usize] = *v);
        });
        for_rows(self.team, &mut b.ff[..n * all], all, &|t, row| {
            self.kernels.rmsnorm(&b.h[t * all..(t + 1) * all], weight, hp.eps, row);
        });
        for_rows(self.team, &mut b.h[..n * ff], ff, &|t, row| {
            row.iter_mut().zip(kept).for_each(|(v, &k)| *v = b.ff[t * all + k as usize]);
        });
    }

    /// Counts what was read of layer `i` for a few tokens.
    fn count(&self, i: usize, b: &mut Buffers<'_>, add: impl FnOnce(&mut Skipping)) {
        if self.n <= FEW
            && let Some(seen) = b.skip.layers.get_mut(i)
        {
            add(seen);
        }
    }

    /// Gated values of `h` to the first half of each token's `2 * n_ff`.
    fn gate_all(&self, layer: &Layer<'_>, b: &mut Buffers<'_>) {
        let (hp, n) = (self.hp(), self.n);
        let (e, ff) = (hp.n_embd, layer.down.cols());
        let gate_up = &mut b.ff[..n * 2 * ff];
        self.linear(layer.gate_up_parts(), &b.h[..n * e], &mut b.acts, gate_up);
        self.adjust(gate_up, &[(ff, layer.scales[4]), (ff, layer.scales[5])], &[]);
        for_rows(self.team, gate_up, 2 * ff, &|_, row| {
            let (gate, up) = row.split_at_mut(ff);
            self.kernels.glu(hp.arch.activation, gate, up);
        });
    }

    /// Gated values of `h`, `n_ff` for each token, reading only the up rows whose gate is positive.
    fn gate_positive(&self, i: usize, layer: &Layer<'_>, b: &mut Buffers<'_>) {
        let (hp, n) = (self.hp(), self.n);
        let (e, ff) = (hp.n_embd, layer.down.cols());
        let at = Workers { team: self.team, kernels: self.kernels };
        let (gate, up) = b.ff[..n * 2 * ff].split_at_mut(n * ff);
        let acts = b.acts.fill(self.team, self.kernels, ActKind::Row, &b.h[..n * e], e);
        ops::multiply(&at, &layer.gate_up[..1], &acts, gate);
        self.adjust(gate, &[(ff, layer.scales[4])], &[]);
        let seen = &mut b.skip.layers[i];
        up.fill(0.0);
        for (t, (gate, up)) in gate.chunks_exact_mut(ff).zip(up.chunks_exact_mut(ff)).enumerate() {
            let rows = b.skip.chosen.positive(gate);
            let results = &mut b.skip.results[..rows.len()];
            ops::chosen_rows(&at, &layer.gate_up[1], rows, &acts.token(t), results);
            self.adjust(results, &[(rows.len(), layer.scales[5])], &[]);
            rows.iter().zip(results).for_each(|(&row, v)| up[row as usize] = *v);
            self.kernels.glu(hp.arch.activation, gate, up);
            seen.up.saw(rows.len(), ff);
            seen.rows += rows.len();
        }
    }

    /// The down matrix times `h`, reading only the columns whose input is not 0.
    fn down_nonzero(&self, i: usize, layer: &Layer<'_>, b: &mut Buffers<'_>) {
        let (hp, n) = (self.hp(), self.n);
        let (e, ff) = (hp.n_embd, layer.down.cols());
        let at = Workers { team: self.team, kernels: self.kernels };
        let acts = b.acts.fill(self.team, self.kernels, ActKind::Row, &b.h[..n * ff], ff);
        let seen = &mut b.skip.layers[i];
        for (t, delta) in b.delta[..n * e].chunks_exact_mut(e).enumerate() {
            let columns = ops::nonzero_columns(&at, &layer.down, &acts.token(t), &mut b.skip.chosen, delta);
            seen.down.saw(columns, ff);
            seen.columns += columns;
        }
    }
}
