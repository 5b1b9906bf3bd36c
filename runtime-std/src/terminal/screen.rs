//! Standard output, written piece by piece as a model speaks.

use super::safe::shown;
use crate::exit::{Failure, Outcome};
use std::io::{Stdout, Write};

/// Bytes collected before they are written.
const BUFFER: usize = 4096;

/// Standard output. What a terminal gets is made harmless; a pipe gets the text as it is. Nothing is
/// allocated after the first write.
pub(crate) struct Screen {
    out: Stdout,
    terminal: bool,
    buffer: String,
    /// The last character written, to know whether the line is ended.
    last: char,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Screen {
            out: std::io::stdout(),
            terminal: crate::host::is_terminal(1),
            buffer: String::with_capacity(BUFFER),
            last: '\n',
        }
    }

    /// Writes `text` now.
    pub(crate) fn say(&mut self, text: &str) -> Outcome {
        for c in text.chars() {
            if self.buffer.len() + 4 > BUFFER {
                self.write()?;
            }
            self.buffer.push(if self.terminal { shown(c) } else { c });
            self.last = c;
        }
        self.write()
    }

    /// Ends the line unless it is ended.
    pub(crate) fn end_line(&mut self) -> Outcome {
        if self.last == '\n' { Ok(()) } else { self.say("\n") }
    }

    fn write(&mut self) -> Outcome {
        let mut out = self.out.lock();
        let written = out.write_all(self.buffer.as_bytes()).and_then(|()| out.flush());
        self.buffer.clear();
        written.map_err(|e| Failure::stdout(&e))
    }
}
