//! Logits to token ids.
//!
//! A chain of stages in llama.cpp's order: penalties, top-k, top-p, min-p, temperature, draw. Temperature 0
//! takes the most likely token instead. The same logits, settings and seed give the same tokens on every
//! machine: `exp` is [`crate::numeric::exp`], sums run in a fixed order, and of equal logits the lower id wins.

mod candidates;
mod penalties;
mod rng;

use crate::error::{Error, Result};
use crate::mem::Carver;
use candidates::Candidates;
use penalties::Penalties;
use rng::Rng;

/// Settings of the chain. The default is llama.cpp's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Logits are divided by it before drawing; 0 takes the most likely token.
    pub temperature: f32,
    /// Only this many of the most likely tokens stay; 0 keeps all.
    pub top_k: usize,
    /// Only the most likely tokens whose probabilities first add up to this stay; 1 keeps all.
    pub top_p: f32,
    /// Only tokens at least this probable, measured against the most likely one, stay; 0 keeps all.
    pub min_p: f32,
    /// Positive logits of tokens in the window are divided by it, negative ones multiplied; 1 changes nothing.
    pub repeat_penalty: f32,
    /// Length of the window: the last tokens that the three penalties look at; 0 turns them off.
    pub repeat_last_n: usize,
    /// Taken off a token's logit for each time it is in the window.
    pub frequency_penalty: f32,
    /// Taken off a token's logit if it is in the window.
    pub presence_penalty: f32,
    /// Start of the random numbers.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        SamplerConfig {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
        }
    }
}

impl SamplerConfig {
    fn check(&self) -> core::result::Result<(), SamplerError> {
        let share = |v: f32| (0.0..=1.0).contains(&v);
        let checks = [
            (self.temperature.is_finite() && self.temperature >= 0.0, SamplerError::Temperature),
            (share(self.top_p), SamplerError::TopP),
            (share(self.min_p), SamplerError::MinP),
            (self.repeat_penalty.is_finite() && self.repeat_penalty > 0.0, SamplerError::RepeatPenalty),
            (self.frequency_penalty.is_finite(), SamplerError::FrequencyPenalty),
            (self.presence_penalty.is_finite(), SamplerError::PresencePenalty),
        ];
        checks.iter().find(|(sound, _)| !sound).map_or(Ok(()), |(_, e)| Err(*e))
    }
}

/// A setting is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SamplerError {
    /// The temperature is negative or not finite.
    Temperature,
    /// Top-p is not between 0 and 1.
    TopP,
    /// Min-p is not between 0 and 1.
    MinP,
    /// The repeat penalty is not a finite number above 0.
    RepeatPenalty,
    /// The frequency penalty is not finite.
    FrequencyPenalty,
    /// The presence penalty is not finite.
    PresencePenalty,
}

impl core::fmt::Display for SamplerError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            SamplerError::Temperature => "the temperature must be 0 or more",
            SamplerError::TopP => "top-p must be between 0 and 1",
            SamplerError::MinP => "min-p must be between 0 and 1",
            SamplerError::RepeatPenalty => "the repeat penalty must be above 0",
            SamplerError::FrequencyPenalty => "the frequency penalty must be finite",
            SamplerError::PresencePenalty => "the presence penalty must be finite",
        })
    }
}

impl core::error::Error for SamplerError {}

/// Chooses tokens. Its memory is the caller's; choosing takes no more.
pub struct Sampler<'a> {
    config: SamplerConfig,
    vocab: usize,
    penalties: Penalties<'a>,
    candidates: Candidates<'a>,
    rng: Rng,
}

impl<'a> Sampler<'a> {
    /// A sampler for logits of `vocab` tokens, with an empty window.
    ///
    /// # Errors
    /// [`Error::Sampler`] for a setting out of range, [`Error::Mem`] if the carver has too little.
    pub fn new(config: SamplerConfig, vocab: usize, carver: &mut Carver<'a>) -> Result<Self> {
        config.check()?;
        let kept = if config.temperature == 0.0 { 1 } else { config.top_k };
        Ok(Sampler {
            penalties: Penalties::carve(&config, vocab, carver)?,
            candidates: Candidates::carve(kept, vocab, carver)?,
            rng: Rng::new(config.seed),
            config,
            vocab,
        })
    }

    /// A text begins with these tokens: whatever was noted before is forgotten, and they are noted. Chance goes on.
    pub fn begin(&mut self, text: &[u32]) {
        self.penalties.begin(text);
    }

    /// Takes note of a token of the text, of the prompt or chosen, for the penalties.
    pub fn accept(&mut self, id: u32) {
        self.penalties.accept(id);
    }

