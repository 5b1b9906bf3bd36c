//! Random numbers: xoshiro256++ 1.0 of Blackman and Vigna, its state filled by SplitMix64 as they advise
//! (<https://prng.di.unimi.it>). Not for secrets.

pub(super) struct Rng([u64; 4]);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        let mut x = seed;
        Rng(core::array::from_fn(|_| {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ b << 17, d.rotate_left(45)];
        out
    }

    /// A number from 0 to below 1, one of 2^53.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // State 1, 2, 3, 4: the values that the authors' C program prints.
        let mut rng = Rng([1, 2, 3, 4]);
        let got: [u64; 4] = core::array::from_fn(|_| rng.next());
        assert_eq!(got, [41943041, 58720359, 3588806011781223, 3591011842654386]);
        // SplitMix64 of seed 0.
        assert_eq!(Rng::new(0).0[0], 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn units_fill_the_interval() {
        let mut rng = Rng::new(9);
        let mean = (0..100_000).map(|_| rng.unit()).inspect(|u| assert!((0.0..1.0).contains(u))).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.005);
    }
}
