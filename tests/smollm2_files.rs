//! SmolLM2's own file, cut at 500 lengths and with 20,000 single bytes of its header and metadata changed. What
//! the core still accepts must load, tokenize and compute inside 64 MiB beside the file; the rest must be
//! refused with an error of the file, and nothing may panic.
//!
//! `binary/hostile.rs` shows the same through the shell on a smaller file, where a run costs a process.

#[path = "common/memory.rs"]
mod memory;

use core::ops::ControlFlow;
use memory::Memory;
use std::path::PathBuf;
use trill::cpu::CpuFeatures;
use trill::gguf::Gguf;
use trill::kernels::select;
use trill::kv_cache::KvType;
use trill::mem::Carver;
use trill::model::Model;
use trill::parallel::Serial;
use trill::session::{Session, SessionConfig};
use trill::tokenizer::{EncodeOptions, Tokenizer, TokenizerOptions};

/// Most memory beside the file.
const MEMORY: usize = 64 << 20;
const CONFIG: SessionConfig =
    SessionConfig { context: 64, batch: 8, threads: 1, logit_rows: 1, cache_k: KvType::F16, cache_v: KvType::F16 };

/// SmolLM2, or `None` with a line saying so. `make test` names it in `TRILL_TEST_MODEL`.
fn smollm2() -> Option<Vec<u8>> {
    let named = std::env::var_os("TRILL_TEST_MODEL").map(PathBuf::from);
    let path = named.clone().unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    });
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(e) if named.is_some() => panic!("{}: {e}", path.display()),
        Err(_) => {
            println!("skipped: {} is not there; `make chat` or `make test` fetches it", path.display());
            None
        }
    }
}

/// Opens `bytes` as the shell does, and computes a token if asked to. An error that is not the file's fault is a failure of the test.
fn open(bytes: &[u8], memory: &mut Memory, compute: bool) -> trill::Result<()> {
    let mut carver = memory.carver(MEMORY);
    let opened = use_model(bytes, &mut carver, compute);
    if let Err(trill::Error::Mem(e)) = opened {
        panic!("more than 64 MiB: {e}");
    }
    opened
}

fn use_model<'a>(bytes: &'a [u8], carver: &mut Carver<'a>, compute: bool) -> trill::Result<()> {
    let gguf = Gguf::parse(bytes, carver)?;
    let model = Model::load(&gguf, carver)?;
    let plan = Session::plan(&model, CONFIG)?;
    assert!(carver.used() + plan.total() <= MEMORY, "{plan:?}");
    let tokenizer = Tokenizer::load(&gguf, TokenizerOptions::default(), carver)?;
    let text = "Hello, world! 123 naïve\n\n  日本語 <|im_end|>".as_bytes();
    let mut scratch = Memory::default();
    let need = tokenizer.scratch_bytes(text.len()).expect("a size");
    let options = EncodeOptions { add_bos: true, parse_special: true };
    let mut ids = Vec::new();
    tokenizer.encode(text, options, scratch.bytes(need), &mut |id| {
        ids.push(id);
        Ok(())
    })?;
    if compute {
        let kernels = select(&CpuFeatures::compiled(), None)?;
        let mut session = Session::new(&model, kernels, CONFIG, carver)?;
        ids.truncate(1);
        let logits = session.prefill(&Serial, &ids, &mut |_| ControlFlow::Continue(()))?;
        assert!(ids.is_empty() || logits.len() == model.hparams.n_vocab);
    }
    Ok(())
}

#[test]
fn cut_at_500_lengths() {
    let Some(bytes) = smollm2() else { return };
    let mut memory = Memory::default();
    assert_eq!(open(&bytes, &mut memory, true), Ok(()));
    for i in 0..500 {
        let len = bytes.len() / 500 * i;
        let error = open(&bytes[..len], &mut memory, false).expect_err("a refusal");
        assert!(matches!(error, trill::Error::Gguf(_)), "{len}: {error}");
    }
}

#[test]
fn twenty_thousand_changed_bytes() {
    let Some(bytes) = smollm2() else { return };
    let refused: usize = std::thread::scope(|s| {
        let half = |seed| {
            s.spawn({
                let bytes = bytes.clone();
                move || change(bytes, seed, 10_000)
            })
        };
        [half(1), half(2)].into_iter().map(|t| t.join().expect("no panic")).sum()
    });
    println!("{refused} of 20,000 were refused");
    // The vocabulary is most of the metadata: another letter in a word is still a word, in a merge it is not.
    assert!((1_000..19_000).contains(&refused), "{refused}");
}

/// Changes `count` bytes of the metadata, one at a time; how many of the files were refused.
fn change(mut bytes: Vec<u8>, seed: u64, count: usize) -> usize {
    let mut memory = Memory::default();
    let end = {
        let mut carver = memory.carver(MEMORY);
        let gguf = Gguf::parse(&bytes, &mut carver).expect("the sound file");
        gguf.tensors().iter().map(|t| t.offset).min().expect("tensors") as usize
    };
    let records = 24 << 10;
    let mut state = seed;
    let mut refused = 0;
    for i in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let r = (state >> 33) as usize;
        // One in four at the front (header and numbers), one in four at the end (tensor records).
        let at = match i % 4 {
            0 => r % 1_500,
            1 => end - 1 - r % records,
            _ => r % end,
        };
        let xor = ((state >> 20) as u8).max(1);
        bytes[at] ^= xor;
        refused += usize::from(open(&bytes, &mut memory, i % 100 == 3).is_err());
        bytes[at] ^= xor;
    }
    refused
}
