//! Packing: a model rewritten into the layouts that the kernels read fastest. What becomes of each tensor is
//! decided here; [`target`] knows or measures machines, [`write`](mod@write) makes and checks the file,
//! [`cost`] measures what it does to the model's answers, [`traffic`] counts the bytes of a token.

pub(crate) mod cost;
mod dead;
pub(crate) mod target;
pub(crate) mod traffic;
pub(crate) mod write;

use crate::exit::{Code, Failure, Outcome};
use crate::host::threads::side_by_side;
use trill::gguf::{Gguf, TensorInfo};
use trill::kernels::Activation;
use trill::model::{Hparams, SKETCH_NAME};
use trill::quant::{Matrix, QuantType};

/// Version of the packed layouts, in `trill.pack.version`.
pub(crate) const VERSION: u32 = 1;

/// What the output head shall become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Keep,
    Q8,
    Q6K,
    Q4,
}

impl Head {
    pub(crate) const ALL: [Head; 4] = [Head::Keep, Head::Q8, Head::Q6K, Head::Q4];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Head::Keep => "keep",
            Head::Q8 => "q8",
            Head::Q6K => "q6_k",
            Head::Q4 => "q4",
        }
    }

    /// The weight type for a head that is of type `from` now, with rows of `cols` weights; `None` if no type of this
    /// size has such rows.
    pub(crate) fn ty(self, from: QuantType, cols: usize) -> Option<QuantType> {
        let choices: &[QuantType] = match self {
            Head::Keep => return Some(from),
            Head::Q8 => &[QuantType::Q8R],
            Head::Q6K => &[QuantType::Q6_K],
            Head::Q4 => &[QuantType::Q4_K, QuantType::Q4_0],
        };
        choices.iter().copied().find(|ty| cols.is_multiple_of(ty.info().block))
    }
}

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Copied as it is. The reason is given for matrices one could have hoped to pack.
    Copied(Option<&'static str>),
    /// Ternary, to a packed layout.
    Packed(QuantType),
    /// Codes and scales as they are, rows interleaved.
    Interleaved(QuantType),
    /// The output head, to another type.
    Head(QuantType),
    /// Made from the output head, which has this type in the output.
    Sketch(QuantType),
    /// The numbers of the neurons that a layer keeps, see [`dead`].
    Kept(&'static [u32]),
}

/// One tensor of the output.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) name: &'a str,
    /// Where its weights come from.
    pub(crate) source: &'a TensorInfo<'a>,
    pub(crate) fate: Fate,
    /// Its type in the output.
    pub(crate) ty: QuantType,
    /// The rows and columns that it keeps of the source, if not all.
    pub(crate) rows: Option<&'static [u32]>,
    pub(crate) columns: Option<&'static [u32]>,
}

impl<'a> Plan<'a> {
    /// A tensor that keeps all its rows and columns.
    fn whole(name: &'a str, source: &'a TensorInfo<'a>, fate: Fate, ty: QuantType) -> Self {
        Plan { name, source, fate, ty, rows: None, columns: None }
    }

    /// Its dimensions in the output, columns first.
    pub(crate) fn dims(&self) -> Vec<u64> {
        if let Fate::Kept(kept) = self.fate {
            return vec![kept.len() as u64];
        }
        let mut dims = self.source.dims[..self.source.n_dims as usize].to_vec();
        for (dim, kept) in dims.iter_mut().zip([self.columns, self.rows]) {
            *dim = kept.map_or(*dim, |k| k.len() as u64);
        }
        dims
    }

    /// Its rows in the output.
    pub(crate) fn n_rows(&self) -> usize {
        self.rows.map_or(self.source.rows(), <[u32]>::len)
    }

    /// Its columns in the output.
    pub(crate) fn n_cols(&self) -> usize {
        self.columns.map_or(self.source.cols(), <[u32]>::len)
    }

    /// Weights to go through: those of the output.
    pub(crate) fn elements(&self) -> usize {
        if let Fate::Kept(kept) = self.fate { kept.len() } else { self.n_rows() * self.n_cols() }
    }

