//! The cache as plain bytes, for shells that keep a session beyond the program. What leaves here comes back
//! bit for bit: the packed rows, the first and the newest positions as they are kept beside those, and from where on the
//! newest are valid.

use super::format::{self, RowFormat};
use super::rewind::Mark;
use super::{FIRST, Half, KvCache, KvType};
use core::ops::Range;

/// What a cache stores for a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KvPart {
    /// Keys, as the cache's type packs them.
    Keys,
    /// Values, as the cache's type packs them.
    Values,
    /// Keys of the newest positions in [`KvType::EXACT`]; empty for types without a window.
    RecentKeys,
    /// Values of the newest positions in [`KvType::EXACT`]; empty for types without a window.
    RecentValues,
    /// Keys of the first positions in [`KvType::EXACT`]; empty for types without a window.
    FirstKeys,
    /// Values of the first positions in [`KvType::EXACT`]; empty for types without a window.
    FirstValues,
}

impl KvPart {
    /// Every part.
    pub const ALL: [KvPart; 6] = [
        KvPart::Keys,
        KvPart::Values,
        KvPart::RecentKeys,
        KvPart::RecentValues,
        KvPart::FirstKeys,
        KvPart::FirstValues,
    ];

    fn is_packed(self) -> bool {
        matches!(self, KvPart::Keys | KvPart::Values)
    }

    fn is_recent(self) -> bool {
        matches!(self, KvPart::RecentKeys | KvPart::RecentValues)
    }

    fn is_of_keys(self) -> bool {
        matches!(self, KvPart::Keys | KvPart::RecentKeys | KvPart::FirstKeys)
    }
}

