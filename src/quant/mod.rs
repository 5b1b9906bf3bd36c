//! Weight types. One file per type: block layout, scalar decode, encode and dot product. That scalar code
//! *is* the definition; every kernel level is compared with it bit for bit.
//!
//! To add a type: one file `src/quant/x.rs` with a `pub(super) const INFO: TypeInfo` (layout and the equation
//! of `dot` at its top; `block.rs` has what types share), and one line in `registry!` below. The scalar
//! level then runs it, and the tests that walk [`QuantType::ALL`] test it; `tests/golden/make_quant_golden.py`
//! gets a line if another implementation exists to compare with. Only then write vector kernels.

mod act;
mod block;
mod interleaved;
mod k_block;
mod k_fit;
mod trits;

pub use s2::{encode_s2, s2_residual, s2_step};
pub use t2::encode_t2;
pub use t3::encode_t3;
pub use t3c::t3c_weight;

pub use act::{ActKind, ActRow, Acts, sign_stochastic};
pub use b1_64::share_tile_scales;

macro_rules! registry {
    ($($(#[$doc:meta])* $name:ident = $module:ident),* $(,)?) => {
        $(mod $module;)*

        /// A weight type that trill can compute with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(non_camel_case_types)]
        pub enum QuantType { $($(#[$doc])* $name),* }

        impl QuantType {
            /// Every type.
            pub const ALL: &'static [QuantType] = &[$(QuantType::$name),*];
            /// Number of types.
            pub const COUNT: usize = Self::ALL.len();
        }

        /// The facts of each type, indexed by [`QuantType`].
        pub static TYPES: [TypeInfo; QuantType::COUNT] = [$($module::INFO),*];
    };
}

registry! {
    /// IEEE binary32.
    F32 = f32,
    /// IEEE binary16.
    F16 = f16,
    /// bfloat16.
    BF16 = bf16,
    /// 4 bits, a scale per 32.
    Q4_0 = q4_0,
    /// 4 bits, a scale and a minimum per 32.
    Q4_1 = q4_1,
    /// 5 bits, a scale per 32.
    Q5_0 = q5_0,
    /// 5 bits, a scale and a minimum per 32.
    Q5_1 = q5_1,
    /// 8 bits, a scale per 32.
    Q8_0 = q8_0,
    /// BitNet's ternary type: 2 bits, one f32 scale per tensor.
    I2_S = i2_s,
    /// I2_S as bitnet.cpp writes it on ARM since November 2025. Files do not tell: only on request.
    I2_S_ARM = i2_s_arm,
    /// Ternary, base 3, a scale per 256.
    TQ1_0 = tq1_0,
    /// Ternary in 2 bits, a scale per 256.
    TQ2_0 = tq2_0,
    /// Signs, a scale per 128.
    Q1_0 = q1_0,
    /// Ternary (and +2) in 2 bits, a scale per 64.
    Q2_0 = q2_0,
    /// PrismML's Q2_0 (PQ2_0): a scale per 128.
    Q2_0_G128 = q2_0_g128,
    /// PrismML's ternary type in base 3, a scale per 128.
    PTQ1_0 = ptq1_0,
    /// Tencent's 3:4 sparse ternary type, a scale per 256.
    STQ1_0 = stq1_0,
    /// 2 bits, 4-bit scales and minima per 16 under a scale and a minimum per 256.
    Q2_K = q2_k,
    /// 3 bits, 6-bit scales per 16 under a scale per 256.
    Q3_K = q3_k,
    /// 4 bits, 6-bit scales and minima per 32 under a scale and a minimum per 256.
    Q4_K = q4_k,
    /// 5 bits, 6-bit scales and minima per 32 under a scale and a minimum per 256.
    Q5_K = q5_k,
    /// 6 bits, 8-bit scales per 16 under a scale per 256.
    Q6_K = q6_k,
    /// BitNet b1.0 (our own): signs, one scale per row, times the signs of the activation.
    B1 = b1,
    /// [`QuantType::B1`] with scales of 64 x 64 tiles.
    B1_64 = b1_64,
    /// trill's own: ternary, four rows to a byte.
    T2 = t2,
    /// trill's own: ternary, five rows to a byte.
    T3 = t3,
    /// trill's own: T3 with rows that stand alone, for matrices of which single rows are skipped.
    T3R = t3r,
    /// trill's own: T3 column by column, for matrices of which single columns are skipped.
    T3C = t3c,
    /// trill's own: sketch of an output head, four rows to a byte.
    S2 = s2,
    /// trill's own: 8 bits, one scale per row.
    Q8R = q8r,
    /// trill's own: [`QuantType::Q1_0`] with 32 rows interleaved.
    Q1_0_R32 = q1_0_r32,
    /// trill's own: [`QuantType::Q2_0`] with 16 rows interleaved.
    Q2_0_R16 = q2_0_r16,
    /// trill's own: [`QuantType::Q2_0_G128`] with 16 rows interleaved.
    Q2_0_G128_R16 = q2_0_g128_r16,
    /// trill's own: [`QuantType::TQ2_0`] with 16 rows interleaved.
    TQ2_0_R16 = tq2_0_r16,
}

/// What trill knows of a weight type.
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    /// The type's name in ggml and in `general.file_type` (upper case).
    pub name: &'static str,
    /// Its number in a GGUF tensor record; `None` for a reading of a number that a file cannot ask for.
    /// Number 42 has other readings in the wild than [`QuantType::Q2_0`]: a loader tells by the tensors' sizes.
    pub ggml_id: Option<u32>,
    /// Weights in a block.
    pub block: usize,
    /// Bytes in a block; T3R rounds whole rows up, see [`QuantType::row_bytes`].
    pub bytes: usize,
    /// Bytes after the last block of a row (B1 keeps the row's scale there). Where this is not 0, the functions
    /// below take exactly one row, with its tail.
    pub row_tail: usize,
    /// Rows that share their bytes with the first of a group: a group of `1 + more_lanes.len()` rows lies in one
    /// run of [`QuantType::row_bytes`]. Empty for types whose rows are their own.
    pub more_lanes: &'static [Lane],
    /// Bytes after the last row of a tensor (I2_S keeps its scale there).
    pub tail: usize,
    /// The form its dot product wants the activation in.
    pub act: ActKind,
    /// Values of whole blocks: `data.len() / bytes * block` values. For a type with a tensor scale, before
    /// that scale. Lengths that do not match are cut to the shorter.
    pub decode: fn(data: &[u8], out: &mut [f32]),
    /// Quantizes whole blocks exactly as ggml's reference does; `None` for types trill only reads. For a type
    /// with a tail, the codes only: the scale is `max |w|` over the tensor, see [`QuantType::write_tail`]. For a type
    /// with lanes, the rows of one group one after the other; the last group of a tensor may have fewer.
    pub encode: Option<fn(values: &[f32], out: &mut [u8])>,
    /// Dot product of one row (whole blocks) with one token's activation, in the canonical float order of
    /// [`crate::numeric`], before the tensor scale.
    pub dot: fn(row: &[u8], act: ActRow<'_>) -> f32,
    /// Counts what is odd in whole blocks: any rows of a tensor, so that a loader can sample.
    pub check: fn(data: &[u8]) -> BlockHealth,
}

/// How one row of a group is read; the first row's functions stand in [`TypeInfo`] itself.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// See [`TypeInfo::decode`].
    pub decode: fn(data: &[u8], out: &mut [f32]),
    /// See [`TypeInfo::dot`].
    pub dot: fn(group: &[u8], act: ActRow<'_>) -> f32,
}

/// A type with many rows to a group, whose columns lie one after the other: how one row of such a group is read. The
/// arguments are the group, the row within it, and what a [`Lane`]'s functions take.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    rows: usize,
    decode: fn(panel: &[u8], row: usize, out: &mut [f32]),
    dot: fn(panel: &[u8], row: usize, act: ActRow<'_>) -> f32,
}

/// What [`TypeInfo::check`] found. For types without blocks, a block is one value and its own scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockHealth {
    /// Blocks looked at.
    pub blocks: usize,
    /// Blocks with a scale or minimum that is infinite or NaN. A sound model has none.
    pub not_finite: usize,
    /// Blocks with scale 0. Some are normal (rows of zeros), all of them are not.
    pub zero: usize,
    /// Codes that no writer of the type produces. A sound model has none.
    pub invalid_codes: usize,
}

impl core::ops::AddAssign for BlockHealth {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.not_finite += other.not_finite;
        self.zero += other.zero;
        self.invalid_codes += other.invalid_codes;
    }
}

impl QuantType {
    /// The type's facts.
    pub fn info(self) -> &'static TypeInfo {
        &TYPES[self as usize]
    }

    /// The type with this number in a GGUF tensor record.
    pub fn from_ggml(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.info().ggml_id == Some(id))
    }

    /// Writes a tensor scale where [`Matrix::new`] finds it; nothing for types without a tail.
    pub fn write_tail(self, scale: f32, tail: &mut [u8]) {
        if self.info().tail != 0 {
            tail.as_chunks_mut::<4>().0.fill(scale.to_le_bytes());
        }
    }

    /// How its columns lie together, for a type where they do.
    pub fn panel(self) -> Option<&'static Panel> {
        match self {
            QuantType::T3C => Some(&t3c::PANEL),
            QuantType::Q1_0_R32 => Some(&q1_0_r32::PANEL),
            QuantType::Q2_0_R16 => Some(&q2_0_r16::PANEL),
            QuantType::Q2_0_G128_R16 => Some(&q2_0_g128_r16::PANEL),
            QuantType::TQ2_0_R16 => Some(&tq2_0_r16::PANEL),
            _ => None,
        }
    }

    /// Rows in a group: see [`TypeInfo::more_lanes`] and [`QuantType::panel`].
    pub fn lanes(self) -> usize {
        self.panel().map_or(1 + self.info().more_lanes.len(), |p| p.rows)
    }

    /// Row `row` (of a matrix, or of a group) in the bytes of its group: [`TypeInfo::decode`] for any row.
    pub fn decode_lane(self, row: usize, group: &[u8], out: &mut [f32]) {
        let (t, row) = (self.info(), row % self.lanes());
        match (self.panel(), row) {
            (Some(panel), _) => (panel.decode)(group, row, out),
            (None, 0) => (t.decode)(group, out),
            (None, i) => (t.more_lanes[i - 1].decode)(group, out),
        }
    }

    /// The same for [`TypeInfo::dot`].
    pub fn dot_lane(self, row: usize, group: &[u8], act: ActRow<'_>) -> f32 {
        let (t, row) = (self.info(), row % self.lanes());
        match (self.panel(), row) {
            (Some(panel), _) => (panel.dot)(group, row, act),
            (None, 0) => (t.dot)(group, act),
            (None, i) => (t.more_lanes[i - 1].dot)(group, act),
        }
    }

    /// Bytes of a row (of a group of rows, for a type with lanes) of `cols` weights, its tail included; `None` if it
    /// is not a whole number of blocks or overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let t = self.info();
        if !cols.is_multiple_of(t.block) {
            return None;
        }
        if self == QuantType::T3R {
            return Some(t3r::row_bytes(cols));
        }
        (cols / t.block).checked_mul(t.bytes)?.checked_add(t.row_tail)
    }

    /// Bytes of a tensor of `rows` x `cols` weights, tail included.
    pub fn tensor_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        self.row_bytes(cols)?.checked_mul(rows.div_ceil(self.lanes()))?.checked_add(self.info().tail)
    }
}

