//! Keys and values of the tokens read so far.

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
