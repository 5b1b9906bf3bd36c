//! Several tokens: codes are unpacked once into a panel that stays in the L1 cache, and multiplied with tile after
//! tile of tokens by a loop that knows no weight type, only its [`Style`].
//!
//! A panel is `vectors` code vectors wide: as many groups of [`Lanes::N`] rows, or, for types that put several rows
//! into a byte, the planes of one group of bytes. Each code vector is loaded once for the tokens of a tile, each
//! activation once for the panel's width. Between panels the sums of a row group lie in the output tile, and what
//! closes a row comes last, in a pass of its own.

use super::style::Adds;
use super::{At, Lanes, RowEnd, Rows, Sink, Style, Sums, Unpack, offset};
use crate::mem::TileMut;
use crate::quant::{Acts, RowSpan};
use core::marker::PhantomData;
use core::mem::{MaybeUninit, size_of};

/// Code vectors of a panel: 32 KiB at 64 bytes.
const SLOTS: usize = 512;
/// Vectors of a panel's scales: two for each eight code vectors, or 26 for 64.
const SCALE_SLOTS: usize = SLOTS / 2;
/// Most vectors side by side: one for each row that shares a byte.
const WIDEST: usize = 5;

/// Unpacked blocks.
pub(in crate::kernels) struct Panel<S: Lanes> {
    /// Vector `v` of columns `4 c ..` at `c * vectors + v`.
    codes: [MaybeUninit<S::V>; SLOTS],
    /// [`Style::Scales`] of vector `v` in block `b` at `b * vectors + v`.
    scales: [MaybeUninit<S::V>; SCALE_SLOTS],
    /// Blocks, and columns of a block.
    blocks: usize,
    block: usize,
    /// Sub-blocks of a block.
    subs: usize,
    /// What codes are more than weights.
    offset: i32,
}

impl<S: Lanes> Panel<S> {
    /// Columns that have room beside each other in `vectors` vectors.
    pub(super) const fn columns(vectors: usize) -> usize {
        SLOTS / vectors * 4
    }

    /// Sets vector `v` of the columns `4 c ..`, of `vectors`.
    #[inline(always)]
    pub(super) fn set(&mut self, c: usize, vectors: usize, v: usize, codes: S::V) {
        self.codes[c * vectors + v].write(codes);
    }

    /// Says that `columns` columns are set, whose integers add up to the end of the row.
    pub(super) fn close(&mut self, columns: usize, sub: usize) {
        (self.blocks, self.block, self.subs) = (1, columns, columns / sub);
    }
}

/// A row group to be put in panels.
pub(super) trait Source<S: Lanes>: Copy {
    /// Unpacks columns from `column` on, as many as have room; returns how many.
    ///
    /// # Safety
    /// The group and the column exist.
    unsafe fn fill(self, s: S, column: usize, panel: &mut Panel<S>) -> usize;
    /// The results of token `t`, from their sums at `to`.
    ///
    /// # Safety
    /// The sums lie there.
    unsafe fn close(self, s: S, acts: &Acts<'_>, t: usize, to: *mut f32);
}

/// A row group's results and the tokens that make them.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Job<'a> {
    acts: &'a Acts<'a>,
    /// The first column of the panel.
    column: usize,
    /// Result of the first row and token; results of the next token lie `stride` further.
    out: *mut f32,
    stride: usize,
}

impl Job<'_> {
    /// Vector `v` of the results of token `t`.
    #[inline(always)]
    fn out<S: Lanes>(&self, t: usize, v: usize) -> *mut f32 {
        self.out.wrapping_add(t * self.stride + v * S::N)
    }
}

/// [`tile`] compiled for a level, a style and a shape: adds the panel's part to the sums from token `.2` on.
pub(in crate::kernels) type TileFn<S> = unsafe fn(&Panel<S>, &Job<'_>, usize);

/// Tiles of one width.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Tiles<S: Lanes> {
    /// Vectors.
    pub(in crate::kernels) vectors: usize,
    /// By number of tokens less 1; the last is the best.
    pub(in crate::kernels) by_tokens: &'static [TileFn<S>],
}

