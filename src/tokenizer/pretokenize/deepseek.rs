//! DeepSeek's rules: rows of small expressions, with the ranges of scripts written out.

use super::{isolate, skip_bytes, white_space, white_space_to_line_end};
use crate::tokenizer::unicode::{Class, scalar_at, skip};

/// `[\r\n]`
pub(super) fn line_ends(text: &[u8], at: usize) -> usize {
    let is_end = |b: &u8| matches!(b, b'\r' | b'\n');
    match text.get(at) {
        Some(b) if is_end(b) => at + 1,
        _ => text.get(at..).unwrap_or_default().iter().position(is_end).map_or(text.len(), |n| at + n),
    }
}

/// `\s?\p{L}+`
pub(super) fn letters(text: &[u8], at: usize) -> usize {
    isolate(text, at, |text, at| spaced(text, at, |c| Class::of(c).is(Class::LETTER)))
}

/// `\s?\p{P}+`
pub(super) fn category_punctuation(text: &[u8], at: usize) -> usize {
    isolate(text, at, |text, at| spaced(text, at, |c| Class::of(c).is(Class::PUNCTUATION)))
}

/// `\s?[...]+` over [`CASED`].
pub(super) fn cased_words(text: &[u8], at: usize) -> usize {
    isolate(text, at, |text, at| spaced(text, at, |c| within(c, CASED)))
}

/// `\s?[!-/:-~！-／：-～‘-‟　-。]+`
pub(super) fn punctuation_runs(text: &[u8], at: usize) -> usize {
    const SET: &[(char, char)] = &[('!', '/'), (':', '~'), ('‘', '‟'), ('\u{3000}', '。'), ('！', '／'), ('：', '～')];
    isolate(text, at, |text, at| spaced(text, at, |c| within(c, SET)))
}

/// `\s+$`
pub(super) fn trailing_space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    // From the end back, over bytes: white space is ASCII, U+0085, U+00A0 or three bytes long.
    let mut end = rest.len();
    loop {
        let before = (1..=3).find(|n| {
            let from = end.checked_sub(*n);
            from.and_then(|f| scalar_at(rest, f)).is_some_and(|s| s.len == *n && s.class.is(Class::SPACE))
        });
        match before {
            Some(n) => end -= n,
            None => break,
        }
    }
    if end == 0 { text.len() } else { at + end }
}

/// `[一-龥ࠀ-一가-퟿]+`
pub(super) fn cjk_and_hangul(text: &[u8], at: usize) -> usize {
    isolate(text, at, |text, at| run(text, at, |c| within(c, &[('\u{800}', '龥'), ('가', '\u{d7ff}')])))
}

/// `[一-龥぀-ゟ゠-ヿ]+`
pub(super) fn cjk_and_kana(text: &[u8], at: usize) -> usize {
    isolate(text, at, |text, at| run(text, at, |c| within(c, &[('\u{3040}', 'ヿ'), ('一', '龥')])))
}

/// ``[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|``
/// `` ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+``
pub(super) fn v3_words(text: &[u8], at: usize) -> usize {
    isolate(text, at, v3_word)
}

fn v3_word(text: &[u8], at: usize) -> Option<usize> {
    const SIGN: Class = Class::PUNCTUATION.or(Class::SYMBOL);
    const LETTER: Class = Class::LETTER.or(Class::MARK);
    let first = scalar_at(text, at)?;
    let next = at + first.len;
    if first.char.is_ascii_punctuation()
        && let Some(end) = run(text, next, |c| c.is_ascii_alphabetic())
    {
        return Some(end);
    }
    if first.class.is(LETTER) {
        return Some(skip(text, at, LETTER));
    }
    let in_front = !matches!(first.char, '\r' | '\n') && !first.class.is(SIGN);
    if in_front && scalar_at(text, next).is_some_and(|s| s.class.is(LETTER)) {
        return Some(skip(text, next, LETTER));
    }
    let start = if first.char == ' ' { next } else { at };
    let signs = skip(text, start, SIGN);
    if signs > start {
        return Some(skip_bytes(text, signs, b"\r\n"));
    }
    if !first.class.is(Class::SPACE) {
        return None;
    }
    Some(white_space_to_line_end(text, at).unwrap_or_else(|| white_space(text, at)))
}

/// `\s?` and a run of at least one character that `is` in the set.
fn spaced(text: &[u8], at: usize, is: impl Fn(char) -> bool) -> Option<usize> {
    let first = scalar_at(text, at)?;
    let in_front = first.class.is(Class::SPACE).then(|| run(text, at + first.len, &is)).flatten();
    in_front.or_else(|| run(text, at, is))
}

