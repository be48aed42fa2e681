// SPDX-License-Identifier: MIT OR Apache-2.0
//! How tasks end, and how those that wait for them see them off.

use std::{io, os::fd::RawFd};

use nstrail_wire::{
    fact::{Act, ActorId},
    namespace::{CLONE_THREAD, NamespaceEntry},
    step::Death,
};
use serde::{Deserialize, Serialize};

use super::{
    error::StepError,
    inherited,
    pipe::{read_byte, write_byte},
    spawn::{Made, Make},
    task::Task,
};

/// Exit status of a task that could not do its steps: the reason is in [`super::shared`].
pub const GAVE_UP: libc::c_int = 97;
/// A labelled child that waits to be released.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub label: String,
    pub actor: ActorId,
    pub local_pid: i32,
    /// A byte written here ends it.
    pub release: RawFd,
}

/// What a task does when its steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Exit,
    /// Says so at `ready`, then waits for a byte from `release`.
    Wait {
        ready: RawFd,
        release: RawFd,
        /// The other end of `release`: closed first, so that the maker's death is noticed.
        releaser: RawFd,
    },
    /// Says so at `ready`, then waits to be killed.
    BeKilled {
        ready: RawFd,
    },
}

/// The last acts of a task whose steps are done. Returns before the exit, or the wait to be killed.
pub fn finish(task: &mut Task, ending: Ending) -> Result<(), StepError> {
    match ending {
        Ending::Exit => task.end(),
        Ending::Wait { ready, release, releaser } => {
            inherited::close(releaser);
            write_byte(ready)?;
            inherited::close(ready);
            if !read_byte(release)? {
                // The maker was killed, and its pid namespace dies with it. Whether this task noticed that
                // before its own death must not show in the ledger.
                await_death();
            }
            task.end()?;
            task.stage.shared.meeting.join().map_err(StepError::call("sched_setaffinity"))
        }
        Ending::BeKilled { ready } => write_byte(ready),
    }
}

/// Waits for SIGKILL.
pub fn await_death() -> ! {
    loop {
        // SAFETY: plain system call without pointers.
        unsafe { libc::pause() };
    }
}

/// Ends the calling task, at once and without libc.
pub fn leave(thread: bool, status: libc::c_int) -> ! {
    let number = if thread { libc::SYS_exit } else { libc::SYS_exit_group };
    loop {
        // SAFETY: plain system call; it does not return.
        unsafe { libc::syscall(number, status) };
    }
}

/// Waits for the end of a task, and tells of it.
pub fn see_off(task: &mut Task, made: &Made, make: &Make, death: Death) -> Result<(), StepError> {
    if make.flags & CLONE_THREAD != 0 {
        // Nobody can wait for a thread: it is over when its number names nobody.
        // SAFETY: plain system calls without pointers; signal 0 is never delivered.
        while unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), made.local_pid, 0) } == 0 {
            // SAFETY: plain system call.
            unsafe { libc::sched_yield() };
        }
        return gave_up(task);
    }
    reap(task, made.actor, made.local_pid, death.into())
}

/// The end that a task must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    Signal(libc::c_int),
}

impl From<Death> for Status {
    fn from(death: Death) -> Self {
        match death {
            Death::Exit | Death::Orphan | Death::Replaced => Self::Success,
            Death::Kill => Self::Signal(libc::SIGKILL),
            Death::Exec => Self::Signal(libc::SIGSEGV),
        }
    }
}

/// `wait` for a child, and the fact.
pub fn reap(task: &mut Task, actor: ActorId, local_pid: i32, expected: Status) -> Result<(), StepError> {
    let status = wait(local_pid)?.1;
    reaped(task, actor, status, expected)
}

/// Looks for a child's end all the time, and calls `at_once` as soon as it is reaped; the fact comes afterwards.
pub fn reap_at_once(
    task: &mut Task,
    made: &Made,
    expected: Status,
    at_once: impl FnOnce(),
) -> Result<(), StepError> {
    let mut status = 0;
    loop {
        let flags = libc::__WALL | libc::WNOHANG;
        // SAFETY: `status` is writable.
        let result = unsafe { libc::waitpid(made.local_pid, &raw mut status, flags) };
        if result == made.local_pid {
            break;
        }
        inherited::check(result.into()).map_err(StepError::call("wait"))?;
    }
    at_once();
    reaped(task, made.actor, status, expected)
}

