//! Whether guessing ahead pays, learned while it runs. Timings decide only how many tokens are verified together,
//! never which are chosen.

use crate::engine::{DRAFT_TOKENS, Machine};

/// Weight of the newest observation in a running mean.
const NEWEST: f64 = 0.2;
/// Passes without a guess after which one is tried again although it did not pay.
const PATIENCE: u32 = 32;

/// What was seen so far.
pub(crate) struct Drafting {
    /// Share of guessed tokens that were right.
    right: f64,
    /// Seconds of a pass with this many guessed tokens; 0 if there was none.
    seconds: [f64; DRAFT_TOKENS + 1],
    /// Passes since the last guess.
    without: u32,
}

impl Default for Drafting {
    fn default() -> Self {
        Drafting { right: 0.5, seconds: [0.0; DRAFT_TOKENS + 1], without: 0 }
    }
}

impl Drafting {
    /// A guess at what follows `token`, in `room`; empty if there is none or if it is not expected to pay.
    pub(crate) fn guess<'r>(
        &mut self,
        machine: &mut Machine,
        token: u32,
        room: &'r mut [u32; DRAFT_TOKENS],
    ) -> &'r [u32] {
        // The token itself goes to the session with the guess, and the context must hold both.
        let most = DRAFT_TOKENS.min(machine.room().saturating_sub(1));
        let n = match self.pays(most) {
            true => machine.guess(token, &mut room[..most]),
            false => 0,
        };
        self.without = if n == 0 { self.without.saturating_add(1) } else { 0 };
        &room[..n]
    }

    /// Tokens expected from a pass with `n` guesses, per second, against one without.
    fn pays(&self, n: usize) -> bool {
        let (alone, together) = (self.seconds[0], self.seconds[n]);
        if alone == 0.0 || together == 0.0 || self.without >= PATIENCE {
            return true;
        }
        // A guess counts only if those before it were right.
        let expected: f64 = (0..=n).map(|i| self.right.powi(i as i32)).sum();
        expected * alone > together
    }

    /// A pass with `guessed` tokens, of which `right` were right, took `seconds`.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize, seconds: f64) {
        let mean = &mut self.seconds[guessed];
        *mean = if *mean == 0.0 { seconds } else { *mean + NEWEST * (seconds - *mean) };
        if guessed > 0 {
            self.right += NEWEST * (right as f64 / guessed as f64 - self.right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_stop_when_they_do_not_pay_and_come_back() {
        let mut d = Drafting::default();
        assert!(d.pays(3));
        for _ in 0..20 {
            d.learn(0, 0, 1.0);
            d.learn(3, 0, 3.0);
        }
        assert!(!d.pays(3));
        d.without = PATIENCE;
        assert!(d.pays(3));
        d.without = 0;
        for _ in 0..20 {
            d.learn(3, 3, 3.0);
        }
        assert!(d.pays(3));
    }
}
