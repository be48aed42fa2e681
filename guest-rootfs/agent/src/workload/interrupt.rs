// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that are killed in the middle of a call that makes a task.
//!
//! copy_process() looks for a fatal signal at its last point of failure, when ids and namespaces are made; so such a call must
//! leave neither a record nor a hole among the ids (CONTRACT.md G3, G6). The signal is that of a timer, which also comes
//! where the kernel gives the CPU to nobody else, but may come a whole tick (10 ms) late. So the caller has a ballast from its maker: its page
//! tables are copied before the namespaces are made, and with enough of them a call takes several ticks. Whether it was cut off is known for sure
//! afterwards: `wait` finds a child that was left behind, or that there is none.

use std::{io, ops::RangeInclusive, ptr, sync::atomic::Ordering, time::Duration};

use nstrail_wire::{
    fact::{Act, ActorId},
    step::{Interrupt, SpawnCall},
};

use super::{
    death::{Ending, Status, await_death, reap, try_wait},
    error::{Failed, StepError},
    random::Random,
    spawn::{Make, Trial, become_subreaper, make_child},
    task::Task,
};

/// Calls of one ballast that are left alone: the shortest shows within what time all of them are at work.
const FREE: u32 = 2;
/// A call that takes so long is hit by most of the timers that are set to go off within it.
const ENOUGH: Duration = Duration::from_millis(60);
/// Bytes of ballast: as little as makes the call take [`ENOUGH`], or the most that a small guest can spare.
const BALLAST: RangeInclusive<usize> = 16 << 20..=256 << 20;

/// Does a [`Step::Interrupt`](nstrail_wire::step::Step::Interrupt).
pub fn step(task: &mut Task, step: &Interrupt, number: u32) -> Result<(), StepError> {
    if !task.kept.is_empty() {
        return Err(StepError::Scenario("labelled children would be taken for those of killed tasks"));
    }
    become_subreaper()?;
    let call = Make::plain(step.call, &step.flags);
    let mut random = Random::at(task.stage.seed, number, 0);
    let mut ballast = Ballast::take(*BALLAST.start())?;
    let mut shortest = shortest(task, &call)?;
    while shortest < ENOUGH && ballast.bytes < *BALLAST.end() {
        let bytes = ballast.bytes * 2;
        drop(ballast);
        ballast = Ballast::take(bytes)?;
        shortest = self::shortest(task, &call)?;
    }
    let within = u64::try_from(shortest.as_nanos()).unwrap_or(u64::MAX).max(1);
    let mut hits = 0;
    for _ in 0..step.tries {
        let alarm = Duration::from_nanos(random.next() % within);
        hits += u32::from(one(task, &Make { trial: Some(Trial::Alarm(alarm)), ..call })?);
        if hits == step.hits {
            return Ok(());
        }
    }
    Err(StepError::Unexpected {
        call: format!("a fatal signal in the middle of {:?}, which takes {shortest:?}", step.call),
        found: format!("{hits} calls that were cut off, of {}", step.tries),
        expected: step.hits.to_string(),
    })
}

/// The shortest time that the call takes when nothing cuts it off.
fn shortest(task: &mut Task, call: &Make) -> Result<Duration, StepError> {
    let mut shortest = Duration::MAX;
    for _ in 0..FREE {
        if one(task, &Make { trial: Some(Trial::Timed), ..*call })? {
            return Err(StepError::Scenario("a call that nothing cut off left no child"));
        }
        let took = task.stage.shared.trial.took.load(Ordering::Acquire);
        shortest = shortest.min(Duration::from_nanos(took));
    }
    Ok(shortest)
}

/// One try: whether the call was cut off.
fn one(task: &mut Task, make: &Make) -> Result<bool, StepError> {
    let fatal = matches!(make.trial, Some(Trial::Alarm(_)));
    let trial = &task.stage.shared.trial;
    trial.attempted.store(0, Ordering::Release);
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
    let child = ActorId(trial.attempted.load(Ordering::Acquire));
    // Nobody else's child can be here.
    let Some((_, status)) = try_wait(-1)? else {
        task.tell(Act::Childless { of: victim.actor, call: make.told_call() })?;
        return Ok(true);
    };
    let tid = task.stage.shared.tid(child);
    task.tell(Act::Reaped { child, tid, status })?;
    if status == 0 {
        return Ok(false);
    }
    Err(StepError::Death { child: child.0, status, expected: Status::Success })
}

/// Memory whose page tables every fork of its owner copies, and every fork of those.
struct Ballast {
    memory: *mut libc::c_void,
    bytes: usize,
}

impl Ballast {
    fn take(bytes: usize) -> Result<Self, StepError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: a new private mapping at an address of the kernel's choice, which nobody looks at.
        let memory =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(StepError::Call { what: "mmap of a ballast", source: io::Error::last_os_error() });
        }
        Ok(Self { memory, bytes })
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing points into it.
        unsafe { libc::munmap(self.memory, self.bytes) };
    }
}
