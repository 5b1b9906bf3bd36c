//! The merging loop that BPE and SentencePiece share: of all neighbouring pairs the one of lowest rank is
//! merged, the leftmost of equals first, until no pair has a rank.
//!
//! A linked list of symbols and a binary heap of pairs make a word of n symbols O(n log n), without recursion.

use crate::mem::{Carver, MemError};

/// No neighbour, no rank.
pub(super) const NONE: u32 = u32::MAX;

/// One symbol of the text. Neighbours are indices; a symbol that was merged away has no rank.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    prev: u32,
    next: u32,
    /// What the rules know a symbol by: the token id (BPE) or the byte it starts at (SentencePiece).
    pub(super) value: u32,
    /// Rank of the pair that this symbol makes with the next one.
    rank: u32,
}

/// Which pairs may be merged.
pub(super) trait Rules {
    /// Rank of merging the symbol `left` with the symbol `right`, below [`NONE`]; `after` is the value of the
    /// symbol that follows them, or the value of the end.
    fn rank(&self, left: u32, right: u32, after: u32) -> Option<u32>;
    /// Value of the symbol that merging at rank `rank` puts in place of `left`.
    fn merged(&self, left: u32, rank: u32) -> u32;
}

/// Working memory for `n` symbols.
pub(super) struct MergeSpace<'s> {
    symbols: &'s mut [Symbol],
    /// Rank in the high half, index of the left symbol in the low half. Pairs that are no longer there stay
    /// until they surface. A merge takes one entry and adds at most two, so 2n entries are enough.
    heap: &'s mut [u64],
}

impl<'s> MergeSpace<'s> {
    pub(super) fn carve(n: usize, carver: &mut Carver<'s>) -> Result<Self, MemError> {
        let heap = n.checked_mul(2).ok_or(MemError::Overflow)?;
        let none = Symbol { prev: NONE, next: NONE, value: 0, rank: NONE };
        Ok(MergeSpace { symbols: carver.take(n, none)?, heap: carver.take(heap, 0)? })
    }

    /// Merges the symbols with these values and hands out the values that are left, in order.
    /// There must not be more values than the space was carved for, nor more than 2^32 - 1.
    pub(super) fn run<E>(
        self,
        values: impl Iterator<Item = u32>,
        end: u32,
        rules: &impl Rules,
        out: &mut dyn FnMut(u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut n = 0u32;
        for (symbol, value) in self.symbols.iter_mut().zip(values) {
            *symbol = Symbol { prev: n.wrapping_sub(1), next: n + 1, value, rank: NONE };
            n += 1;
        }
        let Some(symbols) = self.symbols.get_mut(..n as usize) else { return Ok(()) };
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let mut merging = Merging { symbols, heap: Heap { entries: self.heap, len: 0 }, rules, end };
        (0..n).for_each(|i| merging.offer(i));
        merging.run();
        let mut at = if n == 0 { NONE } else { 0 };
        while let Some(symbol) = merging.symbols.get(at as usize) {
            out(symbol.value)?;
            at = symbol.next;
        }
        Ok(())
    }
}

struct Merging<'s, R> {
    symbols: &'s mut [Symbol],
    heap: Heap<'s>,
    rules: &'s R,
    end: u32,
}

impl<R: Rules> Merging<'_, R> {
    fn get(&self, i: u32) -> Option<Symbol> {
        self.symbols.get(i as usize).copied()
    }

    fn set(&mut self, i: u32, change: impl FnOnce(&mut Symbol)) {
        if let Some(symbol) = self.symbols.get_mut(i as usize) {
            change(symbol);
        }
    }

    /// Puts the pair that starts at symbol `i` on the heap, if it has a rank.
    fn offer(&mut self, i: u32) {
        let rank = self.rank_at(i).unwrap_or(NONE);
        self.set(i, |s| s.rank = rank);
        if rank != NONE {
            self.heap.push(u64::from(rank) << 32 | u64::from(i));
        }
    }

    fn rank_at(&self, i: u32) -> Option<u32> {
        let left = self.get(i)?;
        let right = self.get(left.next)?;
        let after = self.get(right.next).map_or(self.end, |s| s.value);
        self.rules.rank(left.value, right.value, after)
    }

    fn run(&mut self) {
        while let Some(entry) = self.heap.pop() {
            let (rank, i) = ((entry >> 32) as u32, entry as u32);
            let Some(left) = self.get(i) else { continue };
            // A pair that has changed since. One that changed to another pair of the same rank has an entry
            // with this very key, so taking it now is right.
            if left.rank != rank {
                continue;
            }
            let Some(right) = self.get(left.next) else { continue };
            self.set(left.next, |s| s.rank = NONE);
            self.set(right.next, |s| s.prev = i);
            let value = self.rules.merged(left.value, rank);
            self.set(i, |s| (s.value, s.next) = (value, right.next));
            self.offer(left.prev);
            self.offer(i);
        }
    }
}

/// A binary heap, smallest on top.
struct Heap<'s> {
    entries: &'s mut [u64],
    len: usize,
}

impl Heap<'_> {
    fn push(&mut self, entry: u64) {
        let mut at = self.len;
        self.len += 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.entries[parent] <= entry {
                break;
            }
            self.entries[at] = self.entries[parent];
            at = parent;
        }
        self.entries[at] = entry;
    }

    fn pop(&mut self) -> Option<u64> {
        let last = self.len.checked_sub(1)?;
        self.len = last;
        let (top, entry) = (self.entries[0], self.entries[last]);
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= last {
                break;
            }
            if child + 1 < last && self.entries[child + 1] < self.entries[child] {
                child += 1;
            }
            if self.entries[child] >= entry {
                break;
            }
            self.entries[at] = self.entries[child];
            at = child;
        }
        self.entries[at] = entry;
        Some(top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn heap_sorts() {
        let mut entries = vec![0; 1000];
        let mut heap = Heap { entries: &mut entries, len: 0 };
        let mut x = 1u64;
        let mut want: Vec<u64> = (0..1000)
            .map(|_| {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1);
                x >> 50
            })
            .collect();
        want.iter().for_each(|v| heap.push(*v));
        want.sort();
        let got: Vec<u64> = core::iter::from_fn(|| heap.pop()).collect();
        assert_eq!(got, want);
    }
}
