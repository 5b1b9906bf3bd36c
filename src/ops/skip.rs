//! Products of which parts are known to be zero: chosen rows of a matrix alone, and columns of inputs that are not 0.
//! The results are those of the whole product, bit for bit: sums of integers lose nothing with their zeros.

use super::screen::Workers;
use crate::error::Result;
use crate::mem::Carver;
use crate::parallel::Tiling;
use crate::quant::{Acts, Matrix, QuantType};

/// Rows of T3R in a claim: 16 KiB of a 2560-wide matrix.
const TILE_ROWS: usize = 32;

/// Which rows or columns of one token are read, and the activations of these columns.
pub(crate) struct Chosen<'s> {
    list: &'s mut [u32],
    q: &'s mut [i8],
}

impl<'s> Chosen<'s> {
    /// Room for a choice among `most`.
    pub(crate) fn new(most: usize, carver: &mut Carver<'s>) -> Result<Self> {
        // Columns are taken four at a time, and one more place lets a loop write before it counts.
        let room = most.next_multiple_of(4) + 4;
        Ok(Chosen { list: carver.take(room, 0)?, q: carver.take(room, 0)? })
    }

    /// Chooses the indices of what is above zero.
    pub(crate) fn positive(&mut self, values: &[f32]) -> &[u32] {
        let mut len = 0;
        for (i, v) in values.iter().enumerate() {
            self.list[len] = i as u32; // widths are below limits::FFN_MAX
            len += usize::from(*v > 0.0);
        }
        &self.list[..len]
    }

    /// Chooses the columns of one token's activation that are not 0. Returns how many there are.
    fn columns(&mut self, q: &[i8]) -> usize {
        let mut len = 0;
        for (i, q) in q.iter().enumerate() {
            self.list[len] = i as u32; // widths are below limits::FFN_MAX
            self.q[len] = *q;
            len += usize::from(*q != 0);
        }
        let whole = len.next_multiple_of(4);
        self.list[len..whole].fill(0);
        self.q[len..whole].fill(0);
        len
    }
}

/// Whether single rows of `m` can be chosen.
pub(crate) fn has_rows_apart(m: &Matrix<'_>) -> bool {
    m.ty() == QuantType::T3R
}

/// Whether single columns of `m` can be chosen.
pub(crate) fn has_columns_apart(m: &Matrix<'_>) -> bool {
    m.ty() == QuantType::T3C
}

/// `out[i]` = row `rows[i]` of `m` times the one token of `acts`.
pub(crate) fn chosen_rows(at: &Workers<'_, '_>, m: &Matrix<'_>, rows: &[u32], acts: &Acts<'_>, out: &mut [f32]) {
    let share = rows.len() / (4 * at.team.threads());
    let col_grain = TILE_ROWS.min(share).max(4);
    let tiling = Tiling { rows: 1, row_grain: 1, segments: &[rows.len()], col_grain };
    let all = m.span(0..m.rows());
    at.team.tiles(out, tiling, &mut [] as &mut [u8], &|place, mut tile, _| {
        at.kernels.listed_rows(&all, &rows[place.cols], acts, &mut tile);
    });
}

/// `out` = `m` times the one token of `acts`, without reading the columns whose activation is 0. Returns the number of
/// columns read.
pub(crate) fn nonzero_columns(
    at: &Workers<'_, '_>,
    m: &Matrix<'_>,
    acts: &Acts<'_>,
    chosen: &mut Chosen<'_>,
    out: &mut [f32],
) -> usize {
    let len = chosen.columns(acts.q);
    let whole = len.next_multiple_of(4);
    let list = &chosen.list[..whole];
    let acts = Acts { k: whole, q: &chosen.q[..whole], ..*acts };
    let tiling = Tiling { rows: 1, row_grain: 1, segments: &[m.rows()], col_grain: m.ty().lanes() };
    at.team.tiles(out, tiling, &mut [] as &mut [u8], &|place, mut tile, _| {
        at.kernels.listed_columns(&m.span(place.cols), list, &acts, &mut tile);
    });
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn with_chosen(run: impl FnOnce(&mut Chosen<'_>)) {
        let mut measure = Carver::measure();
        Chosen::new(300, &mut measure).unwrap();
        let mut memory = vec![core::mem::MaybeUninit::uninit(); measure.used() + 64];
        let from = memory.as_ptr().align_offset(64);
        run(&mut Chosen::new(300, &mut Carver::over(&mut memory[from..]).unwrap()).unwrap());
    }

    #[test]
    fn every_code_but_zero_is_read() {
        with_chosen(|chosen| {
            let codes: std::vec::Vec<i8> = (-128..=127).collect();
            assert_eq!(chosen.columns(&codes), 255);
            assert_eq!(&chosen.list[126..131], [126, 127, 129, 130, 131]);
            assert_eq!(&chosen.q[126..131], [-2, -1, 1, 2, 3]);
            // Up to a multiple of four what was there before is gone.
            assert_eq!((chosen.q[255], chosen.list[255]), (0, 0));
            assert_eq!(chosen.columns(&[0, 1, 0, -1, 0]), 2);
            assert_eq!((&chosen.list[..4], &chosen.q[..4]), (&[1, 3, 0, 0][..], &[1, -1, 0, 0][..]));
            assert_eq!(chosen.columns(&[0; 7]), 0);
        });
    }

    #[test]
    fn rows_are_read_whose_gate_is_positive() {
        with_chosen(|chosen| {
            let smallest = f32::from_bits(1);
            assert_eq!(chosen.positive(&[1.0, 0.0, -0.0, -1.0, smallest, f32::NAN, 7.0]), [0, 4, 6]);
        });
    }
}
