//! Damaged models through the binary: an error with exit code 65 or a run that ends normally, never a signal,
//! and never more than 64 MiB of memory beside the file.
//!
//! The model is the tiny one in `data/` (its README says where it is from). `gguf_hostile.rs` and
//! `smollm2_files.rs` damage files by the ten thousand inside one process; here a few hundred show that
//! nothing is lost between the core and the exit code.

use crate::limits::limited;
use crate::run::{in_repository, trill};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const EXTRA: u64 = 64 << 20;
/// Address space of the program itself: code, stacks, the C library.
const PROGRAM: u64 = 64 << 20;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Scratch(std::env::temp_dir().join(format!("trill-{name}-{}.gguf", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Another test may have removed the folder; nothing depends on this one file.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs the model for four tokens under the limit; the exit code, 0 or 65.
fn attempt(path: &Path, what: &str) -> i32 {
    let size = std::fs::metadata(path).expect("the damaged file").len();
    let model = path.to_str().expect("a UTF-8 path");
    let command = trill(&["run", "-m", model, "-p", "Once upon", "-n", "4", "-c", "64", "-t", "1", "--temp", "0"]);
    let out = limited(command, size + EXTRA + PROGRAM).stdin(Stdio::null()).output().expect("trill starts");
    let message = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.signal(), None, "{what}: ended by a signal: {message}");
    let code = out.status.code().expect("a code");
    assert!(code == 0 || code == 65, "{what}: exit code {code}: {message}");
    assert!(!message.contains("panicked"), "{what}: {message}");
    if code == 65 {
        assert!(out.stdout.is_empty(), "{what}: an answer beside the error");
        assert_eq!(message.trim_end().lines().count(), 1, "{what}: {message}");
    }
    code
}

fn stories() -> Vec<u8> {
    std::fs::read(in_repository("tests/data/stories-bitnet-I2_S.gguf")).expect("the tiny model")
}

/// Where the metadata ends and the weights begin: the first tensor's data.
fn metadata_len(bytes: &[u8]) -> usize {
    let name = b"output_norm.weight";
    bytes.windows(name.len()).rposition(|w| w == name).expect("a tensor record") + name.len()
}

#[test]
fn cut_files_are_refused() {
    let (bytes, scratch) = (stories(), Scratch::new("cut"));
    for i in 0..100 {
        let len = bytes.len() * i / 100;
        std::fs::write(&scratch.0, &bytes[..len]).expect("room for a copy");
        assert_eq!(attempt(&scratch.0, &format!("cut at {len}")), 65, "cut at {len}");
    }
}

#[test]
fn flipped_bytes_are_refused_or_harmless() {
    let (mut bytes, scratch) = (stories(), Scratch::new("flip"));
    let end = metadata_len(&bytes);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut codes = [0, 0];
    for _ in 0..300 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Half of the damage goes to the first kilobyte, where the counts and the sizes are.
        let range = if state & 1 == 0 { end } else { 1024 };
        let (at, xor) = ((state >> 33) as usize % range, ((state >> 8) as u8).max(1));
        bytes[at] ^= xor;
        std::fs::write(&scratch.0, &bytes).expect("room for a copy");
        codes[usize::from(attempt(&scratch.0, &format!("byte {at} ^ {xor:#x}")) == 65)] += 1;
        bytes[at] ^= xor;
    }
    println!("{} ran, {} were refused", codes[0], codes[1]);
    assert!(codes[0] > 20 && codes[1] > 20, "{codes:?}");
}

#[test]
fn the_sound_file_runs_under_the_same_limit() {
    let scratch = Scratch::new("sound");
    std::fs::write(&scratch.0, stories()).expect("room for a copy");
    assert_eq!(attempt(&scratch.0, "the sound file"), 0);
}
