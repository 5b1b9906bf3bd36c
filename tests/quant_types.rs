//! What every weight type must hold, whichever it is: these walk `QuantType::ALL`.

use trill::cpu::CpuFeatures;
use trill::kernels::select;
use trill::limits::FFN_MAX;
use trill::quant::{ActKind, ActRow, BlockHealth, Matrix, QuantType};

fn draw(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// About normal, deviation 0.29.
fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut next = draw(seed);
    let mut one = move || {
        let z = next();
        ((0..4).map(|i| (z >> (16 * i) & 0xFFFF) as i32).sum::<i32>() - 131_070) as f32 / (1 << 17) as f32
    };
    (0..n).map(|_| one()).collect()
}

/// Offsets of the binary16 fields of a block (of an F32's upper half), from the golden file.
fn halves(ty: QuantType) -> Vec<usize> {
    let line = include_str!("golden/quant.txt").lines().find(|l| l.split(' ').next() == Some(ty.info().name));
    match ty {
        QuantType::B1
        | QuantType::T2
        | QuantType::T3
        | QuantType::T3R
        | QuantType::T3C
        | QuantType::S2
        | QuantType::Q8R => {
            vec![]
        }
        QuantType::B1_64 => vec![8],
        QuantType::Q1_0_R32 => (0..64).step_by(2).collect(),
        QuantType::Q2_0_R16 | QuantType::Q2_0_G128_R16 | QuantType::TQ2_0_R16 => (0..32).step_by(2).collect(),
        _ => line.and_then(|l| l.split(' ').nth(3)).unwrap().split(',').filter_map(|s| s.parse().ok()).collect(),
    }
}

/// One row with the bytes that `fill` gives, then every scale and minimum set to 1; floats stay below 2.
fn row(ty: QuantType, cols: usize, mut fill: impl FnMut() -> u8) -> Vec<u8> {
    let t = ty.info();
    let mut data: Vec<u8> = (0..ty.row_bytes(cols).unwrap()).map(|_| fill()).collect();
    let (body, tail) = data.split_at_mut(ty.row_bytes(cols).unwrap() - t.row_tail);
    for block in body.chunks_exact_mut(t.bytes) {
        for at in halves(ty) {
            if t.block == 1 {
                block[at + 1] &= 0xBF;
            } else {
                block[at..at + 2].copy_from_slice(&0x3C00u16.to_le_bytes());
            }
        }
    }
    tail.as_chunks_mut::<4>().0.fill(1f32.to_le_bytes());
    data
}

/// An activation in the form `kind`, and the values it stands for.
struct Activation {
    kind: ActKind,
    x: Vec<f32>,
    q: Vec<i8>,
    d: Vec<f32>,
    bsums: Vec<i16>,
    sum: i32,
}

impl Activation {
    fn new(kind: ActKind, x: &[f32]) -> Self {
        let k = x.len();
        let (mut q, mut d, mut bsums) = (vec![0; kind.codes(k)], vec![0.0; kind.scales(k)], vec![0; kind.bsums(k)]);
        let scalar = select(&CpuFeatures::compiled(), Some("scalar")).unwrap();
        let sum = scalar.quantize(kind, x, &mut q, &mut d, &mut bsums);
        Activation { kind, x: x.to_vec(), q, d, bsums, sum }
    }

    /// Every int8 value `q` (scales 1), every sign or float that of `q`.
    fn constant(kind: ActKind, k: usize, q: i8) -> Self {
        let codes = vec![if kind == ActKind::Sign { -i8::from(q >= 0) } else { q }; kind.codes(k)];
        let group = k.checked_div(kind.bsums(k)).unwrap_or(0) as i16;
        let bsums = vec![group * i16::from(q); kind.bsums(k)];
        let x = vec![f32::from(q.signum()); k];
        Activation { kind, x, q: codes, d: vec![1.0; kind.scales(k)], bsums, sum: k as i32 * i32::from(q) }
    }

    fn row(&self) -> ActRow<'_> {
        let x: &[f32] = if self.kind == ActKind::F32 { &self.x } else { &[] };
        ActRow { x, q: &self.q, d: &self.d, bsums: &self.bsums, sum: self.sum }
    }

    /// Value `i`, from the form.
    fn value(&self, i: usize) -> f64 {
        let q = || f64::from(self.q[i]);
        match self.kind {
            ActKind::F32 => f64::from(self.x[i]),
            ActKind::Row => q() / f64::from(self.d[0]),
            ActKind::Block32 => q() * f64::from(self.d[i / 32]),
            ActKind::Block256 => q() * f64::from(self.d[i / 256]),
            ActKind::Sign => f64::from(self.q[i / 8] >> (i % 8) & 1) * 2.0 - 1.0,
        }
    }
}

