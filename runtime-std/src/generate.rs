//! Token by token: sample, decode, say, read back, until something ends it.

use crate::drafting::Drafting;
use crate::engine::{self, DRAFT_TOKENS, Machine, Opened};
use crate::exit::{Code, Failure, Outcome};
use crate::full_context::{self, Window};
use crate::host::clock::{Stopwatch, fresh_seed, rate};
use crate::host::signal;
use crate::options::Options;
use crate::stream::{OUT_BYTES, Stream};
use serde_json::{Value, json};
use trill::mem::Carver;
use trill::sampler::{Sampler, SamplerConfig};
use trill::tokenizer::{DecodeOptions, Decoder, EncodeOptions, Kind, Tokenizer};

/// What ended an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The model ended its text or its turn.
    End,
    /// `-n` tokens were made.
    Limit,
    /// The context is full.
    Context,
    /// Ctrl-C.
    Interrupted,
}

impl Stop {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stop::End => "stop",
            Stop::Limit => "length",
            Stop::Context => "context",
            Stop::Interrupted => "interrupted",
        }
    }
}

/// What is asked of the model.
pub(crate) struct Ask<'a> {
    /// The whole text to continue; what the session already holds of it is not read again.
    pub(crate) prompt: &'a [u32],
    /// At most this many tokens.
    pub(crate) most: Option<usize>,
    /// Goes on past the end of the text: the model is not allowed to end it.
    pub(crate) ignore_eos: bool,
    /// A text that ends the answer and does not belong to it; empty for none.
    pub(crate) stop_text: &'a str,
    /// A token that ends the answer beside those of the vocabulary.
    pub(crate) stop_token: Option<u32>,
    /// Whether the answer starts a text rather than continuing one.
    pub(crate) at_start: bool,
    /// What may be forgotten when the context is full; `None` ends the answer there.
    pub(crate) window: Option<Window>,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) stop: Stop,
    /// Tokens of the prompt, and how many of them the session held already.
    pub(crate) prompt: usize,
    pub(crate) reused: usize,
    pub(crate) prompt_seconds: f64,
    /// Tokens made, the one that ended the answer not counted.
    pub(crate) made: usize,
    pub(crate) made_seconds: f64,
    /// Tokens forgotten on the way.
    pub(crate) forgotten: usize,
}

impl Summary {
    pub(crate) fn json(&self) -> Value {
        let read = self.prompt - self.reused;
        json!({
            "prompt_n": read,
            "prompt_reused": self.reused,
            "prompt_ms": self.prompt_seconds * 1e3,
            "prompt_per_second": rate(read, self.prompt_seconds),
            "predicted_n": self.made,
            "predicted_ms": self.made_seconds * 1e3,
            "predicted_per_second": rate(self.made, self.made_seconds),
            "forgotten_n": self.forgotten,
        })
    }

    pub(crate) fn line(&self) -> String {
        let read = self.prompt - self.reused;
        format!(
            "read {read} tokens ({} held) in {:.2} s, {:.1}/s; wrote {} in {:.2} s, {:.1}/s",
            self.reused,
            self.prompt_seconds,
            rate(read, self.prompt_seconds),
            self.made,
            self.made_seconds,
            rate(self.made, self.made_seconds)
        )
    }
}

/// A vocabulary and a sampler, with what decoding needs.
pub(crate) struct Voice {
    pub(crate) tokenizer: Tokenizer<'static>,
    sampler: Sampler<'static>,
    sampling: SamplerConfig,
    head_screen: bool,
    draft: bool,
    /// Room for the text of one token.
    piece: Vec<u8>,
    out: String,
    /// The tokens of the last answer.
    pub(crate) answer: Vec<u32>,
    ends: Vec<u32>,
}

/// Tokens of an answer beyond the context for which there is room from the start.
const ANSWER_TOKENS: usize = 32 << 10;
/// Positions whose logits are computed together: a token and the guesses after it.
pub(crate) const LOGIT_ROWS: usize = 1 + DRAFT_TOKENS;

/// Takes from a measuring carver what [`load`] will take for the voice.
pub(crate) fn measure(options: &Options, opened: &Opened, n_vocab: usize, carver: &mut Carver<'static>) -> Outcome {
    Voice::layout(opened.tokenizer(carver)?, options, options.sampling, n_vocab, carver).map(|_| ())
}

