//! The output head, screened. A 2-bit sketch of the output matrix (S2) gives each row an upper bound of its
//! logit; rows that cannot be among the highest are never read. What comes out for the highest `need` logits is exactly
//! what the whole head gives, bit for bit: they are computed by the same kernels from the same rows.
//!
//! The bound is the sketch's logit plus [`SIGMAS`] standard deviations of its error. The error is the product of the
//! row's residual (its norm is in the sketch) with the activation, and of the sketched row with the rounding
//! of the activation to int8; a Cauchy-Schwarz bound would be some fifty deviations wide and screen nothing. Only a
//! row that belongs to the highest can be missed, and only if *its* error passes six deviations: one in 10^9 for a
//! Gaussian, and sums of bounded terms have thinner tails. Where so many rows come near that screening cannot pay,
//! the whole head is computed.

use super::linear::ActBuffer;
use crate::error::Result;
use crate::kernels::{self, Kernels};
use crate::mem::{Carver, TileMut};
use crate::parallel::{Team, Tiling};
use crate::quant::{ActKind, Acts, Matrix, RowSpan};

/// Standard deviations between a sketched logit and its bound.
const SIGMAS: f32 = 6.0;
/// Rows rescored beside the `need` highest before a threshold is known.
const FIRST_GUESS: usize = 64;
/// What a screened-out row's logit reads: below every real one, and finite.
pub(crate) const SCREENED_OUT: f32 = -1e30;
/// Rows of a tile of the sketch: 32 groups.
const TILE_ROWS: usize = 128;
/// Rows that are rescored together: whole groups for every kernel.
const GATHERED: usize = 16;
/// Bounds that are looked at together.
const CHUNK: usize = 32;

/// The output matrix and its sketch. The rows of the output matrix must be their own (no lanes).
#[derive(Clone, Copy)]
pub(crate) struct HeadParts<'p, 'm> {
    pub(crate) sketch: &'p Matrix<'m>,
    pub(crate) output: &'p Matrix<'m>,
}

/// What runs the work.
#[derive(Clone, Copy)]
pub(crate) struct Workers<'p, 't> {
    pub(crate) team: &'p Team<'t>,
    pub(crate) kernels: &'p Kernels,
}

/// Rows being rescored, and their logits.
pub(crate) struct ScreenBuffer<'s> {
    rows: &'s mut [u32],
    scores: &'s mut [f32],
    sorted: &'s mut [f32],
    /// Mean square of each token's activation.
    squares: &'s mut [f32],
    /// Copies of [`GATHERED`] rows of the head for each thread.
    gathered: &'s mut [u8],
}

impl<'s> ScreenBuffer<'s> {
    /// Room to rescore an eighth of the rows of `output`, for up to `tokens` tokens on `threads` threads.
    pub(crate) fn new(output: &Matrix<'_>, tokens: usize, threads: usize, carver: &mut Carver<'s>) -> Result<Self> {
        let room = output.rows().div_ceil(8);
        let row = output.bytes() / output.rows().max(1);
        Ok(ScreenBuffer {
            rows: carver.take(room, 0)?,
            scores: carver.take(room, 0.0)?,
            sorted: carver.take(room, 0.0)?,
            squares: carver.take(tokens, 0.0)?,
            gathered: carver.take(threads * GATHERED * row, 0)?,
        })
    }
}

/// Fills `logits` (a row of one per output row for each token of `h`) so that the `need` highest of each token are
/// there and exact; every other one is either exact or [`SCREENED_OUT`]. Returns for how many tokens screening would
/// not have paid (their logits are the whole head's), and how many rows were computed for the others.
pub(crate) fn screen(
    at: &Workers<'_, '_>,
    head: HeadParts<'_, '_>,
    need: usize,
    h: &[f32],
    acts: &mut ActBuffer<'_>,
    buffer: &mut ScreenBuffer<'_>,
    logits: &mut [f32],
) -> (usize, usize) {
    let (vocab, k) = (head.output.rows(), head.output.cols());
    let squares = &mut buffer.squares[..logits.len() / vocab];
    for (square, h) in squares.iter_mut().zip(h.chunks_exact(k)) {
        *square = h.iter().map(|v| v * v).sum::<f32>() / k as f32;
    }
    upper_bounds(at, head.sketch, &acts.fill(at.team, at.kernels, ActKind::Row, h, k), squares, logits);
    let acts = acts.fill(at.team, at.kernels, head.output.ty().info().act, h, k);
    let (mut whole, mut rows) = (0, 0);
    for (t, logits) in logits.chunks_exact_mut(vocab).enumerate() {
        let acts = acts.token(t);
        if let Some(found) = screen_token(at, head.output, need, &acts, buffer, logits) {
            rows += found;
            continue;
        }
        whole += 1;
        let tiling = Tiling { rows: 1, row_grain: 1, segments: &[vocab], col_grain: TILE_ROWS };
        at.team.tiles(logits, tiling, &mut [] as &mut [u8], &|place, mut tile, _| {
            at.kernels.rows(head.output.ty(), &head.output.span(place.cols), &acts, &mut tile);
        });
    }
    (whole, rows)
}

