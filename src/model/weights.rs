//! The weights, as views of the file with checked shapes. Matrices stay where they are; vectors (norms,
//! biases, factors) are small and are copied to f32.

use super::hparams::Hparams;
use super::{ArchSpec, ModelError, TensorName};
use crate::error::{Name, Result};
use crate::gguf::{Gguf, TensorInfo};
use crate::kernels::Activation;
use crate::mem::Carver;
use crate::model::arch::QkNorm;
use crate::quant::{Matrix, QuantType};
use core::fmt::Write;

/// Name of the tensor that sketches the output head; `trill pack` writes it.
pub const SKETCH_NAME: &str = "trill.head_sketch.weight";

/// What comes after `blk.N.` in the name of the tensor that numbers a layer's kept neurons, see [`Layer::ffn_kept`].
pub const FFN_KEPT: &str = "ffn_kept.weight";

/// A model: hyper-parameters and weights. Shapes are `rows x cols` = outputs x inputs.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// The numbers.
    pub hparams: Hparams,
    /// Token embedding, `n_vocab x n_embd`.
    pub embedding: Matrix<'a>,
    /// Output head, `n_vocab x n_embd`; the embedding itself where the model ties them.
    pub output: Matrix<'a>,
    /// A sketch of the output head in two bits ([`SKETCH_NAME`]), `n_vocab x n_embd`, where the file has one.
    pub sketch: Option<Matrix<'a>>,
    /// Norm before the head, `n_embd`.
    pub output_norm: &'a [f32],
    /// The layers; empty when the model was only measured.
    pub layers: &'a [Layer<'a>],
    /// Per-frequency divisors of RoPE (`rope_freqs`), `n_rot / 2` or empty.
    pub rope_freqs: &'a [f32],
    /// Divisors for contexts beyond the original one (`rope_factors_long`), `n_rot / 2` or empty.
    pub rope_long: &'a [f32],
    /// Divisors for contexts within it, `n_rot / 2` or empty.
    pub rope_short: &'a [f32],
}

/// One decoder layer. Absent vectors are empty.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// `n_embd`.
    pub attn_norm: &'a [f32],
    /// Queries, keys, values: `q_dim`, `kv_dim`, `kv_dim` rows; or one matrix with all rows in that order.
    pub qkv: [Matrix<'a>; 3],
    /// `q_dim + 2 * kv_dim`, or empty.
    pub qkv_bias: &'a [f32],
    /// `head_dim`, or empty.
    pub q_norm: &'a [f32],
    /// `head_dim`, or empty.
    pub k_norm: &'a [f32],
    /// `q_dim`, or empty.
    pub attn_sub_norm: &'a [f32],
    /// `n_embd x q_dim`.
    pub wo: Matrix<'a>,
    /// `n_embd`, or empty.
    pub wo_bias: &'a [f32],
    /// `n_embd`, or empty.
    pub post_attn_norm: &'a [f32],
    /// `n_embd`.
    pub ffn_norm: &'a [f32],
    /// The neurons that the three feed-forward matrices have, ascending; empty: all `n_ff`. `trill pack` leaves out those
    /// that can be nothing but zero. The norm below is over all.
    pub ffn_kept: &'a [u32],
    /// Gate and up, `n_ff` rows each; or one matrix with all rows in that order.
    pub gate_up: [Matrix<'a>; 2],
    /// `n_ff`, or empty.
    pub ffn_sub_norm: &'a [f32],
    /// `n_embd x n_ff`.
    pub down: Matrix<'a>,
    /// `n_embd`, or empty.
    pub post_ffn_norm: &'a [f32],
    /// Factors on the results of q, k, v, attention output, gate, up, down (`.scale` tensors).
    pub scales: [f32; 7],
}

impl Layer<'_> {
    const EMPTY: Layer<'static> = Layer {
        attn_norm: &[],
        qkv: [Matrix::EMPTY; 3],
        qkv_bias: &[],
        q_norm: &[],
        k_norm: &[],
        attn_sub_norm: &[],
        wo: Matrix::EMPTY,
        wo_bias: &[],
        post_attn_norm: &[],
        ffn_norm: &[],
        ffn_kept: &[],
        gate_up: [Matrix::EMPTY; 2],
        ffn_sub_norm: &[],
        down: Matrix::EMPTY,
        post_ffn_norm: &[],
        scales: [1.0; 7],
    };

    /// The matrices that make queries, keys and values, in order.
    pub fn qkv_parts(&self) -> &[Matrix<'_>] {
        if self.qkv[1].rows() == 0 { &self.qkv[..1] } else { &self.qkv }
    }

    /// The matrices that make gate and up, in order.
    pub fn gate_up_parts(&self) -> &[Matrix<'_>] {
        if self.gate_up[1].rows() == 0 { &self.gate_up[..1] } else { &self.gate_up }
    }
}

