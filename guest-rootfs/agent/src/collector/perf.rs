// SPDX-License-Identifier: MIT OR Apache-2.0
//! The third witness: what perf sees of each task's namespaces, read from a ring of each CPU and merged by time.
//!
//! The rings hold seconds of a workload's forks, so their reader is woken by the kernel only when one has filled up a
//! little, and reads them all; a fence reads them to the end. What is read in one round is given on in the
//! next: an event on one CPU may be the consequence of one on another that was written after that ring had been read
//! in this round. A consequence is written later than its cause, so the cause is in the next round at the latest.

use std::{
    fmt, io,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, PoisonError},
};

use nstrail_wire::{
    message::GuestMessage,
    perf::{PerfEvent, SeenSet},
};
use perf_event::{Builder, Clock, SampleFlag, Sampler, data::Record, events::Software};

use super::port::Port;
use crate::census::own_set;

/// Bytes of a ring. A new task takes some 300 of them.
const RING: usize = 2 * 1024 * 1024;
/// Bytes in a ring at which the kernel wakes its reader.
const WATERMARK: usize = 128 * 1024;
/// Events of one message.
const MESSAGE: usize = 8192;

/// An event, and when it happened (`CLOCK_MONOTONIC`, nanoseconds).
#[derive(Debug, PartialEq, Eq)]
struct Stamped {
    time: u64,
    event: PerfEvent,
}

/// Puts the rings' events in order.
#[derive(Debug, Default)]
struct Merger {
    held: Vec<Stamped>,
    /// The latest time of all rounds so far.
    newest: u64,
}

impl Merger {
    /// Takes what one round has read, each ring's events in its order; gives what is in order by now.
    fn round(&mut self, read: Vec<Stamped>) -> Vec<PerfEvent> {
        let complete = self.newest;
        self.newest = read.iter().map(|stamped| stamped.time).max().unwrap_or(0).max(self.newest);
        self.held.extend(read);
        // Stable: one ring's events of one moment stay in order.
        self.held.sort_by_key(|stamped| stamped.time);
        let end = self.held.partition_point(|stamped| stamped.time <= complete);
        self.held.drain(..end).map(|stamped| stamped.event).collect()
    }

    /// Nothing is being written: gives all.
    fn flush(&mut self) -> Vec<PerfEvent> {
        self.held.drain(..).map(|stamped| stamped.event).collect()
    }
}

#[derive(Default)]
struct Rings {
    samplers: Vec<Sampler>,
    merger: Merger,
}

impl fmt::Debug for Rings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rings").field("merger", &self.merger).finish_non_exhaustive()
    }
}

impl Rings {
    /// Everything that is in the rings now.
    fn read(&mut self) -> io::Result<Vec<Stamped>> {
        let mut read = Vec::new();
        for sampler in &mut self.samplers {
            while let Some(record) = sampler.next_record() {
                // Of sample_id_all there is the time alone, behind everything else.
                let bytes = record.to_contiguous();
                let time = bytes.last_chunk::<8>().map_or(0, |time| u64::from_ne_bytes(*time));
                read.extend(stamped(record.parse_record().map_err(io::Error::other)?, time));
            }
        }
        Ok(read)
    }
}

fn stamped(record: Record<'_>, time: u64) -> Option<Stamped> {
    let event = match record {
        Record::Fork(fork) => PerfEvent::Fork { tid: fork.tid, parent_tid: fork.ptid },
        Record::Exit(exit) => PerfEvent::Exit { tid: exit.tid },
        Record::Namespaces(seen) => {
            let mut set = SeenSet::default();
            for (inum, entry) in set.0.iter_mut().zip(seen.namespaces.iter()) {
                // nsfs has 32-bit inode numbers.
                *inum = u32::try_from(entry.inode).unwrap_or(0);
            }
            PerfEvent::Namespaces { tid: seen.tid, set }
        }
        Record::Lost(lost) => PerfEvent::Lost { count: lost.lost },
        _ => return None,
    };
    Some(Stamped { time, event })
}

/// perf, as the collector holds it.
#[derive(Debug)]
pub struct PerfWatch {
    rings: Mutex<Rings>,
    descriptors: Vec<i32>,
    port: Arc<Port>,
}

