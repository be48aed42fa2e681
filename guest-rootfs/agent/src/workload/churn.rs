// SPDX-License-Identifier: MIT OR Apache-2.0
//! Containers spawned and reaped at a high rate, by workers beside each other.
//!
//! A worker makes one container after the other. What each of them is, and what it does, comes from a generator
//! seeded by the run's seed, the worker's number and the container's position: the number of CPUs and the
//! scheduler only decide how the workers' stories interleave.

use std::{
    ffi::CStr,
    io,
    ptr::NonNull,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use nstrail_wire::{
    fact::{Act, ProbeKind},
    namespace::{CLONE_NEW_ALL, CLONE_VFORK, CLONE_VM, NamespaceType},
    step::{Churn, Death, SpawnCall},
};

use super::{
    death::{Ending, kill, reap_at_once, see_off},
    error::{Failed, StepError},
    inherited,
    pipe::Pipe,
    probe,
    random::Random,
    spawn::{Made, Make, make_child},
    task::Task,
    workers,
};
use crate::ledger::Batch;

/// What one container is to be.
#[derive(Debug, PartialEq, Eq)]
struct Plan<'a> {
    types: &'a [NamespaceType],
    probe: Option<ProbeKind>,
    nested: Option<&'a [NamespaceType]>,
    forks: bool,
    death: Death,
    vfork: bool,
    /// It reads its namespaces.
    looks: bool,
    /// It runs on another CPU than its maker.
    apart: bool,
}

impl<'a> Plan<'a> {
    fn new(churn: &'a Churn, seed: u64, worker: u32, position: u32) -> Self {
        let mut random = Random::at(seed, worker, position);
        // Every choice draws its numbers whether it is taken or not: one parameter does not shift the others.
        let types = &churn.kinds[random.below(churn.kinds.len())];
        let nested = &churn.kinds[random.below(churn.kinds.len())];
        let probe = (!churn.probes.is_empty()).then(|| churn.probes[random.below(churn.probes.len())]);
        let probes = random.once_in(churn.probe_every);
        let nests = random.once_in(churn.nest_every);
        let forks = random.once_in(churn.fork_every);
        let killed = random.once_in(churn.kill_every);
        let looks = random.once_in(churn.look_every);
        Self {
            types,
            probe: probe.filter(|_| probes),
            nested: nests.then_some(nested),
            forks,
            death: if killed { Death::Kill } else { Death::Exit },
            vfork: churn.vfork,
            looks,
            apart: churn.apart,
        }
    }

    /// A container, or a plain fork, that this one makes.
    fn inner<'b>(&self, types: &'b [NamespaceType]) -> Plan<'b> {
        Plan {
            types,
            probe: self.probe,
            nested: None,
            forks: false,
            death: Death::Exit,
            vfork: self.vfork,
            looks: true,
            apart: false,
        }
    }

    /// Whether it does nothing that needs its namespaces to be told.
    fn is_bare(&self) -> bool {
        let numbered = |r#type: &NamespaceType| matches!(r#type, NamespaceType::Pid | NamespaceType::User);
        let acts = self.probe.is_some() || self.nested.is_some() || self.forks;
        !self.looks && !acts && self.death == Death::Exit && !self.types.iter().any(numbered)
    }

    /// The call that makes it. clone3 knows all types.
    fn make(&self) -> Make {
        let mut make = Make::plain(SpawnCall::Clone3, self.types);
        debug_assert!(make.flags & CLONE_NEW_ALL == make.flags);
        if self.vfork {
            make.flags |= CLONE_VM | CLONE_VFORK | libc::CLONE_FILES as u64;
        }
        make
    }
}

/// Does a [`Step::Churn`](nstrail_wire::step::Step::Churn).
pub fn step(task: &mut Task, churn: &Churn) -> Result<(), StepError> {
    let pid_max = Setting::change("kernel.pid_max", c"sys/kernel/pid_max", churn.pid_max)?;
    // A kernel thread frees IPC namespaces, before 6.3 each with a grace period of its own: thousands that nobody is in
    // count against the limit, and a clone does not wait for them there (ipc/namespace.c:create_ipc_ns).
    let ipc =
        Setting::change("user.max_ipc_namespaces", c"sys/user/max_ipc_namespaces", i32::MAX.unsigned_abs())?;
    workers::run(task, churn.workers, &|child: &mut Task, worker| {
        work(child, churn, worker).map_err(|error| Failed { step: child.step, error })
    })?;
    ipc.restore()?;
    pid_max.restore()
}

/// A sysctl that is otherwise for a while.
struct Setting {
    name: &'static str,
    path: &'static CStr,
    before: Vec<u8>,
}

impl Setting {
    fn change(name: &'static str, path: &'static CStr, value: u32) -> Result<Self, StepError> {
        let mut room = [0; 16];
        let before = inherited::read_proc(path, &mut room).map_err(StepError::call(name))?.to_vec();
        inherited::write_proc(path, value.to_string().as_bytes()).map_err(StepError::call(name))?;
        Ok(Self { name, path, before })
    }

