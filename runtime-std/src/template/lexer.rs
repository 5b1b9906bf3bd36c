//! Jinja source to tokens, with the whitespace rules of `trim_blocks` and `lstrip_blocks`.
//!
//! Follows jinja2's `lexer.py`: a sign in a tag (`{%-`, `+%}`) says what happens to the spaces beside it; without one,
//! a block or a comment takes the newline after it and the spaces of its line before it.

use super::budget::{Error, Result, fail};

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'s> {
    /// Text outside of tags.
    Text(&'s str),
    /// `{%`
    BlockStart,
    /// `%}`
    BlockEnd,
    /// `{{`
    VariableStart,
    /// `}}`
    VariableEnd,
    Name(&'s str),
    Str(String),
    Int(i64),
    Float(f64),
    Op(&'static str),
    /// The end of the template.
    End,
}

/// Operators, longer ones before those they begin with.
const OPERATORS: [&str; 26] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}", "<", ">", "=", ".",
    ":", "|", ",", ";",
];

/// Where the lexer stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Text,
    Block,
    Variable,
}

pub(super) struct Lexer<'s> {
    source: &'s str,
    at: usize,
    inside: Inside,
    /// A tag whose text before it has just been handed out.
    pending: Option<Token<'s>>,
    /// Whether what was read last ended a line.
    line_starts: bool,
    /// Brackets open in the tag: inside them `}}` ends nothing.
    open: usize,
    line: usize,
    counted: usize,
}

