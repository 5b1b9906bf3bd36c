//! SentencePiece's BPE, from a `tokenizer.json` with byte fallback or from a `tokenizer.model`, as the scores that GGUF's
//! tokenizer model `llama` goes by: of all neighbouring tokens whose texts together are a token, the pair that makes
//! the one of the highest score is joined.

use super::tokenizer::{BYTE, Form, NORMAL, UNKNOWN, Vocabulary, bad, mentions};
use crate::exit::{Failure, Outcome};
use serde_json::Value as Json;
use std::collections::HashSet;

/// U+2581, which stands for a space.
pub(super) const SPACE: char = '\u{2581}';

/// Makes scores of a `tokenizer.json`'s merges: what is merged first has the highest.
pub(super) fn of_json(file: &Json, pairs: &[(&str, &str)], vocabulary: &mut Vocabulary) -> Outcome {
    let space_first = space_first(file)?;
    let unknown = file["model"]["unk_token"].as_str();
    for (text, ty) in vocabulary.tokens.iter().zip(&mut vocabulary.types).filter(|(_, ty)| **ty == NORMAL) {
        if is_byte(text) {
            *ty = BYTE;
        } else if Some(text.as_str()) == unknown {
            *ty = UNKNOWN;
        }
    }
    let splits = mentions(&file["pre_tokenizer"], "Metaspace") && file["pre_tokenizer"]["split"] != false;
    let spans_words = |text: &&String| text.chars().skip(1).any(|c| c == SPACE);
    if let Some(text) = vocabulary.tokens.iter().find(|text| splits && spans_words(text)) {
        return Err(unsupported(&format!("splits text at spaces, but has the token '{text}' across them")));
    }
    let (scores, odd) = scores(vocabulary, pairs)?;
    if odd > 0 {
        log::warn!(
            "{odd} pairs of tokens are merged in an order that scores cannot express: a few texts may become other \
             tokens than with Hugging Face's tokenizers"
        );
    }
    vocabulary.form = Form::Scores { scores, space_first };
    Ok(())
}

/// A score for each token, and how many pairs would be merged otherwise by them than by the list of merges.
fn scores(vocabulary: &Vocabulary, pairs: &[(&str, &str)]) -> Outcome<(Vec<f32>, usize)> {
    let ids = vocabulary.ids();
    let (mut ranks, mut next, mut odd) = (vec![None; vocabulary.tokens.len()], 0u32, 0);
    let mut merges = HashSet::with_capacity(pairs.len());
    let mut last = None;
    for &(left, right) in pairs {
        let made = format!("{left}{right}");
        let [Some(left), Some(right), Some(made)] = [left, right, made.as_str()].map(|t| ids.get(t).copied()) else {
            return Err(bad(&format!("merges '{left}' and '{right}', which are no tokens or make none")));
        };
        merges.insert((left, right));
        match ranks[made] {
            None => {
                ranks[made] = Some(next);
                next += 1;
            }
            // All pairs that make a token have one score, so they must have followed each other.
            Some(_) => odd += usize::from(last != Some(made)),
        }
        last = Some(made);
    }
    for (text, _) in vocabulary.tokens.iter().zip(&vocabulary.types).filter(|(_, ty)| **ty == NORMAL) {
        let cuts = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        let halves = cuts.filter_map(|(a, b)| Some((*ids.get(a)?, *ids.get(b)?)));
        odd += halves.filter(|pair| !merges.contains(pair)).count();
    }
    // What no merge makes comes last, in the order of ids; marks and bytes are as SentencePiece has them.
    let scores = ranks.iter().zip(&vocabulary.types).map(|(rank, ty)| match rank {
        Some(rank) => -(*rank as f32),
        None if *ty == NORMAL => {
            next += 1;
            1.0 - next as f32
        }
        None => 0.0,
    });
    Ok((scores.collect(), odd))
}

