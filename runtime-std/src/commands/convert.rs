//! `trill convert FOLDER OUT`: a Hugging Face folder as one GGUF file.

use super::Command;
use crate::destination::Destination;
use crate::exit::{Code, Failure, Outcome};
use crate::fence;
use crate::gguf_write::{Metadata, Record, Writer};
use crate::hf::{Config, Output, Tensors, Weights, outputs, tokenizer};
use crate::host::clock::Stopwatch;
use crate::host::files::Identity;
use crate::host::{affinity, memory, signal};
use crate::options::Options;
use crate::recode::{Recoder, Rows};
use crate::report::{json, progress::Progress};
use serde_json::json;
use std::cell::RefCell;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use trill::quant::QuantType;

pub(crate) const CONVERT: Command = Command {
    name: "convert",
    summary: "makes a GGUF file of a Hugging Face folder",
    usage: "convert FOLDER OUT.gguf [--pre NAME] [-t THREADS] [--force] [--json]",
    notes: "FOLDER holds config.json, tokenizer.json (or tokenizer.model) and safetensors files of a BitNet, Llama, Qwen2 or\n\
            Qwen3 model.\n\
            Ternary weights, packed or as masters to be rounded, become I2_S; all others stay as precise as they\n\
            are (trill quantize makes them smaller).",
    bit: 1 << 12,
    takes_model: true,
    operands: &["OUT"],
    run,
};

const ALIGNMENT: u64 = 32;

thread_local! {
    /// Bytes of the row being read.
    static ROW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn run(options: &Options) -> Outcome {
    let clock = Stopwatch::start();
    let usage = || Failure::usage("convert needs FOLDER and OUT").remedy("see trill convert --help");
    let folder = options.model.as_deref().ok_or_else(usage)?;
    let [output] = options.operands.as_slice() else { return Err(usage()) };
    let output = Path::new(output);
    let to = Destination::find(options, output, &files_of(folder))?;
    let config = Config::read(folder)?;
    let tensors = Tensors::open(folder)?;
    let outputs = outputs(&config, &tensors).map_err(|f| f.about(folder))?;
    let mut metadata = Metadata::default();
    config.describe(file_type(&outputs), &mut metadata).map_err(|f| f.about(&folder.join("config.json")))?;
    tokenizer(folder, &config, options.pre.as_deref(), &mut metadata)?;
    signal::catch_interrupts();
    fence::close(options)?;
    let bytes = write(options, &tensors, &outputs, &metadata, &to)?;
    if options.json {
        return json::print(&json!({
            "output": output.to_string_lossy(), "architecture": config.arch, "tensors": outputs.len(),
            "bytes": bytes, "seconds": clock.seconds(),
        }));
    }
    log::info!("{}: {} tensors, {} in {:.1} s", config.arch, outputs.len(), memory::size(bytes), clock.seconds());
    Ok(())
}

/// llama.cpp's number for what most weights are, 40 being bitnet.cpp's for I2_S.
fn file_type(outputs: &[Output]) -> u32 {
    let has = |ty| outputs.iter().any(|o| o.matrix && o.ty == ty);
    match () {
        () if has(QuantType::I2_S) => 40,
        () if has(QuantType::BF16) => 32,
        () if has(QuantType::F16) => 1,
        () => 0,
    }
}

/// Which files the folder holds: OUT must be none of them. A folder that cannot be listed is told of when it is read.
fn files_of(folder: &Path) -> Vec<Identity> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(Identity::of(&std::fs::metadata(entry.path()).ok()?))).collect()
}

fn write(
    options: &Options,
    tensors: &Tensors,
    outputs: &[Output],
    metadata: &Metadata,
    to: &Destination,
) -> Outcome<u64> {
    let dims: Vec<_> = outputs.iter().map(|o| [o.cols as u64, o.rows as u64]).collect();
    let mut records = Vec::with_capacity(outputs.len());
    for (output, dims) in outputs.iter().zip(&dims) {
        let bytes = output.ty.tensor_bytes(output.rows, output.cols);
        let bytes = bytes.ok_or_else(|| Failure::new(Code::Data, format!("{} would be too large", output.name)))?;
        let type_id = output.ty.info().ggml_id.expect("a type of GGUF");
        let dims = if output.matrix { &dims[..] } else { &dims[..1] };
        records.push(Record { name: &output.name, dims, type_id, bytes: bytes as u64 });
    }
    let mut writer = Writer::create(to, metadata, &records, ALIGNMENT)?;
    let threads = options.threads.unwrap_or_else(|| affinity::Cores::find().threads());
    let total = outputs.iter().map(|o| o.rows * o.cols).sum();
    let mut progress = Progress::new("converting", "weights", total, options.verbosity);
    let mut done = 0;
    for output in outputs {
        let mut step = |more| {
            done += more;
            progress.update(done);
            if signal::interrupted() { Err(Failure::new(Code::Interrupted, "interrupted")) } else { Ok(()) }
        };
        writer.tensor(|out| one(tensors, output, threads, out, &mut step))?;
    }
    drop(progress);
    writer.finish()
}

/// Writes one tensor.
fn one(
    tensors: &Tensors,
    output: &Output,
    threads: usize,
    out: &mut dyn Write,
    step: &mut dyn FnMut(usize) -> Outcome,
) -> Outcome {
    let weights = Weights::new(tensors, output)?;
    let trouble = Mutex::new(None);
    let read = |row: usize, values: &mut [f32]| {
        if let Err(failure) = ROW.with_borrow_mut(|bytes| weights.read(row, bytes, values)) {
            // Not a number, so that the writing stops at this row.
            values.fill(f32::NAN);
            trouble.lock().expect("nobody panics with it").get_or_insert(failure);
        }
    };
    let rows = Rows { rows: output.rows, cols: output.cols, read: &read };
    let written = Recoder { ty: output.ty, threads }.write(&rows, out, step);
    match trouble.into_inner().expect("nobody panics with it") {
        Some(failure) => Err(failure),
        None => written.map(|_| ()).map_err(|f| match f.code {
            Code::Data => Failure::new(f.code, format!("{}: {}", output.name, f.message)),
            _ => f,
        }),
    }
}
