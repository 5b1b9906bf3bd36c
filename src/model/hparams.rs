//! The model's numbers, read from metadata and checked against [`crate::limits`] before anything is sized
//! by them.

use super::ModelError;
use super::arch::{self, ArchSpec, Scale};
use crate::error::{Name, Result};
use crate::gguf::{Gguf, Value};
use crate::limits;
use core::fmt::Write;

/// The model's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Hparams {
    /// The architecture.
    pub arch: &'static ArchSpec,
    /// The name the file uses for it.
    pub arch_name: &'static str,
    /// Layers.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward layer.
    pub n_ff: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key-value heads.
    pub n_head_kv: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the token embedding.
    pub n_vocab: usize,
    /// Context the model was trained for.
    pub context_train: usize,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Positions a windowed layer attends to, the current one included; 0: all.
    pub sliding_window: usize,
    /// Factor on attention scores.
    pub attention_scale: f32,
    /// Factor on token embeddings.
    pub embedding_scale: f32,
    /// Factor on what a layer adds to the residual stream.
    pub residual_scale: f32,
    /// Factor on logits.
    pub logit_scale: f32,
    /// Rotary embedding.
    pub rope: RopeHparams,
    /// Whether a layer adds a bias to its keys.
    pub key_bias: bool,
}

/// Numbers of the rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeHparams {
    /// Values of a head that are rotated.
    pub n_rot: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Base in layers with a sliding window.
    pub base_local: f32,
    /// Context before scaling.
    pub context_original: usize,
    /// Stretching of positions.
    pub scaling: RopeScaling,
    /// Factor on the rotated values, for scaled forms.
    pub attention_factor: f32,
}

/// How positions beyond the trained context are squeezed in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by the factor.
    Linear(f32),
    /// YaRN (arXiv 2309.00071): low frequencies divided by the factor, high ones kept.
    Yarn {
        /// Stretching factor.
        factor: f32,
        /// Rotations over the original context above which a frequency is kept.
        beta_fast: f32,
        /// Rotations below which it is divided.
        beta_slow: f32,
    },
    /// Per-frequency factors from the tensors `rope_factors_long` and `rope_factors_short`.
    LongRope,
}

/// Reads keys with the architecture's prefix.
pub(super) struct Keys<'g, 'a> {
    pub(super) gguf: &'g Gguf<'a>,
    pub(super) prefix: &'static str,
}

impl Keys<'_, '_> {
    fn key(&self, suffix: &str) -> heapless::String<128> {
        let mut key = heapless::String::new();
        // Prefix and suffix are constants that fit.
        let _ = write!(key, "{}.{suffix}", self.prefix);
        key
    }

    fn f32(&self, suffix: &'static str) -> Result<Option<f32>> {
        match self.gguf.f32(&self.key(suffix))? {
            Some(v) if !v.is_finite() => Err(ModelError::BadKey(suffix).into()),
            v => Ok(v),
        }
    }

    fn positive(&self, suffix: &'static str) -> Result<Option<f32>> {
        match self.f32(suffix)? {
            Some(v) if v <= 0.0 => Err(ModelError::BadKey(suffix).into()),
            v => Ok(v),
        }
    }

    /// A count from 1 to `max`. Some converters write one value per layer; all must agree.
    fn count(&self, suffix: &'static str, max: usize) -> Result<Option<usize>> {
        let key = self.key(suffix);
        let value = match self.gguf.value(&key) {
            Some(Value::Array(array)) => {
                let mut values = array.u32s().ok_or(ModelError::BadKey(suffix))?;
                let first = values.next().ok_or(ModelError::BadKey(suffix))?;
                if values.any(|v| v != first) {
                    return Err(ModelError::Unsupported("layers of different shapes are not supported").into());
                }
                Some(first)
            }
            _ => self.gguf.u32(&key)?,
        };
        match value.map(|v| v as usize) {
            Some(v) if v == 0 || v > max => Err(ModelError::BadKey(suffix).into()),
            v => Ok(v),
        }
    }

    fn need(&self, suffix: &'static str, max: usize) -> Result<usize> {
        self.count(suffix, max)?.ok_or_else(|| ModelError::MissingKey(suffix).into())
    }
}

