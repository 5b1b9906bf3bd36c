//! Bytes that one new token reads, by part of the model.

use trill::model::Model;
use trill::quant::Matrix;

/// Bytes of the matrices that every token is multiplied with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) attention: u64,
    pub(crate) gate_up: u64,
    pub(crate) down: u64,
    pub(crate) head: u64,
}

impl Traffic {
    /// What `model` reads for a token, its cache of keys and values and its small vectors left out.
    pub(crate) fn of(model: &Model<'_>) -> Traffic {
        let bytes = |m: &Matrix<'_>| m.bytes() as u64;
        let all = |parts: &[Matrix<'_>]| parts.iter().map(bytes).sum::<u64>();
        let mut traffic = Traffic { head: bytes(&model.output), ..Traffic::default() };
        for layer in model.layers {
            traffic.attention += all(layer.qkv_parts()) + bytes(&layer.wo);
            traffic.gate_up += all(layer.gate_up_parts());
            traffic.down += bytes(&layer.down);
        }
        traffic
    }

    /// The parts with their names, the total last.
    pub(crate) fn parts(&self) -> [(&'static str, u64); 5] {
        let total = self.attention + self.gate_up + self.down + self.head;
        let Traffic { attention, gate_up, down, head } = *self;
        [("attention", attention), ("gate and up", gate_up), ("down", down), ("head", head), ("together", total)]
    }
}