/// One token: `logits` holds the upper bounds and gets the logits. Returns the number of rows
/// computed; `None` if screening would not pay.
fn screen_token(
    at: &Workers<'_, '_>,
    output: &Matrix<'_>,
    need: usize,
    acts: &Acts<'_>,
    buffer: &mut ScreenBuffer<'_>,
    logits: &mut [f32],
) -> Option<usize> {
    let guess = need.saturating_add(FIRST_GUESS);
    if need == 0 || guess > buffer.rows.len() || !all_finite(logits) {
        return None;
    }
    highest(logits, &mut buffer.rows[..guess]);
    rescore(at, output, acts, &buffer.rows[..guess], &mut buffer.scores[..guess], buffer.gathered);
    let sorted = &mut buffer.sorted[..guess];
    sorted.copy_from_slice(&buffer.scores[..guess]);
    let (_, threshold, _) = sorted.select_nth_unstable_by(need - 1, |a, b| b.total_cmp(a));
    let threshold = *threshold;
    // The first guess is done: its bounds must not bring it up again.
    buffer.rows[..guess].iter().for_each(|&r| logits[r as usize] = SCREENED_OUT);
    let mut found = guess;
    for (first, bounds) in (0..).step_by(CHUNK).zip(logits.chunks(CHUNK)) {
        if peak(bounds) < threshold {
            continue;
        }
        for (row, _) in (first..).zip(bounds).filter(|(_, bound)| **bound >= threshold) {
            *buffer.rows.get_mut(found)? = row;
            found += 1;
        }
    }
    rescore(at, output, acts, &buffer.rows[guess..found], &mut buffer.scores[guess..found], buffer.gathered);
    logits.fill(SCREENED_OUT);
    for (row, score) in buffer.rows[..found].iter().zip(&buffer.scores[..found]) {
        logits[*row as usize] = *score;
    }
    Some(found)
}

/// Sketched logits plus [`SIGMAS`] deviations of their error, for every token. `squares` are the mean squares of the
/// tokens' activations.
fn upper_bounds(at: &Workers<'_, '_>, sketch: &Matrix<'_>, acts: &Acts<'_>, squares: &[f32], bounds: &mut [f32]) {
    let tiling = Tiling { rows: acts.n, row_grain: acts.n.max(1), segments: &[sketch.rows()], col_grain: TILE_ROWS };
    at.team.tiles(bounds, tiling, &mut [] as &mut [u8], &|place, mut tile, _| {
        let span = sketch.span(place.cols);
        at.kernels.rows(sketch.ty(), &span, acts, &mut tile);
        for (t, square) in squares.iter().enumerate() {
            // Rounding to int8 is off by up to half a step, a variance of one twelfth: once here, once in the head.
            let int8 = 1.0 / acts.d[t];
            let rounding = int8 * int8 / 6.0 * acts.k as f32;
            // The residual's entries are uncorrelated with the activation's.
            at.kernels.bounds(&span, SIGMAS * SIGMAS * square, SIGMAS * SIGMAS * rounding, tile.row_mut(t));
        }
    });
}

/// Indices of the `rows.len()` highest values, in no order.
fn highest(values: &[f32], rows: &mut [u32]) {
    let less = |a: u32, b: u32| values[a as usize] < values[b as usize];
    // A heap with the least at its root.
    let sift = |heap: &mut [u32]| {
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= heap.len() {
                return;
            }
            if child + 1 < heap.len() && less(heap[child + 1], heap[child]) {
                child += 1;
            }
            if !less(heap[child], heap[at]) {
                return;
            }
            heap.swap(at, child);
            at = child;
        }
    };
    let n = rows.len();
    rows.iter_mut().zip(0..).for_each(|(r, i)| *r = i);
    rows.sort_unstable_by(|a, b| values[*a as usize].total_cmp(&values[*b as usize]));
    for (first, chunk) in (n as u32..).step_by(CHUNK).zip(values[n..].chunks(CHUNK)) {
        if peak(chunk) <= values[rows[0] as usize] {
            continue;
        }
        for (i, value) in (first..).zip(chunk) {
            if *value > values[rows[0] as usize] {
                rows[0] = i;
                sift(rows);
            }
        }
    }
}

/// The highest of some bounds.
fn peak(bounds: &[f32]) -> f32 {
    bounds.iter().fold(f32::NEG_INFINITY, |peak, &bound| if bound > peak { bound } else { peak })
}

/// Whether no value is infinite or NaN. Such a value times 0 is NaN, and a sum keeps it.
fn all_finite(values: &[f32]) -> bool {
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    let mut sums = [0f32; CHUNK];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, v)| *sum += v * 0.0);
    }
    sums.iter().sum::<f32>() + rest.iter().map(|v| v * 0.0).sum::<f32>() == 0.0
}

