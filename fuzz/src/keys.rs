//! Any bytes typed or pasted, on terminals of any width (first byte): the text stays whole, and what is drawn holds no
//! more than the editor's own few sequences.

use crate::screen::drives;

pub fn run(input: &[u8]) {
    let Some((&width, bytes)) = input.split_first() else { return };
    let mut last = 0;
    trill_std::fuzzing::keys(bytes, "> ", usize::from(width), &mut |before, after, frame| {
        assert!(before.len() + after.len() <= 4 * bytes.len());
        assert!(!before.chars().chain(after.chars()).any(|c| c.is_control() && c != '\n'), "controls are typed in");
        last = last.max(frame.len());
        check(frame);
    });
}

/// Own sequences: start of line, erase below, up, right, line breaks.
fn check(frame: &str) {
    let mut rest = frame;
    while let Some(at) = rest.find(['\x1b', '\r', '\n']).or_else(|| rest.find(drives)) {
        let (text, sequence) = rest.split_at(at);
        assert!(!text.chars().any(drives), "drawn: {frame:?}");
        rest = match sequence.strip_prefix("\x1b[") {
            Some(s) => s.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(['J', 'A', 'C']),
            None => sequence.strip_prefix(['\r', '\n']),
        }
        .unwrap_or_else(|| panic!("drawn: {frame:?}"));
    }
    assert!(!rest.chars().any(drives), "drawn: {frame:?}");
}
