//! Whether a model is the file that it should be: `--sha256`, `--require-signature`, `trill verify`.

use crate::run::{in_repository, json, run, trill};
use std::fs;
use std::path::PathBuf;
use std::process::Output;

// Made by minisign 0.12 for `tests/data/stories-bitnet-I2_S.gguf`: `minisign -G -W`, `minisign -S` (and with `-l`).
const KEY: &str = "RWTgI820jQT34Nohu3d7YTbycs1OXZ4oRaTMyK5CihhwN12Rz6uU9Sfy";
const OTHER_KEY: &str = "RWQ69chvxVnuakWrDwr3jJ16GvsEQQM9EESmot4GxcQ7qLPamw2R3xIP";
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RUTgI820jQT34C32LP7xcSJrctW7adxa8lD6inMM2kVRbb2RPnXG4NyXstPEOR0FePzdHTHJeCwqTx51MWiyjyABGzpPRUIP8Q4=\n\
    trusted comment: the stories model of trill's tests\n\
    a4SM+Xwl90/oJo9tbWNY6sqMXsDi0QqaDKJtzRKCDHm+s+8dsKP+l3HF2k7K63DUvBJoJDX+UrGqCCEPDxPvCw==\n";
const LEGACY: &str = "untrusted comment: signature from minisign secret key\n\
    RWTgI820jQT34OJr4yJhDnv9J+ylj0VCAkWkkZcFT89/M6Wh4w30sXnGdNyAnwQFsKsNlRrKT2TrgwFjRlZ1coi+Cp34ermUjAw=\n\
    trusted comment: the old form\n\
    ezusCgWySn2qrlAe52V8wc6SnO0duJn7iH3qm9or6nYGk899IgtB1vVhdsyjZ+t5hvYvTKp4CZzM4MFO+JZsDQ==\n";
const SHA256: &str = "35e3a544f222234f80e86c0e583c2a05583e362dbafac40cafba7252b2c3e6f9";

