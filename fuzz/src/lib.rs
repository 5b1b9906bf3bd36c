//! What the fuzz targets do with their input: one module each, with one function `run`. A target asserts what its room
//! promises beyond not panicking; a false assertion is a finding. `docs/adding.md` says how to add one.
//!
//! Core rooms are called as anyone can call them, rooms of the shell through `trill_std::fuzzing`.

pub mod command_line;
pub mod gguf;
pub mod hf_folder;
pub mod keys;
pub mod model;
pub mod sampler;
pub mod screen;
pub mod session_file;
pub mod session_state;
pub mod template;
pub mod tokenizer;
pub mod weights;

mod bounds;

/// GGUF files in memory, as the core's tests make them.
#[allow(dead_code)]
#[path = "../../tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../../tests/common/tokenizer_file.rs"]
mod tokenizer_file;

use common::memory;
use std::sync::LazyLock;
use trill::kernels::Kernels;

/// Every kernel level of this CPU, the scalar one last.
static KERNELS: LazyLock<Vec<Kernels>> = LazyLock::new(trill_std::fuzzing::kernels);

/// Numbers that are the same where they are equal or both not numbers: a NaN has many forms.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// Choices read from the input; after its end, zeros.
struct Choices<'i>(arbitrary::Unstructured<'i>);

impl<'i> Choices<'i> {
    fn new(input: &'i [u8]) -> Self {
        Choices(arbitrary::Unstructured::new(input))
    }

    fn more(&self) -> bool {
        !self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// A number below `n`, or 0.
    fn below(&mut self, n: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), if n > 256 { self.byte() } else { 0 }])) % n.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn word(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Any float, NaN and infinities too; often a plain one.
    fn float(&mut self) -> f32 {
        match self.byte() {
            0..=9 => [
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::MAX,
                f32::MIN,
                f32::MIN_POSITIVE,
                1e-45,
                -0.0,
                -1e30,
                1e30,
            ][self.below(10)],
            10..=40 => f32::from_bits(self.word()),
            41..=60 => 0.0,
            _ => f32::from(self.word() as i16) / 1024.0,
        }
    }

    /// At most `n` bytes.
    fn bytes(&mut self, n: usize) -> &'i [u8] {
        let n = n.min(self.0.len());
        self.0.bytes(n).unwrap_or_default()
    }

    /// What is left.
    fn rest(&mut self) -> &'i [u8] {
        self.bytes(usize::MAX)
    }
}

/// Bytes without end from a seed (an LCG).
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }

    /// Uniform in -1 .. 1.
    fn unit(&mut self) -> f32 {
        f32::from(i16::from_le_bytes([self.byte(), self.byte()])) / 32768.0
    }
}
