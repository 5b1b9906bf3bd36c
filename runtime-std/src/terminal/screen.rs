//! Standard output: the only place that writes to it. What a terminal gets is made harmless; a pipe or a file gets the
//! bytes as they are.

use super::safe::{Filter, Style};
use crate::exit::{Failure, Outcome};
use std::io::{Stdout, Write};
use trill::tokenizer::Utf8Stream;

/// Bytes collected before they are written.
const BUFFER: usize = 4096;

/// Standard output. Nothing is allocated after it is made.
pub(crate) struct Screen {
    out: Stdout,
    terminal: bool,
    filter: Filter,
    utf8: Utf8Stream,
    buffer: Vec<u8>,
    /// The last byte of the text, to know whether the line is ended.
    last: u8,
    failed: Option<std::io::Error>,
}

impl Screen {
    /// For text, which a terminal shows with other signs in place of what could harm it.
    pub(crate) fn text() -> Self {
        Screen::new(Style::Picture)
    }

    /// For JSON, which a terminal shows with escapes in place of that.
    pub(crate) fn json() -> Self {
        Screen::new(Style::Escape)
    }

    fn new(style: Style) -> Self {
        Screen {
            out: std::io::stdout(),
            terminal: crate::host::is_terminal(1),
            filter: Filter::new(style),
            utf8: Utf8Stream::new(),
            buffer: Vec::with_capacity(BUFFER),
            last: b'\n',
            failed: None,
        }
    }

    /// Writes `text` now, but for what only the next piece can decide about.
    pub(crate) fn say(&mut self, text: &str) -> Outcome {
        self.add(text.as_bytes())?;
        self.flush()
    }

    /// Adds to what will be written: a whole text, or a piece that goes on with the one before. A terminal sees bytes
    /// that are not UTF-8 as U+FFFD.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Outcome {
        if let Some(last) = bytes.last() {
            self.last = *last;
        }
        if self.terminal {
            let Screen { filter, utf8, buffer, out, failed, .. } = self;
            utf8.push(bytes, &mut |text| {
                text.chars().for_each(|c| filter.push(c, &mut |shown| put(shown, buffer, out, failed)));
            });
        } else {
            for part in bytes.chunks(BUFFER) {
                if self.buffer.len() + part.len() > BUFFER {
                    write(&mut self.buffer, &self.out, &mut self.failed);
                }
                self.buffer.extend_from_slice(part);
            }
        }
        self.outcome()
    }

    /// Ends the line unless it is ended.
    pub(crate) fn end_line(&mut self) -> Outcome {
        if self.last != b'\n' {
            self.add(b"\n")?;
        }
        self.finish()
    }

    /// The end of a text: writes everything.
    pub(crate) fn finish(&mut self) -> Outcome {
        let Screen { filter, utf8, buffer, out, failed, .. } = self;
        let mut show = |shown| put(shown, buffer, out, failed);
        utf8.finish(&mut |text| text.chars().for_each(|c| filter.push(c, &mut show)));
        filter.finish(&mut show);
        self.flush()
    }

    /// Writes what was added.
    pub(crate) fn flush(&mut self) -> Outcome {
        write(&mut self.buffer, &self.out, &mut self.failed);
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        self.outcome()
    }

    fn outcome(&mut self) -> Outcome {
        self.failed.take().map_or(Ok(()), |e| Err(Failure::stdout(&e)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // What was said before an error ended the command is not lost.
        let _ = self.finish();
    }
}

fn put(c: char, buffer: &mut Vec<u8>, out: &Stdout, failed: &mut Option<std::io::Error>) {
    if buffer.len() + 4 > BUFFER {
        write(buffer, out, failed);
    }
    buffer.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn write(buffer: &mut Vec<u8>, out: &Stdout, failed: &mut Option<std::io::Error>) {
    if failed.is_none() && !buffer.is_empty() {
        *failed = out.lock().write_all(buffer).err();
    }
    buffer.clear();
}
