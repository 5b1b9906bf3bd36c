//! Rotary position embedding (arXiv 2104.09864) and its stretched forms. Angles are computed in f64 with
//! libm, so that every machine has the same bits.

use super::hparams::{Hparams, RopeScaling};
use crate::error::Result;
use crate::mem::Carver;
use crate::model::Model;

/// Frequencies of one base, and the factor on rotated values.
pub(crate) struct RopeTable<'s> {
    /// Radians per position, one per rotated pair.
    frequencies: &'s mut [f64],
    magnitude: f64,
}

impl<'s> RopeTable<'s> {
    /// Frequencies for a session of `context` positions; `local` for layers with a sliding window, which
    /// never stretch positions in the models that have a base of their own for them.
    pub(crate) fn new(model: &Model<'_>, context: usize, local: bool, carver: &mut Carver<'s>) -> Result<Self> {
        let hp = &model.hparams;
        let rope = &hp.rope;
        let own_base = hp.arch.rope_base_local.is_some();
        let base = if local { rope.base_local } else { rope.base } as f64;
        let scaling = if local && own_base { RopeScaling::None } else { rope.scaling };
        let divisors = match scaling {
            RopeScaling::LongRope if context > rope.context_original => model.rope_long,
            RopeScaling::LongRope => model.rope_short,
            _ => model.rope_freqs,
        };
        let frequencies = carver.take(rope.n_rot / 2, 0f64)?;
        for (j, f) in frequencies.iter_mut().enumerate() {
            let plain = libm::pow(base, -2.0 * j as f64 / rope.n_rot as f64);
            let divided = plain / divisors.get(j).map_or(1.0, |&d| f64::from(d));
            *f = match scaling {
                RopeScaling::None | RopeScaling::LongRope => divided,
                RopeScaling::Linear(factor) => divided / f64::from(factor),
                RopeScaling::Yarn { factor, beta_fast, beta_slow } => {
                    let keep = yarn_keep(hp, base, j, f64::from(beta_fast), f64::from(beta_slow));
                    divided * (keep + (1.0 - keep) / f64::from(factor))
                }
            };
        }
        let magnitude = f64::from(rope.attention_factor)
            * match scaling {
                RopeScaling::Yarn { factor, .. } => 1.0 + 0.1 * libm::log(f64::from(factor)),
                _ => 1.0,
            };
        let magnitude = if local && own_base { 1.0 } else { magnitude };
        Ok(RopeTable { frequencies, magnitude })
    }

    /// Cosines and sines that turn what was rotated for some position to `distance` positions before it.
    pub(crate) fn fill_back(&self, distance: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((f, c), s) in self.frequencies.iter().zip(cos).zip(sin) {
            let (sine, cosine) = libm::sincos(distance as f64 * f);
            // The factor on rotated values is in them already.
            (*c, *s) = (cosine as f32, -sine as f32);
        }
    }

    /// The bits of everything the angles are made of.
    pub(crate) fn bits(&self) -> impl Iterator<Item = u64> {
        self.frequencies.iter().copied().chain([self.magnitude]).map(f64::to_bits)
    }

    /// Cosines and sines for one position.
    pub(crate) fn fill(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((f, c), s) in self.frequencies.iter().zip(cos).zip(sin) {
            let (sine, cosine) = libm::sincos(position as f64 * f);
            *c = (cosine * self.magnitude) as f32;
            *s = (sine * self.magnitude) as f32;
        }
    }
}

/// How much of pair `j`'s frequency YaRN keeps: 1 above `fast` rotations over the original context, 0 below
/// `slow`, a ramp between.
fn yarn_keep(hp: &Hparams, base: f64, j: usize, fast: f64, slow: f64) -> f64 {
    let n = hp.rope.n_rot as f64;
    let pair = |rotations: f64| {
        let wavelengths = hp.rope.context_original as f64 / (rotations * 2.0 * core::f64::consts::PI);
        n * libm::log(wavelengths) / (2.0 * libm::log(base))
    };
    let low = libm::floor(pair(fast)).max(0.0);
    let high = libm::ceil(pair(slow)).min(n - 1.0);
    1.0 - ((j as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0)
}
