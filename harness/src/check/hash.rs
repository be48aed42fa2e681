// SPDX-License-Identifier: MIT OR Apache-2.0
//! Maps keyed by numbers that nobody chooses against us: ids, PIDs, serials. The standard library's hasher
//! defends against chosen keys, and a fifth of the checker's time went into that.

use std::hash::{BuildHasherDefault, Hasher};

/// Multiplies and folds, as `hashbrown`'s users in compilers do.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Folding(u64);

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.cast_unsigned() as u64);
    }
}

/// A map with that hasher.
pub(super) type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Folding>>;

/// A set with that hasher.
pub(super) type Set<K> = std::collections::HashSet<K, BuildHasherDefault<Folding>>;
