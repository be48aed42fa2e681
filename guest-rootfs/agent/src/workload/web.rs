// SPDX-License-Identifier: MIT OR Apache-2.0
//! Joins between sets that live: tasks that hop from one container into the next, as monitoring agents do.

use nstrail_wire::{
    fact::ProbeKind,
    namespace::NamespaceType,
    step::{JoinBy, Setns, SpawnCall, Web},
};

use super::{
    death::{Ending, Kept, end_kept},
    error::{Failed, StepError},
    moves, probe,
    random::Random,
    spawn::{Make, make_labelled},
    task::Task,
    workers,
};

/// Does a [`Step::Web`](nstrail_wire::step::Step::Web).
pub fn step(task: &mut Task, web: &Web) -> Result<(), StepError> {
    let (labels, kept) = (task.labels.len(), task.kept.len());
    let make = Make::plain(SpawnCall::Clone3, &web.types);
    for container in 0..web.containers {
        make_labelled(task, &make, &name(container), &|_| Ok(()), None)?;
    }
    workers::run(task, web.workers, &|child: &mut Task, worker| {
        work(child, web, worker).map_err(|error| Failed { step: child.step, error })
    })?;
    let made: Vec<Kept> = task.kept.drain(kept..).collect();
    task.labels.truncate(labels);
    made.into_iter().try_for_each(|kept| end_kept(task, kept))
}

fn name(container: u32) -> String {
    format!("web-{container}")
}

fn work(task: &mut Task, web: &Web, worker: u32) -> Result<(), StepError> {
    // Those who wait are the maker's to end.
    debug_assert!(task.kept.is_empty() && task.ending == Ending::Exit);
    for position in 0..workers::share(web.joins, web.workers, worker) {
        let mut random = Random::at(task.stage.seed, worker, position);
        let target = name(random.below(web.containers as usize) as u32);
        let mask = 1 + random.below((1 << web.types.len()) - 1);
        let chosen = web.types.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0);
        let types: Vec<NamespaceType> = chosen.map(|(_, r#type)| *r#type).collect();
        moves::setns(task, &Setns { types, target, by: JoinBy::Pidfd, passed: None, expect: None })?;
        if random.once_in(web.probe_every) {
            probe::cause(task, ProbeKind::Syscall)?;
        }
    }
    Ok(())
}
