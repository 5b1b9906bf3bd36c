//! `trill pack IN OUT`: a model in the layouts that the kernels read fastest.

use super::Command;
use crate::authentic;
use crate::destination::Destination;
use crate::engine::{self, Opened};
use crate::exit::{Code, Failure, Outcome};
use crate::fence;
use crate::host::affinity::Cores;
use crate::host::clock::Stopwatch;
use crate::host::threads::Pool;
use crate::host::{cpu, memory, signal};
use crate::options::Options;
use crate::pack::cost::{self, Bench, Distance};
use crate::pack::target::{self, Speeds};
use crate::pack::traffic::Traffic;
use crate::pack::write::{self, Packed, Provenance};
use crate::pack::{Fate, Head, Plan, Wish, head_name, is_exact, is_for_skipping, plan};
use crate::report::{json, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use trill::kernels::Kernels;
use trill::model::Model;
use trill::quant::QuantType;
use trill::tokenizer::EncodeOptions;

pub(crate) const PACK: Command = Command {
    name: "pack",
    summary: "rewrites a model into the layouts that run fastest",
    usage: "pack IN OUT [flags]",
    notes: "Ternary matrices with one scale become T3 (1.6 bits a weight) or T2 (2 bits), whichever suits the machine:\n\
            this one, measured, unless --for names another. The weights stay what they are. Matrices with a scale for\n\
            each block (Q1_0, Q2_0, TQ2_0) keep their scales, and their rows are interleaved where that is faster:\n\
            results have the same bits. The output head becomes\n\
            int8 with a scale for each row unless --head says otherwise; what each choice costs is measured on the\n\
            model and shown. A sketch of the head in 2 bits is added for screening. Only trill reads such files.",
    bit: 1 << 13,
    takes_model: true,
    operands: &["OUT"],
    run,
};

/// What a head would cost.
struct HeadCost {
    head: Head,
    ty: QuantType,
    bytes: u64,
    distance: Distance,
    chosen: bool,
}

/// What was measured on the model.
struct Cost {
    tokens: usize,
    /// The packed file against the original.
    packed: Distance,
    heads: Vec<HeadCost>,
}

/// Everything the report tells of.
struct Done<'a> {
    plans: &'a [Plan<'a>],
    speeds: &'a [Speeds],
    target: &'a str,
    packed: Packed,
    bytes_in: u64,
    before: Traffic,
    after: Traffic,
    cost: Option<Cost>,
    seconds: f64,
}

fn run(options: &Options) -> Outcome {
    let clock = Stopwatch::start();
    let (Some(input), [output]) = (options.model.as_deref(), options.operands.as_slice()) else {
        return Err(Failure::usage("pack needs IN and OUT").remedy("see trill pack --help"));
    };
    let output = Path::new(output);
    let opened = engine::open_to_read(options)?;
    let to = Destination::find(options, output, &opened.file.identity())?;
    let model = load(&opened)?;
    signal::catch_interrupts();
    let cores = Cores::find();
    let threads = options.threads.unwrap_or_else(|| cores.threads());
    let head = head_name(&opened.gguf, &model.hparams);
    let kernels = cpu::kernels()?;
    fence::close(options)?;
    let interleave = interleaves(options, &opened, &kernels, threads)?;
    let wish =
        Wish { head: options.pack_head, sketch: !options.no_sketch, skip: options.ffn_skip, interleave, threads };
    let mut plans = plan(&opened.gguf, &model.hparams, head, wish).map_err(|f| f.about(input))?;
    let speeds = choose_layouts(options, &kernels, threads, &mut plans)?;
    let sha256 = authentic::sha256(opened.file.bytes, options.verbosity)?;
    let target = options.pack_for.map_or_else(|| format!("measured with {}", kernels.name()), |t| t.name().into());
    let head_type = plans.iter().find(|p| p.name == head).map_or("", |p| p.ty.info().name);
    let sketch = plans.iter().any(|p| matches!(p.fate, Fate::Sketch(_)));
    let provenance = Provenance { source: &sha256, target: &target, head: head_type, sketch };
    let packed = write::write(&opened.gguf, &plans, &provenance, &to, threads, options.verbosity)?;
    let plain = Options { model: Some(output.to_owned()), sha256: None, key: None, ..options.clone() };
    let again = engine::open_to_read(&plain)?;
    let new = load(&again)?;
    let pool = Pool::new(threads, &cores);
    let cost = measure(&opened, &model, &new, &kernels, &pool, head);
    let cost = cost.map(Some).or_else(|failure| match failure.code {
        Code::Memory | Code::Data => {
            log::warn!("what packing costs was not measured: {}", failure.message);
            Ok(None)
        }
        _ => Err(failure),
    })?;
    let (before, after) = (Traffic::of(&model), Traffic::of(&new));
    let bytes_in = opened.file.length;
    let (plans, speeds, target) = (&plans[..], &speeds[..], &target[..]);
    let done = Done { plans, speeds, target, packed, bytes_in, before, after, cost, seconds: clock.seconds() };
    if options.json { json::print(&as_json(&done, output)) } else { as_text(&done) }
}

