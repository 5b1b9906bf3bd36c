//! Going back: what was read or guessed last is forgotten, and the text goes on as if it had never been.
//!
//! Packed rows and the first ones are there for every position. Those of the window are not: the ring holds the newest
//! positions only, and what comes takes the place of what went. So a text can go back
//!
//! - a few positions at any time: the ring has [`FREE`] more than the window needs;
//! - to where it was marked, and a few before: a mark is a copy of the ring. One is made before each batch of a prompt, for the
//!   case that it is interrupted, and at the end of the prompt, where an answer begins that may be asked for again. Not where
//!   something was taken out of the text: its rows cannot be read again, so going back must not depend on marks, which a
//!   saved session does not have;
//! - to the first positions, which need no window.
//!
//! From anywhere else it goes back to the nearest of these, and the shell reads the tokens between again. Which of them it
//! is depends on what the text is, not on how it came to be: guesses that were wrong leave no trace ([`KvCache::retract`]).

use super::{FREE, Half, KvCache, KvShape, KvType};

/// What a copy of the ring was made of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    /// Positions there were; 0 for no copy.
    end: usize,
    exact_from: usize,
    kept_from: usize,
}

impl KvType {
    /// The first position whose row in [`KvType::EXACT`] must be there so that a text of `len` positions can go on;
    /// `len` if none is. `exact_from`: as it was saved, 0 for a text from which nothing was taken out.
    pub fn needed_from(self, len: usize, exact_from: usize) -> usize {
        match self.window() {
            0 => len,
            window => (len + 1).saturating_sub(window).max(exact_from).max(self.first()).min(len),
        }
    }
}

impl Half<'_> {
    /// The first position of those, up to the last of `end`, that the ring is counted on to hold. It holds more where no
    /// guess was wrong, which nothing may depend on.
    pub(super) fn kept(&self, end: usize) -> usize {
        match self.ring {
            0 => end,
            _ => (end + 1).saturating_sub(self.ty.window() + FREE).max(self.kept_from).max(self.first).min(end),
        }
    }

    /// Whether a text of `len` positions can go on with a ring that holds those from `kept` on.
    fn is_whole(&self, len: usize, kept: usize, exact_from: usize) -> bool {
        let needed = self.ty.needed_from(len, exact_from);
        needed >= len || kept <= needed
    }

    /// Heads' rings, and their copies.
    fn rings(&mut self, shape: &KvShape) -> impl Iterator<Item = (&mut [u8], &mut [u8])> {
        let bytes = KvType::EXACT.row_bytes(shape.head_dim);
        let (all, first, ring) = ((self.first + self.ring) * bytes, self.first * bytes, self.ring * bytes);
        let rings = self.exact.chunks_exact_mut(all.max(1)).map(move |head| &mut head[first..]);
        rings.zip(self.marked.chunks_exact_mut(ring.max(1)))
    }

    fn set_mark(&mut self, shape: &KvShape, end: usize) {
        self.mark = Mark { end, exact_from: self.exact_from, kept_from: self.kept(end) };
        self.rings(shape).for_each(|(ring, copy)| copy.copy_from_slice(ring));
    }

    fn return_to_mark(&mut self, shape: &KvShape) {
        (self.exact_from, self.kept_from) = (self.mark.exact_from, self.mark.kept_from);
        self.rings(shape).for_each(|(ring, copy)| ring.copy_from_slice(copy));
    }

    /// Positions from `len` on are gone.
    fn end_at(&mut self, len: usize) {
        self.exact_from = self.exact_from.min(len);
        self.mark.end = self.mark.end.min(len);
    }
}

impl KvCache<'_> {
    /// Marks the end of a text of `end` positions: going back to here, and a few positions before, costs nothing.
    pub(crate) fn set_mark(&mut self, end: usize) {
        let shape = self.shape;
        [&mut self.k, &mut self.v].into_iter().for_each(|half| half.set_mark(&shape, end));
    }

    /// Forgets the positions from `len` on of the `end` that there are, and as many before it as are needed to go on as if
    /// they had never been; returns how many are left.
    pub(crate) fn truncate(&mut self, len: usize, end: usize) -> usize {
        if len >= end {
            return end;
        }
        for half in [&mut self.k, &mut self.v] {
            half.kept_from = half.kept(end);
        }
        self.settle(len)
    }

    /// Goes back to the last place at or before position `len` from which the text can go on; rings hold what
    /// [`Half::kept_from`] says.
    pub(super) fn settle(&mut self, len: usize) -> usize {
        let shape = self.shape;
        let marked = len.min(self.k.mark.end).min(self.v.mark.end);
        let mut halves = [&mut self.k, &mut self.v];
        let first = halves.iter().filter(|h| h.ring > 0).map(|h| h.first).min().unwrap_or(0);
        let is_as_read = halves.iter().all(|h| h.exact_from == 0);
        let is_marked = is_as_read && marked > first;
        let left = if halves.iter().all(|h| h.is_whole(len, h.kept_from.max(h.first), h.exact_from)) {
            len
        } else if is_marked && halves.iter().all(|h| h.is_whole(marked, h.mark.kept_from, h.mark.exact_from)) {
            halves.iter_mut().for_each(|half| half.return_to_mark(&shape));
            marked
        } else {
            len.min(first)
        };
        for half in halves {
            half.kept_from = half.kept_from.min(left);
            half.end_at(left);
        }
        left
    }

    /// Forgets the positions from `len` on, of which the last pass wrote at most [`super::PASS_MAX`]: the cache is as if it
    /// had not.
    pub(crate) fn retract(&mut self, len: usize) {
        [&mut self.k, &mut self.v].into_iter().for_each(|half| half.end_at(len));
    }

    /// After a pass of any size that was broken off, and before which [`KvCache::set_mark`] was called.
    pub(crate) fn return_to_mark(&mut self) {
        let shape = self.shape;
        [&mut self.k, &mut self.v].into_iter().for_each(|half| half.return_to_mark(&shape));
    }

    /// From where on the newest positions are read as such (keys, values).
    pub(crate) fn exact_from(&self) -> [usize; 2] {
        [self.k.exact_from, self.v.exact_from]
    }
}
