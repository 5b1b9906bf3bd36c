//! `trill tune`: finds the number of threads that suits this machine, and remembers it.

use super::Command;
use crate::engine;
use crate::exit::Outcome;
use crate::host::affinity::Cores;
use crate::host::{cpu, signal};
use crate::options::Options;
use crate::report::{json, text};
use crate::tune::{self, Speed, Verdict};
use serde_json::{Value, json};
use std::ops::ControlFlow;

pub(crate) const TUNE: Command = Command {
    name: "tune",
    summary: "measures how many threads suit this machine, and remembers it",
    usage: "tune [-m MODEL] [-t MOST] [--json]",
    notes: "Takes about a second: 1 to N threads on the big cores (-t: up to that many). With -m the model writes\n\
            tokens, else weights are streamed as a model's are. The best count is the default of later runs that have\n\
            no -t; it is kept in $XDG_CACHE_HOME/trill/threads (~/.cache/trill/threads).",
    bit: 1 << 15,
    takes_model: true,
    operands: &[],
    run,
};

/// Positions that a model writes before it starts again.
const CONTEXT: usize = 64;

fn run(options: &Options) -> Outcome {
    signal::catch_interrupts();
    let cores = Cores::find();
    let counts = tune::counts(options.threads.unwrap_or_else(|| cores.threads()));
    let with_model = options.model.is_some();
    let speeds = if with_model {
        on_model(options, &cores, &counts)?
    } else {
        tune::measure_streams(&cpu::kernels()?, &counts, &cores)?
    };
    let verdict = tune::settle(&speeds, &cores);
    if options.json {
        json::print(&as_json(&speeds, &verdict, with_model, &cores))
    } else {
        as_text(&speeds, &verdict, with_model)
    }
}

/// Tokens a second of a model, with each count of threads.
fn on_model(options: &Options, cores: &Cores, counts: &[usize]) -> Outcome<Vec<Speed>> {
    let most = counts.last().copied();
    let options = &Options { context: Some(CONTEXT), batch: Some(1), threads: most, ..options.clone() };
    let mut opened = engine::open(options)?;
    let (mut machine, ()) = engine::load(options, &mut opened, 1, |_, _, _| Ok(()))?;
    let vocab = machine.model.hparams.n_vocab.max(1);
    let mut next = 0usize;
    tune::measure(counts, cores, &mut |pool| {
        if machine.room() == 0 {
            machine.clear();
        }
        next = (next + 31) % vocab;
        let token = [u32::try_from(next).unwrap_or(0)];
        machine.session.prefill(pool, &token, &mut |_| ControlFlow::Continue(()))?;
        Ok(())
    })
}

fn unit(with_model: bool) -> &'static str {
    if with_model { "tokens/s" } else { "GB/s" }
}

fn as_text(speeds: &[Speed], verdict: &Verdict, with_model: bool) -> Outcome {
    let found = if verdict.remembered { "best, the default from now on" } else { "the default" };
    let mut rows = vec![["threads", unit(with_model), ""].map(String::from).to_vec()];
    for s in speeds {
        let mark = if s.threads == verdict.threads { found } else { "" };
        rows.push(vec![s.threads.to_string(), format!("{:.2}", s.per_second), mark.to_owned()]);
    }
    text::print(&text::table(&rows, &[0, 1]))
}

fn as_json(speeds: &[Speed], verdict: &Verdict, with_model: bool, cores: &Cores) -> Value {
    let key = if with_model { "tokens_per_second" } else { "gigabytes_per_second" };
    let measured: Vec<Value> = speeds.iter().map(|s| json!({ "threads": s.threads, key: s.per_second })).collect();
    let file = tune::file().filter(|_| verdict.remembered).map(|f| f.to_string_lossy().into_owned());
    json!({ "threads": verdict.threads, "measured": measured, "machine": tune::key(cores), "remembered_in": file })
}
