//! The way of an answer from bytes to text: whole characters only, and nothing of a text that ends it.

use crate::exit::Outcome;
use trill::tokenizer::Utf8Stream;

/// Bytes to text, with a text that ends it held back.
pub(crate) struct Stream<'s> {
    utf8: Utf8Stream,
    filter: Filter<'s>,
}

/// Bytes of text between two calls of a listener before more memory is asked for.
pub(crate) const OUT_BYTES: usize = 1024;

impl<'s> Stream<'s> {
    /// `out` is room for text on its way; [`Stream::finish`] gives it back.
    pub(crate) fn new(stop: &'s str, mut out: String) -> Self {
        out.clear();
        Stream { utf8: Utf8Stream::new(), filter: Filter { stop, matched: 0, out } }
    }

    /// True once the stop text has come.
    pub(crate) fn push(&mut self, bytes: &[u8], say: &mut dyn FnMut(&str) -> Outcome) -> Outcome<bool> {
        let filter = &mut self.filter;
        self.utf8.push(bytes, &mut |text| text.chars().for_each(|c| filter.feed(c)));
        filter.flush(say)?;
        Ok(filter.stopped())
    }

    /// The rest: what was held back and is not the stop text, and half a character.
    pub(crate) fn finish(mut self, say: &mut dyn FnMut(&str) -> Outcome) -> Outcome<String> {
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
}
