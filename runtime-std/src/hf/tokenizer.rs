//! `tokenizer.json`, or else `tokenizer.model`, and their companions, as GGUF keys: byte-level BPE as BitNet 2B-4T,
//! Falcon, Llama 3 and Qwen have it, and SentencePiece's BPE ([`sentencepiece`]).

use super::{Config, json_file, sentencepiece};
use crate::exit::{Code, Failure, Outcome};
use crate::gguf_write::Metadata;
use crate::host::files;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::path::Path;
use trill::gguf::{Value, keys::tokenizer as keys};

/// Token types of GGUF.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;

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
    let settings = json_file(folder, "tokenizer_config.json")?.unwrap_or(Json::Null);
    let in_json = folder.join("tokenizer.json");
    let (vocabulary, file) = match json_file(folder, "tokenizer.json")? {
        Some(file) => (Vocabulary::of_json(&file, pre, config.vocab).map_err(|f| f.about(&in_json))?, file),
        None => (of_model(folder, &settings, config.vocab)?, Json::Null),
    };
    vocabulary.describe(out);
    let special = |which: &str| {
        let said = special(&settings, which, &vocabulary).or_else(|| config.token_id(which));
        said.or_else(|| vocabulary.special.iter().find(|s| s.0 == which).map(|s| s.1))
    };
    for (key, which) in [(keys::BOS_ID, "bos"), (keys::EOS_ID, "eos"), (keys::UNK_ID, "unk"), (keys::PAD_ID, "pad")] {
        if let Some(id) = special(which) {
            out.value(key, &Value::U32(id));
        }
    }
    let bos = special("bos");
    // Where nothing is said, transformers' own class for such a file puts it.
    let adds = match (settings["add_bos_token"].as_bool(), bos) {
        (Some(said), _) => said,
        (None, Some(id)) => file.is_null() || starts_with(&file["post_processor"], &vocabulary, id),
        (None, None) => false,
    };
    out.value(keys::ADD_BOS, &Value::Bool(adds && bos.is_some()));
    if let Some(template) = chat_template(folder, &settings)? {
        out.value(keys::CHAT_TEMPLATE, &Value::Str(template.as_bytes()));
    }
    Ok(())
}

/// The vocabulary of `tokenizer.model`, with the tokens that others of the folder's files add to it.
fn of_model(folder: &Path, settings: &Json, size: usize) -> Outcome<Vocabulary> {
    let path = folder.join("tokenizer.model");
    let Some(bytes) = files::whole(&path)? else {
        return Err(Failure::new(Code::NoInput, "holds no tokenizer.json and no tokenizer.model")
            .remedy("give the folder of a model downloaded from Hugging Face")
            .about(folder));
    };
    let mut vocabulary = sentencepiece::of_model(&bytes, size).map_err(|f| f.about(&path))?;
    let mut add = |id: Option<u64>, text: Option<&str>, special| vocabulary.add(id, text, special);
    if let Some(more) = json_file(folder, "added_tokens.json")? {
        for (text, id) in more.as_object().into_iter().flatten() {
            add(id.as_u64(), Some(text), false).map_err(|f| f.about(&folder.join("added_tokens.json")))?;
        }
    }
    for (id, token) in settings["added_tokens_decoder"].as_object().into_iter().flatten() {
        let special = token["special"].as_bool().unwrap_or(false);
        add(id.parse().ok(), token["content"].as_str(), special)
            .map_err(|f| f.about(&folder.join("tokenizer_config.json")))?;
    }
    Ok(vocabulary)
}

/// The tokens of a folder.
pub(super) struct Vocabulary {
    /// Texts by id; ids that nobody names are unused.
    pub(super) tokens: Vec<String>,
    pub(super) types: Vec<i32>,
    pub(super) form: Form,
    /// Tokens with a task that the vocabulary itself names, and their ids.
    pub(super) special: Vec<(&'static str, u32)>,
}

/// How texts are put together from tokens.
pub(super) enum Form {
    /// Byte-level BPE: pairs joined by a space, and the name of the pre-tokenizer.
    Merges { merges: Vec<String>, pre: String },
    /// SentencePiece: a score for each token, and whether a text starts with a space.
    Scores { scores: Vec<f32>, space_first: bool },
}

impl Vocabulary {
    /// `size` places for tokens.
    pub(super) fn empty(size: usize) -> Self {
        let tokens = (0..size).map(|i| format!("[PAD{i}]")).collect();
        let form = Form::Merges { merges: Vec::new(), pre: String::new() };
        Vocabulary { tokens, types: vec![UNUSED; size], form, special: Vec::new() }
    }

    fn of_json(file: &Json, pre: Option<&str>, size: usize) -> Outcome<Self> {
        let model = &file["model"];
        let mut vocabulary = Self::empty(size);
        let entries = model["vocab"].as_object();
        let kind = model["type"].as_str().unwrap_or("BPE");
        let (Some(entries), "BPE") = (entries, kind) else {
            return Err(bad(&format!("is a {kind} tokenizer; trill converts byte-level BPE and SentencePiece's BPE"))
                .remedy("convert the folder with llama.cpp's convert_hf_to_gguf.py"));
        };
        for (text, id) in entries {
            vocabulary.put(id.as_u64(), Some(text), NORMAL)?;
        }
        let pairs: Option<Vec<_>> = model["merges"].as_array().and_then(|m| m.iter().map(pair).collect());
        let pairs = pairs.ok_or_else(|| bad("has no list of merges"))?;
        let byte_level = mentions(&file["pre_tokenizer"], "ByteLevel") || mentions(&file["decoder"], "ByteLevel");
        if byte_level {
            let pre = pre.map_or_else(|| pre_tokenizer(&file["pre_tokenizer"]), Ok)?.to_owned();
            let merges = pairs.iter().map(|(a, b)| format!("{a} {b}")).collect();
            vocabulary.form = Form::Merges { merges, pre };
        } else {
            sentencepiece::of_json(file, &pairs, &mut vocabulary)?;
        }
        for added in file["added_tokens"].as_array().into_iter().flatten() {
            let control = added["special"].as_bool().unwrap_or(false);
            vocabulary.add(added["id"].as_u64(), added["content"].as_str(), control)?;
        }
        Ok(vocabulary)
    }

