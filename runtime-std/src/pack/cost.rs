//! What packing does to a model's answers, measured on the model itself: it reads a text, and its predictions
//! after each token are compared with those of the original.

use super::Head;
use crate::exit::{Code, Failure, Outcome};
use crate::host::memory::{self, Arena};
use crate::recode::{Recoder, Rows};
use std::io::Write;
use trill::kernels::Kernels;
use trill::kv_cache::KvType;
use trill::mem::Carver;
use trill::model::Model;
use trill::parallel::Executor;
use trill::quant::{Matrix, QuantType};
use trill::session::{Session, SessionConfig};

/// The text that is read. Its first tokens are taken.
pub(crate) const TEXT: &str = "The old lighthouse stood at the end of a long stone pier, and every evening, whatever \
    the weather, its keeper climbed the two hundred and twelve steps to light the lamp. He had done so for thirty-one \
    years. \"It is not a lonely life,\" he told the children who visited on Sundays, \"because the ships talk to me. \
    Each one has its own voice.\" Most visitors did not believe him. In 1953 the government replaced the lamp with an \
    electric one, which needed no keeper at all; still, he stayed. Engineers who came to inspect the generator twice a \
    year found the brass polished, the windows clean, and a kettle of tea on the stove. What would happen to the tower \
    when he was gone, nobody knew, and nobody asked.";
/// Tokens of it, at most.
pub(crate) const TOKENS: usize = 128;

/// Positions whose logits are computed together.
const LOGIT_ROWS: usize = 8;

/// How far the predictions of one model are from those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Distance {
    /// Kullback-Leibler divergence from the original's probabilities, mean over the positions, in nats.
    pub(crate) divergence: f64,
    /// The share of positions with the same likeliest token.
    pub(crate) agreement: f64,
    /// No logit differs in any bit.
    pub(crate) identical: bool,
}

/// What all measurements share.
pub(crate) struct Bench<'a> {
    pub(crate) kernels: Kernels,
    pub(crate) executor: &'a dyn Executor,
    pub(crate) tokens: &'a [u32],
}

impl Bench<'_> {
    /// The logits of `model` after each token, one row after the other.
    pub(crate) fn logits(&self, model: &Model<'_>) -> Outcome<Vec<f32>> {
        let n_vocab = model.hparams.n_vocab;
        let mut all = reserve(self.tokens.len() * n_vocab)?;
        self.read(model, &mut |_, logits| all.extend_from_slice(logits))?;
        Ok(all)
    }

    /// How far the predictions of `model` are from `logits`, those of the original.
    pub(crate) fn distance(&self, logits: &[f32], model: &Model<'_>) -> Outcome<Distance> {
        let n_vocab = model.hparams.n_vocab;
        let mut sum = Distance { identical: true, ..Distance::default() };
        self.read(model, &mut |position, new| {
            let old = &logits[position * n_vocab..(position + 1) * n_vocab];
            sum.divergence += divergence(old, new);
            sum.agreement += f64::from(u8::from(likeliest(old) == likeliest(new)));
            sum.identical &= old.iter().zip(new).all(|(a, b)| a.to_bits() == b.to_bits());
        })?;
        let n = self.tokens.len().max(1) as f64;
        Ok(Distance { divergence: sum.divergence / n, agreement: sum.agreement / n, ..sum })
    }

    fn read(&self, model: &Model<'_>, visit: &mut dyn FnMut(usize, &[f32])) -> Outcome {
        let config = SessionConfig {
            context: self.tokens.len(),
            batch: self.tokens.len(),
            threads: self.executor.threads(),
            logit_rows: LOGIT_ROWS,
            cache_k: KvType::F16,
            cache_v: KvType::F16,
        };
        let mut arena = Arena::reserve(Session::plan(model, config)?.total())?;
        let mut session = Session::new(model, self.kernels, config, &mut Carver::over(arena.room())?)?;
        session.logits_all(self.executor, self.tokens, &mut |position, logits| {
            if logits.iter().any(|l| !l.is_finite()) {
                return Err(trill::Error::NotFinite);
            }
            visit(position, logits);
            if crate::host::signal::interrupted() { Err(trill::Error::Interrupted) } else { Ok(()) }
        })?;
        Ok(())
    }

    /// The distance of `model` with its head as `head` says, made of the weights `original`; the embedding changes with
    /// it where `tied`.
    pub(crate) fn with_head(
        &self,
        logits: &[f32],
        model: &Model<'_>,
        original: &Matrix<'_>,
        tied: bool,
        ty: QuantType,
    ) -> Outcome<Distance> {
        let (rows, cols) = (original.rows(), original.cols());
        let encoded;
        let head = if ty == original.ty() {
            *original
        } else {
            encoded = self.encode(original, ty)?;
            Matrix::new(ty, rows, cols, &encoded).expect("the length is that of the type")
        };
        let embedding = if tied { head } else { model.embedding };
        self.distance(logits, &Model { output: head, embedding, ..*model })
    }

    fn encode(&self, matrix: &Matrix<'_>, ty: QuantType) -> Outcome<Vec<u8>> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let read = |row: usize, values: &mut [f32]| matrix.decode_row(row, values);
        let mut out = reserve(ty.tensor_bytes(rows, cols).unwrap_or(usize::MAX))?;
        let recoder = Recoder { ty, threads: self.executor.threads() };
        recoder.write(&Rows { rows, cols, read: &read }, &mut out as &mut dyn Write, &mut |_| {
            crate::generate::stop_if_interrupted()
        })?;
        Ok(out)
    }
}

/// Room for `len` values, if the machine has it to give.
fn reserve<T>(len: usize) -> Outcome<Vec<T>> {
    let mut room = Vec::new();
    let enough = len.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes as u64 <= memory::available());
    if !enough || room.try_reserve_exact(len).is_err() {
        return Err(Failure::new(Code::Memory, "there is too little memory to compare heads"));
    }
    Ok(room)
}

/// The types that the heads of [`Head::ALL`] would have, for a head that is of type `from` now.
pub(crate) fn head_types(from: QuantType, cols: usize) -> impl Iterator<Item = (Head, QuantType)> {
    Head::ALL.into_iter().filter_map(move |head| Some((head, head.ty(from, cols)?)))
}

fn likeliest(logits: &[f32]) -> usize {
    let best =
        logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &l)| if l > best.1 { (i, l) } else { best });
    best.0
}

/// `sum p ln(p / q)` of the distributions that two rows of logits stand for.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_sum = |logits: &[f32]| {
        let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        highest + logits.iter().map(|&l| (f64::from(l) - highest).exp()).sum::<f64>().ln()
    };
    let (log_p, log_q) = (log_sum(p), log_sum(q));
    let term = |(&p, &q): (&f32, &f32)| {
        let (p, q) = (f64::from(p) - log_p, f64::from(q) - log_q);
        p.exp() * (p - q)
    };
    // Rounding may bring equal distributions below 0.
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences() {
        assert_eq!(divergence(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
        assert!(divergence(&[1.0, 2.0, 3.0], &[11.0, 12.0, 13.0]) < 1e-12, "a shift changes no probability");
        // Even odds against 3 to 1: ln 2 - ln(3)/2, in nats.
        let got = divergence(&[0.0, 0.0], &[3f32.ln(), 0.0]);
        assert!((got - (2f64.ln() - 3f64.ln() / 2.0)).abs() < 1e-6, "{got}");
        assert_eq!((likeliest(&[1.0, 5.0, 5.0]), likeliest(&[])), (1, 0));
    }
}
