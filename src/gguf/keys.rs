//! Names of the metadata keys, as the GGUF specification spells them.

use crate::limits::GGUF_KEY_BYTES_MAX;
use heapless::String;

/// Architecture: the prefix of the model's own keys.
pub const ARCHITECTURE: &str = "general.architecture";
/// Alignment of the tensors' bytes (u32).
pub const ALIGNMENT: &str = "general.alignment";
/// Kind of quantization of most tensors, llama.cpp's numbering.
pub const FILE_TYPE: &str = "general.file_type";
/// The model's name.
pub const NAME: &str = "general.name";
/// Version of the quantization formats (2).
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";
/// Number of files that the model is spread over.
pub const SPLIT_COUNT: &str = "split.count";

/// Keys that follow the architecture's name and a dot; see [`of_arch`].
pub mod arch {
    /// Positions the model was trained for.
    pub const CONTEXT_LENGTH: &str = "context_length";
    /// Width of the residual stream.
    pub const EMBEDDING_LENGTH: &str = "embedding_length";
    /// Number of layers.
    pub const BLOCK_COUNT: &str = "block_count";
    /// Width of the feed-forward layer (a number, or one for each layer).
    pub const FEED_FORWARD_LENGTH: &str = "feed_forward_length";
    /// Attention heads.
    pub const HEAD_COUNT: &str = "attention.head_count";
    /// Heads of keys and values.
    pub const HEAD_COUNT_KV: &str = "attention.head_count_kv";
    /// Width of a head's key.
    pub const KEY_LENGTH: &str = "attention.key_length";
    /// Width of a head's value.
    pub const VALUE_LENGTH: &str = "attention.value_length";
    /// Epsilon of the RMS norms.
    pub const RMS_EPSILON: &str = "attention.layer_norm_rms_epsilon";
    /// Positions a token sees back.
    pub const SLIDING_WINDOW: &str = "attention.sliding_window";
    /// Dimensions of a head that are rotated.
    pub const ROPE_DIMENSION_COUNT: &str = "rope.dimension_count";
    /// Base of the rotation's frequencies.
    pub const ROPE_FREQ_BASE: &str = "rope.freq_base";
    /// Size of the vocabulary.
    pub const VOCAB_SIZE: &str = "vocab_size";
}

/// Keys of the tokenizer.
pub mod tokenizer {
    /// `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    pub const MODEL: &str = "tokenizer.ggml.model";
    /// Name of the pre-tokenizer.
    pub const PRE: &str = "tokenizer.ggml.pre";
    /// The vocabulary: strings.
    pub const TOKENS: &str = "tokenizer.ggml.tokens";
    /// f32 for each token.
    pub const SCORES: &str = "tokenizer.ggml.scores";
    /// i32 for each token: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    pub const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
    /// BPE merges: strings of two pieces with a space between them.
    pub const MERGES: &str = "tokenizer.ggml.merges";
    /// Beginning of a text.
    pub const BOS_ID: &str = "tokenizer.ggml.bos_token_id";
    /// End of a text.
    pub const EOS_ID: &str = "tokenizer.ggml.eos_token_id";
    /// End of a turn.
    pub const EOT_ID: &str = "tokenizer.ggml.eot_token_id";
    /// End of a message.
    pub const EOM_ID: &str = "tokenizer.ggml.eom_token_id";
    /// Unknown.
    pub const UNK_ID: &str = "tokenizer.ggml.unknown_token_id";
    /// Padding.
    pub const PAD_ID: &str = "tokenizer.ggml.padding_token_id";
    /// Whether a text starts with the beginning token.
    pub const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
    /// Whether a text ends with the end token.
    pub const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
    /// Whether a text gets a space in front.
    pub const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
    /// The chat template, Jinja.
    pub const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
}

/// `{arch}.{key}`, for example `llama.block_count`; `None` if that is longer than any key may be.
pub fn of_arch(arch: &str, key: &str) -> Option<String<{ GGUF_KEY_BYTES_MAX as usize }>> {
    let mut joined = String::new();
    [arch, ".", key].iter().try_for_each(|part| joined.push_str(part)).ok()?;
    Some(joined)
}
