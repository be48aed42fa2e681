// SPDX-License-Identifier: MIT OR Apache-2.0
//! ptrace of another container's task: an event of the tracer's that is about somebody else.

use std::ptr;

use nstrail_wire::{
    fact::{Act, ProbeKind},
    step::Trace,
};

use super::{
    error::StepError,
    inherited,
    moves::find,
    probe::MAGIC,
    spawn::LabelKind,
    task::{Task, hold},
};

/// Does a [`Step::Trace`](nstrail_wire::step::Step::Trace).
pub fn step(task: &mut Task, step: &Trace) -> Result<(), StepError> {
    let &LabelKind::Task { tid, .. } = find(task, &step.target)? else {
        return Err(StepError::Scenario("what is pinned cannot be traced"));
    };
    if !task.counts_from_init() {
        return Err(StepError::Scenario("a trace is for tasks of the initial pid namespace"));
    }
    let token = task.stage.ledger.allocate_token();
    // Address and data mean nothing to PTRACE_ATTACH: magic and token.
    // SAFETY: the pointers are numbers that nobody follows.
    let result =
        unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, tid, u64::from(MAGIC), token) };
    let errno = inherited::check(result).err().map(|error| error.raw_os_error().unwrap_or(0));
    task.tell(Act::Probe { kind: ProbeKind::Ptrace, token, set: task.set })?;
    hold("ptrace", errno, step.expect)?;
    if errno.is_none() {
        let_go(tid as i32)?;
    }
    Ok(())
}

/// Waits for the stop that an attach causes, and lets the task go on as if nothing had been.
fn let_go(tid: i32) -> Result<(), StepError> {
    loop {
        // SAFETY: no status is asked for.
        let waited = unsafe { libc::waitpid(tid, ptr::null_mut(), libc::__WALL) };
        match inherited::check(waited.into()) {
            Ok(_) => break,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StepError::call("waitpid of a traced task")(error)),
        }
    }
    // SAFETY: no address; data 0 is no signal.
    let result =
        unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()) };
    inherited::check(result).map(drop).map_err(StepError::call("PTRACE_DETACH"))
}
