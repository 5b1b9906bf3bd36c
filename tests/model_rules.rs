//! What a model's numbers mean: a model of one layer against the formulas of its papers, written out in f64 below and sharing
//! nothing with trill but the weights. And what a loader must notice.

#[allow(dead_code)]
mod common;

use common::gguf_file::{ARRAY, F32, GgufFile, STRING, array, string, strings};
use common::memory::Memory;
use common::tiny_model::{HEAD_DIM, VOCAB, one_layer};
use std::ops::{ControlFlow, Range};
use trill::cpu::CpuFeatures;
use trill::gguf::Gguf;
use trill::kernels::{Kernels, select};
use trill::kv_cache::KvType;
use trill::mem::Carver;
use trill::model::known::{self, Change};
use trill::model::{Hparams, Model, ModelError};
use trill::parallel::Serial;
use trill::sampler::{Sampler, SamplerConfig};
use trill::session::{Session, SessionConfig};

const WIDTH: usize = 64;
const HEADS: usize = 4;
const HEADS_KV: usize = 2;
const FFN: usize = 96;

fn kernels() -> Kernels {
    select(&CpuFeatures::compiled(), None).expect("kernels")
}

fn with_gguf<T>(bytes: &[u8], then: impl FnOnce(&Gguf<'_>) -> T) -> T {
    let mut index = Memory::default();
    let gguf = Gguf::parse(bytes, &mut index.carver(Gguf::index_bytes(bytes).unwrap())).unwrap();
    then(&gguf)
}

fn with_session<T>(bytes: &[u8], context: usize, then: impl FnOnce(&mut Session<'_, '_>) -> T) -> T {
    with_gguf(bytes, |gguf| {
        let (cache_k, cache_v) = (KvType::F16, KvType::F16);
        let config = SessionConfig { context, batch: 16, threads: 1, logit_rows: 2, cache_k, cache_v };
        let mut measure = Carver::measure();
        let need = Session::plan(&Model::load(gguf, &mut measure).unwrap(), config).unwrap().total() + measure.used();
        let mut memory = Memory::default();
        let mut carver = memory.carver(need);
        let model = Model::load(gguf, &mut carver).unwrap();
        then(&mut Session::new(&model, kernels(), config, &mut carver).unwrap())
    })
}

/// The logits after `tokens`, of which `gap` are forgotten before the last one is read.
fn logits(bytes: &[u8], context: usize, tokens: &[u32], gap: Range<usize>) -> Vec<f32> {
    with_session(bytes, context, |session| {
        let (last, before) = tokens.split_last().unwrap();
        session.prefill(&Serial, before, &mut |_| ControlFlow::Continue(())).unwrap();
        session.forget(gap.start, gap.len());
        session.prefill(&Serial, &[*last], &mut |_| ControlFlow::Continue(())).unwrap().to_vec()
    })
}

/// The weights of `name`, by rows.
fn weights(gguf: &Gguf<'_>, name: &str) -> Vec<f64> {
    let data = gguf.tensor(name).unwrap_or_else(|| panic!("no {name}")).data;
    data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
}

fn times(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(v, w)| v / (mean + eps).sqrt() * w).collect()
}

/// How positions turn heads: radians per position for each pair, and the factor on what is turned.
struct Turn {
    frequencies: Vec<f64>,
    factor: f64,
}

fn plain_turn() -> Turn {
    let frequencies = (0..HEAD_DIM / 2).map(|j| 10_000f64.powf(-2.0 * j as f64 / HEAD_DIM as f64)).collect();
    Turn { frequencies, factor: 1.0 }
}

