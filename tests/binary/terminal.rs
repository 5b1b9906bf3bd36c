//! The program on a pseudo-terminal, with a model, files, names and users that try to drive it: nothing but text may reach
//! the terminal, whatever command shows it; a pipe gets the bytes as they are.

use crate::common::gguf_file::{GgufFile, STRING, string};
use crate::common::tiny_model::{VOCAB, one_layer_that_says};
use crate::files::Folder;
use crate::run::{run, trill};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitStatus, Stdio};

/// What tokens, names and paths try, each in its own way.
const HOSTILE: [&str; 24] = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b]52;c;eA==\x1b\\",
    "\x1b",
    "[31m",
    "\u{9b}31m",
    "\u{90}q\u{9c}",
    "\x07",
    "\x08\x08",
    "\r",
    "\x0e",
    "\x7f",
    "\u{85}",
    "\u{202e}gpj",
    "\u{2066}",
    "\u{61c}",
    "\u{200b}",
    "\u{200d}",
    "\u{2028}",
    "\u{2060}",
    "\u{feff}",
    "\u{ad}",
    "\u{e0041}\u{e007f}",
    "\u{10eeee}",
];

/// Whether a terminal would do anything with `c` but show it, or show nothing.
fn drives(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..='\u{10ffff}')
}

#[track_caller]
fn harmless(shown: &str, what: &str) {
    let found: Vec<char> = shown.chars().filter(|&c| drives(c)).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {shown:?}");
}

/// A folder with a model whose every word is hostile, and whose metadata and name are too.
fn hostile_model(name: &str) -> (Folder, String) {
    let letters: Vec<String> = ('A'..).take(VOCAB - 3 - HOSTILE.len()).map(String::from).collect();
    let mut texts: Vec<&str> = HOSTILE.to_vec();
    texts.extend(letters.iter().map(String::as_str));
    let all = HOSTILE.concat();
    let bytes = one_layer_that_says(&texts, "llama", |file| {
        file.str("general.name", &all)
            .str(&format!("x.{all}"), &all)
            .u32("tokenizer.ggml.bos_token_id", 4)
            .u32("tokenizer.ggml.eos_token_id", 6)
    });
    let folder = Folder::new(name);
    let path = folder.file("a\x1b[31m\u{202e}\u{9b}b\u{200b}.gguf");
    std::fs::write(&path, bytes).expect("room for a model");
    (folder, path)
}

/// A pseudo-terminal that changes no bytes: the side of the one who looks, and the side of the program.
fn terminal() -> (File, File) {
    let (mut ours, mut its) = (-1, -1);
    // SAFETY: openpty fills the two numbers, tcgetattr the structure; both descriptors are owned by the files alone.
    unsafe {
        let (none, mut mode) = (std::ptr::null_mut(), std::mem::zeroed());
        assert_eq!(libc::openpty(&raw mut ours, &raw mut its, none, none.cast(), none.cast()), 0, "a pseudo-terminal");
        assert_eq!(libc::tcgetattr(its, &raw mut mode), 0);
        libc::cfmakeraw(&raw mut mode);
        assert_eq!(libc::tcsetattr(its, libc::TCSANOW, &raw const mode), 0);
        for fd in [ours, its] {
            assert_ne!(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC), -1);
        }
        (File::from_raw_fd(ours), File::from_raw_fd(its))
    }
}

/// Runs `command` with all its streams on a terminal where `typed` is typed; the end, and what was shown.
fn on_terminal(mut command: Command, typed: &str) -> (ExitStatus, String) {
    let (mut ours, its) = terminal();
    let end = || Stdio::from(its.try_clone().expect("a descriptor"));
    command.stdin(end()).stdout(end()).stderr(end());
    let mut child = command.spawn().expect("trill starts");
    drop((command, its));
    ours.write_all(typed.as_bytes()).expect("room for what is typed");
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    // When the program has ended, reading fails.
    while let Ok(n) = ours.read(&mut buffer) {
        if n == 0 {
            break;
        }
        shown.extend_from_slice(&buffer[..n]);
    }
    let text = String::from_utf8(shown).expect("UTF-8, or U+FFFD for what was not");
    (child.wait().expect("the end"), text)
}

