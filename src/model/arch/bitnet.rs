//! BitNet b1.58. Two forms under three names: microsoft/bitnet-b1.58-2B-4T squares a ReLU in its gate
//! (`bitnet-b1.58`; its first upload said `bitnet-25`), the older 1bitLLM models use SiLU (`bitnet`).
//! Both norm the inputs of the attention output and down matrices, and use the embedding as head.

use super::{ArchSpec, BASE};
use crate::kernels::Activation;

pub(super) static BITNET_B158: ArchSpec = ArchSpec {
    names: &["bitnet-b1.58", "bitnet-25"],
    activation: Activation::Relu2,
    sub_norms: true,
    always_tied: true,
    scale_tensors: true,
    ..BASE
};

pub(super) static BITNET: ArchSpec =
    ArchSpec { names: &["bitnet"], sub_norms: true, always_tied: true, scale_tensors: true, ..BASE };
