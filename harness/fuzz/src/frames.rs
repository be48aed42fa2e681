// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames from a guest, and what is in them: batches of records, messages.

use nstrail_wire::{
    batch,
    frame::{FrameDecoder, FrameEncoder, FrameError},
    message::{self, GuestMessage, HostMessage},
};

/// The first byte says how the rest is meant, and how it is cut: 0 to 127, the bytes of a port; from 128 on, payloads
/// with lengths of two bytes, which are framed first, because nobody hits upon a checksum by chance.
pub fn frames(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    if first < 128 {
        let _ = stream(rest, usize::from(first) + 1);
        return;
    }
    let payloads = payloads(rest);
    let mut encoder = FrameEncoder::new();
    let mut framed = Vec::new();
    for payload in &payloads {
        assert_eq!(encoder.encode(payload, &mut framed), Ok(()));
        contents(payload);
    }
    let (decoded, end) = stream(&framed, usize::from(first) - 127);
    assert_eq!((decoded, end), (payloads, Ok(())), "what was framed comes out of it");
}

fn payloads(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (payload, after) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
        payloads.push(payload.to_vec());
        bytes = after;
    }
    payloads
}

type Decoded = (Vec<Vec<u8>>, Result<(), FrameError>);

/// The same payloads and the same fault, however the bytes come.
fn stream(bytes: &[u8], chunk: usize) -> Decoded {
    let (whole, end) = decode(bytes, bytes.len().max(1));
    let (cut, cut_end) = decode(bytes, chunk);
    assert_eq!(whole, cut, "payloads depend on how the bytes come");
    match (&end, &cut_end) {
        // Of a magic only those bytes are named that were there.
        (Err(FrameError::Magic { sequence, .. }), Err(FrameError::Magic { sequence: cut, .. })) => {
            assert_eq!(sequence, cut);
        }
        _ => assert_eq!(end, cut_end, "the fault depends on how the bytes come"),
    }
    whole.iter().for_each(|payload| contents(payload));
    (whole, end)
}

fn decode(bytes: &[u8], chunk: usize) -> Decoded {
    let mut decoder = FrameDecoder::new();
    let mut payloads = Vec::new();
    for piece in bytes.chunks(chunk) {
        decoder.extend(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return (payloads, Err(error));
                }
            }
        }
    }
    assert_eq!(decoder.frames(), payloads.len() as u64);
    let end = decoder.finish();
    (payloads, end)
}

/// Whatever a payload is taken for.
fn contents(payload: &[u8]) {
    let mut again = Vec::new();
    let mut whole = true;
    for record in batch::records(payload) {
        match record {
            Ok((kind, record)) => batch::push(&mut again, kind, record),
            Err(error) => {
                assert!(error.missing > 0);
                whole = false;
            }
        }
    }
    assert!(if whole { again == payload } else { payload.starts_with(&again) });
    message_again::<GuestMessage>(payload);
    message_again::<HostMessage>(payload);
}

/// A message survives its bytes. Those may be others: a number has several encodings.
fn message_again<T>(payload: &[u8])
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    if let Ok(message) = message::decode::<T>(payload) {
        let bytes = message::encode(&message).expect("what was decoded can be encoded");
        assert_eq!(message::decode::<T>(&bytes), Ok(message));
    }
}
