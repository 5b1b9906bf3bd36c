//! `trill quantize IN OUT TYPE`: a model with its weights in another type.

use super::Command;
use crate::destination::Destination;
use crate::engine::{self, Opened};
use crate::exit::{Code, Failure, Outcome};
use crate::fence;
use crate::gguf_write::{Metadata, Record, Writer};
use crate::host::clock::Stopwatch;
use crate::host::{affinity, memory, signal};
use crate::options::Options;
use crate::recode::{Drift, Recoder, Rows};
use crate::report::{json, progress::Progress};
use crate::type_choice::{Facts, Wish, needs_ternary};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use trill::gguf::{Gguf, TensorInfo, Value, keys};
use trill::limits::VOCAB_MAX;
use trill::quant::QuantType;

pub(crate) static QUANTIZE: Command = Command {
    name: "quantize",
    summary: "writes a model with its weights in another type",
    usage: "quantize IN OUT TYPE [flags]",
    notes: "TYPE is a weight type: F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q4_K_M Q5_K Q5_K_M Q6_K,\n\
            for ternary weights I2_S TQ1_0 TQ2_0 Q2_0 (--group-size 128: PrismML's) PTQ1_0 STQ1_0,\n\
            for binary ones Q1_0 and, with binary activations, B1 and B1_64.\n\
            Norms and biases stay as they are. The head becomes Q6_K (Q8_0 where its rows do not fit), the embedding\n\
            of a ternary model Q4_K; --pure, --output-tensor-type and --token-embedding-type change that.",
    bit: 1 << 8,
    takes_model: true,
    operands: &["OUT", "TYPE"],
    run,
};

/// Weights further than this from what is written are not ternary: rounding scales to binary16 alone changes
/// them by 0.05 % at most.
const TERNARY_DRIFT_MAX: f64 = 0.01;

/// Bytes of a tensor copied between two looks at whether to go on.
const COPIED_AT_ONCE: usize = 16 << 20;

/// One tensor's fate.
struct Plan<'a> {
    tensor: &'a TensorInfo<'a>,
    /// `None`: copied.
    to: Option<QuantType>,
    type_id: u32,
    bytes: u64,
}

/// What became of one tensor.
struct Done<'a> {
    name: &'a str,
    from: QuantType,
    to: QuantType,
    drift: Option<Drift>,
}

fn run(options: &Options) -> Outcome {
    let clock = Stopwatch::start();
    let [output, type_name] = options.operands.as_slice() else {
        return Err(Failure::usage("quantize needs IN, OUT and TYPE").remedy("see trill quantize --help"));
    };
    let input = options.model.as_deref().ok_or_else(|| Failure::usage("quantize needs IN, OUT and TYPE"))?;
    let output = Path::new(output);
    let wish = wish(options, &type_name.to_string_lossy())?;
    let Opened { gguf: model, file, .. } = engine::open_to_read(options)?;
    let to = Destination::find(options, output, &file.identity())?;
    let plans = plan(&model, &wish).map_err(|f| f.about(input))?;
    signal::catch_interrupts();
    fence::close(options)?;
    let (done, bytes) = write(options, &model, &wish, &plans, input, &to)?;
    report(options, output, file.length, bytes, &done, clock.seconds())
}

fn wish(options: &Options, type_name: &str) -> Outcome<Wish> {
    let wish = Wish::parse(type_name, options.group_size).map_err(Failure::usage)?;
    let (output, embedding) = (options.output_type, options.embedding_type);
    Ok(Wish { pure: options.pure, output, embedding, ..wish })
}

fn plan<'a>(model: &Gguf<'a>, wish: &Wish) -> Outcome<Vec<Plan<'a>>> {
    if model.u64(keys::SPLIT_COUNT).ok().flatten().is_some_and(|n| n > 1) {
        return Err(Failure::new(Code::Data, "is one of several parts of a model")
            .remedy("join them first (llama-gguf-split --merge)"));
    }
    let layers = model.str(keys::ARCHITECTURE)?.and_then(|arch| keys::of_arch(arch, keys::arch::BLOCK_COUNT));
    let layers = layers.map_or(Ok(None), |key| model.u32(&key))?.unwrap_or(0) as usize;
    let facts = Facts { tied: model.tensor("output.weight").is_none(), layers };
    let mut plans = Vec::with_capacity(model.tensors().len());
    for tensor in model.tensors() {
        let chosen = wish.choose(tensor.name, tensor.n_dims, tensor.cols(), facts);
        let to = chosen.filter(|ty| *ty != tensor.ty);
        if to.is_some() && tensor.cols() > VOCAB_MAX {
            // A row is held in memory as f32.
            let what = format!("{}: rows of {} weights, at most {VOCAB_MAX} are accepted", tensor.name, tensor.cols());
            return Err(Failure::new(Code::Data, what));
        }
        let ty = to.unwrap_or(tensor.ty);
        let bytes = ty.tensor_bytes(tensor.rows(), tensor.cols());
        let bytes = bytes.ok_or_else(|| Failure::new(Code::Data, format!("{} would be too large", tensor.name)))?;
        // A copied tensor of type 42 gets the number that says which of its meanings it has.
        let type_id = ty.info().ggml_id.unwrap_or(tensor.type_id);
        plans.push(Plan { tensor, to, type_id, bytes: bytes as u64 });
    }
    Ok(plans)
}

