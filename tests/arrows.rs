//! Holds the dependency arrows of `src/`, the rooms that may be `unsafe`, and the size of files.
//!
//! The compiler lets any module of a crate use any other. This test does not: it reads every file, finds
//! every path that starts at `crate::`, and compares it with the table below. Test modules inside `src/` are
//! free to look anywhere.

use std::fs;
use std::path::{Path, PathBuf};

/// What each room, or a file of a room, may use. `room::Item` allows that one name only; `*::Error` names ending in `Error`.
const ARROWS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    // One enum gathers what can go wrong in every room.
    ("error", &["*::Error"]),
    ("mem", &["error", "limits"]),
    ("numeric", &["error", "limits"]),
    ("cpu", &["error", "limits"]),
    ("parallel", &["error", "limits", "mem"]),
    ("quant", &["error", "limits", "mem", "numeric"]),
    ("gguf", &["error", "limits", "mem", "numeric", "quant"]),
    // How a cached row is written is known to the kernels as a weight type is; the cache itself is not.
    ("kv_cache/format", &["limits", "numeric"]),
    ("kernels", &["error", "limits", "mem", "numeric", "cpu", "quant", "kv_cache::KvType", "kv_cache::format"]),
    ("kv_cache", &["error", "limits", "mem", "numeric", "quant", "kernels"]),
    ("ops", &["error", "limits", "mem", "numeric", "parallel", "quant", "kernels", "kv_cache"]),
    ("tokenizer", &["error", "limits", "mem", "numeric", "gguf"]),
    ("sampler", &["error", "limits", "mem", "numeric", "gguf"]),
    ("draft", &[]),
    ("model", &["error", "limits", "mem", "numeric", "cpu", "parallel", "quant", "gguf", "kernels", "kv_cache", "ops"]),
    (
        "session",
        &[
            "error",
            "limits",
            "mem",
            "numeric",
            "cpu",
            "parallel",
            "quant",
            "gguf",
            "kernels",
            "kv_cache",
            "ops",
            "tokenizer",
            "sampler",
            "model",
        ],
    ),
];

/// Where `unsafe` may be written.
const UNSAFE: &[&str] = &["mem/", "parallel/", "cpu.rs", "kernels/"];

/// Longest source file, in lines.
const LINES_MAX: usize = 700;

fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(at: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(at).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let name = |p: &Path| p.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
    paths.iter().map(|p| (name(p), fs::read_to_string(p).expect("UTF-8 source"))).collect()
}

/// The code alone: comments and the contents of string and character literals become spaces.
fn strip(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    let mut i = 0;
    let blank = |out: &mut String, from: usize, to: usize| {
        out.extend(bytes[from..to].iter().map(|b| if *b == b'\n' { '\n' } else { ' ' }));
    };
    while i < bytes.len() {
        let rest = &bytes[i..];
        let end = if rest.starts_with(b"//") {
            Some(i + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()))
        } else if rest.starts_with(b"/*") {
            Some(block_comment_end(bytes, i))
        } else if rest[0] == b'"' {
            Some(string_end(bytes, i))
        } else if rest[0] == b'r' && !ends_in_word(&out) {
            raw_string_end(bytes, i)
        } else if rest[0] == b'\'' {
            char_end(bytes, i)
        } else {
            None
        };
        match end {
            Some(to) => {
                blank(&mut out, i, to);
                i = to;
            }
            None => {
                out.push(char::from(rest[0]));
                i += 1;
            }
        }
    }
    out
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut i = start + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|b| **b == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let found = bytes[open + 1..].windows(close.len()).position(|w| w == close);
    Some(found.map_or(bytes.len(), |at| open + 1 + at + close.len()))
}

/// End of a character literal; `None` where the quote opens a lifetime or a loop label.
fn char_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        let from = start + 3;
        return Some(from + bytes.get(from..)?.iter().position(|b| *b == b'\'')? + 1);
    }
    let text = std::str::from_utf8(&bytes[start + 1..(start + 6).min(bytes.len())]);
    let text = match &text {
        Ok(t) => t,
        Err(e) => std::str::from_utf8(&bytes[start + 1..start + 1 + e.valid_up_to()]).expect("the valid part"),
    };
    let width = text.chars().next()?.len_utf8();
    (bytes.get(start + 1 + width) == Some(&b'\'')).then_some(start + 2 + width)
}

/// The code without its `#[cfg(test)] mod ... { ... }` parts.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let after = &rest[at + "#[cfg(test)]".len()..];
        if !after.trim_start().starts_with("mod ") {
            out.push_str(&rest[..at + "#[cfg(test)]".len()]);
            rest = after;
            continue;
        }
        out.push_str(&rest[..at]);
        let open = after.find(['{', ';']).expect("a body or a semicolon");
        let mut depth = 0;
        let body = after[open..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        rest = &after[open + body.expect("balanced braces").0 + 1..];
    }
    out + rest
}

/// Every path below `crate::`, with braces expanded: `crate::{a::{B, C}, d}` gives `a::B`, `a::C`, `d`.
fn crate_paths(code: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !ends_in_word(&code[..at]) {
            expand(&mut code[at + "crate::".len()..].trim_start(), "", &mut out);
        }
    }
    out
}

