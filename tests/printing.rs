//! Everything that the shell prints goes through one room, `runtime-std/src/terminal/`: standard output through
//! `screen.rs`, standard error through `message.rs`. Nothing else may write to either, so no command can forget to make a
//! stranger's text harmless. This test reads every file of the shell.

use std::fs;
use std::path::{Path, PathBuf};

/// What writes to a terminal directly, and the files that may.
const DOORS: &[(&str, &[&str])] = &[
    ("print!", &[]),
    ("println!", &[]),
    ("eprint!", &[]),
    ("eprintln!", &[]),
    ("dbg!", &[]),
    ("stdout()", &["terminal/screen.rs"]),
    ("stderr()", &["terminal/message.rs"]),
    // A constant line, where nothing else is allowed.
    ("libc::write", &["host/signal.rs", "host/allocations.rs"]),
    ("libc::writev", &[]),
    ("libc::dprintf", &[]),
    ("libc::puts", &[]),
    ("from_raw_fd", &[]),
    // Read, never written.
    ("/dev/tty", &["host/files/read.rs"]),
    ("/dev/std", &[]),
    ("/dev/fd", &[]),
    // A file that has no name yet gets one.
    ("/proc/self/fd", &["host/files/write.rs"]),
    // Escape sequences of our own: named in one place, and known when they come from the keyboard.
    ("\\x1b", &["terminal/message.rs", "terminal/keys.rs"]),
    ("\\u{1b}", &[]),
    ("\\033", &[]),
];

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

/// Lines of code before the tests, without comments.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = source.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    lines.take_while(|(_, line)| *line != "#[cfg(test)]").filter(|(_, line)| !line.starts_with("//"))
}

/// Whether `line` uses `door`, as a word of its own.
fn uses(line: &str, door: &str) -> bool {
    line.match_indices(door).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + door.len()..].chars().next());
        let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let named = door.chars().next().is_some_and(char::is_alphabetic);
        !(named && (word(before) || door.ends_with(char::is_alphabetic) && word(after)))
    })
}

fn faults(file: &str, source: &str) -> Vec<String> {
    let tests = file.ends_with("tests.rs") || file.contains("/tests/");
    let lines = code(source).filter(|_| !tests);
    let found = lines.flat_map(|(i, line)| {
        DOORS
            .iter()
            .filter(move |(door, may)| !may.contains(&file) && uses(line, door))
            .map(move |(door, _)| (i, *door))
    });
    found.map(|(i, door)| format!("{file}:{i}: {door} outside the terminal's room")).collect()
}

#[test]
fn one_room_prints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime-std/src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let mut found = Vec::new();
    for path in &paths {
        let name = path.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
        found.extend(faults(&name, &fs::read_to_string(path).expect("UTF-8 source")));
    }
    assert!(paths.len() > 50, "only {} files found", paths.len());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_checker_sees_what_it_should() {
    for bad in [
        "println!(\"{x}\");",
        "std::eprint!(\"x\")",
        "let mut out = std::io::stdout().lock();",
        "io::stderr().write_all(b)",
        "unsafe { libc::write(1, p, n) };",
        "File::from_raw_fd(1)",
        "File::create(\"/dev/tty\")",
        "let red = \"\\x1b[31m\";",
        "fn f() {}\n    // a comment\n    print!(\"x\");\n#[cfg(test)]\nmod tests {}",
    ] {
        assert_eq!(faults("commands/x.rs", bad).len(), 1, "{bad}");
    }
    for good in [
        "terminal::tell!(\"trill: {line}\");",
        "text::print(&text)",
        "#[cfg(test)]\nmod tests { fn f() { println!(\"x\") } }",
        "// println!(\"x\")",
        "let n = sprintln!(x); libc::write_something(1)",
    ] {
        assert_eq!(faults("commands/x.rs", good), Vec::<String>::new(), "{good}");
    }
    assert!(faults("terminal/screen.rs", "std::io::stdout()").is_empty());
}
