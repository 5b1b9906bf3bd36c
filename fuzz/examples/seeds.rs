//! Writes the seeds: `tools/fuzz.sh seeds`, which replaces those it knows in `seeds/`. Seeds that fuzzing
//! found and regressions lie beside them under other names.

// The coverage counters of the library must be linked with something that takes them.
use libfuzzer_sys as _;
use std::fs;
use std::path::Path;
use trill_std::fuzzing::session_file_example;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = root.join("seeds").join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    let golden = |name: &str| fs::read(root.join("../tests/golden/tokenizer").join(name));
    put("gguf", "spm", &golden("spm.gguf")?[..])?;
    put("gguf", "tiny", &tiny())?;
    let mut state = 1;
    for arch in 0..9u8 {
        for types in 0..5u8 {
            // Cache types, architecture and its name, layers, scaling, noise, four weight types, what is optional.
            let head = [
                types,
                arch,
                arch,
                types,
                types,
                arch % 6,
                types,
                arch * 3 + types,
                types * 7,
                arch * 4,
                types * 5 + arch,
            ];
            let edits = noise(&mut state, usize::from(types) * 9);
            put("model", &format!("arch-{arch}-{types}"), &[&head[..], &[0, types, arch, types], &edits].concat())?;
        }
    }
    for (i, text) in TEXTS.iter().enumerate() {
        put("screen", &format!("text-{i}"), text.as_bytes())?;
        put("keys", &format!("text-{i}"), &[&[40], text.as_bytes()].concat())?;
        for (kind, name) in ["bpe", "spm"].iter().enumerate() {
            let head = [kind as u8, i as u8, 0];
            put("tokenizer", &format!("{name}-{i}"), &[&head[..], text.as_bytes()].concat())?;
        }
        let damaged = [&[i as u8, 2, 3, 2], &noise(&mut state, 12)[..], text.as_bytes()].concat();
        put("tokenizer", &format!("damaged-{i}"), &damaged)?;
    }
    for (i, keys) in KEYS.iter().enumerate() {
        put("keys", &format!("keys-{i}"), &[&[5 + 20 * i as u8], *keys].concat())?;
    }
    for (i, source) in TEMPLATES.iter().enumerate() {
        put("template", &format!("text-{i}"), &[&[0], source.as_bytes()].concat())?;
    }
    for i in 0..24 {
        let length = 8 << (i % 6);
        put("template", &format!("made-{i}"), &[&[1], &noise(&mut state, length)[..]].concat())?;
        put("sampler", &format!("noise-{i}"), &noise(&mut state, 40 + 60 * i))?;
        put("session_state", &format!("noise-{i}"), &noise(&mut state, 20 + 6 * i))?;
    }
    for i in 0..35u8 {
        put("weights", &format!("type-{i}"), &[&[i, i, i, i], &noise(&mut state, 64)[..]].concat())?;
    }
    for turns in [1usize, 2, 4] {
        for mend in 0..2 {
            let file = [&[mend], &session_file_example(turns)[..]].concat();
            put("session_file", &format!("turns-{turns}-{mend}"), &file)?;
        }
    }
    for (i, line) in LINES.iter().enumerate() {
        put("command_line", &format!("line-{i}"), line.replace(' ', "\0").as_bytes())?;
    }
    for (name, arch, byte_level, packed) in [
        ("llama-bytes", "LlamaForCausalLM", true, false),
        ("qwen3-spaces", "Qwen3ForCausalLM", false, false),
        ("bitnet-packed", "BitNetForCausalLM", true, true),
    ] {
        put("hf_folder", name, &folder(arch, byte_level, packed))?;
    }
    put("hf_folder", "llama-model", &[&folder("LlamaForCausalLM", false, false)[..], &sentencepiece()].concat())?;
    Ok(())
}

