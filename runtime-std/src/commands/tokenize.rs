//! `trill tokenize`: text to ids.

use super::Command;
use crate::engine::{self, Opened};
use crate::exit::{Code, Failure, Outcome};
use crate::fence;
use crate::generate::encode;
use crate::input;
use crate::options::Options;
use crate::terminal::Screen;
use std::fmt::Write as _;
use std::io::BufRead;
use trill::tokenizer::{EncodeOptions, Tokenizer};

pub(crate) const TOKENIZE: Command = Command {
    name: "tokenize",
    summary: "turns text into token ids",
    usage: "tokenize -m MODEL [-p TEXT | -f FILE] [--no-bos] [--parse-special] [--json | --jsonl] < TEXT",
    notes: "Reads standard input unless -p or -f is given, every byte of it, the last line's end included.\n\
            --jsonl: each input line is a JSON string, each output line a JSON array of ids.",
    bit: 1 << 5,
    takes_model: false,
    operands: &[],
    run,
};

fn run(options: &Options) -> Outcome {
    let mut source = input::source(options)?;
    let opened = engine::open(options)?;
    fence::close(options)?;
    let tokenizer = load(&opened)?;
    let add_bos = !options.no_bos && tokenizer.add_bos();
    let how = EncodeOptions { add_bos, parse_special: options.parse_special };
    let mut ids = Vec::new();
    if !options.jsonl {
        encode(&tokenizer, &input::rest(&mut *source)?, how, &mut ids)?;
        let line = if options.json { json_line(&ids) } else { join(&ids, " ") + "\n" };
        return crate::report::text::print(&line);
    }
    json_lines(
        source,
        |line| serde_json::from_slice(line),
        |text: String, out| {
            ids.clear();
            encode(&tokenizer, text.as_bytes(), how, &mut ids)?;
            out.push_str(&json_line(&ids));
            Ok(())
        },
    )
}

/// The vocabulary alone: the rest of the file need not be a model that trill can run.
pub(super) fn load(opened: &Opened) -> Outcome<Tokenizer<'static>> {
    engine::carve(|carver| opened.tokenizer(carver))
}

/// Reads a JSON value from each line of `source` and writes what `answer` makes of it.
pub(super) fn json_lines<T>(
    source: Box<dyn BufRead>,
    read: fn(&[u8]) -> serde_json::Result<T>,
    mut answer: impl FnMut(T, &mut String) -> Outcome,
) -> Outcome {
    let mut out = Screen::json();
    let mut line_out = String::new();
    for (i, line) in source.split(b'\n').enumerate() {
        let line = line.map_err(|e| Failure::new(Code::Io, format!("standard input: {e}")))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let value = read(&line).map_err(|e| Failure::new(Code::Data, format!("line {} of the input: {e}", i + 1)))?;
        line_out.clear();
        answer(value, &mut line_out)?;
        out.add(line_out.as_bytes())?;
    }
    out.finish()
}

fn join(ids: &[u32], between: &str) -> String {
    let mut text = String::new();
    for (i, id) in ids.iter().enumerate() {
        let _ = write!(text, "{}{id}", if i > 0 { between } else { "" });
    }
    text
}

fn json_line(ids: &[u32]) -> String {
    format!("[{}]\n", join(ids, ","))
}
