//! Which tensors the GGUF gets, from which tensors of the folder, and how their rows are read.

use super::config::{Config, Ternary};
use super::tensors::{Kind, Stored, Tensors};
use crate::exit::{Code, Failure, Outcome};
use std::collections::HashSet;
use trill::quant::QuantType;

/// The mean magnitude that float masters are divided by is at least this.
const MEAN_MIN: f32 = 1e-5;

/// A tensor to be written.
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Whether it is a matrix; vectors have one dimension and are always F32.
    pub(crate) matrix: bool,
    pub(crate) ty: QuantType,
    source: Source,
}

/// Where its values come from.
enum Source {
    /// As they are; `heads`, if not 0, counts the heads whose rows are re-ordered (see [`permuted`]).
    Floats { stored: Stored, heads: usize },
    /// Four ternary codes in a byte, a quarter of the rows apart: transformers' offline format.
    Packed { stored: Stored, scale: f32, heads: usize },
    /// Float masters that are rounded to -1, 0, 1 times their mean magnitude.
    Masters { stored: Stored, heads: usize },
    /// Computed from the configuration.
    Computed(Vec<f32>),
}

/// Reads an output's rows.
pub(crate) struct Weights<'a> {
    tensors: &'a Tensors,
    output: &'a Output,
    /// Magnitude of ternary weights.
    scale: f32,
}

/// The tensors of a layer: name in GGUF, name in the folder, whether it is a matrix, whether it must be there.
const LAYER: &[(&str, &str, bool, bool)] = &[
    ("attn_norm", "input_layernorm", false, true),
    ("attn_q", "self_attn.q_proj", true, true),
    ("attn_k", "self_attn.k_proj", true, true),
    ("attn_v", "self_attn.v_proj", true, true),
    ("attn_output", "self_attn.o_proj", true, true),
    ("attn_q_norm", "self_attn.q_norm", false, false),
    ("attn_k_norm", "self_attn.k_norm", false, false),
    ("attn_sub_norm", "self_attn.attn_sub_norm", false, false),
    ("ffn_norm", "post_attention_layernorm", false, true),
    ("ffn_gate", "mlp.gate_proj", true, true),
    ("ffn_up", "mlp.up_proj", true, true),
    ("ffn_down", "mlp.down_proj", true, true),
    ("ffn_sub_norm", "mlp.ffn_sub_norm", false, false),
];
/// Names of some tensors in 1bitLLM's folders.
const OTHER_NAMES: &[(&str, &str)] =
    &[("self_attn.attn_sub_norm", "self_attn.inner_attn_ln"), ("mlp.ffn_sub_norm", "mlp.ffn_layernorm")];

struct Planner<'a> {
    config: &'a Config,
    tensors: &'a Tensors,
    used: HashSet<String>,
    outputs: Vec<Output>,
}

/// Every tensor of the GGUF, in file order. Each tensor of the folder must have found its place.
pub(crate) fn outputs(config: &Config, tensors: &Tensors) -> Outcome<Vec<Output>> {
    let mut p = Planner { config, tensors, used: HashSet::new(), outputs: Vec::new() };
    p.matrix("token_embd", "model.embed_tokens", config.vocab, config.hidden, false)?;
    for i in 0..config.layers {
        for &(gguf, folder, matrix, needed) in LAYER {
            let at = |part: &str| format!("model.layers.{i}.{part}");
            let other = OTHER_NAMES.iter().find(|n| n.0 == folder).map(|n| at(n.1));
            let from = other.filter(|n| p.has(n)).unwrap_or_else(|| at(folder));
            if !needed && !p.has(&from) {
                continue;
            }
            let name = format!("blk.{i}.{gguf}");
            let (rows, cols) = shape(config, gguf);
            if matrix {
                p.matrix(&name, &from, rows, cols, true)?;
                p.bias(&name, &from, rows)?;
            } else {
                p.vector(&name, &format!("{from}.weight"), "weight", cols)?;
            }
        }
    }
    p.vector("output_norm", "model.norm.weight", "weight", config.hidden)?;
    if config.tied {
        p.used.insert("lm_head.weight".to_owned());
    } else {
        p.matrix("output", "lm_head", config.vocab, config.hidden, false)?;
    }
    if let Some(divisors) = config.rope_divisors()? {
        p.push("rope_freqs.weight".to_owned(), [1, divisors.len()], false, QuantType::F32, Source::Computed(divisors));
    }
    // Computed anew by every engine.
    let left = |n: &&str| !p.used.contains(*n) && !n.ends_with("rotary_emb.inv_freq");
    match tensors.names().filter(left).min() {
        Some(name) => Err(Failure::new(Code::Data, format!("tensor '{name}' has no place in {}", config.arch))),
        None => Ok(p.outputs),
    }
}