    /// Its weights as the input has them.
    pub(crate) fn matrix(&self) -> Matrix<'a> {
        self.source.matrix().expect("a tensor of a parsed file")
    }

    /// Puts row `row` of what is to be encoded into `values`. A sketch is one of the head as the output has it, so that
    /// its residual norms hold for the weights that logits are computed with.
    pub(crate) fn read(&self, row: usize, values: &mut [f32]) {
        let row = self.rows.map_or(row, |kept| kept[row] as usize);
        if let Some(kept) = self.columns {
            let mut all = vec![0f32; self.source.cols()];
            self.matrix().decode_row(row, &mut all);
            values.iter_mut().zip(kept).for_each(|(v, c)| *v = all[*c as usize]);
            return;
        }
        self.matrix().decode_row(row, values);
        if let Fate::Sketch(ty) = self.fate
            && ty != self.source.ty
        {
            let encode = ty.info().encode.expect("a type that can be written");
            let mut encoded = vec![0; ty.row_bytes(values.len()).expect("whole blocks")];
            encode(values, &mut encoded);
            (ty.info().decode)(&encoded, values);
        }
    }

    /// Bytes in the output.
    pub(crate) fn bytes(&self) -> Outcome<u64> {
        if let Fate::Kept(kept) = self.fate {
            return Ok(4 * kept.len() as u64);
        }
        let bytes = self.ty.tensor_bytes(self.n_rows(), self.n_cols());
        bytes.map(|b| b as u64).ok_or_else(|| Failure::new(Code::Data, format!("{} would be too large", self.name)))
    }
}

/// The type that results of ternary matrices of a file stay the same in, to the last bit.
pub(crate) fn is_exact(from: QuantType) -> bool {
    from.info().act == QuantType::T3.info().act
}

/// Types whose weights may be ternary with one scale, and what they are not packed for if they are not.
fn ternary(tensor: &TensorInfo<'_>) -> bool {
    use QuantType::*;
    let types = [I2_S, TQ1_0, TQ2_0, Q2_0, Q2_0_G128, PTQ1_0, STQ1_0, T2, T3, T3R, T3C];
    tensor.name.starts_with("blk.") && tensor.n_dims == 2 && types.contains(&tensor.ty)
}

