//! The contract of the command line (`docs/cli.md`), on the tiny model in `data/`: exit codes, what goes to
//! which stream, the JSON forms, memory, interruption.

use crate::limits::limited;
use crate::run::{answer, in_repository, json, run, trill};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn model() -> String {
    in_repository("tests/data/stories-bitnet-I2_S.gguf").to_str().expect("a UTF-8 path").to_owned()
}

/// `trill` with arguments separated by spaces; `M` is the model.
fn tiny(line: &str) -> Command {
    let model = model();
    let words: Vec<&str> = line.split(' ').map(|w| if w == "M" { &model } else { w }).collect();
    trill(&words)
}

fn errors(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).expect("UTF-8 on standard error")
}

const STORY: &str = "run -m M -p Once -n 40 -c 384 --temp 0";

#[test]
fn wrong_usage_and_wrong_files_have_their_codes() {
    let text = in_repository("tests/data/english.txt");
    let folder = in_repository("tests");
    for (line, code) in [
        ("run -m M --frobnicate".to_owned(), 64),
        ("run -m M -n many".to_owned(), 64),
        ("run -m M --top-p 2".to_owned(), 64),
        ("frobnicate".to_owned(), 64),
        ("logits -m M".to_owned(), 64),
        ("perplexity -m M".to_owned(), 64),
        ("run -m /no/such/file.gguf -p x".to_owned(), 66),
        ("perplexity -m M -f /no/such/text".to_owned(), 66),
        (format!("run -m {} -p x", folder.display()), 66),
        (format!("run -m {} -p x", text.display()), 65),
        ("run -m /dev/null -p x".to_owned(), 66),
        ("logits -m M --tokens 1,999999".to_owned(), 65),
        ("detokenize -m M -p 1,999999".to_owned(), 65),
        ("run -m M -c 4 -p a,b,c,d,e,f,g".to_owned(), 65),
    ] {
        let out = run(tiny(&line), "");
        assert_eq!(out.status.code(), Some(code), "{line}: {}", errors(&out));
        assert!(out.stdout.is_empty(), "{line}: an answer beside the error");
        assert_eq!(errors(&out).lines().count(), 1, "{line}: {}", errors(&out));
        let out = run(tiny(&format!("{line} --json")), "");
        let said: Value = serde_json::from_slice(&out.stderr).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(said["error"]["code"], code, "{line}");
        assert!(said["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{line}");
    }
}

#[test]
fn kernels_that_cannot_run_are_refused() {
    for level in ["nonsense", if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" }] {
        for line in ["--version", STORY] {
            let mut command = tiny(line);
            command.env("TRILL_KERNELS", level);
            let out = run(command, "");
            assert_eq!(out.status.code(), Some(64), "{level}: {}", errors(&out));
            assert!(errors(&out).contains("scalar"), "the usable ones are named: {}", errors(&out));
        }
    }
    let mut command = tiny("--version");
    command.env("TRILL_KERNELS", "scalar");
    let said = answer(command, "");
    let second = said.lines().nth(1).expect("a second line");
    assert!(second.starts_with("NEON=") && second.ends_with(" kernels=scalar"), "{second}");
}

#[test]
fn help_is_an_answer() {
    assert!(answer(tiny("--help"), "").contains("perplexity"));
    for command in ["chat", "run", "bench", "perplexity", "logits", "tokenize", "detokenize", "inspect"] {
        let text = answer(tiny(&format!("{command} --help")), "");
        assert!(text.contains("--model") && text.contains(&format!("usage: trill {command}")), "{text}");
        assert_eq!(answer(tiny(&format!("help {command}")), ""), text);
    }
}

#[test]
fn standard_output_carries_the_answer_only() {
    let quiet = run(tiny(&format!("{STORY} -q")), "");
    let verbose = run(tiny(&format!("{STORY} -v")), "");
    assert!(quiet.status.success() && !quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{}", errors(&quiet));
    assert_eq!(quiet.stdout, verbose.stdout);
    let told = errors(&verbose);
    assert!(told.contains("seed ") && told.contains("threads") && told.contains("tokens of context"), "{told}");
    // `trill -m M -p TEXT` is `trill run`, and so is text on standard input.
    assert_eq!(answer(tiny(STORY.strip_prefix("run ").unwrap()), "").into_bytes(), quiet.stdout);
    assert_eq!(answer(tiny("run -m M -n 40 -c 384 --temp 0"), "Once").into_bytes(), quiet.stdout);
}

#[test]
fn other_flags_do_not_change_the_answer() {
    let plain = answer(tiny(STORY), "");
    for flags in ["-t 1", "-t 2", "-t 8", "-b 1", "-b 2048", "--no-mmap", "--mlock", "-ngl 99", "-s 7", "-c 100"] {
        assert_eq!(answer(tiny(&format!("{STORY} {flags}")), ""), plain, "{flags}");
    }
    assert_ne!(answer(tiny("run -m M -p Once -n 40 -s 7 --temp 2 --min-p 0"), ""), plain);
}

#[test]
fn seeds_are_kept() {
    let line = "run -m M -p Once -n 40 --temp 1.5 --top-k 0 --top-p 1 --min-p 0 -s";
    let said = |seed: &str| answer(tiny(&format!("{line} {seed}")), "");
    assert_eq!(said("5"), said("5"));
    assert_ne!(said("5"), said("6"));
}

#[test]
fn run_as_json() {
    let said = json(tiny(&format!("{STORY} --json")));
    assert_eq!(said["text"], answer(tiny(STORY), ""));
    assert_eq!(said["token_ids"].as_array().map(Vec::len), Some(40));
    assert_eq!(said["stop_reason"], "length");
    assert_eq!(said["timings"]["predicted_n"], 40);
    assert!(said["timings"]["predicted_per_second"].as_f64().is_some_and(|v| v > 0.0));
    let full = json(tiny("run -m M -p Once -c 20 --ignore-eos --temp 0 --json"));
    assert_eq!(full["stop_reason"], "context");
    let out = run(tiny("run -m M -p Once -c 20 --ignore-eos --temp 0"), "");
    assert!(out.status.success() && errors(&out).contains("context of 20 tokens is full"), "{}", errors(&out));
    // The ids, decoded, are the text.
    let ids: Vec<String> = said["token_ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    let text = answer(tiny("detokenize -m M"), &ids.join(" "));
    assert_eq!(text.trim_start(), said["text"].as_str().unwrap().trim_start());
}

#[test]
fn bench_as_json() {
    let said = json(tiny("bench -m M -p 32 -n 8 -t 2 -r 3 --json"));
    for (entry, test) in said.as_array().unwrap().iter().zip(["pp32", "tg8"]) {
        assert_eq!((&entry["test"], &entry["threads"]), (&json!(test), &json!(2)));
        let speed = &entry["tokens_per_second"];
        assert!(speed["mean"].as_f64().is_some_and(|v| v > 0.0) && speed["stddev"].as_f64().is_some());
        assert_eq!(speed["samples"].as_array().map(Vec::len), Some(3));
    }
    assert_eq!(said.as_array().map(Vec::len), Some(2));
    assert_eq!(json(tiny("bench -m M -p 0 -n 4 -r 1 --json")).as_array().map(Vec::len), Some(1));
    assert!(answer(tiny("bench -m M -p 8 -n 4 -r 1"), "").contains("tg4"));
}

#[test]
fn logits_as_json_and_text() {
    let all = json(tiny("logits -m M --tokens 1,2,3,4 --all --json"));
    let last = json(tiny("logits -m M --tokens 1,2,3,4 --json"));
    assert_eq!((&all["n_vocab"], &last["n_vocab"]), (&json!(2048), &json!(2048)));
    assert_eq!(all["logits"].as_array().map(Vec::len), Some(4));
    assert_eq!(all["logits"][3], last["logits"][0]);
    assert_eq!(last["logits"][0].as_array().map(Vec::len), Some(2048));
    let text = answer(tiny("logits -m M --tokens 1,2,3,4"), "");
    let first: f32 = text.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(f64::from(first) as f32, last["logits"][0][0].as_f64().unwrap() as f32);
}

#[test]
fn perplexity_as_json_and_text() {
    let text = in_repository("tests/data/english.txt");
    let line = format!("perplexity -m M -f {} -c 128", text.display());
    let said = json(tiny(&format!("{line} --json")));
    let (chunks, scored) = (said["chunks"].as_u64().unwrap(), said["tokens_scored"].as_u64().unwrap());
    assert!(chunks > 10 && scored == chunks * (128 - 64 - 1), "{said}");
    let (nll, perplexity) = (said["nll_mean"].as_f64().unwrap(), said["perplexity"].as_f64().unwrap());
    assert!((nll.exp() / perplexity - 1.0).abs() < 1e-9 && perplexity > 1.0 && perplexity < 2048.0, "{said}");
    assert!(answer(tiny(&line), "").starts_with(&format!("perplexity {perplexity:.4}")));
    let out = run(tiny(&format!("perplexity -m M -f {} -c 100000", text.display())), "");
    assert_eq!(out.status.code(), Some(65), "{}", errors(&out));
}

#[test]
fn texts_become_ids_and_come_back() {
    let text = "Once upon a time, Zoë said: \"hé 🎉\"\n";
    let ids = answer(tiny("tokenize -m M"), text);
    assert_eq!(answer(tiny("detokenize -m M"), &ids), text);
    let as_json = answer(tiny("tokenize -m M --json"), text);
    let list: Vec<u32> = serde_json::from_str(&as_json).unwrap();
    assert_eq!(list.iter().map(u32::to_string).collect::<Vec<_>>().join(" "), ids.trim());
    let lines = "\"Once\"\n\n\"a \\u00e9\\n\"\n";
    let rows = answer(tiny("tokenize -m M --jsonl"), lines);
    assert_eq!(rows.lines().count(), 2);
    assert_eq!(answer(tiny("detokenize -m M --jsonl"), &rows), "\"Once\"\n\"a é\\n\"\n");
    let bare: Vec<u32> = serde_json::from_str(&answer(tiny("tokenize -m M --json --no-bos"), text)).unwrap();
    assert!(list.ends_with(&bare));
    let out = run(tiny("tokenize -m M --jsonl"), "\"a\"\nnot JSON\n");
    assert!(out.status.code() == Some(65) && errors(&out).contains("line 2"), "{}", errors(&out));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut command = tiny("run -m M -p Once -c 4000 -n 3000 --ignore-eos --temp 0 -q");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("trill starts");
    let mut byte = [0];
    child.stdout.take().expect("a pipe").read_exact(&mut byte).expect("the first byte");
    let out = child.wait_with_output().expect("trill ends");
    assert_eq!((out.status.code(), errors(&out).as_str()), (Some(0), ""));
}

#[test]
fn ctrl_c_ends_a_run_with_130() {
    let mut command = tiny("run -m M -p Once -c 100000 -n 90000 --ignore-eos --temp 0 -q");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("trill starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0]).expect("the first byte");
    let start = Instant::now();
    // SAFETY: kill has no preconditions; the child is ours and was not waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) }, 0);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).expect("the rest");
    let out = child.wait_with_output().expect("trill ends");
    assert_eq!((out.status.code(), errors(&out).as_str()), (Some(130), ""));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_script_holds_a_conversation() {
    let file = std::env::temp_dir().join(format!("trill-chat-{}.txt", std::process::id()));
    std::fs::File::create(&file).unwrap().write_all(b"Once upon a time\n\nWhat then?\n").unwrap();
    let line = format!("chat -m M -f {} -n 24 --temp 0 -v", file.display());
    let out = run(tiny(&line), "");
    std::fs::remove_file(&file).unwrap();
    let told = errors(&out);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && said.ends_with('\n'), "{told}");
    let speeds: Vec<&str> = told.lines().filter(|l| l.contains("tokens (") && l.contains(" held)")).collect();
    assert_eq!(speeds.len(), 2, "{told}");
    assert!(speeds[0].contains("(0 held)") && !speeds[1].contains("(0 held)"), "{told}");
    // The same through a pipe, and the same again.
    assert_eq!(answer(tiny("chat -m M -n 24 --temp 0"), "Once upon a time\nWhat then?\n"), said);
}

#[test]
fn no_allocation_for_a_token() {
    for line in ["run -m M -p Once -n 300 -c 384 --temp 1 -t 2 -v", "bench -m M -p 64 -n 64 -r 2 -t 2 -v"] {
        let out = run(tiny(line), "");
        assert!(errors(&out).contains("allocs since load: 0\n"), "{line}: {}", errors(&out));
    }
}

#[test]
fn memory_that_cannot_be_had_is_refused_with_what_fits() {
    const LIMIT: u64 = 400 << 20;
    let line = "run -m M -p Once -n 4 --temp 0 -t 1 -q -c";
    let out = run(limited(tiny(&format!("{line} 1000000")), LIMIT), "");
    let told = errors(&out);
    assert_eq!(out.status.code(), Some(75), "{told}");
    let largest: u64 = told.trim().rsplit(' ').next().unwrap().parse().unwrap_or_else(|e| panic!("{e}: {told}"));
    assert!((1000..1_000_000).contains(&largest), "{told}");
    // Address space is not only the plan's: stacks and the allocator take some between the two runs.
    let nearly = largest - largest / 50;
    assert!(run(limited(tiny(&format!("{line} {nearly}")), LIMIT), "").status.success());
}

#[test]
fn inspect_states_a_peak_that_holds() {
    let said = json(tiny("inspect M -c 300 -t 2 --json"));
    let peak = said["memory"]["peak_bytes"].as_u64().unwrap();
    let out = run(tiny("run -m M -p Once -n 290 -c 300 -t 2 --ignore-eos -v"), "");
    let told = errors(&out);
    let line = told.lines().find(|l| l.contains("peak memory beyond files")).expect("a line about memory");
    let bytes: u64 = line.rsplit(' ').nth(1).unwrap().trim_start_matches('(').parse().unwrap();
    println!("{bytes} of {peak} bytes");
    assert!(bytes <= peak, "{bytes} of {peak}");
}

#[test]
fn inspect_shows_the_file() {
    let said = json(tiny("inspect M --weights --json"));
    assert_eq!(said["hparams"]["n_layer"], 6);
    assert_eq!(said["hparams"]["n_vocab"], 2048);
    assert!(said["repairs"].is_array());
    assert_eq!(said["tensors"].as_array().map(Vec::len), said["tensor_count"].as_u64().map(|n| n as usize));
    assert!(said["types"]["I2_S"]["tensors"].as_u64().is_some_and(|n| n > 0));
    let text = answer(tiny("inspect M --weights"), "");
    assert!(text.contains("I2_S") && text.contains("blk.0.") && text.contains("repair"), "{text}");
}

#[test]
fn the_model_is_found_where_it_lies() {
    let plain = answer(tiny(STORY), "");
    let line = STORY.replace(" -m M", "");
    let mut command = tiny(&line);
    command.env("TRILL_MODEL", model());
    assert_eq!(answer(command, ""), plain);
    let data = std::env::temp_dir().join(format!("trill-data-{}", std::process::id()));
    let folder = data.join("trill/models");
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = tiny(&line);
    command.env("XDG_DATA_HOME", &data);
    let out = run(command, "");
    if cfg!(feature = "built-in-model") {
        // The model in the binary is that of these tests.
        assert_eq!(String::from_utf8_lossy(&out.stdout), plain);
    } else {
        assert!(out.status.code() == Some(64) && errors(&out).contains("-m FILE"), "{}", errors(&out));
    }
    std::fs::copy(model(), folder.join("tiny.gguf")).unwrap();
    let mut command = tiny(&line);
    command.env("XDG_DATA_HOME", &data);
    let said = answer(command, "");
    std::fs::remove_dir_all(&data).unwrap();
    assert_eq!(said, plain);
}
