//! Keys and values of the tokens read so far. A layer's keys lie head by head, position by position, so
//! that attention streams them; values likewise.

use crate::error::Result;
use crate::kernels::Kernels;
use crate::mem::Carver;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KvType {
    /// IEEE binary16.
    F16,
}

impl KvType {
    /// Every type.
    pub const ALL: &'static [KvType] = &[KvType::F16];
    /// Number of types.
    pub const COUNT: usize = Self::ALL.len();

    /// Bytes of one head's row of `head_dim` values.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            KvType::F16 => 2 * head_dim,
        }
    }
}

/// The cache of one session.
pub struct KvCache<'s> {
    kv_type: KvType,
    heads: usize,
    head_dim: usize,
    capacity: usize,
    k: &'s mut [u8],
    v: &'s mut [u8],
}

impl<'s> KvCache<'s> {
    /// Room for `capacity` positions in each of `layers` layers.
    pub fn new(
        kv_type: KvType,
        layers: usize,
        heads: usize,
        head_dim: usize,
        capacity: usize,
        carver: &mut Carver<'s>,
    ) -> Result<Self> {
        let overflow = crate::mem::MemError::Overflow;
        let bytes = [heads, capacity, kv_type.row_bytes(head_dim)]
            .iter()
            .try_fold(layers, |a, &b| a.checked_mul(b))
            .ok_or(overflow)?;
        Ok(KvCache { kv_type, heads, head_dim, capacity, k: carver.take(bytes, 0)?, v: carver.take(bytes, 0)? })
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Positions.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes from one position of a head to the next.
    pub fn row_bytes(&self) -> usize {
        self.kv_type.row_bytes(self.head_dim)
    }

    fn start(&self, layer: usize, head: usize) -> usize {
        (layer * self.heads + head) * self.capacity * self.row_bytes()
    }

    /// All positions of one head: keys and values.
    ///
    /// # Panics
    /// If layer or head do not exist: a bug of the caller.
    pub fn head(&self, layer: usize, head: usize) -> (&[u8], &[u8]) {
        let range = self.start(layer, head)..self.start(layer, head + 1);
        (&self.k[range.clone()], &self.v[range])
    }

    /// Writes one position of one layer: `heads * head_dim` keys (rotated) and values.
    ///
    /// # Panics
    /// If the position does not exist: a bug of the caller.
    pub fn store(&mut self, kernels: &Kernels, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        assert!(position < self.capacity);
        let bytes = self.row_bytes();
        let rows = keys.chunks_exact(self.head_dim).zip(values.chunks_exact(self.head_dim)).enumerate();
        for (head, (key, value)) in rows {
            let at = self.start(layer, head) + position * bytes;
            kernels.kv_store(self.kv_type, key, &mut self.k[at..at + bytes]);
            kernels.kv_store(self.kv_type, value, &mut self.v[at..at + bytes]);
        }
    }
}
