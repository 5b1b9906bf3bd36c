//! Any text on a terminal: nothing of it moves the cursor, sets anything or turns the direction of writing, and what
//! was neutralised once stays as it is.

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let shown = trill_std::fuzzing::neutralise(&text);
    if let Some(c) = shown.chars().find(|&c| drives(c)) {
        panic!("U+{:04X} reaches the terminal", u32::from(c));
    }
    assert_eq!(trill_std::fuzzing::neutralise(&shown), shown);
    let plain = |t: &str| t.chars().filter(|c| c.is_lowercase() || c.is_uppercase() || c.is_numeric()).collect::<String>();
    assert_eq!(plain(&shown), plain(&text), "letters are lost");
}

/// Control characters but tab and newline; embeddings, overrides and isolates of the direction.
pub(crate) fn drives(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
