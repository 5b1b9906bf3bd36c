//! Which weight type a tensor's number stands for.
//!
//! The number is enough for every type but 42, which three projects have given to three types. What tells
//! them apart is the size: the distance from one tensor to the next is the padded size of the first.

use super::Defect;
use crate::quant::QuantType;

/// The number with several meanings.
pub(super) const TYPE_42: u32 = 42;

/// The meanings of 42, as messages name them; see [`CANDIDATES`].
pub(super) const TYPE_42_NAMES: &str = "Q2_0 (64 weights), PrismML's Q2_0 (128 weights), Tencent's STQ1_0";

/// The meanings of 42: ggml's Q2_0 (18 bytes for 64 weights), PrismML's first Q2_0 (34 bytes for 128) and
/// Tencent's STQ1_0 as first shipped (42 bytes for 256).
const CANDIDATES: [QuantType; 3] = [QuantType::Q2_0, QuantType::Q2_0_G128, QuantType::STQ1_0];

/// The type with a number other than 42.
pub(super) fn by_id(id: u32) -> Result<QuantType, Defect> {
    QuantType::from_ggml(id).ok_or(match id {
        4 | 5 | 31..=33 | 37 => Defect::TypeRemoved { id },
        9 | 15..=29 | 38..=40 => Defect::TypeRefused { id },
        _ => Defect::TypeUnknown { id },
    })
}

/// Why a type is refused and what to do about it, to follow "tensor type N".
pub(super) fn refusal(id: u32) -> &'static str {
    match id {
        4 | 5 => "is Q4_2 or Q4_3, which ggml removed in 2023; convert the model anew",
        31..=33 => "is a repacked Q4_0, which ggml removed in 2024; use the model's Q4_0 file",
        37 => "is I8_S or a repacked IQ4_NL, neither of which is a type of weights; convert the model anew",
        38 => "is TL1, whose tile sizes are not in the file but in its maker's build; use the model's I2_S file",
        39 => {
            "is MXFP4, or TL2, whose tile sizes are not in the file but in its maker's build; \
             use the model's Q4_0 or I2_S file"
        }
        9 | 15 => "is a form of activations, not of weights; convert the model anew",
        16..=23 | 29 => "is an IQ type, which trill does not compute with; use the model's Q4_K or Q2_K file",
        24..=28 => "is a type of plain numbers, not of weights; convert the model anew",
        40 => "is NVFP4, which trill does not compute with; use the model's Q4_0 file",
        _ => "is not known to this version of trill; convert the model to another type",
    }
}

/// Finds out what 42 means in one file, from all its tensors of that number: a file has one producer, so
/// all of them mean the same.
pub(super) struct Type42 {
    /// Bit `i`: `CANDIDATES[i]` fits every tensor so far.
    fits: u8,
    /// Some tensor has said something.
    asked: bool,
}

impl Type42 {
    pub(super) fn new() -> Self {
        Type42 { fits: (1 << CANDIDATES.len()) - 1, asked: false }
    }

    /// A tensor with `distance` bytes to the next one. The file's `last` tensor, which ends padded or not,
    /// has no say if nothing fits: the file may be cut or have something appended.
    pub(super) fn observe(
        &mut self,
        rows: usize,
        cols: usize,
        distance: usize,
        alignment: usize,
        last: bool,
    ) -> Result<(), Defect> {
        let mut fits = 0;
        for (i, ty) in CANDIDATES.iter().enumerate() {
            let bytes = ty.tensor_bytes(rows, cols);
            let padded = bytes.and_then(|b| b.checked_next_multiple_of(alignment));
            if padded == Some(distance) || last && bytes == Some(distance) {
                fits |= 1 << i;
            }
        }
        match (fits, last) {
            (0, true) => Ok(()),
            (0, false) => Err(Defect::Type42None { distance: distance as u64 }),
            _ => {
                self.fits &= fits;
                self.asked = true;
                if self.fits == 0 { Err(Defect::Type42Mixed) } else { Ok(()) }
            }
        }
    }

    /// The one meaning that fits every tensor.
    pub(super) fn decide(&self) -> Result<QuantType, Defect> {
        let mut fitting = CANDIDATES.iter().enumerate().filter(|(i, _)| self.fits >> i & 1 != 0);
        match (fitting.next(), fitting.next()) {
            (Some((_, &ty)), None) if self.asked => Ok(ty),
            _ => Err(Defect::Type42Ambiguous),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds tensors of `ty` laid out one after the other, as a file of its producer has them.
    fn file(ty: QuantType, shapes: &[(usize, usize)], last_padded: bool) -> Result<QuantType, Defect> {
        let mut vote = Type42::new();
        for (i, &(rows, cols)) in shapes.iter().enumerate() {
            let last = i + 1 == shapes.len();
            let bytes = ty.tensor_bytes(rows, cols).unwrap();
            let distance = if last && !last_padded { bytes } else { bytes.next_multiple_of(32) };
            vote.observe(rows, cols, distance, 32, last)?;
        }
        vote.decide()
    }

    #[test]
    fn tells_the_three_apart() {
        for ty in CANDIDATES {
            for shapes in [&[(64, 256)][..], &[(1, 256), (2048, 2048), (6144, 2048)], &[(5, 4096), (1, 256)]] {
                for padded in [false, true] {
                    assert_eq!(file(ty, shapes, padded), Ok(ty), "{ty:?} {shapes:?}");
                }
            }
        }
        // Columns that only the finer blocks divide.
        assert_eq!(file(QuantType::Q2_0, &[(64, 192), (64, 192)], true), Ok(QuantType::Q2_0));
    }

    #[test]
    fn refuses_what_it_cannot_tell() {
        // 256 weights: 72 and 68 bytes are both padded to 96.
        let mut vote = Type42::new();
        vote.observe(1, 256, 96, 32, false).unwrap();
        assert_eq!(vote.decide(), Err(Defect::Type42Ambiguous));
        assert_eq!(vote.observe(1, 256, 64, 32, false), Err(Defect::Type42Mixed));
        let mut vote = Type42::new();
        assert_eq!(vote.observe(1, 256, 128, 32, false), Err(Defect::Type42None { distance: 128 }));
        // A cut last tensor says nothing; alone it leaves the question open.
        vote.observe(64, 256, 100, 32, true).unwrap();
        assert_eq!(vote.decide(), Err(Defect::Type42Ambiguous));
        // Sizes that overflow fit nothing.
        assert!(vote.observe(usize::MAX / 256, 256, 96, 32, false).is_err());
    }

    #[test]
    fn every_type_is_found_by_its_number() {
        for &ty in QuantType::ALL {
            if let Some(id) = ty.info().ggml_id {
                assert_eq!(by_id(id), Ok(ty));
            }
        }
        assert_eq!(by_id(38), Err(Defect::TypeRefused { id: 38 }));
        assert_eq!(by_id(4), Err(Defect::TypeRemoved { id: 4 }));
        assert_eq!(by_id(4711), Err(Defect::TypeUnknown { id: 4711 }));
    }
}
