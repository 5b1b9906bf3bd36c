//! Rules that also split where lower case turns to upper case (tiktoken's o200k and Mistral's Tekken).
//!
//! llama.cpp approximates these with ASCII case, and differs from the original on accented and other cased
//! scripts. This is the original.

use super::{contraction, skip_bytes, up_to_numbers, white_space, white_space_to_line_end};
use crate::tokenizer::unicode::{Class, scalar_at, skip, skip_not};

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
const UPPER: Class = Class::UPPER.or(Class::CASELESS).or(Class::MARK);
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
const LOWER: Class = Class::LOWER.or(Class::CASELESS).or(Class::MARK);

/// `[^\r\n\p{L}\p{N}]?UPPER*LOWER+|[^\r\n\p{L}\p{N}]?UPPER+LOWER*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|`
/// `\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn tekken(text: &[u8], at: usize) -> usize {
    cased_word(text, at).unwrap_or_else(|| rest(text, at, 1))
}

/// As [`tekken`], with `\p{N}{1,3}`, and `(?i:'s|'t|'re|'ve|'m|'ll|'d)?` after each of the first two.
pub(super) fn gpt4o(text: &[u8], at: usize) -> usize {
    match cased_word(text, at) {
        Some(end) => contraction(text, end, true).unwrap_or(end),
        None => rest(text, at, 3),
    }
}

/// The first two alternatives, each tried with and without the character in front.
fn cased_word(text: &[u8], at: usize) -> Option<usize> {
    let first = scalar_at(text, at)?;
    let in_front = !first.class.is(Class::LETTER.or(Class::NUMBER)) && !matches!(first.char, '\r' | '\n');
    let starts = [in_front.then_some(at + first.len), Some(at)];
    let starts = || starts.iter().flatten().copied();
    starts().find_map(|at| upper_then_lower(text, at)).or_else(|| starts().find_map(|at| upper(text, at)))
}

/// `UPPER*LOWER+`. If upper case is not followed by lower case, the match ends with the last character
/// that is in both sets.
fn upper_then_lower(text: &[u8], at: usize) -> Option<usize> {
    let (mut end, mut both) = (at, None);
    while let Some(s) = scalar_at(text, end).filter(|s| s.class.is(UPPER)) {
        end += s.len;
        if s.class.is(LOWER) {
            both = Some(end);
        }
    }
    match skip(text, end, LOWER) {
        lower if lower > end => Some(lower),
        _ => both,
    }
}

/// `UPPER+LOWER*`
fn upper(text: &[u8], at: usize) -> Option<usize> {
    let end = skip(text, at, UPPER);
    (end > at).then(|| skip(text, end, LOWER))
}

fn rest(text: &[u8], at: usize, digits: usize) -> usize {
    const WORD: Class = Class::LETTER.or(Class::NUMBER).or(Class::SPACE);
    let numbers = up_to_numbers(text, at, digits);
    if numbers > at {
        return numbers;
    }
    let start = at + usize::from(text.get(at) == Some(&b' '));
    if scalar_at(text, start).is_some_and(|s| !s.class.is(WORD)) {
        return skip_bytes(text, skip_not(text, start, WORD), b"\r\n/");
    }
    white_space_to_line_end(text, at).unwrap_or_else(|| white_space(text, at))
}
