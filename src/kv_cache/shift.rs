//! Taking positions out of a full cache: the rows after the gap move down, and their keys are turned to their new
//! positions. Nothing is read again.
//!
//! A key is stored rotated by its position (RoPE), and rotations add up: turning it by the difference of two positions
//! gives the key of the other one. Packed rows are unpacked, turned and packed again; those that the window still
//! holds in f16 are packed from there. A row is turned once each time something before it is taken out.

use super::format::{F16, Q2, Q4, Q8, RowFormat};
use super::{Half, KvCache, KvShape, KvType};
use crate::kernels::Kernels;
use crate::limits::HEAD_DIM_MAX;
use core::ops::Range;

impl KvType {
    /// A stored row back to values, still rotated where the type rotates.
    fn load(self, row: &[u8], out: &mut [f32]) {
        match self {
            KvType::F16 => F16::load(row, out),
            KvType::Q8 => Q8::load(row, out),
            KvType::Q4 => Q4::load(row, out),
            KvType::Q2 => Q2::load(row, out),
        }
    }
}

impl Half<'_> {
    /// Rows of head `index` after the gap move down, packed and recent alike.
    fn move_down(&mut self, shape: &KvShape, index: usize, gap: &Range<usize>, end: usize) {
        let bytes = self.ty.row_bytes(shape.head_dim);
        let start = index * shape.capacity * bytes;
        self.packed.copy_within(start + gap.end * bytes..start + end * bytes, start + gap.start * bytes);
        if self.ring != 0 {
            let bytes = KvType::F16.row_bytes(shape.head_dim);
            let rows = &mut self.recent[index * self.ring * bytes..][..self.ring * bytes];
            rows.rotate_left(gap.len() % self.ring * bytes);
        }
    }

    /// The positions, counted after the move, whose rows the ring holds.
    fn recent_after(&self, gap: &Range<usize>, end: usize) -> usize {
        match self.ring {
            0 => usize::MAX,
            ring => self.valid_from.max(end.saturating_sub(ring)).max(gap.end) - gap.len(),
        }
    }

    /// Turns the keys of head `index` at `positions` (counted after the move) with `turn`; those from `recent` on come
    /// from the ring.
    fn turn(
        &mut self,
        kernels: &Kernels,
        shape: &KvShape,
        index: usize,
        positions: Range<usize>,
        recent: usize,
        turn: &mut dyn FnMut(&mut [f32]),
    ) {
        let mut row = [0f32; HEAD_DIM_MAX];
        let row = &mut row[..shape.head_dim];
        for position in positions {
            let bytes = self.ty.row_bytes(shape.head_dim);
            let packed = &mut self.packed[(index * shape.capacity + position) * bytes..][..bytes];
            let bytes = KvType::F16.row_bytes(shape.head_dim);
            let ring_row = (position >= recent)
                .then(|| &mut self.recent[(index * self.ring + position % self.ring) * bytes..][..bytes]);
            match &ring_row {
                Some(ring_row) => F16::load(ring_row, row),
                None => self.ty.load(packed, row),
            }
            if self.ty.rotates() {
                kernels.hadamard(row);
            }
            turn(row);
            if self.ty.rotates() {
                kernels.hadamard(row);
            }
            kernels.kv_store(self.ty, row, packed);
            if let Some(ring_row) = ring_row {
                kernels.kv_store(KvType::F16, row, ring_row);
            }
        }
    }
}

