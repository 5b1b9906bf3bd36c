//! Byte-level byte pair encoding (GPT-2's, tokenizer model `gpt2`).
//!
//! Every byte is written as one printable character: the printable ones of Latin-1 stand for themselves,
//! the other 68 are U+0100 to U+0143 in ascending order. A word starts as one token per byte, and pairs are
//! merged in the order of the merge list.

use super::merge::{MergeSpace, NONE, Rules};
use super::table::{HASH_START, MergeTable, hash_on};
use super::vocab::{BATCH, Vocab};
use super::{Out, TokenizerError};
use crate::error;
use crate::gguf::Array;
use crate::mem::Carver;
use core::mem::MaybeUninit;

/// Longest word, in bytes, that is merged on the stack by searching all pairs each time: quicker than a heap
/// up to here, and nearly every word is shorter.
const SHORT: usize = 32;

/// Whether a byte is written as the character of its own number.
const fn is_printable(b: u8) -> bool {
    matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The character that each byte is written as.
const CHAR_OF: [u16; 256] = {
    let mut table = [0; 256];
    let (mut b, mut next) = (0usize, 256);
    while b < 256 {
        table[b] = if is_printable(b as u8) {
            b as u16
        } else {
            next += 1;
            next - 1
        };
        b += 1;
    }
    table
};

/// The byte that each of the characters U+0000 to U+0143 stands for; [`NO_BYTE`] for those that stand for none.
const BYTE_OF: [u16; 324] = {
    let mut table = [NO_BYTE; 324];
    let mut b = 0;
    while b < 256 {
        table[CHAR_OF[b] as usize] = b as u16;
        b += 1;
    }
    table
};
const NO_BYTE: u16 = 256;

/// The byte that `c` stands for.
fn byte_of(c: char) -> Option<u8> {
    BYTE_OF.get(c as usize).and_then(|b| u8::try_from(*b).ok())
}

/// Writes the bytes that the token `text` stands for. A text with a character that stands for no byte is
/// taken as it is, as Hugging Face's decoder does.
pub(super) fn decode(text: &[u8], out: &mut dyn FnMut(u8)) {
    match core::str::from_utf8(text) {
        Ok(s) if s.chars().all(|c| byte_of(c).is_some()) => s.chars().filter_map(byte_of).for_each(out),
        _ => text.iter().copied().for_each(out),
    }
}

/// An entry of the merge list: the hashes of the left token, the right one, and of both together.
struct Merge {
    rank: u32,
    hashes: [u64; 3],
}

impl Merge {
    fn read(rank: u32, text: &[u8]) -> Result<Self, TokenizerError> {
        let bad = TokenizerError::BadMerge { rank };
        let space = text.iter().skip(1).position(|b| *b == b' ').ok_or(bad)?;
        let (left, rest) = text.split_at(space + 1);
        let right = rest.get(1..).ok_or(bad)?;
        let hash = hash_on(HASH_START, left);
        Ok(Merge { rank, hashes: [hash, hash_on(HASH_START, right), hash_on(hash, right)] })
    }

    /// The three tokens.
    fn find(&self, vocab: &Vocab<'_>) -> Result<[u32; 3], TokenizerError> {
        let find = |hash| vocab.find_hashed(hash).ok_or(TokenizerError::BadMerge { rank: self.rank });
        let [left, right, merged] = self.hashes.map(find);
        Ok([left?, right?, merged?])
    }
}

/// The merges, ready to use.
pub(super) struct Bpe<'a> {
    merges: MergeTable<'a>,
    /// Token of each byte; [`NONE`] where the vocabulary has none.
    bytes: [u32; 256],
    /// A word that is a token as a whole is not merged (tiktoken's way).
    ignore_merges: bool,
}

