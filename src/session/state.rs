//! A session's state as plain bytes: what a shell needs to keep a text beyond the program, and to put it back so
//! that every later logit has the bits it would have had.

use super::Session;
use crate::error::{Error, Result};
use crate::kv_cache::{KvPart, KvType};
use core::ops::Range;

/// What a saved state belongs to, beside the model's weights. States fit only where all of it is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateKey {
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Layers.
    pub layers: usize,
    /// Key-value heads of a layer.
    pub heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Storage of keys and of values.
    pub types: [KvType; 2],
    /// How rows are computed and laid out: a hash of positions' frequencies (some models choose them by the length
    /// of the context), of both types' [`KvType::fingerprint`], of whether keys lack their biases, and of the seed of random
    /// signs.
    pub arithmetic: u64,
}

impl Session<'_, '_> {
    /// What a state of this session belongs to.
    pub fn state_key(&self) -> StateKey {
        let hp = &self.model.hparams;
        let (k, v) = self.cache.types();
        let seed = self.buffers.acts.sign_seed.map_or(0, |s| s.wrapping_add(1));
        let types = [u64::from(k.fingerprint()), u64::from(v.fingerprint())];
        // FNV-1a, a word at a time.
        let step = |h: u64, word: u64| (h ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        let bias = hp.keys_without_bias(k).then_some(1);
        let arithmetic =
            self.buffers.position_bits().chain(types).chain([seed]).chain(bias).fold(0xcbf2_9ce4_8422_2325, step);
        StateKey {
            vocab: hp.n_vocab,
            layers: hp.n_layer,
            heads: hp.n_head_kv,
            head_dim: hp.head_dim,
            types: [k, v],
            arithmetic,
        }
    }

    /// The positions that `part` holds.
    pub fn held(&self, part: KvPart) -> Range<usize> {
        self.cache.held(part, self.position)
    }

    /// Bytes of one head's row in `part`.
    pub fn part_row_bytes(&self, part: KvPart) -> usize {
        self.cache.part_row_bytes(part)
    }

    /// How many positions, from the start on, hold what they held at the last [`Session::mark`].
    pub fn unchanged(&self) -> usize {
        self.unchanged
    }

    /// What is held now counts as unchanged from here on.
    pub fn mark(&mut self) {
        self.unchanged = self.position;
    }

    /// Hands out the rows of `range` in `part`: the heads of all layers in turn, each head's rows in the order of
    /// positions, in pieces of whole rows.
    ///
    /// # Panics
    /// If `range` is not inside [`Session::held`]: a bug of the caller.
    pub fn export(&self, part: KvPart, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) {
        let held = self.held(part);
        assert!(held.start <= range.start && range.end <= held.end);
        self.cache.export(part, range, visit);
    }

    /// From where on the newest positions are read as such (keys, values): to be given back to [`Session::import`].
    pub fn exact_from(&self) -> [usize; 2] {
        self.cache.exact_from()
    }

    /// Takes a state in place of the present one: as many positions as there are `tokens`, the newest as such too from
    /// `kept_from` on, to be read so from `exact_from` on (keys and values each; [`KvType::needed_from`] says which must be
    /// there). `fill` is asked for every row: the part, the head among those of all layers, the positions, and the room for their
    /// rows. Returns the position where the session stands then, which is lower where newest ones were missing.
    ///
    /// # Errors
    /// [`Error::ContextFull`] and [`Error::TokenOutOfRange`], before anything is changed.
    pub fn import(
        &mut self,
        tokens: &[u32],
        kept_from: [usize; 2],
        exact_from: [usize; 2],
        fill: &mut dyn FnMut(KvPart, usize, Range<usize>, &mut [u8]),
    ) -> Result<usize> {
        let (need, capacity, vocab) = (tokens.len(), self.config.context, self.model.hparams.n_vocab);
        if need > capacity {
            return Err(Error::ContextFull { need, capacity });
        }
        if let Some(&id) = tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(Error::TokenOutOfRange { id, vocab });
        }
        self.position = self.cache.import(need, [kept_from, exact_from], fill);
        self.unchanged = self.position;
        Ok(self.position)
    }
}
