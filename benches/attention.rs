//! Attention of one token on one thread by cache type: `cargo bench --bench attention -- [level [positions]]`.
//!
//! 30 layers of 5 key-value heads, 4 queries each, of 128 values: BitNet 2B-4T's. The types take turns, so that a machine
//! that slows down slows all of them; milliseconds a token, and the ratio to f16. The fastest of many is what the
//! kernels can do, the median what they did.

#[path = "../tests/common/cpu.rs"]
mod cpu;

use cpu::features;
use std::time::Instant;
use trill::kernels::{CANDIDATES, KvRows, select};
use trill::kv_cache::KvType;

const HEAD: usize = 128;
const GROUP: usize = 4;
const HEADS: usize = 30 * 5;
const FIRST: usize = 64;
const ROUNDS: usize = 15;

/// Codes of any value with scales of 1 to 2 (in f16), and f16 values as small.
fn rows(ty: KvType, n: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut bytes: Vec<u8> = (0..n * ty.row_bytes(HEAD))
        .map(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let scales = if ty == KvType::F16 { 2 } else { ty.row_bytes(HEAD) };
    bytes.chunks_exact_mut(scales).for_each(|row| row[1] = 0x3c);
    bytes
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let level = args.next().unwrap_or_default();
    let n: usize = args.next().map_or(2048, |n| n.parse().expect("a number of positions"));
    let q: Vec<f32> = (0..GROUP * HEAD).map(|i| (i * 37 % 201) as f32 / 1000.0 - 0.1).collect();
    let (mut scores, mut out) = (vec![0f32; GROUP * n], vec![0f32; GROUP * HEAD]);
    // Keys and values of one head lie together, those of all heads are more than caches hold.
    let stores = KvType::ALL.map(|ty| {
        let exact = if ty.window() > 0 { FIRST + ty.window() + 32 } else { 0 };
        (ty, rows(ty, 2 * HEADS * n), rows(KvType::EXACT, 2 * HEADS * exact), exact)
    });
    println!(
        "{:<12} {:<5} {:>12} {:>12} {:>9} {:>9}",
        "level", "cache", "fastest, ms", "median, ms", "over f16", "over f16"
    );
    for candidate in CANDIDATES {
        let Ok(k) = select(&features(), Some(candidate.name())) else { continue };
        if k.name() == "scalar" && level != "scalar" || !level.is_empty() && k.name() != level {
            continue;
        }
        let mut times = KvType::ALL.map(|_| vec![]);
        for _ in 0..ROUNDS {
            for ((ty, packed, exact, exact_rows), times) in stores.iter().zip(&mut times) {
                let start = Instant::now();
                for head in 0..HEADS {
                    let half = |i: usize| {
                        let (size, exact_size) = (n * ty.row_bytes(HEAD), exact_rows * KvType::EXACT.row_bytes(HEAD));
                        KvRows {
                            packed: &packed[(2 * head + i) * size..][..size],
                            row_bytes: ty.row_bytes(HEAD),
                            exact: &exact[(2 * head + i) * exact_size..][..exact_size],
                            first: if *exact_rows > 0 { FIRST } else { 0 },
                            ring: exact_rows.saturating_sub(FIRST),
                            recent_from: if *exact_rows > 0 { n.saturating_sub(ty.window()) } else { usize::MAX },
                            offset: &[],
                            range: 0..n,
                        }
                    };
                    k.scores(*ty, &q, HEAD, &half(0), 0.088, &mut scores);
                    scores.chunks_exact_mut(n).for_each(|s| {
                        k.softmax(s);
                    });
                    k.mix(*ty, &scores, HEAD, &half(1), &mut out);
                    std::hint::black_box(&out);
                }
                times.push(1e3 * start.elapsed().as_secs_f64());
            }
        }
        times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
        let (fastest, median) = (times[0][0], times[0][ROUNDS / 2]);
        for ((ty, ..), t) in stores.iter().zip(&times) {
            println!(
                "{:<12} {:<5} {:>12.2} {:>12.2} {:>9.2} {:>9.2}",
                k.name(),
                ty.name(),
                t[0],
                t[ROUNDS / 2],
                t[0] / fastest,
                t[ROUNDS / 2] / median
            );
        }
    }
}
