//! Dot products with one lane per weight row.
//!
//! Rows are taken [`Lanes::N`] at a time. A dword (4 bytes) of each row is loaded into one vector, lane `r`
//! from row `r`, so that everything a type does to its bytes (split nibbles, place high bits, widen scales) is
//! plain lane-wise arithmetic, and the f32 sum of a row lives in one lane in the canonical order, with no
//! sum across lanes. A *code vector* holds codes of 4 consecutive columns in each lane; the activation of these
//! columns is one dword, broadcast.
//!
//! [`Unpack`] is a weight type, [`Lanes`] an instruction set; [`rows`] joins them. One token consumes code
//! vectors as they are made; more tokens share a panel of [`PANEL`] columns that stays in the L1 cache.
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
mod k;
pub(super) mod packed;
mod ternary;

use super::scalar::reference;
use crate::mem::TileMut;
use crate::quant::{ActKind, Acts, QuantType, RowSpan};
use core::marker::PhantomData;
use core::mem::MaybeUninit;

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
pub(super) use ternary::{I2_S, I2_S_ARM, PTQ1_0, STQ1_0, TQ1_0, TQ2_0};

/// Columns unpacked at once for several tokens (but for sign bits); a multiple of every block.
const PANEL: usize = 256;

/// How many tokens share the loads of code vectors.
const TILE: usize = 8;

/// Vectors of 32-bit lanes. A value of the type is the proof that the CPU has its instructions.
pub(super) trait Lanes: Copy {
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
}

impl Rows {
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
    /// A dword of each row; brings as many bytes of the next group into the cache.
    /// # Safety
    /// Every row holds 4 bytes.
    #[inline(always)]
    pub(super) unsafe fn load<S: Lanes>(self, s: S) -> S::V {
        s.prefetch(self.first.wrapping_add(S::N * (self.stride + self.offset)));
        // SAFETY: by contract.
        unsafe { s.load(self) }
    }
    /// Sixteen bytes of each row as four vectors; brings as many bytes of the next group, which lies behind this
    /// one, into the cache.
    /// # Safety
    /// Every row holds 16 bytes.
    #[inline(always)]
    pub(super) unsafe fn load4<S: Lanes>(self, s: S) -> [S::V; 4] {
        let next = self.first.wrapping_add(S::N * (self.stride + self.offset));
        for line in 0..S::N / 4 {
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
    /// Columns that one integer sum covers.
    const SUB: usize;
    /// Largest code, or `None` for signed codes.
    const CODE_MAX: Option<usize>;
    /// Whether a code is a sign bit, and so is an activation.
    const SIGNS: bool = false;
    /// Code vectors of a block.
    const VECTORS: usize = Self::BLOCK / if Self::SIGNS { 32 } else { 4 };
    /// Code vectors that one integer sum covers.
    const SUB_VECTORS: usize = Self::VECTORS / (Self::BLOCK / Self::SUB);
    /// The scales of a block, unpacked.
    type Scales<V: Copy>: Copy;

    /// Unpacks the block at `at`: gives every code vector to `put` once.
    /// # Safety
    /// Every row holds a block.
    unsafe fn unpack<S: Lanes>(s: S, at: Rows, put: &mut impl Sink<S>) -> Self::Scales<S::V>;

    /// Takes in the integer sum of sub-block `i`.
    /// # Safety
    /// `act` is a block.
    unsafe fn fold<S: Lanes>(s: S, w: &Self::Scales<S::V>, i: usize, sum: S::V, act: At, sums: &mut Sums<S::V>);

    /// Closes a block.
    /// # Safety
    /// `act` is a block.
    #[inline(always)]
    unsafe fn finish<S: Lanes>(_: S, _: &Self::Scales<S::V>, _: At, _: &mut Sums<S::V>) {}

    /// Closes a row: its dot product.
    /// # Safety
    /// `row.tail` are the rows after their last block.
    #[inline(always)]
    unsafe fn end<S: Lanes>(_: S, acc: S::V, _row: RowEnd) -> S::V {
        acc
    }
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
}

/// How a type's products are summed.
const fn dot_kind<U: Unpack>() -> Dot {
    match U::CODE_MAX {
        _ if U::SIGNS => Dot::Signs,
        None => Dot::Signed,
        // One of SUB / 4 code vectors adds two products, |activation| <= 128, to a 16-bit lane.
        Some(max) if U::SUB / 4 * 2 * 128 * max <= i16::MAX as usize => Dot::Narrow,
        Some(max) => {
            assert!(2 * 128 * max <= i16::MAX as usize);
            Dot::Wide
        }
    }
}

/// Activations and where results go, with the shapes checked by the caller.
#[derive(Clone, Copy)]
struct Job<'a> {
    acts: &'a Acts<'a>,
    group: Rows,
    blocks: usize,
    scale: f32,
    out: *mut f32,
    out_stride: usize,
}

impl Job<'_> {
    /// Token `t` at block `b`.
    #[inline(always)]
    fn at<U: Unpack>(&self, t: usize, b: usize) -> At {
        let (k, kind) = (self.acts.k, self.acts.kind);
        let row = kind == ActKind::Row;
        At {
            q: self.acts.q.as_ptr().wrapping_add(t * kind.codes(k) + b * kind.codes(U::BLOCK)),
            d: self.acts.d.as_ptr().wrapping_add(t * kind.scales(k) + if row { 0 } else { b * kind.scales(U::BLOCK) }),
            bsums: self.acts.bsums.as_ptr().wrapping_add(t * kind.bsums(k) + b * kind.bsums(U::BLOCK)),
        }
    }

