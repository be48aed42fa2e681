// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames: how messages cross a virtio-serial port.
//!
//! Layout, little endian: magic `NSTF` (4), payload length u32 (4), sequence u64 (8), CRC-32 of
//! length, sequence and payload u32 (4), payload. Each direction of each port counts its own
//! sequence from 0. A reader that meets anything else reports a [`FrameError`] and stops: a stream
//! with a fault proves nothing about what follows, so there is no resynchronisation.

use thiserror::Error;

/// The first four bytes of each frame.
pub const MAGIC: [u8; 4] = *b"NSTF";
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 20;
/// The largest payload: above what any batch or message needs, below what would exhaust memory.
pub const MAX_PAYLOAD: usize = 4 * 1024 * 1024;

/// What is wrong with a stream of frames.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum FrameError {
    #[error(
        "frame {sequence}: magic is {found:02x?}, expected \"NSTF\" (hint: bytes were lost or mixed in before this frame)"
    )]
    Magic { sequence: u64, found: [u8; 4] },
    #[error("frame {sequence}: payload of {length} bytes is over the limit of {MAX_PAYLOAD}")]
    TooLong { sequence: u64, length: u64 },
    #[error("frame out of sequence: expected {expected}, found {found} (hint: a frame was {})", if found > expected { "lost" } else { "doubled or swapped" })]
    Sequence { expected: u64, found: u64 },
    #[error("frame {sequence}: checksum is {found:#010x}, expected {expected:#010x}")]
    Checksum { sequence: u64, expected: u32, found: u32 },
    #[error("stream ends inside frame {sequence}: {missing} bytes are missing")]
    Truncated { sequence: u64, missing: usize },
}

fn checksum(length: [u8; 4], sequence: [u8; 8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(&sequence);
    hasher.update(payload);
    hasher.finalize()
}

/// Builds frames, counting their sequence.
#[derive(Debug, Default)]
pub struct FrameEncoder {
    sequence: u64,
}

impl FrameEncoder {
    #[must_use]
    pub const fn new() -> Self {
        Self { sequence: 0 }
    }

    /// Goes on counting at `sequence`: to write down a frame that came in a stream.
    #[must_use]
    pub const fn starting_at(sequence: u64) -> Self {
        Self { sequence }
    }

    /// Appends one frame around `payload` to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] above [`MAX_PAYLOAD`]; `out` is left as it was.
    pub fn encode(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(FrameError::TooLong { sequence: self.sequence, length: payload.len() as u64 });
        }
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let sequence = self.sequence.to_le_bytes();
        out.reserve(HEADER_LEN + payload.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&length);
        out.extend_from_slice(&sequence);
        out.extend_from_slice(&checksum(length, sequence, payload).to_le_bytes());
        out.extend_from_slice(payload);
        self.sequence += 1;
        Ok(())
    }
}

/// Takes bytes as they come and gives payloads.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
    expected: u64,
}

impl FrameDecoder {
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, expected: 0 }
    }

    /// Adds bytes read from the port.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.buffer.len() || self.start > 64 * 1024) {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The number of whole frames taken so far.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.expected
    }

    /// The next whole payload, or `None` until more bytes come.
    ///
    /// # Errors
    /// The first fault of the stream. After an error the decoder must not be used further.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let pending = &self.buffer[self.start..];
        let Some((header, rest)) = pending.split_first_chunk::<HEADER_LEN>() else {
            let seen = pending.len().min(4);
            if pending[..seen] != MAGIC[..seen] {
                let mut found = [0; 4];
                found[..seen].copy_from_slice(&pending[..seen]);
                return Err(FrameError::Magic { sequence: self.expected, found });
            }
            return Ok(None);
        };
        let field = |at: usize| -> [u8; 4] { [header[at], header[at + 1], header[at + 2], header[at + 3]] };
        let found = field(0);
        if found != MAGIC {
            return Err(FrameError::Magic { sequence: self.expected, found });
        }
        let length = field(4);
        let size = u32::from_le_bytes(length) as usize;
        if size > MAX_PAYLOAD {
            return Err(FrameError::TooLong { sequence: self.expected, length: size as u64 });
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&header[8..16]);
        let number = u64::from_le_bytes(sequence);
        if number != self.expected {
            return Err(FrameError::Sequence { expected: self.expected, found: number });
        }
        if rest.len() < size {
            return Ok(None);
        }
        let expected = checksum(length, sequence, &rest[..size]);
        let found = u32::from_le_bytes(field(16));
        if found != expected {
            return Err(FrameError::Checksum { sequence: number, expected, found });
        }
        let from = self.start + HEADER_LEN;
        self.start = from + size;
        self.expected += 1;
        Ok(Some(&self.buffer[from..from + size]))
    }

    /// Called at the end of the stream.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if the stream ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        let pending = &self.buffer[self.start..];
        if pending.is_empty() {
            return Ok(());
        }
        let whole = pending.get(4..8).map_or(HEADER_LEN, |length| {
            HEADER_LEN + u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize
        });
        Err(FrameError::Truncated { sequence: self.expected, missing: whole.saturating_sub(pending.len()) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = FrameEncoder::new();
        let mut bytes = Vec::new();
        for payload in payloads {
            encoder.encode(payload, &mut bytes).unwrap();
        }
        bytes
    }

    fn decode(bytes: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut decoder = FrameDecoder::new();
        let mut payloads = Vec::new();
        for piece in bytes.chunks(chunk) {
            decoder.extend(piece);
            while let Some(payload) = decoder.next_frame()? {
                payloads.push(payload.to_vec());
            }
        }
        decoder.finish()?;
        Ok(payloads)
    }

    proptest! {
        #[test]
        fn any_payloads_survive_any_chunking(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            chunk in 1_usize..97,
        ) {
            prop_assert_eq!(decode(&encode(&payloads), chunk), Ok(payloads));
        }

        #[test]
        fn a_flipped_bit_is_never_accepted(
            payload in proptest::collection::vec(any::<u8>(), 1..300),
            position in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut bytes = encode(&[payload]);
            let at = position.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes, 64).is_err());
        }

        #[test]
        fn a_cut_stream_is_never_accepted(
            payload in proptest::collection::vec(any::<u8>(), 1..300),
            position in any::<prop::sample::Index>(),
        ) {
            let bytes = encode(&[payload]);
            let cut = 1 + position.index(bytes.len() - 1);
            prop_assert!(decode(&bytes[..cut], 64).is_err());
        }
    }

    #[test]
    fn a_lost_frame_and_a_doubled_frame_are_told_apart() {
        let bytes = encode(&[b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
        let size = HEADER_LEN + 1;
        let lost = [&bytes[..size], &bytes[2 * size..]].concat();
        assert_eq!(decode(&lost, 7), Err(FrameError::Sequence { expected: 1, found: 2 }));
        let doubled = [&bytes[..size], &bytes[..size]].concat();
        assert_eq!(decode(&doubled, 7), Err(FrameError::Sequence { expected: 1, found: 0 }));
    }

    #[test]
    fn an_absurd_length_is_refused_before_it_is_awaited() {
        let mut bytes = encode(&[b"a".to_vec()]);
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(decode(&bytes, 64), Err(FrameError::TooLong { .. })));
    }
}