/// Rows and columns of a layer's tensor.
fn shape(c: &Config, gguf: &str) -> (usize, usize) {
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    match gguf {
        "attn_q" => (q, c.hidden),
        "attn_k" | "attn_v" => (kv, c.hidden),
        "attn_output" => (c.hidden, q),
        "ffn_gate" | "ffn_up" => (c.ffn, c.hidden),
        "ffn_down" => (c.hidden, c.ffn),
        "attn_q_norm" | "attn_k_norm" => (1, c.head_dim),
        "attn_sub_norm" => (1, q),
        "ffn_sub_norm" => (1, c.ffn),
        _ => (1, c.hidden),
    }
}

impl Planner<'_> {
    fn has(&self, from: &str) -> bool {
        self.tensors.get(&format!("{from}.weight")).is_some()
    }

    fn push(&mut self, name: String, [rows, cols]: [usize; 2], matrix: bool, ty: QuantType, source: Source) {
        self.outputs.push(Output { name, rows, cols, matrix, ty, source });
    }

    fn take(&mut self, from: &str) -> Outcome<Stored> {
        let stored = self.tensors.get(from).cloned();
        self.used.insert(from.to_owned());
        stored.ok_or_else(|| Failure::new(Code::Data, format!("tensor '{from}' is missing")))
    }

    fn expect(from: &str, stored: &Stored, want: [usize; 2]) -> Outcome {
        if stored.shape == want {
            return Ok(());
        }
        let [rows, cols] = stored.shape;
        Err(Failure::new(
            Code::Data,
            format!("tensor '{from}' is {rows} x {cols} where config.json asks for {} x {}", want[0], want[1]),
        ))
    }

    fn vector(&mut self, name: &str, from: &str, suffix: &str, len: usize) -> Outcome {
        let stored = self.take(from)?;
        Self::expect(from, &stored, [1, len])?;
        let heads = if suffix == "bias" { self.heads(name) } else { 0 };
        self.push(format!("{name}.{suffix}"), [1, len], false, QuantType::F32, Source::Floats { stored, heads });
        Ok(())
    }

    fn bias(&mut self, name: &str, from: &str, len: usize) -> Outcome {
        let from = format!("{from}.bias");
        if self.tensors.get(&from).is_some() { self.vector(name, &from, "bias", len) } else { Ok(()) }
    }

    /// Heads whose rows llama's GGUF orders for interleaved rotation: those of queries and keys.
    fn heads(&self, name: &str) -> usize {
        match name.rsplit('.').next() {
            Some("attn_q") if self.config.arch == "llama" => self.config.heads,
            Some("attn_k") if self.config.arch == "llama" => self.config.kv_heads,
            _ => 0,
        }
    }

    fn matrix(&mut self, name: &str, from: &str, rows: usize, cols: usize, of_layer: bool) -> Outcome {
        let (weight, heads) = (format!("{from}.weight"), self.heads(name));
        let stored = self.take(&weight)?;
        let ternary = if of_layer { self.config.ternary } else { Ternary::No };
        let (ty, source) = if stored.kind == Kind::U8 {
            let scale = self.scale(from, ternary)?;
            Self::expect(&weight, &stored, [rows.div_ceil(4), cols])?;
            if !rows.is_multiple_of(4) {
                return Err(Failure::new(
                    Code::Data,
                    format!("tensor '{weight}' packs {rows} rows, not a multiple of 4"),
                ));
            }
            (ternary_type(cols), Source::Packed { stored, scale, heads })
        } else {
            Self::expect(&weight, &stored, [rows, cols])?;
            match ternary {
                Ternary::No => (same_type(stored.kind), Source::Floats { stored, heads }),
                _ => (ternary_type(cols), Source::Masters { stored, heads }),
            }
        };
        self.push(format!("{name}.weight"), [rows, cols], true, ty, source);
        Ok(())
    }

    /// What packed codes are multiplied by.
    fn scale(&mut self, from: &str, ternary: Ternary) -> Outcome<f32> {
        let name = format!("{from}.weight_scale");
        let stored = self.take(&name)?;
        Self::expect(&name, &stored, [1, 1])?;
        let mut scale = [0.0];
        self.tensors.floats(&stored, 0, &mut Vec::new(), &mut scale)?;
        let scale = match ternary {
            Ternary::Divide => 1.0 / scale[0],
            Ternary::Multiply => scale[0],
            Ternary::No => {
                let what = format!("'{from}.weight' is packed, but config.json names no quantization");
                return Err(Failure::new(Code::Data, what));
            }
        };
        if scale.is_finite() && scale != 0.0 {
            Ok(scale)
        } else {
            Err(Failure::new(Code::Data, format!("'{name}' is not a scale")))
        }
    }
}

