//! Every maximum in one place. A file that exceeds one is refused with a typed error.

/// Key-value pairs in a GGUF file. Published files have under 100.
pub const GGUF_KV_MAX: u64 = 4096;
/// Tensors in a GGUF file. A 256-layer model with 20 tensors a layer has 5,120.
pub const GGUF_TENSORS_MAX: u64 = 65_536;
/// Bytes of a metadata key (the GGUF specification allows 65,535; real keys stay under 64).
pub const GGUF_KEY_BYTES_MAX: u64 = 256;
/// Bytes of a tensor name (ggml's own limit is 63).
pub const GGUF_NAME_BYTES_MAX: u64 = 128;
/// Bytes of one string value.
pub const GGUF_STRING_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a chat template. The longest published ones are near 20 KiB.
pub const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// Tensor alignment in bytes: a power of two in this range.
pub const GGUF_ALIGNMENT_MIN: u32 = 8;
/// See [`GGUF_ALIGNMENT_MIN`].
pub const GGUF_ALIGNMENT_MAX: u32 = 65_536;
/// Dimensions of a tensor.
pub const GGUF_DIMS_MAX: u32 = 4;
/// Decoder layers.
pub const LAYERS_MAX: usize = 256;
/// Attention heads.
pub const HEADS_MAX: usize = 256;
/// Width of one head: bounds the stack buffers of attention kernels.
pub const HEAD_DIM_MAX: usize = 512;
/// Width of the residual stream.
pub const EMBED_MAX: usize = 32_768;
/// Width of the feed-forward layer. With int8 activations and 2-bit codes, sums over this many
/// columns stay under 2^31 (131072 * 128 * 127 < 2^31).
pub const FFN_MAX: usize = 131_072;
/// Vocabulary size. Gemma 3 has 262,144.
pub const VOCAB_MAX: usize = 1 << 20;
/// Merges of a byte pair encoding: ranks have 24 bits. Llama 3 has 280,147.
pub const MERGES_MAX: usize = (1 << 24) - 2;
/// Positions in a context.
pub const CONTEXT_MAX: usize = 1 << 20;
/// Tokens that go through the layers together during prefill.
pub const BATCH_MAX: usize = 512;
/// Tokens guessed ahead and read in one pass with the one before them. More are seldom right.
pub const GUESSES_MAX: usize = 7;
/// Threads in a team.
pub const THREADS_MAX: usize = 64;
/// Bytes of one vocabulary entry.
pub const TOKEN_BYTES_MAX: usize = 65_535;
