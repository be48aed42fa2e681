// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events: records that share (time, serial), grouped without assuming that they are contiguous.
//!
//! The kernel marks the end of some events only (EOE, 1320), and records of other events may stand
//! between those of one (CONTRACT.md, "What the checker may, and may not, take from a log"). So an event is
//! given out when its last record lies a whole window of records back, or when the caller says
//! that nothing more can come.

use std::collections::{HashMap, VecDeque};

use crate::{
    kind::Kind,
    record::{Record, Stamp},
};

/// One record of an event, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Position in the log, from 0.
    pub position: u64,
    pub kind: Kind,
    pub body: Box<[u8]>,
}

/// Records that share (time, serial), in the order of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub stamp: Stamp,
    pub records: Vec<EventRecord>,
}

impl Event {
    /// Whether the event holds a record of this type.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.records.iter().any(|record| record.kind == kind)
    }

    fn last(&self) -> u64 {
        self.records.last().map_or(0, |record| record.position)
    }
}

/// Groups a stream of records into events.
#[derive(Debug)]
pub struct EventGrouper {
    window: u64,
    position: u64,
    open: HashMap<Stamp, Event>,
    /// When to look at an event again: (position of the record that put it here, its stamp).
    order: VecDeque<(u64, Stamp)>,
}

impl EventGrouper {
    /// An event ends when `window` records were seen since its last one.
    #[must_use]
    pub fn new(window: u64) -> Self {
        Self { window, position: 0, open: HashMap::new(), order: VecDeque::new() }
    }

    /// Takes one record; gives the events that end by it, in the order in which their last records stand.
    pub fn push(&mut self, record: &Record<'_>) -> Vec<Event> {
        let position = self.position;
        self.position += 1;
        let event = self
            .open
            .entry(record.stamp)
            .or_insert_with(|| Event { stamp: record.stamp, records: Vec::new() });
        event.records.push(EventRecord { position, kind: record.kind, body: record.body.into() });
        self.order.push_back((position, record.stamp));
        let mut ended = Vec::new();
        while let Some(&(seen, stamp)) = self.order.front() {
            if seen + self.window > position {
                break;
            }
            self.order.pop_front();
            // An entry that a later record of the event has overtaken is passed over.
            if self.open.get(&stamp).is_some_and(|event| event.last() == seen) {
                ended.extend(self.open.remove(&stamp));
            }
        }
        ended
    }

    /// Gives all events that are still open, in the order in which their last records stand.
    pub fn flush(&mut self) -> Vec<Event> {
        self.order.clear();
        let mut events: Vec<Event> = self.open.drain().map(|(_, event)| event).collect();
        events.sort_by_key(Event::last);
        events
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(serials: &[u32], window: u64) -> Vec<Event> {
        let mut grouper = EventGrouper::new(window);
        let mut events = Vec::new();
        for serial in serials {
            let stamp = Stamp { seconds: 1, millis: 0, serial: *serial };
            events.extend(grouper.push(&Record { kind: Kind::SYSCALL, stamp, body: b"" }));
        }
        events.extend(grouper.flush());
        events
    }

    #[test]
    fn records_between_do_not_split_an_event() {
        let events = group(&[1, 2, 1, 3, 2, 1], 4);
        let serials: Vec<_> = events.iter().map(|event| (event.stamp.serial, event.records.len())).collect();
        assert_eq!(serials, [(3, 1), (2, 2), (1, 3)]);
    }

    proptest! {
        #[test]
        fn no_record_is_lost_and_none_doubled(serials in proptest::collection::vec(0_u32..9, 0..99), window in 1_u64..50) {
            let mut positions: Vec<_> = group(&serials, window)
                .iter().flat_map(|event| event.records.iter().map(|record| record.position)).collect();
            positions.sort_unstable();
            prop_assert_eq!(positions, (0..serials.len() as u64).collect::<Vec<_>>());
        }
    }
}
