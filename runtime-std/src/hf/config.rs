//! `config.json`: the shape of the model, and the GGUF keys that say the same.

use super::{json_file, need_json_file};
use crate::exit::{Code, Failure, Outcome};
use crate::gguf_write::Metadata;
use serde_json::Value as Json;
use std::path::Path;
use trill::gguf::{Value, keys};

/// What `config.json` says.
pub(crate) struct Config {
    /// The file's words, for what is asked for once only.
    json: Json,
    /// `generation_config.json`, or null.
    generation: Json,
    /// The name GGUF has for the architecture.
    pub(crate) arch: &'static str,
    pub(crate) name: String,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) ffn: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocab: usize,
    pub(crate) tied: bool,
    /// What is to become of ternary weights.
    pub(crate) ternary: Ternary,
}

/// How a model's layers hold ternary weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ternary {
    /// Not at all.
    No,
    /// Weights are multiplied by `weight_scale` where they are packed (microsoft/bitnet-b1.58-2B-4T), and float
    /// masters are rounded when the model runs.
    Multiply,
    /// The same, but `weight_scale` divides (Falcon-E, Falcon3-1.58bit, Llama3-8B-1.58: transformers' `BitLinear`).
    Divide,
}

impl Config {
    /// Reads `config.json` of `folder`.
    pub(crate) fn read(folder: &Path) -> Outcome<Self> {
        let json = need_json_file(folder, "config.json")?;
        let generation = json_file(folder, "generation_config.json")?.unwrap_or(Json::Null);
        Self::new(json, generation, folder).map_err(|f| f.about(&folder.join("config.json")))
    }

    fn new(json: Json, generation: Json, folder: &Path) -> Outcome<Self> {
        let arch = architecture(&json)?;
        let (hidden, heads) = (count(&json, "hidden_size")?, count(&json, "num_attention_heads")?);
        let or = |key: &str, other: usize| if json[key].is_null() { Ok(other) } else { count(&json, key) };
        let folder_name = || folder.canonicalize().ok()?.file_name()?.to_str().map(str::to_owned);
        let said = json["_name_or_path"].as_str().filter(|s| !s.is_empty());
        Ok(Config {
            arch,
            name: said.map(str::to_owned).or_else(folder_name).unwrap_or_else(|| arch.to_owned()),
            layers: count(&json, "num_hidden_layers")?,
            hidden,
            ffn: count(&json, "intermediate_size")?,
            heads,
            kv_heads: or("num_key_value_heads", heads)?,
            head_dim: or("head_dim", hidden / heads)?,
            vocab: count(&json, "vocab_size")?,
            tied: json["tie_word_embeddings"].as_bool().unwrap_or(arch.starts_with("bitnet")),
            ternary: ternary(&json, arch)?,
            json,
            generation,
        })
    }

