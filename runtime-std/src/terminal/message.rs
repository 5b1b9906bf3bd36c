//! Standard error: the only place that writes to it. Messages quote strangers inside our own lines, so they are made
//! harmless wherever they go; what moves the cursor has a door of its own, [`Drawing`], with a list of all it can do.

use super::safe::{Filter, Style};
use std::fmt::{Arguments, Write as _};
use std::io::Write as _;

/// Bytes collected before they are written.
const BUFFER: usize = 1024;

/// Writes one line to standard error, `format!`'s arguments made harmless; line ends in them become spaces. Nothing is
/// allocated.
macro_rules! tell {
    ($($argument:tt)*) => { $crate::terminal::tell_line(::std::format_args!($($argument)*)) };
}
pub(crate) use tell;

/// What is on its way to standard error.
struct Writer {
    filter: Filter,
    one_line: bool,
    buffer: Buffer,
}

struct Buffer {
    bytes: [u8; BUFFER],
    len: usize,
    /// What would have been written, where it is kept instead.
    #[cfg(feature = "fuzzing")]
    kept: Option<std::sync::Arc<std::sync::Mutex<Vec<u8>>>>,
}

impl Buffer {
    fn add(&mut self, bytes: &[u8]) {
        if self.len + bytes.len() > BUFFER {
            self.write();
        }
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn write(&mut self) {
        #[cfg(feature = "fuzzing")]
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            kept.extend_from_slice(self.bytes.get(..self.len).unwrap_or_default());
            self.len = 0;
            return;
        }
        // A reader that is gone is told nothing.
        let _ = std::io::stderr().write_all(self.bytes.get(..self.len).unwrap_or_default());
        self.len = 0;
    }
}

impl Writer {
    fn new(style: Style, one_line: bool) -> Self {
        let buffer = Buffer {
            bytes: [0; BUFFER],
            len: 0,
            #[cfg(feature = "fuzzing")]
            kept: None,
        };
        Writer { filter: Filter::new(style), one_line, buffer }
    }

    fn push(&mut self, c: char) {
        let c = if self.one_line && matches!(c, '\n' | '\r') { ' ' } else { c };
        let buffer = &mut self.buffer;
        self.filter.push(c, &mut |shown| buffer.add(shown.encode_utf8(&mut [0; 4]).as_bytes()));
    }

    /// Our own bytes, as they are, after all that was pushed.
    fn raw(&mut self, bytes: &[u8]) {
        let buffer = &mut self.buffer;
        self.filter.finish(&mut |shown| buffer.add(shown.encode_utf8(&mut [0; 4]).as_bytes()));
        bytes.chunks(BUFFER).for_each(|part| buffer.add(part));
    }

    fn finish(mut self) {
        self.raw(b"");
        self.buffer.write();
    }
}

impl std::fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.chars().for_each(|c| self.push(c));
        Ok(())
    }
}

/// What [`tell!`] calls.
pub(crate) fn tell_line(line: Arguments<'_>) {
    let mut writer = Writer::new(Style::Picture, true);
    // The writer has no errors.
    let _ = writer.write_fmt(line);
    writer.raw(b"\n");
    writer.finish();
}

/// Writes a text that may have several lines, with their ends.
pub(crate) fn show(text: &str) {
    let mut writer = Writer::new(Style::Picture, false);
    text.chars().for_each(|c| writer.push(c));
    writer.finish();
}

/// Writes JSON on a line of its own: on a terminal with escapes in place of what could harm it, else as it is.
pub(crate) fn tell_json(value: &serde_json::Value) {
    let (mut writer, line) = (Writer::new(Style::Escape, false), format!("{value}\n"));
    if crate::host::is_terminal(2) {
        line.chars().for_each(|c| writer.push(c));
    } else {
        writer.raw(line.as_bytes());
    }
    writer.finish();
}

/// All that we do to a terminal ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// To the start of the row.
    Return,
    /// To the start of the next row.
    NextRow,
    /// Up so many rows.
    Up(usize),
    /// Right so many columns.
    Right(usize),
    /// Clears the rest of the row.
    ClearRow,
    /// Clears the rest of the screen.
    ClearBelow,
    /// Clears the screen, and goes to its start.
    ClearScreen,
    /// Pasted text comes between marks.
    MarkPastes,
    /// Pasted text comes as if typed.
    PlainPastes,
}

/// A drawing on the terminal of standard error; elsewhere it draws nothing. Shown when dropped.
pub(crate) struct Drawing(Option<Writer>);

impl Drawing {
    pub(crate) fn new() -> Self {
        Drawing(crate::host::is_terminal(2).then(|| Writer::new(Style::Picture, false)))
    }

    /// A drawing that goes to `kept` in place of a terminal.
    #[cfg(feature = "fuzzing")]
    pub(super) fn kept(kept: std::sync::Arc<std::sync::Mutex<Vec<u8>>>) -> Self {
        let mut writer = Writer::new(Style::Picture, false);
        writer.buffer.kept = Some(kept);
        Drawing(Some(writer))
    }

    pub(crate) fn control(&mut self, control: Control) -> &mut Self {
        let Some(writer) = &mut self.0 else { return self };
        match control {
            Control::Return => writer.raw(b"\r"),
            Control::NextRow => writer.raw(b"\r\n"),
            Control::Up(0) | Control::Right(0) => {}
            Control::Up(rows) => writer.sequence(rows, b"A"),
            Control::Right(columns) => writer.sequence(columns, b"C"),
            Control::ClearRow => writer.raw(b"\x1b[K"),
            Control::ClearBelow => writer.raw(b"\x1b[J"),
            Control::ClearScreen => writer.raw(b"\x1b[H\x1b[2J"),
            Control::MarkPastes => writer.raw(b"\x1b[?2004h"),
            Control::PlainPastes => writer.raw(b"\x1b[?2004l"),
        }
        self
    }

    /// Text at the cursor, made harmless.
    pub(crate) fn text(&mut self, text: Arguments<'_>) -> &mut Self {
        if let Some(writer) = &mut self.0 {
            let _ = writer.write_fmt(text);
        }
        self
    }
}

impl Writer {
    fn sequence(&mut self, n: usize, end: &[u8]) {
        self.raw(b"\x1b[");
        let _ = write!(self, "{n}");
        self.raw(end);
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if let Some(writer) = self.0.take() {
            writer.finish();
        }
    }
}
