//! Turns a tensor into another weight type, in bounded memory and on all threads, and measures what that
//! changes.

use crate::exit::{Code, Failure, Outcome};
use crate::host::threads::side_by_side;
use std::io::Write;
use trill::quant::{QuantType, share_tile_scales};

/// Weights that a thread takes at a time, if a row has no more.
const CHUNK: usize = 1 << 20;

/// The weights of a tensor, row by row, from wherever they come.
pub(crate) struct Rows<'a> {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Puts row `.0` into `.1` (`cols` values).
    pub(crate) read: &'a (dyn Fn(usize, &mut [f32]) + Sync),
}

/// How far the new weights are from the old ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drift {
    /// Sum of the squared differences.
    error: f64,
    /// Sum of the squared weights.
    energy: f64,
}

impl Drift {
    /// Root mean square of the differences, as a share of that of the weights.
    pub(crate) fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.energy.max(f64::MIN_POSITIVE)).sqrt() }
    }

    /// Adds another tensor's.
    pub(crate) fn add(&mut self, other: Drift) {
        self.error += other.error;
        self.energy += other.energy;
    }
}

/// Work of one thread: some rows, in f32 and encoded.
#[derive(Default)]
struct Piece {
    first: usize,
    rows: usize,
    values: Vec<f32>,
    decoded: Vec<f32>,
    encoded: Vec<u8>,
    drift: Drift,
    widest: f32,
    fault: Option<Fault>,
}

#[derive(Clone, Copy)]
enum Fault {
    /// A weight of this row is infinite or NaN.
    Source(usize),
    /// A scale of this row does not fit the type's binary16.
    Encoded(usize),
}

/// A weight type that can be written, and the number of threads to write it with.
#[derive(Clone, Copy)]
pub(crate) struct Recoder {
    pub(crate) ty: QuantType,
    pub(crate) threads: usize,
}

impl Recoder {
    /// Writes `rows` as `ty`, the type's tail included. `step` is told of each bunch of weights that is done
    /// and may stop the work. `rows.cols` must be a whole number of blocks.
    ///
    /// # Errors
    /// [`Code::Data`] for weights that are infinite or NaN, or too large for the type.
    pub(crate) fn write(
        &self,
        rows: &Rows<'_>,
        out: &mut dyn Write,
        step: &mut dyn FnMut(usize) -> Outcome,
    ) -> Outcome<Drift> {
        let tail = self.ty.info().tail;
        // A type with a tail has one scale for the tensor: the largest magnitude.
        let scale = if tail == 0 { 1.0 } else { self.widest(rows)? };
        let mut drift = Drift::default();
        self.each(rows, |piece| self.encode(piece, rows.cols, scale), &mut |piece| {
            drift.add(piece.drift);
            out.write_all(&piece.encoded).map_err(|e| Failure::new(Code::Io, crate::exit::reason(&e)))?;
            step(piece.rows * rows.cols)
        })?;
        if tail != 0 {
            let mut bytes = vec![0; tail];
            self.ty.write_tail(scale, &mut bytes);
            out.write_all(&bytes).map_err(|e| Failure::new(Code::Io, crate::exit::reason(&e)))?;
        }
        Ok(drift)
    }

    fn widest(&self, rows: &Rows<'_>) -> Outcome<f32> {
        let mut widest = 0f32;
        self.each(rows, |piece| piece.widest = piece.values.iter().fold(0.0, |m, v| m.max(v.abs())), &mut |piece| {
            widest = widest.max(piece.widest);
            Ok(())
        })?;
        Ok(widest)
    }

    /// Reads all rows piece by piece, does `work` on the pieces side by side, and hands them in order to `then`.
    /// How rows are cut into pieces does not depend on the number of threads.
    fn each(
        &self,
        rows: &Rows<'_>,
        work: impl Fn(&mut Piece) + Sync,
        then: &mut dyn FnMut(&Piece) -> Outcome,
    ) -> Outcome {
        // Whole groups of rows; those of B1_64 are its tiles.
        let group = if self.ty == QuantType::B1_64 { 64 } else { self.ty.lanes() };
        let at_once = (CHUNK / rows.cols.max(1)).max(1).next_multiple_of(group);
        let pieces_in_all = rows.rows.div_ceil(at_once);
        let mut pieces: Vec<Piece> =
            (0..self.threads.clamp(1, pieces_in_all.max(1))).map(|_| Piece::default()).collect();
        let mut next = 0;
        while next < rows.rows {
            let mut busy = 0;
            for (piece, first) in pieces.iter_mut().zip((next..rows.rows).step_by(at_once)) {
                (piece.first, piece.rows) = (first, at_once.min(rows.rows - first));
                next = first + piece.rows;
                busy += 1;
            }
            let do_one = |piece: &mut Piece| {
                piece.load(rows);
                if piece.fault.is_none() {
                    work(piece);
                }
            };
            side_by_side(&mut pieces[..busy], do_one);
            for piece in &pieces[..busy] {
                piece.fault.map_or(Ok(()), |fault| Err(fault.failure(self.ty)))?;
                then(piece)?;
            }
        }
        Ok(())
    }

