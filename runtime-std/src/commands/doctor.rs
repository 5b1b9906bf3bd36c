//! `trill doctor`: what this machine is, and whether a model does what it should.

use super::Command;
use crate::conversation::Conversation;
use crate::engine::{self, Machine, Opened};
use crate::exit::{Code, Failure, Outcome};
use crate::fence::Sandbox;
use crate::generate::{self, Voice, encode};
use crate::host::affinity::Cores;
use crate::host::attempts::{self, Answer, Attempt};
use crate::host::{cpu, fence, memory, thermal};
use crate::options::Options;
use crate::report::{json, text};
use crate::template::Role;
use crate::tune;
use serde_json::{Value, json};
use trill::gguf::I2sLayout;
use trill::kernels::Kernels;
use trill::model::known;
use trill::parallel::Executor;
use trill::quant::QuantType;
use trill::tokenizer::{DecodeOptions, EncodeOptions};

pub(crate) const DOCTOR: Command = Command {
    name: "doctor",
    summary: "looks at the machine, and with -m checks a model",
    usage: "doctor [-m MODEL] [--json]",
    notes: "fence: what is refused once a model is loaded, found by trying it behind the fence (--sandbox off: without).\n\
            With -m the last line says \"verified\", or what is off; the exit code is then 65 (66 if there is no such file, 75\n\
            if memory has no room for it).",
    bit: 1 << 14,
    takes_model: true,
    operands: &[],
    run,
};

/// Plain English that every model predicts far better than chance.
const TEXT: &str = "Once upon a time there was a little girl who lived in a small house near the forest. One day she said to \
                    her mother that she wanted to go and see the world.";
/// Nats a token by which another layout must be better before it is recommended.
const DECISIVE: f64 = 1.0;

fn run(options: &Options) -> Outcome {
    // Before any thread is started: the attempts are made in copies of this process.
    let attempts = attempts::all(options.sandbox != Sandbox::Off);
    let mut machine = look_at_machine()?;
    machine.push(("fence", fence_line(options, &attempts)));
    require_fence(options, &attempts)?;
    let checks = if options.model.is_some() { Some(check_model(options)) } else { None };
    if options.json {
        let mut report = json!({ "machine": machine.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect::<serde_json::Map<_, _>>() });
        report["fence"] = attempts.iter().map(attempt_json).collect();
        if let Some(checks) = &checks {
            report["verdict"] = json!(if checks.iter().all(|c| c.ok) { "verified" } else { "off" });
            report["checks"] = checks.iter().map(Check::json).collect();
        }
        json::print(&report)?;
    } else {
        let mut rows: Vec<[String; 2]> = machine.iter().map(|(k, v)| [(*k).to_owned(), v.clone()]).collect();
        for c in checks.iter().flatten() {
            rows.push([c.name.to_owned(), format!("{}: {}", if c.ok { "ok" } else { "OFF" }, c.detail)]);
        }
        let width = rows.iter().map(|[k, _]| k.len()).max().unwrap_or(0);
        for [key, value] in rows {
            text::print(&format!("{key:width$}  {value}\n"))?;
        }
    }
    match checks.iter().flatten().find(|c| !c.ok) {
        Some(off) => Err(Failure::new(off.code, format!("{} is off: {}", off.name, off.detail))),
        None if checks.is_some() && !options.json => text::print("verified\n"),
        None => Ok(()),
    }
}

/// Facts of the machine, in the order in which they are shown.
fn look_at_machine() -> Outcome<Vec<(&'static str, String)>> {
    let (features, cores, kernels) = (cpu::features(), Cores::find(), cpu::kernels()?);
    let mut facts = vec![
        ("cpu", format!("{}, {}", std::env::consts::ARCH, cpu::describe(&features))),
        ("kernels", kernels.name().to_owned()),
        ("cores", format!("{} big, {} allowed", cores.big.len(), cores.allowed)),
        ("threads", threads(&kernels, &cores)?),
        ("page size", format!("{} bytes", memory::page_size())),
        ("memory", format!("{} available", memory::size(memory::available()))),
    ];
    let zones = thermal::zones();
    facts.push(("temperature", if zones.is_empty() { "not reported".to_owned() } else { zones.join(", ") }));
    Ok(facts)
}

/// What the fence around a loaded model refuses here, found by trying.
fn fence_line(options: &Options, attempts: &[Attempt]) -> String {
    let names = |wanted: fn(&Answer) -> bool| {
        attempts.iter().filter(|a| wanted(&a.answer)).map(|a| a.name).collect::<Vec<_>>().join(", ")
    };
    let mut line = fence::describe();
    if options.sandbox == Sandbox::Off {
        line.push_str(", not used (--sandbox off)");
    }
    let refused = names(|a| matches!(a, Answer::Refused(_)));
    let possible = names(|a| *a == Answer::Possible);
    let untried = names(|a| matches!(a, Answer::Untried(_)));
    for (what, names) in [("refused", refused), ("possible", possible), ("not tried", untried)] {
        if !names.is_empty() {
            line.push_str(&format!("; {what}: {names}"));
        }
    }
    line
}