    /// Results of token `t`.
    #[inline(always)]
    fn out(&self, t: usize) -> *mut f32 {
        self.out.wrapping_add(t * self.out_stride)
    }

    /// The final result of token `t`.
    #[inline(always)]
    fn end<S: Lanes, U: Unpack>(&self, s: S, t: usize, acc: S::V) -> S::V {
        let d = if self.acts.kind == ActKind::Row { self.acts.d[t] } else { 0.0 };
        let tail = self.group.at(self.blocks * U::BYTES);
        // SAFETY: the group's rows end there.
        let acc = unsafe { U::end(s, acc, RowEnd { d, sum: self.acts.sums[t], cols: self.acts.k, tail }) };
        s.fmul(acc, s.splat(self.scale.to_bits()))
    }
}

/// The kernel: see [`super::RowsFn`].
///
/// # Safety
/// Shapes as [`super::Kernels::rows`] checks them.
#[inline(always)]
pub(super) unsafe fn rows<S: Lanes, U: Unpack>(s: S, w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    if w.rows < S::N {
        return reference(U::TYPE, w, acts, out);
    }
    let mut first = 0;
    loop {
        let group = Rows { first: w.data.as_ptr().wrapping_add(first * w.row_bytes), offset: 0, stride: w.row_bytes };
        let job = Job {
            acts,
            group,
            blocks: w.cols / U::BLOCK,
            scale: w.scale,
            out: out.as_mut_ptr().wrapping_add(first),
            out_stride: out.stride(),
        };
        // SAFETY: rows first .. first + N exist, in the weights and in the tile.
        unsafe { if acts.n == 1 { one_token::<S, U>(s, &job) } else { many_tokens::<S, U>(s, &job) } }
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
        let part = &mut self.parts[c / U::SUB_VECTORS];
        // SAFETY: the activation has columns 4 c .. 4 c + 4, as the block has.
        let act = unsafe { self.s.broadcast(self.q.add(c * 4).cast()) };
        *part = self.s.dot(*part, codes, act, const { dot_kind::<U>() });
    }
}

/// # Safety
/// The rows of the job's group and of its output exist.
#[inline(always)]
unsafe fn one_token<S: Lanes, U: Unpack>(s: S, job: &Job<'_>) {
    let zero = s.splat(0);
    let mut acc = zero;
    for b in 0..job.blocks {
        let act = job.at::<U>(0, b);
        let mut to = Products::<S, U> { s, parts: [zero; 16], q: act.q, unpack: PhantomData };
        // SAFETY: block b is in every row and in the activation.
        unsafe {
            let w = U::unpack(s, job.group.at(b * U::BYTES), &mut to);
            let mut sums = Sums { total: zero, acc };
            for i in 0..U::BLOCK / U::SUB {
                U::fold(s, &w, i, s.close(to.parts[i], const { dot_kind::<U>() }), act, &mut sums);
            }
            U::finish(s, &w, act, &mut sums);
            acc = sums.acc;
        }
    }
    // SAFETY: by contract.
    unsafe { s.put(job.out(0), job.end::<S, U>(s, 0, acc)) }
}

