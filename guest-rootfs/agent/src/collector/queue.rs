// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records between the reader of the unicast socket and the writer of the audit port.
//!
//! The reader must never wait long: after half a second the kernel would put records aside and send newer
//! ones first. So the queue is large, and long before it is full the *ledger* stops being read
//! ([`AuditQueue::wait_for_room`]), which holds up the workload in its next fact and loses nothing.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A batch is closed at this size: large frames cost less, but the host should see progress.
const BATCH: usize = 256 * 1024;
/// The workload is held up above this.
const FULL_ENOUGH: usize = 4 * 1024 * 1024;
/// The reader is held up above this, which a held-up workload cannot reach.
const FULL: usize = 64 * 1024 * 1024;

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Vec<u8>>,
    /// All bytes queued, and those that the writer has taken and not written yet.
    bytes: usize,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct AuditQueue {
    state: Mutex<State>,
    changed: Condvar,
}

impl AuditQueue {
    /// Appends encoded records (`nstrail_wire::batch`), whole ones.
    pub fn push(&self, records: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.bytes > FULL {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += records.len();
        match state.batches.back_mut() {
            Some(batch) if batch.len() + records.len() <= BATCH => batch.extend_from_slice(records),
            _ => state.batches.push_back(records.to_vec()),
        }
        self.changed.notify_all();
    }

    /// Waits until there is something to write.
    pub fn wait_for_records(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.batches.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The oldest batch, if there is one. Say [`AuditQueue::written`] when it is.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).batches.pop_front()
    }

    /// So many bytes that were taken have been written.
    pub fn written(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes -= bytes;
        self.changed.notify_all();
    }

    /// Waits while so much is queued that the workload should go slower.
    pub fn wait_for_room(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.bytes > FULL_ENOUGH {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all that was pushed has been written; `false` if it was not within `limit`.
    #[must_use]
    pub fn wait_until_empty(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.bytes > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_order_and_size() {
        let queue = AuditQueue::default();
        let records: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; 10_000]).collect();
        for record in &records {
            queue.push(record);
        }
        let mut all = Vec::new();
        while let Some(batch) = queue.take() {
            assert!(batch.len() <= BATCH);
            queue.written(batch.len());
            all.extend(batch);
        }
        assert_eq!(all, records.concat());
        assert!(queue.wait_until_empty(Duration::ZERO));
    }

    #[test]
    fn empty_means_written_not_only_taken() {
        let queue = AuditQueue::default();
        queue.push(b"record");
        let batch = queue.take().unwrap();
        assert!(!queue.wait_until_empty(Duration::from_millis(5)));
        queue.written(batch.len());
        assert!(queue.wait_until_empty(Duration::from_millis(5)));
    }

    #[test]
    fn a_full_queue_holds_its_writer_up_until_there_is_room() {
        let queue = AuditQueue::default();
        let part = vec![0; 1024 * 1024];
        std::thread::scope(|scope| {
            let pusher = scope.spawn(|| {
                for _ in 0..200 {
                    queue.push(&part);
                }
            });
            let mut bytes = 0;
            while bytes < 200 * part.len() {
                queue.wait_for_records();
                assert!(queue.state.lock().unwrap().bytes <= FULL + part.len());
                let batch = queue.take().unwrap();
                queue.written(batch.len());
                bytes += batch.len();
            }
            pusher.join().unwrap();
        });
        queue.wait_for_room();
    }
}
