//! A session in too little memory, and a session that forgets: on models of one random layer.

use crate::common::gguf_file::{F32, GgufFile, STRING, string};
use crate::common::memory::Memory;
use crate::common::tiny_model::one_layer;
use std::ops::ControlFlow;
use trill::cpu::CpuFeatures;
use trill::gguf::Gguf;
use trill::kernels::{Kernels, select};
use trill::kv_cache::KvType;
use trill::mem::{Carver, MemError};
use trill::model::Model;
use trill::parallel::{Executor, Serial};
use trill::sampler::{Sampler, SamplerConfig};
use trill::session::{Session, SessionConfig};
use trill::tokenizer::{EncodeOptions, Tokenizer, TokenizerOptions};

fn kernels() -> Kernels {
    select(&CpuFeatures::compiled(), None).expect("kernels")
}

fn config(context: usize, cache_k: KvType, cache_v: KvType) -> SessionConfig {
    SessionConfig { context, batch: 16, threads: 1, logit_rows: 2, cache_k, cache_v }
}

/// Everything a run lays out after the file's index, and the first logit it computes.
fn lay_out<'a>(gguf: &Gguf<'a>, config: SessionConfig, carver: &mut Carver<'a>) -> trill::Result<Option<f32>> {
    let model = Model::load(gguf, carver)?;
    Tokenizer::load(gguf, TokenizerOptions::default(), carver)?;
    Sampler::new(SamplerConfig::default(), model.hparams.n_vocab, carver)?;
    let mut session = Session::new(&model, kernels(), config, carver)?;
    if carver.is_measuring() {
        return Ok(None);
    }
    let logits = session.prefill(&Serial, &[1, 7, 9], &mut |_| ControlFlow::Continue(()))?;
    Ok(logits.first().copied())
}

#[test]
fn every_size_below_the_need_is_a_typed_error() {
    let bytes = one_layer("llama", |file| file);
    let index_bytes = Gguf::index_bytes(&bytes).unwrap();
    let (mut index, mut memory) = (Memory::default(), Memory::default());
    for have in (0..index_bytes).step_by(64) {
        match Gguf::parse(&bytes, &mut index.carver(have)) {
            Err(trill::Error::Mem(MemError::Full { need, have: said })) => assert!(said == have && need > have),
            other => panic!("index in {have} bytes: {other:?}"),
        }
    }
    let gguf = Gguf::parse(&bytes, &mut index.carver(index_bytes)).unwrap();
    let mut tried = 0;
    for (k, v) in
        [(KvType::F16, KvType::F16), (KvType::Q8, KvType::Q4), (KvType::Q2, KvType::Q2), (KvType::Q3, KvType::Q2)]
    {
        let config = config(24, k, v);
        let mut measure = Carver::measure();
        assert_eq!(lay_out(&gguf, config, &mut measure), Ok(None));
        let need = measure.used();
        for have in (0..need).step_by(64) {
            match lay_out(&gguf, config, &mut memory.carver(have)) {
                Err(trill::Error::Mem(MemError::Full { need: wanted, have: said })) => {
                    assert!(said == have && wanted > have && wanted <= need, "{have} of {need}: {said}, {wanted}");
                }
                other => panic!("{have} of {need} bytes: {other:?}"),
            }
            tried += 1;
        }
        let first = lay_out(&gguf, config, &mut memory.carver(need)).unwrap();
        assert!(first.is_some_and(f32::is_finite));
    }
    println!("{tried} sizes");
    assert!(tried > 1000);
}

fn session_bytes<'a>(gguf: &Gguf<'a>, config: SessionConfig) -> usize {
    let mut carver: Carver<'a> = Carver::measure();
    let model = Model::load(gguf, &mut carver).unwrap();
    carver.used() + Session::plan(&model, config).unwrap().total()
}

/// The logits after `tokens`, of which `gap` are forgotten before the last one is read.
fn logits(bytes: &[u8], kv: KvType, tokens: &[u32], gap: std::ops::Range<usize>) -> Vec<f32> {
    let (mut index, mut memory) = (Memory::default(), Memory::default());
    let gguf = Gguf::parse(bytes, &mut index.carver(Gguf::index_bytes(bytes).unwrap())).unwrap();
    let mut carver = memory.carver(session_bytes(&gguf, config(400, kv, kv)));
    let model = Model::load(&gguf, &mut carver).unwrap();
    let mut session = Session::new(&model, kernels(), config(400, kv, kv), &mut carver).unwrap();
    let (last, before) = tokens.split_last().unwrap();
    session.prefill(&Serial, before, &mut |_| ControlFlow::Continue(())).unwrap();
    session.forget(gap.start, gap.len());
    assert_eq!(session.position(), before.len() - gap.len());
    session.prefill(&Serial, &[*last], &mut |_| ControlFlow::Continue(())).unwrap().to_vec()
}

/// Threads of the moment.
struct Scoped(usize);

impl Executor for Scoped {
    fn threads(&self) -> usize {
        self.0
    }
    fn run(&self, leader: &mut dyn FnMut(), helper: &(dyn Fn() + Sync)) {
        std::thread::scope(|s| {
            (1..self.0).for_each(|_| drop(s.spawn(helper)));
            leader();
        });
    }
    fn relax(&self, _: u32) {
        std::thread::yield_now();
    }
}

