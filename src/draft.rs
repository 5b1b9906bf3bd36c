//! Guesses at the tokens to come, from the text itself (prompt lookup): where the last few tokens have stood before,
//! what followed them then is likely to follow again. A guess costs nothing but the batch that verifies it, and the
//! text stays what it would have been without.

/// Length of the run of tokens that must have stood before, longest first.
const RUNS: [usize; 3] = [4, 3, 2];

/// Fills `guess` with what followed the most recent earlier occurrence of the longest known run at the end of
/// `history`, and returns how many tokens that is (0 if no run of two has stood before).
pub fn propose(history: &[u32], guess: &mut [u32]) -> usize {
    for run in RUNS {
        let Some(tail) = history.len().checked_sub(run).filter(|&start| start > 0) else { continue };
        let pattern = &history[tail..];
        let before = &history[..history.len() - 1];
        if let Some(at) = before.windows(run).rposition(|window| window == pattern) {
            let known = &history[at + run..];
            let n = known.len().min(guess.len());
            guess[..n].copy_from_slice(&known[..n]);
            return n;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(history: &[u32], most: usize) -> std::vec::Vec<u32> {
        let mut out = std::vec![0; most];
        let n = propose(history, &mut out);
        out.truncate(n);
        out
    }

    #[test]
    fn what_followed_before_is_guessed() {
        assert_eq!(guess(&[1, 2, 3, 4, 9, 1, 2], 3), [3, 4, 9]);
        assert_eq!(guess(&[1, 2, 3, 4, 9, 1, 2], 1), [3]);
        // The longest run wins over a more recent short one.
        assert_eq!(guess(&[5, 1, 2, 7, 6, 1, 2, 8, 5, 1, 2], 1), [7]);
        // A run may overlap its own repetition.
        assert_eq!(guess(&[4, 4, 4], 2), [4]);
        for nothing in [&[][..], &[1], &[1, 2], &[1, 2, 3], &[1, 2, 1]] {
            assert!(guess(nothing, 3).is_empty(), "{nothing:?}");
        }
    }
}
