//! Published files that are known to be wrong, and what puts each right. One entry per fault, each with its
//! evidence; shells show every repair that was made.

use crate::error::Result;
use crate::gguf::Gguf;

/// The chat template microsoft/bitnet-b1.58-2B-4T was trained with (its `tokenizer_config.json`).
const BITNET_2B4T_TEMPLATE: &str = "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}\
    {% set role = message['role'] | capitalize %}{{ role + ': ' + message['content'] | trim + '<|eot_id|>' }}\
    {% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// What a repair changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Use this pre-tokenizer.
    PreTokenizer(&'static str),
    /// Use this chat template.
    ChatTemplate(&'static str),
    /// Stop at this token too, given as the text of its vocabulary entry.
    StopToken(&'static str),
}

/// One thing put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair<'a> {
    /// The key, or the behaviour, that is put right.
    pub what: &'static str,
    /// What the file says; empty if nothing.
    pub from: &'a str,
    /// What is used.
    pub change: Change,
    /// The evidence.
    pub why: &'static str,
}

struct Entry {
    /// Architectures of the files concerned.
    archs: &'static [&'static str],
    what: &'static str,
    change: Change,
    why: &'static str,
    /// Whether the file has the fault, given what it says under `what`.
    is_wrong: fn(&Gguf<'_>, Option<&str>) -> Result<bool>,
}

static ENTRIES: &[Entry] = &[
    Entry {
        archs: &["bitnet-b1.58", "bitnet-25", "bitnet"],
        what: "tokenizer.ggml.pre",
        change: Change::PreTokenizer("llama-bpe"),
        why: "BitNet b1.58 files with a byte-level vocabulary use Llama 3's tokenizer and the published file leaves \
              the key out (microsoft/BitNet PR 508)",
        is_wrong: |gguf, said| Ok(said.is_none() && gguf.str("tokenizer.ggml.model")? == Some("gpt2")),
    },
    Entry {
        archs: &["bitnet-b1.58", "bitnet-25"],
        what: "tokenizer.chat_template",
        change: Change::ChatTemplate(BITNET_2B4T_TEMPLATE),
        why: "the template in the published 2B-4T file was hard-coded by the converter and the model was not trained \
              with it: it rambles and does not stop (ikawrakow/ik_llama.cpp issue 339)",
        is_wrong: |_, said| Ok(said.is_some_and(|s| s.contains("BITNETAssistant"))),
    },
    Entry {
        archs: &["bitnet-b1.58", "bitnet-25"],
        what: "stop tokens",
        change: Change::StopToken("<|eot_id|>"),
        why: "the trained template ends every turn with <|eot_id|> (128009), the published 2B-4T file names only \
              <|end_of_text|> (128001)",
        is_wrong: |gguf, _| has_token(gguf, b"<|eot_id|>"),
    },
];

/// What a published model is known to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `general.name` of the file.
    pub name: &'static str,
    /// A text.
    pub prompt: &'static str,
    /// How the likeliest continuation begins.
    pub continuation: &'static str,
    /// Who said so.
    pub evidence: &'static str,
}

static EXPECTED: &[Expected] = &[
    Expected {
        name: "bitnet2b",
        prompt: "The capital of France is",
        continuation: " Paris",
        evidence: "bitnet.cpp's own output on x86",
    },
    Expected {
        name: "Smollm2 135M 8k Lc100K Mix1 Ep2",
        prompt: "The capital of France is",
        continuation: " Paris.\n\nThe",
        evidence: "llama.cpp 0.3.36 from PyPI",
    },
    Expected {
        name: "trill-stories",
        prompt: "Once upon a time",
        continuation: ", there was a little girl named Lily.",
        evidence: "the numpy oracle of tests/oracle",
    },
];

/// What the model in `gguf` is known to say, if it is a known one.
pub fn expected(gguf: &Gguf<'_>) -> Result<Option<Expected>> {
    let name = gguf.str("general.name")?.unwrap_or("");
    Ok(EXPECTED.iter().copied().find(|e| e.name == name))
}

/// Every repair that `gguf` needs.
pub fn repairs<'a>(gguf: &Gguf<'a>) -> Result<heapless::Vec<Repair<'a>, 8>> {
    let arch = gguf.str("general.architecture")?.unwrap_or("");
    let mut found = heapless::Vec::new();
    for entry in ENTRIES.iter().filter(|e| e.archs.contains(&arch)) {
        let said = if entry.what.contains('.') { gguf.str(entry.what)? } else { None };
        if (entry.is_wrong)(gguf, said)? {
            // The table is shorter than the vector.
            let _ =
                found.push(Repair { what: entry.what, from: said.unwrap_or(""), change: entry.change, why: entry.why });
        }
    }
    Ok(found)
}

/// Whether the vocabulary's control tokens hold `text` and EOS or EOT do not already mean it.
fn has_token(gguf: &Gguf<'_>, text: &[u8]) -> Result<bool> {
    let Some(mut tokens) = gguf.array("tokenizer.ggml.tokens")?.and_then(|a| a.strings()) else { return Ok(false) };
    let Some(id) = tokens.position(|t| t == text) else { return Ok(false) };
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        if gguf.u32(key)?.is_some_and(|v| v as usize == id) {
            return Ok(false);
        }
    }
    Ok(true)
}
