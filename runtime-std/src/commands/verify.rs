//! `trill verify`: whether a file is what somebody vouched for.

use super::Command;
use crate::authentic::{self, Signed};
use crate::engine;
use crate::exit::Outcome;
use crate::fence;
use crate::options::Options;
use crate::report::{json, text};
use serde_json::json;

pub(crate) const VERIFY: Command = Command {
    name: "verify",
    summary: "checks a file's SHA-256 and its minisign signature",
    usage: "verify MODEL [--sha256 HEX] [--key FILE|TEXT] [--signature FILE] [--json]",
    notes: "Without --sha256 or --key the hash is shown and nothing is checked. The signature is MODEL.minisig unless\n\
            --signature names another. The file need not be a model.",
    bit: 1 << 10,
    takes_model: true,
    operands: &[],
    run,
};

fn run(options: &Options) -> Outcome {
    let (path, file) = engine::find(options)?;
    let signed = Signed::read(options, &path)?;
    fence::close(options)?;
    let sha256 = authentic::sha256(file.bytes, options.verbosity)?;
    authentic::check_hash(options, &path, || Ok(sha256.clone()))?;
    if let Some(signed) = &signed {
        signed.verify(file.bytes, options.verbosity).map_err(|f| f.about(&path))?;
    }
    if options.json {
        let signature = signed
            .as_ref()
            .map(|s| json!({ "file": s.file.to_string_lossy(), "trusted_comment": s.comment(), "verified": true }));
        return json::print(&json!({
            "model": path.to_string_lossy(), "bytes": file.bytes.len(), "sha256": sha256,
            "sha256_verified": options.sha256.is_some(), "signature": signature,
        }));
    }
    let as_asked = if options.sha256.is_some() { " (as asked)" } else { "" };
    let mut answer = format!("sha256     {sha256}{as_asked}\n");
    if let Some(signed) = &signed {
        answer.push_str(&format!("signature  good; trusted comment: {}\n", signed.comment()));
    }
    text::print(&answer)
}
