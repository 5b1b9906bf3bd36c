//! The penalties for repeating: repeat, frequency and presence, over a window of the last tokens.

use super::SamplerConfig;
use crate::error::Result;
use crate::mem::Carver;

pub(super) struct Penalties<'a> {
    /// The window, a ring: the next token goes to `at`.
    window: &'a mut [u32],
    at: usize,
    /// How often each token of the vocabulary is in the window; empty if there is nothing to penalise.
    counts: &'a mut [u32],
    repeat: f32,
    frequency: f32,
    presence: f32,
}

/// A place in the window that no token has taken yet.
const FREE: u32 = u32::MAX;

impl<'a> Penalties<'a> {
    pub(super) fn carve(config: &SamplerConfig, vocab: usize, carver: &mut Carver<'a>) -> Result<Self> {
        let (repeat, frequency, presence) = (config.repeat_penalty, config.frequency_penalty, config.presence_penalty);
        let nothing = config.repeat_last_n == 0 || (repeat == 1.0 && frequency == 0.0 && presence == 0.0);
        let (window, counts) = if nothing { (0, 0) } else { (config.repeat_last_n, vocab) };
        let (window, counts) = (carver.take(window, FREE)?, carver.take(counts, 0u32)?);
        Ok(Penalties { window, at: 0, counts, repeat, frequency, presence })
    }

    /// The text is this one.
    pub(super) fn begin(&mut self, text: &[u32]) {
        self.window.fill(FREE);
        self.counts.fill(0);
        self.at = 0;
        let newest = text.len().saturating_sub(self.window.len());
        text.iter().skip(newest).for_each(|&id| self.accept(id));
    }

    pub(super) fn accept(&mut self, id: u32) {
        let Some(slot) = self.window.get_mut(self.at) else { return };
        let gone = core::mem::replace(slot, id);
        self.at = if self.at + 1 == self.window.len() { 0 } else { self.at + 1 };
        if let Some(count) = self.counts.get_mut(gone as usize) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.counts.get_mut(id as usize) {
            *count += 1;
        }
    }

    /// The logit of the token `id`, penalised.
    #[inline]
    pub(super) fn apply(&self, id: usize, logit: f32) -> f32 {
        match self.counts.get(id) {
            None | Some(0) => logit,
            Some(count) => {
                let scaled = if logit <= 0.0 { logit * self.repeat } else { logit / self.repeat };
                scaled - (*count as f32 * self.frequency + self.presence)
            }
        }
    }
}
