//! Keys and values of the tokens read so far. A layer's keys lie head by head, position by position, so
//! that attention streams them; values likewise.
//!
//! Q4, Q3 and Q2 lose little because of three things, each measured on SmolLM2 (`tests/oracle/kv_quality.py`):
//! - The newest positions, and the first ones, are read as Q8: most attention goes to them, and to the first ones most of
//!   all (attention sinks).
//! - From packed keys the mean of the first positions' keys is taken away before they are packed. That changes all
//!   scores of a query by the same number, which is put back, so only the rest has to be coded: half the power.
//! - Rows are rotated ([`KvType::rotates`]).
//!
//! Every position is packed at once, and which copy a query reads depends on positions alone, so a batch gives the same
//! bits as single tokens, and a text the same whatever was read and forgotten on the way (`rewind.rs`).
//!
//! ```text
//!  position   0        64                          end - window      end
//!             | first  |                                |   window   |
//!   packed    | (q8)   |################################|############|   a row for each position from 64 on
//!   exact     |qqqqqqqq|                            |...|qqqqqqqqqqqq|   64 rows, then the ring: `window + SLACK` rows
//!                                                   slack
//!  A query at `end - 1` reads `q` and `#`, each position once: of the window `q`.
//! ```

pub(crate) mod format;
mod rewind;
mod shift;
mod state;

pub use state::KvPart;

use crate::error::Result;
use crate::kernels::{Kernels, KvRows};
use crate::limits::{self, HEAD_DIM_MAX};
use crate::mem::{Carver, MemError};
use format::RowFormat;

/// Positions at the start of a text that types with a window keep as Q8, and whose mean key is taken from all others.
const FIRST: usize = 64;
/// Rows of the ring beyond the window. A batch is stored so many tokens at a time before attention is computed for them.
const SLACK: usize = 16;
/// Positions that may be forgotten at the end, one by one or together, without reading anything again.
const FREE: usize = SLACK - PASS_MAX;
/// Tokens of a pass that may be forgotten at once, as guesses are, and nothing else is: see [`KvCache::retract`].
pub(crate) const PASS_MAX: usize = limits::GUESSES_MAX + 1;

/// How keys or values are stored; the layouts are in `format.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KvType {
    /// IEEE binary16.
    F16,
    /// int8 codes, a scale per row.
    Q8,
    /// 16 levels, a scale per row.
    Q4,
    /// 4 levels, a scale per row.
    Q2,
    /// 8 levels, a scale per row.
    Q3,
}

impl KvType {
    /// Every type.
    pub const ALL: [KvType; 5] = [KvType::F16, KvType::Q8, KvType::Q4, KvType::Q2, KvType::Q3];
    /// Number of types.
    pub const COUNT: usize = 5;

    /// Bytes of one head's row of `head_dim` values.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            KvType::F16 => format::F16::bytes(head_dim),
            KvType::Q8 => format::Q8::bytes(head_dim),
            KvType::Q4 => format::Q4::bytes(head_dim),
            KvType::Q2 => format::Q2::bytes(head_dim),
            KvType::Q3 => format::Q3::bytes(head_dim),
        }
    }

    /// The types of keys and of values where one name stands for both. An error in a key changes where attention goes,
    /// one in a value is averaged away: of what 2 bits cost, keys have nine tenths. So Q2 for both means keys with 3.
    pub fn of_both(self) -> (KvType, KvType) {
        (if self == KvType::Q2 { KvType::Q3 } else { self }, self)
    }

    /// Whether rows are rotated (Walsh-Hadamard) before they are stored, so that no value stands out.
    pub fn rotates(self) -> bool {
        self != KvType::F16
    }

    /// Newest positions that are read as [`KvType::EXACT`]. Where there are any, the first ones are too.
    pub fn window(self) -> usize {
        match self {
            KvType::F16 | KvType::Q8 => 0,
            KvType::Q4 => 32,
            KvType::Q2 | KvType::Q3 => 64,
        }
    }

    /// Positions at the start of a text that are read as [`KvType::EXACT`].
    pub fn first(self) -> usize {
        if self.window() == 0 { 0 } else { FIRST }
    }

    /// The type of the newest and the first positions.
    pub const EXACT: KvType = KvType::Q8;

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        ["f16", "q8", "q4", "q2", "q3"][self as usize]
    }
}