    fn restore(self) -> Result<(), StepError> {
        inherited::write_proc(self.path, &self.before).map_err(StepError::call(self.name))
    }
}

fn work(task: &mut Task, churn: &Churn, worker: u32) -> Result<(), StepError> {
    workers::stay_on_one_cpu(worker).map_err(StepError::call("sched_setaffinity"))?;
    let mut batch = Batch::new();
    task.batch = Some(NonNull::from(&mut batch));
    let result = make_containers(task, churn, worker);
    let flushed = task.flush();
    task.batch = None;
    result.and(flushed)
}

fn make_containers(task: &mut Task, churn: &Churn, worker: u32) -> Result<(), StepError> {
    let (mut last, mut rollovers) = (0, 0);
    let (began, limit) = (Instant::now(), churn.seconds.map(|seconds| Duration::from_secs(seconds.into())));
    for position in 0..workers::share(churn.containers, churn.workers, worker) {
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            break;
        }
        let plan = Plan::new(churn, task.stage.seed, worker, position);
        let local_pid = container(task, &plan)?;
        // PIDs are handed out upwards: one below its predecessor means that the counter has wrapped in between.
        rollovers += u64::from(local_pid < last);
        last = local_pid;
    }
    // Each worker sees every wrap that it does not sleep through, so the largest count is the nearest to the truth.
    task.stage.shared.rollovers.fetch_max(rollovers, Ordering::Relaxed);
    Ok(())
}

/// Makes a container and sees it off. Gives its pid.
fn container(task: &mut Task, plan: &Plan<'_>) -> Result<i32, StepError> {
    let body = |child: &mut Task| live(child, plan).map_err(|error| Failed { step: child.step, error });
    task.bare = plan.is_bare() && task.counts_from_init();
    if !task.bare {
        task.flush()?;
    }
    let make = Make { bare: task.bare, ..plan.make() };
    let ready = (plan.death == Death::Kill).then(Pipe::new).transpose()?;
    let ending = ready.map_or(Ending::Exit, |ready| Ending::BeKilled { ready: ready.write });
    let made = make_child(task, &make, ending, None, &body, None)?
        .ok_or(StepError::Scenario("a container was refused"))?;
    if let Some(ready) = ready {
        ready.await_byte()?;
        kill(made.local_pid)?;
    }
    if plan.apart {
        see_off_at_once(task, &made, plan.death)?;
    } else {
        see_off(task, &made, &make, plan.death)?;
    }
    task.bare = false;
    Ok(made.local_pid)
}

/// Sees a container off from another CPU, and causes an event as soon as it is known to be gone.
fn see_off_at_once(task: &mut Task, made: &Made, death: Death) -> Result<(), StepError> {
    let token = task.stage.ledger.allocate_token();
    reap_at_once(task, made, death.into(), || probe::call(token))?;
    task.tell(Act::Probe { kind: ProbeKind::Syscall, token, set: task.set })
}

/// Goes to any CPU but the one that this task is on, if there is another one.
fn leave_the_cpu() -> io::Result<()> {
    // SAFETY: all-zero is a valid set of CPUs, and all calls stay within its size.
    let result = unsafe {
        let here = usize::try_from(libc::sched_getcpu()).unwrap_or_default();
        let mut others: libc::cpu_set_t = std::mem::zeroed();
        (0..libc::CPU_SETSIZE as usize)
            .filter(|cpu| *cpu != here)
            .for_each(|cpu| libc::CPU_SET(cpu, &mut others));
        libc::sched_setaffinity(0, size_of_val(&others), &raw const others)
    };
    match inherited::check(result.into()) {
        // There is no other one.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other.map(drop),
    }
}

fn live(task: &mut Task, plan: &Plan<'_>) -> Result<(), StepError> {
    if plan.apart {
        leave_the_cpu().map_err(StepError::call("sched_setaffinity"))?;
    }
    if let Some(kind) = plan.probe {
        probe::cause(task, kind)?;
    }
    if plan.forks {
        container(task, &plan.inner(&[]))?;
    }
    if let Some(types) = plan.nested {
        container(task, &plan.inner(types))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_depends_on_seed_worker_and_position_alone() {
        let churn = Churn {
            containers: 1000,
            workers: 4,
            pid_max: 1000,
            kinds: vec![vec![NamespaceType::Pid], vec![NamespaceType::Uts, NamespaceType::Ipc]],
            probe_every: 5,
            probes: vec![ProbeKind::Syscall, ProbeKind::Seccomp],
            nest_every: 7,
            fork_every: 3,
            kill_every: 11,
            vfork: false,
            seconds: None,
            look_every: 1,
            apart: false,
        };
        let plans = |seed, worker| (0..500).map(|at| Plan::new(&churn, seed, worker, at)).collect::<Vec<_>>();
        assert_eq!(plans(1, 2), plans(1, 2));
        assert_ne!(plans(1, 2), plans(1, 3));
        assert_ne!(plans(1, 2), plans(2, 2));
        let killed = plans(1, 0).iter().filter(|plan| plan.death == Death::Kill).count();
        assert!((20..80).contains(&killed), "{killed} of 500 are one in 11 or so");
    }
}
