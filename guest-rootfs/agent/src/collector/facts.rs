// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reading end of the ledger: entries of the pipe become `GuestMessage::Facts`.
//!
//! Facts are passed on as the bytes that their tasks encoded: a message of facts is its variant, their
//! number and the facts one behind the other, so nothing needs to be decoded here.

use std::{
    fs::File,
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nstrail_wire::message::GuestMessage;

use super::{
    CollectorError,
    pace::{LEDGER_PAUSE, Pace},
    port::Port,
    queue::AuditQueue,
    tally::Tally,
};
use crate::ledger::{FAILURE, SYNC};

/// Index of [`GuestMessage::Facts`] among the variants, as postcard writes it; a test holds the two together.
const FACTS_VARIANT: u8 = 1;
/// A message of facts is sent when it has grown to this size.
const MESSAGE: usize = 64 * 1024;
/// As much as the pipe holds at a time.
const CHUNK: usize = 256 * 1024;

/// An entry of the pipe.
#[derive(Debug, PartialEq, Eq)]
enum Entry<'a> {
    Fact(&'a [u8]),
    Sync(u64),
    Failure(&'a [u8]),
}

/// The first entry, and what follows it; `None` if it is not all there.
fn split_entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    match u16::from_le_bytes(*length) {
        SYNC => {
            let (number, rest) = rest.split_first_chunk::<8>()?;
            Some((Entry::Sync(u64::from_le_bytes(*number)), rest))
        }
        FAILURE => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (text, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
            Some((Entry::Failure(text), rest))
        }
        length => {
            let (fact, rest) = rest.split_at_checked(length.into())?;
            Some((Entry::Fact(fact), rest))
        }
    }
}

/// Facts that wait to be sent.
#[derive(Debug, Default)]
struct Pending {
    count: u64,
    facts: Vec<u8>,
}

impl Pending {
    fn push(&mut self, fact: &[u8]) {
        self.count += 1;
        self.facts.extend_from_slice(fact);
    }

    /// The message of all pending facts, of which none is left afterwards; `None` if there were none.
    fn message(&mut self) -> Option<Vec<u8>> {
        if self.count == 0 {
            return None;
        }
        let mut message = Vec::with_capacity(11 + self.facts.len());
        message.push(FACTS_VARIANT);
        // A varint: seven bits a byte, the lowest first, the top bit set on all but the last.
        let mut count = self.count;
        while count >= 0x80 {
            message.push(count as u8 | 0x80);
            count >>= 7;
        }
        message.push(count as u8);
        message.append(&mut self.facts);
        self.count = 0;
        Some(message)
    }
}

/// How far the ledger has been passed on, for those who wait for it.
#[derive(Debug, Default)]
pub struct LedgerProgress {
    synced: Mutex<u64>,
    changed: Condvar,
}

impl LedgerProgress {
    /// Waits until all entries before this sync have been sent to the host.
    ///
    /// # Errors
    /// After `limit`.
    pub fn wait(&self, number: u64, limit: Duration) -> Result<(), CollectorError> {
        let deadline = Instant::now() + limit;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        while *synced < number {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CollectorError::Ledger { seconds: limit.as_secs() });
            }
            synced = self.changed.wait_timeout(synced, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn reach(&self, number: u64) {
        *self.synced.lock().unwrap_or_else(PoisonError::into_inner) = number;
        self.changed.notify_all();
    }
}

/// The thread that reads the ledger.
#[derive(Debug)]
pub struct LedgerReader {
    pub pipe: File,
    pub port: Arc<Port>,
    pub queue: Arc<AuditQueue>,
    pub pace: Arc<Pace>,
    pub tally: Arc<Tally>,
    pub progress: Arc<LedgerProgress>,
}

impl LedgerReader {
    /// Reads until no task holds the pipe any more, or the port is broken.
    pub fn run(mut self) {
        if let Err(error) = self.read() {
            self.tally.fail(CollectorError::Port { port: "control", reason: error.to_string() });
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut rest = Vec::new();
        let mut pending = Pending::default();
        loop {
            let length = match self.pipe.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            rest.extend_from_slice(&chunk[..length]);
            let mut unread = &rest[..];
            while let Some((entry, behind)) = split_entry(unread) {
                unread = behind;
                match entry {
                    Entry::Fact(fact) => {
                        pending.push(fact);
                        if pending.facts.len() >= MESSAGE {
                            self.flush(&mut pending)?;
                        }
                    }
                    Entry::Sync(number) => {
                        self.flush(&mut pending)?;
                        self.progress.reach(number);
                    }
                    Entry::Failure(text) => {
                        self.flush(&mut pending)?;
                        let reason = String::from_utf8_lossy(text).into_owned();
                        self.port.send(&GuestMessage::Failed { step: None, reason: reason.clone() })?;
                        self.tally.fail(CollectorError::Task { reason });
                    }
                }
            }
            let done = rest.len() - unread.len();
            rest.drain(..done);
            // Whatever is in the pipe by now came in one go: what is pending is the end of it.
            self.flush(&mut pending)?;
            self.queue.wait_for_room();
            if length < CHUNK {
                self.pace.linger(LEDGER_PAUSE);
            }
        }
    }

    fn flush(&self, pending: &mut Pending) -> io::Result<()> {
        match pending.message() {
            Some(message) => self.port.write(&message),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use nstrail_wire::{
        fact::{Act, ActorId, Fact},
        message,
    };

    use super::*;

    fn fact(number: u32) -> Fact {
        Fact { actor: ActorId(9), number, tid: 5, pid: 5, step: 1, act: Act::Fence { number } }
    }

    #[test]
    fn a_message_of_encoded_facts_is_what_postcard_makes_of_them() {
        for count in [1, 2, 127, 128, 300, 20_000] {
            let facts: Vec<Fact> = (0..count).map(fact).collect();
            let mut pending = Pending::default();
            for fact in &facts {
                pending.push(&postcard::to_stdvec(fact).unwrap());
            }
            let expected = message::encode(&GuestMessage::Facts(facts)).unwrap();
            assert_eq!(pending.message(), Some(expected));
            assert_eq!(pending.message(), None);
        }
    }

    #[test]
    fn an_entry_is_taken_only_when_it_is_whole() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&3_u16.to_le_bytes());
        bytes.extend_from_slice(b"abc");
        bytes.extend_from_slice(&SYNC.to_le_bytes());
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(&FAILURE.to_le_bytes());
        bytes.extend_from_slice(&2_u16.to_le_bytes());
        bytes.extend_from_slice(b"no");
        let entries = [Entry::Fact(b"abc"), Entry::Sync(7), Entry::Failure(b"no")];
        for cut in 0..=bytes.len() {
            let mut rest = &bytes[..cut];
            let mut found = Vec::new();
            while let Some((entry, behind)) = split_entry(rest) {
                found.push(entry);
                rest = behind;
            }
            assert_eq!(found[..], entries[..found.len()]);
            assert_eq!(rest.is_empty(), [0, 5, 15, bytes.len()].contains(&cut), "{cut}");
        }
    }
}
