// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of which each memory allocation fails in turn, by the kernel's own fault injection
//! (Documentation/fault-injection/fault-injection.rst): a call that fails defines nothing and takes no id (CONTRACT.md G3, G6).
//!
//! `fail-nth` is of the calling thread alone and counts the allocations of those caches that are marked; the few that audit makes
//! its records from are not, because one of them would cost a record of somebody else's.

use std::{fs, io, os::fd::RawFd, sync::atomic::Ordering};

use nstrail_wire::{
    fact::{Call, Outcome},
    step::{Death, EveryCall, NoMemory, SpawnCall},
};

use super::{
    death::{Ending, see_off},
    error::{Failed, StepError},
    inherited::{self, PROC},
    moves::find,
    spawn::{LabelKind, Make, Trial, bits, make_child},
    task::Task,
};
use crate::mounts::mount_debugfs;

const FAILSLAB: &str = "/sys/kernel/debug/failslab";
const CACHES: &str = "/sys/kernel/slab";
/// Caches that audit itself takes from, because it counts every such failure as a lost record: struct audit_buffer, struct sk_buff, its data
/// (AUDIT_BUFSIZ and struct skb_shared_info), and struct audit_context.
const SPARED: [&str; 5] = ["audit_buffer", "skbuff_", "kmalloc-1k", "kmalloc-2k", "kmalloc-rnd"];

/// The n-th allocation of the calling thread fails, from the beginning to the end.
#[derive(Clone, Copy, Debug)]
pub struct Famine {
    /// `/proc/thread-self/fail-nth` of the thread that makes the call.
    file: RawFd,
    nth: u32,
}

impl Famine {
    /// From now on.
    pub fn begin(self) -> Result<(), StepError> {
        self.write(self.nth)
    }

    /// Gives how many allocations were still to go well; 0 if one has failed.
    pub fn end(self) -> Result<u32, StepError> {
        let mut room = [0_u8; 16];
        // SAFETY: `room` is writable for its length.
        let length = unsafe { libc::pread(self.file, room.as_mut_ptr().cast(), room.len(), 0) };
        let length = inherited::check(length as libc::c_long).map_err(StepError::call("read of fail-nth"))?;
        self.write(0)?;
        let text = std::str::from_utf8(&room[..length as usize]).unwrap_or_default();
        text.trim().parse().map_err(|_| StepError::Scenario("fail-nth holds no number"))
    }

    fn write(self, number: u32) -> Result<(), StepError> {
        // No allocation here: it would be the one that fails.
        let mut room = [b'0'; 10];
        let (mut rest, mut first) = (number, room.len());
        while rest > 0 || first == room.len() {
            first -= 1;
            room[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let digits = &room[first..];
        // SAFETY: `digits` is readable for its length.
        let result = unsafe { libc::pwrite(self.file, digits.as_ptr().cast(), digits.len(), 0) };
        inherited::check(result as libc::c_long).map(drop).map_err(StepError::call("write of fail-nth"))
    }
}

/// Does a [`Step::NoMemory`](nstrail_wire::step::Step::NoMemory).
pub fn step(task: &mut Task, step: &NoMemory) -> Result<(), StepError> {
    prepare().map_err(StepError::call("failslab (was the kernel built with it?)"))?;
    let mut failed = 0_u32;
    for nth in 1..=step.at_most {
        let fell = match step.call {
            EveryCall::Clone => spawn(task, SpawnCall::Clone, step, nth)?,
            EveryCall::Clone3 => spawn(task, SpawnCall::Clone3, step, nth)?,
            EveryCall::Unshare | EveryCall::Setns => move_of_a_fork(task, step, nth)?,
        };
        let spared = task.stage.shared.trial.spared.load(Ordering::Acquire);
        match (fell, spared) {
            (true, 0) => failed += 1,
            // The kernel could do without.
            (false, 0) => {}
            (false, _) if failed > 0 => return Ok(()),
            (false, _) => return Err(StepError::Scenario("no allocation of the call could be made to fail")),
            (true, _) => {
                return Err(StepError::Scenario("the call fails though no memory was denied to it"));
            }
        }
    }
    Err(StepError::Scenario("the call needs more allocations than `at_most`"))
}

/// Whether the call failed.
fn spawn(task: &mut Task, call: SpawnCall, step: &NoMemory, nth: u32) -> Result<bool, StepError> {
    let file = open()?;
    let trial = Some(Trial::Starved(Famine { file, nth }));
    let make = Make { trial, ..Make::plain(call, &step.flags) };
    let made = make_child(task, &make, Ending::Exit, None, &|_: &mut Task| Ok(()), None);
    inherited::close(file);
    match made? {
        Some(made) => see_off(task, &made, &make, Death::Exit).map(|()| false),
        None => Ok(true),
    }
}

/// As [`spawn`], of a plain fork that moves.
fn move_of_a_fork(task: &mut Task, step: &NoMemory, nth: u32) -> Result<bool, StepError> {
    let starved = &task.stage.shared.trial.starved;
    starved.store(0, Ordering::Release);
    let body = |fork: &mut Task| -> Result<(), Failed> {
        let failed = |step| move |error| Failed { step, error };
        let errno = moved(fork, step, nth).map_err(failed(fork.step))?;
        starved.store(u32::from(errno.is_some()), Ordering::Release);
        Ok(())
    };
    let make = Make::plain(SpawnCall::Fork, &[]);
    let made = make_child(task, &make, Ending::Exit, None, &body, None)?
        .ok_or(StepError::Scenario("fork was refused"))?;
    see_off(task, &made, &make, Death::Exit)?;
    Ok(starved.load(Ordering::Acquire) != 0)
}

fn moved(fork: &mut Task, step: &NoMemory, nth: u32) -> Result<Option<i32>, StepError> {
    let flags = bits(&step.flags);
    let (call, number, first) = match &step.target {
        None => (Call::Unshare, libc::SYS_unshare, flags),
        Some(target) => match find(fork, target)? {
            LabelKind::Task { pidfd, .. } => (Call::Setns, libc::SYS_setns, *pidfd as u64),
            _ => return Err(StepError::Scenario("what is pinned has no pidfd")),
        },
    };
    let famine = Famine { file: open()?, nth };
    famine.begin()?;
    // SAFETY: plain system call without pointers; unshare takes no second argument.
    let result = unsafe { libc::syscall(number, first, flags) };
    let errno = inherited::check(result).err().and_then(|error| error.raw_os_error());
    let spared = famine.end();
    inherited::close(famine.file);
    fork.stage.shared.trial.spared.store(spared?, Ordering::Release);
    let outcome = errno.map_or(Outcome::Done, |errno| Outcome::Failed { errno });
    fork.tell_operation(call, flags, flags, outcome)?;
    Ok(errno)
}

fn open() -> Result<RawFd, StepError> {
    inherited::open_at(PROC, c"thread-self/fail-nth", libc::O_RDWR).map_err(StepError::call("fail-nth"))
}

/// Marks the caches whose allocations may fail, also those that could wait for memory.
fn prepare() -> io::Result<()> {
    mount_debugfs()?;
    let settings = [("ignore-gfp-wait", "N"), ("cache-filter", "Y"), ("verbose", "0")];
    for (name, value) in settings {
        fs::write(format!("{FAILSLAB}/{name}"), value)?;
    }
    for cache in fs::read_dir(CACHES)? {
        let cache = cache?;
        let name = cache.file_name();
        let spared = SPARED.iter().any(|spared| name.to_string_lossy().contains(spared));
        fs::write(cache.path().join("failslab"), if spared { "0" } else { "1" })?;
    }
    Ok(())
}