/// With `--sandbox require` every attempt must be refused.
fn require_fence(options: &Options, attempts: &[Attempt]) -> Outcome {
    let gap = attempts.iter().find(|a| options.sandbox == Sandbox::Require && a.answer == Answer::Possible);
    match gap {
        Some(gap) => Err(Failure::new(Code::Unavailable, format!("--sandbox require: {} is possible here", gap.name))
            .remedy("--sandbox on goes on with what there is")),
        None => Ok(()),
    }
}

fn attempt_json(attempt: &Attempt) -> Value {
    let (answer, why) = match &attempt.answer {
        Answer::Refused(why) => ("refused", Some(why)),
        Answer::Possible => ("possible", None),
        Answer::Untried(why) => ("not tried", Some(why)),
    };
    json!({ "attempt": attempt.name, "answer": answer, "why": why })
}

/// How many threads are the default: as `trill tune` found, which is done here if nobody did.
fn threads(kernels: &Kernels, cores: &Cores) -> Outcome<String> {
    if let Some(threads) = tune::remembered(cores) {
        return Ok(format!("{threads} by default, found best by trill tune"));
    }
    let speeds = tune::measure_streams(kernels, &tune::counts(cores.threads()), cores)?;
    let verdict = tune::settle(&speeds, cores);
    let kept = if verdict.remembered { "" } else { ", not remembered" };
    let each: Vec<String> = speeds.iter().map(|s| format!("{}: {:.1} GB/s", s.threads, s.per_second)).collect();
    Ok(format!("{} by default, measured now ({}){kept}", verdict.threads, each.join(", ")))
}

/// One thing looked at.
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    /// How the program ends if this is off.
    code: Code,
}

impl Check {
    fn new(name: &'static str, result: Outcome<String>) -> Check {
        match result {
            Ok(detail) => Check { name, ok: true, detail, code: Code::Done },
            // That there is no such file, or no memory for it, says nothing of the model.
            Err(Failure { code: code @ (Code::NoInput | Code::Memory), message }) => {
                Check { name, ok: false, detail: message, code }
            }
            Err(f) => Check { name, ok: false, detail: f.message, code: Code::Data },
        }
    }

    fn json(&self) -> Value {
        json!({ "check": self.name, "ok": self.ok, "detail": self.detail })
    }
}

/// The checks, until one fails that the later ones build on.
fn check_model(options: &Options) -> Vec<Check> {
    let options = &Options { context: Some(TEXT.len()), draft: false, ..options.clone() };
    let mut checks = Vec::new();
    let mut opened = match engine::open(options) {
        Ok(opened) => opened,
        Err(failure) => return vec![Check::new("file", Err(failure))],
    };
    let tensors = opened.gguf.tensors().len();
    checks.push(Check::new("file", Ok(format!("{tensors} tensors, {} repairs", opened.repairs.len()))));
    let (mut machine, voice) = match generate::load(options, &mut opened) {
        Ok(loaded) => loaded,
        Err(failure) => {
            checks.push(Check::new("model", Err(failure)));
            return checks;
        }
    };
    checks.push(Check::new("model", Ok(format!("{}, every tensor has its shape", machine.model.hparams.arch_name))));
    let weights = machine.model.check_weights(trill::limits::VOCAB_MAX).map_err(Failure::from);
    checks.push(Check::new("weights", weights.map(|()| "every scale and code is sound".to_owned())));
    let pre =
        format!("{}, {} tokens", voice.tokenizer.pre_name().unwrap_or("SentencePiece"), voice.tokenizer.vocab_size());
    checks.push(Check::new("tokenizer", Ok(pre)));
    checks.push(Check::new("template", check_template(&opened, &voice)));
    checks.push(Check::new("logits", check_logits(options, &opened, &mut machine, &voice)));
    if let Some(check) = check_expected(&opened, &mut machine, &voice) {
        checks.push(Check::new("known text", check));
    }
    checks
}

/// The template renders a conversation whose tokens the vocabulary can spell.
fn check_template(opened: &Opened, voice: &Voice) -> Outcome<String> {
    let mut conversation = Conversation::new(opened, &voice.tokenizer, None)?;
    conversation.push(Role::User, "Hello".to_owned());
    let tokens = conversation.tokens(&voice.tokenizer)?;
    let source = if opened.template()?.is_some() { "the model's own" } else { "a common one, the file brings none" };
    Ok(format!("{source}; a greeting is {} tokens", tokens.len()))
}

