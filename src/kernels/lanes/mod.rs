//! Dot products with one lane per weight row.
//!
//! Rows are taken [`Lanes::N`] at a time. A dword (4 bytes) of each row is loaded into one vector, lane `r`
//! from row `r`, so that everything a type does to its bytes (split nibbles, place high bits, widen scales) is
//! plain lane-wise arithmetic, and the f32 sum of a row lives in one lane in the canonical order, with no
//! sum across lanes. A *code vector* holds codes of 4 consecutive columns in each lane; the activation of these
//! columns is one dword, broadcast.
//!
//! [`Unpack`] is a weight type, [`Lanes`] an instruction set; [`rows`] joins them. One token consumes code
//! vectors as they are made; more tokens share a panel of them, see [`gemm`]. How integers become floats is a
//! [`Style`], which types share.
//! Everything is `#[inline(always)]` into one function that enables the instructions.
#![allow(non_camel_case_types)] // the types are called what ggml calls them
#![allow(clippy::needless_range_loop)] // registers are walked by index; closures over them are not always inlined

/// Writes `$body` once for each value of `$i`: what depends on `$i` is a constant, so arrays stay in registers.
macro_rules! unroll {
    ($i:ident in $($n:literal)* => $body:expr) => {{ $({ let $i: usize = $n; $body; })* }};
}

pub(super) mod apart;
mod block32;
mod bytes;
pub(super) mod gemm;
pub(super) mod interleaved;
mod k;
pub(super) mod packed;
mod style;
mod ternary;

use super::scalar::reference;
use crate::mem::TileMut;
use crate::quant::{ActKind, Acts, QuantType, RowSpan};
use core::marker::PhantomData;

