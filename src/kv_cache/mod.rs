//! Keys and values of the tokens read so far. A layer's keys lie head by head, position by position, so
//! that attention streams them; values likewise.
//!
//! Packed types keep the newest positions in f16 as well, in a ring: most attention goes to them. Every
//! position is packed at once, so which copy a query reads depends on positions alone, and a batch gives the same
//! bits as single tokens.

pub(crate) mod format;
mod shift;
mod state;

pub use state::KvPart;

use crate::error::Result;
use crate::kernels::{Kernels, KvRows};
use crate::mem::{Carver, MemError};
use format::RowFormat;

/// How keys or values are stored; the layouts are in `format.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KvType {
    /// IEEE binary16.
    F16,
    /// int8 codes, a scale per row.
    Q8,
    /// Rotated, 16 levels, a scale per row.
    Q4,
    /// Rotated, 4 levels, a scale per row.
    Q2,
}

impl KvType {
    /// Every type.
    pub const ALL: [KvType; 4] = [KvType::F16, KvType::Q8, KvType::Q4, KvType::Q2];
    /// Number of types.
    pub const COUNT: usize = 4;

    /// Bytes of one head's row of `head_dim` values.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            KvType::F16 => format::F16::bytes(head_dim),
            KvType::Q8 => format::Q8::bytes(head_dim),
            KvType::Q4 => format::Q4::bytes(head_dim),
            KvType::Q2 => format::Q2::bytes(head_dim),
        }
    }

    /// Whether rows are rotated (Walsh-Hadamard) before they are stored.
    pub fn rotates(self) -> bool {
        matches!(self, KvType::Q4 | KvType::Q2)
    }

    /// Newest positions that are read in f16.
    pub fn window(self) -> usize {
        match self {
            KvType::F16 | KvType::Q8 => 0,
            KvType::Q4 => 64,
            KvType::Q2 => 128,
        }
    }

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        ["f16", "q8", "q4", "q2"][self as usize]
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
    /// Tokens that are stored together, at most.
    pub batch: usize,
}

/// Keys, or values, of all layers.
struct Half<'s> {
    ty: KvType,
    packed: &'s mut [u8],
    recent: &'s mut [u8],
    ring: usize,
    /// Positions before this one are not in the ring.
    valid_from: usize,
}

impl<'s> Half<'s> {
    fn new(ty: KvType, shape: &KvShape, carver: &mut Carver<'s>) -> Result<Self> {
        // A query in a batch reaches `window` positions back from its own.
        let ring = if ty.window() == 0 { 0 } else { (ty.window() + shape.batch).min(shape.capacity) };
        let size = |rows: usize, ty: KvType| {
            [shape.heads, rows, ty.row_bytes(shape.head_dim)].iter().try_fold(shape.layers, |a, &b| a.checked_mul(b))
        };
        let packed = size(shape.capacity, ty).ok_or(MemError::Overflow)?;
        let recent = size(ring, KvType::F16).ok_or(MemError::Overflow)?;
        Ok(Half { ty, packed: carver.take(packed, 0)?, recent: carver.take(recent, 0)?, ring, valid_from: 0 })
    }

    fn rows(&self, shape: &KvShape, index: usize, range: core::ops::Range<usize>) -> KvRows<'_> {
        let row_bytes = self.ty.row_bytes(shape.head_dim);
        let (packed, recent) = (shape.capacity * row_bytes, self.ring * KvType::F16.row_bytes(shape.head_dim));
        let recent_from = match self.ring {
            0 => usize::MAX,
            _ => range.end.saturating_sub(self.ty.window()).max(self.valid_from),
        };
        KvRows {
            packed: &self.packed[index * packed..][..packed],
            row_bytes,
            recent: &self.recent[index * recent..][..recent],
            ring: self.ring,
            recent_from,
            range,
        }
    }

    fn store(&mut self, kernels: &Kernels, shape: &KvShape, index: usize, position: usize, values: &[f32]) {
        let bytes = self.ty.row_bytes(shape.head_dim);
        kernels.kv_store(self.ty, values, &mut self.packed[(index * shape.capacity + position) * bytes..][..bytes]);
        if self.ring != 0 {
            let bytes = KvType::F16.row_bytes(shape.head_dim);
            let row = &mut self.recent[(index * self.ring + position % self.ring) * bytes..][..bytes];
            kernels.kv_store(KvType::F16, values, row);
        }
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
        Ok(KvCache { shape, k: Half::new(k, &shape, carver)?, v: Half::new(v, &shape, carver)? })
    }

    /// Storage of keys and of values.
    pub fn types(&self) -> (KvType, KvType) {
        (self.k.ty, self.v.ty)
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

    /// Positions from `len` on are forgotten; `end` were there. Positions before `len` whose place in the ring was
    /// taken by forgotten ones are read from their packed copies from now on.
    pub fn truncate(&mut self, len: usize, end: usize) {
        if len < end {
            for half in [&mut self.k, &mut self.v] {
                half.valid_from = half.valid_from.max(end.saturating_sub(half.ring)).min(len);
            }
        }
    }
}
