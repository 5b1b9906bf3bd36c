//! Text as scalars and their classes. Input may be any bytes: a byte that is not part of valid UTF-8
//! counts as one scalar of its own with the class of U+FFFD, and stays what it is in the output.
//!
//! The categories are those of Unicode 16, as in Hugging Face's tokenizers at the time of writing.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// A set of classes, one bit each. Every scalar is in exactly one of the general categories' groups, and
/// White_Space may be added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(u16);

impl Class {
    /// Lu and Lt.
    pub(super) const UPPER: Class = Class(1);
    /// Ll.
    pub(super) const LOWER: Class = Class(2);
    /// Lm and Lo: letters without case.
    pub(super) const CASELESS: Class = Class(4);
    /// M.
    pub(super) const MARK: Class = Class(8);
    /// N.
    pub(super) const NUMBER: Class = Class(16);
    /// P.
    pub(super) const PUNCTUATION: Class = Class(32);
    /// S.
    pub(super) const SYMBOL: Class = Class(64);
    /// Everything else: Z and C.
    pub(super) const OTHER: Class = Class(128);
    /// The property White_Space, what `\s` means in a regular expression over Unicode.
    pub(super) const SPACE: Class = Class(256);
    /// L.
    pub(super) const LETTER: Class = Class::UPPER.or(Class::LOWER).or(Class::CASELESS);

    pub(super) const fn or(self, other: Class) -> Class {
        Class(self.0 | other.0)
    }

    /// Whether a class of `set` is here.
    pub(super) const fn is(self, set: Class) -> bool {
        self.0 & set.0 != 0
    }

    /// Class of a scalar.
    pub(super) fn of(c: char) -> Class {
        match ASCII.get(c as usize) {
            Some(class) => *class,
            None => Class::of_wide(c),
        }
    }

    fn of_wide(c: char) -> Class {
        let group = match get_general_category(c) {
            Category::UppercaseLetter | Category::TitlecaseLetter => Class::UPPER,
            Category::LowercaseLetter => Class::LOWER,
            Category::ModifierLetter | Category::OtherLetter => Class::CASELESS,
            Category::NonspacingMark | Category::SpacingMark | Category::EnclosingMark => Class::MARK,
            Category::DecimalNumber | Category::LetterNumber | Category::OtherNumber => Class::NUMBER,
            Category::ConnectorPunctuation
            | Category::DashPunctuation
            | Category::OpenPunctuation
            | Category::ClosePunctuation
            | Category::InitialPunctuation
            | Category::FinalPunctuation
            | Category::OtherPunctuation => Class::PUNCTUATION,
            Category::MathSymbol | Category::CurrencySymbol | Category::ModifierSymbol | Category::OtherSymbol => {
                Class::SYMBOL
            }
            _ => Class::OTHER,
        };
        if c.is_whitespace() { group.or(Class::SPACE) } else { group }
    }
}

const ASCII: [Class; 128] = {
    let mut table = [Class::OTHER; 128];
    let mut b = 0u8;
    while b < 128 {
        table[b as usize] = match b {
            b'A'..=b'Z' => Class::UPPER,
            b'a'..=b'z' => Class::LOWER,
            b'0'..=b'9' => Class::NUMBER,
            b'$' | b'+' | b'<'..=b'>' | b'^' | b'`' | b'|' | b'~' => Class::SYMBOL,
            b'!'..=b'~' => Class::PUNCTUATION,
            b'\t'..=b'\r' | b' ' => Class::OTHER.or(Class::SPACE),
            _ => Class::OTHER,
        };
        b += 1;
    }
    table
};

/// One scalar of a text, or one byte that belongs to none.
#[derive(Clone, Copy)]
pub(super) struct Scalar {
    /// U+FFFD for a stray byte.
    pub(super) char: char,
    pub(super) class: Class,
    /// Bytes it takes, at least 1.
    pub(super) len: usize,
}

/// The scalar that starts at byte `at`; `None` at the end of the text.
#[inline]
pub(super) fn scalar_at(text: &[u8], at: usize) -> Option<Scalar> {
    let rest = text.get(at..)?;
    let first = *rest.first()?;
    if first < 128 {
        let char = char::from(first);
        return Some(Scalar { char, class: Class::of(char), len: 1 });
    }
    let len = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let decoded = rest.get(..len).and_then(|bytes| core::str::from_utf8(bytes).ok()).and_then(|s| s.chars().next());
    Some(match decoded {
        Some(char) => Scalar { char, class: Class::of(char), len },
        None => Scalar { char: '\u{fffd}', class: Class::SYMBOL, len: 1 },
    })
}

/// First byte at or after `at` whose scalar is not in `set`.
#[inline]
pub(super) fn skip(text: &[u8], mut at: usize, set: Class) -> usize {
    while let Some(s) = scalar_at(text, at) {
        if !s.class.is(set) {
            break;
        }
        at += s.len;
    }
    at
}

/// Like [`skip`], over scalars that are in none of `set`.
#[inline]
pub(super) fn skip_not(text: &[u8], mut at: usize, set: Class) -> usize {
    while let Some(s) = scalar_at(text, at) {
        if s.class.is(set) {
            break;
        }
        at += s.len;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_table_agrees_with_the_general_categories() {
        for b in 0..128u8 {
            assert!(Class::of(char::from(b)) == Class::of_wide(char::from(b)), "{b}");
        }
    }

    #[test]
    fn stray_bytes_are_scalars_of_one_byte() {
        let text = b"a\xff\xe2\x82\xac\xe2\x82";
        let mut at = 0;
        let mut lens = std::vec::Vec::new();
        while let Some(s) = scalar_at(text, at) {
            lens.push((s.char, s.len));
            at += s.len;
        }
        assert_eq!(lens, [('a', 1), ('\u{fffd}', 1), ('€', 3), ('\u{fffd}', 1), ('\u{fffd}', 1)]);
    }
}