/// A Llama of one layer, its rotated pairs neighbours.
fn reference(bytes: &[u8], tokens: &[u32], eps: f64, turn: &Turn) -> Vec<f64> {
    with_gguf(bytes, |gguf| {
        let w = |name: &str| weights(gguf, name);
        let [wq, wk, wv] = ["q", "k", "v"].map(|part| w(&format!("blk.0.attn_{part}.weight")));
        let attn_norm = w("blk.0.attn_norm.weight");
        let embedding = w("token_embd.weight");
        let rotate = |head: &mut [f64], position: usize| {
            for (pair, f) in head.chunks_exact_mut(2).zip(&turn.frequencies) {
                let (sin, cos) = (position as f64 * f).sin_cos();
                let (a, b) = (pair[0], pair[1]);
                pair.copy_from_slice(&[turn.factor * (a * cos - b * sin), turn.factor * (a * sin + b * cos)]);
            }
        };
        let (mut keys, mut values, mut x, mut query) = (vec![], vec![], vec![], vec![]);
        for (position, &token) in tokens.iter().enumerate() {
            x = embedding[token as usize * WIDTH..][..WIDTH].to_vec();
            let h = norm(&x, &attn_norm, eps);
            query = times(&wq, &h);
            let mut key = times(&wk, &h);
            key.chunks_exact_mut(HEAD_DIM)
                .chain(query.chunks_exact_mut(HEAD_DIM))
                .for_each(|head| rotate(head, position));
            keys.push(key);
            values.push(times(&wv, &h));
        }
        let mut attention = vec![];
        for (i, q) in query.chunks_exact(HEAD_DIM).enumerate() {
            let at = i / (HEADS / HEADS_KV) * HEAD_DIM..(i / (HEADS / HEADS_KV) + 1) * HEAD_DIM;
            let score =
                |k: &Vec<f64>| q.iter().zip(&k[at.clone()]).map(|(a, b)| a * b).sum::<f64>() / (HEAD_DIM as f64).sqrt();
            let weight: Vec<f64> = keys.iter().map(|k| score(k).exp()).collect();
            let sum: f64 = weight.iter().sum();
            attention.extend(at.clone().map(|d| weight.iter().zip(&values).map(|(w, v)| w / sum * v[d]).sum::<f64>()));
        }
        let add = |x: &mut Vec<f64>, more: Vec<f64>| x.iter_mut().zip(more).for_each(|(x, m)| *x += m);
        add(&mut x, times(&w("blk.0.attn_output.weight"), &attention));
        let h = norm(&x, &w("blk.0.ffn_norm.weight"), eps);
        let (gate, up) = (times(&w("blk.0.ffn_gate.weight"), &h), times(&w("blk.0.ffn_up.weight"), &h));
        let gated: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        assert_eq!(gated.len(), FFN);
        add(&mut x, times(&w("blk.0.ffn_down.weight"), &gated));
        times(&embedding, &norm(&x, &w("output_norm.weight"), eps))
    })
}

/// How far apart, beside the size of `want`.
fn apart(got: &[f32], want: &[f64]) -> f64 {
    assert!(got.len() == want.len() && got.len() == VOCAB);
    let square = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum::<f64>();
    (square / want.iter().map(|w| w * w).sum::<f64>()).sqrt()
}

/// Keys and values are kept as half floats, everything else is f32.
const CLOSE: f64 = 1e-3;

fn text(n: u32) -> Vec<u32> {
    (0..n).map(|i| 3 + (i * i * 7 + i * 3) % 37).collect()
}

#[track_caller]
fn agree(bytes: &[u8], context: usize, tokens: &[u32], eps: f64, turn: &Turn) {
    let want = reference(bytes, tokens, eps, turn);
    let got = logits(bytes, context, tokens, 0..0);
    assert!(apart(&got, &want) < CLOSE, "{}", apart(&got, &want));
    // Heads and pairs matter: the same without turning, or with another epsilon, is elsewhere.
    let still = Turn { frequencies: vec![0.0; HEAD_DIM / 2], factor: 1.0 };
    assert!(apart(&got, &reference(bytes, tokens, eps, &still)) > 5.0 * CLOSE);
}

#[test]
fn norms_use_their_epsilon() {
    for eps in [1e-5f32, 1e-2, 0.7] {
        let bytes = one_layer("llama", |mut file| {
            file.entries.retain(|(key, ..)| key != b"llama.attention.layer_norm_rms_epsilon");
            file.f32("llama.attention.layer_norm_rms_epsilon", eps)
        });
        agree(&bytes, 64, &text(40), f64::from(eps), &plain_turn());
    }
}

