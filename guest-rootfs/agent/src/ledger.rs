// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tasks' end of the ledger: a pipe into which every task of the guest writes its facts.
//!
//! The pipe and a page of counters stand at two fixed file descriptors that every task inherits, through
//! fork, exec and any change of namespaces. A fact is one `write(2)` of at most `PIPE_BUF` bytes: the
//! kernel keeps it whole among other writers, and blocks its writer when the pipe is full, so nothing is
//! lost and a slow host slows the workload down. There is no lock that a fork could copy while it
//! is held, and nothing here allocates: a task made by a raw `clone` may tell facts at once.
//!
//! An entry is its length as u16 (little endian) and the fact in postcard. Two lengths that no fact
//! has mark the other entries: [`SYNC`] and [`FAILURE`].

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use nstrail_wire::fact::{Act, ActorId, Fact};

/// Where the pipe stands in every task.
const PIPE_FD: RawFd = 100;
/// Where the page of counters stands in every task.
const COUNTERS_FD: RawFd = 101;
/// What the kernel promises to write in one piece.
pub const PIPE_BUF: usize = libc::PIPE_BUF;
/// Room for facts that the collector has not read yet: some 10,000 of them.
const PIPE_SIZE: libc::c_int = 1024 * 1024;
/// Above the longest fact; a test holds every variant to it.
pub const MAX_FACT: usize = 512;
const _: () = assert!(2 + MAX_FACT <= PIPE_BUF && MAX_FACT < FAILURE as usize);

/// Length mark of an entry that asks the collector to say when it has come this far: u64 number.
pub const SYNC: u16 = 0xFFFF;
/// Length mark of an entry that ends the run: length u16, text.
pub const FAILURE: u16 = 0xFFFE;

/// What tasks share and no fork may copy.
#[derive(Debug)]
#[repr(C)]
struct Counters {
    next_actor: AtomicU64,
    next_token: AtomicU64,
    next_sync: AtomicU64,
    main_number: AtomicU32,
    main_step: AtomicU32,
    /// 1: tasks of a workload tell nothing.
    off: AtomicU32,
}

/// The ledger as a task holds it. Copies are free; all of them write to the same pipe.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    counters: &'static Counters,
}

impl Ledger {
    /// Makes the pipe and the counters, at their fixed descriptors. Gives the reading end too.
    ///
    /// # Errors
    /// If the kernel refuses one of them.
    pub fn create() -> io::Result<(Self, File)> {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two descriptors.
        check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
        // SAFETY: both descriptors were just made and nobody else owns them.
        let (reader, writer) = unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        // SAFETY: plain system call on a descriptor that is open.
        check(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_SIZE) })?;
        // SAFETY: the name is a C string; no flags, so that the descriptor survives exec.
        let page = check(unsafe { libc::memfd_create(c"nstrail-counters".as_ptr(), 0) })?;
        // SAFETY: the descriptor was just made and nobody else owns it.
        let page = unsafe { OwnedFd::from_raw_fd(page) };
        // SAFETY: plain system call on a descriptor that is open.
        check(unsafe { libc::ftruncate(page.as_raw_fd(), size_of::<Counters>() as libc::off_t) })?;
        for (from, to) in [(writer.as_raw_fd(), PIPE_FD), (page.as_raw_fd(), COUNTERS_FD)] {
            // SAFETY: plain system call; nothing of this process stands at `to`, which is ours by convention.
            check(unsafe { libc::dup2(from, to) })?;
        }
        let ledger = Self::inherited()?;
        // 1 is the main task.
        ledger.counters.next_actor.store(2, Ordering::Relaxed);
        ledger.counters.next_token.store(1, Ordering::Relaxed);
        Ok((ledger, reader))
    }

    /// The ledger of the task that this image was executed by: for a task that has just come through exec.
    ///
    /// # Errors
    /// If the fixed descriptors are not open.
    pub fn inherited() -> io::Result<Self> {
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Counters>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                COUNTERS_FD,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is page aligned, zero-filled when made (every field is valid so), as long as
        // `Counters` and never unmapped; all access is atomic.
        let counters = unsafe { &*page.cast::<Counters>() };
        Ok(Self { counters })
    }

    /// A number for a task that is about to be made. Any task may call this, in any namespace.
    #[must_use]
    pub fn allocate_actor(&self) -> ActorId {
        ActorId(self.counters.next_actor.fetch_add(1, Ordering::Relaxed))
    }

    /// A token for a probe, never used twice in a run. They count up from 1.
    #[must_use]
    pub fn allocate_token(&self) -> u64 {
        self.counters.next_token.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes one fact.
    ///
    /// # Errors
    /// If the pipe's reader is gone, or the fact is longer than [`MAX_FACT`].
    pub fn write(&self, fact: &Fact) -> io::Result<()> {
        let mut entry = [0; 2 + MAX_FACT];
        let length = encode(fact, &mut entry)?;
        write_entry(&entry[..length])
    }

    /// From now on tasks of a workload look at nothing and tell nothing: to measure what that costs them. What the checker says of such a
    /// run means nothing.
    pub fn turn_off(&self) {
        self.counters.off.store(1, Ordering::Relaxed);
    }

    /// Whether tasks of a workload tell nothing.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.counters.off.load(Ordering::Relaxed) != 0
    }

    /// Says which step the main task is at, for facts that it tells with [`Ledger::write_main`].
    pub fn enter_step(&self, step: u32) {
        self.counters.main_step.store(step, Ordering::Relaxed);
    }

    /// The step that the main task is at.
    #[must_use]
    pub fn main_step(&self) -> u32 {
        self.counters.main_step.load(Ordering::Relaxed)
    }

    /// Writes a fact of the main task, which keeps its count here because several modules speak for it.
    ///
    /// Only the main task may call this: the number is taken and written without a lock.
    ///
    /// # Errors
    /// As [`Ledger::write`].
    pub fn write_main(&self, act: Act) -> io::Result<()> {
        let number = self.counters.main_number.fetch_add(1, Ordering::Relaxed);
        self.write(&Fact { actor: ActorId(1), number, tid: 1, pid: 1, step: self.main_step(), act })
    }

    /// Writes an entry that the collector answers when all entries before it have been passed on.
    ///
    /// # Errors
    /// If the pipe's reader is gone.
    pub fn sync(&self) -> io::Result<u64> {
        let number = self.counters.next_sync.fetch_add(1, Ordering::Relaxed) + 1;
        let mut entry = [0; 10];
        entry[..2].copy_from_slice(&SYNC.to_le_bytes());
        entry[2..].copy_from_slice(&number.to_le_bytes());
        write_entry(&entry)?;
        Ok(number)
    }
}

