//! The architectures, one constant each. What they have in common is `forward.rs`; what differs is
//! a field here.

use crate::kernels::Activation;

mod bitnet;
mod gemma3;
mod hunyuan;
mod llama;
mod minicpm;
mod phi3;
mod qwen;

/// Every architecture.
pub static ALL: &[&ArchSpec] = &[
    &llama::LLAMA,
    &bitnet::BITNET_B158,
    &bitnet::BITNET,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &phi3::PHI3,
    &gemma3::GEMMA3,
    &hunyuan::HUNYUAN_DENSE,
    &minicpm::MINICPM,
];

/// The architecture called `name` in `general.architecture`.
pub fn find(name: &str) -> Option<&'static ArchSpec> {
    ALL.iter().copied().find(|s| s.names.contains(&name))
}

/// What makes one decoder architecture different from the others.
#[derive(Debug)]
pub struct ArchSpec {
    /// Values of `general.architecture`; each is also the prefix of its keys.
    pub names: &'static [&'static str],
    /// Gate of the feed-forward layer.
    pub activation: Activation,
    /// Pairs rotated by RoPE: `(j, j + n/2)` if true, else `(2j, 2j + 1)`.
    pub rope_neox: bool,
    /// Base of RoPE in layers with a sliding window, if it differs.
    pub rope_base_local: Option<f32>,
    /// Norm of each query and key head.
    pub qk_norm: QkNorm,
    /// `attn_sub_norm` before the attention output matrix and `ffn_sub_norm` before the down matrix.
    pub sub_norms: bool,
    /// `post_attention_norm` and `post_ffw_norm` before the residual additions.
    pub post_norms: bool,
    /// `attn_qkv` in place of `attn_q`, `attn_k`, `attn_v`.
    pub fused_qkv: bool,
    /// `ffn_up` holds the gate's rows, then the up rows.
    pub fused_gate_up: bool,
    /// The output matrix is always the token embedding, even if the file holds an `output.weight`.
    pub always_tied: bool,
    /// Optional one-element `.scale` tensors multiply a matrix's results.
    pub scale_tensors: bool,
    /// Factor on token embeddings when the file does not say.
    pub embedding_scale: Scale,
    /// Factor on what a layer adds to the residual stream when the file does not say.
    pub residual_scale: Scale,
    /// Factor on logits when the file does not say.
    pub logit_scale: Scale,
    /// Of every `n` layers the last attends to everything, the others through the sliding window. 0: all
    /// layers use the window if the file names one.
    pub global_every: usize,
}

/// Where the norm of query and key heads stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// There is none.
    None,
    /// Before RoPE.
    BeforeRope,
    /// After RoPE.
    AfterRope,
}

/// A factor derived from the model's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// 1.
    One,
    /// A constant.
    Fixed(f32),
    /// Square root of the embedding width.
    SqrtEmbedding,
    /// A constant over the square root of the number of layers.
    OverSqrtLayers(f32),
    /// A constant over the embedding width.
    OverEmbedding(f32),
}

/// What most architectures share: the plain Llama decoder.
const BASE: ArchSpec = ArchSpec {
    names: &[],
    activation: Activation::Silu,
    rope_neox: true,
    rope_base_local: None,
    qk_norm: QkNorm::None,
    sub_norms: false,
    post_norms: false,
    fused_qkv: false,
    fused_gate_up: false,
    always_tied: false,
    scale_tensors: false,
    embedding_scale: Scale::One,
    residual_scale: Scale::One,
    logit_scale: Scale::One,
    global_every: 0,
};
