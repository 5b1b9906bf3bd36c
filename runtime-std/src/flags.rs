//! The table of flags: every spelling, what it means, and the check of its value.

use crate::cli::{Flag, Set};
use crate::commands::{
    BENCH, CHAT, CONVERT, Command, DETOKENIZE, INSPECT, LOGITS, PACK, PERPLEXITY, PLAN, QUANTIZE, RUN, TOKENIZE, TUNE,
    VERIFY,
};
use crate::fence::Sandbox;
use crate::full_context::Policy;
use crate::options::Verbosity;
use crate::pack::{Head, target::Target};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use trill::gguf::I2sLayout;
use trill::kv_cache::KvType;
use trill::limits;
use trill::quant::QuantType;
use trill::tokenizer::pretokenize::Pretokenizer;

const fn on(commands: &[&Command]) -> Set {
    let (mut set, mut i) = (0, 0);
    while i < commands.len() {
        set |= commands[i].bit;
        i += 1;
    }
    set
}

const ALL: Set = Set::MAX;
const TALK: Set = on(&[&RUN, &CHAT]);
const COMPUTE: Set = TALK | on(&[&BENCH, &LOGITS, &PERPLEXITY]);
/// Commands that make or measure a session.
const SIZED: Set = COMPUTE | on(&[&INSPECT, &PLAN]);
const TEXT: Set = on(&[&TOKENIZE, &DETOKENIZE]);

/// Commands that parse a model.
const PARSE: Set = ALL & !(CONVERT.bit | VERIFY.bit);

type Checked = Result<(), String>;

