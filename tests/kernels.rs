//! Every kernel level gives the bits of the scalar level, for every weight type and every float operation.
//!
//! Levels that this CPU lacks are listed. `REQUIRE_KERNELS=name[,name]` makes a missing one a failure.

#[path = "common/cpu.rs"]
mod cpu;

use cpu::features;
use trill::kernels::{Activation, CANDIDATES, Kernels, KvRows, select};
use trill::kv_cache::KvType;
use trill::mem::TileMut;
use trill::quant::{ActKind, Acts, Matrix, QuantType, RowSpan};

/// The levels to compare with the scalar one.
fn levels() -> Vec<Kernels> {
    let found: Vec<Kernels> = CANDIDATES
        .iter()
        .filter_map(|c| select(&features(), Some(c.name())).ok())
        .filter(|k| k.name() != "scalar")
        .collect();
    for c in CANDIDATES {
        if !(c.runs_on)(&features()) {
            println!("not on this CPU: {}", c.name());
        }
    }
    for name in std::env::var("REQUIRE_KERNELS").unwrap_or_default().split(',').filter(|n| !n.is_empty()) {
        assert!(name == "scalar" || found.iter().any(|k| k.name() == name), "required level missing: {name}");
    }
    found
}

fn scalar() -> Kernels {
    select(&features(), Some("scalar")).expect("the scalar level runs everywhere")
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// Uniform in -1 .. 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Data {
    /// Any bytes as codes; activations uniform.
    Random,
    /// Rows of one byte; activations of equal magnitude, some all of one sign, so that sums are largest.
    Extreme,
    /// Everything zero.
    Zero,
}

/// Bytes of a row of one block that hold the exponents of scales: those whose value can make one infinite.
fn exponents(ty: QuantType) -> Vec<usize> {
    let len = ty.row_bytes(ty.info().block).expect("one block");
    let makes_infinite = |&i: &usize| {
        let mut row = vec![0u8; len];
        (row[i - 1], row[i]) = (0x80, 0x7f);
        (ty.info().check)(&row).not_finite > 0
    };
    (1..len).filter(makes_infinite).collect()
}

/// Tensor bytes with finite scales (a NaN has many forms, so it cannot be compared bit for bit).
fn weights(ty: QuantType, rows: usize, cols: usize, data: Data, rnd: &mut Random) -> Vec<u8> {
    let t = ty.info();
    let len = ty.tensor_bytes(rows, cols).expect("cols is a multiple of the block");
    let row_bytes = ty.row_bytes(cols).expect("cols is a multiple of the block");
    let fill = [0xff, 0x00, 0xaa, 0x55, 0x80, 0x7f];
    let mut bytes: Vec<u8> = (0..len)
        .map(|i| match data {
            Data::Random => rnd.next() as u8,
            Data::Extreme => fill[i / row_bytes % fill.len()],
            Data::Zero => 0,
        })
        .collect();
    let body = len - t.tail;
    let exponents = exponents(ty);
    for row in bytes[..body].chunks_mut(row_bytes) {
        let (blocks, tail) = row.split_at_mut(row_bytes - t.row_tail);
        for &i in &exponents {
            let places = match i.checked_sub(t.bytes) {
                None => blocks.iter_mut().skip(i).step_by(t.bytes),
                Some(i) => tail.iter_mut().skip(i).step_by(t.row_tail),
            };
            places.for_each(|b| *b = *b & 0x83 | 0x30);
        }
    }
    if t.tail >= 4 {
        bytes[body..body + 4].copy_from_slice(&0.37f32.to_le_bytes());
    }
    bytes
}

struct Activation8 {
    kind: ActKind,
    n: usize,
    k: usize,
    x: Vec<f32>,
    q: Vec<i8>,
    d: Vec<f32>,
    bsums: Vec<i16>,
    sums: Vec<i32>,
}

