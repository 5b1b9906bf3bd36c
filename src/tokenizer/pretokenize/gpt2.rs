//! GPT-2's rule, and the punctuation rules put before it.

use super::{contraction, isolate, white_space};
use crate::tokenizer::unicode::{Class, scalar_at, skip, skip_not};

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn words(text: &[u8], at: usize) -> usize {
    const WORD: Class = Class::LETTER.or(Class::NUMBER);
    if let Some(end) = contraction(text, at, false) {
        return end;
    }
    let start = at + usize::from(text.get(at) == Some(&b' '));
    match scalar_at(text, start).map(|s| s.class) {
        Some(class) if class.is(Class::LETTER) => skip(text, start, Class::LETTER),
        Some(class) if class.is(Class::NUMBER) => skip(text, start, Class::NUMBER),
        Some(class) if !class.is(Class::SPACE) => skip_not(text, start, WORD.or(Class::SPACE)),
        _ => white_space(text, at),
    }
}

/// ``[\p{P}$+<=>^~|]+``
pub(super) fn punctuation(text: &[u8], at: usize) -> usize {
    isolate(text, at, |text, at| run(text, at, b"$+<=>^~|"))
}

/// ``[\p{P}$+<=>^~|`]+``
pub(super) fn punctuation_and_backtick(text: &[u8], at: usize) -> usize {
    isolate(text, at, |text, at| run(text, at, b"$+<=>^~|`"))
}

/// End of a run of punctuation and of the ASCII characters `more`.
fn run(text: &[u8], at: usize, more: &[u8]) -> Option<usize> {
    let mut end = at;
    while let Some(s) = scalar_at(text, end) {
        let more = u8::try_from(s.char).is_ok_and(|b| more.contains(&b));
        if !more && !s.class.is(Class::PUNCTUATION) {
            break;
        }
        end += s.len;
    }
    (end > at).then_some(end)
}