fn expand(rest: &mut &str, prefix: &str, out: &mut Vec<String>) {
    if let Some(inner) = rest.strip_prefix('{') {
        *rest = inner.trim_start();
        while !rest.starts_with('}') && !rest.is_empty() {
            expand(rest, prefix, out);
            *rest = rest.trim_start_matches(|c: char| c != ',' && c != '}');
            *rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        *rest = rest.strip_prefix('}').unwrap_or(rest);
        return;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    *rest = after;
    match after.strip_prefix("::") {
        Some(deeper) => {
            *rest = deeper;
            expand(rest, &path, out);
        }
        None => out.push(path),
    }
}

fn allowed(room: &str, path: &str) -> bool {
    let target = path.split("::").next().expect("a first name");
    // The crate's own `Error` and `Result`, and macros of the crate root.
    if target == room || matches!(path, "Error" | "Result") || path.starts_with("Error::") {
        return true;
    }
    let row = ARROWS.iter().find(|(r, _)| *r == room);
    let (_, rules) = row.unwrap_or_else(|| panic!("no arrows for room {room}"));
    rules.iter().any(|rule| match rule.split_once("::") {
        None => *rule == target,
        Some(("*", suffix)) => path.split("::").count() == 2 && path.ends_with(suffix),
        Some(_) => path == *rule || path.starts_with(&format!("{rule}::")),
    })
}

/// The file itself if the table has a row for it, else its room.
fn room_of(file: &str) -> &str {
    let stem = file.trim_end_matches(".rs");
    if ARROWS.iter().any(|(row, _)| *row == stem) { stem } else { stem.split('/').next().expect("a first part") }
}

/// What is wrong with one file; empty if nothing.
fn faults(file: &str, source: &str) -> Vec<String> {
    let code = strip(source);
    let mut out = Vec::new();
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    let may_be_unsafe = UNSAFE.iter().any(|place| file.starts_with(place));
    if !may_be_unsafe && words.clone().any(|w| w == "unsafe") {
        out.push(format!("{file}: `unsafe` outside the rooms that may use it"));
    }
    if file != "lib.rs" && !may_be_unsafe && code.contains("allow(unsafe_code)") {
        out.push(format!("{file}: allows unsafe code"));
    }
    let lines = source.lines().count();
    if lines > LINES_MAX {
        out.push(format!("{file}: {lines} lines; over {LINES_MAX} a file is two rooms"));
    }
    if file == "lib.rs" || file.ends_with("tests.rs") || file.contains("/tests/") {
        return out;
    }
    let code = without_tests(&code);
    let room = room_of(file);
    for path in crate_paths(&code) {
        if !allowed(room, &path) {
            out.push(format!("{file}: {room} may not use crate::{path}"));
        }
    }
    // A `super::` that climbs to the crate root goes round the table.
    let depth = file.trim_end_matches("/mod.rs").matches('/').count() + 1;
    if code.contains(&"super::".repeat(depth)) {
        out.push(format!("{file}: climbs to the crate root; write crate::..."));
    }
    out
}

#[test]
fn arrows_of_the_core_hold() {
    let files = sources("src");
    assert!(files.len() > 15, "only {} files found", files.len());
    let found: Vec<String> = files.iter().flat_map(|(file, source)| faults(file, source)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_room_has_a_row_and_every_row_a_room() {
    let files = sources("src");
    let mut rooms: Vec<&str> = files.iter().map(|(f, _)| room_of(f)).filter(|r| *r != "lib").collect();
    rooms.dedup();
    rooms.sort_unstable();
    rooms.dedup();
    let mut rows: Vec<&str> = ARROWS.iter().map(|(r, _)| *r).collect();
    rows.sort_unstable();
    assert_eq!(rooms, rows);
}

#[test]
fn shell_files_are_of_readable_size() {
    for (file, source) in sources("runtime-std/src") {
        assert!(source.lines().count() <= LINES_MAX, "{file} has {} lines", source.lines().count());
    }
}

#[test]
fn the_checker_sees_what_it_should() {
    let bad = [
        ("quant/q9.rs", "use crate::kernels::Kernels;"),
        ("quant/q9.rs", "fn f() { let x: u8 = crate::model::thing(); }"),
        ("quant/q9.rs", "use crate::{\n    numeric::{exp, tanh},\n    ops::{a, b},\n};"),
        ("kernels/mod.rs", "use crate::kv_cache::{KvType, KvCache};"),
        ("error.rs", "use crate::model::Model;"),
        ("tokenizer/bpe.rs", "use crate::model::ModelError;"),
        ("ops/linear.rs", "unsafe { x() }"),
        ("ops/linear.rs", "#![allow(unsafe_code)]"),
        ("ops/linear.rs", "use super::super::model::Model;"),
        ("ops/mod.rs", "use super::model::Model;"),
        ("quant/q9.rs", "const Q: char = '\"'; use crate::kernels::Kernels; const R: char = '\"';"),
    ];
    for (file, source) in bad {
        assert!(!faults(file, source).is_empty(), "{file}: {source}");
    }
    let good = [
        ("quant/q9.rs", "//! see [`crate::kernels`]\nuse crate::numeric::exp; // unsafe crate::model\n"),
        ("kernels/mod.rs", "use crate::kv_cache::KvType; unsafe { f() }"),
        ("error.rs", "use crate::model::ModelError;"),
        ("gguf/mod.rs", "use crate::{Error, Result}; fn f<'a>(x: &'a str) { g(\"unsafe crate::model\") }"),
        (
            "mem/carver.rs",
            "use super::MemError;\n#[cfg(test)]\nmod tests {\n    use super::super::x;\n use crate::model::M; }",
        ),
        ("ops/rope.rs", "const RAW: &str = r#\"unsafe \" crate::model\"#; const C: char = '\\'';"),
    ];
    for (file, source) in good {
        assert_eq!(faults(file, source), Vec::<String>::new(), "{file}: {source}");
    }
    assert_eq!(faults("ops/long.rs", &"\n".repeat(LINES_MAX + 1)).len(), 1);
}
