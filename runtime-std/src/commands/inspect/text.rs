//! `trill inspect` for people.

use super::{Findings, by_type, change_text, ends, key, parameters};
use crate::engine::Opened;
use crate::host::memory::size;
use crate::options::Options;
use crate::report::text::table;
use crate::terminal::neutralise_line;
use trill::gguf::{TensorInfo, keys};
use trill::tokenizer::Tokenizer;

type Rows = Vec<Vec<String>>;

/// The whole report.
pub(super) fn report(options: &Options, opened: &Opened, findings: &Findings) -> String {
    let mut rows = Rows::new();
    file_rows(opened, findings, &mut rows);
    tokenizer_rows(opened, findings, &mut rows);
    memory_row(findings, &mut rows);
    repair_rows(opened, &mut rows);
    let mut text = table(&rows, &[]);
    if options.weights {
        text.push('\n');
        text.push_str(&table(&weights_rows(opened), &[2, 3, 4]));
    }
    text
}

/// Adds a row; what comes from the file is made harmless.
fn row(rows: &mut Rows, name: &str, value: &str) {
    rows.push(vec![name.to_owned(), neutralise_line(value)]);
}

fn file_rows(opened: &Opened, findings: &Findings, rows: &mut Rows) {
    let bytes = opened.file.bytes.len() as u64;
    let file = format!("{}, {}, GGUF version {}", opened.path.display(), size(bytes), opened.gguf.version());
    row(rows, "file", &file);
    row(rows, "name", key(opened, keys::NAME).unwrap_or("none"));
    match &findings.hparams {
        Ok(h) => {
            let heads = format!("{} heads of {} ({} for keys and values)", h.n_head, h.head_dim, h.n_head_kv);
            let widths = format!("width {}, feed-forward {}", h.n_embd, h.n_ff);
            row(rows, "architecture", &format!("{}: {} layers, {widths}, {heads}", h.arch_name, h.n_layer));
            row(rows, "context", &format!("{} tokens", h.context_train));
        }
        Err(failure) => row(rows, "architecture", &failure.message),
    }
    let n = parameters(opened);
    let weight_bytes: u64 = opened.gguf.tensors().iter().map(|t| t.bytes() as u64).sum();
    let bits = if n == 0 { 0.0 } else { weight_bytes as f64 * 8.0 / n as f64 };
    row(rows, "parameters", &format!("{:.1} million, {bits:.2} bits each", n as f64 / 1e6));
    for (i, (ty, count, bytes)) in by_type(opened).into_iter().enumerate() {
        let value = format!("{} in {count} tensors, {}", ty.info().name, size(bytes));
        row(rows, if i == 0 { "weights" } else { "" }, &value);
    }
}

fn tokenizer_rows(opened: &Opened, findings: &Findings, rows: &mut Rows) {
    match &findings.tokenizer {
        Ok(t) => {
            let model = key(opened, keys::tokenizer::MODEL).unwrap_or("");
            let kind = t.pre_name().map_or(model.to_owned(), |pre| format!("{model}, {pre}"));
            row(rows, "tokenizer", &format!("{kind}: {} tokens", t.vocab_size()));
            let added = if t.add_bos() { "put before every text" } else { "not put before a text" };
            row(rows, "first token", &format!("{} ({added})", token_text(t, t.bos())));
            let texts: Vec<String> = ends(t).into_iter().map(|id| token_text(t, Some(id))).collect();
            row(rows, "end tokens", &texts.join(", "));
        }
        Err(failure) => row(rows, "tokenizer", &failure.message),
    }
    let template = opened.template().ok().flatten();
    row(rows, "template", &template.map_or("none".into(), |t| format!("{} bytes", t.len())));
}

fn memory_row(findings: &Findings, rows: &mut Rows) {
    match &findings.memory {
        Ok(plan) => {
            let (peak, cache, context) = (size(plan.own()), size(plan.kv()), plan.config.context);
            let what =
                format!("{peak} beyond the file, {cache} of it cache, at {context} tokens of context (see trill plan)");
            row(rows, "memory", &what);
        }
        Err(failure) => row(rows, "memory", &failure.message),
    }
}

fn repair_rows(opened: &Opened, rows: &mut Rows) {
    if opened.repairs.is_empty() {
        row(rows, "repairs", "none");
    }
    for r in &opened.repairs {
        row(rows, "repair", &format!("{}: {} ({})", r.what, change_text(r.change), r.why));
    }
}

fn token_text(tokenizer: &Tokenizer<'_>, id: Option<u32>) -> String {
    id.map_or("none".into(), |id| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        format!("{id} {}", String::from_utf8_lossy(bytes))
    })
}

fn weights_rows(opened: &Opened) -> Vec<Vec<String>> {
    let row = |t: &TensorInfo<'_>| {
        let name = neutralise_line(t.name);
        let dims: Vec<String> = t.dims.iter().take(t.n_dims as usize).map(u64::to_string).collect();
        vec![name, t.ty.info().name.to_owned(), dims.join(" x "), t.bytes().to_string(), t.offset.to_string()]
    };
    let head = ["tensor", "type", "shape", "bytes", "offset"].map(String::from).to_vec();
    std::iter::once(head).chain(opened.gguf.tensors().iter().map(row)).collect()
}