#[test]
fn linear_scaling_divides_positions() {
    for factor in [2.0f32, 8.0] {
        for kind in [Some("linear"), None] {
            let bytes = one_layer("llama", |file| {
                let file = file.f32("llama.rope.scaling.factor", factor);
                match kind {
                    Some(kind) => file.str("llama.rope.scaling.type", kind),
                    None => file,
                }
            });
            let mut turn = plain_turn();
            turn.frequencies.iter_mut().for_each(|f| *f /= f64::from(factor));
            agree(&bytes, 64, &text(60), 1e-5, &turn);
        }
    }
}

/// YaRN (arXiv 2309.00071) as llama.cpp computes it: `ggml_rope_yarn_corr_dims`, `rope_yarn`.
fn yarn_turn(factor: f64, original: f64, attention_factor: f64) -> Turn {
    let n = HEAD_DIM as f64;
    let dim = |rotations: f64| n * (original / (rotations * std::f64::consts::TAU)).ln() / (2.0 * 10_000f64.ln());
    let (low, high) = (dim(32.0).floor().max(0.0), dim(1.0).ceil().min(n - 1.0));
    let mut turn = plain_turn();
    for (j, f) in turn.frequencies.iter_mut().enumerate() {
        let extrapolated = 1.0 - ((j as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
        *f = *f / factor * (1.0 - extrapolated) + *f * extrapolated;
    }
    turn.factor = attention_factor * (1.0 + 0.1 * factor.ln());
    turn
}

fn yarn(factor: f32, original: u32, attention_factor: f32) -> Vec<u8> {
    one_layer("llama", |file| {
        file.str("llama.rope.scaling.type", "yarn")
            .f32("llama.rope.scaling.factor", factor)
            .u32("llama.rope.scaling.original_context_length", original)
            .f32("llama.rope.scaling.attn_factor", attention_factor)
    })
}

#[test]
fn yarn_keeps_some_frequencies_and_has_a_magnitude() {
    for (factor, original, attention) in [(4.0f32, 128u32, 1.0f32), (32.0, 1024, 1.0), (4.0, 128, 0.6)] {
        let bytes = yarn(factor, original, attention);
        let turn = yarn_turn(f64::from(factor), f64::from(original), f64::from(attention));
        agree(&bytes, 300, &text(290), 1e-5, &turn);
    }
}

#[test]
fn longrope_has_divisors_for_short_and_for_long_contexts() {
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (short, long): (Vec<f32>, Vec<f32>) = (0..8).map(|j| (1.0 + 0.1 * j as f32, 2.0 + 3.0 * j as f32)).unzip();
    let bytes = one_layer("llama", |file| {
        file.str("llama.rope.scaling.type", "longrope")
            .u32("llama.rope.scaling.original_context_length", 100)
            .f32("llama.rope.scaling.attn_factor", 1.2)
            .tensor("rope_factors_short.weight", &[8], 0, floats(&short))
            .tensor("rope_factors_long.weight", &[8], 0, floats(&long))
    });
    for (context, divisors) in [(64, &short), (100, &short), (101, &long), (200, &long)] {
        let mut turn = plain_turn();
        turn.frequencies.iter_mut().zip(divisors).for_each(|(f, d)| *f /= f64::from(*d));
        turn.factor = f64::from(1.2f32);
        agree(&bytes, context, &text(60), 1e-5, &turn);
    }
}

/// With one layer a key knows its own token and position alone: the text without the forgotten tokens is the reference.
#[test]
fn forgetting_turns_keys_back() {
    for (bytes, turn) in [(one_layer("llama", |f| f), plain_turn()), (yarn(4.0, 128, 1.0), yarn_turn(4.0, 128.0, 1.0))]
    {
        for gap in [1..2, 7..60, 9..129] {
            let tokens = text(200);
            let short = [&tokens[..gap.start], &tokens[gap.end..]].concat();
            let got = logits(&bytes, 256, &tokens, gap.clone());
            let away = apart(&got, &reference(&bytes, &short, 1e-5, &turn));
            assert!(away < 2.0 * CLOSE, "{gap:?}: {away}");
            let twice = Turn { frequencies: turn.frequencies.iter().map(|f| -f).collect(), factor: turn.factor };
            assert!(gap.len() == 1 || apart(&got, &reference(&bytes, &short, 1e-5, &twice)) > 5.0 * CLOSE);
        }
    }
}

#[test]
fn seeds_have_64_bits() {
    let logits: Vec<f32> = (0..100).map(|i| (i * 37 % 11) as f32 * 0.1).collect();
    let drawn = |seed: u64| {
        let config = SamplerConfig { seed, ..SamplerConfig::default() };
        let mut measure = Carver::measure();
        Sampler::new(config, logits.len(), &mut measure).unwrap();
        let mut memory = Memory::default();
        let mut carver = memory.carver(measure.used());
        let mut sampler = Sampler::new(config, logits.len(), &mut carver).unwrap();
        (0..24).map(|_| sampler.sample(&logits).unwrap()).collect::<Vec<_>>()
    };
    let seeds = (0..64).map(|bit| 7u64 ^ 1 << bit).chain([7]);
    let mut all: Vec<_> = seeds.map(drawn).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 65);
}

#[test]
fn tokens_outside_the_vocabulary_are_refused_before_anything_is_read() {
    let bytes = one_layer("llama", |file| file);
    with_session(&bytes, 32, |session| {
        let mut go = |_| ControlFlow::Continue(());
        session.prefill(&Serial, &[1, 2, 3], &mut go).unwrap();
        let vocab = VOCAB;
        for id in [vocab as u32, vocab as u32 + 1, 1 << 16, i32::MAX as u32, u32::MAX] {
            let refused = Err(trill::Error::TokenOutOfRange { id, vocab });
            for tokens in [&[id][..], &[4, id], &[id, 4, 5]] {
                assert_eq!(session.prefill(&Serial, tokens, &mut go).map(|_| ()), refused);
                assert_eq!(session.logits_all(&Serial, tokens, &mut |_, _| panic!("nothing is read")), refused);
                let verified = session.verify(&Serial, tokens, &mut |_, _| panic!("nothing is read"));
                assert_eq!(verified.map(|_| ()), refused);
                let imported = session.import(tokens, [0; 2], [0; 2], &mut |_, _, _, _| panic!("nothing is filled"));
                assert_eq!(imported.map(|_| ()), refused);
                assert_eq!(session.position(), 3);
            }
        }
        session.prefill(&Serial, &[vocab as u32 - 1], &mut go).unwrap();
    });
}

#[test]
fn numbers_that_are_none_are_refused() {
    let hparams = |bytes: &[u8]| with_gguf(bytes, |gguf| Hparams::read(gguf).map(|_| ()));
    let with = |key: &str, value: f32| {
        one_layer("llama", |mut file| {
            let key = format!("llama.{key}");
            file.entries.retain(|(k, ..)| k != key.as_bytes());
            file.f32(&key, value).str("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 2.0)
        })
    };
    for key in [
        "attention.layer_norm_rms_epsilon",
        "attention.scale",
        "embedding_scale",
        "residual_scale",
        "logit_scale",
        "rope.freq_base",
        "rope.freq_base_swa",
        "rope.scaling.attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
    ] {
        assert_eq!(hparams(&with(key, 0.5)), Ok(()), "{key}");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
            assert_eq!(hparams(&with(key, value)), Err(ModelError::BadKey(leak(key)).into()), "{key} {value}");
        }
        if !matches!(key, "embedding_scale" | "residual_scale") {
            for value in [0.0, -0.0, -1.0] {
                assert_eq!(hparams(&with(key, value)), Err(ModelError::BadKey(leak(key)).into()), "{key} {value}");
            }
        }
    }
}

fn leak(text: &str) -> &'static str {
    String::leak(text.to_owned())
}

