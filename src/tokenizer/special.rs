//! Tokens that are matched as a whole before the text around them is split: control tokens, where asked for,
//! and user-defined ones, always.
//!
//! At each place the longest match counts, from left to right, as in Hugging Face's tokenizers. (llama.cpp
//! looks for the longest token in the whole text first; that differs only where tokens overlap.)

use super::vocab::{Kind, Vocab};
use crate::error::Result;
use crate::gguf::{Array, Gguf, keys};
use crate::mem::Carver;

/// A set of byte values.
#[derive(Clone, Copy, Default)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn insert(&mut self, b: u8) {
        self.0[usize::from(b >> 6)] |= 1 << (b & 63);
    }

    fn has(&self, b: u8) -> bool {
        self.0[usize::from(b >> 6)] >> (b & 63) & 1 == 1
    }
}

/// The special tokens of a vocabulary.
pub(super) struct Special<'a> {
    /// Their ids, in the order of their texts.
    ids: &'a [u32],
    /// First bytes of all of them, and of the user-defined ones.
    first: ByteSet,
    first_user: ByteSet,
}

impl<'a> Special<'a> {
    /// Collects them. The kinds in `vocab` must be final; at most `renamed` of them may differ from the file's.
    pub(super) fn load(gguf: &Gguf<'a>, vocab: &Vocab<'a>, renamed: usize, carver: &mut Carver<'a>) -> Result<Self> {
        let kinds = gguf.array(keys::tokenizer::TOKEN_TYPE)?;
        let counted = kinds.as_ref().and_then(Array::i32s).map_or(0, |k| k.filter(|k| (2..=4).contains(k)).count());
        let ids = carver.take(counted + renamed, 0u32)?;
        let mut special = Special { ids: &[], first: ByteSet::default(), first_user: ByteSet::default() };
        if carver.is_measuring() {
            return Ok(special);
        }
        let mut len = 0;
        for (id, text) in (0u32..).zip(vocab.texts()) {
            let Some(kind) = vocab.kind(id).filter(|kind| kind.is_special()) else { continue };
            let (Some(slot), Some(first)) = (ids.get_mut(len), text.first()) else { continue };
            *slot = id;
            len += 1;
            special.first.insert(*first);
            if kind == Kind::UserDefined {
                special.first_user.insert(*first);
            }
        }
        let (ids, _) = ids.split_at_mut(len);
        ids.sort_unstable_by_key(|id| vocab.text(*id));
        special.ids = ids;
        Ok(special)
    }

    /// The first special token in `text` from byte `from` on: where it starts, its length and its id.
    /// Without `control` only user-defined ones are looked for.
    pub(super) fn next(
        &self,
        vocab: &Vocab<'a>,
        text: &[u8],
        from: usize,
        control: bool,
    ) -> Option<(usize, usize, u32)> {
        let first = if control { self.first } else { self.first_user };
        if self.ids.is_empty() || first.0 == [0; 4] {
            return None;
        }
        let mut at = from;
        loop {
            let rest = text.get(at..)?;
            at += rest.iter().position(|b| first.has(*b))?;
            if let Some((len, id)) = self.longest_at(vocab, text.get(at..)?, control) {
                return Some((at, len, id));
            }
            at += 1;
        }
    }

    /// The longest special token that `text` starts with.
    fn longest_at(&self, vocab: &Vocab<'a>, text: &[u8], control: bool) -> Option<(usize, u32)> {
        let mut range = self.ids;
        let mut found = None;
        for (depth, b) in text.iter().enumerate() {
            let byte_of = |id: &u32| vocab.text(*id).and_then(|t| t.get(depth)).copied();
            let start = range.partition_point(|id| byte_of(id) < Some(*b));
            let end = range.partition_point(|id| byte_of(id) <= Some(*b));
            range = range.get(start..end)?;
            let Some(id) = range.first() else { break };
            let whole = vocab.text(*id).is_some_and(|t| t.len() == depth + 1);
            if whole && (control || vocab.kind(*id) == Some(Kind::UserDefined)) {
                found = Some((depth + 1, *id));
            }
        }
        found
    }
}
