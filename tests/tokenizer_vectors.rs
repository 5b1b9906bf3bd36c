//! Token ids against Hugging Face's `tokenizers` and llama.cpp, from the values that
//! `tests/golden/make_tokenizer_golden.py` and `make_token_lines.py` made with them.

#[path = "common/memory.rs"]
mod memory;
#[path = "common/tokenizer_file.rs"]
mod tokenizer_file;

use serde_json::Value;
use std::path::PathBuf;
use tokenizer_file::{decode, encode, with_tokenizer};
use trill::tokenizer::TokenizerOptions;
use trill::tokenizer::pretokenize::Pretokenizer;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The rows of a file with one JSON array on each line.
fn rows(name: &str) -> Vec<Vec<Value>> {
    let text = String::from_utf8(golden(name)).expect("UTF-8");
    let rows: Vec<_> = text.lines().map(|line| serde_json::from_str(line).expect("a JSON array")).collect();
    assert!(!rows.is_empty(), "{name}");
    rows
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

#[test]
fn words_are_those_of_the_regular_expressions() {
    let mut compared = 0;
    for row in rows("tokenizer/splits.jsonl") {
        let text = row[0].as_str().expect("a text");
        for (rule, want) in row[1].as_object().expect("rules") {
            let (mut words, mut joined) = (vec![], vec![]);
            let pre = Pretokenizer::named(rule).unwrap_or_else(|| panic!("{rule} is missing"));
            pre.split(text.as_bytes(), &mut |word| {
                words.push(word.len() as u32);
                joined.extend_from_slice(word);
                Ok(())
            })
            .expect("no error");
            assert_eq!(words, ids(want), "{rule}: {text:?}");
            assert_eq!(joined, text.as_bytes());
            compared += 1;
        }
    }
    assert!(compared >= 13 * 150, "{compared}");
}

#[test]
fn byte_level_ids_are_those_of_hugging_face() {
    let file = golden("tokenizer/bpe.gguf");
    let rows = rows("tokenizer/bpe.jsonl");
    for pre in ["gpt-2", "llama-bpe", "smollm"] {
        let options = TokenizerOptions { pre_override: Some(pre), extra_eog: &[] };
        let compared = with_tokenizer(&file, options, |t| {
            let rows = rows.iter().filter(|row| row[0] == pre);
            rows.map(|row| {
                let (special, text) = (row[1] == true, row[2].as_str().expect("a text"));
                let (got, missing) = encode(t, text.as_bytes(), special);
                assert_eq!((&got, missing), (&ids(&row[3]), 0), "{pre} {special} {text:?}");
                assert_eq!(String::from_utf8_lossy(&decode(t, &got, true)), text, "{pre} {special}");
            })
            .count()
        });
        assert!(compared.expect("a sound vocabulary") > 300);
    }
}

#[test]
fn sentencepiece_ids_are_those_of_llama_cpp() {
    let file = golden("tokenizer/spm.gguf");
    let key = b"tokenizer.ggml.add_space_prefix";
    let at = file.windows(key.len()).position(|w| w == key).expect("the key") + key.len() + 4;
    assert_eq!(file[at], 1);
    let rows = rows("tokenizer/spm.jsonl");
    for prefix in [true, false] {
        let mut file = file.clone();
        file[at] = u8::from(prefix);
        let compared = with_tokenizer(&file, TokenizerOptions::default(), |t| {
            let rows = rows.iter().filter(|row| row[0] == prefix);
            rows.map(|row| {
                let (special, text) = (row[1] == true, row[2].as_str().expect("a text"));
                let (got, missing) = encode(t, text.as_bytes(), special);
                assert_eq!((&got, missing), (&ids(&row[3]), 0), "{prefix} {special} {text:?}");
                assert_eq!(String::from_utf8_lossy(&decode(t, &got, true)), text, "{prefix} {special}");
            })
            .count()
        });
        assert!(compared.expect("a sound vocabulary") > 300);
    }
}

/// FNV-1a of the ids as little-endian u32.
fn hash(ids: &[u32]) -> u32 {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    bytes.fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[test]
fn smollm2_ids_of_ten_thousand_lines() {
    let named = std::env::var_os("TRILL_TEST_MODEL").map(PathBuf::from);
    let path = named.clone().unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    });
    let file = match std::fs::read(&path) {
        Ok(file) => file,
        Err(e) if named.is_some() => panic!("{}: {e}", path.display()),
        Err(_) => return println!("skipped: {} is not there; `make test` fetches it", path.display()),
    };
    let rows = rows("token_lines.jsonl");
    assert_eq!(rows.len(), 10_000);
    with_tokenizer(&file, TokenizerOptions::default(), |t| {
        assert_eq!((t.vocab_size(), t.pre_name(), t.add_bos()), (49_152, Some("smollm"), false));
        assert_eq!([t.bos(), t.eos(), t.eot(), t.unk(), t.pad()], [Some(1), Some(2), Some(2), Some(0), Some(2)]);
        // llama.cpp's list for this file.
        let ends: Vec<u32> = (0..49_152).filter(|id| t.is_eog(*id)).collect();
        assert_eq!(ends, [0, 2, 4]);
        for row in &rows {
            let text = row[0].as_str().expect("a text");
            let (got, missing) = encode(t, text.as_bytes(), false);
            assert_eq!(got.len() as u64, row[1].as_u64().expect("a count"), "{text:?}");
            match &row[2] {
                Value::Array(_) => assert_eq!(got, ids(&row[2]), "{text:?}"),
                want => assert_eq!(Some(u64::from(hash(&got))), want.as_u64(), "{text:?}"),
            }
            assert_eq!(missing > 0, row.len() == 4, "{text:?}");
            assert!(missing > 0 || decode(t, &got, false) == text.as_bytes(), "{text:?}");
        }
    })
    .expect("a sound vocabulary");
}
