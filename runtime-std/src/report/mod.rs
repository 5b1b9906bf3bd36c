//! How results, warnings and progress are shown.

pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod text;
