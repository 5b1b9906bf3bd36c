//! Q2_0_R16, trill's own: [`super::q2_0`] with 16 rows interleaved, see [`super::interleaved`].

use super::interleaved::{Interleaved, info, panel};
use super::{Panel, QuantType, TypeInfo};

pub(super) struct R16;

impl Interleaved for R16 {
    const SOURCE: QuantType = QuantType::Q2_0;
    const BLOCK: usize = 64;
    const UNIT: usize = 32;
}

pub(super) const INFO: TypeInfo = info::<R16>("Q2_0_R16", 207);

pub(super) static PANEL: Panel = panel::<R16>();