fn load(opened: &Opened) -> Outcome<Model<'static>> {
    let layout = |carver: &mut _| Model::load(&opened.gguf, carver).map_err(Failure::from);
    engine::carve(layout).map_err(|f| f.about(&opened.path))
}

/// Whether to interleave the rows of matrices with a scale for each block: where that is faster.
fn interleaves(options: &Options, opened: &Opened, kernels: &Kernels, threads: usize) -> Outcome<bool> {
    let mut candidates = opened.gguf.tensors().iter().filter(|t| t.name.starts_with("blk.") && t.n_dims == 2);
    match (options.pack_for, candidates.find(|t| t.ty.interleaved().is_some())) {
        (_, None) => Ok(false),
        (Some(target), _) => Ok(target.interleaves()),
        (None, Some(t)) => target::interleaving_pays(kernels, threads, t.ty, t.cols()),
    }
}

/// Gives every matrix that is packed the layout for its shape.
fn choose_layouts(
    options: &Options,
    kernels: &Kernels,
    threads: usize,
    plans: &mut [Plan<'_>],
) -> Outcome<Vec<Speeds>> {
    let packed = |p: &&Plan<'_>| matches!(p.fate, Fate::Packed(ty) if !is_for_skipping(ty));
    let mut widths: Vec<usize> = plans.iter().filter(packed).map(|p| p.source.cols()).collect();
    widths.sort_unstable();
    widths.dedup();
    let weights = plans.iter().filter(packed).map(|p| p.source.elements()).sum();
    let speeds = match options.pack_for {
        None if !widths.is_empty() => target::measure(kernels, threads, &widths, weights)?,
        _ => Vec::new(),
    };
    for s in &speeds {
        let (cols, t2, t3) = (s.cols, s.t2 / 1e9, s.t3 / 1e9);
        let (layout, kernels) = (s.layout().info().name, kernels.name());
        log::info!(
            "measured {kernels}, {threads} threads, rows of {cols}: T3 {t3:.1}, T2 {t2:.1} thousand million weights/s; {layout}"
        );
    }
    for plan in plans.iter_mut().filter(|p| packed(&&**p)) {
        let measured = speeds.iter().find(|s| s.cols == plan.source.cols()).map(Speeds::layout);
        let layout = options.pack_for.map(target::Target::layout).or(measured).unwrap_or(plan.ty);
        (plan.fate, plan.ty) = (Fate::Packed(layout), layout);
    }
    Ok(speeds)
}

/// Lets the original, the packed model and the packed model with other heads read the same text.
fn measure(
    opened: &Opened,
    model: &Model<'_>,
    new: &Model<'_>,
    kernels: &Kernels,
    pool: &Pool,
    head: &str,
) -> Outcome<Cost> {
    let mut tokens = Vec::new();
    let tokenizer = engine::carve(|carver| opened.tokenizer(carver))?;
    let how = EncodeOptions { add_bos: tokenizer.add_bos(), parse_special: false };
    crate::generate::encode(&tokenizer, cost::TEXT.as_bytes(), how, &mut tokens)?;
    tokens.truncate(cost::TOKENS.min(model.hparams.context_train.max(1)));
    let bench = Bench { kernels: *kernels, executor: pool, tokens: &tokens };
    let logits = bench.logits(model)?;
    let packed = bench.distance(&logits, new)?;
    let (original, now) = (&model.output, new.output.ty());
    let mut heads = Vec::with_capacity(Head::ALL.len());
    for (choice, ty) in cost::head_types(original.ty(), original.cols()) {
        let chosen = ty == now;
        let tied = head == "token_embd.weight";
        let distance = if chosen { packed } else { bench.with_head(&logits, new, original, tied, ty)? };
        let bytes = ty.tensor_bytes(original.rows(), original.cols()).unwrap_or(0) as u64;
        heads.push(HeadCost { head: choice, ty, bytes, distance, chosen });
    }
    Ok(Cost { tokens: tokens.len(), packed, heads })
}

/// Matrices by what became of them: from, to and why, with their number.
fn fates<'a>(plans: &[Plan<'a>]) -> BTreeMap<(&'static str, &'static str, Option<&'static str>), Vec<&'a str>> {
    let mut fates: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for plan in plans.iter().filter(|p| p.source.n_dims > 1 && !matches!(p.fate, Fate::Sketch(_) | Fate::Kept(_))) {
        let why = if let Fate::Copied(why) = plan.fate { why } else { None };
        fates.entry((plan.source.ty.info().name, plan.ty.info().name, why)).or_default().push(plan.name);
    }
    fates
}

fn as_text(done: &Done<'_>) -> Outcome {
    for ((from, to, why), names) in fates(done.plans) {
        let what = if let [name] = names[..] { name.to_owned() } else { format!("{} matrices", names.len()) };
        match why {
            Some(why) => log::info!("{what}: stays {from}, because {why}"),
            None if from == to => log::info!("{what}: stays {from}"),
            None => log::info!("{what}: {from} -> {to}"),
        }
    }
    let changed = |p: &&Plan<'_>| matches!(p.fate, Fate::Packed(_)) && !is_exact(p.source.ty);
    let count = done.plans.iter().filter(changed).count();
    if count != 0 {
        log::info!(
            "{count} matrices now take activations as int8 with one scale a row (BitNet's own arithmetic) where their \
             old type had a scale for each block: the weights are the same, results differ slightly"
        );
    }
    if let Some(drift) = done.packed.head_drift {
        log::info!("the head's weights changed by {:.2} % (rms)", 100.0 * drift.relative());
    }
    let (from, to) = (memory::size(done.bytes_in), memory::size(done.packed.bytes));
    log::info!("read back and found right; {from} -> {to} in {:.1} s", done.seconds);
    let mut answer = traffic_table(done);
    if let Some(cost) = &done.cost {
        answer.push('\n');
        answer.push_str(&cost_table(cost));
    }
    text::print(&answer)
}

fn traffic_table(done: &Done<'_>) -> String {
    let mut rows = vec![["bytes read a token", "before", "after"].map(String::from).to_vec()];
    for ((name, before), (_, after)) in done.before.parts().into_iter().zip(done.after.parts()) {
        rows.push(vec![name.to_owned(), memory::size(before), memory::size(after)]);
    }
    if let Some(sketch) = sketch_bytes(done) {
        rows.push(vec!["head's sketch".to_owned(), String::new(), memory::size(sketch)]);
    }
    text::table(&rows, &[1, 2])
}

fn sketch_bytes(done: &Done<'_>) -> Option<u64> {
    done.plans.iter().find(|p| matches!(p.fate, Fate::Sketch(_)))?.bytes().ok()
}

fn cost_table(cost: &Cost) -> String {
    let mut rows = vec![["--head", "type", "size", "divergence", "same first choice"].map(String::from).to_vec()];
    for h in &cost.heads {
        rows.push(vec![
            format!("{}{}", h.head.name(), if h.chosen { " (this file)" } else { "" }),
            h.ty.info().name.to_owned(),
            memory::size(h.bytes),
            if h.distance.identical { "0 (same bits)".to_owned() } else { format!("{:.2e}", h.distance.divergence) },
            format!("{:.1} %", 100.0 * h.distance.agreement),
        ]);
    }
    let note = format!(
        "Divergence from the original's predictions: Kullback-Leibler, nats a token, over {} tokens of English.\n",
        cost.tokens
    );
    text::table(&rows, &[2, 3, 4]) + &note
}

fn as_json(done: &Done<'_>, output: &Path) -> Value {
    let distance = |d: &Distance| json!({ "kl_divergence": d.divergence, "top1_agreement": d.agreement, "identical": d.identical });
    let tensors: Vec<_> = done
        .plans
        .iter()
        .map(|p| {
            let kept = if let Fate::Copied(why) = p.fate { why } else { None };
            let exact = match p.fate {
                Fate::Copied(_) | Fate::Interleaved(_) | Fate::Kept(_) => true,
                Fate::Packed(_) => is_exact(p.source.ty),
                Fate::Head(_) | Fate::Sketch(_) => false,
            };
            json!({ "name": p.name, "from": p.source.ty.info().name, "to": p.ty.info().name, "kept_because": kept,
                    "same_results": exact })
        })
        .collect();
    let speeds: Vec<_> = done
        .speeds
        .iter()
        .map(|s| {
            json!({ "cols": s.cols, "t2_weights_per_second": s.t2, "t3_weights_per_second": s.t3,
                    "layout": s.layout().info().name })
        })
        .collect();
    let traffic =
        |t: &Traffic| t.parts().into_iter().map(|(name, bytes)| (name.replace(' ', "_"), json!(bytes))).collect();
    let (before, after): (serde_json::Map<_, _>, serde_json::Map<_, _>) = (traffic(&done.before), traffic(&done.after));
    let heads = |cost: &Cost| -> Vec<Value> {
        let one = |h: &HeadCost| {
            json!({ "head": h.head.name(), "type": h.ty.info().name, "bytes": h.bytes, "chosen": h.chosen,
                    "cost": distance(&h.distance) })
        };
        cost.heads.iter().map(one).collect()
    };
    let measured =
        done.cost.as_ref().map(|c| json!({ "tokens": c.tokens, "packed": distance(&c.packed), "heads": heads(c) }));
    json!({
        "output": output.to_string_lossy(), "bytes_in": done.bytes_in, "bytes_out": done.packed.bytes,
        "seconds": done.seconds, "target": done.target, "speeds": speeds,
        "bytes_per_token": { "before": before, "after": after, "sketch": sketch_bytes(done) },
        "head_rms_error": done.packed.head_drift.map(|d| d.relative()),
        "cost": measured, "tensors": tensors,
    })
}
