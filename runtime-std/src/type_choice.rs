//! Which weight type each tensor of a quantized model gets. The defaults are those of llama-quantize where
//! it has any: only weight matrices change, the head gets more bits, and so does the embedding of a
//! ternary model.

use trill::quant::QuantType;

/// Types with the same codes and another number of weights to a scale.
const FAMILIES: [&[QuantType]; 2] = [&[QuantType::Q2_0, QuantType::Q2_0_G128], &[QuantType::TQ1_0, QuantType::PTQ1_0]];

/// A weight type with extra bits for the tensors that need them most: llama-quantize's `_M`.
const MIXTURES: [(&str, QuantType, u32); 2] = [("Q4_K_M", QuantType::Q4_K, 15), ("Q5_K_M", QuantType::Q5_K, 17)];

/// Matrices that are never quantized: small, and spoilt by it.
const KEPT: [&str; 4] = ["_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight"];

/// What the choice depends on besides the tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The embedding is the head too.
    pub(crate) tied: bool,
    /// Layers of the model.
    pub(crate) layers: usize,
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) ty: QuantType,
    /// More bits for attn_v and ffn_down of some layers.
    pub(crate) mixture: bool,
    /// The same type for every matrix.
    pub(crate) pure: bool,
    /// Type of the head, if asked for.
    pub(crate) output: Option<QuantType>,
    /// Type of the embedding, if asked for.
    pub(crate) embedding: Option<QuantType>,
}

/// Types that only weights of their own kind fit: two or three values, all with one magnitude. Whatever takes less than
/// two and a half bits a weight is such a type (Q2_K, the smallest that is none, takes 2.6).
pub(crate) fn needs_ternary(ty: QuantType) -> bool {
    // Rows and columns that are whole groups and blocks of every type.
    let (rows, cols) = (960, 15_360);
    ty.tensor_bytes(rows, cols).is_some_and(|bytes| 2 * 8 * bytes < 5 * rows * cols)
}

/// Types that can be written, in the order of the registry. S2 is a sketch beside weights, not a type for them.
pub(crate) fn writable() -> impl Iterator<Item = QuantType> {
    let sound = |t: &QuantType| t.info().encode.is_some() && t.info().ggml_id.is_some() && *t != QuantType::S2;
    QuantType::ALL.iter().copied().filter(sound)
}

/// The type called `name`, upper or lower case, or what could have been meant.
pub(crate) fn by_name(name: &str) -> Result<QuantType, String> {
    writable().find(|t| t.info().name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let names: Vec<_> = writable().map(|t| t.info().name).chain(MIXTURES.iter().map(|m| m.0)).collect();
        format!("there is no type {name}; the types are {}", names.join(", "))
    })
}

impl Wish {
    /// Reads TYPE and `--group-size`.
    pub(crate) fn parse(name: &str, group: Option<usize>) -> Result<Self, String> {
        let mixture = MIXTURES.iter().find(|m| m.0.eq_ignore_ascii_case(name));
        let named = mixture.map_or_else(|| by_name(name), |m| Ok(m.1))?;
        let ty = match group {
            Some(group) if group != named.info().block => FAMILIES
                .iter()
                .filter(|family| family.contains(&named))
                .flat_map(|family| family.iter())
                .find(|t| t.info().block == group)
                .copied()
                .ok_or_else(|| format!("{} has no form with {group} weights to a group", named.info().name))?,
            _ => named,
        };
        Ok(Wish { ty, mixture: mixture.is_some(), pure: false, output: None, embedding: None })
    }

    /// llama.cpp's number for a file that is mostly of this type (`general.file_type`; I2_S: bitnet.cpp's);
    /// `None` for types that have none.
    pub(crate) fn file_type(&self) -> Option<u32> {
        use QuantType::*;
        if self.mixture {
            return MIXTURES.iter().find(|m| m.1 == self.ty).map(|m| m.2);
        }
        Some(match self.ty {
            F32 => 0,
            F16 => 1,
            Q4_0 => 2,
            Q4_1 => 3,
            Q8_0 => 7,
            Q5_0 => 8,
            Q5_1 => 9,
            Q2_K => 10,
            Q3_K => 11,
            Q4_K => 14,
            Q5_K => 16,
            Q6_K => 18,
            BF16 => 32,
            TQ1_0 => 36,
            TQ2_0 => 37,
            I2_S | Q1_0 => 40,
            Q2_0 => 41,
            _ => return None,
        })
    }

    /// The type of the tensor `name` with `dims` dimensions and rows of `cols` weights; `None` leaves it as it is.
    pub(crate) fn choose(&self, name: &str, dims: u32, cols: usize, model: Facts) -> Option<QuantType> {
        if dims < 2 || !name.ends_with("weight") || KEPT.iter().any(|k| name.ends_with(k)) {
            return None;
        }
        let embedding = name == "token_embd.weight";
        let head = name == "output.weight" || embedding && model.tied;
        let asked = if embedding {
            self.embedding
        } else if head {
            self.output
        } else {
            None
        };
        Some(fitting(asked.unwrap_or_else(|| self.default_for(name, embedding, head, model.layers)), cols))
    }

