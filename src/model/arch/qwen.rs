//! Qwen2 (biases on queries, keys and values) and Qwen3 (a norm on each query and key head; Bonsai).

use super::{ArchSpec, BASE, QkNorm};

pub(super) static QWEN2: ArchSpec = ArchSpec { names: &["qwen2"], ..BASE };

pub(super) static QWEN3: ArchSpec = ArchSpec { names: &["qwen3"], qk_norm: QkNorm::BeforeRope, ..BASE };
