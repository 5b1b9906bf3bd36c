//! Splitting a text into the words that are merged on their own (byte-level BPE only).
//!
//! Every vocabulary was made with a splitting rule, a regular expression or a row of them, that the file only
//! names (`tokenizer.ggml.pre`). Each rule is written by hand here, over Unicode's general categories, in one
//! pass without backtracking over more than a character; the expression stands above its function.
//! A new name is one row in [`ALL`]; a new rule is one function.

mod cased;
mod deepseek;
mod gpt2;
mod llama3;
#[cfg(test)]
mod tests;

use super::unicode::{Class, scalar_at, skip, skip_not};
use crate::error::Result;

/// One splitting rule: given a text and the byte where a word starts, the byte where it ends. The word is a
/// match of the rule's expression or what lies between two matches. It ends after it starts, for a start
/// inside the text.
type Stage = fn(&[u8], usize) -> usize;

/// A splitting rule by name, and what goes with the name.
#[derive(Debug)]
pub struct Pretokenizer {
    /// The name, as in `tokenizer.ggml.pre`.
    pub name: &'static str,
    /// Other names for the same.
    pub(super) aliases: &'static [&'static str],
    /// Each stage splits the words of the one before.
    stages: &'static [Stage],
    /// A word that is a token is not merged.
    pub(super) ignore_merges: bool,
    /// Whether a text starts with the beginning token where the file does not say.
    pub(super) add_bos: bool,
}