    /// The keys of the architecture, all but the tokenizer's.
    pub(crate) fn describe(&self, file_type: u32, out: &mut Metadata) -> Outcome {
        out.value(keys::ARCHITECTURE, &Value::Str(self.arch.as_bytes()));
        out.value(keys::NAME, &Value::Str(self.name.as_bytes()));
        let mut put = |key: &str, value: Value<'_>| out.value(&format!("{}.{key}", self.arch), &value);
        let numbers = [
            (keys::arch::VOCAB_SIZE, self.vocab),
            (keys::arch::CONTEXT_LENGTH, count(&self.json, "max_position_embeddings")?),
            (keys::arch::EMBEDDING_LENGTH, self.hidden),
            (keys::arch::BLOCK_COUNT, self.layers),
            (keys::arch::FEED_FORWARD_LENGTH, self.ffn),
            (keys::arch::ROPE_DIMENSION_COUNT, self.head_dim),
            (keys::arch::HEAD_COUNT, self.heads),
            (keys::arch::HEAD_COUNT_KV, self.kv_heads),
            (keys::arch::KEY_LENGTH, self.head_dim),
            (keys::arch::VALUE_LENGTH, self.head_dim),
        ];
        for (key, number) in numbers {
            put(key, Value::U32(number as u32));
        }
        let float = |key: &str| self.json[key].as_f64().ok_or_else(|| missing(key));
        put(keys::arch::RMS_EPSILON, Value::F32(float("rms_norm_eps")? as f32));
        put(keys::arch::ROPE_FREQ_BASE, Value::F32(self.rope_base() as f32));
        let scaling = self.scaling();
        let factor = scaling["factor"].as_f64();
        match (scaling_kind(scaling), factor) {
            ("linear" | "yarn", Some(factor)) => {
                put("rope.scaling.type", Value::Str(scaling_kind(scaling).as_bytes()));
                put("rope.scaling.factor", Value::F32(factor as f32));
                if let Some(original) = scaling["original_max_position_embeddings"].as_u64() {
                    put("rope.scaling.original_context_length", Value::U32(original as u32));
                }
            }
            // Becomes the tensor rope_freqs.
            ("default" | "llama3", _) => {}
            (kind, _) => return Err(unsupported(format!("rope scaling '{kind}'"))),
        }
        if self.json["use_sliding_window"].as_bool() == Some(true) {
            return Err(unsupported("a sliding window in some of the layers"));
        }
        out.value(keys::FILE_TYPE, &Value::U32(file_type));
        out.value(keys::QUANTIZATION_VERSION, &Value::U32(2));
        Ok(())
    }

    fn scaling(&self) -> &Json {
        // transformers 5 keeps everything about rope in one place.
        if self.json["rope_parameters"].is_object() {
            &self.json["rope_parameters"]
        } else {
            &self.json["rope_scaling"]
        }
    }

    fn rope_base(&self) -> f64 {
        let said = self.json["rope_theta"].as_f64().or_else(|| self.scaling()["rope_theta"].as_f64());
        said.unwrap_or(10_000.0)
    }

    /// Llama 3.1's divisors of the rope frequencies, one for each rotated pair; `None` for other models.
    /// Wavelengths up to a share of the original context are kept, those beyond another share are divided by
    /// `factor`, and a ramp joins the two (transformers, `_compute_llama3_parameters`).
    pub(crate) fn rope_divisors(&self) -> Outcome<Option<Vec<f32>>> {
        let s = self.scaling();
        if scaling_kind(s) != "llama3" {
            return Ok(None);
        }
        let number = |key: &str| s[key].as_f64().filter(|v| *v > 0.0).ok_or_else(|| missing(key));
        let (factor, original) = (number("factor")?, number("original_max_position_embeddings")?);
        let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
        let divisor = |pair: usize| {
            let wavelength = std::f64::consts::TAU * self.rope_base().powf(2.0 * pair as f64 / self.head_dim as f64);
            let turns = original / wavelength;
            if turns > high {
                1.0
            } else if turns < low {
                factor
            } else {
                let keep = (turns - low) / (high - low);
                1.0 / ((1.0 - keep) / factor + keep)
            }
        };
        Ok(Some((0..self.head_dim / 2).map(|pair| divisor(pair) as f32).collect()))
    }

    /// Ids of `bos`, `eos`, `pad`: the generation settings know better than the model's.
    pub(crate) fn token_id(&self, which: &str) -> Option<u32> {
        let key = format!("{which}_token_id");
        let first = |v: &Json| v.as_u64().or_else(|| v[0].as_u64());
        let id = first(&self.json[&key]).or_else(|| first(&self.generation[&key]))?;
        u32::try_from(id).ok().filter(|id| (*id as usize) < self.vocab)
    }
}

