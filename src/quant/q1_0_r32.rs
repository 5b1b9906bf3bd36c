//! Q1_0_R32, trill's own: [`super::q1_0`] with 32 rows interleaved, see [`super::interleaved`].
//!
//! Byte `i` of the 16 bytes of four columns holds their signs of row `i` in its lower four bits, of row `16 + i` in its
//! upper, the first column lowest: an index into a table of the 16 sums that four activations can give.

use super::interleaved::{Interleaved, info, panel};
use super::{Panel, QuantType, TypeInfo};

pub(super) struct R32;

impl Interleaved for R32 {
    const SOURCE: QuantType = QuantType::Q1_0;
    const ROWS: usize = 32;
    const BLOCK: usize = 128;
    const UNIT: usize = 32;
    const BYTES: usize = 576;

    fn code(codes: &[u8], row: usize, k: usize) -> i8 {
        (codes[k / 4 * 16 + row % 16] >> (row / 16 * 4 + k % 4) & 1) as i8 * 2 - 1
    }

    fn set(codes: &mut [u8], row: usize, k: usize, code: i8) {
        codes[k / 4 * 16 + row % 16] |= u8::from(code > 0) << (row / 16 * 4 + k % 4);
    }
}

pub(super) const INFO: TypeInfo = info::<R32>("Q1_0_R32", 206);

pub(super) static PANEL: Panel = panel::<R32>();