impl Activation8 {
    fn new(kind: ActKind, n: usize, k: usize, data: Data, rnd: &mut Random) -> Self {
        let x: Vec<f32> = match data {
            Data::Random => rnd.floats(n * k),
            Data::Extreme => (0..n * k)
                .map(|i| match i / k % 3 {
                    0 => 1.0,
                    1 => -1.0,
                    _ => [-1.0, 1.0][(rnd.next() & 1) as usize],
                })
                .collect(),
            Data::Zero => vec![0.0; n * k],
        };
        let (scales, groups) = (kind.scales(k), kind.bsums(k));
        let mut a = Activation8 { kind, n, k, x: vec![], q: vec![], d: vec![], bsums: vec![], sums: vec![] };
        if kind == ActKind::F32 {
            a.x = x;
            return a;
        }
        let codes = kind.codes(k);
        (a.q, a.d, a.bsums) = (vec![0; n * codes], vec![0.0; n * scales], vec![0; n * groups]);
        for t in 0..n {
            a.sums.push(scalar().quantize(
                kind,
                &x[t * k..][..k],
                &mut a.q[t * codes..][..codes],
                &mut a.d[t * scales..][..scales],
                &mut a.bsums[t * groups..][..groups],
            ));
        }
        a
    }
    fn acts(&self) -> Acts<'_> {
        Acts {
            kind: self.kind,
            n: self.n,
            k: self.k,
            x: &self.x,
            q: &self.q,
            d: &self.d,
            bsums: &self.bsums,
            sums: &self.sums,
        }
    }
}

/// Results of one level in a tile that is part of a wider matrix; the rest of the matrix must stay as it was.
fn run(k: &Kernels, ty: QuantType, m: &Matrix<'_>, a: &Activation8) -> Vec<u32> {
    let (n, rows, margin) = (a.n, m.rows(), 3);
    let width = rows + 2 * margin;
    let mut out = vec![f32::from_bits(0x7fc0_1234); n * width];
    let mut whole = TileMut::whole(&mut out, width);
    k.rows(ty, &m.span(0..rows), &a.acts(), &mut whole.sub(0..n, margin..margin + rows));
    for (i, v) in out.iter().enumerate() {
        let inside = (margin..margin + rows).contains(&(i % width));
        assert_eq!(v.to_bits() != 0x7fc0_1234, inside, "{} {ty:?}: element {i} of {n} x {width}", k.name());
    }
    out.iter().map(|v| v.to_bits()).collect()
}

fn compare(levels: &[Kernels], ty: QuantType, rows: usize, cols: usize, n: usize, data: Data, rnd: &mut Random) {
    let bytes = weights(ty, rows, cols, data, rnd);
    let m = Matrix::new(ty, rows, cols, &bytes).expect("the length fits");
    let a = Activation8::new(ty.info().act, n, cols, data, rnd);
    let want = run(&scalar(), ty, &m, &a);
    for k in levels {
        let got = run(k, ty, &m, &a);
        if let Some(i) = (0..want.len()).find(|&i| got[i] != want[i]) {
            let (t, r) = (i / (rows + 6), i % (rows + 6) - 3);
            panic!(
                "{} {ty:?} {data:?} rows {rows} cols {cols} tokens {n}: token {t} row {r}: {} instead of {}",
                k.name(),
                f32::from_bits(got[i]),
                f32::from_bits(want[i])
            );
        }
    }
}

const TOKENS: [usize; 8] = [1, 2, 3, 4, 5, 8, 13, 33];

#[test]
fn rows_of_every_count() {
    let levels = levels();
    let mut rnd = Random(1);
    for &ty in QuantType::ALL {
        let block = ty.info().block;
        for rows in 1..=40 {
            for n in TOKENS {
                compare(&levels, ty, rows, block.max(32), n, Data::Random, &mut rnd);
            }
        }
    }
}

/// Groups of rows that a batch takes together, rows left over, and columns beyond one panel.
#[test]
fn wide_groups() {
    let levels = levels();
    let mut rnd = Random(7);
    for &ty in QuantType::ALL {
        let block = ty.info().block;
        for (rows, cols) in [(64, 256usize), (83, 1536), (128, 1088), (163, 768), (384, 576), (197, 2560)] {
            for n in [2, 3, 5, 10] {
                let data = if n == 3 { Data::Extreme } else { Data::Random };
                compare(&levels, ty, rows, cols.next_multiple_of(block), n, data, &mut rnd);
            }
        }
    }
}

