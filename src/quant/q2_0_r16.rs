//! Q2_0_R16, trill's own: [`super::q2_0`] with 16 rows interleaved, see [`super::interleaved`].

use super::interleaved::{Interleaved, info, lanes};
use super::{QuantType, TypeInfo};

pub(super) struct R16;

impl Interleaved for R16 {
    const SOURCE: QuantType = QuantType::Q2_0;
    const BLOCK: usize = 64;
    const UNIT: usize = 32;
}

pub(super) const INFO: TypeInfo = info::<R16>("Q2_0_R16", 207, lanes!(R16; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15));
