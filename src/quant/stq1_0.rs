//! STQ1_0 (Tencent's "Sherry", llama.cpp pull request 22836): 256 weights in 42 bytes, `w = d * code`; of every group
//! of four weights one is 0 and three are +1 or -1.
//!
//! Lane `p` of group `g` is weight `g / 16 * 64 + g % 16 + 16 * p`. Group `g` has a slot (low nibble of byte
//! `g / 2` for even `g`, else high) and a sign (bit `g % 8` of byte `32 + g / 8`). The slot's upper two bits are the lane
//! of the zero; of the other three lanes in order, the first is +1, the second -1 where slot bit 0 is set,
//! the third -1 where slot bit 1 is set; sign 1 negates all three. Bytes 40..42 are `d` (binary16).
//!
//! `dot` (Block256): `acc = acc + (isum as f32) * (d * da)`, `isum = sum(code * q)`, `|isum| <= 2^15`.

use super::block::{check_scales, decode_scaled, dot256, encode_blocks, half, half_bytes, idot, widest};
use super::{ActKind, TypeInfo};

pub(super) const INFO: TypeInfo = TypeInfo {
    name: "STQ1_0",
    ggml_id: Some(43),
    block: 256,
    bytes: 42,
    row_tail: 0,
    more_lanes: &[],
    tail: 0,
    act: ActKind::Block256,
    decode: |data, out| decode_scaled(data, out, unpack),
    encode: Some(|values, out| encode_blocks(values, out, pack)),
    dot: |row, act| {
        dot256(row, act, |b, q| {
            let (codes, d) = unpack(b);
            (idot(&codes, q), d)
        })
    },
    check: |data| check_scales::<42, 1>(data, |b| [half::<40, 42>(b)]),
};

/// The four lanes of a group, for `sign << 4 | slot`.
const LANES: [[i8; 4]; 32] = {
    let mut table = [[0; 4]; 32];
    let mut i = 0;
    while i < 32 {
        let first = if i & 16 == 0 { 1 } else { -1 };
        let others = [first, if i & 1 == 0 { first } else { -first }, if i & 2 == 0 { first } else { -first }];
        let zero = i >> 2 & 3;
        let mut n = 0;
        while n < 3 {
            table[i][if n < zero { n } else { n + 1 }] = others[n];
            n += 1;
        }
        i += 1;
    }
    table
};

fn at(group: usize, lane: usize) -> usize {
    group / 16 * 64 + group % 16 + 16 * lane
}

fn unpack(b: &[u8; 42]) -> ([i8; 256], f32) {
    let mut codes = [0; 256];
    for g in 0..64 {
        let slot = b[g / 2] >> (g % 2 * 4) & 15;
        let sign = b[32 + g / 8] >> (g % 8) & 1;
        for (p, code) in LANES[usize::from(sign << 4 | slot)].iter().enumerate() {
            codes[at(g, p)] = *code;
        }
    }
    (codes, half::<40, 42>(b))
}

/// `d` is the largest magnitude; the smallest of each group becomes its zero (the first of equals).
fn pack(v: &[f32; 256]) -> [u8; 42] {
    let mut b = [0; 42];
    for g in 0..64 {
        let lanes: [f32; 4] = core::array::from_fn(|p| v[at(g, p)]);
        let zero = (1..4).fold(0, |z, p| if lanes[p].abs() < lanes[z].abs() { p } else { z });
        let mut negative = (0..4).filter(|p| *p != zero).map(|p| u8::from(lanes[p] < 0.0));
        let [first, second, third] = core::array::from_fn(|_| negative.next().unwrap_or(0));
        let slot = (zero as u8) << 2 | (third ^ first) << 1 | (second ^ first);
        b[g / 2] |= slot << (g % 2 * 4);
        b[32 + g / 8] |= first << (g % 8);
    }
    b[40..].copy_from_slice(&half_bytes(widest(v).abs()));
    b
}