impl Hparams {
    /// Reads and checks them. `n_vocab` comes from the shape of `token_embd.weight`.
    pub fn read(gguf: &Gguf<'_>) -> Result<Self> {
        let (arch, arch_name) = architecture(gguf)?;
        let k = Keys { gguf, prefix: arch_name };
        let n_layer = k.need("block_count", limits::LAYERS_MAX)?;
        let n_embd = k.need("embedding_length", limits::EMBED_MAX)?;
        let n_ff = k.need("feed_forward_length", limits::FFN_MAX)?;
        let n_head = k.need("attention.head_count", limits::HEADS_MAX)?;
        let n_head_kv = k.count("attention.head_count_kv", limits::HEADS_MAX)?.unwrap_or(n_head);
        if !n_head.is_multiple_of(n_head_kv) {
            return Err(ModelError::BadKey("attention.head_count_kv").into());
        }
        let head_dim = match k.count("attention.key_length", limits::HEAD_DIM_MAX)? {
            Some(v) => v,
            None if n_embd.is_multiple_of(n_head) && n_embd / n_head <= limits::HEAD_DIM_MAX => n_embd / n_head,
            None => return Err(ModelError::BadKey("attention.head_count").into()),
        };
        if head_dim % 2 != 0 || k.count("attention.value_length", limits::HEAD_DIM_MAX)?.is_some_and(|v| v != head_dim)
        {
            return Err(ModelError::BadKey("attention.value_length").into());
        }
        let context_train = k.count("context_length", usize::MAX)?.unwrap_or(2048).min(limits::CONTEXT_MAX);
        let eps = k.positive("attention.layer_norm_rms_epsilon")?;
        let scale = |s: Scale| match s {
            Scale::One => 1.0,
            Scale::Fixed(v) => v,
            Scale::SqrtEmbedding => libm::sqrtf(n_embd as f32),
            Scale::OverSqrtLayers(v) => v / libm::sqrtf(n_layer as f32),
            Scale::OverEmbedding(v) => v / n_embd as f32,
        };
        Ok(Hparams {
            arch,
            arch_name,
            n_layer,
            n_embd,
            n_ff,
            n_head,
            n_head_kv,
            head_dim,
            n_vocab: vocabulary(gguf)?,
            context_train,
            eps: eps.ok_or(ModelError::MissingKey("attention.layer_norm_rms_epsilon"))?,
            sliding_window: sliding_window(&k)?,
            attention_scale: k.positive("attention.scale")?.unwrap_or(1.0 / libm::sqrtf(head_dim as f32)),
            embedding_scale: k.f32("embedding_scale")?.unwrap_or_else(|| scale(arch.embedding_scale)),
            residual_scale: k.f32("residual_scale")?.unwrap_or_else(|| scale(arch.residual_scale)),
            // The file's key divides.
            logit_scale: k.positive("logit_scale")?.map_or_else(|| scale(arch.logit_scale), |v| 1.0 / v),
            rope: rope(&k, arch, head_dim, context_train)?,
            key_bias: gguf
                .tensors()
                .iter()
                .any(|t| t.name.ends_with(".attn_k.bias") || t.name.ends_with(".attn_qkv.bias")),
        })
    }

    /// Width of all query heads.
    pub fn q_dim(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Width of all key heads.
    pub fn kv_dim(&self) -> usize {
        self.n_head_kv * self.head_dim
    }

    /// Whether layer `i` attends through the sliding window.
    pub fn is_windowed(&self, i: usize) -> bool {
        self.sliding_window > 0 && (self.arch.global_every == 0 || !(i + 1).is_multiple_of(self.arch.global_every))
    }
}

fn architecture(gguf: &Gguf<'_>) -> Result<(&'static ArchSpec, &'static str)> {
    let name = gguf.str("general.architecture")?.ok_or(ModelError::NoArchitecture)?;
    let spec = arch::find(name).ok_or(ModelError::UnknownArchitecture(Name::new(name)))?;
    let name = spec.names.iter().copied().find(|n| *n == name).ok_or(ModelError::NoArchitecture)?;
    if gguf.value("prism.hadamard.version").is_some() {
        let why = "the file's weights are rotated (prism.hadamard.*) and trill does not apply that rotation; \
                   use the model's Q2_0 or Q1_0 file";
        return Err(ModelError::Unsupported(why).into());
    }
    Ok((spec, name))
}

fn vocabulary(gguf: &Gguf<'_>) -> Result<usize> {
    let name = super::TensorName { layer: None, name: "token_embd.weight" };
    let rows = gguf.tensor(name.name).ok_or(ModelError::MissingTensor(name))?.rows();
    if rows == 0 || rows > limits::VOCAB_MAX {
        return Err(ModelError::BadKey("vocab_size").into());
    }
    Ok(rows)
}

fn sliding_window(k: &Keys<'_, '_>) -> Result<usize> {
    match k.gguf.u32(&k.key("attention.sliding_window"))? {
        Some(v) if v as usize <= limits::CONTEXT_MAX => Ok(v as usize),
        Some(_) => Err(ModelError::BadKey("attention.sliding_window").into()),
        None => Ok(0),
    }
}

fn rope(k: &Keys<'_, '_>, arch: &ArchSpec, head_dim: usize, context_train: usize) -> Result<RopeHparams> {
    let n_rot = k.count("rope.dimension_count", head_dim)?.unwrap_or(head_dim);
    if n_rot % 2 != 0 {
        return Err(ModelError::BadKey("rope.dimension_count").into());
    }
    let base = k.positive("rope.freq_base")?.unwrap_or(10_000.0);
    let base_local = k.positive("rope.freq_base_swa")?.or(arch.rope_base_local).unwrap_or(base);
    let kind = k.gguf.str(&k.key("rope.scaling.type"))?;
    let factor = k.positive("rope.scaling.factor")?;
    let attention_factor = k.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
    let scaling = match (kind, factor) {
        (Some("none"), _) => RopeScaling::None,
        (Some("yarn"), Some(factor)) => RopeScaling::Yarn {
            factor,
            beta_fast: k.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: k.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        },
        (Some("longrope"), _) => RopeScaling::LongRope,
        (Some("linear") | None, Some(factor)) if factor != 1.0 => RopeScaling::Linear(factor),
        (Some("linear") | None, _) => match k.gguf.tensor("rope_factors_long.weight") {
            Some(_) => RopeScaling::LongRope,
            None => RopeScaling::None,
        },
        (Some(_), _) => return Err(ModelError::BadKey("rope.scaling.type").into()),
    };
    let context_original = k.count("rope.scaling.original_context_length", usize::MAX)?.unwrap_or(context_train);
    Ok(RopeHparams { n_rot, base, base_local, context_original, scaling, attention_factor })
}