/// A run of at least one character that `is` in the set. Stray bytes are in none.
fn run(text: &[u8], at: usize, is: impl Fn(char) -> bool) -> Option<usize> {
    let mut end = at;
    while let Some(s) = scalar_at(text, end).filter(|s| is(s.char)) {
        end += s.len;
    }
    (end > at).then_some(end)
}

/// Whether `c` is in one of the ranges, which ascend.
fn within(c: char, ranges: &[(char, char)]) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= c);
    after.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|(_, last)| c <= *last)
}

/// The cased letters that the expression of deepseek-llm lists: those of an older Unicode.
#[rustfmt::skip]
const CASED: &[(char, char)] = &[
    ('\u{41}', '\u{5a}'), ('\u{61}', '\u{7a}'), ('\u{b5}', '\u{b5}'), ('\u{c0}', '\u{d6}'), ('\u{d8}', '\u{f6}'),
    ('\u{f8}', '\u{1ba}'), ('\u{1bc}', '\u{1bf}'), ('\u{1c4}', '\u{293}'), ('\u{295}', '\u{2af}'),
    ('\u{370}', '\u{373}'), ('\u{376}', '\u{377}'), ('\u{37b}', '\u{37d}'), ('\u{37f}', '\u{37f}'),
    ('\u{386}', '\u{386}'), ('\u{388}', '\u{38a}'), ('\u{38c}', '\u{38c}'), ('\u{38e}', '\u{3a1}'),
    ('\u{3a3}', '\u{3f5}'), ('\u{3f7}', '\u{481}'), ('\u{48a}', '\u{52f}'), ('\u{531}', '\u{556}'),
    ('\u{10a0}', '\u{10c5}'), ('\u{13a0}', '\u{13f5}'), ('\u{13f8}', '\u{13fd}'), ('\u{1c90}', '\u{1cba}'),
    ('\u{1cbd}', '\u{1cbf}'), ('\u{1d00}', '\u{1d2b}'), ('\u{1d6b}', '\u{1d77}'), ('\u{1d79}', '\u{1d9a}'),
    ('\u{1e00}', '\u{1f15}'), ('\u{1f18}', '\u{1f1d}'), ('\u{1f20}', '\u{1f45}'), ('\u{1f48}', '\u{1f4d}'),
    ('\u{1f50}', '\u{1f57}'), ('\u{1f59}', '\u{1f59}'), ('\u{1f5b}', '\u{1f5b}'), ('\u{1f5d}', '\u{1f5d}'),
    ('\u{1f5f}', '\u{1f7d}'), ('\u{1f80}', '\u{1fb4}'), ('\u{1fb6}', '\u{1fbc}'), ('\u{1fbe}', '\u{1fbe}'),
    ('\u{1fc2}', '\u{1fc4}'), ('\u{1fc6}', '\u{1fcc}'), ('\u{1fd0}', '\u{1fd3}'), ('\u{1fd6}', '\u{1fdb}'),
    ('\u{1fe0}', '\u{1fec}'), ('\u{1ff2}', '\u{1ff4}'), ('\u{1ff6}', '\u{1ffc}'), ('\u{2102}', '\u{2102}'),
    ('\u{2107}', '\u{2107}'), ('\u{210a}', '\u{2113}'), ('\u{2115}', '\u{2115}'), ('\u{2119}', '\u{211d}'),
    ('\u{2124}', '\u{2124}'), ('\u{2126}', '\u{2126}'), ('\u{2128}', '\u{2128}'), ('\u{212a}', '\u{212d}'),
    ('\u{212f}', '\u{2134}'), ('\u{2139}', '\u{2139}'), ('\u{213c}', '\u{213f}'), ('\u{2145}', '\u{2149}'),
    ('\u{214e}', '\u{214e}'), ('\u{2183}', '\u{2184}'), ('\u{2c00}', '\u{2c7b}'), ('\u{2c7e}', '\u{2ce4}'),
    ('\u{2ceb}', '\u{2cee}'), ('\u{2cf2}', '\u{2cf3}'), ('\u{a640}', '\u{a66d}'), ('\u{a680}', '\u{a69b}'),
    ('\u{a722}', '\u{a76f}'), ('\u{a771}', '\u{a787}'), ('\u{a78b}', '\u{a78e}'), ('\u{ab70}', '\u{abbf}'),
    ('\u{fb00}', '\u{fb06}'), ('\u{fb13}', '\u{fb17}'), ('\u{ff21}', '\u{ff3a}'), ('\u{ff41}', '\u{ff5a}'),
    ('\u{10400}', '\u{1044f}'), ('\u{104b0}', '\u{104d3}'), ('\u{104d8}', '\u{104fb}'), ('\u{10c80}', '\u{10cb2}'),
    ('\u{10cc0}', '\u{10cf2}'), ('\u{118a0}', '\u{118df}'), ('\u{1e900}', '\u{1e943}'),
];
