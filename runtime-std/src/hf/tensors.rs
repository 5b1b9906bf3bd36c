//! The safetensors files of a folder. Headers are read once; weights are read row by row from the files, so
//! that a model of any size takes little memory.

use super::json_file;
use crate::exit::{Code, Failure, Outcome};
use crate::host::{files, mmap};
use safetensors::tensor::{Dtype, SafeTensors};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use trill::numeric::{bf16_to_f32, f16_to_f32};

/// The tensors of a folder, by name.
pub(crate) struct Tensors {
    files: Vec<(PathBuf, File)>,
    by_name: HashMap<String, Stored>,
}

/// Where a tensor is.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    file: usize,
    offset: u64,
    pub(crate) kind: Kind,
    /// Rows and columns; a vector is one row.
    pub(crate) shape: [usize; 2],
}

/// Element types that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F16,
    Bf16,
    U8,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::F32 => 4,
            Kind::F16 | Kind::Bf16 => 2,
            Kind::U8 => 1,
        }
    }
}

impl Tensors {
    /// Opens every safetensors file of `folder` (those its index names, if it has one).
    pub(crate) fn open(folder: &Path) -> Outcome<Self> {
        let mut tensors = Tensors { files: Vec::new(), by_name: HashMap::new() };
        for name in file_names(folder)? {
            tensors.add(folder.join(name))?;
        }
        Ok(tensors)
    }

    fn add(&mut self, path: PathBuf) -> Outcome {
        // Only the pages of the header are touched.
        let file = files::regular(&path)?;
        let map = mmap::map(&file).map_err(|e| Failure::file(&path, &e))?;
        let bad = |what: String| Failure::new(Code::Data, what).about(&path);
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|e| bad(format!("is not a whole safetensors file: {e}")))?;
        let start = header as u64 + 8;
        for (name, info) in metadata.tensors() {
            let kind = match info.dtype {
                Dtype::F32 => Kind::F32,
                Dtype::F16 => Kind::F16,
                Dtype::BF16 => Kind::Bf16,
                Dtype::U8 => Kind::U8,
                // Buffers that some files carry along; whoever asks for one learns that it is not there.
                _ => continue,
            };
            let shape = match info.shape[..] {
                [] => [1, 1],
                [n] => [1, n],
                [rows, cols] => [rows, cols],
                _ => continue,
            };
            let offset = start + info.data_offsets.0 as u64;
            let stored = Stored { file: self.files.len(), offset, kind, shape };
            if self.by_name.insert(name.clone(), stored).is_some() {
                return Err(bad(format!("tensor '{name}' comes twice")));
            }
        }
        self.files.push((path, file));
        Ok(())
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The tensor called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Stored> {
        self.by_name.get(name)
    }

    /// The bytes of row `row`.
    pub(crate) fn row(&self, tensor: &Stored, row: usize, out: &mut Vec<u8>) -> Outcome {
        let (path, file) = &self.files[tensor.file];
        let bytes = tensor.shape[1] * tensor.kind.bytes();
        out.resize(bytes, 0);
        let offset = tensor.offset + (row * bytes) as u64;
        file.read_exact_at(out, offset).map_err(|e| Failure::file(path, &e))
    }

    /// Row `row` of a float tensor as f32.
    pub(crate) fn floats(&self, tensor: &Stored, row: usize, bytes: &mut Vec<u8>, out: &mut [f32]) -> Outcome {
        self.row(tensor, row, bytes)?;
        match tensor.kind {
            Kind::F32 => {
                for (v, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *v = f32::from_le_bytes(*b);
                }
            }
            Kind::F16 | Kind::Bf16 => {
                let widen = if tensor.kind == Kind::F16 { f16_to_f32 } else { bf16_to_f32 };
                for (v, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *v = widen(u16::from_le_bytes(*b));
                }
            }
            Kind::U8 => out.iter_mut().zip(&*bytes).for_each(|(v, b)| *v = f32::from(*b)),
        }
        Ok(())
    }
}

/// The index's files, or every safetensors file, in order.
fn file_names(folder: &Path) -> Outcome<BTreeSet<String>> {
    if let Some(index) = json_file(folder, "model.safetensors.index.json")? {
        let map = index["weight_map"].as_object().into_iter().flat_map(|m| m.values());
        let names: BTreeSet<_> = map.filter_map(|v| v.as_str()).map(str::to_owned).collect();
        // A name is a name, not a way out of the folder.
        if let Some(odd) = names.iter().find(|n| Path::new(n).file_name().is_none_or(|f| f != n.as_str())) {
            return Err(Failure::new(Code::Data, format!("its index names the file '{odd}'")).about(folder));
        }
        return Ok(names);
    }
    let entries = fs::read_dir(folder).map_err(|e| Failure::file(folder, &e))?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let names: BTreeSet<_> = names.filter(|n| n.ends_with(".safetensors")).collect();
    if names.is_empty() {
        return Err(Failure::new(Code::NoInput, "holds no .safetensors file").about(folder));
    }
    Ok(names)
}
