//! `tokenizer.json` and its companions, as GGUF keys. Byte-level BPE only: that is what BitNet, Falcon, Llama 3
//! and Qwen have.

use super::{Config, json_file, need_json_file};
use crate::exit::{Code, Failure, Outcome};
use crate::gguf_write::Metadata;
use serde_json::Value as Json;
use std::fs;
use std::path::Path;
use trill::gguf::{Value, keys::tokenizer as keys};

/// Token types of GGUF.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Pre-tokenizers by the pattern that splits the text; the names are GGUF's.
const BY_PATTERN: &[(&str, &str)] = &[
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
    ),
];

/// Adds the tokenizer of `folder` to `out`. `pre` names the pre-tokenizer if the user did.
pub(crate) fn tokenizer(folder: &Path, config: &Config, pre: Option<&str>, out: &mut Metadata) -> Outcome {
    let file = need_json_file(folder, "tokenizer.json")?;
    let settings = json_file(folder, "tokenizer_config.json")?.unwrap_or(Json::Null);
    let vocabulary = Vocabulary::read(&file, config.vocab).map_err(|f| f.about(&folder.join("tokenizer.json")))?;
    let pre = match pre {
        Some(name) => name,
        None => pre_tokenizer(&file["pre_tokenizer"]).map_err(|f| f.about(&folder.join("tokenizer.json")))?,
    };
    out.value(keys::MODEL, &Value::Str(b"gpt2"));
    out.value(keys::PRE, &Value::Str(pre.as_bytes()));
    out.strings(keys::TOKENS, vocabulary.tokens.iter().map(String::as_bytes));
    out.i32s(keys::TOKEN_TYPE, &vocabulary.types);
    out.strings(keys::MERGES, vocabulary.merges.iter().map(String::as_bytes));
    for (key, which) in [(keys::BOS_ID, "bos"), (keys::EOS_ID, "eos"), (keys::PAD_ID, "pad")] {
        if let Some(id) = special(&settings, which, &vocabulary).or_else(|| config.token_id(which)) {
            out.value(key, &Value::U32(id));
        }
    }
    let bos = special(&settings, "bos", &vocabulary).or_else(|| config.token_id("bos"));
    let said = settings["add_bos_token"].as_bool();
    let adds = said.unwrap_or_else(|| bos.is_some_and(|id| starts_with(&file["post_processor"], &vocabulary, id)));
    out.value(keys::ADD_BOS, &Value::Bool(adds && bos.is_some()));
    if let Some(template) = chat_template(folder, &settings)? {
        out.value(keys::CHAT_TEMPLATE, &Value::Str(template.as_bytes()));
    }
    Ok(())
}

struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i32>,
    /// Pairs joined by a space.
    merges: Vec<String>,
}

impl Vocabulary {
    /// `size` tokens; ids that nobody names are unused.
    fn read(file: &Json, size: usize) -> Outcome<Self> {
        let bad = |what: &str| Failure::new(Code::Data, what);
        let model = &file["model"];
        let byte_level = mentions(&file["pre_tokenizer"], "ByteLevel") || mentions(&file["decoder"], "ByteLevel");
        if model["type"].as_str().is_some_and(|t| t != "BPE") || !byte_level {
            return Err(bad("is not a byte-level BPE tokenizer; trill converts no other kind")
                .remedy("convert the folder with llama.cpp's convert_hf_to_gguf.py"));
        }
        let mut tokens = vec![None; size];
        let mut types = vec![UNUSED; size];
        let mut put = |id: Option<u64>, text: Option<&str>, ty: i32| {
            let at = id.and_then(|id| usize::try_from(id).ok()).filter(|at| *at < size);
            let (Some(at), Some(text)) = (at, text) else {
                return Err(bad(&format!("a token has no text, or an id beyond the {size} of config.json")));
            };
            tokens[at] = Some(text.to_owned());
            types[at] = ty;
            Ok(())
        };
        let entries = model["vocab"].as_object().ok_or_else(|| bad("has no vocabulary"))?;
        for (text, id) in entries {
            put(id.as_u64(), Some(text), NORMAL)?;
        }
        for added in file["added_tokens"].as_array().into_iter().flatten() {
            let control = added["special"].as_bool().unwrap_or(false);
            put(added["id"].as_u64(), added["content"].as_str(), if control { CONTROL } else { USER_DEFINED })?;
        }
        let tokens = tokens.into_iter().enumerate().map(|(i, t)| t.unwrap_or_else(|| format!("[PAD{i}]"))).collect();
        let merge = |m: &Json| match (m.as_str(), m[0].as_str(), m[1].as_str()) {
            (Some(pair), ..) => Some(pair.to_owned()),
            (None, Some(a), Some(b)) => Some(format!("{a} {b}")),
            _ => None,
        };
        let merges = model["merges"].as_array().and_then(|m| m.iter().map(merge).collect::<Option<Vec<_>>>());
        Ok(Vocabulary { tokens, types, merges: merges.ok_or_else(|| bad("has no list of merges"))? })
    }

    fn id(&self, text: &str) -> Option<u32> {
        self.tokens.iter().position(|t| t == text).and_then(|id| u32::try_from(id).ok())
    }
}