impl<'a> Model<'a> {
    /// Checks the file against its architecture and makes the views. Every tensor must be there with the
    /// exact shape, and a tensor that the architecture does not know is refused: ignoring it would
    /// compute something else. With a measuring carver only the memory is counted.
    pub fn load(gguf: &Gguf<'a>, carver: &mut Carver<'a>) -> Result<Self> {
        let hp = Hparams::read(gguf)?;
        let mut l = Loader { gguf, carver, layer: None, used: 0 };
        let embedding = l.matrix("token_embd.weight", hp.n_vocab, hp.n_embd)?;
        let output_norm = l.vector("output_norm.weight", hp.n_embd)?;
        let separate = l.optional_matrix("output.weight", hp.n_vocab, hp.n_embd)?;
        let output = separate.filter(|_| !hp.arch.always_tied).unwrap_or(embedding);
        let sketch = l.optional_matrix(SKETCH_NAME, hp.n_vocab, hp.n_embd)?;
        if sketch.is_some_and(|s| s.ty() != QuantType::S2) {
            return Err(ModelError::Unsupported("the sketch of the output head is not of type S2").into());
        }
        // Screening takes single rows of the head.
        let sketch = sketch.filter(|_| output.ty().lanes() == 1);
        let half = hp.rope.n_rot / 2;
        let rope_freqs = l.optional_vector("rope_freqs.weight", half)?;
        let rope_long = l.optional_vector("rope_factors_long.weight", half)?;
        let rope_short = l.optional_vector("rope_factors_short.weight", half)?;
        let layers = l.carver.take(hp.n_layer, Layer::EMPTY)?;
        for i in 0..hp.n_layer {
            l.layer = Some(i);
            let layer = l.layer(&hp)?;
            if let Some(slot) = layers.get_mut(i) {
                *slot = layer;
            }
        }
        l.refuse_unknown(hp.arch)?;
        Ok(Model { hparams: hp, embedding, output, sketch, output_norm, layers, rope_freqs, rope_long, rope_short })
    }
}

/// Bytes of weights that computing one token reads, by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamBytes {
    /// Queries, keys, values and attention output of all layers.
    pub attention: usize,
    /// Gate, up and down of all layers.
    pub feed_forward: usize,
    /// The whole output head.
    pub head: usize,
    /// The head's sketch, read in place of most of the head where it serves.
    pub sketch: usize,
}

impl Model<'_> {
    /// What one token streams from memory.
    pub fn stream_bytes(&self) -> StreamBytes {
        let sum = |parts: &[Matrix<'_>]| parts.iter().map(|m| m.bytes()).sum::<usize>();
        StreamBytes {
            attention: self.layers.iter().map(|l| sum(&l.qkv) + sum(&[l.wo])).sum(),
            feed_forward: self.layers.iter().map(|l| sum(&l.gate_up) + sum(&[l.down])).sum(),
            head: sum(&[self.output]),
            sketch: self.sketch.map_or(0, |s| s.bytes()),
        }
    }
}

struct Loader<'g, 'a> {
    gguf: &'g Gguf<'a>,
    carver: &'g mut Carver<'a>,
    layer: Option<usize>,
    /// Tensors of the file that were asked for and found.
    used: usize,
}

