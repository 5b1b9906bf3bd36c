//! `trill inspect`: what is in a model file, what had to be put right, and the memory it will take.

use super::Command;
use crate::engine::{self, Opened, Setup};
use crate::exit::Outcome;
use crate::host::affinity::Cores;
use crate::host::memory::size;
use crate::options::Options;
use crate::report::{json, text};
use serde_json::{Value, json};
use trill::gguf::keys;
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
    run,
};

/// Bytes for the program itself: its code and stacks, the allocator, templates and texts.
const PROGRAM_BYTES: usize = 8 << 20;

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
        return json::print(&as_json(options, &opened, &findings));
    }
    let mut rows = as_rows(&opened, &findings);
    if options.weights {
        rows.push(vec![String::new()]);
    }
    text::print(&text::table(&rows, &[]))?;
    if options.weights { text::print(&text::table(&weights_rows(&opened), &[2, 3, 4])) } else { Ok(()) }
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
        _ => "",
    }
}

fn token_text(tokenizer: &Tokenizer<'_>, id: Option<u32>) -> String {
    id.map_or("none".into(), |id| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        format!("{id} {}", String::from_utf8_lossy(bytes))
    })
}

/// Tokens that end an answer.
fn ends(tokenizer: &Tokenizer<'_>) -> Vec<u32> {
    let all = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    all.filter(|&id| tokenizer.is_eog(id)).collect()
}

fn as_rows(opened: &Opened, findings: &Findings) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| {
        let mut safe = String::new();
        crate::terminal::neutralise(&value, &mut safe);
        rows.push(vec![name.to_owned(), safe]);
    };
    let bytes = opened.file.bytes.len() as u64;
    row("file", format!("{}, {}, GGUF version {}", opened.path.display(), size(bytes), opened.gguf.version()));
    row("name", key(opened, keys::NAME).unwrap_or("none").to_owned());
    match &findings.hparams {
        Ok(h) => {
            let heads = format!("{} heads of {} ({} for keys and values)", h.n_head, h.head_dim, h.n_head_kv);
            let widths = format!("width {}, feed-forward {}", h.n_embd, h.n_ff);
            row("architecture", format!("{}: {} layers, {widths}, {heads}", h.arch_name, h.n_layer));
            row("context", format!("{} tokens", h.context_train));
        }
        Err(failure) => row("architecture", failure.message.clone()),
    }
    let n = parameters(opened);
    let weight_bytes: u64 = opened.gguf.tensors().iter().map(|t| t.data.len() as u64).sum();
    row("parameters", format!("{:.1} million, {:.2} bits each", n as f64 / 1e6, bits(weight_bytes, n)));
    for (i, (ty, count, bytes)) in by_type(opened).into_iter().enumerate() {
        let name = ty.info().name;
        row(if i == 0 { "weights" } else { "" }, format!("{name} in {count} tensors, {}", size(bytes)));
    }
    match &findings.tokenizer {
        Ok(t) => {
            let model = key(opened, keys::tokenizer::MODEL).unwrap_or("");
            let kind = t.pre_name().map_or(model.to_owned(), |pre| format!("{model}, {pre}"));
            row("tokenizer", format!("{kind}: {} tokens", t.vocab_size()));
            let added = if t.add_bos() { "put before every text" } else { "not put before a text" };
            row("first token", format!("{} ({added})", token_text(t, t.bos())));
            let texts: Vec<String> = ends(t).into_iter().map(|id| token_text(t, Some(id))).collect();
            row("end tokens", texts.join(", "));
        }
        Err(failure) => row("tokenizer", failure.message.clone()),
    }
    let template = opened.template().ok().flatten();
    row("template", template.map_or("none".into(), |t| format!("{} bytes", t.len())));
    match &findings.memory {
        Ok(m) => {
            let parts = format!("{} for the cache, {} else", size(m.session.kv as u64), size((m.arena() - m.session.kv) as u64));
            let peak = size(m.peak(opened) as u64);
            row("memory", format!("at most {peak} beyond the file at {} tokens of context: {parts}", m.context));
        }
        Err(failure) => row("memory", failure.message.clone()),
    }
    if opened.repairs.is_empty() {
        row("repairs", "none".into());
    }
    for r in &opened.repairs {
        row("repair", format!("{}: {} ({})", r.what, change_text(r.change), r.why));
    }
    rows
}

fn bits(bytes: u64, parameters: u64) -> f64 {
    if parameters == 0 { 0.0 } else { bytes as f64 * 8.0 / parameters as f64 }
}

fn weights_rows(opened: &Opened) -> Vec<Vec<String>> {
    let row = |t: &trill::gguf::TensorInfo<'_>| {
        let mut name = String::new();
        crate::terminal::neutralise(t.name, &mut name);
        let dims: Vec<String> = t.dims.iter().take(t.n_dims as usize).map(u64::to_string).collect();
        vec![name, t.ty.info().name.to_owned(), dims.join(" x "), t.data.len().to_string(), t.offset.to_string()]
    };
    let head = ["tensor", "type", "shape", "bytes", "offset"].map(String::from).to_vec();
    std::iter::once(head).chain(opened.gguf.tensors().iter().map(row)).collect()
}
