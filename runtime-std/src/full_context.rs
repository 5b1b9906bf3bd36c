//! What happens when the context is full: three policies, each of which says what it does.

use crate::host::is_terminal;
use crate::terminal;
use std::ops::Range;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Stop, and say so.
    Stop,
    /// Forget the oldest tokens after those that must stay, and go on without reading anything again.
    Slide,
    /// Let the model condense the oldest turns of a conversation into a note that takes their place.
    Summarise,
}

impl Policy {
    pub(crate) const NAMES: [(&'static str, Policy); 3] =
        [("stop", Policy::Stop), ("slide", Policy::Slide), ("summarise", Policy::Summarise)];
}

/// What may be forgotten while an answer is written. All numbers are positions in the context.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Tokens at the start that always stay: the beginning of text, the system message.
    pub(crate) keep: usize,
    /// Ends of the old turns, ascending; forgetting up to one of them leaves whole turns.
    pub(crate) turns: Vec<usize>,
    /// Where the answer starts.
    pub(crate) answer: usize,
}

impl Window {
    /// What to forget now that all `capacity` positions are taken; `None` if nothing can be. Whole old turns go first,
    /// then the older half of the answer, then the older half of everything.
    pub(crate) fn gap(&mut self, capacity: usize) -> Option<Range<usize>> {
        let wanted = self.keep + capacity / 4;
        let gap = if let Some(&last) = self.turns.last() {
            let turn = self.turns.iter().position(|&end| end >= wanted).unwrap_or(self.turns.len() - 1);
            let end = self.turns.get(turn).copied().unwrap_or(last);
            self.turns.drain(..=turn);
            self.keep..end
        } else if capacity.saturating_sub(self.answer) >= capacity / 4 {
            self.answer..self.answer + (capacity - self.answer) / 2
        } else {
            self.keep..self.keep + capacity.saturating_sub(self.keep) / 2
        };
        let length = gap.len();
        self.turns.iter_mut().for_each(|end| *end -= length);
        // What is forgotten lies before the answer, in it, or across its start.
        self.answer =
            if gap.start >= self.answer { self.answer } else { self.answer.saturating_sub(length).max(gap.start) };
        (length > 0).then_some(gap)
    }
}

/// Says that the oldest `forgotten` tokens are gone. It comes in the middle of an answer: nothing is allocated for it.
pub(crate) fn announce(forgotten: usize, capacity: usize) {
    if !log::log_enabled!(log::Level::Info) {
        return;
    }
    // On a terminal the answer's line is not at its end yet.
    if is_terminal(1) && is_terminal(2) {
        terminal::show("\n");
    }
    terminal::tell!(
        "trill: the context of {capacity} tokens is full: the oldest {forgotten} after those at its start are \
         forgotten (--context-policy)"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_turns_go_first_then_half_of_the_answer() {
        let mut window = Window { keep: 20, turns: vec![50, 160, 300, 350], answer: 400 };
        // 128 of 512 positions are wanted at least.
        assert_eq!(window.gap(512), Some(20..160));
        assert_eq!((window.turns.as_slice(), window.answer), (&[160, 210][..], 260));
        assert_eq!(window.gap(512), Some(20..160));
        assert_eq!(window.gap(512), Some(20..70));
        assert_eq!((window.turns.as_slice(), window.answer), (&[][..], 70));
        assert_eq!(window.gap(512), Some(70..70 + 221));
        assert_eq!((window.gap(512), window.answer), (Some(70..70 + 221), 70));
    }

    #[test]
    fn a_question_that_fills_the_context_is_forgotten_too() {
        let mut window = Window { keep: 1, turns: vec![], answer: 500 };
        assert_eq!(window.gap(512), Some(1..256));
        assert_eq!(window.answer, 245);
        let mut window = Window { keep: 512, turns: vec![], answer: 512 };
        assert_eq!(window.gap(512), None);
    }
}
