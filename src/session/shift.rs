//! Making room in a full context without reading anything again.

use super::Session;
use crate::limits::HEAD_DIM_MAX;

impl Session<'_, '_> {
    /// Forgets `gap` tokens from position `keep` on. What comes after them moves down: its keys are turned to their new
    /// positions, its values stay. What those tokens said of the forgotten ones stays in them, so the state is not
    /// that of a text without the gap; it costs no reading, and takes no memory. Positions that do not exist are left
    /// alone.
    pub fn forget(&mut self, keep: usize, gap: usize) {
        let keep = keep.min(self.position);
        let gap = gap.min(self.position - keep);
        if gap == 0 {
            return;
        }
        let (mut angles, half) = ([[[0f32; HEAD_DIM_MAX / 2]; 2]; 2], self.model.hparams.rope.n_rot / 2);
        for (local, [cos, sin]) in [false, true].into_iter().zip(&mut angles) {
            self.buffers.angles_back(local, gap, &mut cos[..half], &mut sin[..half]);
        }
        let (model, kernels) = (self.model, &self.kernels);
        self.cache.shift(kernels, keep..keep + gap, self.position, &mut |layer, key| {
            let [cos, sin] = &angles[usize::from(model.hparams.is_windowed(layer))];
            model.turn_key(kernels, layer, key, &cos[..half], &sin[..half]);
        });
        self.position -= gap;
        self.unchanged = self.unchanged.min(keep);
    }
}