/// The kernel for at least two tokens: see [`crate::kernels::RowsFn`]. Takes whole groups of [`Unpack::PLANES`] rows,
/// at least [`Lanes::N`] of them.
///
/// # Safety
/// Shapes as [`crate::kernels::Kernels::rows`] checks them; the tiles are of the type's style.
#[inline(always)]
pub(in crate::kernels) unsafe fn rows<S: Lanes, U: Unpack>(
    s: S,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    tiles: [Tiles<S>; 2],
) {
    let source = |unit: usize, vectors: usize| Blocks::<U> {
        at: Rows::new(w.data, unit * w.row_bytes, w.row_bytes, false),
        vectors,
        cols: w.cols,
        scale: w.scale,
        unpack: PhantomData,
    };
    // SAFETY: by contract.
    unsafe { groups::<S, _>(s, w.rows / U::PLANES, U::PLANES, source, acts, out, tiles) }
}

/// All groups of `units` times `planes` rows, each from its `source` of a first unit and a width.
///
/// # Safety
/// The units exist, [`Lanes::N`] or more, in the sources and in the output.
#[inline(always)]
pub(super) unsafe fn groups<S: Lanes, G: Source<S>>(
    s: S,
    units: usize,
    planes: usize,
    source: impl Fn(usize, usize) -> G,
    acts: &Acts<'_>,
    out: &mut TileMut<'_, f32>,
    [wide, narrow]: [Tiles<S>; 2],
) {
    // Units that a panel's width holds.
    let of = |tiles: Tiles<S>| S::N * tiles.vectors / planes;
    let stride = out.stride();
    let mut first = 0;
    loop {
        let tiles = if units - first >= of(wide) { wide } else { narrow };
        let to = out.as_mut_ptr().wrapping_add(first * planes);
        // SAFETY: units first .. first + of(tiles) exist, in the weights and in the tile.
        unsafe { group::<S, G>(s, source(first, tiles.vectors), acts, to, stride, tiles) }
        first += of(tiles);
        if first == units {
            return;
        }
        // The last group overlaps the one before it rather than being short.
        let next = if units >= of(wide) { wide } else { narrow };
        first = first.min(units - of(next));
    }
}

/// A row group times all tokens.
///
/// # Safety
/// The group's rows exist in the weights and in the output.
#[inline(always)]
unsafe fn group<S: Lanes, G: Source<S>>(
    s: S,
    source: G,
    acts: &Acts<'_>,
    out: *mut f32,
    stride: usize,
    tiles: Tiles<S>,
) {
    let mut panel = Panel::<S> {
        codes: [const { MaybeUninit::uninit() }; _],
        scales: [const { MaybeUninit::uninit() }; _],
        blocks: 0,
        block: 0,
        subs: 0,
        offset: 0,
    };
    let mut column = 0;
    while column < acts.k {
        // SAFETY: the column exists; the tiles get a whole panel and tokens that exist.
        unsafe {
            let columns = source.fill(s, column, &mut panel);
            let job = Job { acts, column, out, stride };
            let mut t = 0;
            while t < acts.n {
                let tokens = tiles.by_tokens.len().min(acts.n - t);
                tiles.by_tokens[tokens - 1](&panel, &job, t);
                t += tokens;
            }
            column += columns;
        }
    }
    for t in 0..acts.n {
        // SAFETY: the sums of all rows lie there.
        unsafe { source.close(s, acts, t, out.wrapping_add(t * stride)) }
    }
}

/// A row group of a type in blocks.
struct Blocks<U> {
    at: Rows,
    vectors: usize,
    cols: usize,
    scale: f32,
    unpack: PhantomData<U>,
}

