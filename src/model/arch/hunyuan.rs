//! Hunyuan dense (Hy-MT): query and key heads are normed after RoPE.

use super::{ArchSpec, BASE, QkNorm};

pub(super) static HUNYUAN_DENSE: ArchSpec = ArchSpec { names: &["hunyuan-dense"], qk_norm: QkNorm::AfterRope, ..BASE };
