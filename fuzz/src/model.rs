//! Small models of every architecture, with weights of any types, damaged here and there: refused, or read and run to
//! the end, in the memory promised, with the same bits at every kernel level and batch size.

use crate::common::gguf_file::{F32, GgufFile, STRING, U32, string};
use crate::memory::Memory;
use crate::weights::tame;
use crate::{Choices, KERNELS, Noise, bits};
use std::ops::ControlFlow;
use trill::gguf::Gguf;
use trill::kernels::{Activation, Kernels};
use trill::kv_cache::KvType;
use trill::limits::VOCAB_MAX;
use trill::mem::Carver;
use trill::model::Model;
use trill::model::arch::{ALL, ArchSpec, QkNorm};
use trill::parallel::Serial;
use trill::quant::QuantType;
use trill::session::{Session, SessionConfig};

/// A multiple of every type's block.
const WIDTH: usize = 256;
const HEADS: usize = 4;
const HEADS_KV: usize = 1;
const HEAD_DIM: usize = 64;
const FFN: usize = 256;
const VOCAB: usize = 40;
const TOKENS: [u32; 3] = [1, 7, 39];
/// Working memory beyond which a damaged file is not followed.
const MEMORY_MAX: usize = 64 << 20;

pub fn run(input: &[u8]) {
    let mut c = Choices::new(input);
    let cache = [c.of(&KvType::ALL), c.of(&KvType::ALL)];
    let mut file = model(&mut c);
    let mut raw = vec![];
    while c.more() {
        edit(&mut c, &mut file, &mut raw);
    }
    let mut bytes = file.build();
    for (at, byte) in raw {
        let at = at % bytes.len();
        bytes[at] = byte;
    }
    run_file(&bytes, cache);
}

/// The file's bytes straight, as the shell would run it.
pub(crate) fn run_file(bytes: &[u8], cache: [KvType; 2]) {
    let scalar = KERNELS.last().expect("scalar");
    let Some((want, sound)) = computed(bytes, cache, scalar, 16) else { return };
    if !sound {
        return;
    }
    for kernels in KERNELS.iter() {
        let got = computed(bytes, cache, kernels, 16).expect("it ran before").0;
        assert!(got == want, "{} differs from scalar, {cache:?}", kernels.name());
    }
    let alone = computed(bytes, cache, &KERNELS[0], 1).expect("it ran before").0;
    assert!(alone == want, "token by token differs, {cache:?}");
}

/// The bits of the logits after each token, and whether the weights are sound; `None` if the file is refused.
fn computed(bytes: &[u8], cache: [KvType; 2], kernels: &Kernels, batch: usize) -> Option<(Vec<Vec<u32>>, bool)> {
    let (mut index, mut memory) = (Memory::default(), Memory::default());
    let need = Gguf::index_bytes(bytes).ok()?;
    let gguf = Gguf::parse(bytes, &mut index.carver(need)).ok()?;
    let mut measure = Carver::measure();
    let measured = Model::load(&gguf, &mut measure).ok()?;
    let [cache_k, cache_v] = cache;
    let config = SessionConfig { context: 24, batch, threads: 1, logit_rows: 2, cache_k, cache_v };
    let plan = Session::plan(&measured, config).ok()?.total();
    let need = measure.used().checked_add(plan).filter(|&n| n <= MEMORY_MAX)?;
    let mut carver = memory.carver(need);
    let model = Model::load(&gguf, &mut carver).ok()?;
    assert_eq!(carver.used(), measure.used(), "the promised memory");
    // The program refuses what this sees; what it does not see must not do harm either.
    let sound = model.check_weights(VOCAB_MAX).is_ok();
    let mut session = Session::new(&model, *kernels, config, &mut carver).expect("memory as planned");
    assert_eq!(carver.used(), need, "the promised memory");
    let vocab = model.hparams.n_vocab as u32;
    let tokens = TOKENS.map(|t| t % vocab);
    let (mut all, mut finite) = (vec![], true);
    let mut note = |logits: &[f32]| {
        finite &= logits.iter().all(|v| v.is_finite());
        all.push(bits(logits));
    };
    session
        .logits_all(&Serial, &tokens, &mut |_, logits| {
            note(logits);
            Ok(())
        })
        .expect("tokens in range");
    let next = session.prefill(&Serial, &[tokens[0]], &mut |_| ControlFlow::Continue(())).expect("a token in range");
    note(next);
    // The sampler refuses logits that are not finite.
    Some((all, sound && finite))
}

