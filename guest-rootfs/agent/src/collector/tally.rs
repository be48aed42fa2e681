// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the two readers have seen, and the place where others wait for it.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    CollectorError,
    comparison::{Comparison, Stream},
};
use crate::netlink::AUDIT_USER;

/// Number of the fence that ends a run: what the log says after it is none of the run's.
pub const LAST_FENCE: u32 = u32::MAX;

/// The number in a fence's marker record, if this is one: `... msg='nstrail-fence=NUMBER'`.
#[must_use]
pub fn fence_number(record_type: u16, record: &[u8]) -> Option<u32> {
    const MARK: &[u8] = b" msg='nstrail-fence=";
    if record_type != AUDIT_USER {
        return None;
    }
    let place = record.windows(MARK.len()).position(|window| window == MARK)?;
    let digits = record[place + MARK.len()..].strip_suffix(b"'")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[derive(Debug, Default)]
struct State {
    comparison: Comparison,
    overruns: u64,
    /// The last fence seen in each stream.
    fence: [Option<u32>; 2],
    /// The kernel took our socket as the one that the log goes to.
    registered: bool,
    failure: Option<CollectorError>,
}

/// A batch of one stream, as its reader hands it over.
#[derive(Debug, Default)]
pub struct Read {
    pub hashes: Vec<u64>,
    pub overruns: u64,
    pub fence: Option<u32>,
    pub registered: bool,
}

/// The parts of `AuditFact::Collected` that the readers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    pub unicast: u64,
    pub multicast: u64,
    pub before_multicast: u64,
    pub first_difference: Option<u64>,
    pub overruns: u64,
}

/// Shared by the readers and those who wait for them.
#[derive(Debug, Default)]
pub struct Tally {
    state: Mutex<State>,
    changed: Condvar,
}

impl Tally {
    /// Takes a batch, and empties it for the next one.
    pub fn add(&self, stream: Stream, read: &mut Read) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.comparison.add(stream, &read.hashes);
        state.overruns += read.overruns;
        state.registered |= read.registered;
        if read.fence.is_some() {
            state.fence[stream as usize] = read.fence;
        }
        if read.fence.is_some() || read.registered {
            self.changed.notify_all();
        }
        read.hashes.clear();
        *read = Read { hashes: std::mem::take(&mut read.hashes), ..Read::default() };
    }

    /// Ends every wait, now and later, with this error. The first one stays.
    pub fn fail(&self, error: CollectorError) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Waits until both streams have come to this fence.
    ///
    /// # Errors
    /// After `limit`, or if a reader has failed.
    pub fn await_fence(&self, number: u32, limit: Duration) -> Result<(), CollectorError> {
        self.wait(limit, |state| state.fence == [Some(number); 2]).map_err(|error| match error {
            Some(failure) => failure,
            None => {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                CollectorError::Fence {
                    number,
                    seconds: limit.as_secs(),
                    unicast: state.fence[Stream::Unicast as usize],
                    multicast: state.fence[Stream::Multicast as usize],
                }
            }
        })
    }

    /// Waits until the kernel sends the log to our socket.
    ///
    /// # Errors
    /// After `limit`, or if a reader has failed.
    pub fn await_registration(&self, limit: Duration) -> Result<(), CollectorError> {
        self.wait(limit, |state| state.registered)
            .map_err(|failure| failure.unwrap_or(CollectorError::Unregistered { seconds: limit.as_secs() }))
    }

    fn wait(&self, limit: Duration, reached: impl Fn(&State) -> bool) -> Result<(), Option<CollectorError>> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(failure) = &state.failure {
                return Err(Some(failure.clone()));
            }
            if reached(&state) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(None);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What was read up to now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Totals {
            unicast: state.comparison.count(Stream::Unicast),
            multicast: state.comparison.count(Stream::Multicast),
            before_multicast: state.comparison.before_multicast(),
            first_difference: state.comparison.first_difference(),
            overruns: state.overruns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[u8] = b"audit(1.2:3): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='nstrail-fence=12'";

    #[test]
    fn a_fence_is_a_user_message_with_a_number() {
        assert_eq!(fence_number(1005, RECORD), Some(12));
        assert_eq!(fence_number(1300, RECORD), None);
        assert_eq!(fence_number(1005, &RECORD[..RECORD.len() - 1]), None, "cut");
        assert_eq!(fence_number(1005, b"audit(1.2:3): pid=1 msg='nstrail-fence=x'"), None);
        assert_eq!(fence_number(1005, b"audit(1.2:3): pid=1 msg='nstrail-token=12'"), None);
    }

    #[test]
    fn a_fence_is_reached_when_both_streams_have_it() {
        let tally = Tally::default();
        let soon = Duration::from_millis(20);
        tally.add(Stream::Unicast, &mut Read { hashes: vec![1], fence: Some(0), ..Read::default() });
        let error = tally.await_fence(0, soon).unwrap_err();
        assert!(error.to_string().contains("multicast"), "{error}");
        tally.add(Stream::Multicast, &mut Read { hashes: vec![1], fence: Some(0), ..Read::default() });
        tally.await_fence(0, soon).unwrap();
        assert_eq!(
            tally.totals(),
            Totals { unicast: 1, multicast: 1, before_multicast: 0, first_difference: None, overruns: 0 }
        );
    }

    #[test]
    fn a_failed_reader_ends_a_wait_before_its_limit() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            scope.spawn(|| tally.fail(CollectorError::Truncated { stream: Stream::Unicast }));
            let start = Instant::now();
            assert!(tally.await_fence(1, Duration::from_secs(60)).is_err());
            assert!(start.elapsed() < Duration::from_secs(30));
        });
    }
}