/// A folder with a copy of the tiny model, `m.gguf`.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let folder = std::env::temp_dir().join(format!("trill-verify-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::copy(in_repository("tests/data/stories-bitnet-I2_S.gguf"), folder.join("m.gguf")).expect("a copy");
        Place(folder)
    }

    fn put(&self, name: &str, content: &str) -> String {
        fs::write(self.0.join(name), content).expect("a file");
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// Changes one byte in the middle of the model.
    fn damage(&self) {
        let mut bytes = fs::read(self.0.join("m.gguf")).expect("the model");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(self.0.join("m.gguf"), bytes).expect("a file");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn errors(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The command ends with this code and one line that says this, and gives no answer.
fn refused(line: &[&str], code: i32, says: &str) {
    let out = run(trill(line), "Once");
    assert_eq!(out.status.code(), Some(code), "{line:?}: {}", errors(&out));
    assert!(errors(&out).contains(says) && errors(&out).lines().count() == 1, "{line:?}: {}", errors(&out));
    assert!(out.stdout.is_empty(), "{line:?}");
}

fn accepted(line: &[&str]) -> String {
    let out = run(trill(line), "Once");
    assert_eq!(out.status.code(), Some(0), "{line:?}: {}", errors(&out));
    String::from_utf8(out.stdout).expect("UTF-8")
}

/// A run of the model `m` with further flags.
fn load<'a>(m: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-m", m, "-p", "Once", "-n", "2", "--temp", "0"][..], more].concat()
}

#[test]
fn another_hash_is_refused_by_every_command() {
    let place = Place::new("hash");
    let (m, out) = (place.path("m.gguf"), place.path("out.gguf"));
    let other = "0".repeat(64);
    let text = in_repository("tests/data/english.txt").to_str().expect("a UTF-8 path").to_owned();
    let lines: [&[&str]; 12] = [
        &["run", "-m", &m, "-p", "Once", "-n", "2"],
        &["chat", "-m", &m, "-n", "2"],
        &["bench", "-m", &m, "-p", "4", "-n", "2", "-r", "1"],
        &["perplexity", "-m", &m, "-f", &text, "-c", "64", "-q"],
        &["logits", "-m", &m, "--tokens", "1"],
        &["tokenize", "-m", &m],
        &["detokenize", "-m", &m, "-p", "1"],
        &["inspect", &m],
        &["plan", &m],
        &["quantize", &m, &out, "Q8_0"],
        &["pack", &m, &out, "--for", "generic"],
        &["verify", &m],
    ];
    for line in lines {
        refused(&[line, &["--sha256", &other]].concat(), 65, "is another file");
        refused(&[line, &["--sha256", "abc"]].concat(), 64, "64 hexadecimal digits");
        assert!(!place.0.join("out.gguf").exists(), "{line:?}");
        if line[0] != "quantize" {
            accepted(&[line, &["--sha256", &SHA256.to_uppercase()]].concat());
            let _ = fs::remove_file(place.0.join("out.gguf"));
        }
    }
    // A copy is hashed as a mapping is.
    accepted(&["run", "-m", &m, "-p", "Once", "-n", "2", "--no-mmap", "--sha256", SHA256]);
    refused(&["run", "-m", &m, "-p", "Once", "-n", "2", "--no-mmap", "--sha256", &other], 65, "is another file");
    place.damage();
    refused(&["run", "-m", &m, "-p", "Once", "-n", "2", "--sha256", SHA256], 65, SHA256);
}

#[test]
fn the_hash_comes_before_the_parser() {
    let place = Place::new("order");
    let bad = place.put("bad.gguf", "GGUF and nothing that could be one");
    refused(&["run", "-m", &bad, "-p", "x"], 65, "bad.gguf");
    refused(&["run", "-m", &bad, "-p", "x", "--sha256", SHA256], 65, "is another file");
    refused(&["run", "-m", &bad, "-p", "x", "--require-signature", KEY], 65, "is not signed");
}

#[test]
fn only_what_is_signed_by_the_key_is_loaded() {
    let place = Place::new("signed");
    let m = place.path("m.gguf");
    let key_file = place.put("k.pub", &format!("untrusted comment: minisign public key\n{KEY}\n"));
    refused(&load(&m, &["--require-signature", KEY]), 65, "is not signed");
    for signature in [SIGNATURE, LEGACY] {
        place.put("m.gguf.minisig", signature);
        for key in [KEY, &key_file] {
            accepted(&load(&m, &["--require-signature", key]));
            accepted(&load(&m, &["--require-signature", key, "--no-mmap"]));
            accepted(&["verify", &m, "--key", key]);
        }
        refused(&load(&m, &["--require-signature", OTHER_KEY]), 65, "another key");
        refused(&["verify", &m, "--key", OTHER_KEY], 65, "another key");
    }
    let elsewhere = place.put("elsewhere.minisig", SIGNATURE);
    for (wrong, says) in [
        ("", "not a minisign signature"),
        ("hello\nworld\n", "not a minisign signature"),
        (&SIGNATURE.replace("RUTgI820jQT34C", "RUTgI820jQT34D"), "was changed"),
        (&SIGNATURE.replace("of trill's tests", "of somebody"), "was changed"),
        (&SIGNATURE[..SIGNATURE.len() - 60], "not a minisign signature"),
        (&SIGNATURE.replace("trusted comment: the", "comment: the"), "not a minisign signature"),
    ] {
        place.put("m.gguf.minisig", wrong);
        refused(&load(&m, &["--require-signature", KEY]), 65, says);
        refused(&["verify", &m, "--key", KEY], 65, says);
        accepted(&load(&m, &["--require-signature", KEY, "--signature", &elsewhere]));
    }
    refused(&load(&m, &["--require-signature", "/no/such/key"]), 66, "/no/such/key");
    refused(&load(&m, &["--require-signature", KEY, "--signature", "/no/such/signature"]), 66, "/no/such/signature");
    refused(&load(&m, &["--require-signature", &m]), 65, "m.gguf");
    refused(&load(&m, &["--require-signature", ""]), 64, "--require-signature");
    refused(&load(&m, &["--signature", &elsewhere]), 64, "--require-signature KEY");
    refused(&["verify", &m, "--signature", &elsewhere], 64, "--key KEY");
    place.put("m.gguf.minisig", SIGNATURE);
    place.damage();
    refused(&load(&m, &["--require-signature", KEY]), 65, "was changed");
    place.put("m.gguf.minisig", LEGACY);
    refused(&load(&m, &["--require-signature", KEY]), 65, "was changed");
}

#[test]
fn verify_tells_what_it_found() {
    let place = Place::new("report");
    let m = place.path("m.gguf");
    assert_eq!(accepted(&["verify", &m]), format!("sha256     {SHA256}\n"));
    place.put("m.gguf.minisig", SIGNATURE);
    let said = accepted(&["verify", &m, "--sha256", SHA256, "--key", KEY]);
    assert!(said.contains(&format!("{SHA256} (as asked)\n")), "{said}");
    assert!(said.ends_with("signature  good; trusted comment: the stories model of trill's tests\n"), "{said}");
    let report = json(trill(&["verify", &m, "--sha256", SHA256, "--key", KEY, "--json"]));
    assert_eq!(report["sha256"], SHA256);
    assert_eq!((&report["sha256_verified"], &report["signature"]["verified"]), (&true.into(), &true.into()));
    assert_eq!(report["signature"]["trusted_comment"], "the stories model of trill's tests");
    let report = json(trill(&["verify", &m, "--json"]));
    assert!(report["signature"].is_null() && report["sha256_verified"] == false);
    // It need not be a model; it must be a file.
    let text = place.put("notes.txt", "abc");
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(accepted(&["verify", &text]), format!("sha256     {hash}\n"));
    refused(&["verify", "/no/such/file"], 66, "/no/such/file");
    refused(&["verify", &place.path(".")], 66, "folder");
}