    fn default_for(&self, name: &str, embedding: bool, head: bool, layers: usize) -> QuantType {
        let float = matches!(self.ty, QuantType::F32 | QuantType::F16 | QuantType::BF16);
        if self.pure || float {
            self.ty
        } else if head {
            if self.ty == QuantType::Q8_0 { QuantType::Q8_0 } else { QuantType::Q6_K }
        } else if embedding && needs_ternary(self.ty) {
            QuantType::Q4_K
        } else if self.mixture && is_delicate(name, layers) {
            QuantType::Q6_K
        } else {
            self.ty
        }
    }
}

/// attn_v and ffn_down of the first and last eighth of the layers and of every third one between.
fn is_delicate(name: &str, layers: usize) -> bool {
    let mut parts = name.split('.');
    let (Some("blk"), Some(layer), Some("attn_v" | "ffn_down")) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let eighth = layers / 8;
    layer.parse::<usize>().is_ok_and(|l| l < eighth || l >= 7 * layers / 8 || (l - eighth) % 3 == 2)
}

/// `ty`, or the nearest type whose blocks divide a row of `cols` weights. Ternary weights go to Q8_0, which
/// keeps them (llama-quantize takes Q4_0, which does not).
fn fitting(ty: QuantType, cols: usize) -> QuantType {
    use QuantType::*;
    let coarser = match ty {
        Q2_K | Q3_K => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        _ => Q8_0,
    };
    [ty, coarser].into_iter().find(|t| cols.is_multiple_of(t.info().block)).unwrap_or(F16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use QuantType::*;

    /// Chooses for a matrix with these many columns, in a model of 16 layers.
    fn choice(wish: Wish, name: &str, cols: usize, tied: bool) -> Option<QuantType> {
        wish.choose(name, 2, cols, Facts { tied, layers: 16 })
    }

    #[test]
    fn llama_quantizes_defaults() {
        let q4 = Wish::parse("q4_0", None).unwrap();
        let (attn, head, embd) = ("blk.0.attn_q.weight", "output.weight", "token_embd.weight");
        assert_eq!(choice(q4, attn, 512, true), Some(Q4_0));
        assert_eq!(choice(q4, head, 512, false), Some(Q6_K));
        assert_eq!((choice(q4, embd, 512, false), choice(q4, embd, 512, true)), (Some(Q4_0), Some(Q6_K)));
        assert_eq!(choice(q4, embd, 576, true), Some(Q8_0), "576 columns are no multiple of 256");
        assert_eq!(choice(Wish { pure: true, ..q4 }, head, 512, false), Some(Q4_0));
        for kept in ["blk.0.attn_norm.weight", "blk.0.attn_q.bias", "blk.0.ffn_gate_inp.weight", "rope_freqs"] {
            assert_eq!(choice(q4, kept, 512, false), None, "{kept}");
        }
        assert_eq!(q4.choose(attn, 1, 512, Facts { tied: false, layers: 16 }), None);
        let tq1 = Wish::parse("TQ1_0", None).unwrap();
        assert_eq!((choice(tq1, attn, 256, false), choice(tq1, embd, 256, false)), (Some(TQ1_0), Some(Q4_K)));
        assert_eq!((choice(tq1, attn, 320, false), choice(tq1, attn, 3, false)), (Some(Q8_0), Some(F16)));
        let asked = Wish { output: Some(F16), embedding: Some(Q5_0), ..tq1 };
        assert_eq!((choice(asked, head, 256, false), choice(asked, embd, 256, true)), (Some(F16), Some(Q5_0)));
        let f16 = Wish::parse("f16", None).unwrap();
        assert_eq!((choice(f16, head, 512, false), f16.file_type()), (Some(F16), Some(1)));
    }

    #[test]
    fn mixtures_give_delicate_tensors_more() {
        let wish = Wish::parse("q4_k_m", None).unwrap();
        assert_eq!(wish.file_type(), Some(15));
        let more: Vec<_> =
            (0..16).filter(|l| choice(wish, &format!("blk.{l}.ffn_down.weight"), 256, false) == Some(Q6_K)).collect();
        assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(choice(wish, "blk.0.attn_k.weight", 256, false), Some(Q4_K));
    }

    #[test]
    fn ternary_types() {
        let dense = [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8R];
        for ty in writable() {
            assert_eq!(needs_ternary(ty), !dense.contains(&ty), "{ty:?}");
        }
    }

    #[test]
    fn groups_and_names() {
        assert_eq!(Wish::parse("Q2_0", Some(128)).unwrap().ty, Q2_0_G128);
        assert_eq!(Wish::parse("Q2_0", Some(64)).unwrap().ty, Q2_0);
        assert_eq!(Wish::parse("tq1_0", Some(128)).unwrap().ty, PTQ1_0);
        assert_eq!(Wish::parse("Q1_0", Some(128)).unwrap().ty, Q1_0);
        assert!(Wish::parse("Q4_0", Some(128)).unwrap_err().contains("128 weights"));
        assert!(Wish::parse("Q9_9", None).unwrap_err().contains("Q4_K_M"));
        assert!(by_name("I2_S_ARM").is_err(), "has no number of its own");
    }
}
