// SPDX-License-Identifier: MIT OR Apache-2.0
//! SplitMix64: a small generator whose numbers depend on its seed and nothing else.

/// A generator.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for one position of one worker: independent of all others.
    pub const fn at(seed: u64, worker: u32, position: u32) -> Self {
        let mut random =
            Self(seed ^ ((worker as u64) << 32 | position as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        random.next();
        random
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A position in a list of this length, which is not empty.
    pub const fn below(&mut self, length: usize) -> usize {
        (self.next() % length as u64) as usize
    }

    /// True once in `every` times; never if that is 0.
    pub const fn once_in(&mut self, every: u32) -> bool {
        let next = self.next();
        every != 0 && next.is_multiple_of(every as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        let mut random = Random(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn positions_do_not_repeat_each_other() {
        let mut seen = std::collections::HashSet::new();
        for worker in 0..4 {
            for position in 0..1000 {
                assert!(seen.insert(Random::at(7, worker, position).next()));
            }
        }
    }
}
