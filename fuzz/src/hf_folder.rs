//! A Hugging Face folder of any content, converted: refused with a line, or a GGUF file that is sound, whose model and
//! vocabulary are loaded or refused by the core.
//!
//! The input is the files one after the other with a zero byte between: `config.json`, `tokenizer.json` (or nothing),
//! `tokenizer_config.json`, the header of `model.safetensors` (its length and data are added, as far as they are small),
//! and what is left is `tokenizer.model`.

use crate::Noise;
use crate::common::gguf_file::with;
use crate::tokenizer_file::with_tokenizer;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use trill::kv_cache::KvType;
use trill::tokenizer::TokenizerOptions;

/// Bytes of weights at most.
const DATA_MAX: usize = 1 << 20;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("trill-fuzz-{}", std::process::id()));
    fs::create_dir_all(folder.join("in")).expect("a folder for temporary files");
    folder
});

pub fn run(input: &[u8]) {
    let mut parts = input.splitn(5, |&b| b == 0);
    let mut part = || parts.next().unwrap_or_default();
    let [config, json, settings, header, model] = [part(), part(), part(), part(), part()];
    let mut tensors = (header.len() as u64).to_le_bytes().to_vec();
    tensors.extend(header);
    let mut noise = Noise(1);
    tensors.extend((0..data_bytes(header).min(DATA_MAX)).map(|_| noise.byte() & 0xbf));
    for (name, bytes) in [
        ("config.json", config),
        ("tokenizer.json", json),
        ("tokenizer_config.json", settings),
        ("model.safetensors", &tensors),
        ("tokenizer.model", model),
    ] {
        let path = FOLDER.join("in").join(name);
        let _ = fs::remove_file(&path);
        if !bytes.is_empty() {
            fs::write(&path, bytes).expect("a temporary file");
        }
    }
    let out = FOLDER.join("out.gguf");
    let _ = fs::remove_file(&out);
    match trill_std::fuzzing::hf_folder(&FOLDER.join("in"), &out) {
        Err(refusal) => {
            assert!([65, 66].contains(&refusal.code) && !refusal.line.is_empty(), "{refusal:?}");
            assert!(!out.exists(), "a file is left by a refusal");
        }
        Ok(()) => {
            let bytes = fs::read(&out).expect("what was converted");
            with(&bytes, |_| ()).expect("what was converted is a GGUF file");
            let _ = with_tokenizer(&bytes, TokenizerOptions::default(), |_| ());
            crate::model::run_file(&bytes, [KvType::F16; 2]);
        }
    }
}

/// Where the data of a header ends: its largest number, as a list `[from, to]` has it before its bracket.
fn data_bytes(header: &[u8]) -> usize {
    let ends = header.split(|&b| b == b']').filter_map(|part| {
        let digits = part.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        std::str::from_utf8(&part[part.len() - digits..]).ok()?.parse().ok()
    });
    ends.max().unwrap_or(0)
}