/// Logits are finite and not flat, and English is more likely than chance; for I2_S, more likely than under the other
/// layout.
fn check_logits(options: &Options, opened: &Opened, machine: &mut Machine, voice: &Voice) -> Outcome<String> {
    let mut tokens = Vec::new();
    let form = EncodeOptions { add_bos: voice.tokenizer.add_bos(), parse_special: false };
    encode(&voice.tokenizer, TEXT.as_bytes(), form, &mut tokens)?;
    let (nll, spread) = score(machine, &tokens)?;
    let chance = (machine.model.hparams.n_vocab as f64).ln();
    if spread < 1e-3 {
        return Err(Failure::new(Code::Data, "every token is as likely as any other"));
    }
    let i2s = opened.gguf.tensors().iter().any(|t| matches!(t.ty, QuantType::I2_S | QuantType::I2_S_ARM));
    if i2s && nll > chance - DECISIVE {
        let (other, name) = match options.i2s {
            I2sLayout::X86 => (I2sLayout::Arm64, "arm64"),
            I2sLayout::Arm64 => (I2sLayout::X86, "x86"),
        };
        let options = Options { i2s: other, threads: Some(machine.pool.threads()), ..options.clone() };
        let (mut machine, _) = generate::load(&options, &mut opened.again(&options)?)?;
        let (under_other, _) = score(&mut machine, &tokens)?;
        if under_other < nll - DECISIVE {
            let what =
                format!("English costs {nll:.2} nats a token, {under_other:.2} if the file has the {name} layout");
            return Err(Failure::new(Code::Data, what).remedy(format!("add --i2s-layout {name}")));
        }
    }
    let note = if nll > chance { "; no better than chance: the model does not know English" } else { "" };
    Ok(format!("finite; English costs {nll:.2} nats a token, chance {chance:.2}{note}"))
}

/// Mean negative log-likelihood of each token after those before it, and the least standard deviation of logits.
fn score(machine: &mut Machine, tokens: &[u32]) -> Outcome<(f64, f64)> {
    machine.clear();
    let (mut total, mut least) = (0.0, f64::INFINITY);
    machine.session.logits_all(&machine.pool, tokens, &mut |i, logits| {
        let n = logits.len() as f64;
        let mean = logits.iter().map(|&l| f64::from(l)).sum::<f64>() / n;
        let variance = logits.iter().map(|&l| (f64::from(l) - mean).powi(2)).sum::<f64>() / n;
        if !variance.is_finite() {
            return Err(trill::Error::NotFinite);
        }
        least = least.min(variance.sqrt());
        if let Some(&next) = tokens.get(i + 1) {
            total += super::perplexity::negative_log_likelihood(logits, next).ok_or(trill::Error::NotFinite)?;
        }
        Ok(())
    })?;
    machine.clear();
    Ok((total / tokens.len().saturating_sub(1).max(1) as f64, least))
}

/// A known model says what it is known to say.
fn check_expected(opened: &Opened, machine: &mut Machine, voice: &Voice) -> Option<Outcome<String>> {
    let known = match known::expected(&opened.gguf) {
        Ok(known) => known?,
        Err(error) => return Some(Err(error.into())),
    };
    let mut said = || -> Outcome<String> {
        let mut tokens = Vec::new();
        let form = EncodeOptions { add_bos: voice.tokenizer.add_bos(), parse_special: false };
        encode(&voice.tokenizer, known.prompt.as_bytes(), form, &mut tokens)?;
        let mut decoder = voice.tokenizer.decoder(false);
        let mut piece = vec![0; voice.tokenizer.piece_bytes_max()];
        let mut said = Vec::new();
        let mut logits = machine.read(&tokens)?;
        while said.len() < known.continuation.len() {
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
            let id = best.and_then(|(i, _)| u32::try_from(i).ok()).unwrap_or(0);
            if voice.tokenizer.is_eog(id) || machine.room() == 0 {
                break;
            }
            let n = decoder.push(&voice.tokenizer, id, DecodeOptions::default(), &mut piece)?;
            said.extend_from_slice(&piece[..n]);
            logits = machine.step(id)?;
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        if said.starts_with(known.continuation) {
            return Ok(format!("{:?} goes on as {} does", known.prompt, known.evidence));
        }
        let what =
            format!("{:?} goes on with {said:?} where {} has {:?}", known.prompt, known.evidence, known.continuation);
        Err(Failure::new(Code::Data, what)
            .remedy("the weights are not the published ones, or damaged: get the file again"))
    };
    Some(said())
}
