//! Folders and GGUF files for the tests of commands that write them.

use crate::run::{in_repository, run, trill};
use std::path::PathBuf;
use trill::gguf::{Gguf, TensorInfo};
use trill::mem::{ALIGN, Carver};

/// A folder that goes away with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trill-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("a folder");
        let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The trained tiny model: bitnet-b1.58, ternary matrices in I2_S, the embedding in F16.
pub(crate) fn stories() -> String {
    in_repository("tests/data/stories-bitnet-I2_S.gguf").to_str().expect("UTF-8").to_owned()
}

/// Parses the file at `path` and hands it to `then`.
pub(crate) fn with_file<T>(path: &str, then: impl FnOnce(Gguf<'_>) -> T) -> T {
    let bytes = std::fs::read(path).expect("a file");
    let need = Gguf::index_bytes(&bytes).expect("a sound header");
    let mut memory = vec![std::mem::MaybeUninit::uninit(); need + ALIGN];
    let skip = memory.as_ptr().align_offset(ALIGN);
    let mut carver = Carver::over(&mut memory[skip..skip + need]).expect("aligned memory");
    then(Gguf::parse(&bytes, &mut carver).expect("a sound file"))
}

/// Every weight.
pub(crate) fn values(tensor: &TensorInfo<'_>) -> Vec<f32> {
    let matrix = tensor.matrix().expect("a matrix");
    let mut all = vec![0.0; tensor.elements()];
    all.chunks_exact_mut(matrix.cols()).enumerate().for_each(|(r, row)| matrix.decode_row(r, row));
    all
}

/// Exit code and message of a run that must fail.
pub(crate) fn refused(arguments: &[&str]) -> (i32, String) {
    let out = run(trill(arguments), "");
    let message = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.stdout.is_empty() && message.trim_end().lines().count() == 1, "{arguments:?}: {message}");
    (out.status.code().expect("no signal"), message)
}
