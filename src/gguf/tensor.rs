//! Tensor records, and where their bytes lie.
//!
//! ggml wants the tensors' bytes in the order of the records without a gap. trill accepts any order and
//! gaps between them, since other writers leave both; it refuses what could make two tensors share bytes
//! or read past the file.

use super::cursor::Cursor;
use super::tensor_type::{TYPE_42, Type42, by_id};
use super::{Defect, GgufError};
use crate::limits::{GGUF_DIMS_MAX, GGUF_NAME_BYTES_MAX};
use crate::quant::{Matrix, QuantType};

/// Bytes of the smallest record: a name of one byte and one dimension.
pub(super) const MIN_RECORD_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// One tensor. The number of weights and of bytes fit a usize, and `data` holds exactly the bytes of the
/// tensor's type and shape, or none if only the start of the file is at hand.
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo<'a> {
    /// 1 to 128 bytes, without NUL, unique in the file.
    pub name: &'a str,
    /// Sizes, each at least 1; `dims[0]` is the one whose elements are next to each other. Unused ones are 1.
    pub dims: [u64; 4],
    /// Dimensions in use, 1 to 4.
    pub n_dims: u32,
    /// What the weights are.
    pub ty: QuantType,
    /// The type's number in the file; 42 has several meanings, `ty` says which one was found.
    pub type_id: u32,
    /// Byte of the file where `data` starts.
    pub offset: u64,
    /// The tensor's bytes, the type's tail included.
    pub data: &'a [u8],
    rows: usize,
    cols: usize,
    /// Byte of the file where the record starts, for errors.
    record: usize,
}

impl<'a> TensorInfo<'a> {
    pub(super) const EMPTY: TensorInfo<'static> = TensorInfo {
        name: "",
        dims: [1; 4],
        n_dims: 1,
        ty: QuantType::F32,
        type_id: 0,
        offset: 0,
        data: &[],
        rows: 0,
        cols: 0,
        record: 0,
    };

    /// Product of all sizes but the first.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The first size.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of weights.
    pub fn elements(&self) -> usize {
        self.rows * self.cols // checked when the record was read
    }

    /// Bytes of the tensor in the file, the type's tail included.
    pub fn bytes(&self) -> usize {
        self.ty.tensor_bytes(self.rows, self.cols).unwrap_or(0) // checked when the tensor was placed
    }

    /// The tensor as a matrix of [`TensorInfo::rows`] outputs and [`TensorInfo::cols`] inputs.
    pub fn matrix(&self) -> Option<Matrix<'a>> {
        Matrix::new(self.ty, self.rows, self.cols, self.data)
    }

    /// An error at the tensor's record.
    pub(super) fn fail(&self, defect: Defect) -> GgufError {
        GgufError::new(defect, self.record)
    }
}

/// Reads one record. `offset` is still relative to the data section, `data` is empty, and the type of a
/// tensor of type 42 is not known yet.
pub(super) fn read_record<'a>(c: &mut Cursor<'a>) -> Result<TensorInfo<'a>, GgufError> {
    let start = *c;
    let name = c.string(|got| match got {
        0 => Err(Defect::NameEmpty),
        got if got > GGUF_NAME_BYTES_MAX => Err(Defect::NameLength { got }),
        _ => Ok(()),
    })?;
    if name.contains(&0) {
        return Err(start.fail(Defect::NameNul));
    }
    let name = core::str::from_utf8(name).map_err(|_| start.fail(Defect::NameUtf8))?;
    let (dims, n_dims) = read_dims(c)?;
    let (rows, cols) = shape(&dims).ok_or(start.fail(Defect::SizeOverflow))?;
    let typed = *c;
    let type_id = c.u32()?;
    let ty = if type_id == TYPE_42 { QuantType::F32 } else { by_id(type_id).map_err(|d| typed.fail(d))? };
    let block = ty.info().block;
    if type_id != TYPE_42 {
        if !cols.is_multiple_of(block) {
            return Err(start.fail(Defect::RowBlocks { block: block as u64, got: cols as u64 }));
        }
        ty.tensor_bytes(rows, cols).ok_or(start.fail(Defect::SizeOverflow))?;
    }
    let offset = c.u64()?;
    Ok(TensorInfo { name, dims, n_dims, ty, type_id, offset, data: &[], rows, cols, record: start.at() })
}

