//! Matrix products: the activation is brought into the form the weights want, then the team claims rows.

use crate::error::Result;
use crate::kernels::Kernels;
use crate::mem::Carver;
use crate::parallel::{Rows4, Team, Tiling};
use crate::quant::{ActKind, Acts, Matrix};

/// Bytes of weights in one claim: small enough that all cores stream the same neighbourhood of memory.
const TILE_BYTES: usize = 16 << 10;
/// Rows of a tile are a multiple of this, so that kernels work on whole groups of rows.
const ROW_GROUP: usize = 16;

/// Room for the int8 form of a batch of activations.
pub(crate) struct ActBuffer<'s> {
    q: &'s mut [i8],
    d: &'s mut [f32],
    bsums: &'s mut [i16],
    sums: &'s mut [i32],
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
        })
    }

    /// `x` (`n` rows of `k` values) in the form `kind`.
    fn fill<'b>(&'b mut self, team: &Team<'_>, kernels: &Kernels, kind: ActKind, x: &'b [f32], k: usize) -> Acts<'b> {
        let n = x.len().checked_div(k).unwrap_or(0);
        if kind == ActKind::F32 {
            return Acts { kind, n, k, x, q: &[], d: &[], bsums: &[], sums: &[] };
        }
        let (codes, scales, groups) = (kind.codes(k), kind.scales(k), kind.bsums(k));
        let (q, d) = (&mut self.q[..n * codes], &mut self.d[..n * scales]);
        let (bsums, sums) = (&mut self.bsums[..n * groups], &mut self.sums[..n]);
        let matrices =
            Rows4 { a: (&mut *q, codes), b: (&mut *d, scales), c: (&mut *bsums, groups), d: (&mut *sums, 1) };
        team.rows4(n, matrices, &|t, q, d, bsums, sum| {
            sum[0] = kernels.quantize(kind, &x[t * k..(t + 1) * k], q, d, bsums);
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
    let mut widths = [0usize; 4];
    let widths = &mut widths[..parts.len()];
    widths.iter_mut().zip(parts).for_each(|(w, p)| *w = p.rows());
    let Some(first) = parts.first() else { return };
    let k = first.cols();
    for kind in ActKind::ALL {
        if !parts.iter().any(|p| p.ty().info().act == kind) {
            continue;
        }
        let acts = acts.fill(team, kernels, kind, x, k);
        let tiling = Tiling { rows: acts.n, row_grain: acts.n.max(1), segments: widths, col_grain: grain(team, parts) };
        team.tiles(out, tiling, &mut [] as &mut [u8], &|place, mut tile, _| {
            let part = &parts[place.segment];
            if part.ty().info().act == kind {
                kernels.rows(part.ty(), &part.span(place.cols), &acts, &mut tile);
            }
        });
    }
}

/// Rows of a tile: about [`TILE_BYTES`] of weights, and at least four tiles for each thread.
fn grain(team: &Team<'_>, parts: &[Matrix<'_>]) -> usize {
    let rows: usize = parts.iter().map(Matrix::rows).sum();
    let bytes: usize = parts.iter().map(|p| p.data().len()).sum();
    let by_size = TILE_BYTES / bytes.checked_div(rows).unwrap_or(1).max(1);
    let by_share = rows / (4 * team.threads());
    by_size.min(by_share).next_multiple_of(ROW_GROUP)
}
