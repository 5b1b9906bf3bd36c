//! Hyper-parameters, weights and the forward pass.

/// The file is sound but does not describe a model trill can run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// Placeholder until the loader lands.
    Unsupported,
}

impl core::fmt::Display for ModelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("unsupported")
    }
}
impl core::error::Error for ModelError {}