/// Calls `$with!` with the arguments and every type that has an [`Unpack`].
macro_rules! lane_types {
    ($with:ident; $($args:tt)*) => {
        $with! {
            $($args)*; Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 I2_S I2_S_ARM TQ1_0 TQ2_0 Q1_0 Q2_0 Q2_0_G128 PTQ1_0 STQ1_0
            Q2_K Q3_K Q4_K Q5_K Q6_K Q8R B1 B1_64
        }
    };
}
pub(super) use block32::{Q1_0, Q2_0, Q2_0_G128, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(super) use bytes::{B1, B1_64, Q8R};
pub(super) use k::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
pub(super) use lane_types;
pub(super) use style::Style;
pub(super) use ternary::{I2_S, I2_S_ARM, PTQ1_0, STQ1_0, TQ1_0, TQ2_0};

/// Vectors of 32-bit lanes. A value of the type is the proof that the CPU has its instructions.
pub(super) trait Lanes: Copy + 'static {
    /// Lanes of a vector.
    const N: usize;
    /// Vectors that [`Lanes::columns`] makes, at most 4.
    const COLUMN_VECTORS: usize;
    /// Whether [`Lanes::dot`] takes any unsigned byte as a code, whatever [`Dot`] says.
    const WIDE: bool;
    /// What [`Lanes::signed`] adds to every code.
    const BIAS: i32;
    /// `N` lanes of 32 bits: integers, 4 bytes each, or floats.
    type V: Copy;

    /// The same value in every lane.
    fn splat(self, v: u32) -> Self::V;
    fn and(self, a: Self::V, b: Self::V) -> Self::V;
    fn or(self, a: Self::V, b: Self::V) -> Self::V;
    fn xor(self, a: Self::V, b: Self::V) -> Self::V;
    /// Lanes shifted right by `n < 32`, zeros come in.
    fn shr(self, a: Self::V, n: u32) -> Self::V;
    /// Lanes shifted left by `n < 32`.
    fn shl(self, a: Self::V, n: u32) -> Self::V;
    /// Lanes shifted right by `n < 32`, the sign comes in.
    fn sra(self, a: Self::V, n: u32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// The low 32 bits of products.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `acc` plus both products of pairs of i16.
    fn madd(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    fn fadd(self, a: Self::V, b: Self::V) -> Self::V;
    fn fsub(self, a: Self::V, b: Self::V) -> Self::V;
    fn fmul(self, a: Self::V, b: Self::V) -> Self::V;
    fn fdiv(self, a: Self::V, b: Self::V) -> Self::V;
    /// i32 to f32.
    fn float(self, a: Self::V) -> Self::V;
    /// The low halves of the lanes, binary16, to f32.
    fn half(self, a: Self::V) -> Self::V;
    /// Bits `4 c .. 4 c + 4` of a lane to the lane's four bytes, each at bit `place`.
    fn bits(self, a: Self::V, c: usize, place: u32) -> Self::V;
    /// The four 2-bit fields of byte `c` of a lane, lowest first, to the lane's bytes.
    fn crumbs(self, a: Self::V, c: usize) -> Self::V;
    /// Four lanes shifted right by `2 * field`, the next four by two more, and so on.
    fn fields(self, a: Self::V, field: usize) -> Self::V;
    /// Bytes times 3, modulo 256.
    fn triple(self, a: Self::V) -> Self::V;
    /// Bytes to `3 * byte / 256`, so 0, 1 or 2.
    fn thirds(self, a: Self::V) -> Self::V;
    /// Bytes below 32 to entries of `table`.
    fn lookup(self, a: Self::V, table: &[u8; 32]) -> Self::V;
    /// Signed codes in the form that [`Lanes::dot`] wants.
    fn signed(self, codes: Self::V) -> Self::V;

    /// Adds to `part` the products of 4 codes a lane with 4 activations a lane.
    fn dot(self, part: Self::V, codes: Self::V, act: Self::V, how: Dot) -> Self::V;
    /// The i32 sums of partial sums made by [`Lanes::dot`].
    fn close(self, part: Self::V, how: Dot) -> Self::V;

    /// Lane `index[i]` of `v` in lane `i`.
    fn pick(self, v: Self::V, index: Self::V) -> Self::V;
    /// The sum of all lanes.
    fn sum(self, v: Self::V) -> i32;

    /// # Safety
    /// `p` holds 4 bytes.
    unsafe fn broadcast(self, p: *const u8) -> Self::V;
    /// A dword of every row.
    /// # Safety
    /// Every row holds 4 bytes.
    unsafe fn load(self, at: Rows) -> Self::V;
    /// Four consecutive dwords of every row.
    /// # Safety
    /// Every row holds 16 bytes.
    unsafe fn load4(self, at: Rows) -> [Self::V; 4];
    /// 16 bytes, again in every four lanes.
    /// # Safety
    /// `p` holds 16 bytes.
    unsafe fn sixteen(self, p: *const u8) -> Self::V;
    /// `N` bytes, one to a lane.
    /// # Safety
    /// `p` holds `N` bytes.
    unsafe fn bytes(self, p: *const u8) -> Self::V;
    /// `N` binary16 to f32.
    /// # Safety
    /// `p` holds `2 * N` bytes.
    unsafe fn halves(self, p: *const u8) -> Self::V;
    /// # Safety
    /// `p` holds `N` values.
    unsafe fn get(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` has room for `N` values.
    unsafe fn put(self, p: *mut f32, v: Self::V);
    /// `N * COLUMN_VECTORS` bytes of each of four columns, the four bytes of one place side by side in a lane.
    /// Vectors after the first `COLUMN_VECTORS` mean nothing.
    /// # Safety
    /// Each column holds them.
    unsafe fn columns(self, p: [*const u8; 4]) -> [Self::V; 4];
    /// Puts the lanes of vector `v` of [`Lanes::columns`] to the places of their bytes.
    /// # Safety
    /// `p` has room for `N * COLUMN_VECTORS` values.
    unsafe fn put_column(self, p: *mut f32, v: usize, value: Self::V);
    /// A hint; any address will do.
    fn prefetch(self, p: *const u8);
}

/// What bounds the sums of code x activation products.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dot {
    /// Unsigned codes, and all pairs of products of a sub-block fit a signed 16-bit sum.
    Narrow,
    /// Unsigned codes, and two products fit.
    Wide,
    /// Codes that went through [`Lanes::signed`], activations not below -127.
    Signed,
    /// Sign bits on both sides: counts those that differ.
    Signs,
}

/// Rows of a group at some byte.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    first: *const u8,
    offset: usize,
    stride: usize,
    /// Whether loads bring the next group, which lies behind this one, into the cache.
    ahead: bool,
}

impl Rows {
    /// The rows from byte `start` of `data`, `stride` bytes each.
    #[inline(always)]
    fn new(data: &[u8], start: usize, stride: usize, ahead: bool) -> Self {
        Rows { first: data.as_ptr().wrapping_add(start), offset: 0, stride, ahead }
    }
    /// The `g`-th group of rows after this one.
    #[inline(always)]
    fn down<S: Lanes>(self, g: usize) -> Self {
        Rows { first: self.first.wrapping_add(g * S::N * self.stride), ..self }
    }
    /// Row `r`.
    #[inline(always)]
    pub(super) fn row(self, r: usize) -> *const u8 {
        self.first.wrapping_add(self.offset + r * self.stride)
    }
    /// The same rows, `bytes` further.
    #[inline(always)]
    pub(super) fn at(self, bytes: usize) -> Self {
        Rows { offset: self.offset + bytes, ..self }
    }
    /// A dword of each row.
    /// # Safety
    /// Every row holds 4 bytes.
    #[inline(always)]
    pub(super) unsafe fn load<S: Lanes>(self, s: S) -> S::V {
        if self.ahead {
            s.prefetch(self.first.wrapping_add(S::N * (self.stride + self.offset)));
        }
        // SAFETY: by contract.
        unsafe { s.load(self) }
    }
    /// Sixteen bytes of each row as four vectors.
    /// # Safety
    /// Every row holds 16 bytes.
    #[inline(always)]
    pub(super) unsafe fn load4<S: Lanes>(self, s: S) -> [S::V; 4] {
        let next = self.first.wrapping_add(S::N * (self.stride + self.offset));
        for line in 0..if self.ahead { S::N / 4 } else { 0 } {
            s.prefetch(next.wrapping_add(line * 64));
        }
        // SAFETY: by contract.
        unsafe { s.load4(self) }
    }
}

/// A token's activation at some block.
#[derive(Clone, Copy)]
pub(super) struct At {
    q: *const i8,
    d: *const f32,
    bsums: *const i16,
}

impl At {
    /// Token `t` from column `column` on, the first of a block.
    #[inline(always)]
    fn of(acts: &Acts<'_>, t: usize, column: usize) -> Self {
        let kind = acts.kind;
        let start = |of: fn(ActKind, usize) -> usize| t * of(kind, acts.k) + of(kind, column);
        let d = if kind == ActKind::Row { t } else { start(ActKind::scales) };
        At {
            q: acts.q.as_ptr().wrapping_add(start(ActKind::codes)),
            d: acts.d.as_ptr().wrapping_add(d),
            bsums: acts.bsums.as_ptr().wrapping_add(start(ActKind::bsums)),
        }
    }
    /// Scale `i` of the block.
    /// # Safety
    /// The block has it.
    #[inline(always)]
    pub(super) unsafe fn scale(self, i: usize) -> f32 {
        // SAFETY: by contract.
        unsafe { *self.d.add(i) }
    }
    /// Group sum `i` of the block.
    /// # Safety
    /// The block has it.
    #[inline(always)]
    pub(super) unsafe fn bsum(self, i: usize) -> i32 {
        // SAFETY: by contract.
        unsafe { i32::from(*self.bsums.add(i)) }
    }
}

/// The sums of a row: `total` within a block (0 at its start), `acc` over the row, each as the type likes.
#[derive(Clone, Copy)]
pub(super) struct Sums<V> {
    pub(super) total: V,
    pub(super) acc: V,
}

/// Takes the code vectors of a block. A trait and not a closure, since closures are not always inlined.
pub(super) trait Sink<S: Lanes> {
    /// Takes the codes of columns `4 c .. 4 c + 4`.
    /// # Safety
    /// `c` is below a quarter of the block's columns.
    unsafe fn put(&mut self, c: usize, codes: S::V);
}

/// A weight type.
pub(super) trait Unpack {
    /// The type.
    const TYPE: QuantType;
    /// Columns of a block.
    const BLOCK: usize;
    /// Bytes of a block.
    const BYTES: usize;
    /// Largest code, or `None` for signed codes.
    const CODE_MAX: Option<usize>;
    /// What a code is more than its weight.
    const OFFSET: i32 = 0;
    /// Rows that share a byte. With more than one, what is said of a row below is said of the bytes of such a
    /// group, and code vector `PLANES * c + j` is of the `j`-th row of each lane's group.
    const PLANES: usize = 1;
    /// What becomes of its integer sums.
    type Style: Style;
    /// Code vectors of a block.
    const VECTORS: usize =
        Self::BLOCK / <Self::Style as Style>::SUB * <Self::Style as Style>::SUB_VECTORS * Self::PLANES;

    /// Unpacks the block at `at`: gives every code vector to `put` once.
    /// # Safety
    /// Every row holds a block.
    unsafe fn unpack<S: Lanes>(s: S, at: Rows, put: &mut impl Sink<S>) -> Scales<Self, S>;

    /// Closes a row: its dot product, from the style's sum.
    /// # Safety
    /// `row.tail` are the rows after their last block.
    #[inline(always)]
    unsafe fn end<S: Lanes>(_: S, acc: S::V, _row: RowEnd) -> S::V {
        acc
    }
}

/// The scales of a block of a type.
pub(super) type Scales<U, S> = <<U as Unpack>::Style as Style>::Scales<<S as Lanes>::V>;

/// What codes of a type are more than weights where they meet activations.
#[inline(always)]
const fn offset<S: Lanes, U: Unpack>() -> i32 {
    if matches!(U::Style::DOT, Dot::Signed) { S::BIAS } else { U::OFFSET }
}

/// What closes a row.
#[derive(Clone, Copy)]
pub(super) struct RowEnd {
    /// The activation's scale, for [`ActKind::Row`].
    pub(super) d: f32,
    /// The activation's sum.
    pub(super) sum: i32,
    /// Columns.
    pub(super) cols: usize,
    /// The rows, after their last block.
    pub(super) tail: Rows,
    /// Which row of a group it is, see [`Unpack::PLANES`].
    pub(super) plane: usize,
}

impl RowEnd {
    /// The end of `tail`'s rows for token `t`.
    #[inline(always)]
    fn of(acts: &Acts<'_>, t: usize, tail: Rows) -> Self {
        let d = if acts.kind == ActKind::Row { acts.d[t] } else { 0.0 };
        RowEnd { d, sum: acts.sums[t], cols: acts.k, tail, plane: 0 }
    }
}

/// Whether the type's style bounds its products rightly.
const fn is_bounded<U: Unpack>() -> bool {
    match (U::Style::DOT, U::CODE_MAX) {
        // Each code vector adds two products, |activation| <= 128, to a 16-bit lane.
        (Dot::Narrow, Some(max)) => 2 * 128 * max * U::Style::SUB_VECTORS <= i16::MAX as usize,
        (Dot::Wide, Some(max)) => 2 * 128 * max <= i16::MAX as usize,
        (Dot::Signed, None) | (Dot::Signs, _) => true,
        _ => false,
    }
}

/// The kernel: see [`super::RowsFn`].
///
/// # Safety
/// Shapes as [`super::Kernels::rows`] checks them; the tiles are of the type's style, four vectors and one.
#[inline(always)]
pub(super) unsafe fn rows<S: Lanes, U: Unpack>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    tiles: [gemm::Tiles<S>; 2],
) {
    const { assert!(is_bounded::<U>()) };
    if w.rows < S::N {
        return reference(U::TYPE, w, acts, out);
    }
    if acts.n > 1 {
        // SAFETY: by contract.
        return unsafe { gemm::rows::<S, U>(s, w, acts, out, tiles) };
    }
    let mut first = 0;
    loop {
        let group = Rows::new(w.data, first * w.row_bytes, w.row_bytes, true);
        // SAFETY: rows first .. first + N exist, in the weights and in the tile.
        unsafe { one_token::<S, U>(s, group, w, acts, out.as_mut_ptr().add(first)) }
        if first + S::N == w.rows {
            return;
        }
        // The last group overlaps the one before it rather than being short.
        first = (first + S::N).min(w.rows - S::N);
    }
}

/// One token's products with a block, summed by sub-block.
struct Products<S: Lanes, U: Unpack> {
    s: S,
    parts: [S::V; 16],
    q: *const i8,
    unpack: PhantomData<U>,
}

impl<S: Lanes, U: Unpack> Sink<S> for Products<S, U> {
    #[inline(always)]
    unsafe fn put(&mut self, c: usize, codes: S::V) {
        let part = &mut self.parts[c / U::Style::SUB_VECTORS];
        // SAFETY: the activation has columns 4 c .. 4 c + 4, as the block has.
        let act = unsafe { self.s.broadcast(self.q.add(c * 4).cast()) };
        *part = self.s.dot(*part, codes, act, U::Style::DOT);
    }
}

/// # Safety
/// The rows of the group and of its output exist.
#[inline(always)]
unsafe fn one_token<S: Lanes, U: Unpack>(s: S, group: Rows, w: &RowSpan<'_>, acts: &Acts<'_>, out: *mut f32) {
    let zero = s.splat(0);
    let mut acc = zero;
    let blocks = w.cols / U::BLOCK;
    for b in 0..blocks {
        let act = At::of(acts, 0, b * U::BLOCK);
        let mut to = Products::<S, U> { s, parts: [zero; 16], q: act.q, unpack: PhantomData };
        // SAFETY: block b is in every row and in the activation.
        unsafe {
            let w = U::unpack(s, group.at(b * U::BYTES), &mut to);
            let mut sums = Sums { total: zero, acc };
            for i in 0..U::BLOCK / U::Style::SUB {
                U::Style::fold(
                    s,
                    &w,
                    i,
                    const { offset::<S, U>() },
                    s.close(to.parts[i], U::Style::DOT),
                    act,
                    &mut sums,
                );
            }
            U::Style::finish(s, &w, const { offset::<S, U>() }, act, &mut sums);
            acc = sums.acc;
        }
    }
    let end = RowEnd::of(acts, 0, group.at(blocks * U::BYTES));
    // SAFETY: by contract; the group's rows end there.
    unsafe { s.put(out, s.fmul(U::end(s, acc, end), s.splat(w.scale.to_bits()))) }
}