/// Loads a model that speaks.
pub(crate) fn load(options: &Options, opened: &mut Opened) -> Outcome<(Machine, Voice)> {
    let seed = options.seed.unwrap_or_else(fresh_seed);
    log::debug!("seed {seed}");
    let config = SamplerConfig { seed, ..options.sampling };
    let (machine, mut voice) = engine::load(options, opened, LOGIT_ROWS, |opened, model, carver| {
        Voice::layout(opened.tokenizer(carver)?, options, config, model.hparams.n_vocab, carver)
    })?;
    // An answer is longer than the context if it may forget.
    voice.prepare(machine.session.capacity().max(options.predict.unwrap_or(0).min(ANSWER_TOKENS)));
    Ok((machine, voice))
}

impl Voice {
    /// Lays a voice out for a model with `n_vocab` logits.
    fn layout(
        tokenizer: Tokenizer<'static>,
        options: &Options,
        sampling: SamplerConfig,
        n_vocab: usize,
        carver: &mut Carver<'static>,
    ) -> Outcome<Voice> {
        Ok(Voice {
            tokenizer,
            sampler: Sampler::new(sampling, n_vocab, carver)?,
            sampling,
            head_screen: options.head_screen,
            draft: options.draft,
            piece: Vec::new(),
            out: String::new(),
            answer: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// Whether a text that follows these tokens starts afresh, as after a special token.
    pub(crate) fn ends_special(&self, tokens: &[u32]) -> bool {
        let last = tokens.last().and_then(|&id| self.tokenizer.kind(id));
        last.is_none_or(|kind| matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown))
    }

    /// Makes room for answers of `tokens` tokens, so that none is made while they are written.
    fn prepare(&mut self, tokens: usize) {
        self.answer.reserve(tokens);
        self.out.reserve(OUT_BYTES);
        self.piece.resize(self.tokenizer.piece_bytes_max(), 0);
        let all = 0..u32::try_from(self.tokenizer.vocab_size()).unwrap_or(u32::MAX);
        self.ends = all.filter(|&id| self.tokenizer.is_eog(id)).collect();
    }

    /// Continues a text. `say` gets the answer as it comes, in whole characters.
    pub(crate) fn answer(
        &mut self,
        machine: &mut Machine,
        ask: &mut Ask<'_>,
        say: &mut dyn FnMut(&str) -> Outcome,
    ) -> Outcome<Summary> {
        self.answer.clear();
        let clock = Stopwatch::start();
        let reused = machine.keep(ask.prompt);
        // What was said before and is not in the text any more does not count.
        self.sampler.begin(ask.prompt);
        let mut summary = Summary {
            stop: Stop::End,
            prompt: ask.prompt.len(),
            reused,
            prompt_seconds: 0.0,
            made: 0,
            made_seconds: 0.0,
            forgotten: 0,
        };
        machine.session.set_top(self.highest_needed(ask));
        let logits = match machine.read(ask.prompt) {
            Err(failure) if failure.code == Code::Interrupted => {
                return Ok(Summary { stop: Stop::Interrupted, ..summary });
            }
            read => read?,
        };
        summary.prompt_seconds = clock.seconds();
        let clock = Stopwatch::start();
        let mut window = ask.window.take();
        let ask = &*ask;
        let text = Stream::new(ask.stop_text, std::mem::take(&mut self.out));
        let decoder = self.tokenizer.decoder(ask.at_start);
        let mut turn = Turn { voice: self, ask, decoder, text, say };
        let mut stop = turn.choose(logits)?;
        // Reading is what costs: it is kept even if the answer is never finished.
        machine.save(&[], None, false);
        let mut drafting = Drafting::default();
        while stop.is_none() {
            let Some(&id) = turn.voice.answer.last() else { break };
            if machine.room() == 0 {
                let capacity = machine.session.capacity();
                let Some(gap) = window.as_mut().and_then(|w| w.gap(capacity)) else {
                    stop = Some(Stop::Context);
                    break;
                };
                summary.forgotten += gap.len();
                full_context::announce(gap.len(), capacity);
                machine.forget(gap);
            }
            let mut room = [0; DRAFT_TOKENS];
            let guess = if turn.voice.draft { drafting.guess(machine, id, &mut room) } else { &[] };
            let clock = Stopwatch::start();
            let mut right = 0;
            machine.step_ahead(id, guess, &mut |i, logits| {
                stop = turn.choose(logits)?;
                let is_right = turn.voice.answer.last() == guess.get(i) && stop.is_none();
                right += usize::from(is_right);
                Ok(is_right)
            })?;
            drafting.learn(guess.len(), right, clock.seconds());
        }
        let Turn { text, say, .. } = turn;
        summary.stop = stop.unwrap_or(Stop::End);
        self.out = text.finish(say)?;
        (summary.made, summary.made_seconds) = (self.answer.len(), clock.seconds());
        Ok(summary)
    }

    /// How many of the highest logits choosing a token looks at; `None` for all.
    fn highest_needed(&self, ask: &Ask<'_>) -> Option<usize> {
        let c = &self.sampling;
        let penalties = c.repeat_penalty != 1.0 || c.frequency_penalty != 0.0 || c.presence_penalty != 0.0;
        let kept = if c.temperature == 0.0 { 1 } else { c.top_k };
        let forbidden = if ask.ignore_eos { self.ends.len() } else { 0 };
        (self.head_screen && kept > 0 && !(penalties && c.repeat_last_n > 0)).then_some(kept + forbidden)
    }

    /// The bytes of a token.
    fn decode(&mut self, decoder: &mut Decoder, id: u32) -> Outcome<&[u8]> {
        // A model may have more logits than its vocabulary has entries: those say nothing.
        if id as usize >= self.tokenizer.vocab_size() {
            return Ok(&[]);
        }
        let length = decoder.push(&self.tokenizer, id, DecodeOptions::default(), &mut self.piece)?;
        Ok(self.piece.get(..length).unwrap_or_default())
    }
}

/// An answer in the making.
struct Turn<'v, 'a, 's> {
    voice: &'v mut Voice,
    ask: &'a Ask<'a>,
    decoder: Decoder,
    text: Stream<'a>,
    say: &'s mut dyn FnMut(&str) -> Outcome,
}

impl Turn<'_, '_, '_> {
    /// Chooses the next token, adds it to the answer and says it; or tells what ends the answer.
    fn choose(&mut self, logits: &mut [f32]) -> Outcome<Option<Stop>> {
        let (voice, most) = (&mut *self.voice, self.ask.most.unwrap_or(usize::MAX));
        if voice.answer.len() >= most {
            return Ok(Some(Stop::Limit));
        }
        if self.ask.ignore_eos {
            forbid(logits, &voice.ends);
        }
        let id = voice.sampler.sample(logits)?;
        voice.sampler.accept(id);
        if voice.tokenizer.is_eog(id) || self.ask.stop_token == Some(id) {
            return Ok(Some(Stop::End));
        }
        voice.answer.push(id);
        let ended = self.text.push(voice.decode(&mut self.decoder, id)?, self.say)?;
        Ok(if ended {
            Some(Stop::End)
        } else if signal::interrupted() {
            Some(Stop::Interrupted)
        } else {
            (voice.answer.len() >= most).then_some(Stop::Limit)
        })
    }
}

