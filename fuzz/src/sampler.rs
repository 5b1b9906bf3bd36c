//! Any logits and any settings that the command line takes: the token exists, the same seed draws the same, greedy
//! choice is the first of the highest, what is forbidden (-1e30) is never chosen where something else can be, and what
//! top-k leaves out neither.

use crate::Choices;
use crate::memory::Memory;
use trill::Error;
use trill::mem::Carver;
use trill::sampler::{Sampler, SamplerConfig};

const FORBIDDEN: f32 = -1e30;

pub fn run(input: &[u8]) {
    let mut c = Choices::new(input);
    let config = settings(&mut c);
    let vocab = 1 + c.below(300);
    let texts = 1 + c.below(4);
    let mut rounds: Vec<Vec<f32>> = (0..texts).map(|_| (0..vocab).map(|_| c.float()).collect()).collect();
    // A NaN ends it all: mostly there is none.
    if c.byte() > 8 {
        rounds.iter_mut().flatten().filter(|v| !v.is_finite()).for_each(|v| *v = FORBIDDEN);
    }
    let first = draw(config, &rounds);
    assert_eq!(draw(config, &rounds), first, "the same seed");
    let Ok(ids) = first else {
        let finite = |v: &f32| v.is_finite() && v.abs() < 1e34;
        assert!(!rounds.iter().flatten().all(finite), "finite logits are refused: {config:?}");
        return;
    };
    let mut seen = Vec::new();
    for (logits, &id) in rounds.iter().zip(&ids) {
        let id = id as usize;
        assert!(id < vocab);
        let penalised = config.repeat_last_n > 0 && !seen.is_empty();
        if logits.iter().any(|&v| v > -1e20) {
            assert!(logits[id] > FORBIDDEN, "forbidden: {config:?}");
        }
        let better = logits.iter().filter(|&&v| v > logits[id]).count();
        let kept = if config.temperature == 0.0 { 1 } else { config.top_k };
        if !penalised && kept > 0 {
            assert!(better < kept, "{better} are likelier: {config:?}");
        }
        if !penalised && config.temperature == 0.0 {
            assert!(logits[..id].iter().all(|v| *v != logits[id]), "not the first of equals");
        }
        seen.push(id);
    }
}

fn settings(c: &mut Choices<'_>) -> SamplerConfig {
    let mut share = || f32::from(c.byte()) / 255.0;
    let (top_p, min_p) = (share(), share());
    let mut penalty = || (f32::from(c.byte()) - 128.0) / 1.28;
    let (frequency_penalty, presence_penalty) = (penalty(), penalty());
    SamplerConfig {
        temperature: c.of(&[0.0, 0.8, 1e-40, 1e-3, 1.0, 2.0, 100.0]),
        top_k: c.below(300),
        top_p,
        min_p,
        repeat_penalty: c.of(&[1.0, 1.1, 0.01, 100.0, 0.5]),
        repeat_last_n: c.of(&[0, 1, 2, 64]),
        frequency_penalty,
        presence_penalty,
        seed: u64::from(c.word()),
    }
}

fn draw(config: SamplerConfig, rounds: &[Vec<f32>]) -> Result<Vec<u32>, Error> {
    let vocab = rounds[0].len();
    let mut measure = Carver::measure();
    Sampler::new(config, vocab, &mut measure)?;
    let mut memory = Memory::default();
    let mut sampler = Sampler::new(config, vocab, &mut memory.carver(measure.used()))?;
    rounds
        .iter()
        .map(|logits| {
            let id = sampler.sample(logits)?;
            sampler.accept(id);
            Ok(id)
        })
        .collect()
}
