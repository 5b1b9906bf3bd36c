//! Gemma 3 (text): norms before and after both halves of a layer, GELU gate, embeddings scaled by the
//! square root of their width, five sliding-window layers with their own RoPE base to each global one.

use super::{ArchSpec, BASE, QkNorm, Scale};
use crate::kernels::Activation;

pub(super) static GEMMA3: ArchSpec = ArchSpec {
    names: &["gemma3"],
    activation: Activation::Gelu,
    rope_base_local: Some(10_000.0),
    qk_norm: QkNorm::BeforeRope,
    post_norms: true,
    embedding_scale: Scale::SqrtEmbedding,
    global_every: 6,
    ..BASE
};