/// The end that Ctrl-C asks for, in loops that are no answers.
pub(crate) fn stop_if_interrupted() -> Outcome {
    if signal::interrupted() { Err(Failure::new(Code::Interrupted, "")) } else { Ok(()) }
}

/// A logit that no other loses against, and that penalties and temperatures leave finite.
const FORBIDDEN: f32 = -1e30;

/// Takes the chance to be chosen from some tokens.
fn forbid(logits: &mut [f32], tokens: &[u32]) {
    for &id in tokens {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = FORBIDDEN;
        }
    }
}

/// Turns text into tokens. Bytes that the vocabulary cannot spell are an error: nothing is dropped silently.
pub(crate) fn encode(tokenizer: &Tokenizer<'_>, text: &[u8], options: EncodeOptions, into: &mut Vec<u32>) -> Outcome {
    let too_long = || Failure::new(Code::Memory, "the text is too long for this machine's memory");
    let need = tokenizer.scratch_bytes_for(text, options).ok_or_else(too_long)?;
    let mut scratch = crate::host::memory::Arena::reserve(need)?;
    let missing = tokenizer.encode(text, options, scratch.room(), &mut |id| {
        into.push(id);
        Ok(())
    })?;
    if missing > 0 {
        log::warn!("{missing} bytes of the text cannot be spelled in this vocabulary and are left out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_tokens_have_no_chance() {
        let mut logits = [1.0, 2.0, 3.0];
        forbid(&mut logits, &[1, 7]);
        assert_eq!(logits, [1.0, FORBIDDEN, 3.0]);
    }
}