/// Facts that wait to be written together: under TCG a `write(2)` costs more than all else about a fact.
#[derive(Debug)]
pub struct Batch {
    bytes: [u8; PIPE_BUF],
    length: usize,
}

impl Batch {
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; PIPE_BUF], length: 0 }
    }

    /// Adds a fact; writes those before it, in one piece, if it finds no room.
    ///
    /// # Errors
    /// As [`Ledger::write`].
    pub fn push(&mut self, fact: &Fact) -> io::Result<()> {
        if PIPE_BUF - self.length < 2 + MAX_FACT {
            self.flush()?;
        }
        self.length += encode(fact, &mut self.bytes[self.length..])?;
        Ok(())
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// As [`Ledger::write`].
    pub fn flush(&mut self) -> io::Result<()> {
        let waiting = &self.bytes[..self.length];
        if !waiting.is_empty() {
            write_entry(waiting)?;
            self.length = 0;
        }
        Ok(())
    }
}

/// Tells the host that the run cannot go on. For any task, with or without a [`Ledger`] at hand.
///
/// Text that does not fit into one write is cut.
///
/// # Errors
/// If there is no pipe, or its reader is gone.
pub fn report_failure(text: &[u8]) -> io::Result<()> {
    let mut entry = [0; PIPE_BUF];
    let text = &text[..text.len().min(PIPE_BUF - 4)];
    entry[..2].copy_from_slice(&FAILURE.to_le_bytes());
    entry[2..4].copy_from_slice(&(text.len() as u16).to_le_bytes());
    entry[4..4 + text.len()].copy_from_slice(text);
    write_entry(&entry[..4 + text.len()])
}

/// The entry of a fact, at the start of `room`. Gives its length.
fn encode(fact: &Fact, room: &mut [u8]) -> io::Result<usize> {
    let entry = &mut room[..2 + MAX_FACT];
    let length = match postcard::to_slice(fact, &mut entry[2..]) {
        Ok(bytes) => bytes.len(),
        Err(_) => return Err(io::ErrorKind::InvalidData.into()),
    };
    entry[..2].copy_from_slice(&(length as u16).to_le_bytes());
    Ok(2 + length)
}

