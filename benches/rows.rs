//! Speed of the row kernels on one thread: `cargo bench --bench rows -- [level [type]]`.
//!
//! For each level and type: one token with weights streamed from memory and from the L2 cache (GB/s and
//! 1e9 weights/s), and 32 and 128 tokens (1e9 multiply-adds/s). Medians.

#[path = "../tests/common/cpu.rs"]
mod cpu;

use cpu::features;
use std::time::Instant;
use trill::kernels::{CANDIDATES, Kernels, select};
use trill::mem::TileMut;
use trill::quant::{ActKind, Acts, Matrix, QuantType};

/// Larger than any cache.
const STREAMED: usize = 96 << 20;
/// Fits the L2 cache; the size of one call.
const CACHED: usize = 256 << 10;
const COLS: usize = 2560;
const ROWS_BATCH: usize = 320;

/// Median seconds of a call `f(i)`, over at least 5 calls that take 0.15 s together.
fn seconds(mut f: impl FnMut(usize)) -> f64 {
    f(0);
    let mut times = vec![];
    let start = Instant::now();
    while times.len() < 5 || start.elapsed().as_secs_f64() < 0.15 {
        let one = Instant::now();
        f(times.len());
        times.push(one.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Bytes that are codes of every value and finite scales.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8 & 0xbb
        })
        .collect()
}

/// Seconds of `n` tokens through `rows` rows, another part of the matrix for each call.
fn time(k: &Kernels, ty: QuantType, data: &[u8], rows: usize, n: usize) -> f64 {
    let kind = ty.info().act;
    let x: Vec<f32> = (0..n * COLS).map(|i| (i * 37 % 201) as f32 / 100.0 - 1.0).collect();
    let (codes, scales, groups) = (kind.codes(COLS), kind.scales(COLS), kind.bsums(COLS));
    let (mut q, mut d, mut bsums) = (vec![0; n * codes], vec![0.0; n * scales], vec![0; n * groups]);
    let sums: Vec<i32> = (0..n)
        .map(|t| {
            let (q, d) = (&mut q[t * codes..][..codes], &mut d[t * scales..][..scales]);
            k.quantize(kind, &x[t * COLS..][..COLS], q, d, &mut bsums[t * groups..][..groups])
        })
        .collect();
    let float = kind == ActKind::F32;
    let acts = Acts {
        kind,
        n,
        k: COLS,
        x: if float { &x } else { &[] },
        q: &q,
        d: &d,
        bsums: &bsums,
        sums: if float { &[] } else { &sums },
    };
    let parts = data.len() / ty.row_bytes(COLS).expect("whole blocks") * ty.lanes() / rows;
    let len = ty.tensor_bytes(parts * rows, COLS).expect("whole blocks");
    let m = Matrix::new(ty, parts * rows, COLS, &data[..len]).expect("fits");
    let mut out = vec![0f32; rows * n];
    seconds(|i| {
        let first = i % parts * rows;
        k.rows(ty, &m.span(first..first + rows), &acts, &mut TileMut::whole(&mut out, rows));
    })
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let (level, ty) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
    let data = bytes(STREAMED + (1 << 20));
    println!("{:<12} {:<10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}", "", "", "memory", "", "cache", "", "n=32", "n=128");
    println!(
        "{:<12} {:<10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "level", "type", "GB/s", "Gw/s", "GB/s", "Gw/s", "GMAC/s", "GMAC/s"
    );
    for candidate in CANDIDATES {
        let Ok(k) = select(&features(), Some(candidate.name())) else { continue };
        if k.name() == "scalar" && level != "scalar" || !level.is_empty() && k.name() != level {
            continue;
        }
        for &t in QuantType::ALL.iter().filter(|t| ty.is_empty() || t.info().name == ty) {
            let row = t.row_bytes(COLS).expect("whole blocks"); // of a group of rows, for packed types
            let stream = |size: usize| {
                let step = if t.lanes() == 1 { 16 } else { ROWS_BATCH };
                let rows = CACHED / row * t.lanes() / step * step;
                let s = time(&k, t, &data[..size + row + 64], rows, 1);
                (rows as f64 * row as f64 / t.lanes() as f64 / s / 1e9, (rows * COLS) as f64 / s / 1e9)
            };
            let batch = |n: usize| {
                (ROWS_BATCH * COLS * n) as f64
                    / time(&k, t, &data[..ROWS_BATCH / t.lanes() * row + 64], ROWS_BATCH, n)
                    / 1e9
            };
            let (far, near) = (stream(STREAMED), stream(CACHED));
            println!(
                "{:<12} {:<10} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>7.1}",
                k.name(),
                t.info().name,
                far.0,
                far.1,
                near.0,
                near.1,
                batch(32),
                batch(128)
            );
        }
    }
}
