//! `trill inspect`: what is in a model file, what had to be put right, and the memory it will take.

mod json;
mod text;

use super::Command;
use crate::engine::{self, Opened, Setup};
use crate::exit::Outcome;
use crate::fence;
use crate::host::affinity::Cores;
use crate::options::Options;
use crate::plan::{Estimate, Plan};
use crate::report;
use trill::model::known::Change;
use trill::model::{Hparams, Model};
use trill::quant::QuantType;
use trill::tokenizer::Tokenizer;

pub(crate) const INSPECT: Command = Command {
    name: "inspect",
    summary: "shows what is in a model file",
    usage: "inspect MODEL [-c TOKENS] [-t THREADS] [--weights] [--json]",
    notes: "The memory shown is what a run takes beyond the mapped file; --weights adds a line for each tensor.",
    bit: 1 << 7,
    takes_model: true,
    operands: &[],
    run,
};

/// What trill makes of the file; each part may fail without the others.
struct Findings {
    hparams: Outcome<Hparams>,
    memory: Outcome<Plan>,
    tokenizer: Outcome<Tokenizer<'static>>,
}

fn run(options: &Options) -> Outcome {
    let opened = engine::open(options)?;
    let memory = memory(options, &opened);
    fence::close(options)?;
    let findings =
        Findings { hparams: opened.hparams(), memory, tokenizer: engine::carve(|carver| opened.tokenizer(carver)) };
    if options.json {
        return report::json::print(&json::report(options, &opened, &findings));
    }
    report::text::print(&text::report(options, &opened, &findings))
}

/// The plan of `trill run`.
fn memory(options: &Options, opened: &Opened) -> Outcome<Plan> {
    let setup = Setup::new(options, opened, &Cores::find(), crate::generate::LOGIT_ROWS)?;
    let voice = |model: &Model<'_>, c: &mut _| crate::generate::measure(options, opened, model.hparams.n_vocab, c);
    Estimate::new(options, opened, &voice)?.plan(setup.config)
}

/// Tensors and bytes of each weight type, in the order of [`QuantType::ALL`].
fn by_type(opened: &Opened) -> Vec<(QuantType, usize, u64)> {
    let of = |ty: QuantType| {
        let tensors = opened.gguf.tensors().iter().filter(|t| t.ty == ty);
        let (count, bytes) = tensors.fold((0, 0), |(n, b), t| (n + 1, b + t.bytes() as u64));
        (ty, count, bytes)
    };
    QuantType::ALL.iter().map(|&ty| of(ty)).filter(|&(_, count, _)| count > 0).collect()
}

fn parameters(opened: &Opened) -> u64 {
    opened.gguf.tensors().iter().map(|t| t.elements() as u64).sum()
}

fn key<'a>(opened: &'a Opened, key: &str) -> Option<&'a str> {
    opened.gguf.str(key).ok().flatten()
}

fn change_text(change: Change) -> &'static str {
    match change {
        Change::PreTokenizer(text) | Change::ChatTemplate(text) | Change::StopToken(text) => text,
    }
}

/// Tokens that end an answer.
fn ends(tokenizer: &Tokenizer<'_>) -> Vec<u32> {
    let all = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    all.filter(|&id| tokenizer.is_eog(id)).collect()
}
