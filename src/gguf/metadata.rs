//! Key-value pairs: reading, checking and looking up.

use super::cursor::Cursor;
use super::{Defect, GgufError};
use crate::limits::{GGUF_KEY_BYTES_MAX, GGUF_STRING_BYTES_MAX};

/// Bytes of the smallest pair: a key of one byte and a value of one byte.
pub(super) const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;

/// One key-value pair.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// 1 to 256 bytes, without NUL, unique in the file.
    pub key: &'a str,
    /// The value.
    pub value: Value<'a>,
    /// Byte of the file where the pair starts.
    pub offset: u64,
}

impl Entry<'_> {
    pub(super) const EMPTY: Entry<'static> = Entry { key: "", value: Value::U8(0), offset: 0 };
}

/// Type of a value or of an array's elements, numbered as in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    const BY_ID: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::Str,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    fn from_id(id: u32) -> Option<Self> {
        Self::BY_ID.get(usize::try_from(id).ok()?).copied()
    }

    fn is_integer(self) -> bool {
        !matches!(self, ValueType::F32 | ValueType::F64 | ValueType::Bool | ValueType::Str | ValueType::Array)
    }

    /// Bytes of a scalar; of a string, the bytes of its length, the least it can take.
    fn bytes(self) -> usize {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::Str | ValueType::Array | ValueType::U64 | ValueType::I64 | ValueType::F64 => 8,
        }
    }
}

/// A value.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Bytes: see [`Value::text`]. The specification says UTF-8; not every file keeps to it.
    Str(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Its type.
    pub fn ty(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// A string's text, if the value is a string in UTF-8.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Value::Str(bytes) => core::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Any integer, widened.
    pub(super) fn integer(self) -> Option<i128> {
        Some(match self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::Str(_) | Value::Array(_) => return None,
        })
    }

    /// A float, narrowed.
    pub(super) fn float(self) -> Option<f32> {
        match self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    fn read(c: &mut Cursor<'a>, ty: ValueType) -> Result<Value<'a>, GgufError> {
        Ok(match ty {
            ValueType::U8 => Value::U8(c.u8()?),
            ValueType::I8 => Value::I8(i8::from_le_bytes(c.bytes()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(c.bytes()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(c.bytes()?)),
            ValueType::U32 => Value::U32(c.u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(c.bytes()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(c.bytes()?)),
            ValueType::Bool => Value::Bool(read_bool(c)?),
            ValueType::Str => Value::Str(read_string(c)?),
            ValueType::Array => Value::Array(Array::read(c)?),
            ValueType::U64 => Value::U64(c.u64()?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(c.bytes()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(c.bytes()?)),
        })
    }
}

fn read_bool(c: &mut Cursor<'_>) -> Result<bool, GgufError> {
    let start = *c;
    match c.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        got => Err(start.fail(Defect::Bool { got })),
    }
}

fn read_string<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8], GgufError> {
    c.string(|got| if got > GGUF_STRING_BYTES_MAX { Err(Defect::StringLength { got }) } else { Ok(()) })
}

/// A one-dimensional array. Its bytes were walked once by [`super::Gguf::parse`], so that the iterators
/// need no errors.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    ty: ValueType,
    len: usize,
    data: &'a [u8],
}

impl<'a> Array<'a> {
    fn read(c: &mut Cursor<'a>) -> Result<Self, GgufError> {
        let start = *c;
        let id = c.u32()?;
        let ty = ValueType::from_id(id).ok_or(start.fail(Defect::ElementType { got: id }))?;
        if ty == ValueType::Array {
            return Err(start.fail(Defect::NestedArray));
        }
        let counted = *c;
        let got = c.u64()?;
        let too_long = counted.fail(Defect::ArrayLength { got, have: c.left() as u64 });
        let len = usize::try_from(got).map_err(|_| too_long)?;
        let least = len.checked_mul(ty.bytes()).filter(|&b| b <= c.left()).ok_or(too_long)?;
        let first = *c;
        match ty {
            ValueType::Str => (0..len).try_for_each(|_| read_string(c).map(|_| ()))?,
            ValueType::Bool => (0..len).try_for_each(|_| read_bool(c).map(|_| ()))?,
            _ => c.take(least as u64).map(|_| ())?,
        }
        let data = { first }.take((c.at() - first.at()) as u64)?;
        Ok(Array { ty, len, data })
    }

    /// Type of the elements.
    pub fn ty(&self) -> ValueType {
        self.ty
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as the file has them, for writing them again.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The elements, if they are strings.
    pub fn strings(&self) -> Option<impl Iterator<Item = &'a [u8]> + Clone + use<'a>> {
        let mut c = Cursor::new(self.data);
        (self.ty == ValueType::Str).then(|| core::iter::from_fn(move || read_string(&mut c).ok()))
    }

    /// The elements, if they are integers of any type and every one fits a u32.
    pub fn u32s(&self) -> Option<impl Iterator<Item = u32> + Clone + use<'a>> {
        self.integers()
    }

    /// The elements, if they are integers of any type and every one fits an i32.
    pub fn i32s(&self) -> Option<impl Iterator<Item = i32> + Clone + use<'a>> {
        self.integers()
    }

    /// The elements, if they are floats. f64 is narrowed.
    pub fn f32s(&self) -> Option<impl Iterator<Item = f32> + Clone + use<'a>> {
        let floats = matches!(self.ty, ValueType::F32 | ValueType::F64);
        floats.then(|| self.values().filter_map(Value::float))
    }

    fn integers<T: TryFrom<i128>>(&self) -> Option<impl Iterator<Item = T> + Clone + use<'a, T>> {
        let fits = |v: Value<'_>| v.integer().is_some_and(|v| T::try_from(v).is_ok());
        let all_fit = self.ty.is_integer() && self.values().all(fits);
        all_fit.then(|| self.values().filter_map(|v| T::try_from(v.integer()?).ok()))
    }

    fn values(&self) -> impl Iterator<Item = Value<'a>> + Clone + use<'a> {
        let (mut c, ty) = (Cursor::new(self.data), self.ty);
        core::iter::from_fn(move || if c.left() == 0 { None } else { Value::read(&mut c, ty).ok() })
    }
}

/// Reads one pair.
pub(super) fn read_entry<'a>(c: &mut Cursor<'a>) -> Result<Entry<'a>, GgufError> {
    let start = *c;
    let key = c.string(|got| match got {
        0 => Err(Defect::KeyEmpty),
        got if got > GGUF_KEY_BYTES_MAX => Err(Defect::KeyLength { got }),
        _ => Ok(()),
    })?;
    if key.contains(&0) {
        return Err(start.fail(Defect::KeyNul));
    }
    let key = core::str::from_utf8(key).map_err(|_| start.fail(Defect::KeyUtf8))?;
    let typed = *c;
    let id = c.u32()?;
    let ty = ValueType::from_id(id).ok_or(typed.fail(Defect::ValueType { got: id }))?;
    Ok(Entry { key, value: Value::read(c, ty)?, offset: start.at() as u64 })
}
