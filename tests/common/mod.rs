//! What several test programs share.

pub(crate) mod gguf_file;
pub(crate) mod memory;
pub(crate) mod tiny_model;
