// SPDX-License-Identifier: MIT OR Apache-2.0
//! Record by record, does the unicast stream equal the multicast one?
//!
//! The multicast socket sees the kernel's own queue; the unicast socket, which the log is taken from, may
//! be served out of order after a retry. The two are read by two threads, so either may be ahead: only
//! the hashes of what the other has not read yet are kept.

use std::collections::VecDeque;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Unicast = 0,
    Multicast = 1,
}

/// The hash of a record's type and bytes: 64 bits, so that among a billion records two unequal ones pass
/// for equal at the same position with a chance of one in ten billion.
///
/// A record's stamp and serial are part of its bytes, which makes nearly every record unlike all others.
#[must_use]
pub fn hash(record_type: u16, record: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |state: u64, word: u64| -> u64 {
        let product = u128::from(state ^ word) * u128::from(FACTOR);
        (product as u64) ^ (product >> 64) as u64
    };
    let mut state = mix(FACTOR ^ u64::from(record_type), record.len() as u64);
    let (words, rest) = record.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word)).wrapping_add(FACTOR);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state, u64::from_le_bytes(last))
}

/// What was read of both, and how far they agree.
#[derive(Debug, Default)]
pub struct Comparison {
    count: [u64; 2],
    /// Hashes that wait for the other stream.
    ahead: [VecDeque<u64>; 2],
    /// Unicast records before the first multicast one.
    before_multicast: u64,
    aligned: bool,
    /// Pairs found equal.
    equal: u64,
    different: bool,
}

impl Comparison {
    /// Adds the hashes of records of one stream, in its order.
    pub fn add(&mut self, stream: Stream, hashes: &[u64]) {
        self.count[stream as usize] += hashes.len() as u64;
        if self.different {
            return;
        }
        self.ahead[stream as usize].extend(hashes);
        self.settle();
    }

    fn settle(&mut self) {
        let [unicast, multicast] = &mut self.ahead;
        if !self.aligned {
            let Some(first) = multicast.front() else { return };
            while let Some(hash) = unicast.front() {
                if hash == first {
                    self.aligned = true;
                    break;
                }
                unicast.pop_front();
                self.before_multicast += 1;
            }
        }
        while self.aligned
            && let (Some(left), Some(right)) = (unicast.front(), multicast.front())
        {
            if left != right {
                self.different = true;
                unicast.clear();
                multicast.clear();
                return;
            }
            unicast.pop_front();
            multicast.pop_front();
            self.equal += 1;
        }
    }

    /// Records read from a stream.
    #[must_use]
    pub const fn count(&self, stream: Stream) -> u64 {
        self.count[stream as usize]
    }

    /// Unicast records before the first multicast one.
    #[must_use]
    pub const fn before_multicast(&self) -> u64 {
        self.before_multicast
    }

    /// Position in the unicast stream of the first record that has no equal at its place in the multicast stream, once
    /// no more will come. A stream that ends early differs where it ends.
    #[must_use]
    pub fn first_difference(&self) -> Option<u64> {
        let left_over = self.ahead.iter().any(|hashes| !hashes.is_empty());
        (self.different || left_over || !self.aligned).then_some(self.before_multicast + self.equal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(parts: &[(Stream, &[u64])]) -> Comparison {
        let mut comparison = Comparison::default();
        for (stream, hashes) in parts {
            comparison.add(*stream, hashes);
        }
        comparison
    }

    use Stream::{Multicast, Unicast};

    #[test]
    fn equal_streams_are_equal_whichever_is_ahead() {
        for parts in [
            [(Unicast, &[1, 2, 3][..]), (Multicast, &[1, 2][..]), (Multicast, &[3][..])],
            [(Multicast, &[1, 2, 3][..]), (Unicast, &[1][..]), (Unicast, &[2, 3][..])],
        ] {
            let comparison = compare(&parts);
            assert_eq!(comparison.first_difference(), None);
            assert_eq!((comparison.count(Unicast), comparison.count(Multicast)), (3, 3));
            assert!(comparison.ahead.iter().all(VecDeque::is_empty), "only the skew is kept");
        }
    }

    #[test]
    fn records_from_before_the_multicast_socket_are_counted() {
        let comparison = compare(&[(Unicast, &[7, 8]), (Multicast, &[1, 2]), (Unicast, &[1, 2])]);
        assert_eq!(comparison.before_multicast(), 2);
        assert_eq!(comparison.first_difference(), None);
    }

    #[test]
    fn a_swap_is_a_difference_at_its_place() {
        let comparison =
            compare(&[(Unicast, &[9, 1, 3, 2, 4]), (Multicast, &[1, 2, 3, 4]), (Unicast, &[5; 100])]);
        assert_eq!(comparison.first_difference(), Some(2));
        assert_eq!(comparison.count(Unicast), 105);
        assert!(comparison.ahead.iter().all(VecDeque::is_empty), "nothing is kept after a difference");
    }

    #[test]
    fn a_record_missing_from_either_stream_is_a_difference() {
        assert_eq!(compare(&[(Unicast, &[1, 3]), (Multicast, &[1, 2, 3])]).first_difference(), Some(1));
        assert_eq!(compare(&[(Unicast, &[1, 2, 3]), (Multicast, &[1, 3])]).first_difference(), Some(1));
        assert_eq!(compare(&[(Unicast, &[1, 2]), (Multicast, &[1])]).first_difference(), Some(1));
        assert_eq!(compare(&[(Unicast, &[1]), (Multicast, &[1, 2])]).first_difference(), Some(1));
    }

    #[test]
    fn streams_that_never_meet_are_no_pass() {
        assert_eq!(compare(&[(Unicast, &[1, 2]), (Multicast, &[5])]).first_difference(), Some(2));
        assert_eq!(compare(&[(Unicast, &[1, 2])]).first_difference(), Some(0));
    }

    #[test]
    fn hashes_tell_type_length_and_each_byte_apart() {
        let record = b"audit(1700000000.123:7): a0=1 a1=2".to_vec();
        let whole = hash(1300, &record);
        assert_eq!(whole, hash(1300, &record.clone()));
        assert_ne!(whole, hash(1301, &record));
        for position in 0..record.len() {
            let mut other = record.clone();
            other[position] ^= 1;
            assert_ne!(whole, hash(1300, &other), "byte {position}");
        }
        assert_ne!(hash(1, b"a"), hash(1, b"a\0"));
        assert_ne!(hash(1, &[0; 8]), hash(1, &[0; 16]));
    }
}
