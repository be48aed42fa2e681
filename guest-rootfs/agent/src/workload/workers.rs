// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that work beside each other.

use std::io;

use nstrail_wire::step::SpawnCall;

use super::{
    death::{Ending, Status, reap},
    error::{Failed, StepError},
    inherited,
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

/// Keeps a worker, and what it makes, on one of the CPUs. A worker and a container of its own wait for each other all the time:
/// across CPUs every such wait is an interrupt, which an emulated machine on a busy host pays for with most of its time
/// (five times as long was seen). Workers still run beside each other; children that start on another CPU than their
/// maker's are the other scenarios' part.
pub fn stay_on_one_cpu(worker: u32) -> io::Result<()> {
    // SAFETY: all-zero is a valid set of CPUs, and both calls stay within its size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        inherited::check(libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed).into())?;
        let cpus: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &allowed)).collect();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpus[worker as usize % cpus.len()], &mut one);
        inherited::check(libc::sched_setaffinity(0, size_of_val(&one), &raw const one).into()).map(drop)
    }
}
