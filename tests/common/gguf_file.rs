//! Builds GGUF files in memory, sound ones and, on request, unsound ones.

pub(crate) use super::memory::Memory;
use trill::gguf::{Gguf, GgufError};

/// Type numbers of values.
pub(crate) const U8: u32 = 0;
pub(crate) const U32: u32 = 4;
pub(crate) const I32: u32 = 5;
pub(crate) const F32: u32 = 6;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;

/// A tensor record and its bytes.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: Vec<u8>,
    pub(crate) dims: Vec<u64>,
    pub(crate) type_id: u32,
    /// Relative to the data section; `None`: right after the tensor before, padded.
    pub(crate) offset: Option<u64>,
    pub(crate) data: Vec<u8>,
}

/// A file in parts.
#[derive(Clone)]
pub(crate) struct GgufFile {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// What the header says, if that is not the truth.
    pub(crate) n_tensors: Option<u64>,
    /// What the header says, if that is not the truth.
    pub(crate) n_entries: Option<u64>,
    /// Keys with the type number and bytes of their values.
    pub(crate) entries: Vec<(Vec<u8>, u32, Vec<u8>)>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) alignment: usize,
}

/// A length and the bytes.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

/// An array value: element type, count, elements.
pub(crate) fn array(element: u32, count: u64, data: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &count.to_le_bytes(), data].concat()
}

/// An array of strings.
pub(crate) fn strings(items: &[&str]) -> Vec<u8> {
    let data: Vec<u8> = items.iter().flat_map(|s| string(s.as_bytes())).collect();
    array(STRING, items.len() as u64, &data)
}

impl Default for GgufFile {
    fn default() -> Self {
        GgufFile {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_entries: None,
            entries: vec![],
            tensors: vec![],
            alignment: 32,
        }
    }
}

impl GgufFile {
    /// Adds a pair.
    pub(crate) fn entry(mut self, key: impl AsRef<[u8]>, ty: u32, value: impl AsRef<[u8]>) -> Self {
        self.entries.push((key.as_ref().to_vec(), ty, value.as_ref().to_vec()));
        self
    }

    pub(crate) fn str(self, key: &str, value: &str) -> Self {
        self.entry(key, STRING, string(value.as_bytes()))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, U32, value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, F32, value.to_le_bytes())
    }

    /// Adds a tensor.
    pub(crate) fn tensor(mut self, name: impl AsRef<[u8]>, dims: &[u64], type_id: u32, data: Vec<u8>) -> Self {
        let (name, dims) = (name.as_ref().to_vec(), dims.to_vec());
        self.tensors.push(Tensor { name, dims, type_id, offset: None, data });
        self
    }

    /// The file's bytes. Every tensor's bytes are padded but the last one's.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_entries.unwrap_or(self.entries.len() as u64).to_le_bytes());
        for (key, ty, value) in &self.entries {
            out.extend(string(key));
            out.extend(ty.to_le_bytes());
            out.extend(value);
        }
        let mut data: Vec<u8> = vec![];
        for t in &self.tensors {
            out.extend(string(&t.name));
            out.extend((t.dims.len() as u32).to_le_bytes());
            t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(t.type_id.to_le_bytes());
            data.resize(data.len().next_multiple_of(self.alignment), 0);
            out.extend(t.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&t.data);
        }
        if !self.tensors.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
        }
        out.extend(data);
        out
    }
}

/// Parses `bytes` with memory of exactly the promised size and hands the file to `then`.
pub(crate) fn with<T>(bytes: &[u8], then: impl FnOnce(Gguf<'_>) -> T) -> Result<T, GgufError> {
    let need = Gguf::index_bytes(bytes)?;
    let mut memory = Memory::default();
    let mut carver = memory.carver(need);
    let parsed = match Gguf::parse(bytes, &mut carver) {
        Ok(file) => Ok(then(file)),
        Err(trill::Error::Gguf(e)) => Err(e),
        Err(other) => panic!("not an error of the file: {other}"),
    };
    if parsed.is_ok() {
        assert_eq!(carver.used(), need, "the promised memory");
    }
    parsed
}
