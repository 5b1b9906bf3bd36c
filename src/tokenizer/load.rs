//! Reading a vocabulary from a file's metadata.

use super::bpe::Bpe;
use super::pretokenize::Pretokenizer;
use super::special::Special;
use super::spm::Spm;
use super::vocab::{END_NAMES, Kind, TURN_END_NAMES, Vocab, check_length};
use super::{Model, Name, Tokenizer, TokenizerError};
use crate::error::Result;
use crate::gguf::{Gguf, keys};
use crate::mem::Carver;

/// What the caller knows better than the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerOptions<'o> {
    /// Name of the pre-tokenizer, instead of the file's.
    pub pre_override: Option<&'o str>,
    /// Further tokens that generation stops at.
    pub extra_eog: &'o [u32],
}

/// Names that make a token a control token, whatever the file says of it: the parts of a fill-in-the-middle
/// prompt, as in llama.cpp.
const CONTROL_NAMES: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

impl<'a> Tokenizer<'a> {
    /// Reads the vocabulary of `gguf` into memory from `carver`. With a measuring carver it checks and counts
    /// what can be checked and counted without tables.
    pub fn load(gguf: &Gguf<'a>, options: TokenizerOptions<'_>, carver: &mut Carver<'a>) -> Result<Self> {
        let mut vocab = Vocab::load(gguf, carver)?;
        let (model, mut tokenizer_defaults) = load_model(gguf, options, &vocab, carver)?;
        if let Some(add) = gguf.bool(keys::tokenizer::ADD_BOS)? {
            tokenizer_defaults.add_bos = add;
        }
        let id = |key, default| special_id(gguf, key, default, vocab.len());
        let bos = id(keys::tokenizer::BOS_ID, tokenizer_defaults.bos)?;
        let eos = id(keys::tokenizer::EOS_ID, tokenizer_defaults.eos)?;
        let unk = id(keys::tokenizer::UNK_ID, tokenizer_defaults.unk)?;
        let pad = id(keys::tokenizer::PAD_ID, None)?;
        let eom = id(keys::tokenizer::EOM_ID, None)?;
        let named = || END_NAMES.iter().take(TURN_END_NAMES).find_map(|name| vocab.find(name.as_bytes()));
        let eot = id(keys::tokenizer::EOT_ID, None)?.or_else(named);
        mark_ends(&mut vocab, [eos, eot, eom].into_iter().flatten().chain(options.extra_eog.iter().copied()));
        let special = Special::load(gguf, &vocab, END_NAMES.len() + CONTROL_NAMES.len(), carver)?;
        let strip_after_special = gguf.str(keys::NAME)?.is_some_and(is_phi3);
        let add_bos = tokenizer_defaults.add_bos;
        Ok(Tokenizer { vocab, special, model, bos, eos, eot, unk, pad, add_bos, strip_after_special })
    }
}

struct Defaults {
    add_bos: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
}

fn load_model<'a>(
    gguf: &Gguf<'a>,
    options: TokenizerOptions<'_>,
    vocab: &Vocab<'a>,
    carver: &mut Carver<'a>,
) -> Result<(Model<'a>, Defaults)> {
    match gguf.str(keys::tokenizer::MODEL)?.ok_or(TokenizerError::NoModel)? {
        "gpt2" => {
            let name = match options.pre_override {
                Some(name) => name,
                None => gguf.str(keys::tokenizer::PRE)?.unwrap_or("default"),
            };
            let pre = Pretokenizer::named(name).ok_or(TokenizerError::UnknownPre(Name::new(name)))?;
            let merges = gguf.array(keys::tokenizer::MERGES)?.ok_or(TokenizerError::BadMerges)?;
            let bpe = Bpe::load(vocab, &merges, pre.ignore_merges, carver)?;
            Ok((Model::Bpe(bpe, pre), Defaults { add_bos: pre.add_bos, bos: None, eos: None, unk: None }))
        }
        "llama" => {
            let scores = gguf.array(keys::tokenizer::SCORES)?.ok_or(TokenizerError::BadScores)?;
            check_length(Some(&scores), vocab.len())?;
            let mut spm = Spm::load(vocab, &scores, carver)?;
            spm.add_space_prefix = gguf.bool(keys::tokenizer::ADD_SPACE_PREFIX)?.unwrap_or(true);
            let default = |id: u32| Some(id).filter(|id| (*id as usize) < vocab.len());
            let defaults = Defaults { add_bos: true, bos: default(1), eos: default(2), unk: default(0) };
            Ok((Model::Spm(spm), defaults))
        }
        name => Err(TokenizerError::UnknownModel(Name::new(name)).into()),
    }
}

/// The id under `key`. 2^32 - 1 is how some writers say that there is none.
fn special_id(gguf: &Gguf<'_>, key: &str, default: Option<u32>, tokens: usize) -> Result<Option<u32>> {
    match gguf.u32(key)? {
        None => Ok(default),
        Some(u32::MAX) => Ok(None),
        Some(id) if (id as usize) < tokens => Ok(Some(id)),
        Some(id) => Err(TokenizerError::SpecialId { id, tokens }.into()),
    }
}

/// Decides which tokens end generation, with llama.cpp's exceptions, and makes control tokens of those known
/// by their name.
fn mark_ends(vocab: &mut Vocab<'_>, ids: impl Iterator<Item = u32>) {
    for name in END_NAMES.iter().chain(CONTROL_NAMES) {
        let Some(id) = vocab.find(name.as_bytes()) else { continue };
        vocab.set_kind(id, Kind::Control);
        vocab.set_ends(id, END_NAMES.contains(name));
    }
    ids.for_each(|id| vocab.set_ends(id, true));
    let find = |vocab: &Vocab<'_>, name: &str| vocab.find(name.as_bytes()).filter(|id| vocab.ends(*id));
    // Harmony and Solar close every message with <|end|> and a turn with the others.
    let call = find(vocab, "<|call|>").is_some() || find(vocab, "<|calls|>").is_some();
    let harmony = find(vocab, "<|return|>").is_some() || find(vocab, "<|flush|>").is_some();
    if let Some(end) = find(vocab, "<|end|>").filter(|_| call && harmony) {
        vocab.set_ends(end, false);
        vocab.set_kind(end, Kind::UserDefined);
    }
    // Gemma 4 has an ordinary </s>.
    if let Some(s) = find(vocab, "</s>").filter(|_| find(vocab, "<|tool_response>").is_some()) {
        vocab.set_ends(s, false);
        vocab.set_kind(s, Kind::Normal);
    }
}

/// Whether the model's name says that it is a Phi-3, whose special tokens take the white space after them.
fn is_phi3(name: &str) -> bool {
    let found = |part: &str| name.as_bytes().windows(part.len()).any(|w| w.eq_ignore_ascii_case(part.as_bytes()));
    found("phi-3") || found("phi3")
}