impl KvCache<'_> {
    /// Forgets the positions of `gap`; those after it, up to `end`, move down into its place. `turn` gets a layer and one
    /// head's key and must turn it by `gap.len()` positions backwards.
    ///
    /// # Panics
    /// If the positions do not exist: a bug of the caller.
    pub fn shift(&mut self, kernels: &Kernels, gap: Range<usize>, end: usize, turn: &mut dyn FnMut(usize, &mut [f32])) {
        assert!(gap.start <= gap.end && gap.end <= end && end <= self.shape.capacity);
        let shape = self.shape;
        let moved = gap.start..end - gap.len();
        let recent = self.k.recent_after(&gap, end);
        for index in 0..shape.layers * shape.heads {
            self.v.move_down(&shape, index, &gap, end);
            self.k.move_down(&shape, index, &gap, end);
            let layer = index / shape.heads;
            self.k.turn(kernels, &shape, index, moved.clone(), recent, &mut |key| turn(layer, key));
        }
        for half in [&mut self.k, &mut self.v] {
            if half.ring != 0 {
                half.valid_from = half.recent_after(&gap, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuFeatures;
    use crate::kernels::select;
    use crate::mem::{ALIGN, Carver};
    use std::vec;
    use std::vec::Vec;

    const SHAPE: KvShape = KvShape { layers: 2, heads: 2, head_dim: 32, capacity: 400, batch: 8 };

    /// Value `i` of the token that a text has at `position`.
    fn value(position: usize, i: usize) -> f32 {
        let mut state = (position * 64 + i) as u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..13).map(|_| uniform()).sum()
    }

    /// Rotates pairs of neighbours by 0.01 for each position.
    fn turn(key: &mut [f32], positions: f32) {
        let (sin, cos) = (libm::sinf(0.01 * positions), libm::cosf(0.01 * positions));
        for pair in key.chunks_exact_mut(2) {
            (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
        }
    }

    /// Keys of the rows attention would read for a query at the end, back to values.
    fn read(kernels: &Kernels, cache: &KvCache<'_>, ty: KvType, end: usize, keys: bool) -> Vec<f32> {
        let mut all = vec![];
        for (layer, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (k, v) = cache.head(layer, head, 0..end);
            let rows = if keys { k } else { v };
            for t in 0..end {
                let mut row = [0f32; SHAPE.head_dim];
                if t < rows.recent_from {
                    ty.load(&rows.packed[t * rows.row_bytes..][..rows.row_bytes], &mut row);
                } else {
                    F16::load(&rows.recent[t % rows.ring * 64..][..64], &mut row);
                }
                if ty.rotates() {
                    kernels.hadamard(&mut row);
                }
                all.extend(row);
            }
        }
        all
    }

    /// Stores what a text that lacks `gap` tokens has at `positions`.
    fn fill(kernels: &Kernels, cache: &mut KvCache<'_>, ty: KvType, positions: Range<usize>, gap: usize) {
        for p in positions {
            for layer in 0..SHAPE.layers {
                let values: Vec<f32> = (0..64).map(|i| value(p + gap + 1000 * layer, i)).collect();
                let mut keys = values.clone();
                turn(&mut keys, p as f32);
                let rotated = |mut row: Vec<f32>| {
                    if ty.rotates() {
                        row.chunks_exact_mut(32).for_each(|head| kernels.hadamard(head));
                    }
                    row
                };
                cache.store(kernels, layer, p, &rotated(keys), &rotated(values));
            }
        }
    }

    #[test]
    fn what_is_left_reads_as_if_the_rest_had_never_been() {
        let kernels = select(&CpuFeatures::compiled(), None).unwrap();
        for ty in KvType::ALL {
            let mut memory = [vec![0u8; 1 << 20], vec![0u8; 1 << 20]];
            let [mut a, mut b] = memory.each_mut().map(|m| {
                let skip = m.as_ptr().align_offset(ALIGN);
                KvCache::new(ty, ty, SHAPE, &mut Carver::over(&mut m[skip..]).unwrap()).unwrap()
            });
            let (keep, gap, end) = (10, 133, 390);
            fill(&kernels, &mut a, ty, 0..end, 0);
            a.shift(&kernels, keep..keep + gap, end, &mut |_, key| turn(key, -(gap as f32)));
            fill(&kernels, &mut b, ty, 0..keep, 0);
            fill(&kernels, &mut b, ty, keep..end - gap, gap);
            let mut end = end - gap;
            for more in [0, 7, 100] {
                fill(&kernels, &mut a, ty, end..end + more, gap);
                fill(&kernels, &mut b, ty, end..end + more, gap);
                end += more;
                for keys in [true, false] {
                    let (got, want) = (read(&kernels, &a, ty, end, keys), read(&kernels, &b, ty, end, keys));
                    let square = |v: f64| v * v;
                    let power: f64 = want.iter().map(|w| square(f64::from(*w))).sum();
                    let error: f64 = got.iter().zip(&want).map(|(g, w)| square(f64::from(g - w))).sum();
                    // Packed twice, once before and once after: no more noise than that.
                    let limit = match ty {
                        KvType::F16 | KvType::Q8 => 1e-4,
                        KvType::Q4 => 0.02,
                        KvType::Q2 => 0.2,
                    };
                    let limit = if keys { limit } else { f64::MIN_POSITIVE };
                    assert!(error / power <= limit, "{ty:?} keys {keys} +{more}: {}", error / power);
                }
            }
        }
    }
}
