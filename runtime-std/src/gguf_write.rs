//! Writes GGUF files (version 3): metadata first, then tensor after tensor as somebody produces them, so that
//! a model of any size takes little memory. The file appears under its name only when it is whole
//! (`host/files/write.rs`).

use crate::destination::{Destination, exists};
use crate::exit::{Code, Failure, Outcome, reason};
use crate::host::files::{Access, Output, Refused};
use crate::host::mmap;
use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
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
    out: BufWriter<Sink>,
    to: Destination,
    alignment: u64,
    /// Bytes of the tensors that are still to come.
    sizes: VecDeque<u64>,
    /// Bytes of the whole file so far.
    written: u64,
}

/// The output as something that bytes go to.
struct Sink(Output);

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.file().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.file().flush()
    }
}

impl Writer {
    /// Creates the file and writes everything up to the first tensor's bytes. `metadata` must hold
    /// `general.alignment` if `alignment` is not 32.
    pub(crate) fn create(
        to: &Destination,
        metadata: &Metadata,
        records: &[Record<'_>],
        alignment: u64,
    ) -> Outcome<Self> {
        let output = Output::create(&to.target, Access::Usual).map_err(|r| r.creating(to.target.path()))?;
        let mut writer = Writer {
            out: BufWriter::with_capacity(1 << 20, Sink(output)),
            to: to.clone(),
            alignment,
            sizes: records.iter().map(|r| r.bytes).collect(),
            written: 0,
        };
        let head = head(metadata, records, alignment);
        writer.put(&head)?;
        writer.pad()?;
        Ok(writer)
    }

    /// Writes the next tensor of the records. `produce` must write exactly the bytes that its record says.
    pub(crate) fn tensor(&mut self, produce: impl FnOnce(&mut dyn Write) -> Outcome) -> Outcome {
        let expected = self.sizes.pop_front().expect("a record for every tensor");
        let mut counted = Counted { out: &mut self.out, bytes: 0 };
        let produced = produce(&mut counted);
        let bytes = counted.bytes;
        // Whatever failed while writing failed on this file.
        produced.map_err(|f| if f.code == Code::Io { f.about(self.to.target.path()) } else { f })?;
        assert_eq!(bytes, expected, "the size that the tensor's record says");
        self.written += bytes;
        self.pad()
    }

    /// Hands the whole file, as it is on the disk, to `look`, which may refuse it.
    pub(crate) fn inspect<T>(&mut self, look: impl FnOnce(&[u8]) -> Outcome<T>) -> Outcome<T> {
        assert!(self.sizes.is_empty(), "every tensor is written");
        let file = |out: &BufWriter<Sink>| out.get_ref().0.file().sync_all();
        self.out.flush().and_then(|()| file(&self.out)).map_err(|e| self.failure(&e))?;
        let file = self.out.get_ref().0.file();
        mmap::forget(file);
        let map = mmap::map(file).map_err(|e| Failure::file(self.to.target.path(), &e))?;
        look(&map)
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(mut self) -> Outcome<u64> {
        assert!(self.sizes.is_empty(), "every tensor is written");
        self.out.flush().map_err(|e| self.failure(&e))?;
        match self.out.get_mut().0.publish(self.to.replace) {
            Ok(()) => Ok(self.written),
            Err(Refused::Io(e)) if e.kind() == io::ErrorKind::AlreadyExists => Err(exists(self.to.target.path())),
            Err(Refused::Io(e)) => Err(self.failure(&e)),
            Err(refused) => Err(refused.creating(self.to.target.path())),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Outcome {
        self.out.write_all(bytes).map_err(|e| self.failure(&e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> Outcome {
        let missing = self.written.next_multiple_of(self.alignment) - self.written;
        io::copy(&mut io::Read::take(io::repeat(0), missing), &mut self.out).map_err(|e| self.failure(&e))?;
        self.written += missing;
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::new(Code::Io, reason(error)).about(self.to.target.path())
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

/// Counts what goes through.
struct Counted<'w> {
    out: &'w mut BufWriter<Sink>,
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
    use crate::host::files::Target;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
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

    fn to(path: &Path, replace: bool) -> Destination {
        Destination { target: Arc::new(Target::find(path).unwrap()), replace }
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
        let mut writer = Writer::create(&to(&target, false), &metadata, &records, file.alignment().into()).unwrap();
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
        let mut writer = Writer::create(&to(&target, true), &Metadata::default(), &[record()], 32).unwrap();
        let failed = writer.tensor(|out| {
            out.write_all(&[0; 8]).unwrap();
            Err(Failure::new(Code::Data, "no"))
        });
        assert_eq!(failed, Err(Failure::new(Code::Data, "no")));
        drop(writer);
        assert_eq!((folder.files(), fs::read(&target).unwrap()), (1, b"old".to_vec()));
    }

    #[test]
    fn two_writers_both_write_whole_files() {
        let folder = Folder::new("two");
        let target = folder.0.join("x.gguf");
        let [first, second] =
            [0, 1].map(|_| Writer::create(&to(&target, false), &Metadata::default(), &[], 32).unwrap());
        assert_eq!(first.finish().unwrap(), 32);
        // The second did not know of the first, and must not take its place.
        assert_eq!(second.finish(), Err(exists(&target)));
        assert_eq!((folder.files(), fs::metadata(&target).unwrap().len()), (1, 32));
    }
}
