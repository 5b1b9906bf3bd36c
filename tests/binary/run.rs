//! Runs the `trill` binary for tests: what all of them need, and nothing about any one command.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A file of the repository.
pub(crate) fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// SmolLM2, or `None` with a line saying so where it was not fetched. `make test` names it in
/// `TRILL_TEST_MODEL`, and then it must be there.
pub(crate) fn smollm2() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TRILL_TEST_MODEL") {
        assert!(Path::new(&path).is_file(), "TRILL_TEST_MODEL names no file: {}", path.display());
        return Some(path.into());
    }
    let path = in_repository("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.is_file() {
        println!("skipped: {} is not there; `make chat` or `make test` fetches it", path.display());
        return None;
    }
    Some(path)
}

/// The binary with arguments, away from the user's own models and from what `trill tune` found.
pub(crate) fn trill(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trill"));
    let cache = std::env::temp_dir().join("trill-no-cache-of-tests");
    command.args(arguments).env_remove("TRILL_MODEL").env("XDG_CACHE_HOME", cache).stdin(Stdio::null());
    command
}

/// Runs `command` with `input` on its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("trill starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|s| {
        // A program that ends early closes the pipe: not our affair.
        s.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().expect("trill ends")
    })
}

/// Standard output of a run that must end well.
pub(crate) fn answer(command: Command, input: &str) -> String {
    let shown = format!("{command:?}");
    let out = run(command, input);
    assert!(out.status.success(), "{shown}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8 on standard output")
}

/// The same, as JSON.
pub(crate) fn json(command: Command) -> Value {
    let text = answer(command, "");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {}", &text[..text.len().min(200)]))
}
