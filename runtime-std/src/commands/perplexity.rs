//! `trill perplexity`: how well a model predicts a text, computed as llama-perplexity does: the text is cut
//! into chunks of `-c` tokens, each read from an empty context, and the second half of each is scored.

use super::Command;
use crate::engine::{self, Machine};
use crate::exit::{Code, Failure, Outcome};
use crate::generate::{encode, stop_if_interrupted};
use crate::input;
use crate::options::Options;
use crate::report::progress::Progress;
use crate::report::{json, text};
use serde_json::json;
use std::ops::ControlFlow;
use trill::tokenizer::EncodeOptions;

pub(crate) const PERPLEXITY: Command = Command {
    name: "perplexity",
    summary: "measures how well a model predicts a text",
    usage: "perplexity -m MODEL -f FILE [-c TOKENS] [--json]",
    notes: "Chunks of -c tokens (512), the beginning token first where the model wants it; the second half of each\n\
            chunk is scored.",
    bit: 1 << 3,
    takes_model: false,
    operands: &[],
    run,
};

/// Tokens of a chunk if the user does not say.
const CHUNK_DEFAULT: usize = 512;
/// Positions whose logits are computed together.
const ROWS: usize = 16;

/// Sums over the tokens scored so far.
#[derive(Default)]
struct Score {
    tokens: usize,
    nll: f64,
    nll_squared: f64,
}

fn run(options: &Options) -> Outcome {
    let Some(path) = &options.file else {
        return Err(Failure::usage("no text given").remedy("add -f FILE"));
    };
    let chunk = options.context.unwrap_or(CHUNK_DEFAULT);
    if chunk < 4 {
        return Err(Failure::usage(format!("-c {chunk}: a chunk needs at least 4 tokens")));
    }
    let words = input::file(path)?;
    let mut opened = engine::open(options)?;
    let options = &Options { context: Some(chunk), ..options.clone() };
    let (mut machine, tokenizer) =
        engine::load(options, &mut opened, ROWS, |opened, _, carver| opened.tokenizer(carver))?;
    let mut tokens = Vec::new();
    let add_bos = tokenizer.add_bos();
    encode(&tokenizer, &words, EncodeOptions { add_bos, parse_special: false }, &mut tokens)?;
    let chunks = tokens.len() / chunk;
    if chunks == 0 {
        let what = format!("the text has {} tokens, less than one chunk of {chunk}", tokens.len());
        return Err(Failure::new(Code::Data, what).remedy(format!("use a longer text, or -c {}", tokens.len())));
    }
    let first = tokenizer.bos().filter(|_| add_bos);
    let mut score = Score::default();
    let mut progress = Progress::new("scoring", "tokens", chunks * chunk, options.verbosity);
    for (i, tokens) in tokens.chunks_exact_mut(chunk).enumerate() {
        if let (Some(slot), Some(bos)) = (tokens.first_mut(), first) {
            *slot = bos;
        }
        score_chunk(&mut machine, tokens, &mut score)?;
        stop_if_interrupted()?;
        progress.update((i + 1) * chunk);
        log::debug!("chunk {} of {chunks}: perplexity {:.4} so far", i + 1, score.perplexity());
    }
    drop(progress);
    score.report(chunks, options.json)
}

/// Reads a chunk; the logits from its middle on predict the tokens that follow.
fn score_chunk(machine: &mut Machine, tokens: &[u32], score: &mut Score) -> Outcome {
    let first = tokens.len() / 2;
    machine.clear();
    machine.session.prefill(&machine.pool, &tokens[..first], &mut |_| ControlFlow::Continue(()))?;
    let (scored, expected) = (&tokens[first..tokens.len() - 1], &tokens[first + 1..]);
    machine.session.logits_all(&machine.pool, scored, &mut |i, logits| {
        score.add(negative_log_likelihood(logits, expected[i]).ok_or(trill::Error::NotFinite)?);
        Ok(())
    })?;
    Ok(())
}

/// `-log softmax(logits)[token]`; `None` if that is no number.
pub(super) fn negative_log_likelihood(logits: &[f32], token: u32) -> Option<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - highest).exp()).sum();
    let nll = sum.ln() - f64::from(logits.get(token as usize)? - highest);
    nll.is_finite().then_some(nll)
}

impl Score {
    fn add(&mut self, nll: f64) {
        self.tokens += 1;
        self.nll += nll;
        self.nll_squared += nll * nll;
    }

    fn mean(&self) -> f64 {
        self.nll / self.tokens.max(1) as f64
    }

    fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// Standard error of the perplexity.
    fn error(&self) -> f64 {
        let n = self.tokens as f64;
        let variance = self.nll_squared / n - self.mean() * self.mean();
        if self.tokens > 1 && variance > 0.0 { (variance / (n - 1.0)).sqrt() * self.perplexity() } else { 0.0 }
    }

    fn report(&self, chunks: usize, as_json: bool) -> Outcome {
        if as_json {
            return json::print(&json!({
                "tokens_scored": self.tokens,
                "chunks": chunks,
                "nll_mean": self.mean(),
                "perplexity": self.perplexity(),
                "perplexity_error": self.error(),
            }));
        }
        text::print(&format!(
            "perplexity {:.4} +/- {:.4} ({} tokens in {chunks} chunks scored)\n",
            self.perplexity(),
            self.error(),
            self.tokens
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods() {
        let nll = negative_log_likelihood(&[0.0, 0.0, 0.0, 0.0], 2).unwrap();
        assert!((nll - 4f64.ln()).abs() < 1e-12);
        let nll = negative_log_likelihood(&[1000.0, 0.0], 1).unwrap();
        assert_eq!(nll, 1000.0);
        assert_eq!(negative_log_likelihood(&[f32::NAN, 0.0], 1), None);
        assert_eq!(negative_log_likelihood(&[0.0], 1), None);
    }

    #[test]
    fn score_of_even_odds() {
        let mut score = Score::default();
        (0..8).for_each(|_| score.add(2f64.ln()));
        assert!((score.perplexity() - 2.0).abs() < 1e-12 && score.error() < 1e-6);
    }
}