    fn encode(&self, piece: &mut Piece, cols: usize, scale: f32) {
        let info = self.ty.info();
        let encode = info.encode.expect("a type that can be written");
        let row_bytes = self.ty.row_bytes(cols).expect("whole blocks");
        piece.encoded.clear();
        let lanes = self.ty.lanes();
        piece.encoded.resize(piece.rows.div_ceil(lanes) * row_bytes, 0);
        piece.decoded.resize(cols, 0.0);
        piece.drift = Drift::default();
        // Row by row, since some types keep something at the end of a row; others have groups of rows.
        let groups = piece.values.chunks(lanes * cols).zip(piece.encoded.chunks_exact_mut(row_bytes));
        groups.for_each(|(values, encoded)| encode(values, encoded));
        if self.ty == QuantType::B1_64 {
            share_tile_scales(&mut piece.encoded, row_bytes);
        }
        let groups = piece.values.chunks(lanes * cols).zip(piece.encoded.chunks_exact(row_bytes));
        for (group, (values, encoded)) in groups.enumerate() {
            if (info.check)(encoded).not_finite != 0 {
                piece.fault = Some(Fault::Encoded(piece.first + group * lanes));
                return;
            }
            for (lane, values) in values.chunks_exact(cols).enumerate() {
                self.ty.decode_lane(lane, encoded, &mut piece.decoded);
                for (old, new) in values.iter().zip(&piece.decoded) {
                    let (old, new) = (f64::from(*old), f64::from(*new * scale));
                    piece.drift.error += (old - new) * (old - new);
                    piece.drift.energy += old * old;
                }
            }
        }
    }
}

impl Piece {
    fn load(&mut self, rows: &Rows<'_>) {
        self.values.resize(self.rows * rows.cols, 0.0);
        for (i, row) in self.values.chunks_exact_mut(rows.cols).enumerate() {
            (rows.read)(self.first + i, row);
            if row.iter().any(|v| !v.is_finite()) {
                self.fault = Some(Fault::Source(self.first + i));
                return;
            }
        }
    }
}

impl Fault {
    fn failure(self, ty: QuantType) -> Failure {
        let what = match self {
            Fault::Source(row) => format!("row {row} holds infinite or NaN weights"),
            Fault::Encoded(row) => format!("the weights of row {row} are too large for {}", ty.info().name),
        };
        Failure::new(Code::Data, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights that are the same in every run.
    fn weight(row: usize, col: usize) -> f32 {
        ((row * 7919 + col * 104_729) % 2001) as f32 / 1000.0 - 1.0
    }

    fn write(ty: QuantType, threads: usize, read: &(dyn Fn(usize, &mut [f32]) + Sync)) -> Outcome<(Vec<u8>, Drift)> {
        let (rows, cols) = (9, CHUNK / 2);
        let mut out = vec![];
        let mut done = 0;
        let mut step = |n| {
            done += n;
            Ok(())
        };
        let drift = Recoder { ty, threads }.write(&Rows { rows, cols, read }, &mut out, &mut step)?;
        assert_eq!(done, rows * cols);
        assert_eq!(out.len(), ty.tensor_bytes(rows, cols).unwrap());
        Ok((out, drift))
    }

    #[test]
    fn threads_change_nothing() {
        let read = |row: usize, out: &mut [f32]| out.iter_mut().enumerate().for_each(|(c, v)| *v = weight(row, c));
        for ty in [QuantType::Q4_0, QuantType::I2_S] {
            let (one, drift) = write(ty, 1, &read).unwrap();
            for threads in [2, 3, 64] {
                let (more, same) = write(ty, threads, &read).unwrap();
                assert!(one == more && drift.relative() == same.relative(), "{ty:?} {threads}");
            }
            assert!(drift.relative() > 0.05 && drift.relative() < 1.0);
        }
    }

    #[test]
    fn a_tensor_scale_is_found_and_written() {
        let ternary = |row: usize, out: &mut [f32]| {
            out.iter_mut().enumerate().for_each(|(c, v)| *v = 0.75 * ((row + c) % 3) as f32 - 0.75);
        };
        let (bytes, drift) = write(QuantType::I2_S, 2, &ternary).unwrap();
        assert_eq!(drift.relative(), 0.0);
        assert_eq!(bytes[bytes.len() - 32..][..4], 0.75f32.to_le_bytes());
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for (bad, says) in [(f32::NAN, "row 5"), (f32::NEG_INFINITY, "row 5"), (1e30, "too large")] {
            let read = |row: usize, out: &mut [f32]| {
                out.fill(0.5);
                out[100] = if row == 5 { bad } else { 0.5 };
            };
            let failure = write(QuantType::Q4_0, 2, &read).map(|_| ()).unwrap_err();
            assert!(failure.code == Code::Data && failure.message.contains(says), "{}", failure.message);
        }
    }

    #[test]
    fn a_step_can_stop_the_work() {
        let read = |_: usize, out: &mut [f32]| out.fill(1.0);
        let stop = Failure::new(Code::Interrupted, "enough");
        let mut step = |_| Err(stop.clone());
        let rows = Rows { rows: 4, cols: 256, read: &read };
        let stopped = Recoder { ty: QuantType::F16, threads: 1 }.write(&rows, &mut std::io::sink(), &mut step);
        assert_eq!(stopped.map(|_| ()), Err(stop));
    }
}
