//! Text of strangers (models, files, names, what was typed), made harmless for a terminal: it cannot move the cursor, set
//! the title, write to the clipboard, reverse the order of what is shown, or hide anything. `docs/security.md` says what
//! passes and why.

use super::class::{self, Class};

/// What takes the place of a code point that must not be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// The picture of a control character, else U+FFFD: text for people.
    Picture,
    /// `\uXXXX`, which in a JSON string means the same.
    Escape,
}

/// Code points without a place of their own that may follow one that has: marks, joiners, selectors. The most that a
/// language or an emoji needs is six or seven.
const MARKS_MAX: u8 = 8;

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';
const BLACK_FLAG: char = '\u{1f3f4}';
/// England, Scotland and Wales: all that Unicode recommends for interchange.
const FLAGS: [&str; 3] = ["gbeng", "gbsct", "gbwls"];
/// Tags of a flag, the one that ends it included.
const TAGS: usize = 6;

/// Makes a text harmless that comes piece by piece, character by character, however it is cut.
pub(super) struct Filter {
    style: Style,
    /// The last code point with a place of its own; U+0000 at the start of a line.
    base: char,
    /// The last code point shown.
    last: char,
    /// How many without a place of their own followed `base`.
    marks: u8,
    /// The line has a letter that is written from right to left.
    right_to_left: bool,
    /// What depends on the next character: a joiner after a pictograph, or tags after a black flag.
    held: [char; TAGS],
    n_held: usize,
}

impl Filter {
    pub(super) fn new(style: Style) -> Self {
        Filter { style, base: '\0', last: '\0', marks: 0, right_to_left: false, held: ['\0'; TAGS], n_held: 0 }
    }

    /// Takes the next character of the text and hands what may be shown to `show`.
    pub(super) fn push(&mut self, c: char, show: &mut impl FnMut(char)) {
        if self.n_held > 0 && self.settle(c, show) {
            return;
        }
        match Class::of(c) {
            Class::Visible => self.visible(c, show),
            Class::Mark => self.attach(c, true, show),
            Class::Selector => {
                let passes = self.last == self.base && (class::is_pictograph(self.base) || class::is_key(self.base));
                self.attach(c, passes, show);
            }
            Class::Joiner if c == ZWJ && class::is_pictograph(self.base) => self.hold(c),
            Class::Joiner => {
                // A Persian ending may follow a digit or a name in Latin letters.
                let ending = c == ZWNJ && self.right_to_left && self.base.is_alphanumeric();
                let passes = (class::is_joining(self.base) || ending) && !self.after_invisible();
                self.attach(c, passes, show);
            }
            // Where such a letter is in the line, a mark does nothing that the letter could not do.
            Class::Direction => self.attach(c, self.right_to_left && !self.after_invisible(), show),
            Class::WordBreak => self.attach(c, class::is_spaceless(self.base) && !self.after_invisible(), show),
            Class::Mongolian => {
                let passes = matches!(self.base, '\u{1820}'..='\u{18aa}') && !self.after_invisible();
                self.attach(c, passes, show);
            }
            Class::Tag if self.base == BLACK_FLAG && self.last == BLACK_FLAG => {
                if !self.holds_flag(c) {
                    self.replace(c, show);
                }
            }
            Class::Tag | Class::Harmful => self.replace(c, show),
        }
    }

    /// The end of the text: what was held back stands alone, and the next text starts afresh.
    pub(super) fn finish(&mut self, show: &mut impl FnMut(char)) {
        self.let_go(show);
        *self = Filter::new(self.style);
    }

    fn visible(&mut self, c: char, show: &mut impl FnMut(char)) {
        if c == '\n' {
            (self.base, self.last, self.marks, self.right_to_left) = ('\0', '\0', 0, false);
            return show(c);
        }
        // Pictographs that are joined are one sign.
        if self.last != ZWJ || !class::is_pictograph(c) {
            self.marks = 0;
        }
        (self.base, self.last) = (c, c);
        self.right_to_left |= c > '~' && class::is_right_to_left(c);
        show(c);
    }

