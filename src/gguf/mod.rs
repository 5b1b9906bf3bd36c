//! A validated, borrowed view of a GGUF file, version 2 or 3 (the specification is `docs/gguf.md` of
//! ggml-org/ggml).
//!
//! [`Gguf::parse`] checks every rule once; what it hands out afterwards needs no more checks: ranges lie in
//! the file, names are unique text, sizes fit. It takes time in proportion to the metadata (n log n in the
//! number of names) and looks at no weight. It needs a little memory for its index, and
//! [`Gguf::index_bytes`] tells how much from the header alone. What the *model* needs (keys, shapes) is
//! [`crate::model`]'s to check.

mod cursor;
mod error;
pub mod keys;
mod metadata;
mod tensor;
mod tensor_type;

pub use error::{Defect, GgufError};
pub use metadata::{Array, Entry, Value, ValueType};
pub use tensor::TensorInfo;

use crate::error::Error;
use crate::limits::{GGUF_ALIGNMENT_MAX, GGUF_ALIGNMENT_MIN, GGUF_KV_MAX, GGUF_TENSORS_MAX};
use crate::mem::{Carver, MemError};
use crate::quant::QuantType;
use cursor::Cursor;
use metadata::{MIN_ENTRY_BYTES, read_entry};
use tensor::{MIN_RECORD_BYTES, place, read_record};

/// Alignment of a file that does not say.
const DEFAULT_ALIGNMENT: u32 = 32;

/// A sound GGUF file.
#[derive(Clone, Copy, Debug)]
pub struct Gguf<'a> {
    version: u32,
    alignment: u32,
    data_offset: u64,
    entries: &'a [Entry<'a>],
    by_key: &'a [u32],
    tensors: &'a [TensorInfo<'a>],
    by_name: &'a [u32],
}

/// The memory that [`Gguf::parse`] fills.
struct Index<'a> {
    entries: &'a mut [Entry<'a>],
    by_key: &'a mut [u32],
    tensors: &'a mut [TensorInfo<'a>],
    by_name: &'a mut [u32],
}

impl<'a> Index<'a> {
    fn layout(c: &mut Carver<'a>, entries: usize, tensors: usize) -> Result<Self, MemError> {
        Ok(Index {
            entries: c.take(entries, Entry::EMPTY)?,
            by_key: c.take(entries, 0)?,
            tensors: c.take(tensors, TensorInfo::EMPTY)?,
            by_name: c.take(tensors, 0)?,
        })
    }
}

/// The order of the codes in I2_S tensors: nothing in a file says which it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum I2sLayout {
    /// Blocks of 128 weights: every published file.
    #[default]
    X86,
    /// Blocks of 64 weights: files that bitnet.cpp quantized on ARM since November 2025.
    Arm64,
}

struct Header<'a> {
    version: u32,
    entries: usize,
    tensors: usize,
    rest: Cursor<'a>,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, GgufError> {
        let mut c = Cursor::new(bytes);
        if c.bytes::<4>()? != *b"GGUF" {
            return Err(GgufError::new(Defect::Magic, 0));
        }
        let at = c;
        let version = match c.u32()? {
            got @ (2 | 3) => got,
            got if got & 0xffff == 0 && got != 0 => return Err(at.fail(Defect::ByteOrder)),
            got => return Err(at.fail(Defect::Version { got })),
        };
        let at_tensors = c;
        let tensors = c.u64()?;
        let at_entries = c;
        let entries = c.u64()?;
        if tensors > GGUF_TENSORS_MAX {
            return Err(at_tensors.fail(Defect::TensorCount { got: tensors }));
        }
        if entries > GGUF_KV_MAX {
            return Err(at_entries.fail(Defect::EntryCount { got: entries }));
        }
        // Both counts are small now, so neither the sum nor the conversions can overflow.
        let need = entries * MIN_ENTRY_BYTES + tensors * MIN_RECORD_BYTES;
        if need > c.left() as u64 {
            return Err(c.fail(Defect::Truncated { need, have: c.left() as u64 }));
        }
        Ok(Header { version, entries: entries as usize, tensors: tensors as usize, rest: c })
    }
}