impl<U> Clone for Blocks<U> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<U> Copy for Blocks<U> {}

impl<S: Lanes, U: Unpack> Source<S> for Blocks<U> {
    #[inline(always)]
    unsafe fn fill(self, s: S, column: usize, panel: &mut Panel<S>) -> usize {
        // A block's code vectors are those of one vector of rows, or of all planes.
        let (first, most) = (column / U::BLOCK, SLOTS / (U::VECTORS * self.vectors / U::PLANES));
        let blocks = most.min(self.cols / U::BLOCK - first);
        (panel.blocks, panel.block) = (blocks, U::BLOCK);
        (panel.subs, panel.offset) = (U::BLOCK / <U::Style as Style>::SUB, offset::<S, U>());
        const {
            let scales = size_of::<<U::Style as Style>::Scales<S::V>>() * (SLOTS / U::VECTORS);
            assert!(scales <= SCALE_SLOTS * size_of::<S::V>());
        }
        let scales = panel.scales.as_mut_ptr().cast::<<U::Style as Style>::Scales<S::V>>();
        let groups = self.vectors / U::PLANES;
        for g in 0..groups {
            let rows = self.at.down::<S>(g);
            for b in 0..blocks {
                let first_code = panel.codes.as_mut_ptr().wrapping_add(b * U::VECTORS * groups + g);
                let mut store = Store { first: first_code.cast(), step: groups };
                // SAFETY: every row has block first + b; each block and group has slots of its own.
                unsafe {
                    let w = U::unpack(s, rows.at((first + b) * U::BYTES), &mut store);
                    scales.add(b * groups + g).write(w);
                }
            }
            // What the next panel will want of these rows.
            for r in 0..S::N {
                for line in (0..blocks * U::BYTES).step_by(64) {
                    s.prefetch(rows.at((first + blocks) * U::BYTES + line).row(r));
                }
            }
        }
        blocks * U::BLOCK
    }

    #[inline(always)]
    unsafe fn close(self, s: S, acts: &Acts<'_>, t: usize, mut to: *mut f32) {
        let end = RowEnd::of(acts, t, self.at.at(self.cols / U::BLOCK * U::BYTES));
        let scale = s.splat(self.scale.to_bits());
        for g in 0..self.vectors / U::PLANES {
            let mut all = [s.splat(0); WIDEST];
            // SAFETY: by contract; the rows end at `tail`.
            unsafe {
                for (plane, v) in all.iter_mut().take(U::PLANES).enumerate() {
                    let end = RowEnd { tail: end.tail.down::<S>(g), plane, ..end };
                    *v = s.fmul(U::end(s, s.get(to.add(plane * S::N)), end), scale);
                }
                for o in 0..U::PLANES {
                    s.put(to, if U::PLANES == 1 { all[0] } else { woven::<S, U>(s, &all, o) });
                    to = to.add(S::N);
                }
            }
        }
    }
}

/// Writes code vectors to a panel.
struct Store<V> {
    first: *mut V,
    step: usize,
}

impl<S: Lanes> Sink<S> for Store<S::V> {
    #[inline(always)]
    unsafe fn put(&mut self, c: usize, codes: S::V) {
        // SAFETY: the panel has room for the block's code vectors.
        unsafe { self.first.add(c * self.step).write(codes) }
    }
}

