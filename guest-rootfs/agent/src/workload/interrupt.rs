// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that are killed in the middle of a call that makes a task.
//!
//! copy_process() looks for a fatal signal at its last point of failure, when ids and namespaces are made; so such a call must
//! leave neither a record nor a hole among the ids (CONTRACT.md G3, G6). The signal is that of a timer, which also comes
//! where the kernel gives the CPU to nobody else; its moment is left to chance. Whether it cut the call off is known for sure
//! afterwards: `wait` finds a child that was left behind, or that there is none.

use std::{io, ptr, sync::atomic::Ordering, time::Duration};

use nstrail_wire::{
    fact::{Act, ActorId},
    step::{Interrupt, SpawnCall},
};

use super::{
    death::{Ending, Status, await_death, reap},
    error::{Failed, StepError},
    inherited,
    random::Random,
    spawn::{Make, Trial, become_subreaper, make_child},
    task::Task,
};

/// Calls that are left alone: they show how long one takes.
const FREE: u32 = 4;

/// Does a [`Step::Interrupt`](nstrail_wire::step::Step::Interrupt).
pub fn step(task: &mut Task, step: &Interrupt, number: u32) -> Result<(), StepError> {
    if !task.kept.is_empty() {
        return Err(StepError::Scenario("labelled children would be taken for those of killed tasks"));
    }
    become_subreaper()?;
    let mut random = Random::at(task.stage.seed, number, 0);
    let mut longest = Duration::ZERO;
    let mut hits = 0;
    for attempt in 0..step.tries {
        let alarm = (attempt >= FREE).then(|| {
            let nanoseconds = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
            Duration::from_nanos(random.next() % nanoseconds.max(1))
        });
        let trial = alarm.map_or(Trial::Timed, Trial::Alarm);
        let make = Make { trial: Some(trial), ..Make::plain(step.call, &step.flags) };
        if one(task, &make, alarm.is_some())? {
            hits += 1;
        } else if alarm.is_none() {
            longest = longest.max(Duration::from_nanos(task.stage.shared.took.load(Ordering::Acquire)));
        }
        if hits == step.hits {
            return Ok(());
        }
    }
    Err(StepError::Unexpected {
        call: format!("a fatal signal in the middle of {:?}", step.call),
        found: format!("{hits} calls that were cut off, of {}", step.tries),
        expected: step.hits.to_string(),
    })
}

/// One try: whether the call was cut off.
fn one(task: &mut Task, make: &Make, fatal: bool) -> Result<bool, StepError> {
    let shared = task.stage.shared;
    shared.attempted.store(0, Ordering::Release);
    let body = |victim: &mut Task| -> Result<(), Failed> {
        make_child(victim, make, Ending::Exit, None, &|_: &mut Task| Ok(()), None)
            .map_err(|error| Failed { step: victim.step, error })?;
        if fatal { await_death() } else { Ok(()) }
    };
    let fork = Make::plain(SpawnCall::Fork, &[]);
    let victim = make_child(task, &fork, Ending::Exit, None, &body, None)?
        .ok_or(StepError::Scenario("fork was refused"))?;
    let end = if fatal { Status::Signal(libc::SIGALRM) } else { Status::Success };
    reap(task, victim.actor, victim.local_pid, end)?;
    let child = ActorId(shared.attempted.load(Ordering::Acquire));
    match left_behind()? {
        Some(status) => {
            let tid = shared.tid(child);
            task.tell(Act::Reaped { child, tid, status })?;
            match status {
                0 => Ok(false),
                _ => Err(StepError::Death { child: child.0, status, expected: Status::Success }),
            }
        }
        None => {
            task.tell(Act::Childless { of: victim.actor, call: make.told_call() })?;
            Ok(true)
        }
    }
}

/// Reaps the only child that there can be; `None` if there is none.
fn left_behind() -> Result<Option<i32>, StepError> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable.
        let result = unsafe { libc::waitpid(-1, ptr::from_mut(&mut status), libc::__WALL) };
        match inherited::check(result.into()) {
            Ok(_) => return Ok(Some(status)),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StepError::call("wait")(error)),
        }
    }
}
