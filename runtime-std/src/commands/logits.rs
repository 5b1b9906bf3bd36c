//! `trill logits`: what the model computes, unvarnished.

use super::Command;
use super::run::{open_session, restore};
use crate::engine;
use crate::exit::{Failure, Outcome};
use crate::options::Options;
use crate::report::text;
use std::fmt::Write;

pub(crate) const LOGITS: Command = Command {
    name: "logits",
    summary: "prints the raw logits after given tokens",
    usage: "logits -m MODEL --tokens 1,2,3 [--all] [--json]",
    notes: "One line for each position, n_vocab numbers on it; only the last position without --all.",
    bit: 1 << 4,
    takes_model: true,
    operands: &[],
    run,
};

/// Positions whose logits are computed together.
const ROWS: usize = 8;

fn run(options: &Options) -> Outcome {
    let mut opened = engine::open(options)?;
    let tokens = &options.tokens;
    let options = &Options { context: Some(options.context.unwrap_or(tokens.len())), ..options.clone() };
    let rows = if options.all { ROWS.min(tokens.len()) } else { 1 };
    let (mut machine, ()) = engine::load(options, &mut opened, rows, |_, _, _| Ok(()))?;
    let n_vocab = machine.model.hparams.n_vocab;
    let mut writer = Writer { json: options.json, first: true, line: String::new() };
    if options.json {
        text::print(&format!("{{\"n_vocab\":{n_vocab},\"logits\":["))?;
    }
    if options.all {
        let mut said = Ok(());
        let read = machine.session.logits_all(&machine.pool, tokens, &mut |_, logits| {
            if said.is_ok() {
                said = writer.row(logits);
            }
            // The error that stops the reading is not the one that is reported.
            if said.is_ok() { Ok(()) } else { Err(trill::Error::Interrupted) }
        });
        said?;
        read?;
    } else {
        if let Some(saved) = open_session(options, &opened, &mut machine) {
            restore(&saved, tokens, &mut machine)?;
        }
        let logits = machine.read(tokens)?;
        writer.row(logits)?;
        machine.save(&[], None, true);
    }
    if options.json { text::print("]}\n") } else { Ok(()) }
}

struct Writer {
    json: bool,
    first: bool,
    line: String,
}

impl Writer {
    /// Writes the logits of one position, so that f32 values can be read back exactly.
    fn row(&mut self, logits: &[f32]) -> Outcome {
        if let Some(odd) = logits.iter().find(|l| !l.is_finite()) {
            let failure = Failure::from(trill::Error::NotFinite);
            return Err(Failure::new(failure.code, format!("{} ({odd})", failure.message)));
        }
        self.line.clear();
        let (open, between, close) = if self.json { ("[", ",", "]") } else { ("", " ", "\n") };
        self.line.push_str(if self.json && !self.first { "," } else { "" });
        self.line.push_str(open);
        for (i, logit) in logits.iter().enumerate() {
            self.line.push_str(if i > 0 { between } else { "" });
            let _ = write!(self.line, "{logit:?}");
        }
        self.line.push_str(close);
        self.first = false;
        text::print(&self.line)
    }
}
