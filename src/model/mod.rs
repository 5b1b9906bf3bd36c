//! Hyper-parameters, weights and one forward pass for every decoder architecture.
//!
//! An architecture is data: a constant [`ArchSpec`] in its own file under `arch/`, and one line in
//! [`arch::ALL`]. [`Model::load`] turns a GGUF into typed, shape-checked views; `forward.rs` walks them.

pub mod arch;
mod check;
mod feed_forward;
mod forward;
mod hparams;
mod key_bias;
pub mod known;
mod read;
mod rope;
mod weights;

pub use arch::ArchSpec;
pub use feed_forward::Skipping;
pub use forward::Screening;
pub(crate) use forward::{Buffers, Pass};
pub use hparams::{Hparams, RopeHparams, RopeScaling};
pub(crate) use rope::RopeTable;
pub use weights::{FFN_KEPT, Layer, Model, SKETCH_NAME, StreamBytes};

use crate::error::Name;

/// The file is sound but does not describe a model trill can run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// `general.architecture` is missing.
    NoArchitecture,
    /// No architecture of that name is known.
    UnknownArchitecture(Name),
    /// The file needs something that would change its results if it were ignored.
    Unsupported(&'static str),
    /// A required key (without the architecture's prefix) is missing.
    MissingKey(&'static str),
    /// A key's value is outside what a model can have.
    BadKey(&'static str),
    /// A required tensor is missing.
    MissingTensor(TensorName),
    /// The architecture has no such tensor, and ignoring it would compute something else.
    UnknownTensor(Name),
    /// A tensor holds what no sound model has.
    Damaged {
        /// Which.
        tensor: TensorName,
        /// What was found in it.
        what: &'static str,
    },
    /// A tensor has another shape than the hyper-parameters say.
    TensorShape {
        /// Which.
        tensor: TensorName,
        /// Columns (inputs) and rows (outputs) wanted.
        want: (usize, usize),
        /// Columns and rows found.
        got: (usize, usize),
    },
}

/// A tensor's name: `blk.LAYER.NAME`, or `NAME` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorName {
    /// The layer, if it belongs to one.
    pub layer: Option<usize>,
    /// The rest of the name.
    pub name: &'static str,
}

impl core::fmt::Display for TensorName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.layer {
            Some(i) => write!(f, "blk.{i}.{}", self.name),
            None => f.write_str(self.name),
        }
    }
}

impl core::fmt::Display for ModelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ModelError::NoArchitecture => f.write_str("the file does not name its architecture (general.architecture)"),
            ModelError::UnknownArchitecture(name) => {
                write!(f, "architecture '{name}' is not supported; supported are")?;
                for (i, spec) in arch::ALL.iter().flat_map(|s| s.names).enumerate() {
                    write!(f, "{} {spec}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            ModelError::Unsupported(what) => f.write_str(what),
            ModelError::MissingKey(key) => write!(f, "metadata key '{key}' is missing"),
            ModelError::BadKey(key) => write!(f, "metadata key '{key}' has a value no model can have"),
            ModelError::MissingTensor(tensor) => write!(f, "tensor '{tensor}' is missing"),
            ModelError::Damaged { tensor, what } => write!(f, "tensor '{tensor}' holds {what}: the file is damaged"),
            ModelError::UnknownTensor(name) => {
                write!(
                    f,
                    "tensor '{name}' does not belong to this architecture, and ignoring it would change the results"
                )
            }
            ModelError::TensorShape { tensor, want, got } => write!(
                f,
                "tensor '{tensor}' is {} x {} where the metadata asks for {} x {}",
                got.0, got.1, want.0, want.1
            ),
        }
    }
}

impl core::error::Error for ModelError {}
