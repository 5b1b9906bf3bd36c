//! Taking positions out of a full cache: the rows after the gap move down, and their keys are turned to their new
//! positions. Nothing is read again.
//!
//! A key is stored rotated by its position (RoPE), and rotations add up: turning it by the difference of two positions
//! gives the key of the other one. Packed rows are unpacked, turned and packed again; those that the window still
//! holds as Q8 are packed from there. A row is turned once each time something before it is taken out. Where rows come
//! to lie among the first positions, those are made of them, and of their keys the mean.

use super::format::{F16, Q2, Q3, Q4, Q8, RowFormat};
use super::rewind::Mark;
use super::{Half, KvCache, KvShape, KvType};
use crate::kernels::Kernels;
use crate::limits::HEAD_DIM_MAX;
use core::ops::Range;

impl KvType {
    /// A stored row back to values, still rotated where the type rotates.
    fn load(self, row: &[u8], out: &mut [f32]) {
        let d = match self {
            KvType::F16 => F16::load(row, out),
            KvType::Q8 => Q8::load(row, out),
            KvType::Q4 => Q4::load(row, out),
            KvType::Q2 => Q2::load(row, out),
            KvType::Q3 => Q3::load(row, out),
        };
        out.iter_mut().for_each(|v| *v *= d);
    }
}

impl Half<'_> {
    /// The positions whose rows come from the ring, when there are `end`: those of the window and no others.
    fn ring_from(&self, end: usize) -> usize {
        if self.ring == 0 { usize::MAX } else { self.ty.needed_from(end, self.exact_from) }
    }

    /// Rows of head `index` after the gap move down, up to that of position `end`. Keys come with the way to `turn` them.
    fn shift(
        &mut self,
        kernels: &Kernels,
        shape: &KvShape,
        index: usize,
        gap: &Range<usize>,
        end: usize,
        mut turn: Option<&mut dyn FnMut(&mut [f32])>,
    ) {
        let (d, bytes) = (shape.head_dim, self.ty.row_bytes(shape.head_dim));
        let (first, ring, recent) = (self.first, self.ring, self.ring_from(end));
        let mut offset = [0f32; HEAD_DIM_MAX];
        self.offset(shape, index).iter().zip(&mut offset).for_each(|(from, to)| *to = *from);
        let exact = self.exact_range(shape, index);
        let exact_bytes = KvType::EXACT.row_bytes(d);
        // The ring's rows come to lie where their new positions have them.
        let turned = gap.len().checked_rem(ring).unwrap_or(0);
        self.exact[exact.clone()][first * exact_bytes..].rotate_left(turned * exact_bytes);
        let mut row = [0f32; HEAD_DIM_MAX];
        let row = &mut row[..d];
        for from in gap.end..end {
            let to = from - gap.len();
            let in_ring = from >= recent;
            let source = if from < first {
                Some(from)
            } else {
                in_ring.then(|| first + ((from - first) % ring + ring - turned) % ring)
            };
            let packed = index * shape.capacity * bytes;
            if turn.is_none() && to >= first {
                self.packed.copy_within(packed + from * bytes..packed + (from + 1) * bytes, packed + to * bytes);
                continue;
            }
            match source {
                Some(slot) => KvType::EXACT.load(&self.exact[exact.clone()][slot * exact_bytes..][..exact_bytes], row),
                None => {
                    self.ty.load(&self.packed[packed + from * bytes..][..bytes], row);
                    row.iter_mut().zip(&offset).for_each(|(v, o)| *v += o);
                }
            }
            if let Some(turn) = &mut turn {
                if self.ty.rotates() {
                    kernels.hadamard(row);
                }
                turn(row);
                if self.ty.rotates() {
                    kernels.hadamard(row);
                }
            }
            self.put(kernels, shape, index, to, in_ring, row);
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
        for index in 0..shape.layers * shape.heads {
            let layer = index / shape.heads;
            self.v.shift(kernels, &shape, index, &gap, end, None);
            self.k.shift(kernels, &shape, index, &gap, end, Some(&mut |key: &mut [f32]| turn(layer, key)));
        }
        for half in [&mut self.k, &mut self.v] {
            if half.ring != 0 {
                half.exact_from = half.ring_from(end).max(gap.end) - gap.len();
                half.kept_from = half.exact_from;
                half.mark = Mark::default();
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
    use core::mem::MaybeUninit;
    use std::vec;
    use std::vec::Vec;

    const SHAPE: KvShape = KvShape { layers: 2, heads: 2, head_dim: 32, capacity: 400 };

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
                match rows.row(t, KvType::EXACT.row_bytes(SHAPE.head_dim)) {
                    (bytes, true) => KvType::EXACT.load(bytes, &mut row),
                    (bytes, false) => {
                        ty.load(bytes, &mut row);
                        row.iter_mut().zip(rows.offset).for_each(|(v, o)| *v += o);
                    }
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
            let mut memory = [vec![MaybeUninit::uninit(); 1 << 20], vec![MaybeUninit::uninit(); 1 << 20]];
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
                    // Packed twice, once before and once after: no more noise than that. Values are packed twice
                    // where they have come among the first positions.
                    let limit = match ty {
                        KvType::F16 | KvType::Q8 => 1e-4,
                        KvType::Q4 => 0.02,
                        KvType::Q3 => 0.06,
                        KvType::Q2 => 0.2,
                    };
                    let limit = if keys || ty.window() > 0 { limit } else { f64::MIN_POSITIVE };
                    assert!(error / power <= limit, "{ty:?} keys {keys} +{more}: {}", error / power);
                }
            }
        }
    }
}