/// Whether a ternary matrix can be packed, or why not.
fn packable(tensor: &TensorInfo<'_>, threads: usize) -> Result<(), &'static str> {
    let bytes = |ty: QuantType| ty.tensor_bytes(tensor.rows(), tensor.cols());
    if bytes(QuantType::T3).is_none() {
        return Err("their rows are not whole blocks of 64");
    }
    if tensor.ty == QuantType::STQ1_0 {
        return Err("their type is smaller already");
    }
    one_magnitude(&tensor.matrix().expect("a tensor of a parsed file"), threads)
}

/// What becomes of a matrix that has no layout with one scale.
fn otherwise(source: &TensorInfo<'_>, why: Option<&'static str>, interleave: bool) -> Fate {
    let matrix = source.name.starts_with("blk.") && source.n_dims == 2 && interleave;
    // TQ1_0 would grow.
    let to = source.ty.interleaved().filter(|_| matrix && source.ty != QuantType::TQ1_0);
    to.map_or(Fate::Copied(why), Fate::Interleaved)
}

/// Whether all weights are 0 or of one magnitude.
fn one_magnitude(matrix: &Matrix<'_>, threads: usize) -> Result<(), &'static str> {
    let share = matrix.rows().div_ceil(threads.max(1)).max(1);
    let ranges = (0..matrix.rows()).step_by(share).map(|first| first..matrix.rows().min(first + share));
    let mut all = 0f32;
    for magnitude in side_by_side(ranges, |rows| magnitude(matrix, rows)) {
        let magnitude = magnitude.ok_or("their weights are not -1, 0 and 1 times one scale")?;
        if magnitude != 0.0 && all != 0.0 && magnitude != all {
            return Err("their weights are not -1, 0 and 1 times one scale");
        }
        all = all.max(magnitude);
    }
    if all == 0.0 { Err("they hold nothing but zeros") } else { Ok(()) }
}

/// The one magnitude of the weights of some rows; 0 if all are 0, `None` if there are several.
fn magnitude(matrix: &Matrix<'_>, rows: std::ops::Range<usize>) -> Option<f32> {
    let mut values = vec![0f32; matrix.cols()];
    let mut magnitude = 0f32;
    for row in rows {
        matrix.decode_row(row, &mut values);
        let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        let one = values.iter().all(|v| *v == 0.0 || v.abs() == largest);
        if !one || !largest.is_finite() || largest != 0.0 && magnitude != 0.0 && largest != magnitude {
            return None;
        }
        magnitude = magnitude.max(largest);
    }
    Some(magnitude)
}

/// What the user asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    /// `None`: the default, if it makes the head smaller.
    pub(crate) head: Option<Head>,
    pub(crate) sketch: bool,
    /// Layouts that let parts be skipped, where the model has a squared ReLU.
    pub(crate) skip: bool,
    /// Interleave the rows of matrices that have a scale for each block.
    pub(crate) interleave: bool,
    pub(crate) threads: usize,
}

/// The layout of a feed-forward matrix of which rows or columns are multiplied by zero: in the products of a model with
/// a squared ReLU, up rows whose gate is not positive and down columns whose input is 0.
fn skip_layout(name: &str) -> Option<QuantType> {
    match name.rsplit_once('.')?.0.rsplit_once('.')?.1 {
        "ffn_up" => Some(QuantType::T3R),
        "ffn_down" => Some(QuantType::T3C),
        _ => None,
    }
}

/// Whether `ty` is one of [`skip_layout`]'s, which no other layout can stand for.
pub(crate) fn is_for_skipping(ty: QuantType) -> bool {
    matches!(ty, QuantType::T3R | QuantType::T3C)
}

/// The tensors of the output, in order, ternary ones as T3 for now. `head` is the name of the output head.
pub(crate) fn plan<'a>(gguf: &Gguf<'a>, hparams: &Hparams, head: &str, wish: Wish) -> Outcome<Vec<Plan<'a>>> {
    let mut plans = Vec::with_capacity(gguf.tensors().len() + 1);
    let mut sketched = None;
    let skips = wish.skip && hparams.arch.activation == Activation::Relu2 && !hparams.arch.fused_gate_up;
    for source in gguf.tensors().iter().filter(|t| t.name != SKETCH_NAME) {
        let fate = if source.name == head {
            head_fate(source, wish.head)?
        } else if ternary(source) {
            let layout = skip_layout(source.name).filter(|_| skips).unwrap_or(QuantType::T3);
            let packable = packable(source, wish.threads);
            packable.map_or_else(|why| otherwise(source, Some(why), wish.interleave), |()| Fate::Packed(layout))
        } else {
            otherwise(source, None, wish.interleave)
        };
        let ty = match fate {
            Fate::Packed(ty) | Fate::Head(ty) | Fate::Interleaved(ty) => ty,
            _ => source.ty,
        };
        plans.push(Plan::whole(source.name, source, fate, ty));
        if source.name == head && wish.sketch {
            sketched = Some((source, ty));
        }
    }
    if let Some((source, head_type)) = sketched {
        if source.cols().is_multiple_of(QuantType::S2.info().block) {
            plans.push(Plan::whole(SKETCH_NAME, source, Fate::Sketch(head_type), QuantType::S2));
        } else {
            log::warn!("the head gets no sketch: its rows are not whole blocks of 64");
        }
    }
    if skips {
        dead::drop_dead(&mut plans, hparams);
    }
    Ok(plans)
}