/// From the file to a sampled token and back to text: the same on any number of threads, and nothing in between that miri
/// objects to (`make miri` runs this).
#[test]
fn a_whole_run_on_many_threads_is_the_run_on_one() {
    let bytes = one_layer("qwen3", |file| file);
    let tokens: Vec<u32> = (0..if cfg!(miri) { 11u32 } else { 90 }).map(|i| 3 + (i * i * 7 + i * 3) % 37).collect();
    for (k, v) in [(KvType::F16, KvType::Q8), (KvType::Q4, KvType::Q2)] {
        let run = |threads: usize| {
            let (mut index, mut memory) = (Memory::default(), Memory::default());
            let gguf = Gguf::parse(&bytes, &mut index.carver(Gguf::index_bytes(&bytes).unwrap())).unwrap();
            let config = SessionConfig { threads, batch: 5, ..config(128, k, v) };
            let mut measure = Carver::measure();
            lay_out(&gguf, config, &mut measure).unwrap();
            let mut carver = memory.carver(measure.used());
            let model = Model::load(&gguf, &mut carver).unwrap();
            let tokenizer = Tokenizer::load(&gguf, TokenizerOptions::default(), &mut carver).unwrap();
            let mut sampler = Sampler::new(SamplerConfig::default(), model.hparams.n_vocab, &mut carver).unwrap();
            let mut session = Session::new(&model, kernels(), config, &mut carver).unwrap();
            let (mut next, mut ids, mut bits) = (tokens.clone(), vec![], vec![]);
            for _ in 0..3 {
                let logits = session.prefill(&Scoped(threads), &next, &mut |_| ControlFlow::Continue(())).unwrap();
                bits.extend(logits.iter().map(|l| l.to_bits()));
                let id = sampler.sample(logits).unwrap();
                sampler.accept(id);
                ids.push(id);
                next = vec![id];
            }
            session.forget(2, 3);
            let logits = session.prefill(&Scoped(threads), &[7], &mut |_| ControlFlow::Continue(())).unwrap();
            bits.extend(logits.iter().map(|l| l.to_bits()));
            let mut scratch = Memory::default();
            let (options, text) = (EncodeOptions { add_bos: true, parse_special: true }, b"ABC BA </s> xyz");
            let need = tokenizer.scratch_bytes_for(text, options).unwrap();
            let put = &mut |id| {
                ids.push(id);
                Ok(())
            };
            tokenizer.encode(text, options, scratch.bytes(need), put).unwrap();
            (ids, bits)
        };
        let want = run(1);
        assert!(want.0.len() > 10 && want.1.len() == 4 * 40);
        for threads in [2, 3] {
            assert!(run(threads) == want, "{threads} threads, {k:?} {v:?}");
        }
    }
}

fn rms(a: &[f32], b: &[f32]) -> f32 {
    let square = |v: f32| v * v;
    let spread = b.iter().map(|v| square(*v)).sum::<f32>();
    (a.iter().zip(b).map(|(a, b)| square(a - b)).sum::<f32>() / spread).sqrt()
}

/// With one layer, keys and values know nothing of other tokens: forgetting must give what a text without the forgotten
/// tokens gives, up to the cache's rounding.
#[test]
fn forgetting_turns_keys_to_their_new_positions() {
    let yarn = |file: GgufFile| {
        file.entry("llama.rope.scaling.type", STRING, string(b"yarn"))
            .entry("llama.rope.scaling.factor", F32, 4f32.to_le_bytes())
            .u32("llama.rope.scaling.original_context_length", 128)
    };
    let models = [
        one_layer("llama", |file| file),
        one_layer("llama", yarn),
        one_layer("qwen3", |file| file),
        one_layer("hunyuan-dense", |file| file),
    ];
    let tokens: Vec<u32> = (0..301u32).map(|i| 3 + (i * i * 7 + i * 3) % 37).collect();
    for (i, bytes) in models.iter().enumerate() {
        let gap = 9..9 + 120;
        let short = [&tokens[..gap.start], &tokens[gap.end..]].concat();
        let exact = [&short[..], &tokens].map(|text| logits(bytes, KvType::F16, text, 0..0));
        for kv in KvType::ALL {
            let got = logits(bytes, kv, &tokens, gap.clone());
            let [want, whole] = [&short[..], &tokens].map(|text| logits(bytes, kv, text, 0..0));
            let (error, otherwise) = (rms(&got, &want), rms(&whole, &want));
            // Rows that were packed in the whole text stay so where the short one keeps them as Q8, or are packed once more.
            let packing = rms(&want, &exact[0]).max(rms(&whole, &exact[1]));
            println!("model {i} {kv:?}: {error:.5}, packing {packing:.5}, whole text {otherwise:.5}");
            assert!(error < 0.002 + 3.0 * packing, "model {i}, {kv:?}: {error}, packing {packing}");
            // Where packing alone changes nearly as much as the forgotten tokens do, the two cannot be told apart.
            let clear = packing < otherwise / 3.0;
            assert!(!clear || error < 0.7 * otherwise, "model {i}, {kv:?}: {error}, whole text {otherwise}");
            assert!(clear || !matches!(kv, KvType::F16 | KvType::Q8), "model {i}, {kv:?}: {packing} {otherwise}");
            assert!(kv != KvType::F16 || otherwise > 5.0 * error, "model {i}: {otherwise} {error}");
        }
        // Nothing to forget, or more than there is.
        assert_eq!(logits(bytes, KvType::F16, &tokens, 5..5), logits(bytes, KvType::F16, &tokens, 0..0));
    }
}
