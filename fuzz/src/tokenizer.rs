//! Texts through vocabularies: two sound ones with every pre-tokenizer, and the same files damaged. What a sound
//! vocabulary encodes comes back byte for byte; every id exists, memory is as promised, and the text that a stream shows
//! is that of all bytes together.

use crate::Choices;
use crate::tokenizer_file::{decode, encode, with_tokenizer};
use trill::tokenizer::pretokenize::ALL;
use trill::tokenizer::{DecodeOptions, Kind, Tokenizer, TokenizerOptions, Utf8Stream};

const BPE: &[u8] = include_bytes!("../../tests/golden/tokenizer/bpe.gguf");
const SPM: &[u8] = include_bytes!("../../tests/golden/tokenizer/spm.gguf");

pub fn run(input: &[u8]) {
    let mut c = Choices::new(input);
    let spm = c.byte() % 2 == 1;
    let pre = ALL[c.below(ALL.len())].name;
    let edits = if c.byte() % 4 == 3 { 1 + c.below(8) } else { 0 };
    let mut file = if spm { SPM } else { BPE }.to_vec();
    for _ in 0..edits {
        let at = c.below(file.len());
        file[at] = c.byte();
    }
    let text = c.rest();
    let options = TokenizerOptions { pre_override: (!spm).then_some(pre), extra_eog: &[] };
    let loaded = with_tokenizer(&file, options, |t| check(t, text, edits == 0, spm));
    assert!(loaded.is_ok() || edits > 0, "{loaded:?}");
}

fn check(t: &Tokenizer<'_>, text: &[u8], sound: bool, spm: bool) {
    let (ids, missing) = encode(t, text, false);
    assert!(ids.iter().all(|&id| (id as usize) < t.vocab_size()) && missing <= text.len());
    assert!(!sound || missing == 0);
    let back = decode(t, &ids, false);
    // SentencePiece writes a space as U+2581, so that character itself does not come back.
    let ambiguous = spm && text.windows(3).any(|w| w == "\u{2581}".as_bytes());
    if sound && !ambiguous {
        assert_eq!(back, text);
    }
    // A damaged byte-level vocabulary spells what it can: bytes are dropped, never changed.
    let plain = |&id: &u32| matches!(t.kind(id), Some(Kind::Normal | Kind::Unused | Kind::UserDefined));
    if !sound && !spm && missing == 0 && ids.iter().all(plain) {
        assert_eq!(back, text);
    }
    assert!(sound && !ids.iter().any(|&id| t.kind(id) == Some(Kind::Control)) || !sound, "control tokens from text");
    streamed(t, &ids);
    let (parsed, _) = encode(t, text, true);
    assert!(parsed.iter().all(|&id| (id as usize) < t.vocab_size()));
    if sound && !ambiguous {
        assert_eq!(decode(t, &parsed, true), text);
    }
}

fn streamed(t: &Tokenizer<'_>, ids: &[u32]) {
    let (mut piece, mut all) = (vec![0; t.piece_bytes_max()], vec![]);
    let (mut stream, mut shown) = (Utf8Stream::new(), String::new());
    for &id in ids {
        let len = t.decode(id, DecodeOptions { special: true }, &mut piece).expect("a token of the vocabulary");
        all.extend_from_slice(&piece[..len]);
        stream.push(&piece[..len], &mut |s| shown.push_str(s));
    }
    stream.finish(&mut |s| shown.push_str(s));
    assert_eq!(shown, String::from_utf8_lossy(&all));
}