fn architecture(json: &Json) -> Outcome<&'static str> {
    let name = json["architectures"][0].as_str().or_else(|| json["model_type"].as_str()).unwrap_or("");
    let activation = json["hidden_act"].as_str().unwrap_or("silu");
    match (name, activation) {
        ("BitNetForCausalLM" | "BitnetForCausalLM" | "bitnet", "relu2") => Ok("bitnet-b1.58"),
        ("BitNetForCausalLM" | "BitnetForCausalLM" | "bitnet", "silu") => Ok("bitnet"),
        ("LlamaForCausalLM" | "llama", "silu") => Ok("llama"),
        ("Qwen2ForCausalLM" | "qwen2", "silu") => Ok("qwen2"),
        ("Qwen3ForCausalLM" | "qwen3", "silu") => Ok("qwen3"),
        _ => Err(unsupported(format!("architecture '{name}' with activation '{activation}'"))
            .remedy("supported are BitNet, Llama, Qwen2 and Qwen3")),
    }
}

fn ternary(json: &Json, arch: &str) -> Outcome<Ternary> {
    let quantization = &json["quantization_config"];
    match quantization["quant_method"].as_str() {
        None if arch.starts_with("bitnet") => Ok(Ternary::Multiply),
        None => Ok(Ternary::No),
        Some("bitnet") if quantization["linear_class"] == "autobitlinear" => Ok(Ternary::Multiply),
        Some("bitnet") => Ok(Ternary::Divide),
        Some(other) => Err(unsupported(format!("quantization '{other}'")).remedy("convert the model's float folder")),
    }
}

fn scaling_kind(scaling: &Json) -> &str {
    scaling["rope_type"].as_str().or_else(|| scaling["type"].as_str()).unwrap_or("default")
}

fn count(json: &Json, key: &str) -> Outcome<usize> {
    let found = json[key].as_u64().filter(|n| (1..=u64::from(u32::MAX)).contains(n));
    found.map(|n| n as usize).ok_or_else(|| missing(key))
}

fn missing(key: &str) -> Failure {
    Failure::new(Code::Data, format!("'{key}' is missing or no number a model can have"))
}

fn unsupported(what: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Data, format!("{what} is not supported"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(change: &[(&str, Json)]) -> Outcome<Config> {
        let mut json = json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_attention_heads": 32,
            "num_key_value_heads": 8, "num_hidden_layers": 16, "intermediate_size": 8192, "vocab_size": 128256,
            "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 131072,
        });
        for (key, value) in change {
            json[*key] = value.clone();
        }
        Config::new(json, Json::Null, Path::new("."))
    }

    #[test]
    fn divisors_of_llama_3_2() {
        let scaling = json!({"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"});
        let divisors = config(&[("rope_scaling", scaling)]).unwrap().rope_divisors().unwrap().unwrap();
        assert_eq!((divisors.len(), divisors[0], divisors[31]), (32, 1.0, 32.0));
        assert!(divisors.is_sorted());
        assert!(config(&[]).unwrap().rope_divisors().unwrap().is_none());
    }

    #[test]
    fn the_direction_of_the_scale() {
        let quantized = |class: Json| json!({"quant_method": "bitnet", "linear_class": class});
        let of = |q: Json| config(&[("quantization_config", q)]).map(|c| c.ternary);
        assert_eq!(of(quantized(json!("autobitlinear"))), Ok(Ternary::Multiply));
        assert_eq!(of(quantized(json!("bitlinear"))), Ok(Ternary::Divide));
        assert_eq!(of(quantized(Json::Null)), Ok(Ternary::Divide));
        assert!(of(json!({"quant_method": "gptq"})).unwrap_err().message.contains("gptq"));
    }

    #[test]
    fn what_is_refused_is_named() {
        for (key, value, says) in [
            ("architectures", json!(["MixtralForCausalLM"]), "MixtralForCausalLM"),
            ("hidden_act", json!("gelu"), "gelu"),
            ("hidden_size", json!(0), "hidden_size"),
            ("vocab_size", json!("many"), "vocab_size"),
        ] {
            let failure = config(&[(key, value)]).map(|_| ()).unwrap_err();
            assert!(failure.code == Code::Data && failure.message.contains(says), "{}", failure.message);
        }
        let longrope = json!({"type": "longrope"});
        let described = config(&[("rope_scaling", longrope)]).unwrap().describe(1, &mut Metadata::default());
        assert!(described.unwrap_err().message.contains("longrope"));
    }
}