/// Bytes of an LCG.
fn noise(state: &mut u64, n: usize) -> Vec<u8> {
    let mut byte = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56) as u8
    };
    (0..n).map(|_| byte()).collect()
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// A GGUF file with every kind of value and some tensors.
fn tiny() -> Vec<u8> {
    let list = |ty: u32, n: u64, data: &[u8]| [&ty.to_le_bytes()[..], &n.to_le_bytes(), data].concat();
    let entries: Vec<(&str, u32, Vec<u8>)> = vec![
        ("general.architecture", 8, text(b"llama")),
        ("general.alignment", 4, vec![32, 0, 0, 0]),
        ("u8", 0, vec![200]),
        ("i8", 1, vec![128]),
        ("u16", 2, vec![1, 2]),
        ("i16", 3, vec![255, 255]),
        ("i32", 5, vec![255; 4]),
        ("f32", 6, 1e-5f32.to_le_bytes().to_vec()),
        ("bool", 7, vec![1]),
        ("u64", 10, vec![255; 8]),
        ("i64", 11, vec![128; 8]),
        ("f64", 12, 0.5f64.to_le_bytes().to_vec()),
        ("strings", 9, list(8, 2, &[text(b"a"), text(b"")].concat())),
        ("bools", 9, list(7, 2, &[0, 1])),
        ("floats", 9, list(6, 1, &[0, 0, 128, 63])),
        ("none", 9, list(8, 0, &[])),
    ];
    let tensors: [(&str, &[u64], u32, usize); 4] =
        [("norm", &[8], 0, 32), ("w", &[32, 3], 8, 102), ("four", &[4, 1, 2, 3], 1, 48), ("q", &[64, 2], 42, 36)];
    let mut out = [&b"GGUF"[..], &3u32.to_le_bytes()].concat();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    for (key, ty, value) in &entries {
        out.extend([text(key.as_bytes()), ty.to_le_bytes().to_vec(), value.clone()].concat());
    }
    let mut data = vec![];
    for (name, dims, ty, bytes) in tensors {
        out.extend(text(name.as_bytes()));
        out.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
        out.extend(ty.to_le_bytes());
        data.resize(data.len() / 32 * 32 + 32 * usize::from(data.len() % 32 > 0), 7);
        out.extend((data.len() as u64).to_le_bytes());
        data.resize(data.len() + bytes, 1);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    [out, data].concat()
}

/// A folder as `hf_folder` reads it: one layer, width 128.
fn folder(architecture: &str, byte_level: bool, packed: bool) -> Vec<u8> {
    let bitnet = architecture.starts_with("BitNet");
    let quantization =
        if packed { r#","quantization_config":{"quant_method":"bitnet","linear_class":"autobitlinear"}"# } else { "" };
    let activation = if bitnet { "relu2" } else { "silu" };
    let config = format!(
        r#"{{"architectures":["{architecture}"],"hidden_act":"{activation}","hidden_size":128,"num_attention_heads":4,"num_key_value_heads":2,"num_hidden_layers":1,"intermediate_size":128,"vocab_size":8,"rms_norm_eps":1e-5,"rope_theta":10000.0,"max_position_embeddings":64,"tie_word_embeddings":true,"bos_token_id":6,"eos_token_id":[7]{quantization}}}"#
    );
    let model = match byte_level {
        true => {
            r#""pre_tokenizer":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}"#
        }
        false => {
            r#""normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},"model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>","vocab":{"<unk>":0,"a":1,"b":2,"ab":3,"▁":4,"<0x41>":5},"merges":["a b"]}"#
        }
    };
    let tokenizer = format!(
        r#"{{"added_tokens":[{{"id":6,"content":"<s>","special":true}},{{"id":7,"content":"</s>","special":true}}],{model}}}"#
    );
    let settings = r#"{"bos_token":"<s>","eos_token":{"content":"</s>"},"add_bos_token":true,"chat_template":"{{ messages[0].content }}","added_tokens_decoder":{"6":{"content":"<s>","special":true}}}"#;
    let mut header = Vec::new();
    let mut at = 0;
    let mut tensor = |name: String, dtype: &str, shape: &[usize], bytes: usize| {
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        let end = at + bytes * shape.iter().product::<usize>();
        header.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":[{}],"data_offsets":[{at},{end}]}}"#,
            dims.join(",")
        ));
        at = end;
    };
    tensor("model.embed_tokens.weight".into(), "F16", &[8, 128], 2);
    tensor("model.norm.weight".into(), "F32", &[128], 4);
    let layer = |part: &str| format!("model.layers.0.{part}");
    for (part, rows) in [
        ("self_attn.q_proj", 128),
        ("self_attn.k_proj", 64),
        ("self_attn.v_proj", 64),
        ("self_attn.o_proj", 128),
        ("mlp.gate_proj", 128),
        ("mlp.up_proj", 128),
        ("mlp.down_proj", 128),
    ] {
        if packed {
            tensor(layer(&format!("{part}.weight")), "U8", &[rows / 4, 128], 1);
            tensor(layer(&format!("{part}.weight_scale")), "F32", &[1], 4);
        } else {
            tensor(layer(&format!("{part}.weight")), "BF16", &[rows, 128], 2);
        }
    }
    for (part, len) in [("input_layernorm", 128), ("post_attention_layernorm", 128)] {
        tensor(layer(&format!("{part}.weight")), "F32", &[len], 4);
    }
    if bitnet {
        tensor(layer("self_attn.attn_sub_norm.weight"), "F32", &[128], 4);
        tensor(layer("mlp.ffn_sub_norm.weight"), "F32", &[128], 4);
    }
    if architecture.starts_with("Qwen3") {
        tensor(layer("self_attn.q_norm.weight"), "F32", &[32], 4);
        tensor(layer("self_attn.k_norm.weight"), "F32", &[32], 4);
    }
    let header = format!("{{{}}}", header.join(","));
    [config, tokenizer, settings.to_owned(), header, String::new()].join("\0").into_bytes()
}