#[test]
fn columns_of_every_length() {
    let levels = levels();
    let mut rnd = Random(2);
    for &ty in QuantType::ALL {
        let block = ty.info().block;
        let blocks = (1..=20).chain([8640usize.div_ceil(block), 11008usize.div_ceil(block) + 1]);
        for cols in blocks.map(|b| b * block) {
            for data in [Data::Random, Data::Extreme, Data::Zero] {
                for (rows, n) in [(19, 1), (16, 2), (33, 5), (24, 9)] {
                    compare(&levels, ty, rows, cols, n, data, &mut rnd);
                }
            }
        }
    }
}

/// Rows of T3C in several panels, and chosen rows and columns: of one kind, in any order, repeated, or none.
#[test]
fn chosen_rows_and_columns() {
    let levels = levels();
    let mut rnd = Random(7);
    for (rows, cols) in [(1, 64), (7, 256), (320, 320), (321, 1280), (700, 640), (33, 8704)] {
        for data in [Data::Random, Data::Extreme] {
            for n in [1, 3, 6] {
                compare(&levels, QuantType::T3C, rows, cols, n, data, &mut rnd);
                compare(&levels, QuantType::T3R, rows, cols, n, data, &mut rnd);
                for len in [0, 4, 12, 64, 700] {
                    listed(&levels, true, (rows, cols), len, n, data, &mut rnd);
                    listed(&levels, false, (rows, cols), len + 3, n, data, &mut rnd);
                }
            }
        }
    }
}

/// `len` chosen columns of T3C or rows of T3R, against the scalar level, and against a matrix that is whole.
fn listed(
    levels: &[Kernels],
    columns: bool,
    (rows, cols): (usize, usize),
    len: usize,
    n: usize,
    data: Data,
    rnd: &mut Random,
) {
    let ty = if columns { QuantType::T3C } else { QuantType::T3R };
    let bytes = weights(ty, rows, cols, data, rnd);
    let m = Matrix::new(ty, rows, cols, &bytes).expect("the length fits");
    let list: Vec<u32> = (0..len).map(|_| (rnd.next() % if columns { cols } else { rows } as u64) as u32).collect();
    let a = Activation8::new(ty.info().act, n, if columns { len } else { cols }, data, rnd);
    let width = if columns { rows } else { len };
    let run = |k: &Kernels| {
        let mut out = vec![f32::NAN; n * width];
        let (span, mut tile) = (m.span(0..rows), TileMut::whole(&mut out, width));
        if width == 0 {
            return vec![];
        }
        if columns {
            k.listed_columns(&span, &list, &a.acts(), &mut tile);
        } else {
            k.listed_rows(&span, &list, &a.acts(), &mut tile);
        }
        bits(&out)
    };
    let want = run(&scalar());
    for k in levels {
        assert!(run(k) == want, "{} {ty:?} {data:?} {rows} x {cols}, {len} chosen, {n} tokens", k.name());
    }
    if !columns {
        let all = m.rows();
        let mut out = vec![0f32; n * all];
        scalar().rows(ty, &m.span(0..all), &a.acts(), &mut TileMut::whole(&mut out, all));
        let chosen: Vec<f32> = out.chunks(all).flat_map(|o| list.iter().map(|&r| o[r as usize])).collect();
        assert_eq!(bits(&chosen), want);
    }
}

/// Sums do not overflow: the longest row, every code and activation as large as can be.
#[test]
fn longest_rows() {
    let levels = levels();
    let mut rnd = Random(3);
    for &ty in QuantType::ALL {
        for n in [1, 3] {
            compare(&levels, ty, 18, 131_072, n, Data::Extreme, &mut rnd);
        }
    }
}

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn quantized_activations() {
    let mut rnd = Random(4);
    for kind in ActKind::ALL {
        for k in [32, 64, 256, 576, 2560, 8640, 8704] {
            for scale in [0.0, 1e-30, 1e-3, 1.0, 7e4] {
                let mut x: Vec<f32> = rnd.floats(k).into_iter().map(|v| v * scale).collect();
                x[k / 2] = -scale;
                let run = |level: &Kernels| {
                    let (mut q, mut d) = (vec![0i8; kind.codes(k)], vec![0f32; kind.scales(k)]);
                    let mut s = vec![0i16; kind.bsums(k)];
                    let sum = level.quantize(kind, &x, &mut q, &mut d, &mut s);
                    (q, bits(&d), s, sum)
                };
                let want = run(&scalar());
                for level in levels() {
                    assert!(run(&level) == want, "{} {kind:?} k {k} scale {scale}", level.name());
                }
            }
        }
    }
}

