//! Llama 3's rule (tiktoken's cl100k) and its variants, which differ in how many digits stay together.

use super::{contraction, skip_bytes, up_to_numbers, white_space, white_space_to_line_end};
use crate::tokenizer::unicode::{Class, scalar_at, skip, skip_not};

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn digits_3(text: &[u8], at: usize) -> usize {
    words(text, at, Class::LETTER, 3)
}

/// As [`digits_3`], with `\p{N}`.
pub(super) fn digits_1(text: &[u8], at: usize) -> usize {
    words(text, at, Class::LETTER, 1)
}

/// As [`digits_3`], with `\p{N}+`.
pub(super) fn digits_all(text: &[u8], at: usize) -> usize {
    words(text, at, Class::LETTER, usize::MAX)
}

/// As [`digits_1`], with `[\p{L}\p{M}]+` for words and `[^\s\p{L}\p{M}\p{N}]+` for punctuation.
pub(super) fn qwen35(text: &[u8], at: usize) -> usize {
    words(text, at, Class::LETTER.or(Class::MARK), 1)
}

fn words(text: &[u8], at: usize, letter: Class, digits: usize) -> usize {
    if let Some(end) = contraction(text, at, true) {
        return end;
    }
    let Some(first) = scalar_at(text, at) else { return text.len() };
    if first.class.is(Class::NUMBER) {
        return up_to_numbers(text, at, digits);
    }
    if first.class.is(letter) {
        return skip(text, at, letter);
    }
    let next = at + first.len;
    if !matches!(first.char, '\r' | '\n') && scalar_at(text, next).is_some_and(|s| s.class.is(letter)) {
        return skip(text, next, letter);
    }
    let other = letter.or(Class::NUMBER).or(Class::SPACE);
    let start = if first.char == ' ' { next } else { at };
    if scalar_at(text, start).is_some_and(|s| !s.class.is(other)) {
        return skip_bytes(text, skip_not(text, start, other), b"\r\n");
    }
    white_space_to_line_end(text, at).unwrap_or_else(|| white_space(text, at))
}
