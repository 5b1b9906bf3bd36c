//! What holds for any text and any vocabulary: round trips, the merges of a plain search, bounds on time, and
//! a typed error for every vocabulary that cannot be used.

#[path = "common/memory.rs"]
mod memory;
#[path = "common/tokenizer_file.rs"]
mod tokenizer_file;

use tokenizer_file::{decode, encode, with_tokenizer};
use trill::Error;
use trill::tokenizer::pretokenize::ALL;
use trill::tokenizer::{DecodeOptions, EncodeOptions, Kind, Name, TokenizerError, TokenizerOptions, Utf8Stream};

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/golden/tokenizer/{name}", env!("CARGO_MANIFEST_DIR"))).expect(name)
}

/// Numbers without end, the same in every run (an LCG).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    /// Bytes: any, or of a few scalars, or of letters only.
    fn text(&mut self, len: usize) -> Vec<u8> {
        let pools: [&[u8]; 3] = [&[], " aZ9'\n\r\té中か😀\u{301}\u{2581}!$<user>".as_bytes(), b"abcdefgh"];
        let pool = pools[self.below(3)];
        (0..len).map(|_| if pool.is_empty() { self.below(256) as u8 } else { pool[self.below(pool.len())] }).collect()
    }
}

#[test]
fn any_bytes_come_back() {
    let mut numbers = Numbers(1);
    for (file, rules) in [("bpe.gguf", ALL.iter().map(|p| p.name).collect()), ("spm.gguf", vec![""])] {
        let file = golden(file);
        for pre in rules {
            let options = TokenizerOptions { pre_override: Some(pre), extra_eog: &[] };
            with_tokenizer(&file, options, |t| {
                let bytes: Vec<u8> = (0..=255).collect();
                let texts = (0..400).map(|i| numbers.text(i)).chain([bytes]);
                for text in texts {
                    // SentencePiece writes a space as U+2581, so that character itself does not come back.
                    if pre.is_empty() && text.windows(3).any(|w| w == "\u{2581}".as_bytes()) {
                        continue;
                    }
                    let (ids, missing) = encode(t, &text, false);
                    assert_eq!(missing, 0);
                    assert_eq!(decode(t, &ids, false), text, "{pre} {text:02x?}");
                }
            })
            .expect("a sound vocabulary");
        }
    }
}