/// Whether a text starts with a space. What else is done to a text before it is split has no place in GGUF.
fn space_first(file: &Json) -> Outcome<bool> {
    let mut first = false;
    for step in steps(&file["normalizer"], "normalizers") {
        match step["type"].as_str() {
            Some("Prepend") if is_space(&step["prepend"]) => first = true,
            Some("Replace") if step["pattern"]["String"] == " " && is_space(&step["content"]) => {}
            kind => {
                return Err(unsupported(&format!(
                    "normalizes text in a way GGUF cannot say ({})",
                    kind.unwrap_or("?")
                )));
            }
        }
    }
    for step in steps(&file["pre_tokenizer"], "pretokenizers") {
        match step["type"].as_str() {
            Some("Metaspace") if is_space(&step["replacement"]) => {
                let scheme = step["prepend_scheme"].as_str();
                first |= scheme.map_or(step["add_prefix_space"] != false, |scheme| scheme != "never");
            }
            // There is no space left to split at.
            Some("Split") if step["pattern"]["String"] == " " => {}
            kind => {
                return Err(unsupported(&format!("splits text in a way GGUF cannot say ({})", kind.unwrap_or("?"))));
            }
        }
    }
    Ok(first)
}

/// The steps of a stage that may be one step or a sequence of them, or nothing.
fn steps<'j>(stage: &'j Json, of: &str) -> &'j [Json] {
    match stage[of].as_array() {
        Some(steps) => steps,
        None if stage.is_null() => &[],
        None => std::slice::from_ref(stage),
    }
}

fn is_space(value: &Json) -> bool {
    value.as_str().is_some_and(|text| text.chars().eq([SPACE]))
}

fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && u8::from_str_radix(d, 16).is_ok())
}

fn unsupported(what: &str) -> Failure {
    bad(what).remedy("convert the folder with llama.cpp's convert_hf_to_gguf.py and compare what it makes of texts")
}

// ---------------------------------------------------------------- tokenizer.model

/// The vocabulary of a `tokenizer.model`, SentencePiece's own protobuf file (sentencepiece_model.proto).
pub(super) fn of_model(bytes: &[u8], size: usize) -> Outcome<Vocabulary> {
    let mut vocabulary = Vocabulary::empty(size);
    let (mut scores, mut len) = (vec![0.0; size], 0);
    let (mut trainer, mut normalizer) = (Trainer::default(), Normalizer::default());
    each_field(bytes, &mut |field| match field {
        (1, Wire::Bytes(piece)) => {
            let (text, score, ty) = piece_of(piece)?;
            vocabulary.put(Some(len), Some(text), ty)?;
            scores[len as usize] = score;
            len += 1;
            Ok(())
        }
        (2, Wire::Bytes(spec)) => trainer.read(spec),
        (3, Wire::Bytes(spec)) => normalizer.read(spec),
        _ => Ok(()),
    })?;
    if len == 0 {
        return Err(bad("holds no tokens"));
    }
    if trainer.kind != Trainer::BPE {
        return Err(unsupported("is not a BPE model of SentencePiece; trill has no other kind"));
    }
    if normalizer.maps || normalizer.squeezes {
        return Err(unsupported("normalizes text, which GGUF's tokenizer of this kind does not do"));
    }
    let id = |id: i64| u32::try_from(id).ok().filter(|id| u64::from(*id) < len);
    let named = [("bos", trainer.bos), ("eos", trainer.eos), ("unk", trainer.unk), ("pad", trainer.pad)];
    vocabulary.special = named.iter().filter_map(|(which, n)| Some((*which, id(*n)?))).collect();
    vocabulary.form = Form::Scores { scores, space_first: normalizer.space_first };
    Ok(vocabulary)
}