impl<'a> Gguf<'a> {
    /// Bytes that [`Gguf::parse`] will take from its carver. Reads the header only, so a file with more to
    /// it than a header may still turn out to be unsound.
    pub fn index_bytes(bytes: &[u8]) -> Result<usize, GgufError> {
        let header = Header::read(bytes)?;
        let mut c = Carver::measure();
        Index::layout(&mut c, header.entries, header.tensors)
            .map(|_| c.used())
            .map_err(|_| header.rest.fail(Defect::SizeOverflow))
    }

    /// Checks the whole file and indexes it in memory from `index`.
    ///
    /// # Errors
    /// [`Error::Gguf`] with the first broken rule; [`Error::Mem`] if `index` has less than
    /// [`Gguf::index_bytes`] left or is only measuring.
    pub fn parse(bytes: &'a [u8], index: &mut Carver<'a>) -> Result<Gguf<'a>, Error> {
        Self::parse_with(bytes, I2sLayout::X86, index)
    }

    /// [`Gguf::parse`] for a file whose I2_S tensors are known to have another layout than the published ones.
    pub fn parse_with(bytes: &'a [u8], i2s: I2sLayout, index: &mut Carver<'a>) -> Result<Gguf<'a>, Error> {
        Self::parse_start(bytes, bytes.len() as u64, i2s, index)
    }

    /// [`Gguf::parse_with`] for a file of `length` bytes of which only the `start` is at hand. The same rules hold; if
    /// the start is not the whole file, every tensor's `data` is empty ([`TensorInfo::bytes`] tells its size).
    ///
    /// # Errors
    /// As [`Gguf::parse`]. Where [`Defect::is_short`], the metadata may go on after `start`.
    pub fn parse_start(
        start: &'a [u8],
        length: u64,
        i2s: I2sLayout,
        index: &mut Carver<'a>,
    ) -> Result<Gguf<'a>, Error> {
        let Header { version, entries, tensors, rest: mut c } = Header::read(start)?;
        let index_at = Index::layout(index, entries, tensors)?;
        if index.is_measuring() {
            return Err(MemError::Full { need: index.used(), have: 0 }.into());
        }
        let Index { entries, by_key, tensors, by_name } = index_at;

        for slot in entries.iter_mut() {
            *slot = read_entry(&mut c)?;
        }
        let entries: &'a [Entry<'a>] = entries;
        let twice = sort_names(by_key, |i| entries.get(i).map_or("", |e| e.key));
        if let Some(e) = twice.and_then(|i| entries.get(i)) {
            return Err(GgufError { defect: Defect::KeyDuplicate, offset: e.offset }.into());
        }
        let mut file = Gguf { version, alignment: 0, data_offset: 0, entries, by_key, tensors: &[], by_name: &[] };
        file.alignment = file.read_alignment()?;

        for slot in tensors.iter_mut() {
            *slot = read_record(&mut c)?;
            if slot.ty == QuantType::I2_S && i2s == I2sLayout::Arm64 {
                slot.ty = QuantType::I2_S_ARM; // as many bytes
            }
        }
        file.data_offset = (c.at() as u64).next_multiple_of(file.alignment.into());
        fill_order(by_name);
        place(start, length, tensors, by_name, file.data_offset, file.alignment)?;
        file.tensors = tensors;
        let twice = sort_names(by_name, |i| file.tensors.get(i).map_or("", |t| t.name));
        if let Some(t) = twice.and_then(|i| file.tensors.get(i)) {
            return Err(t.fail(Defect::NameDuplicate).into());
        }
        file.by_name = by_name;
        Ok(file)
    }

    fn read_alignment(&self) -> Result<u32, GgufError> {
        let Some(entry) = self.entry(keys::ALIGNMENT) else { return Ok(DEFAULT_ALIGNMENT) };
        let fail = |defect| Err(GgufError { defect, offset: entry.offset });
        match entry.value {
            Value::U32(a) if a.is_power_of_two() && (GGUF_ALIGNMENT_MIN..=GGUF_ALIGNMENT_MAX).contains(&a) => Ok(a),
            Value::U32(got) => fail(Defect::Alignment { got }),
            _ => fail(Defect::AlignmentType),
        }
    }

    /// Version of the format: 2 or 3 (they differ in nothing but the number).
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Every tensor starts at a multiple of this many bytes, counted from [`Gguf::data_offset`].
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// Byte of the file where the tensors' bytes may start.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// The metadata in the order of the file.
    pub fn entries(&self) -> &'a [Entry<'a>] {
        self.entries
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> &'a [TensorInfo<'a>] {
        self.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&'a TensorInfo<'a>> {
        let tensors = self.tensors;
        find(self.by_name, name, |i| tensors.get(i).map_or("", |t| t.name)).and_then(|i| tensors.get(i))
    }

    fn entry(&self, key: &str) -> Option<&'a Entry<'a>> {
        let entries = self.entries;
        find(self.by_key, key, |i| entries.get(i).map_or("", |e| e.key)).and_then(|i| entries.get(i))
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.entry(key).map(|e| e.value)
    }

    /// The value of `key` as `read` takes it; an error points at the entry.
    fn typed<T>(&self, key: &str, read: impl FnOnce(Value<'a>) -> Result<T, Defect>) -> Result<Option<T>, GgufError> {
        let Some(e) = self.entry(key) else { return Ok(None) };
        read(e.value).map(Some).map_err(|defect| GgufError { defect, offset: e.offset })
    }

    /// An integer of any type that fits.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.typed(key, integer)
    }

    /// An integer of any type that fits.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, integer)
    }

    /// A float; f64 is narrowed.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.typed(key, |v| v.float().ok_or(Defect::WrongType))
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, |v| if let Value::Bool(b) = v { Ok(b) } else { Err(Defect::WrongType) })
    }

    /// A string in UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&'a str>, GgufError> {
        self.typed(key, |v| match v {
            Value::Str(_) => v.text().ok_or(Defect::ValueUtf8),
            _ => Err(Defect::WrongType),
        })
    }

    /// An array.
    pub fn array(&self, key: &str) -> Result<Option<Array<'a>>, GgufError> {
        self.typed(key, |v| if let Value::Array(a) = v { Ok(a) } else { Err(Defect::WrongType) })
    }
}

fn integer<T: TryFrom<i128>>(value: Value<'_>) -> Result<T, Defect> {
    T::try_from(value.integer().ok_or(Defect::WrongType)?).map_err(|_| Defect::OutOfRange)
}

fn fill_order(order: &mut [u32]) {
    (0u32..).zip(order).for_each(|(i, slot)| *slot = i);
}

/// Sorts the numbers `0..order.len()` by name. Returns a number whose name an earlier one has.
fn sort_names<'n>(order: &mut [u32], name: impl Fn(usize) -> &'n str) -> Option<usize> {
    fill_order(order);
    order.sort_unstable_by(|&a, &b| name(a as usize).cmp(name(b as usize)).then(a.cmp(&b)));
    order.windows(2).find_map(|pair| match *pair {
        [a, b] if name(a as usize) == name(b as usize) => Some(b as usize),
        _ => None,
    })
}

/// Looks a name up in what [`sort_names`] made.
fn find<'n>(order: &[u32], wanted: &str, name: impl Fn(usize) -> &'n str) -> Option<usize> {
    let at = order.binary_search_by(|&i| name(i as usize).cmp(wanted)).ok()?;
    order.get(at).map(|&i| i as usize)
}
