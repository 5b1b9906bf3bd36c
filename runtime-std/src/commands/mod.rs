//! The commands: one file each, and one line in [`ALL`].

mod bench;
mod chat;
mod convert;
mod detokenize;
mod doctor;
mod inspect;
mod logits;
mod pack;
mod perplexity;
pub(crate) mod plan;
mod quantize;
mod run;
mod tokenize;
mod tune;
mod verify;

use crate::cli::Set;
use crate::exit::Outcome;
use crate::host;
use crate::options::Options;
use std::ffi::OsStr;

pub(crate) use {
    bench::BENCH, chat::CHAT, convert::CONVERT, detokenize::DETOKENIZE, doctor::DOCTOR, inspect::INSPECT,
    logits::LOGITS, pack::PACK, perplexity::PERPLEXITY, plan::PLAN, quantize::QUANTIZE, run::RUN, tokenize::TOKENIZE,
    tune::TUNE, verify::VERIFY,
};

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line for the list of commands.
    pub(crate) summary: &'static str,
    /// How it is called, without the program's name.
    pub(crate) usage: &'static str,
    /// What else its help text says.
    pub(crate) notes: &'static str,
    /// Its place in sets of commands.
    pub(crate) bit: Set,
    /// Whether a word without a flag is the model.
    pub(crate) takes_model: bool,
    /// What further words without a flag are; they go to [`Options::operands`].
    pub(crate) operands: &'static [&'static str],
    pub(crate) run: fn(&Options) -> Outcome,
}

/// Every command, in the order of the help text.
pub(crate) static ALL: &[&Command] = &[
    &CHAT,
    &RUN,
    &BENCH,
    &PERPLEXITY,
    &LOGITS,
    &TOKENIZE,
    &DETOKENIZE,
    &INSPECT,
    &PLAN,
    &QUANTIZE,
    &CONVERT,
    &PACK,
    &DOCTOR,
    &TUNE,
    &VERIFY,
];

pub(crate) fn find(name: &OsStr) -> Option<&'static Command> {
    ALL.iter().copied().find(|c| name == c.name)
}

/// What `trill` without a command means: a conversation if one was asked for, or if nothing says what to
/// continue and somebody sits at the terminal.
pub(crate) fn default_for(options: &Options) -> &'static Command {
    let text = options.prompt.is_some() || options.file.is_some();
    if options.chat || (!text && host::is_terminal(0)) { &CHAT } else { &RUN }
}