/// Text, score and type of a piece; GGUF's types have SentencePiece's numbers.
fn piece_of(piece: &[u8]) -> Outcome<(&str, f32, i32)> {
    let (mut text, mut score, mut ty) = ("", 0.0, NORMAL);
    each_field(piece, &mut |field| {
        match field {
            (1, Wire::Bytes(bytes)) => text = std::str::from_utf8(bytes).map_err(|_| bad("a token is not UTF-8"))?,
            (2, Wire::Fixed32(bits)) => score = f32::from_bits(bits),
            (3, Wire::Number(n)) => {
                ty = i32::try_from(n).ok().filter(|ty| (NORMAL..=BYTE).contains(ty)).ok_or_else(malformed)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((text, score, ty))
}

/// How the vocabulary was made.
struct Trainer {
    kind: u64,
    bos: i64,
    eos: i64,
    unk: i64,
    pad: i64,
}

impl Trainer {
    const BPE: u64 = 2;

    fn read(&mut self, spec: &[u8]) -> Outcome {
        each_field(spec, &mut |field| {
            match field {
                (3, Wire::Number(n)) => self.kind = n,
                (40, Wire::Number(n)) => self.unk = n.cast_signed(),
                (41, Wire::Number(n)) => self.bos = n.cast_signed(),
                (42, Wire::Number(n)) => self.eos = n.cast_signed(),
                (43, Wire::Number(n)) => self.pad = n.cast_signed(),
                _ => {}
            }
            Ok(())
        })
    }
}

/// What a file that says nothing means.
impl Default for Trainer {
    fn default() -> Self {
        Trainer { kind: 1, bos: 1, eos: 2, unk: 0, pad: -1 }
    }
}

/// What is done to texts first.
struct Normalizer {
    /// Characters are replaced by others.
    maps: bool,
    /// Runs of spaces become one.
    squeezes: bool,
    space_first: bool,
}

impl Normalizer {
    fn read(&mut self, spec: &[u8]) -> Outcome {
        each_field(spec, &mut |field| {
            match field {
                (2, Wire::Bytes(map)) => self.maps = !map.is_empty(),
                (3, Wire::Number(n)) => self.space_first = n != 0,
                (4, Wire::Number(n)) => self.squeezes = n != 0,
                _ => {}
            }
            Ok(())
        })
    }
}

impl Default for Normalizer {
    fn default() -> Self {
        Normalizer { maps: false, squeezes: true, space_first: true }
    }
}

/// A value as protobuf writes it.
enum Wire<'b> {
    Number(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'b [u8]),
}

/// Hands out the fields of a protobuf message with their numbers.
fn each_field<'b>(mut rest: &'b [u8], out: &mut dyn FnMut((u64, Wire<'b>)) -> Outcome) -> Outcome {
    while !rest.is_empty() {
        let key = number(&mut rest).ok_or_else(malformed)?;
        let wire = match key & 7 {
            0 => number(&mut rest).map(Wire::Number),
            1 => rest.split_off(..8).map(|_| Wire::Fixed64),
            2 => number(&mut rest).and_then(|n| rest.split_off(..usize::try_from(n).ok()?)).map(Wire::Bytes),
            5 => rest.split_off(..4).and_then(|b| b.first_chunk()).map(|b| Wire::Fixed32(u32::from_le_bytes(*b))),
            _ => None,
        };
        out((key >> 3, wire.ok_or_else(malformed)?))?;
    }
    Ok(())
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn malformed() -> Failure {
    bad("is no model of SentencePiece, or damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;
    use serde_json::json;

    /// A message of one field.
    fn field(n: u8, wire: u8, body: &[u8]) -> Vec<u8> {
        let length: &[u8] = if wire == 2 { &[u8::try_from(body.len()).unwrap()] } else { &[] };
        [&[n << 3 | wire], length, body].concat()
    }

    fn model(kind: u8, more: &[u8]) -> Vec<u8> {
        let piece = |text: &str, score: f32, ty: u8| {
            let parts = [field(1, 2, text.as_bytes()), field(2, 5, &score.to_le_bytes()), field(3, 0, &[ty])];
            field(1, 2, &parts.concat())
        };
        // Identity, no charsmap, runs of spaces are kept.
        let normalizer = field(3, 2, &[field(1, 2, b"identity"), field(2, 2, b""), field(4, 0, &[0])].concat());
        let pieces = [piece("<unk>", 0.0, 2), piece("<0x41>", 0.0, 6), piece("\u{2581}a", -1.5, 1)].concat();
        [pieces, field(2, 2, &field(3, 0, &[kind])), normalizer, more.to_vec()].concat()
    }

    #[test]
    fn a_model_file() {
        let v = of_model(&model(2, &[]), 5).unwrap();
        assert_eq!(v.tokens, ["<unk>", "<0x41>", "\u{2581}a", "[PAD3]", "[PAD4]"]);
        assert_eq!(v.types, [2, 6, 1, 5, 5]);
        assert_eq!(v.special, [("bos", 1), ("eos", 2), ("unk", 0)]);
        let Form::Scores { scores, space_first } = v.form else { panic!("no scores") };
        assert_eq!((scores, space_first), (vec![0.0, 0.0, -1.5, 0.0, 0.0], true));
    }

    #[test]
    fn what_a_model_file_cannot_be() {
        let says = |bytes: &[u8], size| of_model(bytes, size).map(|_| ()).unwrap_err();
        for (bytes, size, what) in [
            (model(1, &[]), 5, "not a BPE model"),
            (model(2, &[]), 2, "beyond the 2"),
            (model(2, &field(3, 2, &field(4, 0, &[1]))), 5, "normalizes"),
            (model(2, &field(3, 2, &field(2, 2, b"x"))), 5, "normalizes"),
            (vec![], 5, "no tokens"),
            (field(1, 2, &field(1, 2, b"\xff")), 5, "UTF-8"),
            (field(1, 2, &field(3, 0, &[9])), 5, "damaged"),
        ] {
            let failure = says(&bytes, size);
            assert!(failure.code == Code::Data && failure.message.contains(what), "{}", failure.message);
        }
        // Cut or changed anywhere, it is read or refused.
        let whole = model(2, &[]);
        for at in 0..whole.len() {
            let _ = of_model(&whole[..at], 5);
            for change in [0xff, 0x80, 1] {
                let mut changed = whole.clone();
                changed[at] ^= change;
                let _ = of_model(&changed, 5);
            }
        }
    }

    fn vocabulary(tokens: &[&str]) -> Vocabulary {
        let mut v = Vocabulary::empty(tokens.len());
        for (id, text) in (0..).zip(tokens) {
            v.put(Some(id), Some(text), NORMAL).unwrap();
        }
        v
    }

    #[test]
    fn scores_follow_the_merges() {
        let mut v = vocabulary(&["<unk>", "<0x0A>", "abc", "ab", "bc", "a", "b", "c"]);
        let mut file = json!({"model": {"unk_token": "<unk>"}, "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u{2581}"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]}, "pre_tokenizer": null});
        let pairs = [("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc")];
        of_json(&file, &pairs, &mut v).unwrap();
        let Form::Scores { scores, space_first: true } = &v.form else { panic!("no scores") };
        assert_eq!(*scores, [0.0, 0.0, -2.0, -1.0, 0.0, -3.0, -4.0, -5.0]);
        assert_eq!(v.types, [UNKNOWN, BYTE, 1, 1, 1, 1, 1, 1]);
        assert_eq!(super::scores(&v, &pairs).unwrap().1, 0);
        // A way to "abc" that the list does not have, and one that comes too late.
        assert_eq!(super::scores(&v, &pairs[..3]).unwrap().1, 1);
        assert_eq!(super::scores(&v, &[pairs[2], pairs[0], pairs[1], pairs[3]]).unwrap().1, 1);
        assert!(super::scores(&v, &[("a", "x")]).is_err());
        file["normalizer"]["normalizers"][0] = json!({"type": "NFKC"});
        assert!(of_json(&file, &pairs, &mut v).unwrap_err().message.contains("NFKC"));
    }

    #[test]
    fn spaces_in_front() {
        let of = |step: Json| space_first(&json!({"pre_tokenizer": step}));
        let metaspace = |key: &str, value: Json| json!({"type": "Metaspace", "replacement": "\u{2581}", key: value});
        assert_eq!(of(metaspace("prepend_scheme", json!("first"))), Ok(true));
        assert_eq!(of(metaspace("prepend_scheme", json!("never"))), Ok(false));
        assert_eq!(of(metaspace("add_prefix_space", json!(false))), Ok(false));
        assert_eq!(of(metaspace("add_prefix_space", json!(true))), Ok(true));
        assert_eq!(of(json!({"type": "Split", "pattern": {"String": " "}})), Ok(false));
        assert!(of(json!({"type": "Digits"})).unwrap_err().message.contains("Digits"));
        let words = json!({"model": {}, "pre_tokenizer": metaspace("split", json!(true))});
        let across = of_json(&words, &[], &mut vocabulary(&["a\u{2581}b"]));
        assert!(across.unwrap_err().message.contains("across"));
    }
}