/// Exact logits of some rows, which are first copied side by side so that kernels take them many at a time.
fn rescore(
    at: &Workers<'_, '_>,
    output: &Matrix<'_>,
    acts: &Acts<'_>,
    rows: &[u32],
    scores: &mut [f32],
    gathered: &mut [u8],
) {
    let tiling = Tiling { rows: 1, row_grain: 1, segments: &[rows.len()], col_grain: GATHERED };
    at.team.tiles(scores, tiling, gathered, &|place, mut tile, gathered| {
        let all = output.span(0..output.rows());
        let gathered = &mut gathered[..GATHERED * all.row_bytes];
        // A short tile computes what was left of another one as well.
        kernels::gather(&all, &rows[place.cols.clone()], gathered);
        let mut scores = [0f32; GATHERED];
        let span = RowSpan { data: gathered, rows: GATHERED, ..all };
        at.kernels.rows(output.ty(), &span, acts, &mut TileMut::whole(&mut scores, GATHERED));
        tile.row_mut(0).copy_from_slice(&scores[..place.cols.len()]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuFeatures;
    use crate::mem::Arena;
    use crate::ops::linear;
    use crate::parallel::{Serial, with_team};
    use crate::quant::{QuantType, encode_s2};
    use std::vec;
    use std::vec::Vec;

    fn gaussian(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>()).collect()
    }

    /// S2 of `rows` x `cols` values.
    fn sketch(values: &[f32], cols: usize) -> Vec<u8> {
        let mut out = vec![];
        for group in values.chunks(4 * cols) {
            let rows: Vec<&[f32]> = group.chunks(cols).collect();
            let steps: Vec<f32> =
                rows.iter().map(|r| 0.9957 * (r.iter().map(|v| v * v).sum::<f32>() / cols as f32).sqrt()).collect();
            let code = |r: usize, k: usize| (rows[r][k] / steps[r] + 2.0).floor().clamp(0.0, 3.0) as u8;
            let all = |k: usize| core::array::from_fn(|r| if r < rows.len() { code(r, k) } else { 0 });
            out.extend((0..cols).map(|k| encode_s2(all(k))));
            let residual = |r: usize| {
                let left = |k: usize| rows[r][k] - steps[r] * (f32::from(code(r, k)) - 1.5);
                (0..cols).map(|k| left(k) * left(k)).sum::<f32>().sqrt()
            };
            let mut tail = [0u8; 64];
            for r in 0..rows.len() {
                tail[4 * r..4 * r + 4].copy_from_slice(&steps[r].to_le_bytes());
                tail[16 + 4 * r..20 + 4 * r].copy_from_slice(&residual(r).to_le_bytes());
            }
            out.extend(tail);
        }
        out
    }

    #[test]
    fn the_highest_logits_are_those_of_the_whole_head() {
        // An interpreter sees the same code with a smaller head.
        let (vocab, queries) = if cfg!(miri) { (259, 2) } else { (4003, 60) };
        let cols = 256;
        let values = gaussian(vocab * cols, 1);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let output = Matrix::new(QuantType::F32, vocab, cols, &bytes).unwrap();
        let packed = sketch(&values, cols);
        let sketch = Matrix::new(QuantType::S2, vocab, cols, &packed).unwrap();
        let kernels = crate::kernels::select(&CpuFeatures::compiled(), Some("scalar")).unwrap();
        let mut room = Arena::<{ 1 << 18 }>::new();
        let mut carver = room.carver();
        let mut acts = ActBuffer::new(1, cols, &mut carver).unwrap();
        let mut buffer = ScreenBuffer::new(&output, 1, 1, &mut carver).unwrap();
        let mut screened = 0;
        for query in 0..queries {
            // Near a row: that logit stands out, as in text. The last ones are plain noise: nothing stands out.
            let noise = gaussian(cols, 100 + query as u64);
            let row = &values[query * 61 * cols..][..cols];
            let near = if query < 50 { 0.5 } else { 0.0 };
            let mut h: Vec<f32> = noise.iter().zip(row).map(|(n, r)| 0.3 * n + near * r).collect();
            h[query] *= 20.0;
            for need in [1, 5, 20] {
                let (mut whole, mut logits) = (vec![0f32; vocab], vec![0f32; vocab]);
                let (fell_back, _) = with_team(&Serial, |team| {
                    linear(team, &kernels, &[output], &h, &mut acts, &mut whole);
                    let head = HeadParts { sketch: &sketch, output: &output };
                    let at = Workers { team, kernels: &kernels };
                    screen(&at, head, need, &h, &mut acts, &mut buffer, &mut logits)
                });
                screened += 1 - fell_back;
                let mut order: Vec<usize> = (0..vocab).collect();
                order.sort_by(|a, b| whole[*b].total_cmp(&whole[*a]));
                for &row in &order[..need] {
                    assert_eq!(logits[row].to_bits(), whole[row].to_bits(), "query {query} need {need} row {row}");
                }
                assert!((0..vocab).all(|r| logits[r] == SCREENED_OUT || logits[r].to_bits() == whole[r].to_bits()));
            }
        }
        assert!(cfg!(miri) || screened > 60, "{screened}");
    }
}
