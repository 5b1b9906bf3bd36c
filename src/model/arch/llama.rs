//! Llama and everything converted to its name: SmolLM2, Falcon3-1.58bit, Falcon-E, Llama3-8B-1.58, TriLM.
//! Converters permute the query and key rows, so the rotated pairs are neighbours.

use super::{ArchSpec, BASE};

pub(super) static LLAMA: ArchSpec = ArchSpec { names: &["llama"], rope_neox: false, ..BASE };
