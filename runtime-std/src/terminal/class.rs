//! What a code point can do to a terminal.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

/// How a code point is treated; [`super::safe::Filter`] looks at what stands around those that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Takes a place of its own: letters, digits, signs, spaces.
    Visible,
    /// Drawn onto what stands before it: combining marks, vowels and finals of Hangul.
    Mark,
    /// U+200C and U+200D.
    Joiner,
    /// U+FE0E and U+FE0F: a pictograph as text or in colour.
    Selector,
    /// U+200E, U+200F, U+061C: as a letter of that direction, but invisible.
    Direction,
    /// U+200B.
    WordBreak,
    /// Forms of Mongolian letters, U+180B to U+180F.
    Mongolian,
    /// U+E0020 to U+E007F, the letters of flags such as England's.
    Tag,
    /// Never shown as it is.
    Harmful,
}

impl Class {
    pub(super) fn of(c: char) -> Class {
        match c {
            ' '..='~' | '\n' | '\t' => Class::Visible,
            '\u{200c}' | '\u{200d}' => Class::Joiner,
            '\u{fe0e}' | '\u{fe0f}' => Class::Selector,
            '\u{200e}' | '\u{200f}' | '\u{61c}' => Class::Direction,
            '\u{200b}' => Class::WordBreak,
            '\u{180b}'..='\u{180f}' => Class::Mongolian,
            '\u{e0020}'..='\u{e007f}' => Class::Tag,
            _ if is_invisible(c) => Class::Harmful,
            '\u{1161}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7fb}' => Class::Mark,
            // Signs that stand around or over the digits after them.
            '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}' => Class::Visible,
            '\u{110bd}' | '\u{110cd}' => Class::Visible,
            _ => Class::by_category(c),
        }
    }

    fn by_category(c: char) -> Class {
        match get_general_category(c) {
            Category::NonspacingMark | Category::SpacingMark | Category::EnclosingMark => Class::Mark,
            // Pictographs newer than the tables are expected, and their places are reserved.
            Category::Unassigned if is_pictograph(c) => Class::Visible,
            Category::Control
            | Category::Format
            | Category::LineSeparator
            | Category::ParagraphSeparator
            | Category::Surrogate
            | Category::PrivateUse
            | Category::Unassigned => Class::Harmful,
            _ => Class::Visible,
        }
    }
}

/// What shows nothing without being a format character: fillers, joiners of marks, selectors of rare forms
/// (the property `Default_Ignorable_Code_Point`).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether `c` may be part of a sequence of emoji (`Extended_Pictographic`, a little generously, and skin tones).
pub(super) fn is_pictograph(c: char) -> bool {
    matches!(c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
        | '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | '\u{24c2}' | '\u{25a0}'..='\u{27bf}' | '\u{2900}'..='\u{297f}'
        | '\u{2b00}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}' | '\u{1fc00}'..='\u{1fffd}')
}

/// Whether `c` with U+FE0F and U+20E3 is a key of a telephone.
pub(super) fn is_key(c: char) -> bool {
    matches!(c, '0'..='9' | '#' | '*')
}

/// Whether `c` is of a script in which joiners choose between forms: Arabic and its kin, the scripts of India and of
/// South East Asia, Mongolian, Adlam.
pub(super) fn is_joining(c: char) -> bool {
    matches!(c,
        '\u{600}'..='\u{dff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{18af}' | '\u{1b00}'..='\u{1c4f}'
        | '\u{a840}'..='\u{a87f}' | '\u{a8e0}'..='\u{a8ff}' | '\u{a980}'..='\u{a9df}' | '\u{aa60}'..='\u{aa7f}'
        | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10ac0}'..='\u{10aff}' | '\u{11000}'..='\u{1147f}'
        | '\u{1e900}'..='\u{1e95f}')
}

/// Whether `c` is of a script without spaces between words: Thai, Lao, Myanmar, Khmer.
pub(super) fn is_spaceless(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

/// Whether `c` is a letter written from right to left.
pub(super) fn is_right_to_left(c: char) -> bool {
    let script = matches!(c,
        '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}'
        | '\u{1e800}'..='\u{1efff}');
    script && c.is_alphabetic()
}
