//! How fast the weights can be read when nothing is computed: what decoding is measured against.

use super::Model;
use crate::parallel::{Executor, with_team};
use crate::quant::Matrix;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a matrix that are read as one job.
const PART: usize = 256 << 10;

impl Model<'_> {
    /// Reads once, with all threads and plain loads, the weights that a decode step streams: those of the layers, then
    /// the output head's, or with `sketched` those of its sketch if there is one. Returns their checksum, so that the
    /// reading cannot be left out.
    pub fn read_weights(&self, executor: &dyn Executor, sketched: bool) -> u64 {
        let head = self.sketch.as_ref().filter(|_| sketched).unwrap_or(&self.output);
        let matrices = || {
            let layers = self.layers.iter();
            layers.flat_map(|l| l.qkv.iter().chain([&l.wo]).chain(&l.gate_up).chain([&l.down])).chain([head])
        };
        let parts = |m: &Matrix<'_>| m.data().len().div_ceil(PART);
        let sum = AtomicU64::new(0);
        with_team(executor, |team| {
            team.each(matrices().map(parts).sum(), &|_, mut job| {
                for m in matrices() {
                    if job < parts(m) {
                        let part = m.data().chunks(PART).nth(job).unwrap_or_default();
                        sum.fetch_add(checksum(part), Ordering::Relaxed);
                        return;
                    }
                    job -= parts(m);
                }
            });
        });
        sum.into_inner()
    }
}

/// Of whole lines of 64 bytes.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 8];
    for line in bytes.as_chunks::<64>().0 {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum ^= u64::from_le_bytes(*word);
        }
    }
    sums.iter().fold(0, |all, sum| all ^ sum)
}