/// I2_S where its blocks fit.
fn ternary_type(cols: usize) -> QuantType {
    if cols.is_multiple_of(QuantType::I2_S.info().block) { QuantType::I2_S } else { QuantType::F16 }
}

fn same_type(kind: Kind) -> QuantType {
    match kind {
        Kind::F32 => QuantType::F32,
        Kind::F16 => QuantType::F16,
        Kind::Bf16 | Kind::U8 => QuantType::BF16,
    }
}

/// The row of the folder's tensor, of `rows` rows, that becomes row `row`. transformers rotates the first half
/// of a head against its second half, GGUF's `llama` rotates neighbours: row `2 j + i` of a head was row
/// `i * half + j`.
fn permuted(heads: usize, rows: usize, row: usize) -> usize {
    if heads == 0 {
        return row;
    }
    let dim = rows / heads;
    let (head, within) = (row / dim, row % dim);
    head * dim + within % 2 * (dim / 2) + within / 2
}

impl<'a> Weights<'a> {
    /// Prepares to read `output`; masters are read once to find their mean magnitude.
    pub(crate) fn new(tensors: &'a Tensors, output: &'a Output) -> Outcome<Self> {
        let scale = match &output.source {
            Source::Packed { scale, .. } => *scale,
            Source::Masters { stored, .. } => mean_magnitude(tensors, stored)?.max(MEAN_MIN),
            _ => 1.0,
        };
        Ok(Weights { tensors, output, scale })
    }

    /// Puts row `row` into `out`.
    pub(crate) fn read(&self, row: usize, bytes: &mut Vec<u8>, out: &mut [f32]) -> Outcome {
        let rows = self.output.rows;
        match &self.output.source {
            Source::Computed(values) => out.copy_from_slice(values),
            Source::Floats { stored, heads } if self.output.matrix => {
                self.tensors.floats(stored, permuted(*heads, rows, row), bytes, out)?;
            }
            Source::Floats { stored, heads } => {
                // A vector's elements stand where a matrix has its rows.
                let mut plain = vec![0.0; out.len()];
                self.tensors.floats(stored, 0, bytes, &mut plain)?;
                out.iter_mut().enumerate().for_each(|(i, v)| *v = plain[permuted(*heads, plain.len(), i)]);
            }
            Source::Packed { stored, heads, .. } => {
                let row = permuted(*heads, rows, row);
                let quarter = stored.shape[0];
                self.tensors.row(stored, row % quarter, bytes)?;
                let shift = 2 * (row / quarter);
                for (v, b) in out.iter_mut().zip(&*bytes) {
                    *v = (f32::from(b >> shift & 3) - 1.0) * self.scale;
                }
            }
            Source::Masters { stored, heads } => {
                self.tensors.floats(stored, permuted(*heads, rows, row), bytes, out)?;
                let inverse = 1.0 / self.scale;
                out.iter_mut().for_each(|v| *v = (*v * inverse).round_ties_even().clamp(-1.0, 1.0) * self.scale);
            }
        }
        Ok(())
    }
}

fn mean_magnitude(tensors: &Tensors, stored: &Stored) -> Outcome<f32> {
    let [rows, cols] = stored.shape;
    let (mut bytes, mut values, mut sum) = (Vec::new(), vec![0.0; cols], 0f64);
    for row in 0..rows {
        tensors.floats(stored, row, &mut bytes, &mut values)?;
        sum += values.iter().map(|v| f64::from(v.abs())).sum::<f64>();
    }
    Ok((sum / (rows * cols) as f64) as f32)
}
