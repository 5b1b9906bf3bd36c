//! Writes a packed model and reads it again before it gets its name.

use super::{Fate, Plan, VERSION};
use crate::destination::Destination;
use crate::exit::{Code, Failure, Outcome, reason};
use crate::generate::stop_if_interrupted;
use crate::gguf_write::{Metadata, Record, Writer};
use crate::host::threads::side_by_side;
use crate::options::Verbosity;
use crate::recode::{Drift, Recoder, Rows};
use crate::report::progress::Progress;
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use trill::gguf::{Gguf, Value, keys};
use trill::mem::Carver;
use trill::model::Model;
use trill::quant::{Matrix, QuantType};

/// Every tensor starts at a multiple of this: a line of the cache, and a vector of the widest kernels.
const ALIGNMENT: u32 = 64;
/// Prefix of our keys.
const PREFIX: &str = "trill.pack.";

/// What `trill.pack.*` says of a file's making.
pub(crate) struct Provenance<'a> {
    /// SHA-256 of the input, in hexadecimal.
    pub(crate) source: &'a str,
    pub(crate) target: &'a str,
    pub(crate) head: &'a str,
    pub(crate) sketch: bool,
}

/// What happened to a tensor on its way.
#[derive(Clone, Copy)]
struct Written {
    drift: Option<Drift>,
    /// Of the bytes, for tensors that cannot be compared with the input weight by weight.
    digest: Option<[u8; 32]>,
}

/// A packed file.
pub(crate) struct Packed {
    /// How far the head's new weights are from the old ones, if it changed.
    pub(crate) head_drift: Option<Drift>,
    pub(crate) bytes: u64,
}

/// Writes `plans` to its destination; the file appears there when it has been read back and found right.
pub(crate) fn write(
    gguf: &Gguf<'_>,
    plans: &[Plan<'_>],
    provenance: &Provenance<'_>,
    to: &Destination,
    threads: usize,
    verbosity: Verbosity,
) -> Outcome<Packed> {
    let mut records = Vec::with_capacity(plans.len());
    let dims: Vec<_> = plans.iter().map(Plan::dims).collect();
    for (plan, dims) in plans.iter().zip(&dims) {
        let type_id = plan.ty.info().ggml_id.unwrap_or(plan.source.type_id);
        records.push(Record { name: plan.name, dims, type_id, bytes: plan.bytes()? });
    }
    let metadata = metadata(gguf, provenance);
    let mut writer = Writer::create(to, &metadata, &records, ALIGNMENT.into())?;
    let total = plans.iter().map(|p| p.elements()).sum();
    let mut progress = Progress::new("packing", "weights", total, verbosity);
    let (mut done, mut written) = (0, Vec::with_capacity(plans.len()));
    for plan in plans {
        let mut result = None;
        writer.tensor(|out| {
            let mut so_far = done;
            let mut step = |more| {
                so_far += more;
                progress.update(so_far);
                stop_if_interrupted()
            };
            result = Some(one(plan, threads, out, &mut step).map_err(|f| match f.code {
                Code::Data => Failure::new(f.code, format!("{}: {}", plan.name, f.message)),
                _ => f,
            })?);
            Ok(())
        })?;
        done += plan.elements();
        written.extend(result);
    }
    drop(progress);
    let head = plans.iter().zip(&written).find(|(plan, _)| matches!(plan.fate, Fate::Head(_)));
    let head_drift = head.and_then(|(_, w)| w.drift);
    writer.inspect(|bytes| verify(bytes, gguf, plans, &written, provenance, verbosity))?;
    Ok(Packed { head_drift, bytes: writer.finish()? })
}

/// The input's metadata in its order, what it says of an earlier packing replaced.
fn metadata(gguf: &Gguf<'_>, provenance: &Provenance<'_>) -> Metadata {
    let mut metadata = Metadata::default();
    let alignment = Value::U32(ALIGNMENT);
    for entry in gguf.entries().iter().filter(|e| !e.key.starts_with(PREFIX)) {
        metadata.value(entry.key, if entry.key == keys::ALIGNMENT { &alignment } else { &entry.value });
    }
    if gguf.value(keys::ALIGNMENT).is_none() {
        metadata.value(keys::ALIGNMENT, &alignment);
    }
    let mut own = |name: &str, value: Value<'_>| metadata.value(&format!("{PREFIX}{name}"), &value);
    own("version", Value::U32(VERSION));
    own("writer", Value::Str(concat!("trill ", env!("CARGO_PKG_VERSION")).as_bytes()));
    own("source_sha256", Value::Str(provenance.source.as_bytes()));
    own("target", Value::Str(provenance.target.as_bytes()));
    own("head", Value::Str(provenance.head.as_bytes()));
    own("sketch", Value::Bool(provenance.sketch));
    metadata
}

/// Passes bytes on and takes their digest.
struct Digesting<'w> {
    out: &'w mut dyn Write,
    digest: Sha256,
}

