//! The reference level: every entry from the scalar code of [`crate::quant`].

use super::{Kernels, RowsFn};
use crate::mem::TileMut;
use crate::quant::{Acts, QuantType, RowSpan};

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
            *o = (ty.lane(row).dot)(&w.data[group..group + w.row_bytes], act) * w.scale;
        }
    }
}

macro_rules! reference_rows {
    ($($i:literal)*) => {
        /// One instance per type number; there may be more than types.
        const INSTANCES: &[RowsFn] = &[$(rows::<{ if $i < QuantType::COUNT { $i } else { 0 } }>),*];
    };
}
reference_rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);

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
    float: FLOAT,
};