/// Sizes of a cache.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    /// Layers.
    pub layers: usize,
    /// Key-value heads of a layer.
    pub heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Positions.
    pub capacity: usize,
}

/// Keys, or values, of all layers.
struct Half<'s> {
    ty: KvType,
    packed: &'s mut [u8],
    /// For each head of each layer the rows of the first positions, then the ring of the newest.
    exact: &'s mut [u8],
    first: usize,
    ring: usize,
    /// Positions before this one are read from their packed copies although the window has them: 0, but after positions
    /// were taken out ([`KvCache::shift`]).
    exact_from: usize,
    /// Positions before this one are not in the ring, see [`Half::kept`].
    kept_from: usize,
    /// A copy of every head's ring, and what it was.
    marked: &'s mut [u8],
    mark: rewind::Mark,
    /// What is taken from each head's packed rows: keys only.
    offsets: &'s mut [f32],
}

impl<'s> Half<'s> {
    fn new(ty: KvType, is_keys: bool, shape: &KvShape, carver: &mut Carver<'s>) -> Result<Self> {
        let first = ty.first().min(shape.capacity);
        let ring = if ty.window() == 0 { 0 } else { (ty.window() + SLACK).min(shape.capacity - first) };
        let size = |each: usize| [shape.heads, each].iter().try_fold(shape.layers, |a, &b| a.checked_mul(b));
        let rows = |n: usize, ty: KvType| n.checked_mul(ty.row_bytes(shape.head_dim)).and_then(size);
        let packed = rows(shape.capacity, ty).ok_or(MemError::Overflow)?;
        let exact = rows(first + ring, KvType::EXACT).ok_or(MemError::Overflow)?;
        let marked = rows(ring, KvType::EXACT).ok_or(MemError::Overflow)?;
        let offsets = size(if is_keys && first > 0 { shape.head_dim } else { 0 }).ok_or(MemError::Overflow)?;
        Ok(Half {
            ty,
            packed: carver.take(packed, 0)?,
            exact: carver.take(exact, 0)?,
            first,
            ring,
            exact_from: 0,
            kept_from: 0,
            marked: carver.take(marked, 0)?,
            mark: rewind::Mark::default(),
            offsets: carver.take(offsets, 0.0)?,
        })
    }

    fn exact_range(&self, shape: &KvShape, index: usize) -> core::ops::Range<usize> {
        let bytes = (self.first + self.ring) * KvType::EXACT.row_bytes(shape.head_dim);
        index * bytes..(index + 1) * bytes
    }

    /// What is taken from the packed rows of head `index`; empty for nothing.
    fn offset(&self, shape: &KvShape, index: usize) -> &[f32] {
        if self.offsets.is_empty() { &[] } else { &self.offsets[index * shape.head_dim..][..shape.head_dim] }
    }

