//! Phi-3: fused matrices, long-RoPE factors, a sliding window on every layer.

use super::{ArchSpec, BASE};

pub(super) static PHI3: ArchSpec = ArchSpec { names: &["phi3"], fused_qkv: true, fused_gate_up: true, ..BASE };
