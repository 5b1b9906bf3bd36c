//! `trill inspect`: what is in a model file, what had to be put right, and the memory it will take.

mod json;
mod text;

use super::Command;
use crate::engine::{self, Opened, Setup};
use crate::exit::Outcome;
use crate::host::affinity::Cores;
use crate::options::Options;
use crate::report;
use trill::mem::Carver;
use trill::model::known::Change;
use trill::model::{Hparams, Model};
use trill::quant::QuantType;
use trill::session::{Session, SessionPlan};
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

/// Bytes for the program itself: its code and stacks, the allocator, templates and texts.
const PROGRAM_BYTES: usize = 2 << 20;

/// Bytes of working memory of `trill run`, by part.
struct Memory {
    context: usize,
    index: usize,
    tokenizer: usize,
    model: usize,
    sampler: usize,
    session: SessionPlan,
}

impl Memory {
    fn arena(&self) -> usize {
        self.index + self.tokenizer + self.model + self.sampler + self.session.total()
    }

    fn peak(&self, opened: &Opened) -> usize {
        let copy = if opened.file.mapped { 0 } else { opened.file.bytes.len() };
        self.arena() + PROGRAM_BYTES + copy
    }
}

/// What trill makes of the file; each part may fail without the others.
struct Findings {
    hparams: Outcome<Hparams>,
    memory: Outcome<Memory>,
    tokenizer: Outcome<Tokenizer<'static>>,
}

fn run(options: &Options) -> Outcome {
    let opened = engine::open(options)?;
    let findings = Findings {
        hparams: opened.hparams(),
        memory: memory(options, &opened),
        tokenizer: engine::carve(false, |carver| opened.tokenizer(carver)),
    };
    if options.json {
        return report::json::print(&json::report(options, &opened, &findings));
    }
    report::text::print(&text::report(options, &opened, &findings))
}

fn memory(options: &Options, opened: &Opened) -> Outcome<Memory> {
    let setup = Setup::new(options, opened, &Cores::find(), 1)?;
    let measured = |layout: &dyn Fn(&mut Carver<'static>) -> Outcome| -> Outcome<usize> {
        let mut carver = Carver::measure();
        layout(&mut carver)?;
        Ok(carver.used())
    };
    let mut carver = Carver::measure();
    let model = Model::load(&opened.gguf, &mut carver)?;
    let tokenizer = measured(&|c| opened.tokenizer(c).map(|_| ()))?;
    let voice = measured(&|c| crate::generate::measure(options, opened, model.hparams.n_vocab, c))?;
    Ok(Memory {
        context: setup.config.context,
        index: opened.index_bytes,
        tokenizer,
        model: carver.used(),
        sampler: voice - tokenizer,
        session: Session::plan(&model, setup.config)?,
    })
}

/// Tensors and bytes of each weight type, in the order of [`QuantType::ALL`].
fn by_type(opened: &Opened) -> Vec<(QuantType, usize, u64)> {
    let of = |ty: QuantType| {
        let tensors = opened.gguf.tensors().iter().filter(|t| t.ty == ty);
        let (count, bytes) = tensors.fold((0, 0), |(n, b), t| (n + 1, b + t.data.len() as u64));
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