fn read_dims(c: &mut Cursor<'_>) -> Result<([u64; 4], u32), GgufError> {
    let start = *c;
    let n_dims = c.u32()?;
    if !(1..=GGUF_DIMS_MAX).contains(&n_dims) {
        return Err(start.fail(Defect::DimCount { got: n_dims }));
    }
    let mut dims = [1u64; 4];
    for (dim, size) in (0..n_dims).zip(&mut dims) {
        let at = *c;
        *size = c.u64()?;
        if *size == 0 {
            return Err(at.fail(Defect::DimZero { dim }));
        }
    }
    Ok((dims, n_dims))
}

/// Rows and columns, if they and their product fit a usize.
fn shape(dims: &[u64; 4]) -> Option<(usize, usize)> {
    let [first, rest @ ..] = dims;
    let cols = usize::try_from(*first).ok()?;
    let rows = rest.iter().try_fold(1usize, |rows, &d| rows.checked_mul(usize::try_from(d).ok()?))?;
    rows.checked_mul(cols).map(|_| (rows, cols))
}

/// Gives every tensor its place and, if `bytes` are the whole file of `length` bytes, its data. `order` is working
/// memory, one entry for each tensor.
pub(super) fn place<'a>(
    bytes: &'a [u8],
    length: u64,
    tensors: &mut [TensorInfo<'a>],
    order: &mut [u32],
    data_offset: u64,
    alignment: u32,
) -> Result<(), GgufError> {
    for t in tensors.iter_mut() {
        let got = t.offset;
        if !got.is_multiple_of(alignment.into()) {
            return Err(t.fail(Defect::OffsetAlignment { alignment, got }));
        }
        let beyond = Defect::TensorBounds { need: u64::MAX, have: length };
        t.offset = data_offset.checked_add(got).ok_or(t.fail(beyond))?;
    }
    let at = |tensors: &[TensorInfo<'_>], i: &u32| tensors.get(*i as usize).map_or(u64::MAX, |t| t.offset);
    order.sort_unstable_by_key(|i| (at(tensors, i), *i));
    resolve_42(length, tensors, order, alignment)?;
    let whole = bytes.len() as u64 == length;
    let mut previous_end = data_offset;
    for &i in order.iter() {
        let Some(t) = tensors.get_mut(i as usize) else { continue };
        if t.offset < previous_end {
            return Err(t.fail(Defect::TensorOverlap { expected: previous_end, got: t.offset }));
        }
        // `None` is only possible for a size beyond the address space, which no file can hold.
        let size = t.ty.tensor_bytes(t.rows, t.cols).map_or(u64::MAX, |n| n as u64);
        let need = t.offset.saturating_add(size);
        let beyond = t.fail(Defect::TensorBounds { need, have: length });
        if need > length {
            return Err(beyond);
        }
        if whole {
            let range = usize::try_from(t.offset).ok().zip(usize::try_from(need).ok());
            t.data = range.and_then(|(from, to)| bytes.get(from..to)).ok_or(beyond)?;
        }
        previous_end = need;
    }
    Ok(())
}

/// Finds the type of the tensors of type 42. `order`: by offset.
fn resolve_42(length: u64, tensors: &mut [TensorInfo<'_>], order: &[u32], alignment: u32) -> Result<(), GgufError> {
    let mut vote = Type42::new();
    let mut first = None;
    for (n, &i) in order.iter().enumerate() {
        let Some(t) = tensors.get(i as usize).filter(|t| t.type_id == TYPE_42) else { continue };
        let next = order.get(n + 1).and_then(|&i| tensors.get(i as usize));
        let end = next.map_or(length, |t| t.offset);
        let distance = usize::try_from(end.saturating_sub(t.offset)).unwrap_or(usize::MAX);
        vote.observe(t.rows, t.cols, distance, alignment as usize, next.is_none()).map_err(|d| t.fail(d))?;
        first.get_or_insert(*t);
    }
    let Some(first) = first else { return Ok(()) };
    let ty = vote.decide().map_err(|d| first.fail(d))?;
    tensors.iter_mut().filter(|t| t.type_id == TYPE_42).for_each(|t| t.ty = ty);
    Ok(())
}
