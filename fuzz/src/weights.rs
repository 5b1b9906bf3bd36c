//! Any bytes as blocks of any weight type: decoding and products agree with each other, every kernel level gives the
//! scalar level's bits, chosen rows and columns those of the whole, and what an encoder writes is sound and read back.

use crate::{Choices, KERNELS, Noise, bits};
use trill::kernels::Kernels;
use trill::mem::TileMut;
use trill::quant::{ActKind, Acts, Matrix, QuantType};

pub fn run(input: &[u8]) {
    let mut c = Choices::new(input);
    let ty = c.of(QuantType::ALL);
    let t = ty.info();
    let cols = t.block * (1 + c.below((1024 / t.block).max(2)));
    let (rows, n) = (1 + c.below(9), 1 + c.below(5));
    let len = ty.tensor_bytes(rows, cols).expect("small sizes");
    let mut noise = Noise(u64::from(c.word()));
    let sane = c.byte() % 2 == 0;
    let x: Vec<f32> = (0..n * cols).map(|i| if i % 7 == 0 { c.float() } else { noise.unit() }).collect();
    let mut bytes = c.rest().to_vec();
    bytes.resize_with(len, || noise.byte());
    if sane {
        tame(ty, rows, cols, &mut bytes);
    }
    let x: Vec<f32> = x.iter().map(|v| if v.is_finite() && v.abs() < 1e6 { *v } else { 1.0 }).collect();
    products(ty, rows, cols, &bytes, &x, n);
    encoded(ty, cols, &x);
}

/// Makes numbers of blocks finite: a byte that can make one infinite gets another exponent.
pub(crate) fn tame(ty: QuantType, rows: usize, cols: usize, bytes: &mut [u8]) {
    let t = ty.info();
    let one = ty.row_bytes(t.block).expect("one block");
    let infinite = |&i: &usize| {
        let mut row = vec![0u8; one];
        (row[i - 1], row[i]) = (0x80, 0x7f);
        (t.check)(&row).not_finite > 0
    };
    let places: Vec<usize> = (1..one).filter(infinite).collect();
    let row_bytes = ty.row_bytes(cols).expect("whole blocks");
    let body = row_bytes * rows.div_ceil(ty.lanes());
    for row in bytes[..body].chunks_mut(row_bytes) {
        let (blocks, tail) = row.split_at_mut(row_bytes - t.row_tail);
        for &i in &places {
            let all = match i.checked_sub(t.bytes) {
                None => blocks.iter_mut().skip(i).step_by(t.bytes),
                Some(i) => tail.iter_mut().skip(i).step_by(t.row_tail),
            };
            all.for_each(|b| *b = *b & 0x83 | 0x30);
        }
    }
    if t.tail >= 4 {
        bytes[body..body + 4].copy_from_slice(&0.37f32.to_le_bytes());
    }
}

struct Activations {
    q: Vec<i8>,
    d: Vec<f32>,
    bsums: Vec<i16>,
    sums: Vec<i32>,
}

fn quantized(kernels: &Kernels, kind: ActKind, x: &[f32], cols: usize) -> Activations {
    let mut a = Activations { q: vec![], d: vec![], bsums: vec![], sums: vec![] };
    if kind == ActKind::F32 {
        return a;
    }
    for row in x.chunks(cols) {
        let (mut q, mut d) = (vec![0; kind.codes(cols)], vec![0.0; kind.scales(cols)]);
        let mut bsums = vec![0; kind.bsums(cols)];
        a.sums.push(kernels.quantize(kind, row, &mut q, &mut d, &mut bsums));
        a.q.extend(q);
        a.d.extend(d);
        a.bsums.extend(bsums);
    }
    a
}

fn products(ty: QuantType, rows: usize, cols: usize, bytes: &[u8], x: &[f32], n: usize) {
    let kind = ty.info().act;
    let m = Matrix::new(ty, rows, cols, bytes).expect("the length fits");
    let mut row = vec![0.0; cols];
    (0..rows).for_each(|r| m.decode_row(r, &mut row));
    m.health(1);
    let scalar = KERNELS.last().expect("scalar");
    let a = quantized(scalar, kind, x, cols);
    for k in KERNELS.iter() {
        let b = quantized(k, kind, x, cols);
        assert!(a.q == b.q && bits(&a.d) == bits(&b.d) && a.bsums == b.bsums && a.sums == b.sums, "{}", k.name());
    }
    let x = if kind == ActKind::F32 { x } else { &[] };
    let acts = Acts { kind, n, k: cols, x, q: &a.q, d: &a.d, bsums: &a.bsums, sums: &a.sums };
    let computed = |k: &Kernels| {
        let mut out = vec![0.0; n * rows];
        k.rows(ty, &m.span(0..rows), &acts, &mut TileMut::whole(&mut out, rows));
        out
    };
    let want = computed(scalar);
    // The definition itself, row by row.
    let direct = |i: usize| {
        let (token, r) = (i / rows, i % rows);
        let first = r - r % ty.lanes();
        ty.dot_lane(r, m.span(first..rows.min(first + ty.lanes())).data, acts.row(token)) * m.scale()
    };
    assert_eq!(bits(&(0..n * rows).map(direct).collect::<Vec<_>>()), bits(&want), "{ty:?}: scalar rows");
    for k in KERNELS.iter() {
        assert_eq!(bits(&computed(k)), bits(&want), "{ty:?} {rows} x {cols}, {n} tokens: {}", k.name());
        if ty == QuantType::T3R {
            let list: Vec<u32> = (0..rows as u32).rev().step_by(2).collect();
            let mut out = vec![0.0; n * list.len()];
            k.listed_rows(&m.span(0..rows), &list, &acts, &mut TileMut::whole(&mut out, list.len()));
            let chosen = |i: usize| want[i / list.len() * rows + list[i % list.len()] as usize];
            assert_eq!(bits(&out), bits(&(0..out.len()).map(chosen).collect::<Vec<_>>()), "{}", k.name());
        }
    }
}

/// What an encoder writes of ordinary values has finite scales and known codes, and decodes to finite values.
fn encoded(ty: QuantType, cols: usize, x: &[f32]) {
    let (Some(encode), lanes) = (ty.info().encode, ty.lanes()) else { return };
    let values: Vec<f32> = x.iter().copied().cycle().take(lanes * cols).map(|v| v.clamp(-1e3, 1e3)).collect();
    let mut data = vec![0; ty.row_bytes(cols).expect("whole blocks")];
    encode(&values, &mut data);
    let health = (ty.info().check)(&data);
    assert!(health.not_finite == 0 && health.invalid_codes == 0, "{ty:?}: {health:?}");
    let mut back = vec![0.0; cols];
    for row in 0..lanes {
        ty.decode_lane(row, &data, &mut back);
        assert!(back.iter().all(|v| v.is_finite()), "{ty:?} row {row}");
    }
}
