//! `trill tune`: what it finds is remembered and used; a file that is damaged or cannot be written disturbs nobody.

use crate::files::{Folder, stories};
use crate::run::{json, run, trill};
use std::path::PathBuf;
use std::process::Command;

/// The binary with `folder` as the place where it remembers.
fn at(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = trill(arguments);
    command.env("XDG_CACHE_HOME", &folder.0);
    command
}

fn file(folder: &Folder) -> PathBuf {
    folder.0.join("trill/threads")
}

/// Threads that a run without `-t` uses.
fn used(folder: &Folder, more: &[&str]) -> u64 {
    let line = ["bench", "-m", &stories(), "-p", "0", "-n", "1", "-r", "1", "--json"];
    json(at(folder, &[&line[..], more].concat()))[0]["threads"].as_u64().unwrap()
}

#[test]
fn the_best_count_is_found_remembered_and_used() {
    let folder = Folder::new("tune");
    let before = used(&folder, &[]);
    let clock = std::time::Instant::now();
    let found = json(at(&folder, &["tune", "--json"]));
    assert!(clock.elapsed().as_secs() < 20, "{:?}", clock.elapsed());
    let measured = found["measured"].as_array().unwrap();
    let best = found["threads"].as_u64().unwrap();
    assert!((1..=before).contains(&best) && measured.iter().any(|m| m["threads"] == best), "{found}");
    assert!(measured.iter().all(|m| m["gigabytes_per_second"].as_f64().unwrap() > 0.0), "{found}");
    let machine = found["machine"].as_str().unwrap();
    if found["remembered_in"].is_null() {
        // Other tests ran on the same cores: what was measured is no good, and nothing was written.
        assert!(best == before && !file(&folder).exists(), "{found}");
        std::fs::create_dir_all(file(&folder).parent().unwrap()).unwrap();
        std::fs::write(file(&folder), format!("{best}\t{machine}\n")).unwrap();
    } else {
        assert_eq!(found["remembered_in"], file(&folder).to_str().unwrap());
    }
    assert_eq!(std::fs::read_to_string(file(&folder)).unwrap(), format!("{best}\t{machine}\n"));
    assert_eq!(used(&folder, &[]), best);
    let doctor = json(at(&folder, &["doctor", "--json"]));
    assert!(doctor["machine"]["threads"].as_str().unwrap().contains("found best by trill tune"), "{doctor}");
    // What the file says counts, and -t counts more.
    std::fs::write(file(&folder), format!("7\tanother machine\n1\t{machine}\n")).unwrap();
    assert_eq!((used(&folder, &[]), used(&folder, &["-t", "2"])), (1, 2));
    let tokens = json(at(&folder, &["tune", "-m", &stories(), "--json"]));
    assert!(tokens["measured"][0]["tokens_per_second"].as_f64().unwrap() > 0.0, "{tokens}");
    assert!(std::fs::read_to_string(file(&folder)).unwrap().contains("7\tanother machine"));
}

#[test]
fn doctor_measures_where_nobody_did() {
    let folder = Folder::new("tune-doctor");
    let doctor = json(at(&folder, &["doctor", "--json"]));
    let threads = doctor["machine"]["threads"].as_str().unwrap();
    assert!(threads.contains("measured now (1: "), "{doctor}");
    assert_eq!(file(&folder).is_file(), !threads.contains("not remembered"), "{doctor}");
}

#[test]
fn a_file_that_is_no_use_is_passed_over_with_a_line() {
    let folder = Folder::new("tune-damaged");
    let default = used(&folder, &[]);
    std::fs::create_dir(folder.0.join("trill")).unwrap();
    let bench = ["bench", "-m", &stories(), "-p", "0", "-n", "1", "-r", "1"];
    for damage in [&b"threads=3"[..], &[0xff; 9], &[b'x'; 1 << 17]] {
        std::fs::write(file(&folder), damage).unwrap();
        assert_eq!(used(&folder, &[]), default);
        let out = run(at(&folder, &bench), "");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && said.contains("ignored (`trill tune` writes it anew)"), "{said}");
    }
    // No folder can be made inside a file.
    let blocked = folder.0.join("blocked");
    std::fs::write(&blocked, "").unwrap();
    let mut tune = trill(&["tune", "--json"]);
    tune.env("XDG_CACHE_HOME", &blocked);
    let out = run(tune, "");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("not remembered"), "{said}");
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(found["remembered_in"].is_null() && found["threads"].as_u64().unwrap() >= 1, "{found}");
}
