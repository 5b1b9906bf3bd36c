//! Writes GGUF files (version 3): metadata first, then tensor after tensor as somebody produces them, so that
//! a model of any size takes little memory. The file appears under its name only when it is whole: until
//! then it is a temporary file beside it, which goes away if anything fails.

use crate::exit::{Code, Failure, Outcome, reason};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use trill::gguf::{Array, Value};

/// Key-value pairs, in file order.
#[derive(Default)]
pub(crate) struct Metadata {
    bytes: Vec<u8>,
    count: u64,
}

impl Metadata {
    /// Adds a pair. The caller sees to it that no key comes twice.
    pub(crate) fn value(&mut self, key: &str, value: &Value<'_>) {
        self.count += 1;
        put_string(&mut self.bytes, key.as_bytes());
        put_u32(&mut self.bytes, value.ty() as u32);
        let out = &mut self.bytes;
        match value {
            Value::U8(v) => out.push(*v),
            Value::I8(v) => out.extend(v.to_le_bytes()),
            Value::U16(v) => out.extend(v.to_le_bytes()),
            Value::I16(v) => out.extend(v.to_le_bytes()),
            Value::U32(v) => out.extend(v.to_le_bytes()),
            Value::I32(v) => out.extend(v.to_le_bytes()),
            Value::F32(v) => out.extend(v.to_le_bytes()),
            Value::Bool(v) => out.push(u8::from(*v)),
            Value::Str(v) => put_string(out, v),
            Value::Array(v) => put_array(out, v),
            Value::U64(v) => out.extend(v.to_le_bytes()),
            Value::I64(v) => out.extend(v.to_le_bytes()),
            Value::F64(v) => out.extend(v.to_le_bytes()),
        }
    }
}

fn put_u32(out: &mut Vec<u8>, v: u32) {
    out.extend(v.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, v: u64) {
    out.extend(v.to_le_bytes());
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_array(out: &mut Vec<u8>, array: &Array<'_>) {
    put_u32(out, array.ty() as u32);
    put_u64(out, array.len() as u64);
    out.extend(array.data());
}

/// What a tensor's record says.
pub(crate) struct Record<'a> {
    pub(crate) name: &'a str,
    /// The sizes in use; the first is the one whose elements are next to each other.
    pub(crate) dims: &'a [u64],
    pub(crate) type_id: u32,
    /// Bytes of the tensor.
    pub(crate) bytes: u64,
}

/// A file that is being written.
pub(crate) struct Writer {
    file: BufWriter<File>,
    temporary: PathBuf,
    target: PathBuf,
    alignment: u64,
    /// Bytes of the tensors that are still to come.
    sizes: VecDeque<u64>,
    /// Bytes of the whole file so far.
    written: u64,
    renamed: bool,
}

impl Writer {
    /// Creates the file and writes everything up to the first tensor's bytes. `metadata` must hold
    /// `general.alignment` if `alignment` is not 32.
    pub(crate) fn create(target: &Path, metadata: &Metadata, records: &[Record<'_>], alignment: u64) -> Outcome<Self> {
        let temporary = temporary_name(target)?;
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|e| Failure::new(Code::CannotCreate, reason(&e)).about(target))?;
        let mut writer = Writer {
            file: BufWriter::with_capacity(1 << 20, file),
            temporary,
            target: target.to_owned(),
            alignment,
            sizes: records.iter().map(|r| r.bytes).collect(),
            written: 0,
            renamed: false,
        };
        let head = head(metadata, records, alignment);
        writer.put(&head)?;
        writer.pad()?;
        Ok(writer)
    }

    /// Writes the next tensor of the records. `produce` must write exactly the bytes that its record says.
    pub(crate) fn tensor(&mut self, produce: impl FnOnce(&mut dyn Write) -> Outcome) -> Outcome {
        let expected = self.sizes.pop_front().expect("a record for every tensor");
        let mut counted = Counted { out: &mut self.file, bytes: 0 };
        let produced = produce(&mut counted);
        let bytes = counted.bytes;
        // Whatever failed while writing failed on this file.
        produced.map_err(|f| if f.code == Code::Io { f.about(&self.target) } else { f })?;
        assert_eq!(bytes, expected, "the size that the tensor's record says");
        self.written += bytes;
        self.pad()
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(mut self) -> Outcome<u64> {
        assert!(self.sizes.is_empty(), "every tensor is written");
        let named = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.target));
        named.map_err(|e| self.failure(&e))?;
        self.renamed = true;
        // The new name is safe once the folder is; not every file system can be asked.
        if let Ok(folder) = File::open(folder_of(&self.target)) {
            let _ = folder.sync_all();
        }
        Ok(self.written)
    }

    fn put(&mut self, bytes: &[u8]) -> Outcome {
        self.file.write_all(bytes).map_err(|e| self.failure(&e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> Outcome {
        let missing = self.written.next_multiple_of(self.alignment) - self.written;
        io::copy(&mut io::Read::take(io::repeat(0), missing), &mut self.file).map_err(|e| self.failure(&e))?;
        self.written += missing;
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::new(Code::Io, reason(error)).about(&self.target)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Header, metadata and records.
fn head(metadata: &Metadata, records: &[Record<'_>], alignment: u64) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    put_u32(&mut out, 3);
    put_u64(&mut out, records.len() as u64);
    put_u64(&mut out, metadata.count);
    out.extend(&metadata.bytes);
    let mut offset = 0u64;
    for record in records {
        put_string(&mut out, record.name.as_bytes());
        put_u32(&mut out, record.dims.len() as u32);
        record.dims.iter().for_each(|d| put_u64(&mut out, *d));
        put_u32(&mut out, record.type_id);
        put_u64(&mut out, offset);
        offset += record.bytes.next_multiple_of(alignment);
    }
    out
}

/// The folder that `path` is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_name(target: &Path) -> Outcome<PathBuf> {
    let name = target.file_name().filter(|_| !target.is_dir());
    let name = name.ok_or_else(|| Failure::new(Code::CannotCreate, "is not the name of a file").about(target))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.part", std::process::id()));
    Ok(folder_of(target).join(temporary))
}

/// Counts what goes through.
struct Counted<'w> {
    out: &'w mut BufWriter<File>,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
