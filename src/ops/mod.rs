//! The layers' operations: safe code over kernels.
