//! Text to token ids and back.
//!
//! Two kinds of vocabulary are read: byte-level BPE (`tokenizer.ggml.model` = `gpt2`: [`bpe`](self), one of
//! several pre-tokenizers) and SentencePiece's BPE (`llama`). A text goes through three steps: special tokens
//! are cut out, what is left is split into words by the pre-tokenizer (BPE only), and each word is merged.
//!
//! Text is bytes. What is not UTF-8 is encoded byte by byte, never refused, and comes back as it was.
//! The tables live in the caller's memory; token texts are borrowed from the file.

mod bpe;
mod decode;
mod error;
mod load;
mod merge;
pub mod pretokenize;
mod special;
mod spm;
mod stream;
mod table;
mod unicode;
mod vocab;

pub use decode::{DecodeOptions, Decoder};
pub use error::{Name, TokenizerError};
pub use load::TokenizerOptions;
pub use stream::Utf8Stream;
pub use vocab::Kind;

use crate::error::Result;
use core::mem::MaybeUninit;
use pretokenize::Pretokenizer;
use special::Special;
use vocab::Vocab;

/// Where token ids go.
type Out<'o> = &'o mut dyn FnMut(u32) -> Result<()>;

/// A vocabulary, ready to encode and decode.
pub struct Tokenizer<'a> {
    vocab: Vocab<'a>,
    special: Special<'a>,
    model: Model<'a>,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    add_bos: bool,
    /// White space after a special token belongs to it (Phi-3).
    strip_after_special: bool,
}

enum Model<'a> {
    Bpe(bpe::Bpe<'a>, &'static Pretokenizer),
    Spm(spm::Spm<'a>),
}

/// How to encode.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncodeOptions {
    /// Put the beginning token in front, if the vocabulary has one. What the file wants is
    /// [`Tokenizer::add_bos`].
    pub add_bos: bool,
    /// Turn the texts of control tokens into those tokens. For the output of a chat template, never for what a
    /// user typed.
    pub parse_special: bool,
}

impl<'a> Tokenizer<'a> {
    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The token at the beginning of a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token at the end of a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token at the end of a turn.
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// The token for what the vocabulary cannot say.
    pub fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// The padding token.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Whether generation stops at this token: the ends of text, turn and message that the file names, and
    /// tokens known by their name (`<|im_end|>`, `<|eot_id|>`, `<end_of_turn>`, ...), as in llama.cpp.
    pub fn is_eog(&self, id: u32) -> bool {
        self.vocab.ends(id)
    }

    /// Whether the model wants the beginning token in front of a text.
    pub fn add_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// Name of the pre-tokenizer; `None` for SentencePiece vocabularies, which have none.
    pub fn pre_name(&self) -> Option<&'static str> {
        match &self.model {
            Model::Bpe(_, pre) => Some(pre.name),
            Model::Spm(_) => None,
        }
    }

    /// The vocabulary's own text of a token (in a byte-level vocabulary a space is `Ġ`).
    pub fn token_bytes(&self, id: u32) -> Option<&'a [u8]> {
        self.vocab.text(id)
    }

    /// Kind of a token.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.vocab.kind(id)
    }

    /// The token whose vocabulary text is exactly `text`.
    pub fn find(&self, text: &[u8]) -> Option<u32> {
        self.vocab.find(text)
    }

    /// Bytes that one token decodes to at most.
    pub fn piece_bytes_max(&self) -> usize {
        self.vocab.longest()
    }

    /// Working memory that [`Tokenizer::encode`] needs for any text of `text_len` bytes.
    pub fn scratch_bytes(&self, text_len: usize) -> Option<usize> {
        match &self.model {
            Model::Bpe(..) => bpe::Bpe::scratch(text_len),
            Model::Spm(_) => spm::Spm::scratch(text_len),
        }
    }

    /// Working memory that [`Tokenizer::encode`] needs for this text: for byte-level BPE that of its longest
    /// word, nearly always nothing.
    pub fn scratch_bytes_for(&self, text: &[u8], options: EncodeOptions) -> Option<usize> {
        let mut longest = 0;
        let measured = self.parts(text, options.parse_special, &mut |part, _| match (part, &self.model) {
            (Part::Text(text), Model::Bpe(_, pre)) => pre.split(text, &mut |word| {
                longest = longest.max(word.len());
                Ok(())
            }),
            (Part::Text(text), Model::Spm(_)) => {
                longest = longest.max(text.len());
                Ok(())
            }
            (Part::Token(_), _) => Ok(()),
        });
        measured.ok()?;
        self.scratch_bytes(longest)
    }

    /// Encodes `text` and hands out the ids in order. `scratch` starts at a multiple of
    /// [`crate::mem::ALIGN`] and has [`Tokenizer::scratch_bytes`] bytes.
    ///
    /// Returns how many bytes of the text the vocabulary cannot spell: they are left out (in SentencePiece
    /// vocabularies they become the unknown token). The errors of `out` end the work and are passed on.
    pub fn encode(
        &self,
        text: &[u8],
        options: EncodeOptions,
        scratch: &mut [MaybeUninit<u8>],
        out: Out<'_>,
    ) -> Result<usize> {
        if let Some(bos) = self.bos.filter(|_| options.add_bos) {
            out(bos)?;
        }
        let mut missing = 0;
        self.parts(text, options.parse_special, &mut |part, after_special| {
            missing += match (part, &self.model) {
                (Part::Token(id), _) => {
                    out(id)?;
                    0
                }
                (Part::Text(text), Model::Bpe(bpe, pre)) => {
                    let mut missing = 0;
                    pre.split(text, &mut |word| {
                        missing += bpe.encode(&self.vocab, word, scratch, out)?;
                        Ok(())
                    })?;
                    missing
                }
                (Part::Text(text), Model::Spm(spm)) => {
                    let prefix = spm.add_space_prefix && after_special;
                    spm.encode(&self.vocab, text, prefix, self.unk, scratch, out)?
                }
            };
            Ok(())
        })?;
        Ok(missing)
    }

    /// Cuts special tokens out of `text`. The parts come in order, none of them empty; with each, whether it
    /// is the first or follows a special token.
    fn parts(&self, text: &[u8], control: bool, out: &mut dyn FnMut(Part<'_>, bool) -> Result<()>) -> Result<()> {
        let (mut at, mut after_special) = (0, true);
        while at < text.len() {
            let found = self.special.next(&self.vocab, text, at, control);
            let end = found.map_or(text.len(), |(start, ..)| start);
            let between = text.get(at..end).unwrap_or_default();
            if !between.is_empty() {
                out(Part::Text(between), after_special)?;
            }
            let Some((start, len, id)) = found else { break };
            out(Part::Token(id), !between.is_empty() || after_special)?;
            after_special = true;
            at = start + len;
            if self.strip_after_special && !matches!(self.vocab.text(id), Some(b"<unk>" | b"<s>" | b"<|endoftext|>")) {
                let rest = text.get(at..).unwrap_or_default();
                at += rest.iter().position(|b| !matches!(b, b' ' | b'\t'..=b'\r')).unwrap_or(rest.len());
            }
        }
        Ok(())
    }
}

enum Part<'t> {
    Text(&'t [u8]),
    Token(u32),
}
