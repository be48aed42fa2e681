// SPDX-License-Identifier: MIT OR Apache-2.0
//! The payload of an audit-stream frame: netlink audit records in the order of the queue.
//!
//! Each record is its netlink type u16, its length u32 (both little endian) and its bytes as the
//! kernel sent them, without the netlink header and without a trailing NUL: `audit(TIME:SERIAL): ...`.
//! Records are bytes, not text.

use thiserror::Error;

/// A batch that does not hold whole records.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("audit batch ends inside record {index}: {missing} bytes are missing")]
pub struct BatchError {
    /// Index of the record in the batch.
    pub index: usize,
    /// Bytes that would complete it.
    pub missing: usize,
}

/// Appends one record to a batch.
///
/// A record longer than `u32::MAX` cannot come from netlink; it is cut there.
pub fn push(batch: &mut Vec<u8>, record_type: u16, record: &[u8]) {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    batch.extend_from_slice(&record_type.to_le_bytes());
    batch.extend_from_slice(&length.to_le_bytes());
    batch.extend_from_slice(&record[..length as usize]);
}

/// The records of a batch: (type, bytes). The iterator ends after its first error.
#[must_use]
pub const fn records(batch: &[u8]) -> Records<'_> {
    Records { rest: batch, index: 0 }
}

/// See [`records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u16, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((header, body)) = rest.split_first_chunk::<6>() else {
            return Some(Err(BatchError { index: self.index, missing: 6 - rest.len() }));
        };
        let length = u32::from_le_bytes([header[2], header[3], header[4], header[5]]) as usize;
        if body.len() < length {
            return Some(Err(BatchError { index: self.index, missing: length - body.len() }));
        }
        self.index += 1;
        let (record, rest) = body.split_at(length);
        self.rest = rest;
        Some(Ok((u16::from_le_bytes([header[0], header[1]]), record)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_survive_a_batch(list in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..99)), 0..20)) {
            let mut bytes = Vec::new();
            for (record_type, record) in &list {
                push(&mut bytes, *record_type, record);
            }
            let back: Vec<_> = records(&bytes).map(|r| r.map(|(t, b)| (t, b.to_vec()))).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(back, list);
        }

        #[test]
        fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(records(&bytes).count() <= bytes.len());
        }
    }
}
