//! Text of models and files, made harmless for a terminal: it cannot move the cursor, set the title, write
//! to the clipboard or reverse the order of what is shown.

/// What to show for `c`.
pub(super) fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        // The pictures of control characters (U+2400 to U+2421).
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        // C1 controls (U+009B starts an escape sequence), and overrides of the writing direction.
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ => c,
    }
}

/// Appends `text` to `out` with everything that could drive a terminal replaced.
pub(crate) fn neutralise(text: &str, out: &mut String) {
    out.extend(text.chars().map(shown));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_become_pictures() {
        let mut out = String::new();
        neutralise("a\x1b]0;title\x07b\r\u{9b}31mc\u{202e}\n\td\u{7f}é🎉", &mut out);
        assert_eq!(out, "a␛]0;title␇b␍\u{fffd}31mc\u{fffd}\n\td␡é🎉");
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            assert!(!shown(c).is_control() || c == '\n' || c == '\t');
        }
    }
}