    /// Gives place `id` to a token.
    pub(super) fn put(&mut self, id: Option<u64>, text: Option<&str>, ty: i32) -> Outcome {
        let size = self.tokens.len();
        let at = id.and_then(|id| usize::try_from(id).ok()).filter(|at| *at < size);
        let (Some(at), Some(text)) = (at, text) else {
            return Err(bad(&format!("a token has no text, or an id beyond the {size} of config.json")));
        };
        text.clone_into(&mut self.tokens[at]);
        self.types[at] = ty;
        Ok(())
    }

    /// Adds a token that is matched as a whole.
    fn add(&mut self, id: Option<u64>, text: Option<&str>, control: bool) -> Outcome {
        let known = id.and_then(|id| self.types.get(usize::try_from(id).ok()?)).copied();
        // SentencePiece writes a space as U+2581 in its own tokens; what is matched as a whole is matched as it stands.
        let plain = match self.form {
            Form::Scores { .. } if !control => text.map(|t| t.replace(sentencepiece::SPACE, " ")),
            _ => text.map(str::to_owned),
        };
        let ty = match known {
            Some(UNKNOWN) => UNKNOWN,
            _ if control => CONTROL,
            _ => USER_DEFINED,
        };
        self.put(id, plain.as_deref(), ty)
    }

    fn describe(&self, out: &mut Metadata) {
        let (model, pre) = match &self.form {
            Form::Merges { pre, .. } => ("gpt2", pre.as_str()),
            Form::Scores { .. } => ("llama", "default"),
        };
        out.value(keys::MODEL, &Value::Str(model.as_bytes()));
        out.value(keys::PRE, &Value::Str(pre.as_bytes()));
        out.strings(keys::TOKENS, self.tokens.iter().map(String::as_bytes));
        if let Form::Scores { scores, .. } = &self.form {
            out.f32s(keys::SCORES, scores);
        }
        out.i32s(keys::TOKEN_TYPE, &self.types);
        match &self.form {
            Form::Merges { merges, .. } => out.strings(keys::MERGES, merges.iter().map(String::as_bytes)),
            Form::Scores { space_first, .. } => out.value(keys::ADD_SPACE_PREFIX, &Value::Bool(*space_first)),
        }
    }

    /// The id of each text.
    pub(super) fn ids(&self) -> HashMap<&str, usize> {
        self.tokens.iter().enumerate().map(|(id, text)| (text.as_str(), id)).collect()
    }

    fn id(&self, text: &str) -> Option<u32> {
        self.tokens.iter().position(|t| t == text).and_then(|id| u32::try_from(id).ok())
    }
}

/// Something is wrong with the file.
pub(super) fn bad(what: &str) -> Failure {
    Failure::new(Code::Data, what)
}

/// The two parts of a merge: a list of two texts, or, in older files, a text with a space between.
fn pair(merge: &Json) -> Option<(&str, &str)> {
    match (merge.as_str(), merge[0].as_str(), merge[1].as_str()) {
        (Some(pair), ..) => pair.split_once(' '),
        (None, Some(a), Some(b)) => Some((a, b)),
        _ => None,
    }
}

/// Whether an object of this `type` is in `value`, at any depth.
pub(super) fn mentions(value: &Json, kind: &str) -> bool {
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
    if let Some(bytes) = files::whole(&path)? {
        return crate::input::utf8(bytes).map(Some).map_err(|f| f.about(&path));
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

    fn read(file: &Json, size: usize) -> Outcome<Vocabulary> {
        Vocabulary::of_json(file, None, size)
    }

    fn merges(v: &Vocabulary) -> &[String] {
        let Form::Merges { merges, pre } = &v.form else { panic!("not byte-level") };
        assert_eq!(pre, "llama-bpe");
        merges
    }

    #[test]
    fn a_vocabulary() {
        let v = read(&file(), 6).unwrap();
        assert_eq!(v.tokens, ["a", "b", "ab", "<s>", "<tool>", "[PAD5]"]);
        assert_eq!(v.types, [NORMAL, NORMAL, NORMAL, CONTROL, USER_DEFINED, UNUSED]);
        assert_eq!(merges(&v), ["a b"]);
        assert!(starts_with(&file()["post_processor"], &v, 3));
        assert!(!starts_with(&Json::Null, &v, 3));
        assert_eq!(special(&json!({"bos_token": {"content": "<s>"}, "eos_token": "b"}), "bos", &v), Some(3));
        assert!(read(&file(), 4).is_err());
    }

    #[test]
    fn older_files_write_merges_as_strings() {
        let mut file = file();
        file["model"]["merges"] = json!(["a b"]);
        assert_eq!(merges(&read(&file, 6).unwrap()), ["a b"]);
        file["model"]["merges"] = json!([["a"]]);
        assert!(read(&file, 6).is_err());
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
    fn other_kinds_are_refused() {
        for kind in ["Unigram", "WordPiece"] {
            let mut file = file();
            file["model"]["type"] = json!(kind);
            assert!(read(&file, 6).map(|_| ()).unwrap_err().message.contains(kind));
        }
    }
}