/// Adds the panel's part to the sums of `V` vectors of rows and of tokens `t .. t + T`.
///
/// # Safety
/// The panel is filled, for the style `F` and `V` vectors; the tokens and the job's output exist.
#[inline(always)]
pub(in crate::kernels) unsafe fn tile<S: Lanes, F: Style, const V: usize, const T: usize>(
    s: S,
    panel: &Panel<S>,
    job: &Job<'_>,
    t: usize,
) {
    let zero = s.splat(0);
    let mut codes = panel.codes.as_ptr().cast::<S::V>();
    let mut scales = panel.scales.as_ptr().cast::<F::Scales<S::V>>();
    // SAFETY: everything read was written by the caller or is there by contract.
    unsafe {
        let mut acc = [[zero; V]; T];
        if job.column != 0 {
            for j in 0..T {
                for v in 0..V {
                    acc[j][v] = s.get(job.out::<S>(t + j, v));
                }
            }
        }
        for b in 0..panel.blocks {
            let mut act = [At::of(job.acts, t, job.column + b * panel.block); T];
            for j in 1..T {
                act[j] = At::of(job.acts, t + j, job.column + b * panel.block);
            }
            let mut total = [[zero; V]; T];
            for sub in 0..panel.subs {
                // Sums of 32 bits go on where the last sub-block left them.
                let mut parts = [[zero; V]; T];
                for j in 0..T {
                    for v in 0..V {
                        match F::ADDS_TO {
                            Some(Adds::Row) if S::WIDE => (parts[j][v], acc[j][v]) = (acc[j][v], zero),
                            Some(Adds::Block) if S::WIDE => (parts[j][v], total[j][v]) = (total[j][v], zero),
                            _ => (),
                        }
                    }
                }
                for c in 0..F::SUB_VECTORS {
                    let mut w = [zero; V];
                    for v in 0..V {
                        w[v] = *codes.add(c * V + v);
                    }
                    for j in 0..T {
                        let x = s.broadcast(act[j].q.add((sub * F::SUB_VECTORS + c) * 4).cast());
                        for v in 0..V {
                            parts[j][v] = s.dot(parts[j][v], w[v], x, F::DOT);
                        }
                    }
                }
                codes = codes.add(F::SUB_VECTORS * V);
                for j in 0..T {
                    for v in 0..V {
                        let mut sums = Sums { total: total[j][v], acc: acc[j][v] };
                        let part = s.close(parts[j][v], F::DOT);
                        F::fold(s, &*scales.add(v), sub, panel.offset, part, act[j], &mut sums);
                        (total[j][v], acc[j][v]) = (sums.total, sums.acc);
                    }
                }
            }
            for j in 0..T {
                for v in 0..V {
                    let mut sums = Sums { total: total[j][v], acc: acc[j][v] };
                    F::finish(s, &*scales.add(v), panel.offset, act[j], &mut sums);
                    acc[j][v] = sums.acc;
                }
            }
            scales = scales.add(V);
        }
        for j in 0..T {
            for v in 0..V {
                s.put(job.out::<S>(t + j, v), acc[j][v]);
            }
        }
    }
}

/// Which vector and lane the results of a vector come from, for rows that lie `planes` to a byte.
const fn weave(planes: usize, lanes: usize) -> ([[[u32; 16]; WIDEST]; WIDEST], [[u32; 16]; WIDEST]) {
    let (mut masks, mut from) = ([[[0; 16]; WIDEST]; WIDEST], [[0; 16]; WIDEST]);
    let mut i = 0;
    while i < planes * lanes {
        masks[i / lanes][i % planes][i % lanes] = u32::MAX;
        from[i / lanes][i % lanes] = (i / planes) as u32;
        i += 1;
    }
    (masks, from)
}

/// Vector `o` of the results in the order of rows, from those of planes.
///
/// # Safety
/// `o` is below the planes.
#[inline(always)]
unsafe fn woven<S: Lanes, U: Unpack>(s: S, all: &[S::V; WIDEST], o: usize) -> S::V {
    let (masks, from) = const { &weave(U::PLANES, S::N) };
    // SAFETY: the tables hold 16 values.
    unsafe {
        let index = s.get(from[o].as_ptr().cast());
        let mut v = s.splat(0);
        for plane in 0..U::PLANES {
            v = s.or(v, s.and(s.get(masks[o][plane].as_ptr().cast()), s.pick(all[plane], index)));
        }
        v
    }
}
