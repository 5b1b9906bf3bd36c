//! Reading what the user types: with an editor where the terminal can draw one, plainly elsewhere.

use super::keys::{Key, read_key};
use super::line::{History, Line};
use super::message::{Control, Drawing};
use super::raw::{self, Got, Mode};
use super::safe::{Filter, Style};
use super::width::columns;
use crate::host::signal;

/// What came of asking for a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// A line, without its end.
    Line(String),
    /// Ctrl-C on an empty line.
    Interrupt,
    /// Ctrl-D, or the end of a pipe.
    End,
}

/// How long a key that starts with Escape may take to arrive whole, in milliseconds.
const SEQUENCE_PATIENCE: i32 = 50;

/// Reads lines from standard input. The prompt and the editing go to standard error.
pub(crate) struct Reader {
    history: History,
    /// Bytes read and not yet used.
    pending: std::collections::VecDeque<u8>,
    edits: bool,
    terminal: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let terminal = crate::host::is_terminal(0);
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let edits = terminal && crate::host::is_terminal(2) && !dumb;
        Reader { history: History::default(), pending: std::collections::VecDeque::new(), edits, terminal }
    }

    /// Asks for a line.
    pub(crate) fn read(&mut self, prompt: &str) -> Typed {
        if self.edits
            && let Some(_raw) = Mode::raw()
        {
            return self.edit(prompt);
        }
        if self.terminal {
            Drawing::new().text(format_args!("{prompt}"));
        }
        self.plain()
    }

    fn plain(&mut self) -> Typed {
        let mut line = Vec::new();
        loop {
            while let Some(byte) = self.pending.pop_front() {
                if byte == b'\n' {
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                    return Typed::Line(String::from_utf8_lossy(&line).into_owned());
                }
                line.push(byte);
            }
            match self.fill(-1) {
                Got::Bytes(_) => {}
                Got::Signal if signal::interrupted() => return Typed::Interrupt,
                Got::Signal => {}
                Got::End if line.is_empty() => return Typed::End,
                Got::End => return Typed::Line(String::from_utf8_lossy(&line).into_owned()),
            }
        }
    }

    fn fill(&mut self, patience: i32) -> Got {
        let mut buffer = [0u8; 4096];
        let got = raw::read(&mut buffer, patience);
        if let Got::Bytes(n) = got {
            self.pending.extend(&buffer[..n]);
        }
        got
    }

    fn next_byte(&mut self, at_once: bool) -> Option<u8> {
        loop {
            if let Some(byte) = self.pending.pop_front() {
                return Some(byte);
            }
            match self.fill(if at_once { SEQUENCE_PATIENCE } else { -1 }) {
                Got::Bytes(_) => {}
                Got::Signal if at_once => return None,
                Got::Signal => {}
                Got::End => return None,
            }
        }
    }

    fn edit(&mut self, prompt: &str) -> Typed {
        let mut line = Line::default();
        let mut view = View { prompt, cursor_row: 0 };
        // Bracketed paste: a pasted text arrives as one piece, its line ends do not send it.
        Drawing::new().control(Control::MarkPastes);
        let typed = loop {
            view.draw(&line);
            let Some(key) = read_key(&mut |at_once| self.next_byte(at_once)) else { break Typed::End };
            match key {
                Key::Enter => break Typed::Line(line.text().to_owned()),
                Key::Interrupt if line.text().is_empty() => break Typed::Interrupt,
                Key::EndOfInput if line.text().is_empty() => break Typed::End,
                Key::Interrupt => {
                    line.take();
                }
                Key::Clear => {
                    Drawing::new().control(Control::ClearScreen);
                    view.cursor_row = 0;
                }
                Key::Suspend => {
                    view.leave(&line);
                    raw::restore();
                    raw::suspend();
                    // Dropping the guard would restore again; the one of `read` does that.
                    std::mem::forget(Mode::raw());
                }
                Key::Up => self.history.up(&mut line),
                Key::Down => self.history.down(&mut line),
                other => apply(other, &mut line),
            }
        };
        view.leave(&line);
        Drawing::new().control(Control::PlainPastes);
        if let Typed::Line(text) = &typed {
            self.history.add(text);
        }
        typed
    }
}

