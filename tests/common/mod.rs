//! What several test programs share.

pub(crate) mod cpu;
pub(crate) mod gguf_file;
pub(crate) mod memory;
pub(crate) mod random;
pub(crate) mod tiny_model;