impl Write for Digesting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn one(
    plan: &Plan<'_>,
    threads: usize,
    out: &mut dyn Write,
    step: &mut dyn FnMut(usize) -> Outcome,
) -> Outcome<Written> {
    if let Fate::Copied(_) = plan.fate {
        for piece in plan.source.data.chunks(COPIED_AT_ONCE) {
            out.write_all(piece).map_err(|e| Failure::new(Code::Io, reason(&e)))?;
            step(0)?;
        }
        return Ok(Written { drift: None, digest: None });
    }
    if let Fate::Kept(kept) = plan.fate {
        out.write_all(&numbers(kept)).map_err(|e| Failure::new(Code::Io, reason(&e)))?;
        return Ok(Written { drift: None, digest: None });
    }
    let read = |row: usize, values: &mut [f32]| plan.read(row, values);
    let rows = Rows { rows: plan.n_rows(), cols: plan.n_cols(), read: &read };
    let recoder = Recoder { ty: plan.ty, threads };
    if let Fate::Packed(_) = plan.fate {
        return Ok(Written { drift: Some(recoder.write(&rows, out, step)?), digest: None });
    }
    let mut out = Digesting { out, digest: Sha256::new() };
    if let Fate::Interleaved(_) = plan.fate {
        interleave(plan, threads, &mut out, step)?;
        return Ok(Written { drift: None, digest: Some(out.digest.finalize().into()) });
    }
    let drift = recoder.write(&rows, &mut out, step)?;
    Ok(Written { drift: Some(drift), digest: Some(out.digest.finalize().into()) })
}

/// The numbers of neurons as a tensor of F32 holds them: far below those that f32 cannot count.
fn numbers(kept: &[u32]) -> Vec<u8> {
    kept.iter().flat_map(|&k| (k as f32).to_le_bytes()).collect()
}

/// Bytes of a tensor copied between two looks at whether to go on.
const COPIED_AT_ONCE: usize = 16 << 20;

/// Groups of rows that a thread interleaves at a time.
const GROUPS: usize = 16;

/// Writes the rows of a matrix interleaved.
fn interleave(plan: &Plan<'_>, threads: usize, out: &mut dyn Write, step: &mut dyn FnMut(usize) -> Outcome) -> Outcome {
    let (from, to, cols) = (plan.source.ty, plan.ty, plan.source.cols());
    let bytes = |ty: QuantType| ty.row_bytes(cols).expect("whole blocks");
    let (row_bytes, group_bytes) = (bytes(from), bytes(to));
    let piece = row_bytes * to.lanes() * GROUPS;
    let one = |rows: &[u8]| {
        let mut groups = vec![0; rows.len().div_ceil(row_bytes * to.lanes()) * group_bytes];
        let pairs = rows.chunks(row_bytes * to.lanes()).zip(groups.chunks_exact_mut(group_bytes));
        pairs.for_each(|(rows, group)| from.interleave(rows, row_bytes, group));
        groups
    };
    for rows in plan.source.data.chunks(piece * threads.max(1)) {
        for groups in side_by_side(rows.chunks(piece), one) {
            out.write_all(&groups).map_err(|e| Failure::new(Code::Io, reason(&e)))?;
        }
        step(rows.len() / row_bytes * cols)?;
    }
    Ok(())
}

/// Compares `bytes`, read back from the disk, with what was meant.
fn verify(
    bytes: &[u8],
    gguf: &Gguf<'_>,
    plans: &[Plan<'_>],
    written: &[Written],
    provenance: &Provenance<'_>,
    verbosity: Verbosity,
) -> Outcome {
    let wrong = |what: &str| Failure::new(Code::Io, format!("{what} is not what was written; is the disk sound?"));
    let need = Gguf::index_bytes(bytes).map_err(|_| wrong("the file's header"))?;
    let mut index = crate::host::memory::Arena::reserve(need)?;
    let packed = Gguf::parse(bytes, &mut Carver::over(index.room())?).map_err(|_| wrong("the file's header"))?;
    let mut again = Metadata::default();
    packed.entries().iter().for_each(|e| again.value(e.key, &e.value));
    if again != metadata(gguf, provenance) || packed.tensors().len() != plans.len() {
        return Err(wrong("the file's header"));
    }
    let total = plans.iter().map(|p| p.elements()).sum();
    let mut progress = Progress::new("verifying", "weights", total, verbosity);
    let mut done = 0;
    for ((plan, written), tensor) in plans.iter().zip(written).zip(packed.tensors()) {
        let place =
            tensor.name == plan.name && tensor.dims[..tensor.n_dims as usize] == plan.dims() && tensor.ty == plan.ty;
        let sound = place
            && match (plan.fate, written.digest) {
                (Fate::Copied(_), _) => tensor.data == plan.source.data,
                (Fate::Kept(kept), _) => tensor.data == numbers(kept),
                (_, Some(digest)) => Sha256::digest(tensor.data)[..] == digest,
                (_, None) => same_weights(plan, &tensor.matrix().expect("a tensor of a parsed file")),
            };
        if !sound {
            return Err(wrong(plan.name));
        }
        done += plan.elements();
        progress.update(done);
        stop_if_interrupted()?;
    }
    // What trill cannot load must not get the name either.
    Model::load(&packed, &mut Carver::measure())?;
    Ok(())
}

/// Whether `packed` holds the weights that were meant.
fn same_weights(plan: &Plan<'_>, packed: &Matrix<'_>) -> bool {
    let (mut x, mut y) = (vec![0f32; packed.cols()], vec![0f32; packed.cols()]);
    (0..packed.rows()).all(|row| {
        plan.read(row, &mut x);
        packed.decode_row(row, &mut y);
        x == y
    })
}
