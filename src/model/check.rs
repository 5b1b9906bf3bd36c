//! Signs of damage in the weights: what a loader can see without knowing what the model should say.

use super::{Model, ModelError, TensorName};
use crate::error::Result;
use crate::quant::{BlockHealth, Matrix, QuantType};

impl Model<'_> {
    /// Looks at every norm and at about `rows` rows of every matrix, spread over it. With 2 it touches few pages of
    /// the file and belongs into every start; [`crate::limits::VOCAB_MAX`] looks at everything.
    ///
    /// Errors: [`ModelError::Damaged`] with the first tensor that holds an infinite or NaN scale, or codes that no
    /// writer of an I2_S, T2 or T3 file produces, or whose scales are all zero.
    pub fn check_weights(&self, rows: usize) -> Result<()> {
        check("token_embd.weight", None, &self.embedding, rows)?;
        check("output.weight", None, &self.output, rows)?;
        finite("output_norm.weight", None, self.output_norm)?;
        for (i, l) in self.layers.iter().enumerate() {
            let names = if l.qkv_parts().len() == 1 {
                ["attn_qkv.weight"; 3]
            } else {
                ["attn_q.weight", "attn_k.weight", "attn_v.weight"]
            };
            for (name, m) in names.iter().zip(l.qkv_parts()) {
                check(name, Some(i), m, rows)?;
            }
            let names =
                if l.gate_up_parts().len() == 1 { ["ffn_up.weight"; 2] } else { ["ffn_gate.weight", "ffn_up.weight"] };
            for (name, m) in names.iter().zip(l.gate_up_parts()) {
                check(name, Some(i), m, rows)?;
            }
            check("attn_output.weight", Some(i), &l.wo, rows)?;
            check("ffn_down.weight", Some(i), &l.down, rows)?;
            for (name, vector) in [
                ("attn_norm.weight", l.attn_norm),
                ("attn_sub_norm.weight", l.attn_sub_norm),
                ("ffn_norm.weight", l.ffn_norm),
                ("ffn_sub_norm.weight", l.ffn_sub_norm),
                ("attn_q_norm.weight", l.q_norm),
                ("attn_k_norm.weight", l.k_norm),
                ("post_attention_norm.weight", l.post_attn_norm),
                ("post_ffw_norm.weight", l.post_ffn_norm),
            ] {
                finite(name, Some(i), vector)?;
            }
        }
        Ok(())
    }
}

fn damaged(name: &'static str, layer: Option<usize>, what: &'static str) -> ModelError {
    ModelError::Damaged { tensor: TensorName { layer, name }, what }
}

fn check(name: &'static str, layer: Option<usize>, m: &Matrix<'_>, rows: usize) -> Result<()> {
    let health = m.health(m.rows().div_ceil(m.ty().lanes()).div_ceil(rows.max(1)));
    let own = matches!(m.ty(), QuantType::I2_S | QuantType::I2_S_ARM | QuantType::T2);
    let float = m.ty().info().block == 1;
    let BlockHealth { blocks, not_finite, zero, invalid_codes } = health;
    if not_finite > 0 {
        return Err(damaged(name, layer, "infinite or NaN numbers").into());
    }
    if own && invalid_codes > 0 {
        return Err(damaged(name, layer, "codes that no ternary weight has").into());
    }
    // A tensor scale counts as one block; floats are their own scales, and rows of zeros happen.
    let tensor_scale = m.ty().info().tail != 0;
    if !float && (tensor_scale && zero > 0 || blocks > 0 && zero == blocks) {
        return Err(damaged(name, layer, "scales of zero").into());
    }
    Ok(())
}

fn finite(name: &'static str, layer: Option<usize>, values: &[f32]) -> Result<()> {
    if values.iter().all(|v| v.is_finite()) {
        Ok(())
    } else {
        Err(damaged(name, layer, "infinite or NaN numbers").into())
    }
}