/// Ids of all tokens that have a text.
fn ids() -> String {
    (3..VOCAB).map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

const SAMPLED: [&str; 11] = ["-n", "200", "--temp", "5", "--top-k", "0", "--top-p", "1", "--min-p", "0", "-v"];

#[test]
fn what_a_model_says_reaches_a_pipe_as_it_is_and_a_terminal_as_text() {
    let (_folder, model) = hostile_model("said");
    let line = |more: &[&'static str]| {
        trill(
            &[&["run", "-m", &model, "-p", "AB", "-s", "3", "-c", "400", "--ignore-eos"], &SAMPLED[..], more].concat(),
        )
    };
    let piped = run(line(&["-q"]), "");
    let raw = String::from_utf8(piped.stdout).expect("text");
    for hostile in HOSTILE {
        assert!(raw.contains(hostile), "{hostile:?} in {raw:?}");
    }
    let (status, shown) = on_terminal(line(&["-q"]), "");
    assert!(status.success(), "{shown}");
    harmless(&shown, "run");
    assert!(shown.contains("␛[2J") && shown.contains("␇"), "{shown}");
    // With -v the log is between; nothing of it drives the terminal either.
    harmless(&on_terminal(line(&[]), "").1, "run -v");
    // As JSON it means the same.
    let said: Value = serde_json::from_slice(&run(line(&["--json"]), "").stdout).expect("JSON");
    let (status, shown) = on_terminal(line(&["-q", "--json"]), "");
    harmless(&shown, "run --json");
    let on_screen: Value = serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {shown}"));
    assert!(status.success() && said["text"] == on_screen["text"] && said["text"] == raw.as_str());
}

#[test]
fn tokens_as_text() {
    let (_folder, model) = hostile_model("tokens");
    let detokenize = |more: &[&str]| trill(&[&["detokenize", "-m", &model], more].concat());
    let raw = run(detokenize(&["-p", &ids()]), "").stdout;
    assert!(HOSTILE.iter().all(|h| String::from_utf8_lossy(&raw).contains(h)));
    harmless(&on_terminal(detokenize(&["-p", &ids()]), "").1, "detokenize");
    for (form, list) in [("--json", ids()), ("--jsonl", format!("[{}]", ids().replace(' ', ",")))] {
        let (status, shown) = on_terminal(detokenize(&[form, "-p", &list]), "");
        harmless(&shown, form);
        let text: String = serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {shown}"));
        assert!(status.success());
        assert_eq!(text.as_bytes(), raw, "{form}");
    }
    // Joined emoji pass, though the parts are tokens of their own; what is left over at the end does not.
    let parts = ["👩", "\u{200d}", "🚀", "م", "\u{200c}", "خ", "❤", "\u{fe0f}"];
    let others: Vec<String> = ('A'..).take(VOCAB - 3 - parts.len()).map(String::from).collect();
    let texts: Vec<&str> = parts.into_iter().chain(others.iter().map(String::as_str)).collect();
    let folder = Folder::new("emoji");
    let model = folder.file("emoji.gguf");
    std::fs::write(&model, one_layer_that_says(&texts, "llama", |file| file)).expect("room for a model");
    for (ids, want) in
        [("3 4 5 6 7 8 9 10", "👩\u{200d}🚀م\u{200c}خ❤\u{fe0f}"), ("3 4", "👩\u{fffd}"), ("3 4 11", "👩\u{fffd}A")]
    {
        let (_, shown) = on_terminal(trill(&["detokenize", "-m", &model, "-p", ids]), "");
        assert_eq!(shown, want, "{ids}");
    }
}

#[test]
fn bytes_that_are_no_text() {
    let model = crate::files::stories();
    // The ids of single bytes: ESC [ 2 J, a C1 control in UTF-8, half a character.
    let ids =
        String::from_utf8(run(trill(&["tokenize", "-m", &model, "--no-bos"]), "\x1b[2J\u{9b}31m\u{202e}x").stdout)
            .expect("ids");
    let mut list: Vec<&str> = ids.split_whitespace().collect();
    let raw = run(trill(&["detokenize", "-m", &model, "-p", &list.join(" ")]), "").stdout;
    assert!(String::from_utf8_lossy(&raw).ends_with("\x1b[2J\u{9b}31m\u{202e}x"), "{raw:?}");
    for _ in 0..list.len() {
        harmless(&on_terminal(trill(&["detokenize", "-m", &model, "-p", &list.join(" ")]), "").1, "bytes");
        list.pop();
    }
    harmless(&on_terminal(trill(&["tokenize", "-m", &model, "-p", "\x1b[2J"]), "").1, "tokenize");
}

#[test]
fn what_a_file_says_of_itself() {
    let (folder, model) = hostile_model("itself");
    let inspect = |more: &[&str]| trill(&[&["inspect", &model], more].concat());
    for more in [&[][..], &["--weights"], &["-v"]] {
        let (status, shown) = on_terminal(inspect(more), "");
        assert!(status.success() && shown.contains("␛]0;title␇"), "{shown}");
        harmless(&shown, "inspect");
    }
    let piped: Value = serde_json::from_slice(&run(inspect(&["--json", "--weights"]), "").stdout).expect("JSON");
    let (_, shown) = on_terminal(inspect(&["--json", "--weights"]), "");
    harmless(&shown, "inspect --json");
    let said: Value = serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {shown}"));
    assert_eq!(said["name"], HOSTILE.concat());
    assert_eq!((&said["name"], &said["file"], &said["tensors"]), (&piped["name"], &piped["file"], &piped["tensors"]));
    // Names that make no model, in every place that an error may quote.
    let all = HOSTILE.concat();
    let short: String = all.chars().take(20).collect();
    let broken = [
        ("architecture", GgufFile::default().entry("general.architecture", STRING, string(short.as_bytes()))),
        ("tensor", GgufFile::default().str("general.architecture", "llama").tensor(&short, &[32], 0, vec![0; 128])),
        ("kind", GgufFile::default().str("general.architecture", "llama").str("llama.block_count", &all)),
        ("vocabulary", GgufFile::default().str("general.architecture", "llama").str("tokenizer.ggml.model", &short)),
        ("split", GgufFile::default().str("tokenizer.ggml.model", "gpt2").str("tokenizer.ggml.pre", &short)),
    ];
    for (what, file) in broken {
        let path = folder.file(&format!("{what}\x1b[31m.gguf"));
        std::fs::write(&path, file.build()).expect("room for a file");
        for line in [
            &["run", "-p", "x", "-m", &path][..],
            &["inspect", "--weights", &path],
            &["plan", &path],
            &["tokenize", "-p", "x", "-m", &path],
            &["chat", "-m", &path],
            &["inspect", "--json", "--weights", &path],
            &["run", "--json", "-p", "x", "-m", &path],
        ] {
            harmless(&on_terminal(trill(line), "").1, &format!("{what}: {line:?}"));
        }
    }
}

#[test]
fn names_that_errors_quote() {
    let model = crate::files::stories();
    let all = HOSTILE.concat();
    let file = format!("/no/{all}");
    for line in [
        &["run", "-p", "x", "-m", &file][..],
        &["perplexity", "-m", &model, "-f", &file],
        &["run", "-m", &model, "-f", &file],
        &[&all],
        &["run", &format!("--{all}")],
        &["run", "-m", &model, "-t", &all],
        &["run", "-m", &model, "--cache-type", &all],
        &["logits", "-m", &model, "--tokens", &all],
        &["detokenize", "-m", &model, "-p", &all],
        &["inspect", &model, &all],
        &["quantize", &file, &file, "Q8_0"],
        &["convert", &file, &file],
        &["pack", &file, &file],
        &["plan", &file],
        &["help", &all],
        &["run", "-m", &model, "-p", "Once", "-n", "1", "-sys", &all],
        &["run", "-m", &model, "-p", "Once", "-n", "1", "-v", "--session", &file],
    ] {
        for json in [false, true] {
            let mut command = trill(line);
            if json {
                command.arg("--json");
            }
            let (status, shown) = on_terminal(command, "");
            harmless(&shown, &format!("{line:?}"));
            if json && !status.success() {
                let said: Value = serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {line:?} {shown}"));
                assert_eq!(said["error"]["code"], status.code().expect("a code"));
            }
        }
    }
    // Bytes that are no text at all, and the names that the surroundings give.
    let mut command = trill(&["run", "-p", "x", "-m"]);
    command.arg(OsStr::from_bytes(b"/no/\x9b31m\xff\x1b[2J"));
    harmless(&on_terminal(command, "").1, "bytes");
    for variable in ["TRILL_MODEL", "TRILL_KERNELS"] {
        let mut command = trill(&["run", "-p", "x"]);
        command.env(variable, &file);
        harmless(&on_terminal(command, "").1, variable);
    }
}

#[test]
fn json_errors_mean_what_was_said() {
    let file = format!("/no/{}", HOSTILE.concat());
    let piped: Value = serde_json::from_slice(&run(trill(&["run", "--json", "-m", &file]), "").stderr).expect("JSON");
    let (_, shown) = on_terminal(trill(&["run", "--json", "-p", "x", "-m", &file]), "");
    let said: Value = serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {shown}"));
    assert_eq!(said, piped);
    assert!(said["error"]["message"].as_str().expect("a message").starts_with(&file), "{said}");
}

/// What is shown without the sequences that our own editor draws with.
fn without_drawing(shown: &str) -> String {
    let mut text = shown.replace("\x1b[?2004h", "").replace("\x1b[?2004l", "").replace("\x1b[J", "").replace("\r", "");
    while let Some(at) = text.find("\x1b[") {
        let digits = text[at + 2..].bytes().take_while(u8::is_ascii_digit).count();
        let end = at + 2 + digits;
        if digits == 0 || !matches!(text.as_bytes().get(end), Some(b'A' | b'C')) {
            break;
        }
        text.replace_range(at..=end, "");
    }
    text
}

#[test]
fn a_conversation() {
    let (_folder, model) = hostile_model("talk");
    let chat = |term: &str| {
        let mut command =
            trill(&[&["chat", "-m", &model, "-s", "3", "-c", "2000", "--no-session"], &SAMPLED[..]].concat());
        command.env("TERM", term);
        command
    };
    // With the editor control keys mean something: those are not typed.
    let typed: String = HOSTILE.concat().chars().filter(|c| !c.is_ascii_control()).collect();
    let (status, shown) = on_terminal(chat("xterm"), &format!("AB\r/{typed}\r/quit\r"));
    assert!(status.success(), "{shown}");
    let text = without_drawing(&shown);
    assert!(text.contains("unknown command /") && text.contains("␛[2J") && text.contains("/help lists"), "{text:?}");
    harmless(&text, "chat");
    let (status, shown) =
        on_terminal(chat("dumb"), &format!("AB\n/x{}\n/quit\n", HOSTILE.concat().replace('\x1b', "\x1b[5m")));
    assert!(status.success() && shown.contains("unknown command /x"), "{shown}");
    harmless(&shown, "chat without an editor");
}