impl KvType {
    /// Differs where a row of this type would hold other bytes for the same values: a saved row can be read only
    /// by code with the same number. FNV-1a over which rows there are, whether they are
    /// rotated, and the row of a fixed ramp of 64 values.
    pub fn fingerprint(self) -> u32 {
        let mut ramp = [0f32; 64];
        for (i, v) in ramp.iter_mut().enumerate() {
            *v = (i * 37 % 64) as f32 - 31.5;
        }
        let mut row = [0u8; 256];
        let row = &mut row[..self.row_bytes(ramp.len())];
        match self {
            KvType::F16 => format::F16::store(&ramp, row),
            KvType::Q8 => format::Q8::store(&ramp, row),
            KvType::Q4 => format::Q4::store(&ramp, row),
            KvType::Q2 => format::Q2::store(&ramp, row),
            KvType::Q3 => format::Q3::store(&ramp, row),
        }
        let step = |h: u32, byte: &u8| (h ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let rules = [self.window() as u32, self.first() as u32, u32::from(self.rotates())];
        let rules = rules.iter().flat_map(|n| n.to_le_bytes()).fold(0x811c_9dc5, |h, byte| step(h, &byte));
        row.iter().fold(rules, step)
    }
}

impl KvCache<'_> {
    fn half(&self, part: KvPart) -> &Half<'_> {
        if part.is_of_keys() { &self.k } else { &self.v }
    }

    /// Bytes of one head's row in `part`.
    pub fn part_row_bytes(&self, part: KvPart) -> usize {
        let ty = if part.is_packed() { self.half(part).ty } else { KvType::EXACT };
        ty.row_bytes(self.shape.head_dim)
    }

    /// Heads of all layers together: rows that `part` has for a position.
    pub fn rows_per_position(&self) -> usize {
        self.shape.layers * self.shape.heads
    }

    /// The positions that `part` holds when `len` positions are stored.
    pub fn held(&self, part: KvPart, len: usize) -> Range<usize> {
        let half = self.half(part);
        match part {
            _ if part.is_recent() => half.kept(len)..len,
            _ if part.is_packed() => 0..len,
            _ => 0..len.min(half.first),
        }
    }

    /// Where the rows of `range` lie: at most two runs of positions, each with its bytes' offset in the part. A ring's
    /// rows break where it wraps.
    fn runs(&self, part: KvPart, row: usize, range: Range<usize>) -> [(Range<usize>, usize); 2] {
        let (half, bytes) = (self.half(part), self.part_row_bytes(part));
        let slots = if part.is_packed() { self.shape.capacity } else { half.first + half.ring };
        let at = |slot: usize| (row * slots + slot) * bytes;
        if !part.is_recent() || range.is_empty() {
            return [(range.clone(), at(range.start)), (range.end..range.end, 0)];
        }
        let start = (range.start - half.first) % half.ring;
        let middle = range.end.min(range.start + half.ring - start);
        [(range.start..middle, at(half.first + start)), (middle..range.end, at(half.first))]
    }

    /// Hands out the bytes of `range` in `part`: rows of a head in the order of positions, heads in the order of
    /// layers.
    ///
    /// # Panics
    /// If `range` is not inside [`KvCache::held`]: a bug of the caller.
    pub fn export(&self, part: KvPart, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) {
        let (half, bytes) = (self.half(part), self.part_row_bytes(part));
        let store: &[u8] = if part.is_packed() { half.packed } else { half.exact };
        for row in 0..self.rows_per_position() {
            for (run, at) in self.runs(part, row, range.clone()) {
                if !run.is_empty() {
                    visit(&store[at..][..run.len() * bytes]);
                }
            }
        }
    }

    /// Has `len` positions filled in from outside, the newest from `kept_from` on as such too (keys, values; at most as many
    /// as are counted on), to be read as such from `exact_from` on. `fill` gets the part, the number of the head among those
    /// of all layers, the positions and the room for their rows. Returns how many positions there are then: fewer where the
    /// newest that are needed to go on were not given.
    ///
    /// # Panics
    /// If `len` is over the capacity: a bug of the caller.
    pub fn import(
        &mut self,
        len: usize,
        [kept_from, exact_from]: [[usize; 2]; 2],
        fill: &mut dyn FnMut(KvPart, usize, Range<usize>, &mut [u8]),
    ) -> usize {
        for (half, (kept, exact)) in [&mut self.k, &mut self.v].into_iter().zip(kept_from.into_iter().zip(exact_from)) {
            half.exact_from = if half.ring == 0 { 0 } else { exact.min(len) };
            half.kept_from = kept.min(len);
            half.mark = Mark::default();
        }
        for part in KvPart::ALL {
            let (range, bytes) = (self.held(part, len), self.part_row_bytes(part));
            for row in 0..self.rows_per_position() {
                for (run, at) in self.runs(part, row, range.clone()) {
                    let half = if part.is_of_keys() { &mut self.k } else { &mut self.v };
                    let store = if part.is_packed() { &mut *half.packed } else { &mut *half.exact };
                    if !run.is_empty() {
                        fill(part, row, run.clone(), &mut store[at..][..run.len() * bytes]);
                    }
                }
            }
        }
        if len >= FIRST {
            (0..self.rows_per_position()).for_each(|row| self.k.set_offset(&self.shape, row));
        }
        // What is missing is as if more had been there and were forgotten.
        let left = self.settle(len);
        self.set_mark(left);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuFeatures;
    use crate::kernels;
    use crate::kv_cache::KvShape;
    use crate::mem::Arena;
    use std::vec::Vec;

    type Block = Arena<{ 1 << 17 }>;

    const SHAPE: KvShape = KvShape { layers: 2, heads: 2, head_dim: 8, capacity: 200 };

    fn cache(block: &mut Block, k: KvType, v: KvType) -> KvCache<'_> {
        KvCache::new(k, v, SHAPE, &mut block.carver()).unwrap()
    }

    fn store(cache: &mut KvCache<'_>, position: usize) {
        let kernels = kernels::select(&CpuFeatures::default(), Some("scalar")).unwrap();
        for layer in 0..SHAPE.layers {
            let value = |i: usize| ((position * 31 + layer * 17 + i * 7) % 101) as f32 - 50.0;
            let keys: Vec<f32> = (0..16).map(value).collect();
            let values: Vec<f32> = (16..32).map(value).collect();
            cache.store(&kernels, layer, position, &keys, &values);
        }
    }

    /// All rows of a part, row by row, as a list with their head and position.
    fn rows(cache: &KvCache<'_>, part: KvPart, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        cache.export(part, cache.held(part, len), &mut |bytes| all.extend_from_slice(bytes));
        all
    }

    #[test]
    fn what_leaves_comes_back() {
        let (mut one, mut other) = (Block::new(), Block::new());
        for (k, v) in
            [(KvType::F16, KvType::Q8), (KvType::Q4, KvType::Q4), (KvType::Q2, KvType::F16), (KvType::Q3, KvType::Q2)]
        {
            for (len, back) in [(1, 0), (66, 0), (67, 0), (140, 0), (199, 0), (140, 3), (140, 8), (140, 100)] {
                let mut a = cache(&mut one, k, v);
                (0..len).for_each(|p| store(&mut a, p));
                let len = a.truncate(len - back, len);
                let mut b = cache(&mut other, k, v);
                let recent = [KvPart::RecentKeys, KvPart::RecentValues].map(|part| a.held(part, len).start);
                let all = KvPart::ALL.map(|part| rows(&a, part, len));
                let left = b.import(len, [recent, a.exact_from()], &mut |part, row, run, out| {
                    let held = a.held(part, len);
                    let at = (row * held.len() + run.start - held.start) * a.part_row_bytes(part);
                    out.copy_from_slice(&all[part as usize][at..][..out.len()]);
                });
                assert_eq!(left, len);
                for part in KvPart::ALL {
                    assert_eq!(a.held(part, len), b.held(part, len), "{k:?} {v:?} {len}");
                    assert!(rows(&b, part, len) == all[part as usize], "{k:?} {v:?} {len} {part:?}");
                }
                // The next position is read alike.
                for p in len..SHAPE.capacity.min(len + 3) {
                    store(&mut a, p);
                    store(&mut b, p);
                    let ((ka, va), (kb, vb)) = (a.head(1, 1, 0..p + 1), b.head(1, 1, 0..p + 1));
                    assert_eq!((ka.recent_from, va.recent_from), (kb.recent_from, vb.recent_from));
                    assert_eq!(ka.offset, kb.offset);
                }
            }
        }
    }

    #[test]
    fn fingerprints_differ() {
        let all = KvType::ALL.map(KvType::fingerprint);
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }
}