/// Every flag, in the order in which the help texts list them.
#[rustfmt::skip]
pub(crate) static FLAGS: &[Flag] = &[
    Flag { names: &["-m", "--model"], value: "FILE", on: ALL, help: "the model, a GGUF file", set: |o, v| {
        o.model = Some(v.into());
        Ok(())
    } },
    Flag { names: &["-p", "--prompt"], value: "TEXT", on: TALK | TEXT, help: "the text (chat: the first message)",
        set: |o, v| text(v).map(|t| o.prompt = Some(t)) },
    Flag { names: &["-f", "--file"], value: "FILE", on: TALK | TEXT | PERPLEXITY.bit,
        help: "reads the text from a file (chat: one message a line)", set: |o, v| {
        o.file = Some(v.into());
        Ok(())
    } },
    Flag { names: &["-e", "--escape"], value: "", on: TALK, help: r"reads \n, \t, \\, \' and \x41 in -p and -sys",
        set: |o, _| switch(&mut o.escapes) },
    Flag { names: &["-sys", "--system-prompt", "--system"], value: "TEXT", on: TALK,
        help: "the system message (with the template)", set: |o, v| text(v).map(|t| o.system = Some(t)) },
    Flag { names: &["--chat", "-cnv", "--conversation"], value: "", on: TALK,
        help: "run: wraps the text in the model's template; without a command: trill chat",
        set: |o, _| switch(&mut o.chat) },
    Flag { names: &["-no-cnv", "--no-conversation"], value: "", on: TALK, help: "", set: |o, _| {
        o.chat = false;
        Ok(())
    } },
    Flag { names: &["--think"], value: "on|off", on: TALK,
        help: "think before the answer, where the template has a switch (default: as it says)",
        set: |o, v| on_off(v).map(|x| o.think = Some(x)) },
    Flag { names: &["--session"], value: "FILE", on: TALK | LOGITS.bit,
        help: "keeps the state in FILE: what it holds already is not read again", set: |o, v| {
        o.session = Some(v.into());
        Ok(())
    } },
    Flag { names: &["--no-session"], value: "", on: CHAT.bit, help: "does not keep the conversation",
        set: |o, _| switch(&mut o.no_session) },
    Flag { names: &["-n", "--n-predict", "--predict"], value: "N", on: TALK,
        help: "at most N tokens an answer (default: to its end, or the context's)",
        set: |o, v| integer(v, -2..=i64::MAX).map(|n| o.predict = usize::try_from(n).ok()) },
    Flag { names: &["--ignore-eos"], value: "", on: RUN.bit, help: "goes on past the model's end of text",
        set: |o, _| switch(&mut o.ignore_eos) },
    Flag { names: &["--context-policy"], value: "POLICY", on: TALK,
        help: "when the context is full: stop, slide (forget the oldest) or summarise (chat only) (chat: slide; run: stop)",
        set: |o, v| named(v, &Policy::NAMES).map(|p| o.context_policy = Some(p)) },
    Flag { names: &["--context-shift"], value: "", on: TALK, help: "the same as --context-policy slide", set: |o, _| {
        o.context_policy = Some(Policy::Slide);
        Ok(())
    } },
    Flag { names: &["--no-context-shift"], value: "", on: TALK, help: "", set: |o, _| {
        o.context_policy = Some(Policy::Stop);
        Ok(())
    } },
    Flag { names: &["--keep"], value: "N", on: RUN.bit,
        help: "tokens of the prompt that sliding never forgets (-1: all; default: the beginning of text)",
        set: |o, v| integer(v, -1..=limits::CONTEXT_MAX as i64).map(|n| o.keep = Some(n)) },
    Flag { names: &["--draft"], value: "on|off", on: TALK,
        help: "guess tokens from the text and verify them together; never changes the text (on)",
        set: |o, v| on_off(v).map(|x| o.draft = x) },
    Flag { names: &["--head-screen"], value: "on|off", on: TALK | BENCH.bit,
        help: "read only the likely rows of a packed model's output head; never changes the text (on)",
        set: |o, v| on_off(v).map(|x| o.head_screen = x) },
    Flag { names: &["--ffn-skip"], value: "on|off", on: TALK | BENCH.bit | PACK.bit,
        help: "leave weights unread that a squared ReLU multiplies by zero, and pack for that; changes no text (on)",
        set: |o, v| on_off(v).map(|x| o.ffn_skip = x) },
    Flag { names: &["-p", "--n-prompt"], value: "N", on: BENCH.bit, help: "tokens of the prefill test (512; 0: none)",
        set: |o, v| number(v, 0..=limits::CONTEXT_MAX).map(|n| o.bench_prompt = n) },
    Flag { names: &["-n", "--n-gen"], value: "N", on: BENCH.bit, help: "tokens of the decode test (128; 0: none)",
        set: |o, v| number(v, 0..=limits::CONTEXT_MAX).map(|n| o.bench_generate = n) },
    Flag { names: &["-d", "--n-depth"], value: "N", on: BENCH.bit, help: "tokens in the context before each test (0)",
        set: |o, v| number(v, 0..=limits::CONTEXT_MAX).map(|n| o.bench_depth = n) },
    Flag { names: &["-r", "--repetitions"], value: "R", on: BENCH.bit, help: "times each test is measured (5)",
        set: |o, v| number(v, 1..=1000).map(|n| o.repetitions = n) },
    Flag { names: &["--tokens"], value: "1,2,3", on: LOGITS.bit, help: "the token ids to compute logits for",
        set: |o, v| tokens(v).map(|t| o.tokens = t) },
    Flag { names: &["--all"], value: "", on: LOGITS.bit, help: "logits of every position, not only the last",
        set: |o, _| switch(&mut o.all) },
    Flag { names: &["--jsonl"], value: "", on: TEXT, help: "one JSON value a line in, one a line out",
        set: |o, _| switch(&mut o.jsonl) },
    Flag { names: &["--no-bos"], value: "", on: TOKENIZE.bit, help: "does not put the beginning-of-text token first",
        set: |o, _| switch(&mut o.no_bos) },
    Flag { names: &["--parse-special"], value: "", on: TEXT | RUN.bit,
        help: "special tokens are written as text, such as <|im_end|>", set: |o, _| switch(&mut o.parse_special) },
    Flag { names: &["--pre"], value: "NAME", on: CONVERT.bit,
        help: "how the tokenizer splits text, where trill cannot tell (llama-bpe, falcon3, qwen2, ...)",
        set: |o, v| pre_tokenizer(v).map(|p| o.pre = Some(p)) },
    Flag { names: &["--group-size"], value: "N", on: QUANTIZE.bit, help: "weights to a scale, where TYPE has a choice",
        set: |o, v| number(v, 1..=1024).map(|n| o.group_size = Some(n)) },
    Flag { names: &["--pure"], value: "", on: QUANTIZE.bit, help: "TYPE for every matrix, the head too",
        set: |o, _| switch(&mut o.pure) },
    Flag { names: &["--output-tensor-type"], value: "TYPE", on: QUANTIZE.bit, help: "type of the head",
        set: |o, v| weight_type(v).map(|t| o.output_type = Some(t)) },
    Flag { names: &["--token-embedding-type"], value: "TYPE", on: QUANTIZE.bit, help: "type of the embedding",
        set: |o, v| weight_type(v).map(|t| o.embedding_type = Some(t)) },
    Flag { names: &["--force"], value: "", on: QUANTIZE.bit | PACK.bit | CONVERT.bit,
        help: "overwrites OUT; quantize: writes a ternary or binary type also where that spoils the weights",
        set: |o, _| switch(&mut o.force) },
    Flag { names: &["--for"], value: "MACHINE", on: PACK.bit,
        help: "pi5, phone, x86 or generic (default: this machine, measured)",
        set: |o, v| named(v, &Target::NAMES).map(|t| o.pack_for = Some(t)) },
    Flag { names: &["--head"], value: "TYPE", on: PACK.bit,
        help: "the output head: keep, q8, q6_k or q4 (q8 where that is smaller)",
        set: |o, v| named(v, &Head::ALL.map(|h| (h.name(), h))).map(|h| o.pack_head = Some(h)) },
    Flag { names: &["--no-sketch"], value: "", on: PACK.bit, help: "adds no sketch of the head",
        set: |o, _| switch(&mut o.no_sketch) },
    Flag { names: &["--weights"], value: "", on: INSPECT.bit, help: "lists every tensor",
        set: |o, _| switch(&mut o.weights) },
    Flag { names: &["-c", "--ctx-size"], value: "N", on: SIZED,
        help: "tokens of context (perplexity: of a chunk; default: the model's, at most 4096)",
        set: |o, v| number(v, 0..=limits::CONTEXT_MAX).map(|n| o.context = (n > 0).then_some(n)) },
    Flag { names: &["-t", "--threads", "--num-threads"], value: "T",
        on: SIZED | on(&[&CONVERT, &QUANTIZE, &PACK, &TUNE]),
        help: "threads (default: what trill tune found best, else the physical big cores)",
        set: |o, v| number(v, 1..=limits::THREADS_MAX).map(|n| o.threads = Some(n)) },
    Flag { names: &["-b", "--batch-size"], value: "N", on: SIZED,
        help: "tokens read together (at most 512)", set: |o, v| number(v, 1..=1 << 20).map(|n| o.batch = Some(n)) },
    Flag { names: &["-s", "--seed"], value: "N", on: TALK, help: "seed of the sampler (default: a fresh one)",
        set: |o, v| integer(v, -1..=i64::MAX).map(|n| o.seed = u64::try_from(n).ok()) },
    Flag { names: &["--temp", "-temp", "--temperature"], value: "X", on: TALK,
        help: "0 takes the likeliest token; higher is more varied (0.8)",
        set: |o, v| real(v, 0.0..=100.0).map(|x| o.sampling.temperature = x) },
    Flag { names: &["--top-k", "-top-k"], value: "N", on: TALK, help: "keeps the N likeliest tokens (40; 0: all)",
        set: |o, v| number(v, 0..=limits::VOCAB_MAX).map(|n| o.sampling.top_k = n) },
    Flag { names: &["--top-p", "-top-p"], value: "X", on: TALK, help: "keeps tokens up to this total probability (0.95)",
        set: |o, v| real(v, 0.0..=1.0).map(|x| o.sampling.top_p = x) },
    Flag { names: &["--min-p", "-min-p"], value: "X", on: TALK, help: "drops tokens under X times the likeliest (0.05)",
        set: |o, v| real(v, 0.0..=1.0).map(|x| o.sampling.min_p = x) },
    Flag { names: &["--repeat-penalty"], value: "X", on: TALK, help: "divides the logits of recent tokens (1: off)",
        set: |o, v| real(v, 0.01..=100.0).map(|x| o.sampling.repeat_penalty = x) },
    Flag { names: &["--repeat-last-n"], value: "N", on: TALK, help: "how many tokens count as recent (64)",
        set: |o, v| number(v, 0..=limits::CONTEXT_MAX).map(|n| o.sampling.repeat_last_n = n) },
    Flag { names: &["--frequency-penalty"], value: "X", on: TALK, help: "for each time a recent token occurred (0)",
        set: |o, v| real(v, -100.0..=100.0).map(|x| o.sampling.frequency_penalty = x) },
    Flag { names: &["--presence-penalty"], value: "X", on: TALK, help: "if a recent token occurred at all (0)",
        set: |o, v| real(v, -100.0..=100.0).map(|x| o.sampling.presence_penalty = x) },
    Flag { names: &["--cache-type"], value: "TYPE", on: SIZED,
        help: "the cache: f16, q8, q4, q3 or q2 (keys q3, values q2)",
        set: |o, v| cache_type(v).map(|t| (o.cache_k, o.cache_v) = t.of_both()) },
    Flag { names: &["-ctk", "--cache-type-k"], value: "TYPE", on: SIZED, help: "of the keys only",
        set: |o, v| cache_type(v).map(|t| o.cache_k = t) },
    Flag { names: &["-ctv", "--cache-type-v"], value: "TYPE", on: SIZED, help: "of the values only",
        set: |o, v| cache_type(v).map(|t| o.cache_v = t) },
    Flag { names: &["--stochastic-signs"], value: "SEED", on: COMPUTE,
        help: "true-binary weights see random signs, + with probability sigmoid(x)",
        set: |o, v| integer(v, 0..=i64::MAX).map(|n| o.stochastic_signs = u64::try_from(n).ok()) },
    Flag { names: &["--mlock"], value: "", on: COMPUTE | PLAN.bit, help: "keeps the model in memory, never swapped out",
        set: |o, _| switch(&mut o.mlock) },
    Flag { names: &["--no-mmap"], value: "", on: ALL & !VERIFY.bit, help: "copies the file into memory instead of mapping it",
        set: |o, _| {
        o.mmap = false;
        Ok(())
    } },
    Flag { names: &["--sha256"], value: "HEX", on: ALL & !CONVERT.bit, help: "refuses a model with another SHA-256",
        set: |o, v| crate::authentic::parse_sha256(v).map(|hash| o.sha256 = Some(hash)) },
    Flag { names: &["--require-signature"], value: "KEY", on: PARSE,
        help: "refuses a model that is not signed by this minisign key (a file, or its text)",
        set: |o, v| given(v, &mut o.key) },
    Flag { names: &["--key"], value: "KEY", on: VERIFY.bit, help: "the minisign key: a file, or its text",
        set: |o, v| given(v, &mut o.key) },
    Flag { names: &["--signature"], value: "FILE", on: ALL & !CONVERT.bit,
        help: "the minisign signature (default: beside the model, MODEL.minisig)",
        set: |o, v| given(v, &mut o.signature) },
    Flag { names: &["--sandbox"], value: "on|off|require", on: ALL,
        help: "once the model is loaded, no other files, no programs, no network; require: or do not run (on)",
        set: |o, v| named(v, &Sandbox::NAMES).map(|s| o.sandbox = s) },
    Flag { names: &["--i2s-layout"], value: "LAYOUT", on: PARSE,
        help: "arm64: an I2_S file that bitnet.cpp made on ARM (default x86)", set: |o, v| {
        o.i2s = i2s_layout(v)?;
        Ok(())
    } },
    Flag { names: &["-ngl", "--n-gpu-layers", "--gpu-layers"], value: "N", on: COMPUTE, help: "only 0 exists",
        set: |o, v| integer(v, i64::MIN..=i64::MAX).map(|n| o.gpu_layers = n) },
    Flag { names: &["--json"], value: "", on: ALL & !CHAT.bit, help: "the answer as JSON, and errors too",
        set: |o, _| switch(&mut o.json) },
    Flag { names: &["-q", "--quiet"], value: "", on: ALL, help: "errors only on standard error", set: |o, _| {
        o.verbosity = Verbosity::Quiet;
        Ok(())
    } },
    Flag { names: &["-v", "--verbose"], value: "", on: ALL, help: "timings and choices on standard error", set: |o, _| {
        o.verbosity = Verbosity::Verbose;
        Ok(())
    } },
];