/// A sound file, its types chosen.
fn model(c: &mut Choices<'_>) -> GgufFile {
    let spec = c.of(ALL);
    let arch = spec.names[c.below(spec.names.len())];
    let layers = 1 + c.below(2);
    let key = |suffix: &str| format!("{arch}.{suffix}");
    let mut file = GgufFile::default()
        .entry("general.architecture", STRING, string(arch.as_bytes()))
        .u32(&key("block_count"), layers as u32)
        .u32(&key("embedding_length"), WIDTH as u32)
        .u32(&key("feed_forward_length"), FFN as u32)
        .u32(&key("attention.head_count"), HEADS as u32)
        .u32(&key("attention.head_count_kv"), HEADS_KV as u32)
        .u32(&key("context_length"), 4096)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
    match c.below(6) {
        0 => file = file.u32(&key("attention.sliding_window"), 3),
        1 => {
            file = file
                .entry(key("rope.scaling.type"), STRING, string(b"yarn"))
                .f32(&key("rope.scaling.factor"), 4.0)
                .u32(&key("rope.scaling.original_context_length"), 128);
        }
        _ => {}
    }
    let mut make = Maker { noise: Noise(u64::from(c.byte())), types: [(); 4].map(|()| c.of(QuantType::ALL)), file };
    make.matrix("token_embd.weight", WIDTH, VOCAB, 0);
    make.vector("output_norm.weight", WIDTH, 1.0);
    if c.byte() % 2 == 0 && !spec.always_tied {
        make.matrix("output.weight", WIDTH, VOCAB, 1);
    }
    if c.byte() % 4 == 0 {
        make.of_type("trill.head_sketch.weight", WIDTH, VOCAB, QuantType::S2);
    }
    for layer in 0..layers {
        make.layer(spec, layer, c.byte());
    }
    make.file
}

struct Maker {
    noise: Noise,
    types: [QuantType; 4],
    file: GgufFile,
}

impl Maker {
    fn put(&mut self, name: &str, dims: &[u64], ty: QuantType, data: Vec<u8>) {
        let file = std::mem::take(&mut self.file);
        self.file = file.tensor(name, dims, ty.info().ggml_id.unwrap_or(36), data);
    }

    fn matrix(&mut self, name: &str, cols: usize, rows: usize, which: usize) {
        self.of_type(name, cols, rows, self.types[which]);
    }

    fn of_type(&mut self, name: &str, cols: usize, rows: usize, ty: QuantType) {
        let lanes = ty.lanes();
        let (row_bytes, len) = (ty.row_bytes(cols).expect("whole blocks"), ty.tensor_bytes(rows, cols));
        let mut data = Vec::new();
        match ty.info().encode {
            Some(encode) => {
                let scale = 1.7 / (cols as f32).sqrt();
                // Some encoders search, so a few groups of rows must do for all.
                let groups: Vec<Vec<u8>> = (0..2)
                    .map(|_| {
                        let values: Vec<f32> = (0..lanes * cols).map(|_| self.noise.unit() * scale).collect();
                        let mut group = vec![0; row_bytes];
                        encode(&values, &mut group);
                        group
                    })
                    .collect();
                let number = |i: usize| groups[(i * 5 + i / 3) % 2].clone();
                data.extend((0..rows.div_ceil(lanes)).flat_map(number));
                data.resize(len.expect("small"), 0);
                let tail = data.len() - ty.info().tail;
                ty.write_tail(scale, &mut data[tail..]);
            }
            None => {
                data.resize_with(len.expect("small"), || self.noise.byte());
                tame(ty, rows, cols, &mut data);
            }
        }
        self.put(name, &[cols as u64, rows as u64], ty, data);
    }

    fn vector(&mut self, name: &str, len: usize, mean: f32) {
        let data = (0..len).flat_map(|_| (mean + 0.4 * self.noise.unit()).to_le_bytes()).collect();
        self.put(name, &[len as u64], QuantType::F32, data);
    }

