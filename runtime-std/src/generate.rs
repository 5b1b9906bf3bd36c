//! Token by token: sample, decode, say, read back, until something ends it.

use crate::engine::{self, Machine, Opened};
use crate::exit::{Code, Failure, Outcome};
use crate::host::clock::{Stopwatch, fresh_seed, rate};
use crate::host::signal;
use crate::options::Options;
use serde_json::{Value, json};
use trill::mem::Carver;
use trill::sampler::{Sampler, SamplerConfig};
use trill::tokenizer::{DecodeOptions, Decoder, EncodeOptions, Kind, Tokenizer, Utf8Stream};

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
    /// Room for the text of one token.
    piece: Vec<u8>,
    out: String,
    /// The tokens of the last answer.
    pub(crate) answer: Vec<u32>,
    ends: Vec<u32>,
}

/// Takes from a measuring carver what [`load`] will take for the voice.
pub(crate) fn measure(options: &Options, opened: &Opened, n_vocab: usize, carver: &mut Carver<'static>) -> Outcome {
    Voice::layout(opened.tokenizer(carver)?, options.sampling, n_vocab, carver).map(|_| ())
}

/// Loads a model that speaks.
pub(crate) fn load(options: &Options, opened: &Opened) -> Outcome<(Machine, Voice)> {
    let seed = options.seed.unwrap_or_else(fresh_seed);
    log::debug!("seed {seed}");
    let config = SamplerConfig { seed, ..options.sampling };
    let (machine, mut voice) = engine::load(options, opened, 1, |model, carver| {
        Voice::layout(opened.tokenizer(carver)?, config, model.hparams.n_vocab, carver)
    })?;
    voice.prepare(machine.session.capacity());
    Ok((machine, voice))
}

impl Voice {
    /// Lays a voice out for a model with `n_vocab` logits.
    fn layout(
        tokenizer: Tokenizer<'static>,
        config: SamplerConfig,
        n_vocab: usize,
        carver: &mut Carver<'static>,
    ) -> Outcome<Voice> {
        let sampler = Sampler::new(config, n_vocab, carver)?;
        Ok(Voice { tokenizer, sampler, piece: Vec::new(), out: String::new(), answer: Vec::new(), ends: Vec::new() })
    }

    /// Whether a text that follows these tokens starts afresh, as after a special token.
    pub(crate) fn ends_special(&self, tokens: &[u32]) -> bool {
        let last = tokens.last().and_then(|&id| self.tokenizer.kind(id));
        last.is_none_or(|kind| matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown))
    }

    /// Makes room for answers in a context of `capacity` tokens, so that none is made while they are written.
    fn prepare(&mut self, capacity: usize) {
        self.answer.reserve(capacity);
        self.out.reserve(OUT_BYTES);
        self.piece.resize(self.tokenizer.piece_bytes_max(), 0);
        let all = 0..u32::try_from(self.tokenizer.vocab_size()).unwrap_or(u32::MAX);
        self.ends = all.filter(|&id| self.tokenizer.is_eog(id)).collect();
    }

    /// Continues a text. `say` gets the answer as it comes, in whole characters.
    pub(crate) fn answer(
        &mut self,
        machine: &mut Machine,
        ask: &Ask<'_>,
        say: &mut dyn FnMut(&str) -> Outcome,
    ) -> Outcome<Summary> {
        self.answer.clear();
        let clock = Stopwatch::start();
        let reused = machine.shared(ask.prompt).min(ask.prompt.len().saturating_sub(1));
        ask.prompt.iter().skip(reused).for_each(|&id| self.sampler.accept(id));
        let mut summary = Summary {
            stop: Stop::End,
            prompt: ask.prompt.len(),
            reused,
            prompt_seconds: 0.0,
            made: 0,
            made_seconds: 0.0,
        };
        let mut logits = match machine.read(ask.prompt) {
            Err(failure) if failure.code == Code::Interrupted => {
                return Ok(Summary { stop: Stop::Interrupted, ..summary });
            }
            read => read?,
        };
        summary.prompt_seconds = clock.seconds();
        let clock = Stopwatch::start();
        let most = ask.most.unwrap_or(usize::MAX);
        let mut text = Stream::new(ask.stop_text, std::mem::take(&mut self.out));
        let mut decoder = self.tokenizer.decoder(ask.at_start);
        summary.stop = loop {
            if self.answer.len() >= most {
                break Stop::Limit;
            }
            if ask.ignore_eos {
                forbid(logits, &self.ends);
            }
            let id = self.sampler.sample(logits)?;
            self.sampler.accept(id);
            if self.tokenizer.is_eog(id) || ask.stop_token == Some(id) {
                break Stop::End;
            }
            self.answer.push(id);
            if text.push(self.decode(&mut decoder, id)?, say)? {
                break Stop::End;
            }
            if signal::interrupted() {
                break Stop::Interrupted;
            }
            if self.answer.len() < most {
                if machine.room() == 0 {
                    break Stop::Context;
                }
                logits = machine.step(id)?;
            }
        };
        self.out = text.finish(say)?;
        (summary.made, summary.made_seconds) = (self.answer.len(), clock.seconds());
        Ok(summary)
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

/// Bytes to text, with a text that ends it held back.
struct Stream<'s> {
    utf8: Utf8Stream,
    filter: Filter<'s>,
}

