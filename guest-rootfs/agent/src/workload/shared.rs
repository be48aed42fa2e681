// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that all tasks of a workload share, across fork, exec and any change of namespaces.
//!
//! Five things pass through it that no return value can carry: the first error (a task in the depth of a tree
//! has no other way to tell why it gave up), the number that a child has in the initial pid namespace (its
//! maker may sit in another one), who an adopted task is (its reaper did not make it), how a call went whose
//! caller may have died of it, and the moment in which tasks that end together do so.

use std::{
    io, ptr,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use nstrail_wire::fact::ActorId;

use super::{
    inherited::{self, SHARED},
    workers::stay_on_one_cpu,
};

const ERROR_ROOM: usize = 512;
const FOUNDLINGS: usize = 256;
/// Tasks that live at the same time are fewer by far.
const TIDS: usize = 4096;

/// A task that is reaped by another than its maker, as it announces itself.
#[derive(Debug)]
#[repr(C)]
struct Foundling {
    /// 0: nobody here.
    actor: AtomicU64,
    /// Its number in its own pid namespace, and that namespace's inode number: what its reaper sees.
    local_pid: AtomicU32,
    pid_namespace: AtomicU32,
}

/// What became of a call on trial ([`Trial`](super::spawn::Trial)), told by its caller, which may not live to return it.
#[derive(Debug)]
#[repr(C)]
pub struct TrialEnd {
    /// The task that the call is about to make; 0: it was not come to.
    pub attempted: AtomicU64,
    /// Nanoseconds that the call took.
    pub took: AtomicU64,
    /// Allocations that were still to go well when the call returned; 0: one has failed.
    pub spared: AtomicU32,
    /// 1 if such a call of a fork has failed for want of memory.
    pub starved: AtomicU32,
}

/// Where tasks wait for each other before they end.
#[derive(Debug)]
#[repr(C)]
pub struct Meeting {
    /// How many there will be; 0: nobody waits.
    expected: AtomicU32,
    placed: AtomicU32,
    arrived: AtomicU32,
}

impl Meeting {
    /// The next so many tasks that end will wait for each other.
    pub fn call(&self, expected: u32) {
        self.placed.store(0, Ordering::Relaxed);
        self.arrived.store(0, Ordering::Relaxed);
        self.expected.store(expected, Ordering::Release);
    }

    /// Waits for all others, on a CPU of its own if there are enough.
    ///
    /// # Errors
    /// If the task may not choose its CPU.
    pub fn join(&self) -> io::Result<()> {
        let expected = self.expected.load(Ordering::Acquire);
        if expected == 0 {
            return Ok(());
        }
        stay_on_one_cpu(self.placed.fetch_add(1, Ordering::Relaxed))?;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut looks = 0_u32;
        // They are to see it at the same time, so nobody sleeps; but one whose CPU another one needs makes room now and then.
        while self.arrived.load(Ordering::Acquire) < expected {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(4096) {
                // SAFETY: plain system call.
                unsafe { libc::sched_yield() };
                if self.expected.load(Ordering::Acquire) == 0 {
                    // Another task gave up, and may be one of those that are waited for.
                    break;
                }
            }
            std::hint::spin_loop();
        }
        Ok(())
    }
}

/// See the module's head.
#[derive(Debug)]
#[repr(C)]
pub struct Shared {
    /// Sets made: successful calls with a namespace type, and implicit moves.
    pub containers: AtomicU64,
    /// The agent's other process, which is none of a workload.
    pub collector: AtomicU32,
    /// Of the call on trial: there is one at a time.
    pub trial: TrialEnd,
    pub meeting: Meeting,
    /// Times that the PID counter was seen to wrap around.
    pub rollovers: AtomicU64,
    error_state: AtomicU32,
    error_step: AtomicU32,
    error_length: AtomicU32,
    error: [AtomicU8; ERROR_ROOM],
    foundlings: [Foundling; FOUNDLINGS],
    tids: [AtomicU32; TIDS],
}

impl Shared {
    /// Makes the memory, at its fixed descriptor.
    pub fn create() -> io::Result<&'static Self> {
        // SAFETY: the name is a C string; no flags, so that the descriptor survives exec.
        let fd = inherited::check(unsafe { libc::memfd_create(c"nstrail-shared".as_ptr(), 0) }.into())?;
        // SAFETY: plain system call on a descriptor that is open.
        inherited::check(unsafe { libc::ftruncate(fd as i32, size_of::<Self>() as libc::off_t) }.into())?;
        inherited::move_to(fd as i32, SHARED)?;
        Self::inherited()
    }

    /// The memory of the workload that this image was executed by.
    pub fn inherited() -> io::Result<&'static Self> {
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Self>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                SHARED,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: page aligned, zero-filled when made (valid for every field), never unmapped; all access is atomic.
        Ok(unsafe { &*memory.cast::<Self>() })
    }

    /// Keeps an error, if it is the first.
    pub fn fail(&self, step: u32, reason: &str) {
        if self.error_state.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        let bytes = &reason.as_bytes()[..reason.len().min(ERROR_ROOM)];
        for (to, from) in self.error.iter().zip(bytes) {
            to.store(*from, Ordering::Relaxed);
        }
        self.error_step.store(step, Ordering::Relaxed);
        self.error_length.store(bytes.len() as u32, Ordering::Relaxed);
        self.error_state.store(2, Ordering::Release);
        self.meeting.call(0);
    }

    /// The first error.
    pub fn failure(&self) -> Option<(u32, String)> {
        if self.error_state.load(Ordering::Acquire) != 2 {
            return None;
        }
        let length = self.error_length.load(Ordering::Relaxed) as usize;
        let bytes: Vec<u8> = self.error[..length].iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        Some((self.error_step.load(Ordering::Relaxed), String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A task tells its number in the initial pid namespace.
    pub fn tell_tid(&self, actor: ActorId, tid: u32) {
        self.tids[actor.0 as usize % TIDS].store(tid, Ordering::Release);
    }

    /// What the task told. Only for a task that has begun, and not long ended.
    pub fn tid(&self, actor: ActorId) -> u32 {
        self.tids[actor.0 as usize % TIDS].load(Ordering::Acquire)
    }

    /// A task tells its future reaper who it is. False if there is no room.
    pub fn announce(&self, actor: ActorId, local_pid: u32, pid_namespace: u32) -> bool {
        let Some(place) = self.foundlings.iter().find(|place| {
            place.local_pid.compare_exchange(0, local_pid, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        }) else {
            return false;
        };
        place.pid_namespace.store(pid_namespace, Ordering::Relaxed);
        place.actor.store(actor.0, Ordering::Release);
        true
    }

    /// Who announced itself with this number in this pid namespace. Asked once for each, after its death.
    pub fn recognise(&self, local_pid: u32, pid_namespace: u32) -> Option<ActorId> {
        let place = self.foundlings.iter().find(|place| {
            place.actor.load(Ordering::Acquire) != 0
                && place.local_pid.load(Ordering::Relaxed) == local_pid
                && place.pid_namespace.load(Ordering::Relaxed) == pid_namespace
        })?;
        let actor = ActorId(place.actor.swap(0, Ordering::Relaxed));
        place.local_pid.store(0, Ordering::Release);
        Some(actor)
    }
}