    /// `extra`: which optional tensors there are.
    fn layer(&mut self, spec: &ArchSpec, layer: usize, extra: u8) {
        let (q, kv) = (HEADS * HEAD_DIM, HEADS_KV * HEAD_DIM);
        let at = |name: &str| format!("blk.{layer}.{name}");
        self.vector(&at("attn_norm.weight"), WIDTH, 1.0);
        self.vector(&at("ffn_norm.weight"), WIDTH, 1.0);
        if spec.fused_qkv {
            self.matrix(&at("attn_qkv.weight"), WIDTH, q + 2 * kv, 2);
        } else {
            for (name, rows) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
                self.matrix(&at(&format!("{name}.weight")), WIDTH, rows, 2);
                if extra & 1 == 1 {
                    self.vector(&at(&format!("{name}.bias")), rows, 0.0);
                }
            }
        }
        self.matrix(&at("attn_output.weight"), q, WIDTH, 2);
        let relu2 = spec.activation == Activation::Relu2;
        // A packed file leaves out neurons that are always zero; its rows are whole blocks all the same.
        let block = self.types[3].info().block;
        let kept = if relu2 && extra & 2 == 2 && block <= FFN / 2 { FFN / 2 } else { FFN };
        if kept < FFN {
            let numbers = (0..kept).flat_map(|i| ((2 * i) as f32).to_le_bytes()).collect();
            self.put(&at("ffn_kept.weight"), &[kept as u64], QuantType::F32, numbers);
        }
        if spec.fused_gate_up {
            self.matrix(&at("ffn_up.weight"), WIDTH, 2 * FFN, 3);
        } else {
            self.matrix(&at("ffn_gate.weight"), WIDTH, kept, 3);
            // The layouts of which parts are left unread.
            let up = if relu2 && extra & 4 == 4 { QuantType::T3R } else { self.types[3] };
            self.of_type(&at("ffn_up.weight"), WIDTH, kept, up);
        }
        let down = if relu2 && extra & 4 == 4 { QuantType::T3C } else { self.types[3] };
        self.of_type(&at("ffn_down.weight"), kept, WIDTH, down);
        if spec.qk_norm != QkNorm::None {
            self.vector(&at("attn_q_norm.weight"), HEAD_DIM, 1.0);
            self.vector(&at("attn_k_norm.weight"), HEAD_DIM, 1.0);
        }
        if spec.sub_norms {
            self.vector(&at("attn_sub_norm.weight"), q, 1.0);
            self.vector(&at("ffn_sub_norm.weight"), FFN, 1.0);
        }
        if spec.post_norms {
            self.vector(&at("post_attention_norm.weight"), WIDTH, 1.0);
            self.vector(&at("post_ffw_norm.weight"), WIDTH, 1.0);
        }
    }
}

/// Names that a key may have behind the architecture's.
const SUFFIXES: [&str; 20] = [
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "attention.scale",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
];

/// One change. `raw` collects bytes to be changed in the finished file.
fn edit(c: &mut Choices<'_>, file: &mut GgufFile, raw: &mut Vec<(usize, u8)>) {
    let small = |c: &mut Choices<'_>| c.of(&[0u64, 1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1 << 20, u64::MAX]);
    let (entry, tensor) = (c.below(file.entries.len()), c.below(file.tensors.len()));
    match c.below(12) {
        0 => file.entries[entry].2 = (small(c) as u32).to_le_bytes().to_vec(),
        1 => file.entries[entry].2 = c.float().to_le_bytes().to_vec(),
        2 | 3 => {
            let arch = String::from_utf8_lossy(file.entries[0].2.get(8..).unwrap_or_default()).into_owned();
            let key = format!("{arch}.{}", SUFFIXES[c.below(SUFFIXES.len())]).into_bytes();
            let (ty, value) = if c.byte() % 2 == 0 {
                (U32, (small(c) as u32).to_le_bytes().to_vec())
            } else {
                (F32, c.float().to_le_bytes().to_vec())
            };
            file.entries.retain(|e| e.0 != key);
            file.entries.push((key, ty, value));
        }
        // All but the architecture.
        4 if entry > 0 => drop(file.entries.remove(entry)),
        5 => {
            let dims = &mut file.tensors[tensor].dims;
            let which = c.below(dims.len());
            dims[which] = small(c);
        }
        6 => file.tensors[tensor].type_id = u32::from(c.byte()),
        7 => file.tensors[tensor].offset = Some(small(c).wrapping_mul(32) % (1 << 40)),
        8 => {
            // Numbers of a vector, or of a matrix's blocks.
            let (at, number) = (c.below(1 << 16), c.float().to_le_bytes());
            let data = &mut file.tensors[tensor].data;
            let at = at % (data.len() / 4).max(1) * 4;
            if let Some(place) = data.get_mut(at..at + 4) {
                place.copy_from_slice(&number);
            }
        }
        9 => {
            let at = c.below(1 << 16);
            let (byte, data) = (c.byte(), &mut file.tensors[tensor].data);
            let len = data.len();
            data[at % len] = byte;
        }
        10 => {
            let other = c.below(file.tensors.len());
            file.tensors.swap(tensor, other);
        }
        _ => raw.push((c.below(1 << 16), c.byte())),
    }
}
