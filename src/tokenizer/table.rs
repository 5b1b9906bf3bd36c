//! Hash tables in working memory: token text to id, and pair of ids to merge.
//!
//! Open addressing with linear probing at half load. An honest vocabulary of 2^20 entries stays under 100
//! probes; [`PROBES_MAX`] bounds what a vocabulary made of collisions can cost, and refuses it.

use super::TokenizerError;
use crate::error::Error;
use crate::limits::{MERGES_MAX, VOCAB_MAX};
use crate::mem::{Carver, MemError};

/// Longest run of slots looked at. Beyond it the file is refused.
const PROBES_MAX: usize = 512;

/// State of the text hash before the first byte (FNV-1a, 64 bits).
pub(super) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Goes on with a text hash: the hash of a text in two parts is that of the second, started from the first.
#[inline]
pub(super) fn hash_on(start: u64, text: &[u8]) -> u64 {
    text.iter().fold(start, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Spreads all bits of `h` over all bits (the finalizer of SplitMix64).
#[inline]
fn mix(h: u64) -> u64 {
    let h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ h >> 31
}

/// Slot of hash `h` in a table of `len` slots: the high half of the hash, scaled.
#[inline]
fn slot_of(h: u64, len: usize) -> usize {
    ((h >> 32).wrapping_mul(len as u64) >> 32) as usize
}

/// The slots from that of `h` on, around the end, at most [`PROBES_MAX`].
#[inline]
fn probe(h: u64, len: usize) -> impl Iterator<Item = usize> {
    let start = slot_of(h, len);
    (start..len).chain(0..start).take(PROBES_MAX)
}

fn slots_for(entries: usize) -> Result<usize, MemError> {
    entries.checked_mul(2).and_then(|n| n.checked_add(1)).ok_or(MemError::Overflow)
}

/// Reads the slots where these hashes start, one after the other without waiting for any, so that the lookups
/// that follow find them in the cache: a table of megabytes costs a cache miss per lookup otherwise.
fn warm(slots: &[u64], hashes: impl Iterator<Item = u64>) {
    let read = hashes.map(|h| slots.get(slot_of(h, slots.len())).copied().unwrap_or_default());
    core::hint::black_box(read.fold(0, |all, slot| all ^ slot));
}

/// Bits of a token id.
const ID_BITS: u32 = 20;
const ID_MASK: u32 = (1 << ID_BITS) - 1;
const _: () = assert!(VOCAB_MAX <= 1 << ID_BITS && MERGES_MAX < (1 << 24) - 1);

/// Text to id. A slot holds 43 bits of the text's hash and the id, so that the texts themselves, which lie
/// scattered over the file, are looked at only to make sure.
pub(super) struct TokenTable<'a> {
    slots: &'a mut [u64],
}

/// No slot with a token has the top bit.
const EMPTY: u64 = u64::MAX;

impl<'a> TokenTable<'a> {
    /// Room for `entries` tokens.
    pub(super) fn carve(entries: usize, carver: &mut Carver<'a>) -> Result<Self, MemError> {
        Ok(TokenTable { slots: carver.take(slots_for(entries)?, EMPTY)? })
    }

    /// The low bits of the hash; the slot comes from the high ones.
    fn tag(h: u64) -> u64 {
        h << (ID_BITS + 1) >> 1
    }

    fn id(slot: u64) -> u32 {
        slot as u32 & ID_MASK
    }

    /// Adds the text of `id`, whose hash is `hash` and which must not be there yet.
    /// `text_of` gives the text of an id that was added before.
    pub(super) fn insert<'t>(
        &mut self,
        hash: u64,
        id: u32,
        text: &[u8],
        text_of: impl Fn(u32) -> &'t [u8],
    ) -> Result<(), TokenizerError> {
        let h = mix(hash);
        let new = Self::tag(h) | u64::from(id & ID_MASK);
        for at in probe(h, self.slots.len()) {
            let Some(slot) = self.slots.get_mut(at) else { break };
            if *slot == EMPTY {
                *slot = new;
                return Ok(());
            }
            let first = Self::id(*slot);
            if (*slot ^ new) >> ID_BITS == 0 && text_of(first) == text {
                return Err(TokenizerError::DuplicateToken { id, first });
            }
        }
        Err(TokenizerError::Collisions)
    }

    /// Brings the slots of these hashes into the cache.
    pub(super) fn warm(&self, hashes: impl Iterator<Item = u64>) {
        warm(self.slots, hashes.map(mix));
    }

    /// The first id with the hash `hash` that satisfies `is`.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let h = mix(hash);
        let tag = Self::tag(h);
        for at in probe(h, self.slots.len()) {
            let slot = *self.slots.get(at)?;
            if (slot ^ tag) >> ID_BITS == 0 && is(Self::id(slot)) {
                return Some(Self::id(slot));
            }
            if slot == EMPTY {
                return None;
            }
        }
        None
    }
}

