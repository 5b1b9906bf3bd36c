//! Opens a file's vocabulary and encodes with it.

use super::memory::Memory;
use trill::gguf::Gguf;
use trill::mem::Carver;
use trill::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer, TokenizerOptions};

/// Loads the vocabulary of the file `bytes` into exactly as much memory as was measured.
pub(crate) fn with_tokenizer<R>(
    bytes: &[u8],
    options: TokenizerOptions<'_>,
    run: impl FnOnce(&Tokenizer<'_>) -> R,
) -> trill::Result<R> {
    let (mut index, mut tables) = (Memory::default(), Memory::default());
    let gguf = Gguf::parse(bytes, &mut index.carver(Gguf::index_bytes(bytes)?))?;
    let mut measure = Carver::measure();
    Tokenizer::load(&gguf, options, &mut measure)?;
    let mut carver = tables.carver(measure.used());
    let tokenizer = Tokenizer::load(&gguf, options, &mut carver)?;
    assert_eq!(carver.used(), measure.used());
    Ok(run(&tokenizer))
}

/// The ids of `text`, and how many bytes the vocabulary cannot spell.
pub(crate) fn encode(t: &Tokenizer<'_>, text: &[u8], parse_special: bool) -> (Vec<u32>, usize) {
    let options = EncodeOptions { add_bos: false, parse_special };
    let need = t.scratch_bytes_for(text, options).expect("a size");
    assert!(need <= t.scratch_bytes(text.len()).expect("a size"));
    let (mut ids, mut memory) = (vec![], Memory::default());
    let missing = t.encode(text, options, memory.bytes(need), &mut |id| {
        ids.push(id);
        Ok(())
    });
    (ids, missing.expect("an encoded text"))
}

/// The bytes of the tokens `ids`, as a text from its beginning.
pub(crate) fn decode(t: &Tokenizer<'_>, ids: &[u32], special: bool) -> Vec<u8> {
    let (mut piece, mut text) = (vec![0; t.piece_bytes_max()], vec![]);
    let mut decoder = t.decoder(true);
    for id in ids {
        let len = decoder.push(t, *id, DecodeOptions { special }, &mut piece).expect("a token of the vocabulary");
        text.extend(&piece[..len]);
    }
    text
}