/// What Python calls whitespace.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// A template's source with newlines as jinja2 reads them: one kind, and none at the end.
pub(super) fn normalised(source: &str) -> String {
    let mut text = source.replace("\r\n", "\n").replace('\r', "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

impl<'s> Lexer<'s> {
    /// Reads `source`, which is [`normalised`].
    pub(super) fn new(source: &'s str) -> Self {
        let (inside, pending) = (Inside::Text, None);
        Lexer { source, at: 0, inside, pending, line_starts: true, open: 0, line: 1, counted: 0 }
    }

    /// The line that is being read.
    pub(super) fn line(&mut self) -> usize {
        let passed = self.source.get(self.counted..self.at).unwrap_or_default();
        self.line += passed.bytes().filter(|b| *b == b'\n').count();
        self.counted = self.at.max(self.counted);
        self.line
    }

    /// Whether `=` comes next, and not `==`.
    pub(super) fn assigns(&self) -> bool {
        let rest = self.rest().trim_start_matches(is_space);
        rest.starts_with('=') && !rest.starts_with("==")
    }

    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_space).len();
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(super) fn next(&mut self) -> Result<Token<'s>> {
        if let Some(token) = self.pending.take() {
            return Ok(token);
        }
        match self.inside {
            Inside::Text => self.text(),
            Inside::Block | Inside::Variable => self.tag(),
        }
    }

    /// Text up to the next tag, or that tag.
    fn text(&mut self) -> Result<Token<'s>> {
        loop {
            let rest = self.rest();
            let Some(len) = tag_start(rest) else {
                self.at = self.source.len();
                return Ok(if rest.is_empty() { Token::End } else { Token::Text(rest) });
            };
            let kind = rest.as_bytes().get(len + 1).copied();
            let before = rest.get(..len).unwrap_or_default();
            let line_starts = self.line_starts;
            self.at += len + 2;
            let sign = self.sign();
            let text = stripped(before, sign, kind != Some(b'{') && line_starts, kind != Some(b'{'));
            match kind {
                Some(b'{') => self.start(Inside::Variable),
                Some(b'%') => match self.raw()? {
                    None => self.start(Inside::Block),
                    // Both texts are parts of the source; the one before comes first.
                    Some(raw) if text.is_empty() && raw.is_empty() => continue,
                    Some(raw) if text.is_empty() => return Ok(Token::Text(raw)),
                    Some(raw) => {
                        self.pending = (!raw.is_empty()).then_some(Token::Text(raw));
                        return Ok(Token::Text(text));
                    }
                },
                _ => {
                    let end = self.rest().find("#}").ok_or_else(|| Error::new("a comment has no end"))?;
                    let sign = self.rest().get(..end).and_then(|t| t.chars().next_back());
                    self.at += end + 2;
                    self.after_tag(sign);
                    if !text.is_empty() {
                        return Ok(Token::Text(text));
                    }
                    continue;
                }
            }
            if !text.is_empty() {
                return Ok(Token::Text(text));
            }
            return self.next();
        }
    }

    /// The sign behind the first two bytes of a tag.
    fn sign(&mut self) -> Option<char> {
        let sign = self.rest().chars().next().filter(|c| matches!(c, '-' | '+'));
        self.at += usize::from(sign.is_some());
        sign
    }

    fn start(&mut self, inside: Inside) {
        self.inside = inside;
        self.open = 0;
        self.pending = Some(if inside == Inside::Block { Token::BlockStart } else { Token::VariableStart });
    }

    /// What the end of a block or comment takes with it.
    fn after_tag(&mut self, sign: Option<char>) {
        let from = self.at;
        match sign {
            Some('-') => self.skip_spaces(),
            Some('+') => {}
            _ => drop(self.take("\n")),
        }
        self.line_starts = self.source.get(from..self.at).is_some_and(|t| t.ends_with('\n'));
    }

    /// If the block that starts here is `raw`, what it holds.
    fn raw(&mut self) -> Result<Option<&'s str>> {
        let start = self.at;
        self.skip_spaces();
        if !self.take("raw") {
            self.at = start;
            return Ok(None);
        }
        self.skip_spaces();
        let strips = self.take("-%}");
        if !strips && !self.take("%}") {
            self.at = start;
            return Ok(None);
        }
        if strips {
            self.skip_spaces();
        }
        let from = self.at;
        while let Some(len) = self.rest().find("{%") {
            let end = self.at + len;
            self.at = end + 2;
            let sign = self.sign();
            self.skip_spaces();
            if !self.take("endraw") {
                continue;
            }
            self.skip_spaces();
            let end_sign = self.sign();
            if self.take("%}") {
                self.after_tag(end_sign);
                return Ok(Some(stripped(self.source.get(from..end).unwrap_or_default(), sign, false, true)));
            }
        }
        fail("a raw block has no end")
    }

    /// A token inside a tag.
    fn tag(&mut self) -> Result<Token<'s>> {
        self.skip_spaces();
        if self.open == 0 {
            let (end, token) = match self.inside {
                Inside::Block => ("%}", Token::BlockEnd),
                _ => ("}}", Token::VariableEnd),
            };
            let sign = self.rest().chars().next().filter(|c| matches!(c, '-' | '+'));
            let signed = sign.filter(|s| self.inside == Inside::Block || *s == '-');
            let after = self.rest().get(usize::from(signed.is_some())..).unwrap_or_default();
            if after.starts_with(end) {
                self.at += usize::from(signed.is_some()) + end.len();
                // A variable's end keeps the newline after it.
                let keeps = if self.inside == Inside::Variable { Some('+') } else { None };
                self.after_tag(signed.or(keeps));
                self.inside = Inside::Text;
                return Ok(token);
            }
        }
        let rest = self.rest();
        match rest.chars().next() {
            None => fail("a tag has no end"),
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if c.is_alphanumeric() || c == '_' => {
                let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                self.at += len;
                Ok(Token::Name(rest.get(..len).unwrap_or_default()))
            }
            Some(quote @ ('"' | '\'')) => self.string(quote),
            Some(c) => {
                let Some(op) = OPERATORS.iter().find(|op| rest.starts_with(**op)) else {
                    return fail(format!("unexpected {c:?}"));
                };
                match *op {
                    "(" | "[" | "{" => self.open += 1,
                    ")" | "]" | "}" => self.open = self.open.saturating_sub(1),
                    _ => {}
                }
                self.at += op.len();
                Ok(Token::Op(op))
            }
        }
    }

    fn number(&mut self) -> Result<Token<'s>> {
        let rest = self.rest();
        let malformed = || Error::new("a number is malformed or too large");
        let prefix = rest.get(..2).unwrap_or_default().to_ascii_lowercase();
        let radix = match prefix.as_str() {
            "0x" => 16,
            "0o" => 8,
            "0b" => 2,
            _ => 10,
        };
        let digits = |text: &str| text.find(|c: char| !c.is_digit(radix) && c != '_').unwrap_or(text.len());
        if radix != 10 {
            let body = rest.get(2..).unwrap_or_default();
            let len = digits(body);
            self.at += 2 + len;
            let text = body.get(..len).unwrap_or_default().replace('_', "");
            return i64::from_str_radix(&text, radix).map(Token::Int).map_err(|_| malformed());
        }
        let mut len = digits(rest);
        let starts_with_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let (whole, mut is_float) = (len, false);
        if let Some(fraction) = rest.get(len..).and_then(|t| t.strip_prefix('.')).filter(|t| starts_with_digit(t)) {
            len += 1 + digits(fraction);
            is_float = true;
        }
        let after = rest.get(len..).unwrap_or_default();
        if let Some(exponent) = after.strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if starts_with_digit(unsigned) {
                len += 1 + (exponent.len() - unsigned.len()) + digits(unsigned);
                is_float = true;
            }
        }
        let text = rest.get(..len).unwrap_or_default().replace('_', "");
        debug_assert!(len >= whole);
        self.at += len;
        if is_float {
            return text.parse().map(Token::Float).map_err(|_| malformed());
        }
        text.parse().map(Token::Int).map_err(|_| malformed())
    }

    fn string(&mut self, quote: char) -> Result<Token<'s>> {
        let body = self.rest().get(1..).unwrap_or_default();
        let mut text = String::new();
        let mut chars = body.char_indices();
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.at += 1 + i + 1;
                return Ok(Token::Str(text));
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some((_, escape)) = chars.next() else { break };
            let mut code = |first: &str, n: usize, radix: u32| {
                let mut digits = first.to_owned();
                let wanted = |c: char| c.is_digit(radix);
                while digits.len() < n && chars.as_str().starts_with(wanted) {
                    digits.extend(chars.next().map(|(_, c)| c));
                }
                let complete = radix == 8 || digits.len() == n;
                let scalar = u32::from_str_radix(&digits, radix).ok().filter(|_| complete).and_then(char::from_u32);
                scalar.ok_or_else(|| Error::new("an escape in a string is malformed"))
            };
            match escape {
                '\n' => {}
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'a' => text.push('\u{7}'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'v' => text.push('\u{b}'),
                '\\' | '\'' | '"' => text.push(escape),
                'x' => text.push(code("", 2, 16)?),
                'u' => text.push(code("", 4, 16)?),
                'U' => text.push(code("", 8, 16)?),
                '0'..='7' => text.push(code(escape.encode_utf8(&mut [0; 4]), 3, 8)?),
                // As Python does with an escape it does not know.
                _ => text.extend(['\\', escape]),
            }
        }
        fail("a string has no end")
    }
}

/// Where the next tag starts.
fn tag_start(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text.get(from..)?.find('{') {
        if matches!(text.as_bytes().get(from + at + 1), Some(b'{' | b'%' | b'#')) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Text before a tag with `sign`. Spaces that fill the tag's line up to it are left out if `lstrip` says so;
/// `whole_line`: there is nothing else on the line before `text`.
fn stripped(text: &str, sign: Option<char>, whole_line: bool, lstrip: bool) -> &str {
    match sign {
        Some('-') => text.trim_end_matches(is_space),
        None if lstrip => {
            let line = text.rfind('\n').map(|at| at + 1);
            let from = match line {
                Some(from) => from,
                None if whole_line => 0,
                None => return text,
            };
            let spaces = text.get(from..).unwrap_or_default();
            if spaces.chars().all(is_space) { text.get(..from).unwrap_or_default() } else { text }
        }
        _ => text,
    }
}
