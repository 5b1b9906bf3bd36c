//! Activations in the forms that dot products want.
//!
//! All int8 forms come from the same f32 row. The f32 operations below are part of the definition; they
//! are done by [`crate::kernels::Kernels::quantize`] and the scalar level is the reference.

/// A form of the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ActKind {
    /// f32 as it is.
    F32,
    /// int8 with one scale for the whole row (BitNet b1.58, I2_S): `amax = max(1e-5, max|x|)` in f64,
    /// `d = (127 / amax) as f32`, `q = clamp(round_even(x * d), -128, 127)`. A result is *divided* by `d`.
    Row,
    /// int8 with one scale per 32 values (ggml's Q8_0 without its rounding of the scale to f16):
    /// `amax = max|x|`, `d = amax / 127`, `id = 127 / amax` (0 if `amax` is 0), `q = round_even(x * id)`.
    Block32,
    /// int8 with one scale per 256 values (ggml's Q8_K): `m` the value of largest magnitude (the first of
    /// equals), `id = -127 / m` (0 if `m` is 0), `q = min(127, round_even(x * id))`, `d = 1 / id` (0 if 0).
    Block256,
}

impl ActKind {
    /// Every kind.
    pub const ALL: [ActKind; 4] = [ActKind::F32, ActKind::Row, ActKind::Block32, ActKind::Block256];
    /// Number of kinds.
    pub const COUNT: usize = 4;

    /// Scales of a row of `k` values.
    pub const fn scales(self, k: usize) -> usize {
        match self {
            ActKind::F32 => 0,
            ActKind::Row => 1,
            ActKind::Block32 => k.div_ceil(32),
            ActKind::Block256 => k.div_ceil(256),
        }
    }

    /// Group sums (`bsums`) of a row of `k` values: per 32 for [`ActKind::Block32`], per 16 for
    /// [`ActKind::Block256`].
    pub const fn bsums(self, k: usize) -> usize {
        match self {
            ActKind::F32 | ActKind::Row => 0,
            ActKind::Block32 => k.div_ceil(32),
            ActKind::Block256 => k.div_ceil(16),
        }
    }
}

/// One token's activation. Slices that the kind does not use are empty.
#[derive(Clone, Copy, Debug)]
pub struct ActRow<'a> {
    /// f32 values (`k`), for [`ActKind::F32`].
    pub x: &'a [f32],
    /// int8 values (`k`).
    pub q: &'a [i8],
    /// Scales, see [`ActKind::scales`].
    pub d: &'a [f32],
    /// Sums of `q` over groups, see [`ActKind::bsums`].
    pub bsums: &'a [i16],
    /// Sum of all `q`.
    pub sum: i32,
}

/// The activations of `n` tokens, one form, row after row.
#[derive(Clone, Copy, Debug)]
pub struct Acts<'a> {
    /// The form.
    pub kind: ActKind,
    /// Tokens.
    pub n: usize,
    /// Values of a token.
    pub k: usize,
    /// `n * k` values for [`ActKind::F32`], else empty.
    pub x: &'a [f32],
    /// `n * k` int8 values, else empty.
    pub q: &'a [i8],
    /// `n * kind.scales(k)`.
    pub d: &'a [f32],
    /// `n * kind.bsums(k)`.
    pub bsums: &'a [i16],
    /// `n`: sum of all `q` of a token.
    pub sums: &'a [i32],
}

impl<'a> Acts<'a> {
    /// True when every slice has the length the kind asks for.
    pub fn is_sound(&self) -> bool {
        let (n, k) = (self.n, self.k);
        let int = self.kind != ActKind::F32;
        self.x.len() == if int { 0 } else { n * k }
            && self.q.len() == if int { n * k } else { 0 }
            && self.d.len() == n * self.kind.scales(k)
            && self.bsums.len() == n * self.kind.bsums(k)
            && self.sums.len() == if int { n } else { 0 }
    }

    /// Token `i`.
    ///
    /// # Panics
    /// If `i` is not below `n` or the value is not sound: a bug of the caller.
    pub fn row(&self, i: usize) -> ActRow<'a> {
        let part = |len: usize| i * len..(i + 1) * len;
        match self.kind {
            ActKind::F32 => ActRow { x: &self.x[part(self.k)], q: &[], d: &[], bsums: &[], sum: 0 },
            kind => ActRow {
                x: &[],
                q: &self.q[part(self.k)],
                d: &self.d[part(kind.scales(self.k))],
                bsums: &self.bsums[part(kind.bsums(self.k))],
                sum: self.sums[i],
            },
        }
    }
}