/// Bytes of text between two calls of a listener before more memory is asked for.
const OUT_BYTES: usize = 1024;

impl<'s> Stream<'s> {
    /// `out` is room for text on its way; [`Stream::finish`] gives it back.
    fn new(stop: &'s str, mut out: String) -> Self {
        out.clear();
        Stream { utf8: Utf8Stream::new(), filter: Filter { stop, matched: 0, out } }
    }

    /// True once the stop text has come.
    fn push(&mut self, bytes: &[u8], say: &mut dyn FnMut(&str) -> Outcome) -> Outcome<bool> {
        let filter = &mut self.filter;
        self.utf8.push(bytes, &mut |text| text.chars().for_each(|c| filter.feed(c)));
        filter.flush(say)?;
        Ok(filter.stopped())
    }

    /// The rest: what was held back and is not the stop text, and half a character.
    fn finish(mut self, say: &mut dyn FnMut(&str) -> Outcome) -> Outcome<String> {
        let filter = &mut self.filter;
        self.utf8.finish(&mut |text| text.chars().for_each(|c| filter.feed(c)));
        if !filter.stopped() {
            filter.give_up();
        }
        filter.flush(say)?;
        Ok(self.filter.out)
    }
}

/// Holds back what may become the stop text.
struct Filter<'s> {
    /// Empty for none. It must not begin again inside itself, which holds for those in use.
    stop: &'s str,
    /// Bytes of it that have come.
    matched: usize,
    out: String,
}

impl Filter<'_> {
    fn stopped(&self) -> bool {
        !self.stop.is_empty() && self.matched == self.stop.len()
    }

    fn feed(&mut self, c: char) {
        if self.stopped() {
            return;
        }
        if self.matched > 0 && !self.stop[self.matched..].starts_with(c) {
            self.give_up();
        }
        if self.stop[self.matched..].starts_with(c) {
            self.matched += c.len_utf8();
        } else {
            self.out.push(c);
        }
    }

    /// What was held back is not the stop text.
    fn give_up(&mut self) {
        self.out.push_str(&self.stop[..self.matched]);
        self.matched = 0;
    }

    fn flush(&mut self, say: &mut dyn FnMut(&str) -> Outcome) -> Outcome {
        let said = if self.out.is_empty() { Ok(()) } else { say(&self.out) };
        self.out.clear();
        said
    }
}

/// Turns text into tokens. Bytes that the vocabulary cannot spell are an error: nothing is dropped silently.
pub(crate) fn encode(tokenizer: &Tokenizer<'_>, text: &[u8], options: EncodeOptions, into: &mut Vec<u32>) -> Outcome {
    let too_long = || Failure::new(Code::Memory, "the text is too long for this machine's memory");
    let need = tokenizer.scratch_bytes_for(text, options).ok_or_else(too_long)?;
    let mut scratch = crate::host::memory::Arena::reserve(need)?;
    let missing = tokenizer.encode(text, options, scratch.bytes(), &mut |id| {
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

    /// What is said of `pieces`, and whether the stop text ended it.
    fn said(stop: &str, pieces: &[&str]) -> (String, bool) {
        let (mut text, mut stopped) = (String::new(), false);
        let mut stream = Stream::new(stop, String::new());
        let mut say = |s: &str| {
            assert!(!s.is_empty());
            text.push_str(s);
            Ok(())
        };
        for piece in pieces {
            stopped = stream.push(piece.as_bytes(), &mut say).unwrap();
            if stopped {
                break;
            }
        }
        stream.finish(&mut say).unwrap();
        (text, stopped)
    }

    #[test]
    fn stop_texts_end_an_answer_however_it_is_cut() {
        let stop = "\nUser:";
        assert_eq!(said(stop, &["Hi\nUser: x", "y"]), ("Hi".into(), true));
        assert_eq!(said(stop, &["Hi\n", "Us", "er", ":"]), ("Hi".into(), true));
        assert_eq!(said(stop, &["a\n\nUser", "s"]), ("a\n\nUsers".into(), false));
        assert_eq!(said(stop, &["a\nUse"]), ("a\nUse".into(), false));
        assert_eq!(said(stop, &["\n", "\n", "User:"]), ("\n".into(), true));
        assert_eq!(said("", &["a\nUser:", "b"]), ("a\nUser:b".into(), false));
    }

    #[test]
    fn forbidden_tokens_have_no_chance() {
        let mut logits = [1.0, 2.0, 3.0];
        forbid(&mut logits, &[1, 7]);
        assert_eq!(logits, [1.0, FORBIDDEN, 3.0]);
    }
}