/// Pair of ids to the rank of its merge, and rank to the id that comes out.
/// A slot is left id (20 bits), right id (20 bits), rank (24 bits), and no rank is 2^24 - 1.
pub(super) struct MergeTable<'a> {
    slots: &'a mut [u64],
    merged: &'a mut [u32],
}

const RANK_BITS: u32 = 24;
const RANK_MASK: u64 = (1 << RANK_BITS) - 1;

impl<'a> MergeTable<'a> {
    /// Room for `merges` merges.
    pub(super) fn carve(merges: usize, carver: &mut Carver<'a>) -> Result<Self, Error> {
        if merges > MERGES_MAX {
            return Err(TokenizerError::TooManyMerges { got: merges }.into());
        }
        let slots = if merges == 0 { 0 } else { slots_for(merges)? };
        Ok(MergeTable { slots: carver.take(slots, EMPTY)?, merged: carver.take(merges, 0)? })
    }

    fn key(left: u32, right: u32) -> u64 {
        (u64::from(left & ID_MASK) << ID_BITS | u64::from(right & ID_MASK)) << RANK_BITS
    }

    /// Brings the slots of these pairs into the cache.
    pub(super) fn warm(&self, pairs: impl Iterator<Item = (u32, u32)>) {
        warm(self.slots, pairs.map(|(left, right)| mix(Self::key(left, right))));
    }

    /// Adds the merge of rank `rank`. Of two merges of one pair the first counts.
    pub(super) fn insert(&mut self, rank: u32, left: u32, right: u32, merged: u32) -> Result<(), TokenizerError> {
        let key = Self::key(left, right);
        if let Some(out) = self.merged.get_mut(rank as usize) {
            *out = merged;
        }
        for at in probe(mix(key), self.slots.len()) {
            let Some(slot) = self.slots.get_mut(at) else { break };
            if *slot == EMPTY {
                *slot = key | u64::from(rank) & RANK_MASK;
                return Ok(());
            }
            if *slot & !RANK_MASK == key {
                return Ok(());
            }
        }
        Err(TokenizerError::Collisions)
    }

    /// Rank of the pair; the lowest is merged first.
    #[inline]
    pub(super) fn rank(&self, left: u32, right: u32) -> Option<u32> {
        let key = Self::key(left, right);
        for at in probe(mix(key), self.slots.len()) {
            let slot = *self.slots.get(at)?;
            if slot & !RANK_MASK == key {
                return Some((slot & RANK_MASK) as u32);
            }
            if slot == EMPTY {
                return None;
            }
        }
        None
    }

    /// What the merge of rank `rank` makes.
    #[inline]
    pub(super) fn merged(&self, rank: u32) -> Option<u32> {
        self.merged.get(rank as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Fewer where an interpreter runs it.
    const TEXTS: u32 = if cfg!(miri) { 200 } else { 5000 };

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        let texts: Vec<Vec<u8>> = (0..TEXTS).map(|i| std::format!("t{}", i * 7).into_bytes()).collect();
        let mut slots = vec![EMPTY; 10_001];
        let mut table = TokenTable { slots: &mut slots };
        let text_of = |id: u32| texts[id as usize].as_slice();
        for (id, text) in (0..).zip(&texts) {
            table.insert(hash_on(HASH_START, text), id, text, text_of).unwrap();
        }
        for n in 0..8 * TEXTS {
            let text = std::format!("t{n}").into_bytes();
            let want = (n % 7 == 0 && n / 7 < TEXTS).then_some(n / 7);
            assert_eq!(table.find(hash_on(HASH_START, &text), |id| text_of(id) == text), want);
        }
        let again = table.insert(hash_on(HASH_START, &texts[3]), 9, &texts[3], text_of);
        assert_eq!(again, Err(TokenizerError::DuplicateToken { id: 9, first: 3 }));
    }

    #[test]
    fn colliding_entries_are_refused_after_a_bound() {
        let mut slots = vec![EMPTY; 10_001];
        let mut table = TokenTable { slots: &mut slots };
        let got = (0..5000u32).try_for_each(|id| table.insert(7, id, &id.to_le_bytes(), |_| b""));
        assert_eq!(got, Err(TokenizerError::Collisions));
    }

    #[test]
    fn first_merge_of_a_pair_counts() {
        let (mut slots, mut merged) = (vec![EMPTY; 9], vec![0; 4]);
        let mut table = MergeTable { slots: &mut slots, merged: &mut merged };
        let top = VOCAB_MAX as u32 - 1;
        for (rank, left, right, out) in [(0, 1, 2, 10), (1, 2, 1, 11), (2, 1, 2, 12), (3, top, top, top)] {
            table.insert(rank, left, right, out).unwrap();
        }
        let got = |l, r| table.rank(l, r).and_then(|rank| table.merged(rank));
        assert_eq!([got(1, 2), got(2, 1), got(top, top), got(1, 1)], [Some(10), Some(11), Some(top), None]);
    }
}
