//! Every weight type against other implementations: hashes made by `golden/make_quant_golden.py`, whose inputs
//! are made again here.

use trill::quant::QuantType;

const BLOCKS: usize = 64;
const GROUPS: usize = 40;

fn draw(seed: u64, n: usize) -> impl Iterator<Item = u64> {
    (1..=n as u64).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

fn blocks(size: usize, halves: &[usize]) -> Vec<u8> {
    let mut b: Vec<u8> = draw(1, BLOCKS * size).map(|z| (z >> 56) as u8).collect();
    for (i, block) in b.chunks_exact_mut(size).enumerate() {
        for at in halves {
            block[at + 1] &= if i % 8 == 0 { 0x83 } else { 0xBF };
        }
    }
    b
}

fn values() -> Vec<f32> {
    let sum = |z: u64| (0..4).map(|i| (z >> (16 * i) & 0xFFFF) as i32).sum::<i32>() - 131_070;
    let mut v: Vec<f32> = draw(2, GROUPS * 256).map(|z| sum(z) as f32 / (1 << 17) as f32).collect();
    for (g, row) in v.chunks_exact_mut(256).enumerate() {
        match g % 10 {
            4 => row.iter_mut().for_each(|v| *v *= 2f32.powi(-22)),
            5 => row[..if g % 20 == 5 { 256 } else { 112 }].fill(0.0),
            6 => row.fill(-0.75),
            7 => row.iter_mut().for_each(|v| {
                let t = (*v * 4.0).trunc();
                *v = if t == 0.0 { 0.0 } else { 0.3125f32.copysign(t) };
            }),
            8 => row[37] = 40.0,
            9 => row.iter_mut().for_each(|v| *v += 2.0),
            _ => {}
        }
    }
    v
}

fn fnv(data: impl IntoIterator<Item = u8>) -> String {
    let h = data.into_iter().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01B3));
    format!("{h:016x}")
}

fn lines() -> impl Iterator<Item = (QuantType, Vec<&'static str>)> {
    include_str!("golden/quant.txt").lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ty = QuantType::ALL.iter().find(|t| t.info().name == fields[0])?;
        Some((*ty, fields))
    })
}

#[test]
fn every_type_of_the_file_formats_has_a_golden_line() {
    for ty in QuantType::ALL.iter().filter(|t| t.info().ggml_id.is_none_or(|id| id < 200)) {
        assert_eq!(lines().filter(|(t, _)| t == ty).count(), 1, "{}", ty.info().name);
    }
}

#[test]
fn decode_gives_the_same_bits() {
    for (ty, fields) in lines() {
        let t = ty.info();
        assert_eq!((t.bytes.to_string(), t.block.to_string()), (fields[1].into(), fields[2].into()), "{}", t.name);
        let halves: Vec<usize> = fields[3].split(',').filter_map(|s| s.parse().ok()).collect();
        let mut out = vec![0f32; BLOCKS * t.block];
        (t.decode)(&blocks(t.bytes, &halves), &mut out);
        assert_eq!(fnv(out.iter().flat_map(|v| v.to_le_bytes())), fields[4], "{}", t.name);
    }
}

#[test]
fn encode_gives_the_same_bytes() {
    let values = values();
    let mut wrong = vec![];
    for (ty, fields) in lines() {
        let t = ty.info();
        let Some(encode) = t.encode else { continue };
        let mut out = vec![0u8; values.len() / t.block * t.bytes];
        encode(&values, &mut out);
        if fields[5] != "-" && fnv(out) != fields[5] {
            wrong.push(t.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