/// The name of the matrix that makes the logits.
pub(crate) fn head_name(gguf: &Gguf<'_>, hparams: &Hparams) -> &'static str {
    let separate = gguf.tensor("output.weight").is_some() && !hparams.arch.always_tied;
    if separate { "output.weight" } else { "token_embd.weight" }
}

/// Bytes of the tensors after packing, if all matrices that may be ternary are; from metadata alone.
pub(crate) fn estimate(gguf: &Gguf<'_>, head: &str) -> Outcome<u64> {
    let mut total = 0u64;
    for tensor in gguf.tensors().iter().filter(|t| t.name != SKETCH_NAME) {
        let ty = match head_fate(tensor, None)? {
            Fate::Head(ty) if tensor.name == head => ty,
            _ if ternary(tensor) && tensor.ty != QuantType::STQ1_0 => QuantType::T3,
            _ => tensor.ty,
        };
        let bytes = |ty: QuantType| ty.tensor_bytes(tensor.rows(), tensor.cols()).map(|b| b as u64);
        let sketch = if tensor.name == head { bytes(QuantType::S2).unwrap_or(0) } else { 0 };
        total = total.saturating_add(bytes(ty).unwrap_or(tensor.bytes() as u64)).saturating_add(sketch);
    }
    Ok(total)
}

fn head_fate(source: &TensorInfo<'_>, wish: Option<Head>) -> Outcome<Fate> {
    let head = wish.unwrap_or(Head::Q8);
    let cols = source.cols();
    let Some(ty) = head.ty(source.ty, cols) else {
        if wish.is_none() {
            return Ok(Fate::Copied(None));
        }
        let what = format!("--head {}: rows of {cols} weights are not whole blocks of that type", head.name());
        return Err(Failure::new(Code::Data, what).remedy("take another --head"));
    };
    let bytes = |ty: QuantType| ty.tensor_bytes(source.rows(), cols);
    if bytes(ty) >= bytes(source.ty) {
        if wish.is_some_and(|h| h != Head::Keep) {
            log::warn!("--head {}: the head stays {}, which is no larger", head.name(), source.ty.info().name);
        }
        return Ok(Fate::Copied(None));
    }
    Ok(Fate::Head(ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_for_skipping() {
        let layout = |name| skip_layout(name);
        assert_eq!(layout("blk.0.ffn_up.weight"), Some(QuantType::T3R));
        assert_eq!(layout("blk.29.ffn_down.weight"), Some(QuantType::T3C));
        assert_eq!((layout("blk.0.ffn_gate.weight"), layout("output.weight"), layout("x")), (None, None, None));
    }

    #[test]
    fn heads() {
        for head in Head::ALL {
            assert!(head.ty(QuantType::F16, 256).is_some());
        }
        assert_eq!(Head::Keep.ty(QuantType::F16, 7), Some(QuantType::F16));
        assert_eq!((Head::Q8.ty(QuantType::F16, 7), Head::Q6K.ty(QuantType::F16, 576)), (None, None));
        assert_eq!(Head::Q4.ty(QuantType::F16, 576), Some(QuantType::Q4_0));
    }

    /// TQ2_0 rows of 256 weights, each with its own scale.
    fn rows(scales: &[f32]) -> Vec<u8> {
        let encode = QuantType::TQ2_0.info().encode.unwrap();
        let one = |scale: &f32| {
            let values: Vec<f32> = (0..256).map(|i| scale * (i % 3 - 1) as f32).collect();
            let mut bytes = vec![0; 66];
            encode(&values, &mut bytes);
            bytes
        };
        scales.iter().flat_map(one).collect()
    }

    #[test]
    fn one_scale_is_told_from_several() {
        for (scales, sound) in [
            (&[0.5, 0.5, 0.5][..], true),
            (&[0.5, 0.0, 0.5], true),
            (&[0.5, 0.5, 0.25], false),
            (&[0.25, 0.5, 0.5], false),
            (&[0.0, 0.0, 0.0], false),
        ] {
            let data = rows(scales);
            let matrix = Matrix::new(QuantType::TQ2_0, 3, 256, &data).unwrap();
            for threads in [1, 2, 5] {
                assert_eq!(one_magnitude(&matrix, threads).is_ok(), sound, "{scales:?} {threads}");
            }
        }
    }
}