/// Unpacked blocks of a row group.
struct Panel<S: Lanes, U: Unpack> {
    codes: [MaybeUninit<S::V>; PANEL / 4],
    scales: [MaybeUninit<U::Scales<S::V>>; PANEL / 32],
}

/// Writes code vectors to a panel.
struct Store<'a, V>(&'a mut [MaybeUninit<V>]);

impl<S: Lanes> Sink<S> for Store<'_, S::V> {
    #[inline(always)]
    unsafe fn put(&mut self, c: usize, codes: S::V) {
        // SAFETY: the slice is as long as the block has code vectors.
        unsafe { self.0.get_unchecked_mut(c) }.write(codes);
    }
}

/// Between panels the sums of a row group lie in the output tile.
///
/// # Safety
/// The rows of the job's group and of its output exist.
#[inline(always)]
unsafe fn many_tokens<S: Lanes, U: Unpack>(s: S, job: &Job<'_>) {
    let mut panel =
        Panel::<S, U> { codes: [const { MaybeUninit::uninit() }; _], scales: [const { MaybeUninit::uninit() }; _] };
    let mut first = 0;
    while first < job.blocks {
        let blocks = first..job.blocks.min(first + (PANEL / 4 / U::VECTORS).min(PANEL / 32));
        for (i, b) in blocks.clone().enumerate() {
            let codes = &mut panel.codes[i * U::VECTORS..][..U::VECTORS];
            // SAFETY: block b is in every row.
            let scales = unsafe { U::unpack(s, job.group.at(b * U::BYTES), &mut Store(codes)) };
            panel.scales[i].write(scales);
        }
        let mut t = 0;
        while t < job.acts.n {
            // SAFETY: the panel holds these blocks, and tokens t .. t + the tile's exist.
            t += unsafe {
                match job.acts.n - t {
                    TILE.. => tile::<S, U, TILE>(s, &panel, &blocks, job, t),
                    4.. => tile::<S, U, 4>(s, &panel, &blocks, job, t),
                    2.. => tile::<S, U, 2>(s, &panel, &blocks, job, t),
                    _ => tile::<S, U, 1>(s, &panel, &blocks, job, t),
                }
            };
        }
        first = blocks.end;
    }
}

/// Adds the panel's part to the sums of tokens `t .. t + T`; returns `T`.
///
/// # Safety
/// The panel holds `blocks`; the tokens and the job's output exist.
#[inline(always)]
unsafe fn tile<S: Lanes, U: Unpack, const T: usize>(
    s: S,
    panel: &Panel<S, U>,
    blocks: &core::ops::Range<usize>,
    job: &Job<'_>,
    t: usize,
) -> usize {
    let how = const { dot_kind::<U>() };
    let zero = s.splat(0);
    // SAFETY: everything read was written by the caller or is there by contract.
    unsafe {
        let mut acc = [zero; T];
        if blocks.start != 0 {
            for j in 0..T {
                acc[j] = s.get(job.out(t + j));
            }
        }
        for (i, b) in blocks.clone().enumerate() {
            let act: [At; T] = core::array::from_fn(|j| job.at::<U>(t + j, b));
            let w = panel.scales.get_unchecked(i).assume_init_ref();
            let mut sums = [Sums { total: zero, acc: zero }; T];
            for j in 0..T {
                sums[j].acc = acc[j];
            }
            for sub in 0..U::BLOCK / U::SUB {
                let mut parts = [zero; T];
                for c in sub * U::SUB_VECTORS..(sub + 1) * U::SUB_VECTORS {
                    let codes = panel.codes.get_unchecked(i * U::VECTORS + c).assume_init();
                    for j in 0..T {
                        parts[j] = s.dot(parts[j], codes, s.broadcast(act[j].q.add(c * 4).cast()), how);
                    }
                }
                for j in 0..T {
                    U::fold(s, w, sub, s.close(parts[j], how), act[j], &mut sums[j]);
                }
            }
            for j in 0..T {
                U::finish(s, w, act[j], &mut sums[j]);
                acc[j] = sums[j].acc;
            }
        }
        for j in 0..T {
            let sum = if blocks.end == job.blocks { job.end::<S, U>(s, t + j, acc[j]) } else { acc[j] };
            s.put(job.out(t + j), sum);
        }
    }
    T
}
