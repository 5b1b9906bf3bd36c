//! Small random models with a vocabulary, made in memory.

use super::gguf_file::{ARRAY, F32, GgufFile, I32, STRING, array, string, strings};

/// Tokens of the vocabulary.
pub(crate) const VOCAB: usize = 40;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const HEADS_KV: usize = 2;
pub(crate) const HEAD_DIM: usize = 16;
const FFN: usize = 96;

/// A model of one layer, so that a key or a value depends on its own token and position alone.
pub(crate) fn one_layer(arch: &str, more: impl FnOnce(GgufFile) -> GgufFile) -> Vec<u8> {
    layers(arch, 1, more)
}

/// The same with these texts of its tokens from the third on, `VOCAB - 3` of them.
pub(crate) fn one_layer_that_says(texts: &[&str], arch: &str, more: impl FnOnce(GgufFile) -> GgufFile) -> Vec<u8> {
    model(texts, arch, 1, more)
}

/// A model of so many layers, whose tokens are single letters. Architectures with norms of query and key heads get them,
/// qwen2 its biases (those of the keys many times larger than the rest, as they are there), gemma3 its norms after a
/// layer's halves.
pub(crate) fn layers(arch: &str, count: usize, more: impl FnOnce(GgufFile) -> GgufFile) -> Vec<u8> {
    let letters: Vec<String> = (0..VOCAB - 3).map(|i| char::from(b'A' + i as u8).to_string()).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    model(&letters, arch, count, more)
}

fn model(texts: &[&str], arch: &str, count: usize, more: impl FnOnce(GgufFile) -> GgufFile) -> Vec<u8> {
    let key = |suffix: &str| format!("{arch}.{suffix}");
    let file = GgufFile::default()
        .entry("general.architecture", STRING, string(arch.as_bytes()))
        .u32(&key("block_count"), count as u32)
        .u32(&key("embedding_length"), WIDTH as u32)
        .u32(&key("feed_forward_length"), FFN as u32)
        .u32(&key("attention.head_count"), HEADS as u32)
        .u32(&key("attention.head_count_kv"), HEADS_KV as u32)
        .u32(&key("attention.key_length"), HEAD_DIM as u32)
        .u32(&key("context_length"), 4096)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
    let mut file = vocabulary(texts, more(file));
    let (q, kv) = (HEADS * HEAD_DIM, HEADS_KV * HEAD_DIM);
    let mut seed = 1;
    let mut matrix = |file: GgufFile, name: &str, cols: usize, rows: usize| {
        let values = noise(&mut seed, cols * rows, 1.0 / (cols as f32).sqrt(), 0.0);
        file.tensor(name, &[cols as u64, rows as u64], 0, values)
    };
    file = matrix(file, "token_embd.weight", WIDTH, VOCAB);
    for i in 0..count {
        for (name, cols, rows) in [
            ("attn_q", WIDTH, q),
            ("attn_k", WIDTH, kv),
            ("attn_v", WIDTH, kv),
            ("attn_output", q, WIDTH),
            ("ffn_gate", WIDTH, FFN),
            ("ffn_up", WIDTH, FFN),
            ("ffn_down", FFN, WIDTH),
        ] {
            file = matrix(file, &format!("blk.{i}.{name}.weight"), cols, rows);
        }
    }
    let mut vector = |file: GgufFile, name: &str, len: usize, scale: f32, mean: f32| {
        file.tensor(name, &[len as u64], 0, noise(&mut seed, len, scale, mean))
    };
    file = vector(file, "output_norm.weight", WIDTH, 0.4, 1.0);
    for i in 0..count {
        let mut norms = vec![("attn_norm", WIDTH), ("ffn_norm", WIDTH)];
        if !["llama", "qwen2"].contains(&arch) {
            norms.extend([("attn_q_norm", HEAD_DIM), ("attn_k_norm", HEAD_DIM)]);
        }
        if arch == "gemma3" {
            norms.extend([("post_attention_norm", WIDTH), ("post_ffw_norm", WIDTH)]);
        }
        for (name, len) in norms {
            file = vector(file, &format!("blk.{i}.{name}.weight"), len, 0.4, 1.0);
        }
        if arch == "qwen2" {
            for (name, len, scale) in [("attn_q", q, 1.0), ("attn_k", kv, 12.0), ("attn_v", kv, 0.5)] {
                file = vector(file, &format!("blk.{i}.{name}.bias"), len, scale, 0.0);
            }
        }
    }
    file.build()
}

/// A SentencePiece vocabulary: unknown, beginning, end, and `texts`.
fn vocabulary(texts: &[&str], file: GgufFile) -> GgufFile {
    let mut tokens = vec!["<unk>", "<s>", "</s>"];
    tokens.extend(texts);
    assert_eq!(tokens.len(), VOCAB);
    let scores: Vec<u8> = (0..VOCAB).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
    let kinds: Vec<u8> = (0..VOCAB).flat_map(|i| [2i32, 3, 3].get(i).copied().unwrap_or(1).to_le_bytes()).collect();
    file.entry("tokenizer.ggml.model", STRING, string(b"llama"))
        .entry("tokenizer.ggml.tokens", ARRAY, strings(&tokens))
        .entry("tokenizer.ggml.scores", ARRAY, array(F32, VOCAB as u64, &scores))
        .entry("tokenizer.ggml.token_type", ARRAY, array(I32, VOCAB as u64, &kinds))
}

/// Numbers around `mean`, uniform, with the deviation `scale`, as F32 bytes.
fn noise(seed: &mut u64, n: usize, scale: f32, mean: f32) -> Vec<u8> {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        mean + ((*seed >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale * 1.73
    };
    (0..n).flat_map(|_| next().to_le_bytes()).collect()
}