/// Whether an object of this `type` is in `value`, at any depth.
fn mentions(value: &Json, kind: &str) -> bool {
    match value {
        Json::Object(map) => map.get("type").is_some_and(|t| t == kind) || map.values().any(|v| mentions(v, kind)),
        Json::Array(items) => items.iter().any(|v| mentions(v, kind)),
        _ => false,
    }
}

fn pre_tokenizer(json: &Json) -> Outcome<&'static str> {
    let alone = [json.clone()];
    let stages = json["pretokenizers"].as_array().map_or(&alone[..], Vec::as_slice);
    let splits: Vec<_> = stages.iter().filter_map(|s| s["pattern"]["Regex"].as_str()).collect();
    let splits_itself = |s: &&Json| s["type"] == "ByteLevel" && s["use_regex"].as_bool().unwrap_or(true);
    match splits[..] {
        [pattern] => BY_PATTERN.iter().find(|p| p.0 == pattern).map(|p| p.1),
        [] if stages.len() == 1 && stages.iter().any(|s| splits_itself(&s)) => Some("gpt-2"),
        [] if stages.len() == 2 && stages[0]["type"] == "Digits" && splits_itself(&&stages[1]) => Some("smollm"),
        _ => None,
    }
    .ok_or_else(|| {
        let kinds: Vec<_> = stages.iter().map(|s| s["type"].as_str().unwrap_or("?")).collect();
        let what = format!("splits text in a way trill does not know ({} {})", kinds.join(", "), splits.join(" "));
        Failure::new(Code::Data, what).remedy("name the way with --pre, if it has a name in GGUF (falcon3, ...)")
    })
}

/// The id of the token that `tokenizer_config.json` calls `{which}_token`.
fn special(settings: &Json, which: &str, vocabulary: &Vocabulary) -> Option<u32> {
    let said = &settings[format!("{which}_token")];
    vocabulary.id(said.as_str().or_else(|| said["content"].as_str())?)
}

/// Whether the post-processor begins every text with token `id`.
fn starts_with(processor: &Json, vocabulary: &Vocabulary, id: u32) -> bool {
    let parts = processor["processors"].as_array().map_or(std::slice::from_ref(processor), Vec::as_slice);
    let first = parts.iter().find_map(|p| p["single"][0]["SpecialToken"]["id"].as_str());
    first.is_some_and(|text| vocabulary.id(text) == Some(id))
}

fn chat_template(folder: &Path, settings: &Json) -> Outcome<Option<String>> {
    let path = folder.join("chat_template.jinja");
    match fs::read_to_string(&path) {
        Ok(text) => return Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Failure::file(&path, &e)),
    }
    let said = &settings["chat_template"];
    let named = said.as_array().into_iter().flatten().find(|t| t["name"] == "default");
    let text = said.as_str().or_else(|| named.and_then(|t| t["template"].as_str()));
    Ok(text.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file() -> Json {
        json!({
            "added_tokens": [
                {"id": 3, "content": "<s>", "special": true}, {"id": 4, "content": "<tool>", "special": false}],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": BY_PATTERN[0].0}}, {"type": "ByteLevel", "use_regex": false}]},
            "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"},
                {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}]},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
        })
    }

    #[test]
    fn a_vocabulary() {
        let v = Vocabulary::read(&file(), 6).unwrap();
        assert_eq!(v.tokens, ["a", "b", "ab", "<s>", "<tool>", "[PAD5]"]);
        assert_eq!(v.types, [NORMAL, NORMAL, NORMAL, CONTROL, USER_DEFINED, UNUSED]);
        assert_eq!(v.merges, ["a b"]);
        assert!(starts_with(&file()["post_processor"], &v, 3));
        assert!(!starts_with(&Json::Null, &v, 3));
        assert_eq!(special(&json!({"bos_token": {"content": "<s>"}, "eos_token": "b"}), "bos", &v), Some(3));
        assert!(Vocabulary::read(&file(), 4).is_err());
    }

    #[test]
    fn older_files_write_merges_as_strings() {
        let mut file = file();
        file["model"]["merges"] = json!(["a b"]);
        assert_eq!(Vocabulary::read(&file, 6).unwrap().merges, ["a b"]);
        file["model"]["merges"] = json!([["a"]]);
        assert!(Vocabulary::read(&file, 6).is_err());
    }

    #[test]
    fn pre_tokenizers() {
        assert_eq!(pre_tokenizer(&file()["pre_tokenizer"]), Ok("llama-bpe"));
        assert_eq!(pre_tokenizer(&json!({"type": "ByteLevel"})), Ok("gpt-2"));
        let digits = json!({"pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]});
        assert_eq!(pre_tokenizer(&digits), Ok("smollm"));
        let odd = json!({"pretokenizers": [{"type": "Split", "pattern": {"Regex": "x+"}}]});
        assert!(pre_tokenizer(&odd).unwrap_err().message.contains("x+"));
    }

    #[test]
    fn sentencepiece_is_refused() {
        let mut file = file();
        file["pre_tokenizer"] = json!({"type": "Metaspace"});
        assert!(Vocabulary::read(&file, 6).map(|_| ()).unwrap_err().message.contains("byte-level"));
    }
}
