//! The reference level: every entry from the scalar code of [`crate::quant`].

use super::{Kernels, RowsFn};
use crate::mem::TileMut;
use crate::quant::{Acts, QuantType, RowSpan, t3c_weight};

float_kernels!();

fn rows<const TYPE: usize>(w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    reference(QuantType::ALL[TYPE], w, acts, out);
}

/// [`RowsFn`] for any type.
pub(super) fn reference(ty: QuantType, w: &RowSpan<'_>, acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    for t in 0..acts.n {
        let act = acts.row(t);
        for (row, o) in out.row_mut(t).iter_mut().enumerate() {
            let group = row / ty.lanes() * w.row_bytes;
            *o = ty.dot_lane(row, &w.data[group..group + w.row_bytes], act) * w.scale;
        }
    }
}

fn listed_rows(w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    for t in 0..acts.n {
        for (&row, o) in list.iter().zip(out.row_mut(t)) {
            let row = &w.data[row as usize * w.row_bytes..][..w.row_bytes];
            *o = QuantType::T3R.dot_lane(0, row, acts.row(t)) * w.scale;
        }
    }
}

fn listed_columns(w: &RowSpan<'_>, list: &[u32], acts: &Acts<'_>, out: &mut TileMut<'_, f32>) {
    for t in 0..acts.n {
        let act = acts.row(t);
        for (row, o) in out.row_mut(t).iter_mut().enumerate() {
            let panel = &w.data[row / QuantType::T3C.lanes() * w.row_bytes..][..w.row_bytes];
            let term = |(&c, &q): (&u32, &i8)| t3c_weight(panel, row, c as usize) * i32::from(q);
            *o = list.iter().zip(act.q).map(term).sum::<i32>() as f32 / act.d[0] * w.scale;
        }
    }
}

macro_rules! reference_rows {
    ($($i:literal)*) => {
        /// One instance per type number; there may be more than types.
        const INSTANCES: &[RowsFn] = &[$(rows::<{ if $i < QuantType::COUNT { $i } else { 0 } }>),*];
    };
}
reference_rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39);

pub(super) static KERNELS: Kernels = BASE;

/// The table that backends start from.
pub(super) const BASE: Kernels = Kernels {
    name: "scalar",
    rows: {
        let mut table = [INSTANCES[0]; QuantType::COUNT];
        let mut i = 0;
        while i < QuantType::COUNT {
            table[i] = INSTANCES[i];
            i += 1;
        }
        table
    },
    listed_rows,
    listed_columns,
    float: FLOAT,
};