#[test]
fn norms_gates_and_rotations() {
    let mut rnd = Random(5);
    for n in [2usize, 16, 30, 64, 66, 128, 576, 2562] {
        let (x, y): (Vec<f32>, Vec<f32>) = (rnd.floats(n).iter().map(|v| v * 9.0).collect(), rnd.floats(n));
        let angles: Vec<f32> = rnd.floats(n / 2).iter().map(|v| v * 3.0).collect();
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            (angles.iter().map(|a| a.cos()).collect(), angles.iter().map(|a| a.sin()).collect());
        let run = |k: &Kernels| {
            let mut all = vec![];
            let mut out = vec![0.0; n];
            k.rmsnorm(&x, &y, 1e-5, &mut out);
            all.extend(bits(&out));
            for f in [Activation::Silu, Activation::Gelu, Activation::Relu2] {
                let mut gate = x.clone();
                k.glu(f, &mut gate, &y);
                all.extend(bits(&gate));
            }
            for neox in [false, true] {
                let mut head = x.clone();
                k.rope(neox, &mut head, &cos, &sin);
                all.extend(bits(&head));
            }
            all
        };
        let want = run(&scalar());
        for k in levels() {
            assert_eq!(run(&k), want, "{} n {n}", k.name());
        }
    }
}

#[test]
fn attention() {
    let mut rnd = Random(6);
    for kv in KvType::ALL {
        for head_dim in [32usize, 64, 80, 96, 128, 256] {
            // Types with a window: the first 8 and the last 24 positions, if there are more, are read as Q8, these from a
            // ring of 32. The keys' offset is any vector.
            for (group, start, end) in [(1usize, 0usize, 1usize), (3, 0, 17), (4, 5, 40), (8, 0, 131)] {
                let (row_bytes, exact_bytes) = (kv.row_bytes(head_dim), KvType::EXACT.row_bytes(head_dim));
                let offset = rnd.floats(head_dim);
                let q = rnd.floats(group * head_dim);
                let values: Vec<f32> = rnd.floats(2 * end * head_dim);
                let run = |level: &Kernels| {
                    let mut all = vec![];
                    let mut parts = vec![];
                    for half in values.chunks(end * head_dim) {
                        let (mut packed, mut exact) = (vec![0u8; end * row_bytes], vec![0u8; (8 + 32) * exact_bytes]);
                        for (t, v) in half.chunks(head_dim).enumerate() {
                            let mut v = v.to_vec();
                            if kv.rotates() {
                                level.hadamard(&mut v);
                            }
                            level.kv_store(kv, &v, &mut packed[t * row_bytes..][..row_bytes]);
                            let slot = if t < 8 { t } else { 8 + (t - 8) % 32 };
                            level.kv_store(KvType::EXACT, &v, &mut exact[slot * exact_bytes..][..exact_bytes]);
                        }
                        parts.push((packed, exact));
                    }
                    let rows = |part: usize| {
                        let (packed, exact) = &parts[part];
                        let offset = if part == 0 { &offset[..] } else { &[] };
                        let (first, recent_from) =
                            if kv.window() > 0 { (8, end.saturating_sub(24)) } else { (0, usize::MAX) };
                        KvRows { packed, row_bytes, exact, first, ring: 32, recent_from, offset, range: start..end }
                    };
                    let (mut scores, mut out) = (vec![0.0; group * (end - start)], vec![0.0; group * head_dim]);
                    level.scores(kv, &q, head_dim, &rows(0), 0.125, &mut scores);
                    all.extend(bits(&scores));
                    for s in scores.chunks_mut(end - start) {
                        all.push(level.softmax(s).to_bits());
                    }
                    all.extend(bits(&scores));
                    level.mix(kv, &scores, head_dim, &rows(1), &mut out);
                    all.extend(bits(&out));
                    (parts, all)
                };
                let want = run(&scalar());
                for level in levels() {
                    assert!(run(&level) == want, "{} {kv:?} head {head_dim} x {group}, {start}..{end}", level.name());
                }
            }
        }
    }
}

