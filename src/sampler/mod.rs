//! Logits to token ids.