    fn rows(&self, shape: &KvShape, index: usize, range: core::ops::Range<usize>) -> KvRows<'_> {
        let row_bytes = self.ty.row_bytes(shape.head_dim);
        let packed = shape.capacity * row_bytes;
        let recent_from = match self.ring {
            0 => usize::MAX,
            _ => range.end.saturating_sub(self.ty.window()).max(self.exact_from).max(self.first),
        };
        KvRows {
            packed: &self.packed[index * packed..][..packed],
            row_bytes,
            exact: &self.exact[self.exact_range(shape, index)],
            first: self.first,
            ring: self.ring,
            recent_from,
            offset: if range.end > self.first { self.offset(shape, index) } else { &[] },
            range,
        }
    }

    fn store(&mut self, kernels: &Kernels, shape: &KvShape, index: usize, position: usize, values: &[f32]) {
        self.put(kernels, shape, index, position, self.ring > 0, values);
    }

    /// Writes the row of a position of head `index`: as Q8 among the first ones, else packed, and into the ring if wanted.
    fn put(
        &mut self,
        kernels: &Kernels,
        shape: &KvShape,
        index: usize,
        position: usize,
        in_ring: bool,
        values: &[f32],
    ) {
        let slot = if position < self.first {
            Some(position)
        } else {
            in_ring.then(|| self.first + (position - self.first) % self.ring)
        };
        if let Some(slot) = slot {
            let (range, bytes) = (self.exact_range(shape, index), KvType::EXACT.row_bytes(shape.head_dim));
            kernels.kv_store(KvType::EXACT, values, &mut self.exact[range][slot * bytes..][..bytes]);
        }
        if position < self.first {
            if position + 1 == FIRST {
                self.set_offset(shape, index);
            }
            return;
        }
        let mut rest = [0f32; HEAD_DIM_MAX];
        let mut values = values;
        if !self.offsets.is_empty() {
            let offset = self.offset(shape, index);
            for ((rest, v), o) in rest.iter_mut().zip(values).zip(offset) {
                *rest = v - o;
            }
            values = &rest[..values.len()];
        }
        let bytes = self.ty.row_bytes(shape.head_dim);
        kernels.kv_store(self.ty, values, &mut self.packed[(index * shape.capacity + position) * bytes..][..bytes]);
    }

    /// The mean of the first positions' rows, as stored, is what will be taken from the packed ones.
    fn set_offset(&mut self, shape: &KvShape, index: usize) {
        if self.offsets.is_empty() {
            return;
        }
        let (range, bytes) = (self.exact_range(shape, index), KvType::EXACT.row_bytes(shape.head_dim));
        let offset = &mut self.offsets[index * shape.head_dim..][..shape.head_dim];
        offset.fill(0.0);
        let mut row = [0f32; HEAD_DIM_MAX];
        for packed in self.exact[range][..FIRST * bytes].chunks_exact(bytes) {
            let d = format::Q8::load(packed, &mut row[..shape.head_dim]);
            for (o, code) in offset.iter_mut().zip(&row) {
                *o += d * code;
            }
        }
        offset.iter_mut().for_each(|o| *o /= FIRST as f32);
    }
}

/// The cache of one session.
pub struct KvCache<'s> {
    shape: KvShape,
    k: Half<'s>,
    v: Half<'s>,
}

impl<'s> KvCache<'s> {
    /// A cache without positions.
    pub fn new(k: KvType, v: KvType, shape: KvShape, carver: &mut Carver<'s>) -> Result<Self> {
        Ok(KvCache { shape, k: Half::new(k, true, &shape, carver)?, v: Half::new(v, false, &shape, carver)? })
    }

    /// Storage of keys and of values.
    pub fn types(&self) -> (KvType, KvType) {
        (self.k.ty, self.v.ty)
    }

    /// How many tokens may be stored before attention is computed from them.
    pub(crate) fn step(&self) -> usize {
        if self.k.ring + self.v.ring == 0 { limits::BATCH_MAX } else { SLACK }
    }

    /// Keys and values of one head at the positions of `range`, as attention reads them from the last of them.
    ///
    /// # Panics
    /// If layer or head do not exist: a bug of the caller.
    pub fn head(&self, layer: usize, head: usize, range: core::ops::Range<usize>) -> (KvRows<'_>, KvRows<'_>) {
        let index = layer * self.shape.heads + head;
        (self.k.rows(&self.shape, index, range.clone()), self.v.rows(&self.shape, index, range))
    }

    /// Writes one position of one layer: `heads * head_dim` keys and values, rotated where the type asks for it.
    ///
    /// # Panics
    /// If the position does not exist: a bug of the caller.
    pub fn store(&mut self, kernels: &Kernels, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        assert!(position < self.shape.capacity);
        let d = self.shape.head_dim;
        for (head, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
            let index = layer * self.shape.heads + head;
            self.k.store(kernels, &self.shape, index, position, key);
            self.v.store(kernels, &self.shape, index, position, value);
        }
    }
}