/// A rule whose vocabulary is merged by rank alone and takes no beginning token.
const fn rule(name: &'static str, aliases: &'static [&'static str], stages: &'static [Stage]) -> Pretokenizer {
    Pretokenizer { name, aliases, stages, ignore_merges: false, add_bos: false }
}

/// Every pre-tokenizer. The names, and which of them mean the same, are llama.cpp's (llama-vocab.cpp);
/// `falcon_e` is bitnet.cpp's name for Falcon-E, whose tokenizer has the fingerprint of `falcon-h1` in llama.cpp's
/// converter.
pub static ALL: &[Pretokenizer] = &[
    Pretokenizer {
        name: "llama-bpe",
        aliases: &["llama3", "llama-v3", "falcon3", "falcon_e", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        stages: &[llama3::digits_3],
        ignore_merges: true,
        add_bos: true,
    },
    Pretokenizer { name: "tekken", aliases: &[], stages: &[cased::tekken], ignore_merges: true, add_bos: true },
    Pretokenizer { ignore_merges: true, ..rule("glm4", &["glm5"], &[llama3::digits_3]) },
    Pretokenizer { ignore_merges: true, ..rule("minicpm5", &[], &[number_triples, llama3::digits_all]) },
    rule("dbrx", &["smaug-bpe", "chatglm-bpe"], &[llama3::digits_3]),
    rule(
        "qwen2",
        &["deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        &[llama3::digits_1],
    ),
    rule("qwen35", &[], &[llama3::qwen35]),
    rule("gpt-4o", &["llama4", "kanana2", "minimax-m2"], &[cased::gpt4o]),
    rule(
        "gpt-2",
        &["phi-2", "mpt", "olmo", "jais", "gigachat", "a.x-4.0", "mellum", "exaone4", "trillion", "granite-docling"],
        &[gpt2::words],
    ),
    rule(
        "smollm",
        &["starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[single_numbers, gpt2::words],
    ),
    rule("falcon", &[], &[gpt2::punctuation_and_backtick, gpt2::words, digit_triples]),
    rule("default", &[], &[gpt2::punctuation, gpt2::words, numbers, digit_triples]),
    rule(
        "deepseek-llm",
        &[],
        &[
            deepseek::line_ends,
            deepseek::cased_words,
            deepseek::punctuation_runs,
            deepseek::trailing_space,
            deepseek::cjk_and_hangul,
            numbers,
        ],
    ),
    rule(
        "deepseek-coder",
        &[],
        &[
            deepseek::line_ends,
            deepseek::letters,
            deepseek::category_punctuation,
            deepseek::cjk_and_hangul,
            single_numbers,
        ],
    ),
    rule(
        "deepseek-v3",
        &["hunyuan-dense", "joyai-llm", "hy_v4"],
        &[number_triples, deepseek::cjk_and_kana, deepseek::v3_words],
    ),
];

impl Pretokenizer {
    /// The pre-tokenizer with this name or alias.
    pub fn named(name: &str) -> Option<&'static Pretokenizer> {
        ALL.iter().find(|p| p.name == name || p.aliases.contains(&name))
    }

    /// Hands out the words of `text` in order: none is empty, and joined they are the text.
    pub fn split(&self, text: &[u8], out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        split(self.stages, text, out)
    }
}

/// Calls itself once per stage.
fn split(stages: &[Stage], text: &[u8], out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let Some((stage, rest)) = stages.split_first() else { return out(text) };
    let mut at = 0;
    while at < text.len() {
        let end = stage(text, at);
        split(rest, text.get(at..end).unwrap_or_default(), out)?;
        at = end;
    }
    Ok(())
}

/// The stage of an expression given by its matches: `matches(text, at)` is the end of the match at `at`.
fn isolate(text: &[u8], at: usize, matches: impl Fn(&[u8], usize) -> Option<usize>) -> usize {
    if let Some(end) = matches(text, at) {
        return end;
    }
    let mut at = at;
    while let Some(s) = scalar_at(text, at) {
        at += s.len;
        if matches(text, at).is_some() {
            break;
        }
    }
    at
}

/// `\p{N}`
fn single_numbers(text: &[u8], at: usize) -> usize {
    match scalar_at(text, at) {
        Some(s) if s.class.is(Class::NUMBER) => at + s.len,
        _ => skip_not(text, at, Class::NUMBER),
    }
}

/// `\p{N}{1,3}`
fn number_triples(text: &[u8], at: usize) -> usize {
    match up_to_numbers(text, at, 3) {
        end if end > at => end,
        _ => skip_not(text, at, Class::NUMBER),
    }
}

/// `\p{N}+`
fn numbers(text: &[u8], at: usize) -> usize {
    match skip(text, at, Class::NUMBER) {
        end if end > at => end,
        _ => skip_not(text, at, Class::NUMBER),
    }
}

/// `[0-9][0-9][0-9]`
fn digit_triples(text: &[u8], at: usize) -> usize {
    isolate(text, at, |text, at| {
        let three = text.get(at..at.checked_add(3)?)?;
        three.iter().all(u8::is_ascii_digit).then_some(at + 3)
    })
}

/// End of at most `most` numbers.
fn up_to_numbers(text: &[u8], mut at: usize, most: usize) -> usize {
    for _ in 0..most {
        match scalar_at(text, at) {
            Some(s) if s.class.is(Class::NUMBER) => at += s.len,
            _ => break,
        }
    }
    at
}

/// `\s+(?!\S)|\s+`: white space up to the end of the text; else all of it but the last character, which goes
/// with the next word; else the one character there is.
fn white_space(text: &[u8], at: usize) -> usize {
    let (mut end, mut last) = (at, at);
    while let Some(s) = scalar_at(text, end) {
        if !s.class.is(Class::SPACE) {
            return if last > at { last } else { end };
        }
        last = end;
        end += s.len;
    }
    end
}

/// `\s*[\r\n]+`: white space up to its last line end; `None` if it has none.
fn white_space_to_line_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut end = None;
    while let Some(s) = scalar_at(text, at).filter(|s| s.class.is(Class::SPACE)) {
        at += s.len;
        if matches!(s.char, '\r' | '\n') {
            end = Some(at);
        }
    }
    end
}

/// End of a run of the bytes `set`, all of them ASCII.
fn skip_bytes(text: &[u8], at: usize, set: &[u8]) -> usize {
    at + text.get(at..).unwrap_or_default().iter().take_while(|b| set.contains(b)).count()
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, or `(?i:...)` of it with `any_case`, where ſ counts as s.
fn contraction(text: &[u8], at: usize, any_case: bool) -> Option<usize> {
    let rest = text.get(at..)?.strip_prefix(b"'")?;
    let letter = |i: usize| match rest.get(i) {
        Some(b) if any_case => b.to_ascii_lowercase(),
        Some(b) => *b,
        None => 0,
    };
    let len = match (letter(0), letter(1)) {
        (b's' | b't' | b'm' | b'd', _) => 1,
        (b'r' | b'v', b'e') | (b'l', b'l') => 2,
        _ if any_case && rest.starts_with("ſ".as_bytes()) => 2,
        _ => return None,
    };
    Some(at + 1 + len)
}
