//! Bytes from a terminal to keys.

/// A key, or a paste.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Paste(String),
    Enter,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    KillToEnd,
    KillToStart,
    KillWord,
    Clear,
    Interrupt,
    /// Ctrl-D.
    EndOfInput,
    Suspend,
    /// A sequence that means nothing to us.
    Other,
}

/// The most bytes taken from one paste.
const PASTE_MAX: usize = 4 << 20;
/// The most bytes of an escape sequence.
const SEQUENCE_MAX: usize = 32;

/// Reads one key. `next(false)` waits for a byte; `next(true)` gives it only if it comes at once, which
/// tells the Escape key from the start of a sequence. `None` at the end of the input.
pub(super) fn read_key(next: &mut dyn FnMut(bool) -> Option<u8>) -> Option<Key> {
    let first = next(false)?;
    Some(match first {
        b'\r' | b'\n' => Key::Enter,
        0x01 => Key::Home,
        0x02 => Key::Left,
        0x03 => Key::Interrupt,
        0x04 => Key::EndOfInput,
        0x05 => Key::End,
        0x06 => Key::Right,
        0x08 | 0x7f => Key::Backspace,
        0x0b => Key::KillToEnd,
        0x0c => Key::Clear,
        0x0e => Key::Down,
        0x10 => Key::Up,
        0x15 => Key::KillToStart,
        0x17 => Key::KillWord,
        0x1a => Key::Suspend,
        0x1b => escape(next),
        b'\t' => Key::Char(' '),
        0x00..=0x1f => Key::Other,
        // U+0080 to U+009F are controls in two bytes.
        _ => scalar(first, next).filter(|c| !c.is_control()).map_or(Key::Other, Key::Char),
    })
}

/// The rest of a UTF-8 scalar.
fn scalar(first: u8, next: &mut dyn FnMut(bool) -> Option<u8>) -> Option<char> {
    let length = match first {
        0x00..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut bytes = [first, 0, 0, 0];
    for slot in bytes.get_mut(1..length)? {
        *slot = next(true)?;
    }
    std::str::from_utf8(bytes.get(..length)?).ok()?.chars().next()
}

fn escape(next: &mut dyn FnMut(bool) -> Option<u8>) -> Key {
    match next(true) {
        Some(b'[') => control_sequence(next),
        Some(b'O') => match next(true) {
            Some(b'H') => Key::Home,
            Some(b'F') => Key::End,
            Some(letter) => arrow(letter, false),
            None => Key::Other,
        },
        Some(b'b') => Key::WordLeft,
        Some(b'f') => Key::WordRight,
        Some(0x08 | 0x7f) => Key::KillWord,
        // Alt-Enter.
        Some(b'\r' | b'\n') => Key::Paste("\n".to_owned()),
        _ => Key::Other,
    }
}

fn control_sequence(next: &mut dyn FnMut(bool) -> Option<u8>) -> Key {
    let mut parameters = Vec::new();
    let last = loop {
        match next(true) {
            Some(byte @ 0x20..=0x3f) if parameters.len() < SEQUENCE_MAX => parameters.push(byte),
            Some(byte @ 0x40..=0x7e) => break byte,
            _ => return Key::Other,
        }
    };
    // Ctrl or Alt with an arrow comes as `1;5` or `1;3`.
    let modified = parameters.ends_with(b";5") || parameters.ends_with(b";3");
    match (last, parameters.as_slice()) {
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"3") => Key::Delete,
        (b'~', b"200") => Key::Paste(paste(next)),
        (letter, _) => arrow(letter, modified),
    }
}

fn arrow(letter: u8, modified: bool) -> Key {
    match (letter, modified) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', false) => Key::Right,
        (b'C', true) => Key::WordRight,
        (b'D', false) => Key::Left,
        (b'D', true) => Key::WordLeft,
        _ => Key::Other,
    }
}

/// Everything up to the end mark of a bracketed paste, as text without control characters.
fn paste(next: &mut dyn FnMut(bool) -> Option<u8>) -> String {
    const END: &[u8] = b"\x1b[201~";
    let mut bytes = Vec::new();
    while let Some(byte) = next(false) {
        bytes.push(byte);
        if bytes.ends_with(END) {
            bytes.truncate(bytes.len() - END.len());
            break;
        }
        if bytes.len() >= PASTE_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n").replace('\r', "\n").replace('\t', "    ");
    text.chars().filter(|&c| c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut rest = bytes.iter().copied();
        let mut all = Vec::new();
        while let Some(key) = read_key(&mut |_| rest.next()) {
            all.push(key);
        }
        all
    }

    #[test]
    fn characters_and_controls() {
        assert_eq!(keys("aé漢🎉".as_bytes()), ['a', 'é', '漢', '🎉'].map(Key::Char));
        assert_eq!(
            keys(b"\x01\x03\x04\r\x7f"),
            [Key::Home, Key::Interrupt, Key::EndOfInput, Key::Enter, Key::Backspace]
        );
        assert_eq!(keys(b"\xffa"), [Key::Other, Key::Char('a')]);
        assert_eq!(
            keys("\u{80}\u{9b}\u{9f}\u{a0}".as_bytes()),
            [Key::Other, Key::Other, Key::Other, Key::Char('\u{a0}')]
        );
    }

    #[test]
    fn sequences() {
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[1;5C\x1bb\x1b[3~\x1b[1~\x1b[F\x1b[99;9z"),
            [Key::Up, Key::Down, Key::WordRight, Key::WordLeft, Key::Delete, Key::Home, Key::End, Key::Other]
        );
        assert_eq!(keys(b"\x1b"), [Key::Other]);
    }

    #[test]
    fn pastes_are_one_key_without_controls() {
        assert_eq!(
            keys(b"\x1b[200~one\r\ntwo\x1b[31m\x07\x1b[201~x"),
            [Key::Paste("one\ntwo[31m".into()), Key::Char('x')]
        );
        assert_eq!(keys(b"\x1b[200~unfinished"), [Key::Paste("unfinished".into())]);
    }

    #[test]
    fn no_bytes_can_break_it() {
        let mut state = 1u32;
        let noise: Vec<u8> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 30 == 0 { 0x1b } else { (state >> 16) as u8 }
            })
            .collect();
        assert!(!keys(&noise).is_empty());
    }
}