fn i2s_layout(value: &OsStr) -> Result<I2sLayout, String> {
    match value.to_str() {
        Some("x86") => Ok(I2sLayout::X86),
        Some("arm64") => Ok(I2sLayout::Arm64),
        _ => Err("expected x86 or arm64".into()),
    }
}

fn pre_tokenizer(value: &OsStr) -> Result<String, String> {
    let name = text(value)?;
    match Pretokenizer::named(&name) {
        Some(_) => Ok(name),
        None => Err("no pre-tokenizer of that name is known".into()),
    }
}

fn weight_type(value: &OsStr) -> Result<QuantType, String> {
    crate::type_choice::by_name(&text(value)?)
}

/// The choice with this name.
fn named<T: Copy>(value: &OsStr, choices: &[(&'static str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|c| value == c.0).map(|c| c.1);
    found.ok_or_else(|| format!("expected {}", choices.iter().map(|c| c.0).collect::<Vec<_>>().join(", ")))
}

fn switch(flag: &mut bool) -> Checked {
    *flag = true;
    Ok(())
}

/// A value that is not empty.
fn given<T: From<OsString>>(v: &OsStr, into: &mut Option<T>) -> Checked {
    if v.is_empty() {
        return Err("expected a value".to_owned());
    }
    *into = Some(v.to_owned().into());
    Ok(())
}

fn on_off(v: &OsStr) -> Result<bool, String> {
    match v.to_str() {
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

fn text(v: &OsStr) -> Result<String, String> {
    v.to_str().map(str::to_owned).ok_or_else(|| "is not UTF-8".to_owned())
}

fn parsed<T: FromStr>(v: &OsStr, keep: impl Fn(&T) -> bool, expected: impl Fn() -> String) -> Result<T, String> {
    v.to_str().and_then(|s| s.parse::<T>().ok()).filter(|n| keep(n)).ok_or_else(expected)
}

fn between<T: Display>(range: &RangeInclusive<T>, what: &str) -> String {
    format!("expected {what} from {} to {}", range.start(), range.end())
}

fn number(v: &OsStr, range: RangeInclusive<usize>) -> Result<usize, String> {
    parsed(v, |n| range.contains(n), || between(&range, "a whole number"))
}

fn integer(v: &OsStr, range: RangeInclusive<i64>) -> Result<i64, String> {
    parsed(v, |n| range.contains(n), || between(&range, "a whole number"))
}

fn real(v: &OsStr, range: RangeInclusive<f32>) -> Result<f32, String> {
    parsed(v, |n| range.contains(n), || between(&range, "a number"))
}

fn tokens(v: &OsStr) -> Result<Vec<u32>, String> {
    let expected = || "expected token ids separated by commas".to_owned();
    v.to_str().ok_or_else(expected)?.split(',').map(|n| n.trim().parse().map_err(|_| expected())).collect()
}

fn cache_type(v: &OsStr) -> Result<KvType, String> {
    match v.to_str() {
        Some("f16") => Ok(KvType::F16),
        Some("q8" | "q8_0") => Ok(KvType::Q8),
        Some("q4" | "q4_0") => Ok(KvType::Q4),
        Some("q3") => Ok(KvType::Q3),
        Some("q2" | "q2k") => Ok(KvType::Q2),
        _ => Err("expected f16, q8, q4, q3 or q2".to_owned()),
    }
}
