//! Models as Hugging Face folders hold them: `config.json`, `tokenizer.json` (or `tokenizer.model`) and safetensors
//! files. Read for `trill convert`.

mod config;
mod layout;
mod sentencepiece;
mod tensors;
mod tokenizer;

pub(crate) use config::Config;
pub(crate) use layout::{Output, Weights, outputs};
pub(crate) use tensors::Tensors;
pub(crate) use tokenizer::tokenizer;

use crate::exit::{Code, Failure, Outcome};
use crate::host::files;
use serde_json::Value;
use std::path::Path;

/// The JSON file `name` of `folder`; `None` if there is no such file.
fn json_file(folder: &Path, name: &str) -> Outcome<Option<Value>> {
    let path = folder.join(name);
    let Some(text) = files::whole(&path)? else { return Ok(None) };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(e) => Err(Failure::new(Code::Data, format!("is not JSON: {e}")).about(&path)),
    }
}

/// The file a folder cannot do without.
fn need_json_file(folder: &Path, name: &str) -> Outcome<Value> {
    json_file(folder, name)?.ok_or_else(|| {
        Failure::new(Code::NoInput, format!("holds no {name}"))
            .remedy("give the folder of a model downloaded from Hugging Face")
            .about(folder)
    })
}
