//! Matrix products: the activation is brought into the form the weights want, then the team claims rows.

use super::screen::Workers;
use crate::error::Result;
use crate::kernels::Kernels;
use crate::mem::Carver;
use crate::parallel::{Rows4, Team, Tiling};
use crate::quant::{ActKind, Acts, Matrix, QuantType, sign_stochastic};

/// Bytes of weights in one claim: small enough that all cores stream the same neighbourhood of memory.
const TILE_BYTES: usize = 16 << 10;
/// Rows of a tile are a multiple of this, so that kernels work on whole groups of rows; for several tokens, of
/// four groups wherever a row stands alone: a group that is not whole is computed with rows of its neighbour.
const ROW_GROUP: usize = 16;
/// Rows of a tile, at least, where kernels look sums of activations up in tables that they make first.
const TABLE_ROWS: usize = 256;

/// Room for the int8 form of a batch of activations.
pub(crate) struct ActBuffer<'s> {
    q: &'s mut [i8],
    d: &'s mut [f32],
    bsums: &'s mut [i16],
    sums: &'s mut [i32],
    /// Seed of stochastic signs; without one they are deterministic.
    pub(crate) sign_seed: Option<u64>,
}

impl<'s> ActBuffer<'s> {
    /// Room for `batch` rows of up to `k` values in any form.
    pub(crate) fn new(batch: usize, k: usize, carver: &mut Carver<'s>) -> Result<Self> {
        let most = |f: fn(ActKind, usize) -> usize| ActKind::ALL.iter().map(|&kind| f(kind, k)).max().unwrap_or(0);
        Ok(ActBuffer {
            q: carver.take(batch * k, 0)?,
            d: carver.take(batch * most(ActKind::scales), 0.0)?,
            bsums: carver.take(batch * most(ActKind::bsums), 0)?,
            sums: carver.take(batch, 0)?,
            sign_seed: None,
        })
    }

    /// `x` (`n` rows of `k` values) in the form `kind`.
    pub(crate) fn fill<'b>(
        &'b mut self,
        team: &Team<'_>,
        kernels: &Kernels,
        kind: ActKind,
        x: &'b [f32],
        k: usize,
    ) -> Acts<'b> {
        let n = x.len().checked_div(k).unwrap_or(0);
        if kind == ActKind::F32 {
            return Acts { kind, n, k, x, q: &[], d: &[], bsums: &[], sums: &[] };
        }
        let (codes, scales, groups) = (kind.codes(k), kind.scales(k), kind.bsums(k));
        let (q, d) = (&mut self.q[..n * codes], &mut self.d[..n * scales]);
        let (bsums, sums) = (&mut self.bsums[..n * groups], &mut self.sums[..n]);
        let matrices =
            Rows4 { a: (&mut *q, codes), b: (&mut *d, scales), c: (&mut *bsums, groups), d: (&mut *sums, 1) };
        let seed = self.sign_seed.filter(|_| kind == ActKind::Sign);
        team.rows4(n, matrices, &|t, q, d, bsums, sum| {
            let x = &x[t * k..(t + 1) * k];
            sum[0] = match seed {
                Some(seed) => sign_stochastic(x, seed, q),
                None => kernels.quantize(kind, x, q, d, bsums),
            };
        });
        Acts { kind, n, k, x: &[], q, d, bsums, sums }
    }
}