/// A weight matrix in memory: `rows` outputs, `cols` inputs, row after row.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    ty: QuantType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: &'a [u8],
    scale: f32,
}

impl<'a> Matrix<'a> {
    /// No rows, no columns.
    pub const EMPTY: Matrix<'static> =
        Matrix { ty: QuantType::F32, rows: 0, cols: 0, row_bytes: 0, data: &[], scale: 1.0 };

    /// A view of `data`, which holds the rows and then the type's tail; `None` if the length does not fit.
    /// A tensor scale is taken from the tail.
    pub fn new(ty: QuantType, rows: usize, cols: usize, data: &'a [u8]) -> Option<Self> {
        let (matrix, tail) = Self::split(ty, rows, cols, data)?;
        let scale = tail.first_chunk::<4>().map_or(1.0, |b| f32::from_le_bytes(*b));
        Some(Matrix { scale, ..matrix })
    }

    /// The shape of a matrix, for a layout that is only measured: it has no bytes, and the scale is 1. Spans of it are
    /// empty. `None` if its bytes would not fit a usize.
    pub fn unread(ty: QuantType, rows: usize, cols: usize) -> Option<Self> {
        ty.tensor_bytes(rows, cols)?;
        Some(Matrix { ty, rows, cols, row_bytes: ty.row_bytes(cols)?, data: &[], scale: 1.0 })
    }