/// What keys are stored without is added to scores: every width, also those of which no vector is full.
#[test]
fn added_dots() {
    let mut rnd = Random(16);
    for width in [2usize, 16, 20, 64, 80, 128, 256] {
        for (group, n) in [(1usize, 1usize), (2, 4), (3, 7), (5, 33), (8, 3), (14, 130)] {
            let (q, rows, before) = (rnd.floats(group * width), rnd.floats(n * width), rnd.floats(group * n));
            let run = |level: &Kernels| {
                let mut scores = before.clone();
                level.add_dots(&q, width, &rows, 0.25, &mut scores);
                bits(&scores)
            };
            let want = run(&scalar());
            for (i, bits) in want.iter().enumerate() {
                let (q, row) = (&q[i / n * width..][..width], &rows[i % n * width..][..width]);
                let dot: f64 = q.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                assert!((f64::from(f32::from_bits(*bits)) - f64::from(before[i]) - 0.25 * dot).abs() < 1e-4);
            }
            for level in levels() {
                assert!(run(&level) == want, "{} {width} x {group}, {n} rows", level.name());
            }
        }
    }
}

/// Every safe function over a kernel refuses lengths that do not agree, before it reads or writes; also where a product of
/// lengths wraps round to the right one.
#[test]
fn lengths_that_do_not_agree_are_refused() {
    let half = usize::MAX / 2 + 1;
    let mut rnd = Random(8);
    let mut all = levels();
    all.push(scalar());
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let mut let_through = vec![];
    for k in &all {
        let mut must_refuse = |what: String, call: &mut dyn FnMut()| {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_ok() {
                let_through.push(format!("{}: {what}", k.name()));
            }
        };
        for &ty in QuantType::ALL {
            let (rows, cols) = (ty.lanes(), ty.info().block.max(32));
            let bytes = weights(ty, rows, cols, Data::Random, &mut rnd);
            let m = Matrix::new(ty, rows, cols, &bytes).expect("the length fits");
            let a = Activation8::new(ty.info().act, 2, cols, Data::Random, &mut rnd);
            let (w, acts) = (m.span(0..rows), a.acts());
            let one_token = Acts { n: 1, ..acts };
            let other_kind = if acts.kind == ActKind::F32 { ActKind::Row } else { ActKind::F32 };
            let spans = [
                RowSpan { data: &w.data[1..], ..w },
                RowSpan { data: &[], ..w },
                RowSpan { data: &[], cols: 0, row_bytes: 0, ..w },
                RowSpan { rows: rows + ty.lanes(), ..w },
                RowSpan { cols: 2 * cols, ..w },
                RowSpan { cols: cols - 1, ..w },
                RowSpan { row_bytes: w.row_bytes - 1, ..w },
                RowSpan { row_bytes: w.row_bytes + half, ..w },
                RowSpan { row_bytes: half, data: &[], rows: 2 * ty.lanes(), ..w },
            ];
            for (i, w) in spans.iter().enumerate() {
                must_refuse(format!("{ty:?} span {i}"), &mut || {
                    let mut out = vec![0f32; 2 * w.rows];
                    k.rows(ty, w, &acts, &mut TileMut::whole(&mut out, w.rows));
                });
            }
            for (i, acts) in
                [one_token, Acts { kind: other_kind, ..acts }, Acts { k: cols + half, ..acts }].iter().enumerate()
            {
                must_refuse(format!("{ty:?} activation {i}"), &mut || {
                    let mut out = vec![0f32; 2 * rows];
                    k.rows(ty, &w, acts, &mut TileMut::whole(&mut out, rows));
                });
            }
            for (tokens, width) in [(1, rows), (3, rows), (2, rows + 1), (2 * rows, 1)] {
                if (tokens, width) != (2, rows) {
                    must_refuse(format!("{ty:?} output {tokens} x {width}"), &mut || {
                        let mut out = vec![0f32; tokens * width];
                        k.rows(ty, &w, &acts, &mut TileMut::whole(&mut out, width));
                    });
                }
            }
            let list = vec![0u32; 4];
            match ty {
                QuantType::S2 => {
                    for (i, (w, len)) in spans.iter().map(|w| (*w, w.rows)).chain([(w, rows - 1)]).enumerate() {
                        must_refuse(format!("bounds {i}"), &mut || k.bounds(&w, 1.0, 1.0, &mut vec![0f32; len]));
                    }
                }
                QuantType::T3R => {
                    for (i, w) in spans.iter().enumerate() {
                        must_refuse(format!("listed rows {i}"), &mut || {
                            k.listed_rows(w, &list, &acts, &mut TileMut::whole(&mut [0f32; 8], 4));
                        });
                    }
                    for list in [vec![0, 1, rows as u32, 0], vec![u32::MAX; 4], vec![0; 5]] {
                        must_refuse(format!("listed rows {list:?}"), &mut || {
                            k.listed_rows(&w, &list, &acts, &mut TileMut::whole(&mut [0f32; 8], 4));
                        });
                    }
                }
                QuantType::T3C => {
                    let a = Activation8::new(ty.info().act, 1, 4, Data::Random, &mut rnd);
                    for (i, w) in spans.iter().filter(|w| w.cols >= cols || w.cols % 4 != 0).enumerate() {
                        must_refuse(format!("listed columns {i}"), &mut || {
                            let mut out = vec![0f32; w.rows];
                            k.listed_columns(w, &list, &a.acts(), &mut TileMut::whole(&mut out, w.rows));
                        });
                    }
                    for list in [vec![0, 1, cols as u32, 0], vec![u32::MAX; 4], vec![0; 3], vec![0; 8]] {
                        must_refuse(format!("listed columns {list:?}"), &mut || {
                            let mut out = vec![0f32; rows];
                            k.listed_columns(&w, &list, &a.acts(), &mut TileMut::whole(&mut out, rows));
                        });
                    }
                }
                _ => (),
            }
        }
        for kind in ActKind::ALL {
            let (x, right) = (vec![1f32; 256], [kind.codes(256), kind.scales(256), kind.bsums(256)]);
            for part in 0..3 {
                let mut len = right;
                len[part] += 1;
                must_refuse(format!("{kind:?} {len:?}"), &mut || {
                    let (mut q, mut d, mut s) = (vec![0i8; len[0]], vec![0f32; len[1]], vec![0i16; len[2]]);
                    k.quantize(kind, &x, &mut q, &mut d, &mut s);
                });
            }
        }
        for (x, w, out) in [(64, 63, 64), (64, 64, 48), (48, 64, 64)] {
            must_refuse(format!("norm {x} {w} {out}"), &mut || {
                k.rmsnorm(&vec![1f32; x], &vec![1f32; w], 1e-5, &mut vec![0f32; out]);
            });
        }
        for activation in [Activation::Silu, Activation::Gelu, Activation::Relu2] {
            must_refuse(format!("{activation:?}"), &mut || k.glu(activation, &mut [1f32; 64], &[1f32; 48]));
        }
        for neox in [false, true] {
            for (head, cos, sin) in [(62, 32, 32), (64, 32, 31)] {
                must_refuse(format!("rope {head} {cos} {sin}"), &mut || {
                    k.rope(neox, &mut vec![1f32; head], &vec![1f32; cos], &vec![0f32; sin]);
                });
            }
        }
        for kv in KvType::ALL {
            let (head_dim, n) = (64, 40);
            let (row_bytes, exact_bytes) = (kv.row_bytes(head_dim), KvType::EXACT.row_bytes(head_dim));
            must_refuse(format!("{kv:?} row"), &mut || k.kv_store(kv, &[1f32; 64], &mut vec![0u8; row_bytes - 1]));
            let (packed, exact) = (vec![0u8; n * row_bytes], vec![0u8; 40 * exact_bytes]);
            let (first, recent_from) = if kv.window() > 0 { (8, 16) } else { (0, usize::MAX) };
            let offset: &[f32] = &[];
            let rows =
                KvRows { packed: &packed, row_bytes, exact: &exact, first, ring: 32, recent_from, offset, range: 0..n };
            let (q, right) = (vec![1f32; 2 * head_dim], 2 * n);
            let mut wrong = vec![
                KvRows { row_bytes: row_bytes + 1, ..rows.clone() },
                KvRows { row_bytes: half, ..rows.clone() },
                KvRows { first: usize::MAX, ring: 2, ..rows.clone() },
                KvRows { ring: 33, ..rows.clone() },
                KvRows { recent_from: usize::MAX, packed: &packed[1..], ..rows.clone() },
                KvRows { recent_from: usize::MAX, range: half..half + n, ..rows.clone() },
                KvRows { offset: &[1.0; 63], ..rows.clone() },
                KvRows { range: 5..5, ..rows.clone() },
            ];
            if kv.window() > 0 {
                wrong.push(KvRows { ring: 0, ..rows.clone() });
                wrong.push(KvRows { exact: &exact[1..], ..rows.clone() });
            } else {
                wrong.push(KvRows { first: 8, ..rows.clone() });
                wrong.push(KvRows { recent_from: 39, ..rows.clone() });
            }
            for (i, bad) in wrong.iter().filter(|bad| bad.ring != 33 || kv.window() > 0).enumerate() {
                let n = bad.range.len();
                must_refuse(format!("{kv:?} scores {i}"), &mut || {
                    k.scores(kv, &q, head_dim, bad, 1.0, &mut vec![0f32; 2 * n]);
                });
                must_refuse(format!("{kv:?} mix {i}"), &mut || {
                    k.mix(kv, &vec![0f32; 2 * n], head_dim, bad, &mut vec![0f32; 2 * head_dim]);
                });
            }
            for (q, dim, out) in
                [(127, 64, right), (128, 64, right - 1), (128, 64, right + 1), (128, 0, 0), (1024, 1024, n)]
            {
                must_refuse(format!("{kv:?} scores of {q} by {dim} into {out}"), &mut || {
                    k.scores(kv, &vec![1f32; q], dim, &rows, 1.0, &mut vec![0f32; out]);
                });
                must_refuse(format!("{kv:?} mix of {out} by {dim} into {q}"), &mut || {
                    k.mix(kv, &vec![1f32; out], dim, &rows, &mut vec![0f32; q]);
                });
            }
            if kv.window() > 0 {
                // Nearly all positions are recent ones, which share a ring: only the product could tell.
                let long = KvRows { range: 16..16 + half, ..rows.clone() };
                must_refuse(format!("{kv:?} long scores"), &mut || k.scores(kv, &q, head_dim, &long, 1.0, &mut []));
                must_refuse(format!("{kv:?} long mix"), &mut || k.mix(kv, &[], head_dim, &long, &mut [0f32; 128]));
            }
        }
    }
    std::panic::set_hook(quiet);
    assert!(let_through.is_empty(), "{let_through:#?}");
}

/// No rows, no tokens: nothing is read and nothing written.
#[test]
fn nothing_is_computed_of_nothing() {
    let mut rnd = Random(9);
    for k in levels().iter().chain([&scalar()]) {
        for &ty in QuantType::ALL {
            let cols = ty.info().block.max(32);
            for (rows, n) in [(0, 1), (0, 3), (ty.lanes(), 0), (3, 0)] {
                let bytes = weights(ty, rows, cols, Data::Random, &mut rnd);
                let m = Matrix::new(ty, rows, cols, &bytes).expect("the length fits");
                let a = Activation8::new(ty.info().act, n, cols, Data::Random, &mut rnd);
                let width = ty.lanes().max(64);
                let mut out = vec![7f32; width * 3];
                let mut whole = TileMut::whole(&mut out, width);
                k.rows(ty, &m.span(0..rows), &a.acts(), &mut whole.sub(0..n, 0..rows));
                assert!(out.iter().all(|v| *v == 7.0), "{} {ty:?} {rows} rows {n} tokens", k.name());
            }
        }
        k.glu(Activation::Silu, &mut [], &[]);
        k.softmax(&mut []);
        k.rope(true, &mut [1.0; 3], &[], &[]);
    }
}
