//! A model file that is cut short while a command runs: one line and exit code 74, never a signal.

use crate::files::{Folder, stories};
use crate::run::{in_repository, trill};
use std::io::{BufRead, BufReader, Read};
use std::process::{ExitStatus, Stdio};

/// Runs `line` (where `M` is the model) with `-v`, cuts the model to `left` bytes once it is loaded, and waits for
/// the end: how it ended, and what it said on standard error afterwards.
fn cut_while_running(name: &str, line: &str, left: u64) -> (ExitStatus, String) {
    let folder = Folder::new(name);
    let model = folder.file("model.gguf");
    std::fs::copy(stories(), &model).expect("room for a copy");
    let words: Vec<&str> = line.split(' ').map(|w| if w == "M" { &model } else { w }).collect();
    let mut command = trill(&[&words[..], &["-v"]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("trill starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut told = String::new();
    while !told.contains("tokens of context\n") {
        assert!(stderr.read_line(&mut told).expect("text") > 0, "{line}: {told}");
    }
    let file = std::fs::File::options().write(true).open(&model).expect("the copy");
    file.set_len(left).expect("a shorter file");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    (child.wait().expect("the end"), rest)
}

#[test]
fn a_model_cut_short_ends_every_command_with_one_line() {
    let text = in_repository("tests/data/english.txt");
    let folder = Folder::new("talk");
    let script = folder.file("talk.txt");
    std::fs::write(&script, "Tell me a story.\n".repeat(500)).expect("a script");
    for (name, line) in [
        ("cut-run", "run -m M -p Once -n 90000 -c 100000 --ignore-eos --temp 0".to_owned()),
        ("cut-chat", format!("chat -m M -f {script} -n 200 -c 2000")),
        ("cut-bench", "bench -m M -p 256 -n 256 -r 1000".to_owned()),
        ("cut-perplexity", format!("perplexity -m M -f {} -c 32", text.display())),
        ("cut-logits", format!("logits -m M --all --tokens {}1", "5,".repeat(20_000))),
    ] {
        let (status, told) = cut_while_running(name, &line, 100_000);
        assert_eq!(status.code(), Some(74), "{line}: {status}: {told}");
        let last = told.lines().last().unwrap_or_default();
        assert!(last.starts_with("trill: ") && last.contains("could no longer be read"), "{line}: {told}");
    }
}

#[test]
fn json_is_answered_in_json() {
    let (status, told) = cut_while_running("cut-json", "bench -m M -p 256 -n 256 -r 1000 --json", 100_000);
    assert_eq!(status.code(), Some(74), "{told}");
    let said: serde_json::Value = serde_json::from_str(told.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(said["error"]["code"], 74);
}

#[test]
fn a_copy_does_not_need_the_file() {
    let line = "run -m M -p Once -n 2000 -c 3000 --ignore-eos --temp 0 --no-mmap";
    let (status, told) = cut_while_running("cut-copy", line, 100);
    assert!(status.success(), "{status}: {told}");
}
