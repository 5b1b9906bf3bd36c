//! Text that commands work on: from a flag, a file or standard input.

use crate::exit::{Code, Failure, Outcome};
use crate::host::files;
use crate::options::Options;
use std::io::{BufRead, Cursor};
use std::path::Path;

/// The bytes of `path`; `-` is standard input.
pub(crate) fn file(path: &Path) -> Outcome<Vec<u8>> {
    if path == Path::new("-") {
        return stdin();
    }
    files::text(path)
}

/// Everything on standard input.
pub(crate) fn stdin() -> Outcome<Vec<u8>> {
    rest(&mut std::io::stdin().lock())
}

/// What is left of `source`.
pub(crate) fn rest(source: &mut dyn BufRead) -> Outcome<Vec<u8>> {
    files::limited(source).map_err(|f| f.about(Path::new("standard input")))
}

/// The text of `-p` or `-f`, or standard input, of which nothing is read yet.
pub(crate) fn source(options: &Options) -> Outcome<Box<dyn BufRead>> {
    match (&options.prompt, &options.file) {
        (None, None) => Ok(Box::new(std::io::stdin().lock())),
        _ => Ok(Box::new(Cursor::new(text(options)?))),
    }
}

/// The text of `-p` or `-f`, else of standard input.
pub(crate) fn text(options: &Options) -> Outcome<Vec<u8>> {
    match (options.prompt_text(), &options.file) {
        (Some(text), _) => Ok(text.into_bytes()),
        (None, Some(path)) => file(path),
        (None, None) => stdin(),
    }
}

/// Text that must be UTF-8.
pub(crate) fn utf8(bytes: Vec<u8>) -> Outcome<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::new(Code::Data, format!("the text is not UTF-8 at byte {at}"))
    })
}

/// Reads `\n`, `\r`, `\t`, `\\`, `\'`, `\"` and `\xHH` (a byte) as llama.cpp does; other backslashes stay.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |s: &[u8]| u8::from_str_radix(std::str::from_utf8(s.get(1..3)?).ok()?, 16).ok();
        let (value, used) = match (byte, after.first()) {
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(&c @ (b'\\' | b'\'' | b'"'))) => (c, 2),
            (b'\\', Some(b'x')) => hex(after).map_or((byte, 1), |value| (value, 4)),
            _ => (byte, 1),
        };
        out.push(value);
        rest = &rest[used..];
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(unescape(r#"a\nb\t\\n\'\"\x41\xzz\q\"#), "a\nb\t\\n'\"A\\xzz\\q\\");
        assert_eq!(unescape(r"\xc3\xa9"), "é");
    }

    #[test]
    fn text_must_be_utf8() {
        assert!(utf8(b"ab\xffc".to_vec()).unwrap_err().message.contains("byte 2"));
    }
}
