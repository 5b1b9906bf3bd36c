//! aarch64 levels.

use super::Kernels;
use super::scalar::BASE;

float_kernels!("neon");

const TABLE: Kernels = Kernels { name: "neon", float: FLOAT, ..BASE };

pub(super) static NEON: Kernels = TABLE;
pub(super) static DOTPROD: Kernels = Kernels { name: "neon-dotprod", ..TABLE };
pub(super) static I8MM: Kernels = Kernels { name: "neon-i8mm", ..TABLE };
