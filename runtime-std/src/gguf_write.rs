//! Writes GGUF files (version 3): metadata first, then tensor after tensor as somebody produces them, so that
//! a model of any size takes little memory. The file appears under its name only when it is whole: until
//! then it is a temporary file beside it, which goes away if anything fails.

use crate::exit::{Code, Failure, Outcome, reason};
use crate::host::mmap;
use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use trill::gguf::{Array, Value, ValueType};

/// Key-value pairs, in file order.
#[derive(Default, PartialEq, Eq)]
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

    /// Adds an array of strings.
    pub(crate) fn strings<'a>(&mut self, key: &str, items: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.array(key, ValueType::Str, items.len());
        items.for_each(|s| put_string(&mut self.bytes, s));
    }

    /// Adds an array of i32.
    pub(crate) fn i32s(&mut self, key: &str, items: &[i32]) {
        self.array(key, ValueType::I32, items.len());
        items.iter().for_each(|v| self.bytes.extend(v.to_le_bytes()));
    }

    /// Adds an array of f32.
    pub(crate) fn f32s(&mut self, key: &str, items: &[f32]) {
        self.array(key, ValueType::F32, items.len());
        items.iter().for_each(|v| self.bytes.extend(v.to_le_bytes()));
    }

    fn array(&mut self, key: &str, ty: ValueType, len: usize) {
        self.count += 1;
        put_string(&mut self.bytes, key.as_bytes());
        put_u32(&mut self.bytes, ValueType::Array as u32);
        put_u32(&mut self.bytes, ty as u32);
        put_u64(&mut self.bytes, len as u64);
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
        let file = create_alone(&temporary).map_err(|e| Failure::new(Code::CannotCreate, reason(&e)).about(target))?;
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

    /// Hands the whole file, under its temporary name, to `look`, which may refuse it.
    pub(crate) fn inspect<T>(&mut self, look: impl FnOnce(&Path) -> Outcome<T>) -> Outcome<T> {
        assert!(self.sizes.is_empty(), "every tensor is written");
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(|e| self.failure(&e))?;
        mmap::forget(self.file.get_ref());
        look(&self.temporary)
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
    temporary.push(".part");
    Ok(folder_of(target).join(temporary))
}

/// An empty file that nobody else writes. The name is always the same, so that what a killed run has left is
/// used again rather than kept for ever; a lock tells such a file from one that is being written.
fn create_alone(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("is being written by another program")),
            // File systems without locks: then one writer at a time is the user's business.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // Its writer may have finished, and given it its name, between the opening and the locking.
        if fs::metadata(path).is_ok_and(|m| file.metadata().is_ok_and(|f| (f.dev(), f.ino()) == (m.dev(), m.ino()))) {
            file.set_len(0)?;
            return Ok(file);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use trill::gguf::Gguf;
    use trill::mem::Carver;

    const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/stories-bitnet-I2_S.gguf");

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("trill-write-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record() -> Record<'static> {
        Record { name: "a", dims: &[4], type_id: 0, bytes: 16 }
    }

    #[test]
    fn a_copy_is_the_same_file() {
        let bytes = fs::read(STORIES).unwrap();
        let index = crate::host::memory::Arena::reserve(Gguf::index_bytes(&bytes).unwrap()).unwrap().leak();
        let file = Gguf::parse(&bytes, &mut Carver::over(index).unwrap()).unwrap();
        let mut metadata = Metadata::default();
        file.entries().iter().for_each(|e| metadata.value(e.key, &e.value));
        let records: Vec<_> = file
            .tensors()
            .iter()
            .map(|t| Record {
                name: t.name,
                dims: &t.dims[..t.n_dims as usize],
                type_id: t.type_id,
                bytes: t.data.len() as u64,
            })
            .collect();
        let folder = Folder::new("copy");
        let target = folder.0.join("copy.gguf");
        let mut writer = Writer::create(&target, &metadata, &records, file.alignment().into()).unwrap();
        for t in file.tensors() {
            assert!(!target.exists(), "the name is given last");
            writer.tensor(|out| out.write_all(t.data).map_err(|e| Failure::stdout(&e))).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), bytes.len() as u64);
        assert!(fs::read(&target).unwrap() == bytes);
        assert_eq!(folder.files(), 1);
    }

    #[test]
    fn failures_leave_nothing() {
        let folder = Folder::new("failures");
        let target = folder.0.join("x.gguf");
        fs::write(&target, "old").unwrap();
        let mut writer = Writer::create(&target, &Metadata::default(), &[record()], 32).unwrap();
        let failed = writer.tensor(|out| {
            out.write_all(&[0; 8]).unwrap();
            Err(Failure::new(Code::Data, "no"))
        });
        assert_eq!(failed, Err(Failure::new(Code::Data, "no")));
        assert_eq!(folder.files(), 2);
        drop(writer);
        assert_eq!((folder.files(), fs::read(&target).unwrap()), (1, b"old".to_vec()));
        for bad in [folder.0.join("none/x.gguf"), folder.0.clone(), PathBuf::from("/"), PathBuf::from("..")] {
            let failed = Writer::create(&bad, &Metadata::default(), &[], 32).map(|_| ()).unwrap_err();
            assert_eq!(failed.code, Code::CannotCreate, "{}", bad.display());
        }
    }

    #[test]
    fn one_writer_at_a_time() {
        let folder = Folder::new("lock");
        let target = folder.0.join("x.gguf");
        // What a killed run has left is no obstacle.
        fs::write(temporary_name(&target).unwrap(), vec![1; 1000]).unwrap();
        let writer = Writer::create(&target, &Metadata::default(), &[], 32).unwrap();
        let second = Writer::create(&target, &Metadata::default(), &[], 32).map(|_| ()).unwrap_err();
        assert_eq!(second.code, Code::CannotCreate);
        assert!(second.message.contains("another program"), "{}", second.message);
        assert_eq!(writer.finish().unwrap(), 32);
        assert_eq!((folder.files(), fs::metadata(&target).unwrap().len()), (1, 32));
    }
}
