//! Work on one token at a time.

use crate::parallel::{Team, Tiling};

/// Calls `body(token, row)` for each row of the matrix `out` of `width` columns: on the calling thread for
/// one token, spread over the team for more.
pub(crate) fn for_rows(team: &Team<'_>, out: &mut [f32], width: usize, body: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let rows = out.len().checked_div(width).unwrap_or(0);
    if rows <= 1 {
        out.chunks_exact_mut(width.max(1)).enumerate().for_each(|(t, row)| body(t, row));
        return;
    }
    let row_grain = rows.div_ceil(4 * team.threads()).max(1);
    let tiling = Tiling { rows, row_grain, segments: &[width], col_grain: width };
    team.tiles(out, tiling, &mut [] as &mut [u8], &|place, mut tile, _| {
        for (i, t) in place.rows.clone().enumerate() {
            body(t, tile.row_mut(i));
        }
    });
}
