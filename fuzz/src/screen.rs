//! Any text on a terminal: nothing of it moves the cursor, sets anything or turns the direction of writing, and what
//! was neutralised once stays as it is.

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let shown = trill_std::fuzzing::neutralise(&text);
    if let Some(c) = shown.chars().find(|&c| drives(c)) {
        panic!("U+{:04X} reaches the terminal", u32::from(c));
    }
    // Tags could hide a text: only those of a flag pass.
    let flags = ["gbeng", "gbsct", "gbwls"].map(|flag| {
        let tags = flag.chars().chain(['\u{7f}']).filter_map(|c| char::from_u32(0xe0000 + u32::from(c)));
        std::iter::once('\u{1f3f4}').chain(tags).collect::<String>()
    });
    let flagless = flags.iter().fold(shown.clone(), |text, flag| text.replace(flag, ""));
    assert!(!flagless.contains(|c| matches!(c, '\u{e0000}'..='\u{e007f}')), "tags are hidden: {shown:?}");
    assert_eq!(trill_std::fuzzing::neutralise(&shown), shown);
    // Letters that stand alone in every script's rules.
    let alone = |c: &char| {
        c.is_ascii_alphanumeric() || matches!(c, '\u{c0}'..='\u{24f}' | '\u{400}'..='\u{481}' | '\u{4e00}'..='\u{9fff}')
    };
    let plain = |t: &str| t.chars().filter(alone).collect::<String>();
    assert_eq!(plain(&shown), plain(&text), "letters are lost");
}

/// Control characters but tab and newline; embeddings, overrides and isolates of the direction; line separators, U+FEFF.
pub(crate) fn drives(c: char) -> bool {
    let invisible = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    c.is_control() && c != '\n' && c != '\t' || invisible
}