impl PerfWatch {
    /// Opens a ring for each CPU, and tells so, or why there is none.
    ///
    /// # Errors
    /// If the port is broken.
    pub fn open(port: Arc<Port>) -> io::Result<Self> {
        let (samplers, started) = match open_rings() {
            Ok(samplers) => (samplers, PerfEvent::Started { tid: 1, set: SeenSet::of(&own_set()) }),
            Err(error) => {
                (Vec::new(), PerfEvent::Unavailable { reason: format!("perf_event_open: {error}") })
            }
        };
        let descriptors = samplers.iter().map(AsRawFd::as_raw_fd).collect();
        let rings = Mutex::new(Rings { samplers, merger: Merger::default() });
        port.send(&GuestMessage::Perf(vec![started]))?;
        Ok(Self { rings, descriptors, port })
    }

    /// Reads whenever the kernel says so, to the end of the process.
    ///
    /// # Errors
    /// If the port is broken, or a ring is not what it should be.
    pub fn run(&self) -> io::Result<()> {
        let poll = |fd: &i32| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 };
        let mut polled: Vec<libc::pollfd> = self.descriptors.iter().map(poll).collect();
        if polled.is_empty() {
            return Ok(());
        }
        loop {
            // SAFETY: the array is ours, and as long as is said.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
            if ready < 0 {
                match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => continue,
                    error => return Err(error),
                }
            }
            let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            let read = rings.read()?;
            let events = rings.merger.round(read);
            self.send(events)?;
        }
    }

    /// Reads to the end, and tells this behind it. All tasks are quiet.
    ///
    /// # Errors
    /// As [`PerfWatch::run`].
    pub fn mark(&self, mark: PerfEvent) -> io::Result<()> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let read = rings.read()?;
        let mut events = rings.merger.round(read);
        events.extend(rings.merger.flush());
        events.push(mark);
        self.send(events)
    }

    /// The lock of the rings is held: messages are in order.
    fn send(&self, events: Vec<PerfEvent>) -> io::Result<()> {
        let mut events = events.into_iter();
        loop {
            let message: Vec<PerfEvent> = events.by_ref().take(MESSAGE).collect();
            if message.is_empty() {
                return Ok(());
            }
            self.port.send(&GuestMessage::Perf(message))?;
        }
    }
}

fn open_rings() -> io::Result<Vec<Sampler>> {
    let cpus = std::thread::available_parallelism()?.get();
    let open = |cpu| {
        let mut event = Builder::new(Software::DUMMY);
        event.any_pid().one_cpu(cpu).task(true).namespaces(true).enabled(true);
        event
            .sample(SampleFlag::TIME)
            .sample_id_all(true)
            .clockid(Clock::MONOTONIC)
            .wakeup_watermark(WATERMARK);
        event.build()?.sampled(RING)
    };
    (0..cpus).map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(time: u64, tid: u32) -> Stamped {
        Stamped { time, event: PerfEvent::Exit { tid } }
    }

    fn tids(events: Vec<PerfEvent>) -> Vec<u32> {
        events
            .into_iter()
            .map(|event| match event {
                PerfEvent::Exit { tid } => tid,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_cause_that_is_read_a_round_later_stands_before_its_consequence() {
        let mut merger = Merger::default();
        // One CPU was read before the cause (20) was written there, the other one after its consequence (30).
        assert_eq!(tids(merger.round(vec![exit(10, 1), exit(30, 3)])), Vec::<u32>::new());
        assert_eq!(tids(merger.round(vec![exit(20, 2), exit(40, 4)])), [1, 2, 3]);
        assert_eq!(tids(merger.round(Vec::new())), [4]);
        assert_eq!(tids(merger.round(vec![exit(50, 5), exit(45, 6)])), Vec::<u32>::new());
        assert_eq!(tids(merger.flush()), [6, 5]);
    }

    #[test]
    fn events_of_one_moment_keep_the_order_of_their_ring() {
        let mut merger = Merger::default();
        merger.round(vec![exit(10, 1), exit(10, 2), exit(10, 3)]);
        assert_eq!(tids(merger.round(Vec::new())), [1, 2, 3]);
    }
}