fn write_entry(entry: &[u8]) -> io::Result<()> {
    debug_assert!(entry.len() <= PIPE_BUF);
    loop {
        // SAFETY: `entry` is readable for its length.
        let written = unsafe { libc::write(PIPE_FD, entry.as_ptr().cast(), entry.len()) };
        if written == entry.len() as isize {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // A blocking write of up to PIPE_BUF bytes is whole or nothing, so there is no rest to write.
        if written >= 0 || error.kind() != io::ErrorKind::Interrupted {
            return Err(if written >= 0 { io::ErrorKind::WriteZero.into() } else { error });
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nstrail_wire::{
        fact::{AuditFact, AuditStatus, Call, Outcome, ProbeKind, When},
        namespace::{NamespaceIds, NamespaceSet},
    };

    use super::*;

    fn longest() -> Vec<Act> {
        let set = NamespaceSet([u32::MAX; 10]);
        let status = AuditStatus {
            enabled: u32::MAX,
            failure: u32::MAX,
            pid: u32::MAX,
            rate_limit: u32::MAX,
            backlog_limit: u32::MAX,
            lost: u32::MAX,
            backlog: u32::MAX,
            backlog_wait_time: u32::MAX,
            backlog_wait_time_actual: u32::MAX,
        };
        let actor = ActorId(u64::MAX);
        vec![
            Act::Start { parent: Some(actor), call: Call::Exec, flags: u64::MAX, parent_set: set, set },
            Act::Operation {
                call: Call::Exec,
                flags: u64::MAX,
                passed: u64::MAX,
                outcome: Outcome::Child { actor, tid: u32::MAX },
                before: set,
                after: set,
            },
            Act::Probe { kind: ProbeKind::Abend, token: u64::MAX, set },
            Act::Reaped { child: actor, tid: u32::MAX, status: i32::MIN },
            Act::End,
            Act::Fence { number: u32::MAX },
            Act::Audit(AuditFact::Status { when: When::After, status }),
            Act::Audit(AuditFact::Rules {
                when: When::After,
                exclude: u32::MAX,
                task_never: u32::MAX,
                other: u32::MAX,
            }),
            Act::Audit(AuditFact::Collected {
                unicast: u64::MAX,
                multicast: u64::MAX,
                before_multicast: u64::MAX,
                first_difference: Some(u64::MAX),
                overruns: u64::MAX,
                unicast_drops: u64::MAX,
                multicast_drops: u64::MAX,
            }),
            Act::Audit(AuditFact::Enabled(true)),
            Act::Audit(AuditFact::Exposed { path: "\u{10ffff}".repeat(100) }),
            Act::Ids { ids: NamespaceIds([u64::MAX; 10]) },
            Act::Received { token: u64::MAX, by: actor, netns: u32::MAX },
            Act::Childless { of: actor, call: Call::Exec },
            Act::Seen {
                of: u32::MAX,
                set,
                ids: Some(NamespaceIds([u64::MAX; 10])),
                unlisted: NamespaceIds([u64::MAX; 10]),
            },
            Act::Census { tasks: u32::MAX },
        ]
    }

    #[test]
    fn the_longest_fact_of_every_kind_is_one_atomic_write() {
        for act in longest() {
            let fact = Fact {
                actor: ActorId(u64::MAX),
                number: u32::MAX,
                tid: u32::MAX,
                pid: u32::MAX,
                step: u32::MAX,
                act,
            };
            let mut entry = [0; 2 + MAX_FACT];
            let length = encode(&fact, &mut entry).unwrap();
            assert!(length <= PIPE_BUF);
            assert_eq!(u16::from_le_bytes([entry[0], entry[1]]) as usize, length - 2);
            assert_eq!(postcard::from_bytes::<Fact>(&entry[2..length]).unwrap(), fact);
        }
    }

    /// One test, because the descriptors are the process's.
    #[test]
    fn counters_and_entries_reach_the_reader_in_order() {
        let (ledger, mut reader) = Ledger::create().unwrap();
        assert_eq!(ledger.allocate_actor(), ActorId(2));
        assert_eq!(Ledger::inherited().unwrap().allocate_actor(), ActorId(3), "one counter for all mappings");
        assert_eq!(ledger.allocate_token(), 1);
        ledger.enter_step(7);
        ledger.write_main(Act::End).unwrap();
        ledger.write_main(Act::Fence { number: 3 }).unwrap();
        let number = ledger.sync().unwrap();
        let fact = |number| Fact {
            actor: ActorId(9),
            number,
            tid: u32::MAX,
            pid: u32::MAX,
            step: 1,
            act: Act::Probe { kind: ProbeKind::Abend, token: u64::MAX, set: NamespaceSet([u32::MAX; 10]) },
        };
        let mut batch = Batch::new();
        for number in 0..100 {
            batch.push(&fact(number)).unwrap();
        }
        batch.flush().unwrap();
        batch.flush().unwrap();
        report_failure(&[b'x'; 2 * PIPE_BUF]).unwrap();

        let mut bytes = vec![0; 64 * 1024];
        let length = reader.read(&mut bytes).unwrap();
        let mut rest = &bytes[..length];
        for (expected, act) in [(0, Act::End), (1, Act::Fence { number: 3 })] {
            let size = u16::from_le_bytes([rest[0], rest[1]]) as usize;
            let fact: Fact = postcard::from_bytes(&rest[2..2 + size]).unwrap();
            assert_eq!(fact, Fact { actor: ActorId(1), number: expected, tid: 1, pid: 1, step: 7, act });
            rest = &rest[2 + size..];
        }
        assert_eq!(rest[..2], SYNC.to_le_bytes());
        assert_eq!(rest[2..10], number.to_le_bytes());
        rest = &rest[10..];
        for number in 0..100 {
            let size = u16::from_le_bytes([rest[0], rest[1]]) as usize;
            assert_eq!(postcard::from_bytes::<Fact>(&rest[2..2 + size]).unwrap(), fact(number));
            rest = &rest[2 + size..];
        }
        assert_eq!(rest[..2], FAILURE.to_le_bytes());
        assert_eq!(rest.len(), PIPE_BUF, "a long text is cut to one write");
    }
}