/// The input's metadata, with the file type that is true now.
fn metadata(model: &Gguf<'_>, wish: &Wish) -> Metadata {
    let mut metadata = Metadata::default();
    let changed = [keys::FILE_TYPE, keys::QUANTIZATION_VERSION];
    for entry in model.entries().iter().filter(|e| !changed.contains(&e.key)) {
        metadata.value(entry.key, &entry.value);
    }
    if let Some(number) = wish.file_type() {
        metadata.value(keys::FILE_TYPE, &Value::U32(number));
    }
    metadata.value(keys::QUANTIZATION_VERSION, &Value::U32(2));
    metadata
}

fn write<'a>(
    options: &Options,
    model: &Gguf<'a>,
    wish: &Wish,
    plans: &[Plan<'a>],
    input: &Path,
    to: &Destination,
) -> Outcome<(Vec<Done<'a>>, u64)> {
    let record = |p: &Plan<'a>| Record {
        name: p.tensor.name,
        dims: &p.tensor.dims[..p.tensor.n_dims as usize],
        type_id: p.type_id,
        bytes: p.bytes,
    };
    let records: Vec<_> = plans.iter().map(record).collect();
    let mut writer = Writer::create(to, &metadata(model, wish), &records, model.alignment().into())?;
    let threads = options.threads.unwrap_or_else(|| affinity::Cores::find().threads());
    let total = plans.iter().map(|p| p.tensor.elements()).sum();
    let mut progress = Progress::new("quantizing", "weights", total, options.verbosity);
    let (mut done, mut weights) = (Vec::with_capacity(plans.len()), 0);
    for plan in plans {
        let mut drift = None;
        writer.tensor(|out| {
            let mut so_far = weights;
            let mut step = |more| {
                so_far += more;
                progress.update(so_far);
                if signal::interrupted() { Err(Failure::new(Code::Interrupted, "interrupted")) } else { Ok(()) }
            };
            drift = one(plan, threads, options.force, out, &mut step).map_err(|f| match f.code {
                Code::Data => Failure::new(f.code, format!("{}: {}", plan.tensor.name, f.message)).about(input),
                _ => f,
            })?;
            Ok(())
        })?;
        weights += plan.tensor.elements();
        done.push(Done { name: plan.tensor.name, from: plan.tensor.ty, to: plan.to.unwrap_or(plan.tensor.ty), drift });
    }
    drop(progress);
    Ok((done, writer.finish()?))
}

/// Writes one tensor. The drift is that of its new weights, if they are new.
fn one(
    plan: &Plan<'_>,
    threads: usize,
    force: bool,
    out: &mut dyn Write,
    step: &mut dyn FnMut(usize) -> Outcome,
) -> Outcome<Option<Drift>> {
    let tensor = plan.tensor;
    let Some(ty) = plan.to else {
        for piece in tensor.data.chunks(COPIED_AT_ONCE) {
            out.write_all(piece).map_err(|e| Failure::new(Code::Io, crate::exit::reason(&e)))?;
            step(0)?;
        }
        return Ok(None);
    };
    let matrix = tensor.matrix().expect("a tensor of a parsed file");
    let read = |row: usize, values: &mut [f32]| matrix.decode_row(row, values);
    let rows = Rows { rows: matrix.rows(), cols: matrix.cols(), read: &read };
    let drift = Recoder { ty, threads }.write(&rows, out, step)?;
    if needs_ternary(ty) && drift.relative() > TERNARY_DRIFT_MAX && !force {
        let (name, percent) = (ty.info().name, 100.0 * drift.relative());
        let what = format!("the weights are not what {name} can hold; it would change them by {percent:.1} % (rms)");
        return Err(
            Failure::new(Code::Data, what).remedy("take a type such as Q4_K, or add --force to do it all the same")
        );
    }
    Ok(Some(drift))
}

fn report(options: &Options, output: &Path, from: u64, to: u64, done: &[Done<'_>], seconds: f64) -> Outcome {
    if options.json {
        let tensors: Vec<_> = done
            .iter()
            .map(|d| {
                let error = d.drift.map(|d| d.relative());
                json!({ "name": d.name, "from": d.from.info().name, "to": d.to.info().name, "rms_error": error })
            })
            .collect();
        return json::print(&json!({
            "output": output.to_string_lossy(), "bytes_in": from, "bytes_out": to, "seconds": seconds, "tensors": tensors,
        }));
    }
    for ty in QuantType::ALL {
        let mut drift = Drift::default();
        let written = done.iter().filter(|d| d.to == *ty).filter_map(|d| d.drift);
        let count = written.inspect(|d| drift.add(*d)).count();
        if count != 0 {
            // Whoever said --force only to overwrite OUT must not overlook what else it allowed.
            let spoiled = needs_ternary(*ty) && drift.relative() > TERNARY_DRIFT_MAX;
            let level = if spoiled { log::Level::Warn } else { log::Level::Info };
            let (name, percent) = (ty.info().name, 100.0 * drift.relative());
            log::log!(level, "{count} tensors to {name}, changed by {percent:.2} % (rms)");
        }
    }
    let kept = done.iter().filter(|d| d.drift.is_none()).count();
    log::info!("{kept} tensors copied; {} -> {} in {seconds:.1} s", memory::size(from), memory::size(to));
    Ok(())
}
