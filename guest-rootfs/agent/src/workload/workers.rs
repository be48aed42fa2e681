// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that work beside each other.

use nstrail_wire::step::SpawnCall;

use super::{
    death::{Ending, Status, reap},
    error::{Failed, StepError},
    spawn::{Made, Make, make_child},
    task::Task,
};

/// Runs `body` in so many forks beside each other, which are told their numbers.
pub fn run(
    task: &mut Task,
    count: u32,
    body: &dyn Fn(&mut Task, u32) -> Result<(), Failed>,
) -> Result<(), StepError> {
    let mut workers: Vec<Made> = Vec::new();
    for worker in 0..count {
        let make = Make::plain(SpawnCall::Fork, &[]);
        let body = |child: &mut Task| body(child, worker);
        workers.extend(make_child(task, &make, Ending::Exit, None, &body, None)?);
    }
    for worker in &workers {
        reap(task, worker.actor, worker.local_pid, Status::Success)?;
    }
    Ok(())
}

/// A worker's share of a whole.
pub const fn share(whole: u32, workers: u32, worker: u32) -> u32 {
    whole / workers + (worker < whole % workers) as u32
}