/// `dot` against the sum of products of decoded weights and the activation's values, in f64: they may differ by
/// the f32 rounding of the block sums only, `tolerance` of the sum of the terms' magnitudes.
fn assert_dot(ty: QuantType, row: &[u8], act: &Activation, k: usize, tolerance: f64) {
    let mut w = vec![0f32; k];
    (ty.info().decode)(row, &mut w);
    let terms = || (0..k).map(|i| f64::from(w[i]) * act.value(i));
    let (want, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
    let got = f64::from((ty.info().dot)(row, act.row()));
    assert!((got - want).abs() <= tolerance * size, "{ty:?} k {k}: {got} instead of {want}, of {size}");
}

#[test]
fn dot_is_the_dot_of_what_decode_gives() {
    for &ty in QuantType::ALL {
        for k in [256, 512, 2560, 6912] {
            let mut next = draw(k as u64);
            let row = row(ty, k, || next() as u8);
            assert_dot(ty, &row, &Activation::new(ty.info().act, &normal(9, k)), k, 1e-5);
        }
    }
}

/// The widest row with codes and activations at their ends. Tests run with overflow checks on.
#[test]
fn extremes_do_not_overflow() {
    for &ty in QuantType::ALL {
        for fill in [0xFF, 0x00, 0x80, 0x7F] {
            let row = row(ty, FFN_MAX, || fill);
            for q in [127, -128] {
                assert_dot(ty, &row, &Activation::constant(ty.info().act, FFN_MAX, q), FFN_MAX, 1e-3);
            }
        }
    }
}

/// Quantizing the activation costs under 0.2 % of the product of the norms.
#[test]
fn int8_activations_are_close() {
    for &ty in QuantType::ALL.iter().filter(|t| t.info().act != ActKind::Sign) {
        let k = 2560;
        let mut next = draw(4);
        let (row, x) = (row(ty, k, || next() as u8), normal(5, k));
        for lane in 0..ty.lanes() {
            let mut w = vec![0f32; k];
            ty.decode_lane(lane, &row, &mut w);
            let exact: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let got = f64::from(ty.dot_lane(lane, &row, Activation::new(ty.info().act, &x).row()));
            let error = (got - exact).abs() / (norm(&w) * norm(&x));
            assert!(error < 2e-3, "{ty:?} row {lane}: {error}");
        }
    }
}

/// Values that the type holds exactly; `None` for the K types, whose encoders search.
fn representable(ty: QuantType, n: usize) -> Option<Vec<f32>> {
    let of = |f: fn(usize) -> f32| Some((0..n).map(f).collect());
    match ty {
        QuantType::F32 => Some(normal(1, n)),
        QuantType::F16 | QuantType::BF16 => of(|i| (i % 255) as f32 / 64.0 - 2.0),
        QuantType::Q4_0 => of(|i| (i % 16) as f32 * 0.25 - 2.0),
        QuantType::Q4_1 => of(|i| (i % 16) as f32 * 0.25 - 1.0),
        QuantType::Q5_0 => of(|i| (i % 32) as f32 * 0.25 - 4.0),
        QuantType::Q5_1 => of(|i| (i % 32) as f32 * 0.25 - 1.0),
        QuantType::Q8_0 | QuantType::Q8R => of(|i| (i % 32 * 8) as f32 * 0.25 - 31.75 + (i % 32 / 31) as f32 * 1.5),
        QuantType::I2_S | QuantType::I2_S_ARM => of(|i| (i * 7 % 11 % 3) as f32 - 1.0),
        QuantType::TQ1_0
        | QuantType::TQ2_0
        | QuantType::Q2_0
        | QuantType::Q2_0_G128
        | QuantType::PTQ1_0
        | QuantType::Q2_0_R16
        | QuantType::Q2_0_G128_R16
        | QuantType::TQ2_0_R16 => of(|i| ((i * 7 % 11 % 3) as f32 - 1.0) * 0.375),
        QuantType::Q1_0 | QuantType::Q1_0_R32 | QuantType::B1 | QuantType::B1_64 => {
            of(|i| if i * 7 % 11 < 5 { 0.375 } else { -0.375 })
        }
        QuantType::STQ1_0 => of(|i| {
            let (group, lane) = (i / 64 * 16 + i % 16, i % 64 / 16);
            let sign = if (group >> 2) + lane * 5 & 2 == 0 { 0.375 } else { -0.375 };
            if lane == group % 4 { 0.0 } else { sign }
        }),
        QuantType::Q2_K | QuantType::Q3_K | QuantType::Q4_K | QuantType::Q5_K | QuantType::Q6_K => None,
        QuantType::T2 | QuantType::T3 | QuantType::T3R | QuantType::T3C => of(|i| (i * 7 % 11 % 3) as f32 - 1.0),
        QuantType::S2 => of(|i| [-0.375, -0.125, 0.125, 0.375][i * 7 % 11 % 4]),
    }
}

#[test]
fn representable_values_come_back_exactly() {
    for &ty in QuantType::ALL {
        let (t, n) = (ty.info(), 1024);
        let Some(values) = representable(ty, n) else { continue };
        let mut data = vec![0u8; ty.row_bytes(n).unwrap()];
        t.encode.unwrap()(&values, &mut data);
        let mut back = vec![0f32; n];
        (t.decode)(&data, &mut back);
        assert_eq!(back, values, "{ty:?}");
        assert_eq!(BlockHealth { blocks: 0, ..(t.check)(&data) }, zero_weights(ty, &values), "{ty:?}");
    }
}

/// For types without blocks each weight is its own scale.
fn zero_weights(ty: QuantType, values: &[f32]) -> BlockHealth {
    let zero = if ty.info().block == 1 { values.iter().filter(|v| **v == 0.0).count() } else { 0 };
    BlockHealth { zero, ..BlockHealth::default() }
}

#[test]
fn error_of_normal_values_fits_the_width() {
    use QuantType::*;
    let bounds = [
        (F16, 3e-4),
        (BF16, 3e-3),
        (Q8_0, 0.008),
        (Q8R, 0.008),
        (Q6_K, 0.02),
        (Q5_K, 0.04),
        (Q5_0, 0.06),
        (Q5_1, 0.05),
        (Q4_K, 0.08),
        (Q4_0, 0.12),
        (Q4_1, 0.1),
        (Q3_K, 0.18),
        (Q2_K, 0.36),
        (Q1_0, 0.63),
        (B1, 0.63),
        (B1_64, 0.63),
    ];
    for (ty, bound) in bounds {
        let values = normal(3, 8192);
        let mut data = vec![0u8; ty.row_bytes(values.len()).unwrap()];
        ty.info().encode.unwrap()(&values, &mut data);
        let mut back = vec![0f32; values.len()];
        (ty.info().decode)(&data, &mut back);
        let square = |v: f32| f64::from(v).powi(2);
        let error: f64 = values.iter().zip(&back).map(|(a, b)| square(a - b)).sum();
        let relative = (error / values.iter().map(|v| square(*v)).sum::<f64>()).sqrt();
        assert!(relative < bound && relative > bound / 4.0, "{ty:?}: {relative}");
    }
}

#[test]
fn check_counts_what_is_odd() {
    for &ty in QuantType::ALL {
        let t = ty.info();
        let blocks = if t.row_tail != 0 { 1 } else { 4 };
        // Codes that every type writes.
        let code = if ty == QuantType::TQ2_0_R16 { 0xD5 } else { 0x55 };
        let sound = row(ty, 4 * t.block, || code);
        assert_eq!((t.check)(&sound), BlockHealth { blocks, ..BlockHealth::default() }, "{ty:?}");
        let fields: Vec<usize> = if t.row_tail == 4 { vec![4 * t.bytes + 2] } else { halves(ty) };
        for at in fields {
            let mut broken = sound.clone();
            broken[at..at + 2].copy_from_slice(&[0xFF, 0x7F]);
            let want = BlockHealth { blocks, not_finite: 1, ..BlockHealth::default() };
            assert_eq!((t.check)(&broken), want, "{ty:?} at {at}");
        }
        let zeros = (t.check)(&vec![0; sound.len()]);
        let has_scale = t.row_tail != 0 || !halves(ty).is_empty();
        assert_eq!(zeros.zero, if has_scale { blocks } else { 0 }, "{ty:?}");
    }
    for ty in [QuantType::I2_S, QuantType::I2_S_ARM, QuantType::TQ2_0] {
        let bytes = ty.info().bytes;
        let mut data = vec![0b01_10_00_01; bytes];
        data[3] = 0b11_10_11_01;
        assert_eq!((ty.info().check)(&data).invalid_codes, 2, "{ty:?}");
    }
}

#[test]
fn health_of_a_matrix_counts_its_rows_and_its_scale() {
    for (ty, bytes) in [(QuantType::I2_S, 32), (QuantType::Q8_0, 4 * 34), (QuantType::B1, 20)] {
        let mut data: Vec<u8> = (0..6).flat_map(|_| row(ty, 128, || 0x55)).collect();
        data.resize(ty.tensor_bytes(6, 128).unwrap(), 0);
        assert_eq!(ty.row_bytes(128), Some(bytes));
        let health = |data: &[u8], step| Matrix::new(ty, 6, 128, data).unwrap().health(step);
        let (per_row, extra) = (if ty == QuantType::Q8_0 { 4 } else { 1 }, usize::from(ty == QuantType::I2_S));
        // A scale of zero in the tail is noticed.
        let want = BlockHealth { blocks: 6 * per_row + extra, zero: extra, ..BlockHealth::default() };
        assert_eq!(health(&data, 1), want, "{ty:?}");
        assert_eq!(health(&data, 4).blocks, 2 * per_row + extra);
        assert_eq!(health(&data, 0), want);
        ty.write_tail(f32::NAN, &mut data[6 * bytes..]);
        assert_eq!(health(&data, 1).not_finite, extra, "{ty:?}");
    }
}

#[test]
fn numbers_of_files_are_unambiguous() {
    for &ty in QuantType::ALL {
        match ty.info().ggml_id {
            Some(id) => assert_eq!(QuantType::from_ggml(id), Some(ty)),
            None => assert_eq!(ty, QuantType::I2_S_ARM),
        }
    }
    for refused in [4, 38, 39, 199, 299] {
        assert_eq!(QuantType::from_ggml(refused), None);
    }
}