#[test]
fn weights_that_are_no_numbers_are_found_wherever_they_are() {
    let check = |bytes: &[u8]| {
        with_gguf(bytes, |gguf| {
            let (mut measure, mut memory) = (Carver::measure(), Memory::default());
            Model::load(gguf, &mut measure).unwrap();
            Model::load(gguf, &mut memory.carver(measure.used())).unwrap().check_weights(usize::MAX)
        })
    };
    for arch in ["llama", "qwen3"] {
        let sound = one_layer(arch, |file| file);
        assert_eq!(check(&sound), Ok(()));
        let places = with_gguf(&sound, |gguf| {
            let start = sound.as_ptr() as usize;
            let place =
                |t: &trill::gguf::TensorInfo<'_>| (t.name.to_owned(), t.data.as_ptr() as usize - start, t.data.len());
            gguf.tensors().iter().map(place).collect::<Vec<_>>()
        });
        assert!(places.len() >= 11);
        for (name, at, len) in places {
            for (from_start, value) in [(0, f32::NAN), (len / 8 * 4, f32::INFINITY), (len - 4, f32::NEG_INFINITY)] {
                let mut bytes = sound.clone();
                bytes[at + from_start..][..4].copy_from_slice(&value.to_le_bytes());
                match check(&bytes) {
                    Err(trill::Error::Model(ModelError::Damaged { tensor, .. })) => {
                        assert_eq!(tensor.to_string(), name)
                    }
                    other => panic!("{name} {value} at {from_start}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn known_faults_are_put_right_and_sound_files_left_alone() {
    let tokens = strings(&["a", "<|eot_id|>", "b"]);
    let file = |arch: &str| {
        GgufFile::default()
            .entry("general.architecture", STRING, string(arch.as_bytes()))
            .str("tokenizer.ggml.model", "gpt2")
            .str("tokenizer.chat_template", "{{ 'BITNETAssistant' }}")
            .entry("tokenizer.ggml.tokens", ARRAY, tokens.clone())
    };
    let found = |file: GgufFile| {
        with_gguf(&file.build(), |gguf| {
            known::repairs(gguf).unwrap().iter().map(|r| (r.what, r.from.to_owned(), r.change)).collect::<Vec<_>>()
        })
    };
    for arch in ["bitnet-b1.58", "bitnet-25"] {
        let all = found(file(arch));
        assert_eq!(
            all.iter().map(|r| r.0).collect::<Vec<_>>(),
            ["tokenizer.ggml.pre", "tokenizer.chat_template", "stop tokens"]
        );
        assert_eq!(all[0].2, Change::PreTokenizer("llama-bpe"));
        assert!(
            matches!(all[1].2, Change::ChatTemplate(t) if t.contains("<|eot_id|>") && !t.contains("BITNETAssistant"))
        );
        assert_eq!((all[1].1.as_str(), all[2].2), ("{{ 'BITNETAssistant' }}", Change::StopToken("<|eot_id|>")));
        // Each alone: what the file has right stays.
        assert_eq!(found(file(arch).str("tokenizer.ggml.pre", "gpt-2")).len(), 2);
        for eos in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            assert_eq!(found(file(arch).u32(eos, 1)).len(), 2, "{eos}");
            assert_eq!(found(file(arch).u32(eos, 0)).len(), 3, "{eos}");
        }
    }
    assert_eq!(found(file("bitnet")).iter().map(|r| r.0).collect::<Vec<_>>(), ["tokenizer.ggml.pre"]);
    assert_eq!(found(file("llama")), []);
    let spm = GgufFile::default().str("general.architecture", "bitnet-b1.58").str("tokenizer.ggml.model", "llama");
    assert_eq!(
        found(spm.str("tokenizer.chat_template", "{{ x }}").entry("x.f", F32, 1f32.to_le_bytes()).entry(
            "x.a",
            ARRAY,
            array(F32, 0, &[])
        )),
        []
    );
}