    /// The matrix with scale 1, and its tail.
    fn split(ty: QuantType, rows: usize, cols: usize, data: &'a [u8]) -> Option<(Self, &'a [u8])> {
        if ty.tensor_bytes(rows, cols)? != data.len() {
            return None;
        }
        let row_bytes = ty.row_bytes(cols)?;
        let (data, tail) = data.split_at_checked(rows.div_ceil(ty.lanes()).checked_mul(row_bytes)?)?;
        Some((Matrix { ty, rows, cols, row_bytes, data, scale: 1.0 }, tail))
    }

    /// The weight type.
    pub fn ty(&self) -> QuantType {
        self.ty
    }
    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// The tensor scale (1 for types without one).
    pub fn scale(&self) -> f32 {
        self.scale
    }
    /// How many bytes the codes of all rows have, also where they are not at hand.
    pub fn bytes(&self) -> usize {
        self.rows.div_ceil(self.ty.lanes()) * self.row_bytes // checked when the matrix was made
    }
    /// Bytes of the codes, all rows.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// What is odd in every `step`-th row (1: all), and in the tensor scale if there is one: it counts as one
    /// more block.
    pub fn health(&self, step: usize) -> BlockHealth {
        let t = self.ty.info();
        let mut health = BlockHealth::default();
        if t.tail != 0 {
            health.blocks = 1;
            health.not_finite = usize::from(!self.scale.is_finite());
            health.zero = usize::from(self.scale == 0.0);
        }
        let lanes = self.ty.lanes();
        for group in (0..self.rows.div_ceil(lanes)).step_by(step.max(1)) {
            health += (t.check)(self.span(group * lanes..self.rows.min((group + 1) * lanes)).data);
        }
        health
    }

