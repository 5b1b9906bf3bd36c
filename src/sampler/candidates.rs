//! The tokens still in the running, and the stages that thin them out.

use super::penalties::Penalties;
use super::rng::Rng;
use crate::error::{Error, Result};
use crate::mem::Carver;
use crate::numeric::exp;
use core::cmp::Ordering;

#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Candidate {
    /// The likelier first; of equals the lower id.
    fn order(&self, other: &Candidate) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
}

pub(super) struct Candidates<'a> {
    /// The first `len` are in the running.
    all: &'a mut [Candidate],
    len: usize,
    /// Top-k; 0 keeps all.
    kept: usize,
    /// Highest logit of those in the running.
    max: f32,
}

/// How many of the likeliest are put in order at first, when nothing says how many will be needed.
const FIRST_SORTED: usize = 128;

impl<'a> Candidates<'a> {
    /// With top-k twice as many places are enough, since whenever they are full half of them are dropped.
    pub(super) fn carve(kept: usize, vocab: usize, carver: &mut Carver<'a>) -> Result<Self> {
        let kept = if kept < vocab { kept } else { 0 };
        let places = if kept == 0 { vocab } else { kept.saturating_mul(2).min(vocab) };
        let all = carver.take(places, Candidate { id: 0, logit: 0.0 })?;
        Ok(Candidates { all, len: 0, kept, max: 0.0 })
    }

    fn running(&self) -> &[Candidate] {
        self.all.get(..self.len).unwrap_or_default()
    }

    fn running_mut(&mut self) -> &mut [Candidate] {
        self.all.get_mut(..self.len).unwrap_or_default()
    }

    /// Ids of those in the running, in their order.
    #[cfg(test)]
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.running().iter().map(|c| c.id)
    }

    /// Takes the penalised logits, and of them the top k. Those that stay are in the order of their
    /// probabilities with top-k, in the order of their ids without.
    pub(super) fn collect(&mut self, logits: &[f32], penalties: &Penalties<'_>) -> Result<()> {
        self.len = 0;
        self.max = f32::NEG_INFINITY;
        // Logits up to this one have no chance: k seen before are as good or better.
        let mut bar = f32::NEG_INFINITY;
        for (i, (id, logit)) in (0u32..).zip(logits).enumerate() {
            let logit = penalties.apply(i, *logit) + 0.0; // -0 becomes 0, so that they tie
            if !logit.is_finite() {
                return Err(Error::NotFinite);
            }
            if logit <= bar {
                continue;
            }
            if self.len == self.all.len() {
                bar = self.keep_top();
                if logit <= bar {
                    continue;
                }
            }
            if let Some(place) = self.all.get_mut(self.len) {
                *place = Candidate { id, logit };
                self.len += 1;
                self.max = self.max.max(logit);
            }
        }
        self.keep_top();
        if self.kept > 0 {
            self.running_mut().sort_unstable_by(Candidate::order);
        }
        Ok(())
    }

    /// Drops all but the k likeliest; returns the lowest logit of those that stay, if any had to go.
    fn keep_top(&mut self) -> f32 {
        let kept = self.kept;
        if kept == 0 || self.len <= kept {
            return f32::NEG_INFINITY;
        }
        let (_, last, _) = self.running_mut().select_nth_unstable_by(kept - 1, Candidate::order);
        let bar = last.logit;
        self.len = kept;
        bar
    }

    /// Keeps the likeliest whose probabilities first add up to `p`, in the order of their probabilities.
    pub(super) fn top_p(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let max = self.max;
        let weight = |c: &Candidate| f64::from(exp(c.logit - max));
        let enough = self.running().iter().map(weight).sum::<f64>() * f64::from(p);
        let (mut sum, mut done, mut sorted) = (0.0, 0, 0);
        while done < self.len {
            if done == sorted {
                // Put more in order: the likeliest of the rest, then only those among themselves.
                let more = (self.len - sorted).min(sorted.max(FIRST_SORTED));
                let rest = self.running_mut().get_mut(sorted..).unwrap_or_default();
                if more < rest.len() {
                    rest.select_nth_unstable_by(more, Candidate::order);
                }
                rest.get_mut(..more).unwrap_or_default().sort_unstable_by(Candidate::order);
                sorted += more;
            }
            sum += self.running().get(done).map_or(0.0, weight);
            done += 1;
            if sum >= enough {
                break;
            }
        }
        self.len = done;
    }

    /// Keeps those at least `p` times as probable as the likeliest.
    pub(super) fn min_p(&mut self, p: f32) {
        if p <= 0.0 {
            return;
        }
        let (max, mut kept) = (self.max, 0);
        let running = self.running_mut();
        for i in 0..running.len() {
            if exp(running[i].logit - max) >= p {
                running.swap(kept, i);
                kept += 1;
            }
        }
        self.len = kept;
    }

    /// The likeliest.
    pub(super) fn best(&self) -> Option<u32> {
        self.running().iter().min_by(|a, b| a.order(b)).map(|c| c.id)
    }

    /// Draws one, after dividing the logits by `temperature`.
    pub(super) fn draw(&mut self, temperature: f32, rng: &mut Rng) -> Option<u32> {
        let max = self.max;
        for c in self.running_mut() {
            // The logit is not needed any more; the weight takes its place.
            c.logit = exp((c.logit - max) / temperature);
        }
        let total: f64 = self.running().iter().map(|c| f64::from(c.logit)).sum();
        let target = rng.unit() * total;
        let mut sum = 0.0;
        let mut likely = self.running().iter().filter(|c| c.logit > 0.0);
        let drawn = likely.by_ref().find(|c| {
            sum += f64::from(c.logit);
            sum > target
        });
        drawn.map(|c| c.id)
    }
}