pub(super) fn apply(key: Key, line: &mut Line) {
    match key {
        Key::Char(c) => line.insert(c.encode_utf8(&mut [0; 4])),
        Key::Paste(text) => line.insert(&text),
        Key::Backspace => line.backspace(),
        Key::Delete | Key::EndOfInput => line.delete(),
        Key::Left => line.left(),
        Key::Right => line.right(),
        Key::WordLeft => line.word_left(),
        Key::WordRight => line.word_right(),
        Key::Home => line.home(),
        Key::End => line.end(),
        Key::KillToEnd => line.kill_to_end(),
        Key::KillToStart => line.kill_to_start(),
        Key::KillWord => line.kill_word(),
        _ => {}
    }
}

/// The line on the terminal, over as many rows as it needs.
pub(super) struct View<'p> {
    pub(super) prompt: &'p str,
    /// Row of the cursor, counted from the row where the prompt starts.
    pub(super) cursor_row: usize,
}

impl View<'_> {
    fn draw(&mut self, line: &Line) {
        self.frame(line, raw::columns(), &mut Drawing::new());
    }

    /// Draws it for a terminal of `width` columns.
    pub(super) fn frame(&mut self, line: &Line, width: usize, out: &mut Drawing) {
        let width = width.max(2);
        out.control(Control::Up(self.cursor_row)).control(Control::Return).control(Control::ClearBelow);
        let mut filter = Filter::new(Style::Picture);
        let mut place = (0, 0);
        let mut put = |c, place: &mut (usize, usize)| {
            if advance(c, width, place) {
                out.control(Control::NextRow);
            }
            if c != '\n' {
                out.text(format_args!("{c}"));
            }
        };
        let mut cursor = None;
        let cursor_at = self.prompt.len() + line.before_cursor().len();
        let mut at = 0;
        for c in self.prompt.chars().chain(line.text().chars()) {
            if at == cursor_at {
                cursor = Some(place);
            }
            at += c.len_utf8();
            filter.push(c, &mut |shown| put(shown, &mut place));
        }
        filter.finish(&mut |shown| put(shown, &mut place));
        // At the right edge terminals wait with the line break: make it, so that the rows are as counted.
        if place.1 == width {
            out.control(Control::NextRow);
            place = (place.0 + 1, 0);
        }
        let (row, column) = match cursor {
            Some((row, column)) if column >= width => (row + 1, 0),
            Some(cursor) => cursor,
            None => place,
        };
        out.control(Control::Up(place.0.saturating_sub(row))).control(Control::Return).control(Control::Right(column));
        self.cursor_row = row;
    }

    /// Leaves the cursor below the text.
    fn leave(&mut self, line: &Line) {
        let mut at_end = line.clone();
        at_end.end();
        self.draw(&at_end);
        self.cursor_row = 0;
        Drawing::new().control(Control::NextRow);
    }
}

/// Moves `place` (row, column) behind `c`. True if the row must be ended before it: at the right edge the terminal does
/// that itself.
fn advance(c: char, width: usize, place: &mut (usize, usize)) -> bool {
    if c == '\n' {
        *place = (place.0 + 1, 0);
        return true;
    }
    let columns = columns(c);
    let full = place.1 + columns > width;
    let breaks = full && place.1 < width;
    if full {
        *place = (place.0 + 1, 0);
    }
    place.1 += columns;
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_wrapping() {
        let mut place = (0, 0);
        let mut next = |c| (advance(c, 4, &mut place), place);
        assert_eq!("abcd".chars().map(&mut next).last(), Some((false, (0, 4))));
        assert_eq!(next('漢'), (false, (1, 2)));
        assert_eq!(next('x'), (false, (1, 3)));
        assert_eq!(next('漢'), (true, (2, 2)));
        assert_eq!(next('\n'), (true, (3, 0)));
    }
}
