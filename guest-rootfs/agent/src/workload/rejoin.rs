// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that join the namespaces that they are in, as fast as they can: no namespace is made, and a number is taken each time.
//!
//! Of all that takes a number this does the least besides, so that two CPUs come to it at once as often as can be had.

use std::{os::fd::RawFd, ptr::NonNull};

use nstrail_wire::{
    fact::{Call, Outcome},
    namespace::NamespaceType,
    step::Rejoin,
};

use super::{
    error::{Failed, StepError},
    inherited, moves,
    task::{Task, hold},
    workers,
};
use crate::ledger::Batch;

/// Does a [`Step::Rejoin`](nstrail_wire::step::Step::Rejoin).
pub fn step(task: &mut Task, rejoin: &Rejoin) -> Result<(), StepError> {
    workers::run(task, rejoin.workers, &|child: &mut Task, worker| {
        work(child, rejoin, worker).map_err(|error| Failed { step: child.step, error })
    })
}

fn work(task: &mut Task, rejoin: &Rejoin, worker: u32) -> Result<(), StepError> {
    workers::stay_on_one_cpu(worker).map_err(StepError::call("sched_setaffinity"))?;
    let open = |r#type: &NamespaceType| moves::nsfs(task, "self", *r#type).map(|file| (*r#type, file));
    let files = rejoin.types.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut batch = Batch::new();
    task.batch = Some(NonNull::from(&mut batch));
    let result = join_all(task, rejoin, &files, workers::share(rejoin.joins, rejoin.workers, worker));
    let flushed = task.flush();
    task.batch = None;
    files.into_iter().for_each(|(_, file)| inherited::close(file));
    result.and(flushed)
}

fn join_all(
    task: &mut Task,
    rejoin: &Rejoin,
    files: &[(NamespaceType, RawFd)],
    joins: u32,
) -> Result<(), StepError> {
    for (position, (r#type, file)) in (1..=joins).zip(files.iter().cycle()) {
        let flags = r#type.flag();
        // SAFETY: plain system call without pointers.
        let result = inherited::check(unsafe { libc::syscall(libc::SYS_setns, *file, flags) });
        let errno = result.err().map(|error| error.raw_os_error().unwrap_or(0));
        // It is where it was: only now and then it looks.
        task.bare = errno.is_none() && position % rejoin.look_every != 0;
        let outcome = errno.map_or(Outcome::Done, |errno| Outcome::Failed { errno });
        let told = task.tell_operation(Call::Setns, flags, flags, outcome);
        task.bare = false;
        told?;
        if errno.is_some() {
            hold(&format!("setns {flags:#x} into its own namespace"), errno, None)?;
        }
    }
    Ok(())
}
