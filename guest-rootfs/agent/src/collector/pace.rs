// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a reader lets work pile up before it comes for it.
//!
//! Each wake-up costs two context switches, which under TCG is more than handling a record. Nobody waits
//! for a record outside a fence, and the receive buffers hold many thousands, so readers pause between
//! batches; a fence makes them all hurry.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// The pause of those who read and pass on records. At 10,000 records a second, 100 of them come in one batch.
pub const PAUSE: Duration = Duration::from_millis(10);
/// The pause of the ledger's reader: its pipe has room for more than a second's facts, and every message to the host takes time from the guest's vCPUs.
pub const LEDGER_PAUSE: Duration = Duration::from_millis(50);

/// Shared by all readers of the collector.
#[derive(Debug, Default)]
pub struct Pace {
    /// How many wait for the readers right now.
    waiting: Mutex<u32>,
    changed: Condvar,
}

impl Pace {
    /// Returns after a pause, or as soon as somebody is in a hurry.
    pub fn linger(&self, pause: Duration) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if *waiting == 0 {
            drop(self.changed.wait_timeout(waiting, pause));
        }
    }

    /// Makes all readers hurry until the guard is dropped.
    #[must_use]
    pub fn hurry(&self) -> Hurry<'_> {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
        Hurry(self)
    }
}

/// See [`Pace::hurry`].
#[derive(Debug)]
pub struct Hurry<'a>(&'a Pace);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn nobody_pauses_in_a_hurry() {
        let pace = Pace::default();
        let start = Instant::now();
        pace.linger(PAUSE);
        assert!(start.elapsed() >= PAUSE / 2);
        let hurry = pace.hurry();
        let start = Instant::now();
        for _ in 0..1000 {
            pace.linger(LEDGER_PAUSE);
        }
        assert!(start.elapsed() < PAUSE * 500);
        drop(hurry);
        assert_eq!(*pace.waiting.lock().unwrap(), 0);
    }
}