impl<'a> Bpe<'a> {
    /// Reads the merge list. Each merge must join two tokens to a third.
    pub(super) fn load(
        vocab: &Vocab<'a>,
        list: &Array<'a>,
        ignore_merges: bool,
        carver: &mut Carver<'a>,
    ) -> error::Result<Self> {
        let texts = list.strings().ok_or(TokenizerError::BadMerges)?;
        let mut merges = MergeTable::carve(list.len(), carver)?;
        let mut bytes = [NONE; 256];
        if carver.is_measuring() {
            return Ok(Bpe { merges, bytes, ignore_merges });
        }
        for (token, char) in bytes.iter_mut().zip(CHAR_OF) {
            let mut utf8 = [0; 2];
            let text = char::from_u32(char.into()).unwrap_or_default().encode_utf8(&mut utf8);
            *token = vocab.find(text.as_bytes()).unwrap_or(NONE);
        }
        let mut texts = (0u32..).zip(texts).peekable();
        while texts.peek().is_some() {
            let batch: heapless::Vec<Merge, BATCH> =
                texts.by_ref().take(BATCH).map(|(rank, text)| Merge::read(rank, text)).collect::<Result<_, _>>()?;
            vocab.warm(batch.iter().flat_map(|merge| merge.hashes));
            let ids: heapless::Vec<[u32; 3], BATCH> =
                batch.iter().map(|merge| merge.find(vocab)).collect::<Result<_, _>>()?;
            merges.warm(ids.iter().map(|[left, right, _]| (*left, *right)));
            for (merge, [left, right, merged]) in batch.iter().zip(ids) {
                merges.insert(merge.rank, left, right, merged)?;
            }
        }
        Ok(Bpe { merges, bytes, ignore_merges })
    }

    /// Encodes one word of the pre-tokenizer. Returns how many of its bytes the vocabulary has no token for;
    /// they are left out, and their neighbours become neighbours (as in Hugging Face's tokenizers).
    pub(super) fn encode(
        &self,
        vocab: &Vocab<'a>,
        word: &[u8],
        scratch: &mut [MaybeUninit<u8>],
        out: Out<'_>,
    ) -> error::Result<usize> {
        if let Some(id) = self.whole(vocab, word) {
            out(id)?;
            return Ok(0);
        }
        let ids = || word.iter().map(|b| self.bytes[usize::from(*b)]).filter(|id| *id != NONE);
        if word.len() <= SHORT {
            return self.encode_short(ids(), out).map(|n| word.len() - n);
        }
        let n = ids().count();
        MergeSpace::carve(n, &mut Carver::over(scratch)?)?.run(ids(), NONE, self, out)?;
        Ok(word.len() - n)
    }

    /// Working memory for a word of `len` bytes.
    pub(super) fn scratch(len: usize) -> Option<usize> {
        if len <= SHORT {
            return Some(0);
        }
        let mut carver = Carver::measure();
        MergeSpace::carve(len, &mut carver).ok()?;
        Some(carver.used())
    }

    fn whole(&self, vocab: &Vocab<'a>, word: &[u8]) -> Option<u32> {
        if !self.ignore_merges {
            return None;
        }
        let mut text = heapless::Vec::<u8, 256>::new();
        for b in word {
            let mut utf8 = [0; 2];
            let char = char::from_u32(CHAR_OF[usize::from(*b)].into())?;
            text.extend_from_slice(char.encode_utf8(&mut utf8).as_bytes()).ok()?;
        }
        vocab.find(&text)
    }

    /// Merges at most [`SHORT`] ids; returns how many there were.
    fn encode_short(&self, ids: impl Iterator<Item = u32>, out: Out<'_>) -> error::Result<usize> {
        let (mut id, mut rank) = ([0u32; SHORT], [NONE; SHORT]);
        let mut len = 0;
        for (slot, value) in id.iter_mut().zip(ids) {
            *slot = value;
            len += 1;
        }
        let count = len;
        let pair = |id: &[u32; SHORT], i: usize| self.merges.rank(id[i], id[i + 1]).unwrap_or(NONE);
        for i in 1..len {
            rank[i - 1] = pair(&id, i - 1);
        }
        loop {
            let (mut best, mut at) = (NONE, 0);
            for (i, r) in rank.iter().enumerate().take(len) {
                if *r < best {
                    (best, at) = (*r, i);
                }
            }
            let Some(merged) = self.merges.merged(best) else { break };
            id[at] = merged;
            id.copy_within(at + 2..len, at + 1);
            rank.copy_within(at + 1..len, at);
            len -= 1;
            if at + 1 < len {
                rank[at] = pair(&id, at);
            }
            if at > 0 {
                rank[at - 1] = pair(&id, at - 1);
            }
        }
        id.iter().take(len).try_for_each(|id| out(*id))?;
        Ok(count)
    }
}

impl Rules for Bpe<'_> {
    fn rank(&self, left: u32, right: u32, _after: u32) -> Option<u32> {
        self.merges.rank(left, right)
    }

    fn merged(&self, left: u32, rank: u32) -> u32 {
        self.merges.merged(rank).unwrap_or(left)
    }
}
