//! `trill inspect --json`.

use super::{Findings, by_type, change_text, ends, key, parameters};
use crate::engine::Opened;
use crate::exit::Outcome;
use crate::options::Options;
use crate::plan::Plan;
use serde_json::{Map, Value, json};
use trill::gguf::keys;
use trill::model::Hparams;
use trill::tokenizer::Tokenizer;

/// The whole report.
pub(super) fn report(options: &Options, opened: &Opened, findings: &Findings) -> Value {
    let gguf = &opened.gguf;
    let types = by_type(opened).into_iter();
    let types: Map<_, _> = types
        .map(|(ty, tensors, bytes)| (ty.info().name.to_owned(), json!({ "tensors": tensors, "bytes": bytes })))
        .collect();
    let repair = |r: &trill::model::known::Repair<'_>| json!({ "what": r.what, "from": r.from, "to": change_text(r.change), "why": r.why });
    let mut report = json!({
        "file": opened.path.to_string_lossy(),
        "bytes": opened.file.bytes.len(),
        "gguf_version": gguf.version(),
        "name": key(opened, keys::NAME),
        "architecture": key(opened, keys::ARCHITECTURE),
        "parameters": parameters(opened),
        "hparams": part(&findings.hparams, hparams),
        "tensor_count": gguf.tensors().len(),
        "types": types,
        "tokenizer": part(&findings.tokenizer, |t| tokenizer(opened, t)),
        "chat_template": opened.template().ok().flatten(),
        "memory": part(&findings.memory, memory),
        "repairs": opened.repairs.iter().map(repair).collect::<Vec<_>>(),
    });
    if let (true, Some(map)) = (options.weights, report.as_object_mut()) {
        map.insert("tensors".to_owned(), tensors(opened));
    }
    report
}

/// What is known of a part, or why nothing is.
fn part<T>(found: &Outcome<T>, as_json: impl FnOnce(&T) -> Value) -> Value {
    match found {
        Ok(part) => as_json(part),
        Err(failure) => json!({ "error": { "code": failure.code as u8, "message": failure.message } }),
    }
}

fn memory(plan: &Plan) -> Value {
    let mut memory = json!({ "context": plan.config.context, "kv_bytes": plan.kv(), "peak_bytes": plan.own() });
    if let Some(map) = memory.as_object_mut() {
        map.extend(plan.parts().iter().map(|part| (part.key.to_owned(), json!(part.bytes))));
    }
    memory
}

fn hparams(h: &Hparams) -> Value {
    json!({
        "n_layer": h.n_layer,
        "n_embd": h.n_embd,
        "n_ff": h.n_ff,
        "n_head": h.n_head,
        "n_head_kv": h.n_head_kv,
        "head_dim": h.head_dim,
        "n_vocab": h.n_vocab,
        "context_train": h.context_train,
        "rope_base": h.rope.base,
        "rope_dimensions": h.rope.n_rot,
        "rms_eps": h.eps,
        "sliding_window": h.sliding_window,
    })
}

fn tokenizer(opened: &Opened, t: &Tokenizer<'_>) -> Value {
    json!({
        "model": key(opened, keys::tokenizer::MODEL),
        "pre": t.pre_name(),
        "vocab_size": t.vocab_size(),
        "bos": t.bos(),
        "eos": t.eos(),
        "eot": t.eot(),
        "add_bos": t.add_bos(),
        "ends": ends(t),
    })
}

fn tensors(opened: &Opened) -> Value {
    let tensor = |t: &trill::gguf::TensorInfo<'_>| {
        json!({
            "name": t.name,
            "type": t.ty.info().name,
            "shape": &t.dims[..t.n_dims as usize],
            "bytes": t.bytes(),
            "offset": t.offset,
        })
    };
    opened.gguf.tensors().iter().map(tensor).collect()
}