    /// What has no place of its own: shown if it `passes` and there are not too many.
    fn attach(&mut self, c: char, passes: bool, show: &mut impl FnMut(char)) {
        if !passes {
            self.replace(c, show);
        } else if self.marks < MARKS_MAX {
            self.marks += 1;
            self.last = c;
            show(c);
        } else if self.style == Style::Escape {
            self.substitute(c, show);
        } else if self.marks == MARKS_MAX {
            // One sign stands for all that are too many.
            self.marks += 1;
            self.substitute(c, show);
        }
    }

    /// Shows something else in place of `c`, on which nothing can be built.
    fn replace(&mut self, c: char, show: &mut impl FnMut(char)) {
        (self.base, self.last, self.marks) = ('\u{fffd}', '\u{fffd}', 0);
        self.substitute(c, show);
    }

    fn substitute(&self, c: char, show: &mut impl FnMut(char)) {
        if self.style == Style::Escape {
            for unit in c.encode_utf16(&mut [0; 2]) {
                show('\\');
                show('u');
                (0..4).rev().for_each(|i| show(char::from_digit(u32::from(*unit) >> (4 * i) & 15, 16).unwrap_or('0')));
            }
            return;
        }
        show(match c {
            // The pictures of control characters (U+2400 to U+2421).
            '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
            '\x7f' => '\u{2421}',
            _ => '\u{fffd}',
        });
    }

    fn after_invisible(&self) -> bool {
        !matches!(Class::of(self.last), Class::Visible | Class::Mark)
    }

    fn hold(&mut self, c: char) {
        if let Some(place) = self.held.get_mut(self.n_held) {
            *place = c;
            self.n_held += 1;
        }
    }

    /// Whether `c` goes on with a flag; then it is held.
    fn holds_flag(&mut self, c: char) -> bool {
        let at = self.n_held;
        let held = self.held.get(..at).unwrap_or_default();
        let fits = FLAGS.iter().any(|flag| {
            let mut tags = flag.chars().map(tag).chain(['\u{e007f}']);
            held.iter().all(|h| tags.next() == Some(*h)) && tags.next() == Some(c)
        });
        if fits {
            self.hold(c);
        }
        fits
    }

    /// Decides about what is held, now that `c` comes. True if `c` belongs to it.
    fn settle(&mut self, c: char, show: &mut impl FnMut(char)) -> bool {
        if self.held[0] == ZWJ {
            if class::is_pictograph(c) {
                self.n_held = 0;
                self.attach(ZWJ, true, show);
            } else {
                self.let_go(show);
            }
            return false;
        }
        if !self.holds_flag(c) {
            self.let_go(show);
            return false;
        }
        if self.n_held == TAGS {
            self.n_held = 0;
            self.held.iter().for_each(|t| show(*t));
            self.last = c;
        }
        true
    }

    /// What is held stands alone: none of it is shown as it is.
    fn let_go(&mut self, show: &mut impl FnMut(char)) {
        let (held, n) = (self.held, std::mem::take(&mut self.n_held));
        held.iter().take(n).for_each(|c| self.replace(*c, show));
    }
}

/// The tag of a small letter.
fn tag(letter: char) -> char {
    char::from_u32(0xe_0000 + u32::from(letter)).unwrap_or('\u{fffd}')
}

fn filtered(text: &str, style: Style) -> String {
    let (mut filter, mut out) = (Filter::new(style), String::with_capacity(text.len()));
    text.chars().for_each(|c| filter.push(c, &mut |shown| out.push(shown)));
    filter.finish(&mut |shown| out.push(shown));
    out
}

/// `text` with everything that could drive a terminal replaced.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn neutralise(text: &str) -> String {
    filtered(text, Style::Picture)
}

/// The same on one line.
pub(crate) fn neutralise_line(text: &str) -> String {
    filtered(&text.replace(['\n', '\r'], " "), Style::Picture)
}

/// A JSON text with everything that could drive a terminal escaped: it means the same.
#[cfg(test)]
fn escape_json(json: &str) -> String {
    filtered(json, Style::Escape)
}

#[cfg(test)]
#[path = "safe_tests.rs"]
mod tests;
