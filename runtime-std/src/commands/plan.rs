//! `trill plan`: what a run will take, against what the machine has, before anything is loaded.

use super::Command;
use crate::engine::{self, Setup};
use crate::exit::Outcome;
use crate::fence;
use crate::host::affinity::Cores;
use crate::host::memory::{self, Limits, size};
use crate::options::Options;
use crate::plan::{Bound, Estimate, Plan};
use crate::report;
use serde_json::{Value, json};
use trill::kv_cache::KvType;
use trill::session::SessionConfig;

pub(crate) const PLAN: Command = Command {
    name: "plan",
    summary: "says how much memory a run will take, and what fits",
    usage: "plan MODEL [-c TOKENS] [--cache-type TYPE] [-t THREADS] [-b TOKENS] [--json]",
    notes: "Reads the file's metadata only. Exit code 0 whether it fits or not: \"fits\" and \"max_ctx\" say it.",
    bit: 1 << 9,
    takes_model: true,
    operands: &[],
    run,
};

/// Something that would take less memory.
struct Saving {
    change: String,
    bytes: u64,
    /// The largest context that would fit then.
    context: Option<usize>,
}

/// The plan and what it is held against.
struct Report {
    plan: Plan,
    machine: Limits,
    context_trained: usize,
    largest: Option<usize>,
    savings: Vec<Saving>,
}

fn run(options: &Options) -> Outcome {
    let opened = engine::open(options)?;
    let setup = Setup::new(options, &opened, &Cores::find(), crate::generate::LOGIT_ROWS)?;
    fence::close(options)?;
    let estimate = Estimate::new(options, &opened, &|model, carver| {
        crate::generate::measure(options, &opened, model.hparams.n_vocab, carver)
    })?;
    let (plan, machine) = (estimate.plan(setup.config)?, Limits::read());
    let mut savings = Vec::new();
    for ty in [KvType::Q8, KvType::Q4, KvType::Q2] {
        let (cache_k, cache_v) = ty.of_both();
        let config = SessionConfig { cache_k, cache_v, ..setup.config };
        let bytes = plan.own().saturating_sub(estimate.plan(config)?.own());
        if bytes > 0 {
            let change = format!("--cache-type {}", ty.name());
            savings.push(Saving { change, bytes, context: estimate.largest_context(config, &machine) });
        }
    }
    let hparams = opened.hparams()?;
    let head = crate::pack::head_name(&opened.gguf, &hparams);
    let tensors: u64 = opened.gguf.tensors().iter().map(|t| t.bytes() as u64).sum();
    let packed = crate::pack::estimate(&opened.gguf, head)?;
    if let Some(bytes) = tensors.checked_sub(packed).filter(|&b| b > 0) {
        savings.push(Saving { change: "trill pack (weights, at most)".to_owned(), bytes, context: None });
    }
    let largest = estimate.largest_context(setup.config, &machine);
    let report = Report { plan, machine, context_trained: hparams.context_train, largest, savings };
    if options.json { report::json::print(&report.json()) } else { report::text::print(&report.text()) }
}

impl Report {
    fn json(&self) -> Value {
        let (plan, config) = (&self.plan, &self.plan.config);
        let mut report = json!({
            "weights_bytes": plan.weights,
            "kv_bytes": plan.kv(),
            "scratch_bytes": plan.scratch(),
            "total_bytes": plan.total(),
            "fits": plan.fits(&self.machine),
            "max_ctx": self.largest.unwrap_or(0),
            "context": config.context,
            "context_trained": self.context_trained,
            "cache_type_k": config.cache_k.name(),
            "cache_type_v": config.cache_v.name(),
            "batch": config.batch,
            "threads": config.threads,
            "weights_mapped": !plan.copied,
            "weights_stay_in_memory": plan.weights_stay(&self.machine),
            "own_bytes": plan.own(),
            "address_space_bytes": plan.address_space(),
            "page_table_bytes": plan.page_tables(),
            "machine": {
                "free_bytes": self.machine.free,
                "control_group_bytes": self.machine.group,
                "address_space_limit_bytes": self.machine.address_space,
                "page_bytes": memory::page_size(),
            },
            "savings": self.savings.iter().map(Saving::json).collect::<Value>(),
        });
        if let Some(map) = report.as_object_mut() {
            map.extend(plan.parts().iter().map(|part| (part.key.to_owned(), json!(part.bytes))));
        }
        report
    }

    fn text(&self) -> String {
        let mut text = table(&self.plan, &self.machine);
        let plan = &self.plan;
        let largest = match self.largest {
            Some(context) => format!("the largest context that fits is {context} tokens"),
            None => "not even one token of context fits".to_owned(),
        };
        let trained = self.context_trained;
        let trained = if self.largest.is_some_and(|c| c > trained) {
            format!(" (the model was trained for {trained})")
        } else {
            String::new()
        };
        let verdict = if plan.fits(&self.machine) { "fits" } else { "does not fit" };
        text.push_str(&format!("\n{verdict}; {largest}{trained}\n"));
        if !plan.weights_stay(&self.machine) && !plan.copied {
            text.push_str("the weights will not all stay in memory: every token will read some of the file again\n");
        }
        for saving in &self.savings {
            let then = saving.context.map_or(String::new(), |c| format!(", then {c} tokens fit"));
            text.push_str(&format!("{} takes {} less{then}\n", saving.change, size(saving.bytes)));
        }
        text
    }
}

impl Saving {
    fn json(&self) -> Value {
        json!({ "change": self.change, "bytes": self.bytes, "max_ctx": self.context })
    }
}

/// The parts, and the limits, as lines of text: `trill plan`, and the start of every command with `-v`.
pub(crate) fn table(plan: &Plan, machine: &Limits) -> String {
    let row = |name: &str, bytes: u64| vec![name.to_owned(), bytes.to_string(), size(bytes)];
    let weights = if plan.copied { "weights (copied)" } else { "weights (mapped)" };
    let cache = format!(
        "keys and values, {} and {}, {} tokens",
        plan.config.cache_k.name(),
        plan.config.cache_v.name(),
        plan.config.context
    );
    let mut rows = vec![row(weights, plan.weights), row(&cache, plan.kv())];
    rows.extend(plan.parts().iter().map(|part| row(part.name, part.bytes)));
    rows.push(row("in all", plan.total()));
    rows.push(row("of that, memory of its own", plan.own()));
    let mut text = report::text::table(&rows, &[1, 2]);
    text.push('\n');
    let head = ["limit", "there", "wanted", ""].map(String::from).to_vec();
    let limit = |b: &Bound| {
        let verdict = if b.holds() { "" } else { "too little" };
        vec![b.name.to_owned(), size(b.there), size(b.wanted), verdict.to_owned()]
    };
    let limits: Vec<_> = std::iter::once(head).chain(plan.bounds(machine).iter().map(limit)).collect();
    text.push_str(&report::text::table(&limits, &[1, 2]));
    text.push_str(&format!("page size {} bytes\n", memory::page_size()));
    text
}
