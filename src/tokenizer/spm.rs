//! SentencePiece's BPE as llama.cpp does it (tokenizer model `llama`): spaces become U+2581, a text starts as
//! one symbol per character, and of all neighbouring pairs whose text is a token the one of the highest score
//! is merged. What is no token at the end is spelled in byte tokens `<0xNN>`.

use super::merge::{MergeSpace, NONE, Rules};
use super::unicode::scalar_at;
use super::vocab::Vocab;
use super::{Out, TokenizerError};
use crate::error::Result;
use crate::gguf::Array;
use crate::mem::Carver;
use core::mem::MaybeUninit;

/// U+2581, which stands for a space.
pub(super) const SPACE: &[u8] = "\u{2581}".as_bytes();

/// The scores, ready to use.
pub(super) struct Spm<'a> {
    /// For each token its score as a number that sorts the other way round.
    ranks: &'a mut [u32],
    /// Token of each byte; [`NONE`] where the vocabulary has none.
    bytes: [u32; 256],
    /// Whether a space is put before a text, and before the text after a special token.
    pub(super) add_space_prefix: bool,
}

/// Rank of a score: the higher the score, the lower the rank.
fn rank_of(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0 becomes 0
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    (!ascending).min(NONE - 1)
}

/// The byte that `text` names, if it is `<0xNN>` with capital hexadecimal digits.
pub(super) fn byte_named(text: &[u8]) -> Option<u8> {
    let digit = |d: &u8| match d {
        b'0'..=b'9' => Some(d - b'0'),
        b'A'..=b'F' => Some(d - b'A' + 10),
        _ => None,
    };
    match text {
        [b'<', b'0', b'x', high, low, b'>'] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

/// Writes the bytes that the token `text` stands for.
pub(super) fn decode(mut text: &[u8], out: &mut dyn FnMut(u8)) {
    while let Some((first, rest)) = text.split_first() {
        match text.strip_prefix(SPACE) {
            Some(after) => {
                out(b' ');
                text = after;
            }
            None => {
                out(*first);
                text = rest;
            }
        }
    }
}

impl<'a> Spm<'a> {
    /// Reads the scores, one for each token.
    pub(super) fn load(vocab: &Vocab<'a>, scores: &Array<'a>, carver: &mut Carver<'a>) -> Result<Self> {
        let values = scores.f32s().ok_or(TokenizerError::BadScores)?;
        let ranks = carver.take(scores.len(), 0u32)?;
        let mut bytes = [NONE; 256];
        if !carver.is_measuring() {
            ranks.iter_mut().zip(values).for_each(|(rank, score)| *rank = rank_of(score));
            for (id, text) in (0u32..).zip(vocab.texts()) {
                if let Some(b) = byte_named(text) {
                    bytes[usize::from(b)] = id;
                }
            }
            for (b, token) in (0u8..=255).zip(bytes.iter_mut()) {
                if *token == NONE {
                    *token = vocab.find(&[b]).unwrap_or(NONE);
                }
            }
        }
        Ok(Spm { ranks, bytes, add_space_prefix: false })
    }

    /// Encodes a text, with a space in front if `prefix`. Returns how many of its bytes the vocabulary has no
    /// token for; they are `unk`, or left out where there is none.
    pub(super) fn encode(
        &self,
        vocab: &Vocab<'a>,
        text: &[u8],
        prefix: bool,
        unk: Option<u32>,
        scratch: &mut [MaybeUninit<u8>],
        out: Out<'_>,
    ) -> Result<usize> {
        let mut carver = Carver::over(scratch)?;
        let spaces = text.iter().filter(|b| **b == b' ').count() + usize::from(prefix);
        let len = text.len() + usize::from(prefix) + 2 * spaces;
        let end = u32::try_from(len).map_err(|_| TokenizerError::TextTooLong { got: text.len() })?;
        let escaped = carver.take(len, 0u8)?;
        escape(text, prefix, escaped);
        let escaped = &*escaped;
        let space = MergeSpace::carve(text.len() + usize::from(prefix), &mut carver)?;
        let starts = || {
            let mut at = 0;
            core::iter::from_fn(move || {
                let start = at;
                at += scalar_at(escaped, at)?.len;
                u32::try_from(start).ok()
            })
        };
        let rules = Words { text: escaped, vocab, ranks: self.ranks };
        let (mut missing, mut from) = (0, 0u32);
        let mut piece = |until: u32, out: Out<'_>| -> Result<()> {
            let text = escaped.get(core::mem::replace(&mut from, until) as usize..until as usize).unwrap_or_default();
            match vocab.find(text) {
                Some(id) => out(id),
                None => self.spell(text, unk, &mut missing, out),
            }
        };
        space.run(starts(), end, &rules, &mut |start| if start == 0 { Ok(()) } else { piece(start, out) })?;
        if len > 0 {
            piece(end, out)?;
        }
        Ok(missing)
    }

    /// Working memory for a text of `len` bytes, all of them spaces.
    pub(super) fn scratch(len: usize) -> Option<usize> {
        let symbols = len.checked_add(1)?;
        let mut carver = Carver::measure();
        carver.take(symbols.checked_mul(3)?, 0u8).ok()?;
        MergeSpace::carve(symbols, &mut carver).ok()?;
        Some(carver.used())
    }

    fn spell(&self, text: &[u8], unk: Option<u32>, missing: &mut usize, out: Out<'_>) -> Result<()> {
        for b in text {
            let id = self.bytes[usize::from(*b)];
            if id != NONE {
                out(id)?;
                continue;
            }
            *missing += 1;
            if let Some(unk) = unk {
                out(unk)?;
            }
        }
        Ok(())
    }
}

/// Writes `text` with its spaces as U+2581 into `out`, which has just the length for it.
fn escape(text: &[u8], prefix: bool, out: &mut [u8]) {
    let mut slots = out.iter_mut();
    let mut put = |bytes: &[u8]| bytes.iter().zip(slots.by_ref()).for_each(|(b, slot)| *slot = *b);
    if prefix {
        put(SPACE);
    }
    for b in text {
        put(if *b == b' ' { SPACE } else { core::slice::from_ref(b) });
    }
}

struct Words<'t, 'a> {
    text: &'t [u8],
    vocab: &'t Vocab<'a>,
    ranks: &'t [u32],
}

impl Rules for Words<'_, '_> {
    fn rank(&self, left: u32, _right: u32, after: u32) -> Option<u32> {
        let id = self.vocab.find(self.text.get(left as usize..after as usize)?)?;
        self.ranks.get(id as usize).copied()
    }

    fn merged(&self, left: u32, _rank: u32) -> u32 {
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_scores_rank_lower() {
        let scores = [f32::INFINITY, 1e9, 1.0, 0.5, 0.0, -0.5, -3.0, -1e9, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|s| rank_of(s[0]) < rank_of(s[1])));
        assert_eq!(rank_of(0.0), rank_of(-0.0));
        assert!(rank_of(-f32::NAN) < NONE);
    }

    #[test]
    fn byte_names_are_strict() {
        assert_eq!(byte_named(b"<0x0A>"), Some(10));
        assert_eq!(byte_named(b"<0xFF>"), Some(255));
        for bad in ["<0x0a>", "<0x-1>", "<0x1>", "<0x123>", "<0X12>", ""] {
            assert_eq!(byte_named(bad.as_bytes()), None, "{bad}");
        }
    }
}
