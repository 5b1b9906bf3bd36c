//! TQ2_0_R16, trill's own: [`super::tq2_0`] with 16 rows interleaved, see [`super::interleaved`].

use super::interleaved::{Interleaved, info, panel};
use super::{Panel, QuantType, TypeInfo};

pub(super) struct R16;

impl Interleaved for R16 {
    const SOURCE: QuantType = QuantType::TQ2_0;
    const BLOCK: usize = 256;
    const UNIT: usize = 256;
}

pub(super) const INFO: TypeInfo = info::<R16>("TQ2_0_R16", 209);

pub(super) static PANEL: Panel = panel::<R16>();