/// A `tokenizer.model` of some pieces: protobuf, piece, score, type.
fn sentencepiece() -> Vec<u8> {
    let mut out = vec![];
    for (i, (text, ty)) in
        [("<unk>", 2u8), ("<s>", 3), ("</s>", 3), ("a", 1), ("b", 1), ("ab", 1), ("▁", 1)].iter().enumerate()
    {
        let mut piece = vec![0x0a, text.len() as u8];
        piece.extend(text.as_bytes());
        piece.push(0x15);
        piece.extend((-(i as f32)).to_le_bytes());
        piece.extend([0x18, *ty]);
        out.extend([0x0a, piece.len() as u8]);
        out.extend(piece);
    }
    // trainer_spec: model_type BPE, byte_fallback off.
    out.extend([0x12, 4, 0x18, 2, 0x98, 0x02]);
    out.push(0);
    out
}

const TEXTS: [&str; 8] = [
    "",
    "The quick brown fox, 1234567 times: don't <|im_end|> <user>\n\n  x",
    "\u{1b}]0;title\u{7}a\u{1b}[2J\u{9b}31m\u{202e}abc\u{2066}x\u{2069}\t\u{7f}\r\n",
    "é漢字かな한국어 עברית العربية हिन्दी ไทย 👩‍👩‍👧‍👦 🏴\u{e0067}\u{e007f} e\u{301} \u{feff}\u{200b}\u{2028}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "    def f(x):\n\treturn x**2  # 3.14e-10\r\n",
    "<s></s><unk><0x41>▁▁ <|endoftext|>",
    "ab\u{fdd0}cd\u{fdd1}\u{fffd}",
];
const KEYS: [&[u8]; 6] = [
    b"abc\x1b[D\x1b[Dx\x7f\x1b[3~\x01\x05\x0b\r",
    b"\x1b[200~one\r\ntwo\x1b[31m\t\x07\x1b[201~x\x17\x15",
    b"a\rb\rc\x1b[A\x1b[A\x1b[B\x1b[Bd\r",
    b"one two\x1bb\x1bfx\x1b[1;5D\x1b[1;3C\x1b\x7f\x1b\r",
    b"\xe6\xbc\xa2\xe5\xad\x97\xff\xc3\xf0\x9f\x8e\x89\x1bOH\x1bOF\x02\x06",
    b"\x03\x04x\x04\x0c\x1b[99;99;99z\x1b",
];
const TEMPLATES: [&str; 8] = [
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{%- set ns = namespace(found=false) -%}{{ bos_token }}{%- for message in messages -%}{%- if message['role'] == 'user' -%}{% set ns.found = true %}{{- '[INST] ' + message['content'].strip() + ' [/INST]' -}}{%- endif -%}{%- if loop.last and message.content.startswith('x') %}{% break %}{% endif -%}{%- endfor -%}{{ {'k': [1, 'é']} | tojson }}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{{ strftime_now('%Y') }}{{ raise_exception('x') }}",
    "{% set x = namespace(s='a') %}{% for i in range(20) %}{% set x.s = x.s + x.s %}{% endfor %}{{ x.s[::-1] | upper | trim }}",
    "{% if tools is defined and tools %}{{ tools | tojson(indent=2) }}{% elif enable_thinking is defined %}x{% else %}{{ messages[-1].content.split(' ')[-1] | default('y') }}{% endif %}",
    "{% for a in messages | selectattr('role', 'equalto', 'user') | list %}{{ loop.index0 }}{{ a.content | replace('<', '&lt;') }}{% endfor %}{# c #}{% raw %}{{ x }}{% endraw %}",
    "{{ [1, 2, (3, 4)] }}{{ {'a': 1}.items() | list }}{{ 1 // 2 ** 3 % 4 }}{{ 'a' in 'abc' and not none }}{{ messages | map(attribute='role') | join(', ') }}",
];
const LINES: [&str; 16] = [
    "run -m a -p hi -n 3 -c 64 -t 2 -b 8 -s 7 --temp 0.5 -sys x --json",
    "run --model=a --prompt=hi --predict=3 --ctx-size=64 --num-threads=2 -b8 -s7 --temp=0.5 -cnv -e",
    "-m a -temp 0.5 --top-k 3 --top-p 0.5 --min-p 0.1 --repeat-penalty 1.1 --repeat-last-n 3",
    "chat -m a -f q --session s --context-policy slide --think off --draft on --no-session",
    "bench -m a -p 128 -n 64 -d 3 -r 5 --head-screen off --ffn-skip off",
    "logits -m a --tokens 1,2,3 --all",
    "perplexity -m a -f t -c 512 --cache-type q4 --cache-type-k q8_0 --cache-type-v q2k",
    "tokenize -m a --jsonl --no-bos --parse-special",
    "quantize in out Q4_0 --pure --output-tensor-type Q8_0 --group-size 64 --force",
    "pack in out --no-sketch --for 4",
    "convert folder out --pre qwen2 -v",
    "inspect a --weights --mlock --no-mmap -ngl 99",
    "help run",
    "--version",
    "--frequency-penalty -1 --presence-penalty 2 --stochastic-signs 3 --keep -1 --ignore-eos",
    "doctor -h",
];