    /// Rows `range`, as the kernels take them. Rows out of range, or a start inside a group, give an empty view.
    pub fn span(&self, range: core::ops::Range<usize>) -> RowSpan<'a> {
        let lanes = self.ty.lanes();
        let empty = RowSpan { data: &[], rows: 0, cols: self.cols, row_bytes: self.row_bytes, scale: self.scale };
        if !range.start.is_multiple_of(lanes) || range.end > self.rows {
            return empty;
        }
        let bytes = range.start / lanes * self.row_bytes..range.end.div_ceil(lanes) * self.row_bytes;
        self.data.get(bytes).map_or(empty, |data| RowSpan { data, rows: range.len(), ..empty })
    }

    /// Values of row `row`, tensor scale applied, into `out` (`cols` values). Nothing if out of range.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let first = row - row % self.ty.lanes();
        let span = self.span(first..row.saturating_add(1));
        if span.rows == 0 {
            return;
        }
        self.ty.decode_lane(row, span.data, out);
        if self.ty.info().tail != 0 {
            out.iter_mut().for_each(|v| *v *= self.scale);
        }
    }
}

/// Some rows of a [`Matrix`], from the start of a group on: `data.len() == rows.div_ceil(lanes) * row_bytes`, and a
/// row is whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct RowSpan<'a> {
    /// The rows' bytes.
    pub data: &'a [u8],
    /// Number of rows.
    pub rows: usize,
    /// Weights in a row.
    pub cols: usize,
    /// Bytes of a row.
    pub row_bytes: usize,
    /// Tensor scale: every result is multiplied by it last.
    pub scale: f32,
}

impl RowSpan<'_> {
    /// True when a row has weights and the bytes are as many as rows of `ty` take.
    pub fn is_sound(&self, ty: QuantType) -> bool {
        let len = self.rows.div_ceil(ty.lanes()).checked_mul(self.row_bytes);
        self.cols > 0 && ty.row_bytes(self.cols) == Some(self.row_bytes) && len == Some(self.data.len())
    }
}
