//! MiniCPM (BitCPM4): Llama with three constant factors. The defaults are those of the original 2B model,
//! whose files do not carry them.

use super::{ArchSpec, BASE, Scale};

pub(super) static MINICPM: ArchSpec = ArchSpec {
    names: &["minicpm"],
    rope_neox: false,
    embedding_scale: Scale::Fixed(12.0),
    residual_scale: Scale::OverSqrtLayers(1.4),
    logit_scale: Scale::OverEmbedding(256.0),
    ..BASE
};