/// Merges by searching the whole word for the pair of lowest rank, again and again.
fn merge_plainly(word: &[u8], merges: &[(Vec<u8>, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = word.iter().map(|b| vec![*b]).collect();
    loop {
        let rank = |i: usize| merges.iter().position(|(l, r)| *l == parts[i] && *r == parts[i + 1]);
        let best = (1..parts.len()).filter_map(|i| Some((rank(i - 1)?, i - 1))).min();
        let Some((_, at)) = best else { return parts };
        let right = parts.remove(at + 1);
        parts[at].extend(right);
    }
}

#[test]
fn merges_are_those_of_a_plain_search() {
    // Letters only, so that a text is one word, and merges that overlap and compete.
    let pieces = ["ab", "bc", "abc", "ca", "cab", "aa", "aaaa", "bcab", "abcab"];
    let merges = ["b c", "a b", "a bc", "c a", "ca b", "a a", "aa aa", "bc ab", "abc ab", "ab cab"];
    let mut tokens: Vec<&str> = vec!["a", "b", "c"];
    tokens.extend(pieces);
    let file = build(&vocabulary(&tokens, &merges));
    let pairs: Vec<_> = merges.iter().map(|m| m.split_once(' ').expect("two parts")).collect();
    let pairs: Vec<_> = pairs.iter().map(|(l, r)| (l.as_bytes().to_vec(), r.as_bytes().to_vec())).collect();
    let mut numbers = Numbers(2);
    with_tokenizer(&file, TokenizerOptions::default(), |t| {
        for round in 0..600 {
            let word: Vec<u8> = (0..1 + round % 90).map(|_| b"abc"[numbers.below(3)]).collect();
            let (ids, _) = encode(t, &word, false);
            let got: Vec<&[u8]> = ids.iter().map(|id| t.token_bytes(*id).expect("a token")).collect();
            assert_eq!(got, merge_plainly(&word, &pairs), "{}", String::from_utf8_lossy(&word));
        }
    })
    .expect("a sound vocabulary");
}

#[test]
fn a_word_of_a_million_letters_takes_no_time() {
    let began = std::time::Instant::now();
    for (file, text) in
        [("bpe.gguf", "ab"), ("bpe.gguf", " "), ("bpe.gguf", "é"), ("spm.gguf", "th"), ("spm.gguf", " ")]
    {
        with_tokenizer(&golden(file), TokenizerOptions::default(), |t| {
            let text = text.repeat((1 << 20) / text.len());
            let (ids, _) = encode(t, text.as_bytes(), true);
            assert_eq!(decode(t, &ids, true), text.as_bytes());
        })
        .expect("a sound vocabulary");
    }
    // A quadratic loop would take hours.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn streamed_pieces_are_the_whole_text() {
    with_tokenizer(&golden("bpe.gguf"), TokenizerOptions::default(), |t| {
        let mut numbers = Numbers(3);
        for len in 0..300 {
            let text = numbers.text(len);
            let (mut stream, mut got, mut piece) = (Utf8Stream::new(), String::new(), vec![0; t.piece_bytes_max()]);
            for id in encode(t, &text, false).0 {
                let len = t.decode(id, DecodeOptions::default(), &mut piece).expect("a token");
                stream.push(&piece[..len], &mut |s| got.push_str(s));
            }
            stream.finish(&mut |s| got.push_str(s));
            assert_eq!(got, String::from_utf8_lossy(&text));
        }
    })
    .expect("a sound vocabulary");
}

#[test]
fn control_tokens_come_from_text_only_when_asked_for() {
    with_tokenizer(&golden("bpe.gguf"), TokenizerOptions::default(), |t| {
        let end = t.find(b"<|im_end|>").expect("a token");
        assert_eq!(t.kind(end), Some(Kind::Control));
        let text = b"a<|im_end|>b";
        let (plain, _) = encode(t, text, false);
        assert!(!plain.contains(&end));
        assert_eq!(decode(t, &plain, false), text);
        let (parsed, _) = encode(t, text, true);
        assert_eq!(parsed.iter().filter(|id| **id == end).count(), 1);
        assert_eq!(decode(t, &parsed, false), b"ab");
        assert_eq!(decode(t, &parsed, true), text);
        let mut small = [0; 3];
        let want = Error::Tokenizer(TokenizerError::OutputTooSmall { need: 10 });
        assert_eq!(t.decode(end, DecodeOptions { special: true }, &mut small), Err(want));
        let want = Error::TokenOutOfRange { id: 99_999, vocab: t.vocab_size() };
        assert_eq!(t.decode(99_999, DecodeOptions::default(), &mut small), Err(want));
    })
    .expect("a sound vocabulary");
}

/// A metadata entry: key, type number, value.
type Entry = (&'static str, u32, Vec<u8>);

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn text(key: &'static str, value: &str) -> Entry {
    (key, 8, string(value))
}

fn number(key: &'static str, value: u32) -> Entry {
    (key, 4, value.to_le_bytes().to_vec())
}

/// An array of strings.
fn texts(key: &'static str, items: &[&str]) -> Entry {
    let head = [&8u32.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
    (key, 9, items.iter().fold(head, |all, item| [all, string(item)].concat()))
}

/// A byte-level vocabulary for the rule `gpt-2`.
fn vocabulary(tokens: &[&str], merges: &[&str]) -> Vec<Entry> {
    vec![
        text(MODEL, "gpt2"),
        text(PRE, "gpt-2"),
        texts("tokenizer.ggml.tokens", tokens),
        texts("tokenizer.ggml.merges", merges),
    ]
}

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";

/// A GGUF file of metadata alone; of entries with one key only the last is kept.
fn build(entries: &[Entry]) -> Vec<u8> {
    let last = |i: usize| entries[i + 1..].iter().all(|(key, ..)| *key != entries[i].0);
    let kept: Vec<&Entry> = (0..entries.len()).filter(|i| last(*i)).map(|i| &entries[i]).collect();
    let mut file = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
    file.extend((kept.len() as u64).to_le_bytes());
    for (key, ty, value) in kept {
        file.extend([string(key), ty.to_le_bytes().to_vec(), value.clone()].concat());
    }
    file
}

#[test]
fn unusable_vocabularies_are_refused_by_name() {
    let error = |entries: &[Entry]| with_tokenizer(&build(entries), TokenizerOptions::default(), |_| ()).err();
    let refused = |entries: &[Entry], want: TokenizerError| assert_eq!(error(entries), Some(Error::Tokenizer(want)));
    let sound = || vocabulary(&["a", "b", "ab"], &["a b"]);
    assert_eq!(error(&sound()), None);
    refused(&[texts("tokenizer.ggml.tokens", &["a"])], TokenizerError::NoModel);
    refused(&[text(MODEL, "gpt2")], TokenizerError::NoTokens);
    refused(&vocabulary(&[], &[]), TokenizerError::VocabSize { got: 0 });
    refused(&vocabulary(&["a", "b", "a"], &[]), TokenizerError::DuplicateToken { id: 2, first: 0 });
    for bad in ["ab", "a b c", "a x", "x b", "b a", "", " ", "a "] {
        refused(&vocabulary(&["a", "b", "ab"], &["a b", bad]), TokenizerError::BadMerge { rank: 1 });
    }
    let long = "x".repeat(65_536);
    refused(&vocabulary(&["a", &long], &[]), TokenizerError::TokenTooLong { id: 1 });
    let kinds = [&5u32.to_le_bytes()[..], &1u64.to_le_bytes(), &1i32.to_le_bytes()].concat();
    for (entry, want) in [
        (("tokenizer.ggml.token_type", 9, kinds), TokenizerError::ListLength { got: 1, tokens: 3 }),
        (number("tokenizer.ggml.eos_token_id", 3), TokenizerError::SpecialId { id: 3, tokens: 3 }),
        (text(MODEL, "bert"), TokenizerError::UnknownModel(Name::new("bert"))),
        (text(PRE, "no-such-rule"), TokenizerError::UnknownPre(Name::new("no-such-rule"))),
        (text(MODEL, "llama"), TokenizerError::BadScores),
        (texts("tokenizer.ggml.token_type", &["1", "1", "1"]), TokenizerError::BadKinds),
    ] {
        refused(&[sound(), vec![entry]].concat(), want);
    }
}

#[test]
fn what_the_file_leaves_out() {
    let mut entries = vocabulary(&["a", "b", "ab", "", "<|im_end|>"], &["a b"]);
    entries.retain(|(key, ..)| *key != PRE);
    entries.push(number("tokenizer.ggml.bos_token_id", u32::MAX));
    entries.push(("tokenizer.ggml.add_bos_token", 7, vec![1]));
    let options = TokenizerOptions { pre_override: None, extra_eog: &[1] };
    with_tokenizer(&build(&entries), options, |t| {
        assert_eq!((t.pre_name(), t.bos(), t.eos(), t.add_bos()), (Some("default"), None, None, false));
        assert_eq!((t.eot(), t.kind(4)), (Some(4), Some(Kind::Control)));
        assert_eq!([1, 2, 3, 4].map(|id| t.is_eog(id)), [true, false, false, true]);
        assert_eq!(encode(t, b"abxab<|im_end|>", true), (vec![2, 2, 4], 1));
        let mut got = vec![];
        let options = EncodeOptions { add_bos: true, parse_special: false };
        t.encode(b"ab", options, &mut [], &mut |id| {
            got.push(id);
            Ok(())
        })
        .expect("encoded");
        assert_eq!(got, [2]);
    })
    .expect("a sound vocabulary");
}