fn reaped(task: &mut Task, actor: ActorId, status: i32, expected: Status) -> Result<(), StepError> {
    let tid = task.stage.shared.tid(actor);
    task.tell(Act::Reaped { child: actor, tid, status })?;
    let as_expected = match expected {
        Status::Success => status == 0,
        // With or without a core dump.
        Status::Signal(signal) => status & 0x7f == signal,
    };
    if as_expected {
        return Ok(());
    }
    gave_up(task)?;
    Err(StepError::Death { child: actor.0, status, expected })
}

/// An error that a task left behind ends its maker too.
fn gave_up(task: &Task) -> Result<(), StepError> {
    if task.stage.shared.failure().is_some() {
        return Err(StepError::Scenario("a task inside gave up"));
    }
    Ok(())
}

/// Reaps one task that somebody else made.
pub fn adopt(task: &mut Task) -> Result<(), StepError> {
    let (local_pid, status) = wait(-1)?;
    let actor = task
        .stage
        .shared
        .recognise(local_pid as u32, task.set.get(NamespaceEntry::Pid))
        .ok_or(StepError::Stranger(local_pid.into()))?;
    let tid = task.stage.shared.tid(actor);
    task.tell(Act::Reaped { child: actor, tid, status })?;
    if status != 0 {
        gave_up(task)?;
        return Err(StepError::Death { child: actor.0, status, expected: Status::Success });
    }
    Ok(())
}

/// Does a [`Step::Release`].
pub fn release(task: &mut Task, label: &str) -> Result<(), StepError> {
    let at = task.kept.iter().position(|kept| kept.label == label);
    let kept = task.kept.remove(at.ok_or_else(|| StepError::Label(label.to_owned()))?);
    end_kept(task, kept)
}

/// Does a [`Step::Together`].
pub fn release_together(task: &mut Task, labels: &[String]) -> Result<(), StepError> {
    let mut leaving = Vec::new();
    for label in labels {
        let at = task.kept.iter().position(|kept| kept.label == *label);
        leaving.push(task.kept.remove(at.ok_or_else(|| StepError::Label(label.clone()))?));
    }
    let meeting = &task.stage.shared.meeting;
    meeting.call(u32::try_from(leaving.len()).unwrap_or(u32::MAX));
    for kept in &leaving {
        write_byte(kept.release)?;
    }
    for kept in leaving {
        reap(task, kept.actor, kept.local_pid, Status::Success)?;
        inherited::close(kept.release);
    }
    meeting.call(0);
    Ok(())
}

/// Lets a labelled child go, and reaps it.
pub fn end_kept(task: &mut Task, kept: Kept) -> Result<(), StepError> {
    write_byte(kept.release)?;
    reap(task, kept.actor, kept.local_pid, Status::Success)?;
    inherited::close(kept.release);
    Ok(())
}

/// Sends SIGKILL.
pub fn kill(local_pid: i32) -> Result<(), StepError> {
    // SAFETY: plain system call on a child that is not reaped yet.
    inherited::check(unsafe { libc::kill(local_pid, libc::SIGKILL) }.into())
        .map_err(StepError::call("kill"))?;
    Ok(())
}

/// `waitpid`, for any kind of child: whom it was, and how it ended.
pub fn wait(local_pid: i32) -> Result<(i32, i32), StepError> {
    try_wait(local_pid)?
        .ok_or(StepError::Call { what: "wait", source: io::Error::from_raw_os_error(libc::ECHILD) })
}

/// As [`wait`]; `None` if there is no such child.
pub fn try_wait(local_pid: i32) -> Result<Option<(i32, i32)>, StepError> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable.
        let result = unsafe { libc::waitpid(local_pid, &raw mut status, libc::__WALL) };
        match inherited::check(result.into()) {
            Ok(pid) => return Ok(Some((pid as i32, status))),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StepError::Call { what: "wait", source: error }),
        }
    }
}
