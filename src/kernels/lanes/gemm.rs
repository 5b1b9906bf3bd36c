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
    /// Blocks.
    blocks: usize,
    /// Sub-blocks of a block.
    subs: usize,
    /// What codes are more than weights.
    offset: i32,
}

/// A row group's results and the tokens that make them.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Job<'a> {
    acts: &'a Acts<'a>,
    /// The first column of the panel, and columns of its blocks.
    column: usize,
    block: usize,
    /// Result of the first row and token; results of the next token lie `stride` further.
    out: *mut f32,
    stride: usize,
}

impl Job<'_> {
    /// Token `t` at the panel's block `b`.
    #[inline(always)]
    fn at(&self, t: usize, b: usize) -> At {
        At::of(self.acts, t, self.column + b * self.block)
    }

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
    [wide, narrow]: [Tiles<S>; 2],
) {
    let units = w.rows / U::PLANES;
    // Units that a panel's width holds, and rows.
    let of = |tiles: Tiles<S>| S::N * tiles.vectors / U::PLANES;
    let mut first = 0;
    loop {
        let tiles = if units - first >= of(wide) { wide } else { narrow };
        let at = Rows::new(w.data, first * w.row_bytes, w.row_bytes, false);
        let to = out.as_mut_ptr().wrapping_add(first * U::PLANES);
        // SAFETY: units first .. first + of(tiles) exist, in the weights and in the tile.
        unsafe { group::<S, U>(s, at, w, acts, Out { first: to, stride: out.stride() }, tiles) }
        first += of(tiles);
        if first == units {
            return;
        }
        // The last group overlaps the one before it rather than being short.
        let next = if units >= of(wide) { wide } else { narrow };
        first = first.min(units - of(next));
    }
}

/// Where the results of a row group go.
#[derive(Clone, Copy)]
struct Out {
    first: *mut f32,
    stride: usize,
}

/// A row group times all tokens.
///
/// # Safety
/// The group's rows exist in the weights and in the output.
#[inline(always)]
unsafe fn group<S: Lanes, U: Unpack>(s: S, at: Rows, w: &RowSpan<'_>, acts: &Acts<'_>, out: Out, tiles: Tiles<S>) {
    let vectors = tiles.vectors;
    // Blocks of a panel: a block's code vectors are those of one vector, or of all planes.
    let most = SLOTS / (U::VECTORS * vectors / U::PLANES);
    const {
        assert!(
            size_of::<<U::Style as Style>::Scales<S::V>>() * (SLOTS / U::VECTORS) <= SCALE_SLOTS * size_of::<S::V>()
        )
    };
    let mut panel = Panel::<S> {
        codes: [const { MaybeUninit::uninit() }; _],
        scales: [const { MaybeUninit::uninit() }; _],
        blocks: 0,
        subs: U::BLOCK / <U::Style as Style>::SUB,
        offset: offset::<S, U>(),
    };
    let blocks = w.cols / U::BLOCK;
    let mut first = 0;
    while first < blocks {
        panel.blocks = most.min(blocks - first);
        // SAFETY: blocks first .. first + panel.blocks are in every row; the tiles get a whole panel and tokens that exist.
        unsafe {
            fill::<S, U>(s, at, first, vectors, &mut panel);
            let job = Job { acts, column: first * U::BLOCK, block: U::BLOCK, out: out.first, stride: out.stride };
            let mut t = 0;
            while t < acts.n {
                let tokens = tiles.by_tokens.len().min(acts.n - t);
                tiles.by_tokens[tokens - 1](&panel, &job, t);
                t += tokens;
            }
        }
        first += panel.blocks;
    }
    for t in 0..acts.n {
        // SAFETY: the sums of all rows lie there.
        unsafe { close::<S, U>(s, at, w, acts, out, vectors, t) }
    }
}

/// Unpacks blocks `first ..` of a row group, as many as the panel says.
///
/// # Safety
/// Every row has them, and they fit the panel.
#[inline(always)]
unsafe fn fill<S: Lanes, U: Unpack>(s: S, at: Rows, first: usize, vectors: usize, panel: &mut Panel<S>) {
    let scales = panel.scales.as_mut_ptr().cast::<<U::Style as Style>::Scales<S::V>>();
    let groups = vectors / U::PLANES;
    for g in 0..groups {
        let rows = at.down::<S>(g);
        for b in 0..panel.blocks {
            let mut store = Store {
                first: panel.codes.as_mut_ptr().wrapping_add(b * U::VECTORS * groups + g).cast(),
                step: groups,
            };
            // SAFETY: the caller's; each block and group has slots of its own.
            unsafe {
                let w = U::unpack(s, rows.at((first + b) * U::BYTES), &mut store);
                scales.add(b * groups + g).write(w);
            }
        }
        // What the next panel will want of these rows.
        let next = (first + panel.blocks) * U::BYTES;
        for r in 0..S::N {
            for line in (0..panel.blocks * U::BYTES).step_by(64) {
                s.prefetch(rows.at(next + line).row(r));
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
            let mut act = [job.at(t, b); T];
            for j in 1..T {
                act[j] = job.at(t + j, b);
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

/// The results of token `t`, from its sums.
///
/// # Safety
/// The sums lie in the output.
#[inline(always)]
unsafe fn close<S: Lanes, U: Unpack>(
    s: S,
    at: Rows,
    w: &RowSpan<'_>,
    acts: &Acts<'_>,
    out: Out,
    vectors: usize,
    t: usize,
) {
    let mut to = out.first.wrapping_add(t * out.stride);
    let end = RowEnd::of(acts, t, at.at(w.cols / U::BLOCK * U::BYTES));
    let scale = s.splat(w.scale.to_bits());
    for g in 0..vectors / U::PLANES {
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