    /// Chooses a token. `logits` has one value for each token of the vocabulary.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a logit is NaN or infinite, before or after the penalties.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        assert_eq!(logits.len(), self.vocab, "one logit for each token");
        self.candidates.collect(logits, &self.penalties)?;
        if self.config.temperature > 0.0 {
            self.candidates.top_p(self.config.top_p);
            self.candidates.min_p(self.config.min_p);
        }
        let id = match self.config.temperature {
            t if t > 0.0 => self.candidates.draw(t, &mut self.rng),
            _ => self.candidates.best(),
        };
        id.ok_or(Error::NotFinite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const GREEDY: SamplerConfig = SamplerConfig {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        repeat_last_n: 64,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        seed: 1,
    };
    const PLAIN: SamplerConfig = SamplerConfig { temperature: 1.0, ..GREEDY };

    fn with<R>(config: SamplerConfig, vocab: usize, run: impl FnOnce(&mut Sampler<'_>) -> R) -> R {
        let mut carver = Carver::measure();
        Sampler::new(config, vocab, &mut carver).unwrap();
        let mut memory = vec![core::mem::MaybeUninit::uninit(); carver.used() + 64];
        let from = memory.as_ptr().align_offset(64);
        let mut carver = Carver::over(&mut memory[from..]).unwrap();
        run(&mut Sampler::new(config, vocab, &mut carver).unwrap())
    }

    /// How often each token comes out of `n` draws.
    fn counts(config: SamplerConfig, logits: &[f32], n: usize) -> Vec<usize> {
        with(config, logits.len(), |s| {
            let mut counts = vec![0; logits.len()];
            (0..n).for_each(|_| counts[s.sample(logits).unwrap() as usize] += 1);
            counts
        })
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest() {
        let pick = |logits: &[f32]| with(GREEDY, logits.len(), |s| s.sample(logits));
        assert_eq!(pick(&[1.0, 3.0, 3.0, 2.0]), Ok(1));
        assert_eq!(pick(&[-5.0, -7.0]), Ok(0));
        assert_eq!(pick(&[-1.0, -0.0, 0.0, -0.0]), Ok(1));
        assert_eq!(pick(&[0.0, f32::NAN]), Err(Error::NotFinite));
        assert_eq!(pick(&[0.0, f32::NEG_INFINITY]), Err(Error::NotFinite));
    }

    #[test]
    fn draws_follow_the_distribution() {
        // Chi-squared with 5 degrees of freedom is above 20.5 once in a thousand seeds; the seed is fixed.
        let p = [0.35f64, 0.25, 0.2, 0.1, 0.07, 0.03];
        let n = 200_000;
        for temperature in [1.0f32, 0.5, 2.0] {
            let logits: Vec<f32> = p.iter().map(|p| libm::logf(*p as f32) * temperature + 3.0).collect();
            let got = counts(SamplerConfig { temperature, ..PLAIN }, &logits, n);
            let chi: f64 = got.iter().zip(p).map(|(g, p)| (*g as f64 - p * n as f64).powi(2) / (p * n as f64)).sum();
            assert!(chi < 20.5, "{temperature}: {chi}, {got:?}");
        }
    }

    #[test]
    fn stages_cut_where_they_should() {
        let logits: Vec<f32> = [0.4f32, 0.05, 0.3, 0.15, 0.1].iter().map(|p| libm::logf(*p)).collect();
        let kept = |config| counts(config, &logits, 4000).iter().map(|c| *c > 0).collect::<Vec<_>>();
        assert_eq!(kept(PLAIN), [true; 5]);
        assert_eq!(kept(SamplerConfig { top_k: 3, ..PLAIN }), [true, false, true, true, false]);
        assert_eq!(kept(SamplerConfig { top_p: 0.69, ..PLAIN }), [true, false, true, false, false]);
        assert_eq!(kept(SamplerConfig { top_p: 0.71, ..PLAIN }), [true, false, true, true, false]);
        assert_eq!(kept(SamplerConfig { top_p: 0.0, ..PLAIN }), [true, false, false, false, false]);
        assert_eq!(kept(SamplerConfig { min_p: 0.3, ..PLAIN }), [true, false, true, true, false]);
        assert_eq!(kept(SamplerConfig { min_p: 1.0, ..PLAIN }), [true, false, false, false, false]);
        // Top-p sees what top-k left, renormalised: 0.4 / 0.7 is over one half.
        assert_eq!(kept(SamplerConfig { top_k: 2, top_p: 0.5, ..PLAIN }), [true, false, false, false, false]);
        assert_eq!(kept(SamplerConfig { temperature: 1e-30, ..PLAIN }), [true, false, false, false, false]);
    }

    #[test]
    fn top_k_and_top_p_agree_with_sorting_everything() {
        let mut rng = Rng::new(5);
        for round in 0..200 {
            let logits: Vec<f32> = (0..1 + round * 7).map(|_| (rng.unit() * 40.0) as i32 as f32 * 0.25).collect();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
            let k = 1 + round % 50;
            let config = SamplerConfig { top_k: k, ..PLAIN };
            with(config, logits.len(), |s| {
                s.candidates.collect(&logits, &s.penalties).unwrap();
                s.candidates.top_p(0.999_999);
                let got: Vec<usize> = s.candidates.ids().map(|id| id as usize).collect();
                assert_eq!(got, order[..got.len()]);
            });
            let max = logits[order[0]];
            let weight: Vec<f64> = order.iter().map(|i| libm::exp(f64::from(logits[*i] - max))).collect();
            let (total, mut sum) = (weight.iter().sum::<f64>(), 0.0);
            let want = weight.iter().position(|w| {
                sum += w;
                sum >= 0.9 * total
            });
            with(PLAIN, logits.len(), |s| {
                s.candidates.collect(&logits, &s.penalties).unwrap();
                s.candidates.top_p(0.9);
                let got: Vec<usize> = s.candidates.ids().map(|id| id as usize).collect();
                assert_eq!(got, order[..=want.unwrap()], "{round}");
            });
        }
    }

    #[test]
    fn penalties_count_the_window() {
        let config = SamplerConfig { repeat_penalty: 2.0, repeat_last_n: 3, ..GREEDY };
        with(config, 4, |s| {
            let logits = [4.0, 3.0, -1.0, -1.5];
            assert_eq!(s.sample(&logits), Ok(0));
            s.accept(0);
            assert_eq!(s.sample(&logits), Ok(1)); // 2 3 -1 -1.5
            s.accept(1);
            assert_eq!(s.sample(&logits), Ok(0)); // 2 1.5 -1 -1.5
            (0..3).for_each(|_| s.accept(2)); // 0 and 1 fall out of the window
            assert_eq!(s.sample(&[0.0, -9.0, -1.0, -1.9]), Ok(0));
            assert_eq!(s.sample(&[-9.0, -9.0, -1.0, -1.9]), Ok(3)); // -2 -1.9
        });
        let config = SamplerConfig { frequency_penalty: 0.5, presence_penalty: 1.0, ..GREEDY };
        with(config, 3, |s| {
            [0, 0, 1].iter().for_each(|id| s.accept(*id));
            assert_eq!(s.sample(&[4.0, 3.6, 0.0]), Ok(1)); // 2 2.1 0
            assert_eq!(s.sample(&[4.2, 3.6, 0.0]), Ok(0)); // 2.2 2.1 0
            s.accept(4_000_000); // outside the vocabulary: counts for nothing
            assert_eq!(s.sample(&[4.2, 3.6, 0.0]), Ok(0));
        });
        let config = SamplerConfig { repeat_penalty: f32::MAX, ..GREEDY };
        with(config, 2, |s| {
            s.accept(0);
            assert_eq!(s.sample(&[-2.0, 0.0]), Err(Error::NotFinite));
        });
    }

    #[test]
    fn a_seed_gives_one_sequence() {
        let logits: Vec<f32> = (0..500).map(|i| (i * 37 % 101) as f32 * 0.07).collect();
        let run = |seed| {
            with(SamplerConfig { seed, ..SamplerConfig::default() }, 500, |s| {
                (0..12).map(|_| s.sample(&logits).unwrap()).collect::<Vec<_>>()
            })
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let bad = [
            (SamplerConfig { temperature: -1.0, ..PLAIN }, SamplerError::Temperature),
            (SamplerConfig { temperature: f32::NAN, ..PLAIN }, SamplerError::Temperature),
            (SamplerConfig { top_p: 1.5, ..PLAIN }, SamplerError::TopP),
            (SamplerConfig { min_p: -0.1, ..PLAIN }, SamplerError::MinP),
            (SamplerConfig { repeat_penalty: 0.0, ..PLAIN }, SamplerError::RepeatPenalty),
            (SamplerConfig { frequency_penalty: f32::INFINITY, ..PLAIN }, SamplerError::FrequencyPenalty),
            (SamplerConfig { presence_penalty: f32::NAN, ..PLAIN }, SamplerError::PresencePenalty),
        ];
        for (config, want) in bad {
            let got = Sampler::new(config, 10, &mut Carver::measure()).err();
            assert_eq!(got, Some(Error::Sampler(want)));
        }
    }
}