/// `out` row `t` = the results of all `parts` for row `t` of `x`, side by side. `x` has `k` columns, `out`
/// as many as the parts have rows together.
pub(crate) fn linear(
    team: &Team<'_>,
    kernels: &Kernels,
    parts: &[Matrix<'_>],
    x: &[f32],
    acts: &mut ActBuffer<'_>,
    out: &mut [f32],
) {
    let Some(first) = parts.first() else { return };
    let at = Workers { team, kernels };
    for kind in ActKind::ALL {
        if parts.iter().any(|p| p.ty().info().act == kind) {
            multiply(&at, parts, &acts.fill(team, kernels, kind, x, first.cols()), out);
        }
    }
}

/// [`linear`] for the parts that want their activation in the form of `acts`; the others' results stay what they were.
pub(crate) fn multiply(at: &Workers<'_, '_>, parts: &[Matrix<'_>], acts: &Acts<'_>, out: &mut [f32]) {
    let mut widths = [0usize; 4];
    let widths = &mut widths[..parts.len()];
    widths.iter_mut().zip(parts).for_each(|(w, p)| *w = p.rows());
    let grain = grain(at.team, parts, acts.n);
    let tiling = Tiling { rows: acts.n, row_grain: acts.n.max(1), segments: widths, col_grain: grain };
    at.team.tiles(out, tiling, &mut [] as &mut [u8], &|place, mut tile, _| {
        let part = &parts[place.segment];
        if part.ty().info().act == acts.kind {
            at.kernels.rows(part.ty(), &part.span(place.cols), acts, &mut tile);
        }
    });
}

/// Rows of a tile: about [`TILE_BYTES`] of weights, and at least four tiles for each thread.
fn grain(team: &Team<'_>, parts: &[Matrix<'_>], tokens: usize) -> usize {
    let rows: usize = parts.iter().map(Matrix::rows).sum();
    let bytes: usize = parts.iter().map(|p| p.bytes()).sum();
    let by_size = TILE_BYTES / bytes.checked_div(rows).unwrap_or(1).max(1);
    let by_share = rows / (4 * team.threads());
    // Groups of 5 or 320 rows must not be torn either.
    let groups = parts.iter().map(|p| p.ty().lanes());
    let own = if tokens > 1 && parts.iter().any(|p| p.ty().lanes() == 1) { 4 * ROW_GROUP } else { ROW_GROUP };
    let group = groups.fold(own, |a, b| a / common(a, b) * b);
    // Tables made for a call must pay.
    let least = if parts.iter().any(|p| p.ty() == QuantType::Q1_0_R32) { TABLE_ROWS } else { 1 };
    by_size.min(by_share).max(least).next_multiple_of(group)
}

/// The greatest common divisor.
fn common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuFeatures;
    use crate::mem::Arena;
    use crate::parallel::{Serial, with_team};
    use crate::quant::ActRow;
    use std::vec;
    use std::vec::Vec;

    /// Tiles hold whole groups of every part that shares them.
    #[test]
    fn tiles_tear_no_group() {
        let k = 640;
        let matrix = |ty: QuantType, data| Matrix::new(ty, 6400, k, data).unwrap();
        let data = |ty: QuantType| vec![0u8; ty.tensor_bytes(6400, k).unwrap()];
        let (rows, packed, columns) = (data(QuantType::T3R), data(QuantType::T3), data(QuantType::T3C));
        let (rows, packed) = (matrix(QuantType::T3R, &rows), matrix(QuantType::T3, &packed));
        let columns = matrix(QuantType::T3C, &columns);
        with_team(&Serial, |team| {
            for (parts, group) in [(&[packed, rows][..], 320), (&[rows], 64), (&[packed], 80), (&[columns], 320)] {
                assert!(grain(team, parts, 128).is_multiple_of(group), "{group}");
            }
        });
    }

    /// True-binary weights see the signs that were asked for, whatever else is in the batch.
    #[test]
    fn signs_are_deterministic_or_seeded() {
        let (rows, k, n) = (3, 128, 2);
        let values: Vec<f32> = (0..rows * k).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
        let x: Vec<f32> = (0..n * k).map(|i| ((i * 53 % 97) as f32 - 48.0) / 24.0).collect();
        let (ty, bytes) = (QuantType::B1, QuantType::B1.row_bytes(k).unwrap());
        let mut data = vec![0; rows * bytes];
        for (v, row) in values.chunks(k).zip(data.chunks_mut(bytes)) {
            ty.info().encode.unwrap()(v, row);
        }
        let matrix = Matrix::new(ty, rows, k, &data).unwrap();
        let kernels = crate::kernels::select(&CpuFeatures::compiled(), Some("scalar")).unwrap();
        let mut room = Arena::<8192>::new();
        let mut acts = ActBuffer::new(n, k, &mut room.carver()).unwrap();
        let mut results = vec![];
        for seed in [None, Some(1), Some(1), Some(2)] {
            acts.sign_seed = seed;
            let mut out = vec![0f32; n * rows];
            with_team(&Serial, |team| linear(team, &kernels, &[matrix], &x, &mut acts, &mut out));
            for (x, out) in x.chunks(k).zip(out.chunks(rows)) {
                let mut q = vec![0i8; k / 8];
                let sum = match seed {
                    Some(seed) => sign_stochastic(x, seed, &mut q),
                    None => kernels.quantize(ActKind::Sign, x, &mut q, &mut [], &mut []),
                };
                let act = ActRow { x: &[], q: &q, d: &[], bsums: &[], sum };
                let want: Vec<f32> = data.chunks(bytes).map(|row| (ty.info().dot)(row, act)).collect();
                assert_eq!(out, want);
            }
            results.push(out);
        }
        assert_eq!(results[1], results[2]);
        assert!(results[0] != results[1] && results[1] != results[3]);
    }
}