impl<'a> Loader<'_, 'a> {
    fn layer(&mut self, hp: &Hparams) -> Result<Layer<'a>> {
        let spec = hp.arch;
        let (e, q, kv, ff) = (hp.n_embd, hp.q_dim(), hp.kv_dim(), hp.n_ff);
        let none = Matrix::EMPTY;
        let qk_norm = if spec.qk_norm == QkNorm::None { 0 } else { hp.head_dim };
        let post = if spec.post_norms { e } else { 0 };
        let (sub_q, sub_ff) = if spec.sub_norms { (q, ff) } else { (0, 0) };
        let qkv = if spec.fused_qkv {
            [self.matrix("attn_qkv.weight", q + 2 * kv, e)?, none, none]
        } else {
            [
                self.matrix("attn_q.weight", q, e)?,
                self.matrix("attn_k.weight", kv, e)?,
                self.matrix("attn_v.weight", kv, e)?,
            ]
        };
        let (kept, ffn_kept) = self.ffn_kept(hp)?;
        let gate_up = if spec.fused_gate_up {
            [self.matrix("ffn_up.weight", 2 * ff, e)?, none]
        } else {
            [self.matrix("ffn_gate.weight", kept, e)?, self.matrix("ffn_up.weight", kept, e)?]
        };
        Ok(Layer {
            attn_norm: self.vector("attn_norm.weight", e)?,
            qkv,
            qkv_bias: self.qkv_bias(hp)?,
            q_norm: self.vector("attn_q_norm.weight", qk_norm)?,
            k_norm: self.vector("attn_k_norm.weight", qk_norm)?,
            attn_sub_norm: self.vector("attn_sub_norm.weight", sub_q)?,
            wo: self.matrix("attn_output.weight", e, q)?,
            wo_bias: self.optional_vector("attn_output.bias", e)?,
            post_attn_norm: self.vector("post_attention_norm.weight", post)?,
            ffn_norm: self.vector("ffn_norm.weight", e)?,
            ffn_kept,
            gate_up,
            ffn_sub_norm: self.vector("ffn_sub_norm.weight", sub_ff)?,
            down: self.matrix("ffn_down.weight", e, kept)?,
            post_ffn_norm: self.vector("post_ffw_norm.weight", post)?,
            scales: self.scales(spec)?,
        })
    }

    fn find(&mut self, name: &'static str) -> Option<&'a TensorInfo<'a>> {
        let found = match self.layer {
            None => self.gguf.tensor(name),
            Some(i) => {
                let mut full = heapless::String::<64>::new();
                // The longest name is under 40 bytes.
                let _ = write!(full, "blk.{i}.{name}");
                self.gguf.tensor(&full)
            }
        };
        self.used += usize::from(found.is_some());
        found
    }

    fn name(&self, name: &'static str) -> TensorName {
        TensorName { layer: self.layer, name }
    }

    fn optional_matrix(&mut self, name: &'static str, rows: usize, cols: usize) -> Result<Option<Matrix<'a>>> {
        let Some(tensor) = self.find(name) else { return Ok(None) };
        let got = (tensor.cols(), tensor.rows());
        let shape = ModelError::TensorShape { tensor: self.name(name), want: (cols, rows), got };
        // Measuring must not read weights: the file may not be in memory yet.
        let matrix = if self.carver.is_measuring() {
            Matrix::unread(tensor.ty, tensor.rows(), tensor.cols())
        } else {
            tensor.matrix()
        };
        match matrix {
            Some(m) if got == (cols, rows) => Ok(Some(m)),
            _ => Err(shape.into()),
        }
    }

    fn matrix(&mut self, name: &'static str, rows: usize, cols: usize) -> Result<Matrix<'a>> {
        self.optional_matrix(name, rows, cols)?.ok_or_else(|| ModelError::MissingTensor(self.name(name)).into())
    }

    /// A vector of `len` values; an empty one if the architecture has none (`len` 0).
    fn vector(&mut self, name: &'static str, len: usize) -> Result<&'a [f32]> {
        if len == 0 {
            return Ok(&[]);
        }
        let m = self.matrix(name, 1, len)?;
        let out = self.carver.take(len, 0f32)?;
        m.decode_row(0, out);
        Ok(out)
    }

    fn optional_vector(&mut self, name: &'static str, len: usize) -> Result<&'a [f32]> {
        let there = self.find(name).is_some();
        self.used -= usize::from(there);
        if there { self.vector(name, len) } else { Ok(&[]) }
    }

    /// How many neurons a layer has, and which if not all. Only zeros of a squared ReLU may be left out.
    fn ffn_kept(&mut self, hp: &Hparams) -> Result<(usize, &'a [u32])> {
        let relu2 = hp.arch.activation == Activation::Relu2;
        let Some(tensor) = self.find(FFN_KEPT).filter(|_| relu2) else { return Ok((hp.n_ff, &[])) };
        self.used -= 1;
        let count = tensor.cols();
        let numbers = self.vector(FFN_KEPT, count.min(hp.n_ff))?;
        let kept = self.carver.take(count.min(hp.n_ff), 0u32)?;
        let mut least = 0;
        for (to, v) in kept.iter_mut().zip(numbers) {
            *to = *v as u32; // saturates; compared with what it was
            if *to < least || *to as usize >= hp.n_ff || *to as f32 != *v {
                let tensor = self.name(FFN_KEPT);
                return Err(ModelError::Damaged { tensor, what: "neurons out of order" }.into());
            }
            least = *to + 1;
        }
        Ok((count, kept))
    }

    fn qkv_bias(&mut self, hp: &Hparams) -> Result<&'a [f32]> {
        if hp.arch.fused_qkv {
            return self.optional_vector("attn_qkv.bias", hp.q_dim() + 2 * hp.kv_dim());
        }
        let parts = [("attn_q.bias", hp.q_dim()), ("attn_k.bias", hp.kv_dim()), ("attn_v.bias", hp.kv_dim())];
        let mut found = [None; 3];
        for (slot, (name, len)) in found.iter_mut().zip(parts) {
            *slot = self.optional_matrix(name, 1, len)?;
        }
        if found.iter().all(Option::is_none) {
            return Ok(&[]);
        }
        let out = self.carver.take(hp.q_dim() + 2 * hp.kv_dim(), 0f32)?;
        let mut rest = &mut out[..];
        for (bias, (_, len)) in found.iter().zip(parts) {
            let (now, later) = rest.split_at_mut(len.min(rest.len()));
            rest = later;
            if let Some(m) = bias {
                m.decode_row(0, now);
            }
        }
        Ok(out)
    }

    fn scales(&mut self, spec: &ArchSpec) -> Result<[f32; 7]> {
        const NAMES: [&str; 7] = [
            "attn_q.scale",
            "attn_k.scale",
            "attn_v.scale",
            "attn_output.scale",
            "ffn_gate.scale",
            "ffn_up.scale",
            "ffn_down.scale",
        ];
        let mut scales = [1.0; 7];
        if spec.scale_tensors {
            for (scale, name) in scales.iter_mut().zip(NAMES) {
                if let Some(m) = self.optional_matrix(name, 1, 1)?.filter(|_| !self.carver.is_measuring()) {
                    m.decode_row(0, core::slice::from_mut(scale));
                }
            }
        }
        Ok(scales)
    }

    /// All tensors must have been asked for; otherwise names the first whose last part is strange to us.
    fn refuse_unknown(&self, spec: &ArchSpec) -> Result<()> {
        if self.used == self.gguf.tensors().len() {
            return Ok(());
        }
        let strange = |t: &&TensorInfo<'_>| {
            let global = ["token_embd.weight", "output_norm.weight", "output.weight"].contains(&t.name)
                || t.name.starts_with("rope_");
            let part = t.name.strip_prefix("blk.").and_then(|r| r.split_once('.')).map(|(_, part)| part);
            let known = part.is_some_and(|p| {
                let plain = [
                    "attn_norm",
                    "attn_q",
                    "attn_k",
                    "attn_v",
                    "attn_output",
                    "ffn_norm",
                    "ffn_gate",
                    "ffn_up",
                    "ffn_down",
                ];
                let base = p.rsplit_once('.').map_or(p, |(base, _)| base);
                plain.contains(&base)
                    || spec.sub_norms && ["attn_sub_norm", "ffn_sub_norm"].contains(&base)
                    || spec.qk_norm != QkNorm::None && ["attn_q_norm", "attn_k_norm"].contains(&base)
                    || spec.post_norms && ["post_attention_norm", "post_ffw_norm"].contains(&base)
            });
            !global && !known
        };
        let tensors = self.gguf.tensors();
        let name = tensors.iter().find(strange).or(tensors.last()).map_or("", |t| t.name);
        Err(ModelError::UnknownTensor(Name::new(name)).into())
    }
}
