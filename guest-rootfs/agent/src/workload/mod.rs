// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workloads: a scenario's steps, done for real, and told to the ledger by those who do them.
//!
//! The agent's main task does the control steps (fences, rules, audit on and off). What lies between two of them is
//! done by a *stage*: a plain fork of the main task, single-threaded whatever the main task is, and gone before
//! the next control step. Everything else descends from a stage.
//!
//! - [`task`]: a task and its walk through steps; [`spawn`], [`nest`], [`churn`], [`web`], [`workers`]: making tasks; [`rejoin`]: numbers at the highest rate; [`death`], [`pipe`], [`interrupt`]: their ends; [`moves`], [`exec`]: moving;
//!   [`pin`]: keeping.
//! - [`probe`], [`uring`], [`packet`]: events with a token; [`privilege`], [`cgroup`]: surroundings.
//! - [`no_memory`]: calls without memory. [`meddle`]: what loses records on purpose. [`splat`]: a kernel that is broken on purpose. [`onlooker`]: what one task sees of all others. [`census`], [`inherited`], [`shared`]: what a task knows wherever it is; [`trampoline`]: raw system calls.

pub mod census;
mod cgroup;
mod churn;
mod death;
mod error;
mod exec;
mod inherited;
mod interrupt;
mod meddle;
mod moves;
mod nest;
mod no_memory;
mod onlooker;
mod packet;
mod pin;
mod pipe;
mod privilege;
mod probe;
mod random;
mod rejoin;
mod shared;
mod spawn;
mod splat;
mod task;
mod trace;
mod trampoline;
mod uring;
mod web;
mod workers;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use nstrail_wire::{
    fact::{Act, ActorId, Call, Outcome},
    rule,
    scenario::{Scenario, numbered},
    step::{RuleStep, Step},
};

use self::{
    death::{GAVE_UP, Status},
    error::{Failed, StepError},
    pipe::ControlLine,
    shared::Shared,
    task::{Origin, Stage, Task},
};
pub use self::{error::WorkloadError, exec::entry as exec_entry};
use crate::{
    control::{AuditControl, AuditRule, RuleAction, RuleCalls, RuleField, RuleList},
    ledger::Ledger,
};

/// What a workload did, in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadEnd {
    /// Time that stages took.
    pub workload_ns: u64,
    /// Sets made, as the tasks count their calls.
    pub containers: u64,
    /// Times that the PID counter was seen to wrap around.
    pub pid_rollovers: u64,
}

/// Runs a scenario to its end. For the agent's main task; `collector` is the process of the agent that is none of the workload.
///
/// # Errors
/// If a step could not be done, or did not give what the scenario expects of it.
pub fn run(
    scenario: &Scenario,
    seed: u64,
    collector: u32,
    ledger: &Ledger,
    audit: &dyn AuditControl,
) -> Result<WorkloadEnd, WorkloadError> {
    let trouble = |step| move |error: StepError| WorkloadError { step, reason: error.to_string() };
    inherited::open().map_err(StepError::call("descriptors of the workload")).map_err(trouble(None))?;
    let shared = Shared::create().map_err(StepError::call("shared memory")).map_err(trouble(None))?;
    shared.collector.store(collector, Ordering::Relaxed);
    let stage = Stage { ledger: *ledger, shared, seed };
    let mut took = Duration::ZERO;
    let mut control = Control { audit, ledger: *ledger, collector, rules: Vec::new(), fences: 0 };
    let mut number = 0;
    let mut rest = &scenario.steps[..];
    while let Some(first) = rest.first() {
        ledger.enter_step(number);
        let length = if first.is_control() {
            control.take(first).map_err(trouble(Some(number)))?;
            1
        } else {
            // Sets may live while audit is turned off and on: the stage asks the main task for that.
            let ends = |step: &Step| step.is_control() && !matches!(step, Step::Audit { .. });
            rest.iter().position(ends).unwrap_or(rest.len())
        };
        let (now, later) = rest.split_at(length);
        if !first.is_control() {
            let began = Instant::now();
            perform(stage, now, number, &mut control)?;
            took += began.elapsed();
        }
        number += numbered(now, 0).map(|(_, step)| step.size()).sum::<u32>();
        rest = later;
    }
    Ok(WorkloadEnd {
        workload_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        containers: shared.containers.load(Ordering::Relaxed),
        pid_rollovers: shared.rollovers.load(Ordering::Relaxed),
    })
}

/// What is left of the workload when it has ended: nothing, or the ledger is in doubt.
///
/// # Errors
/// If /proc cannot be read.
pub fn last_census(ledger: &Ledger, collector: u32) -> Result<(), WorkloadError> {
    onlooker::at_fence(ledger, collector)
        .map_err(|error| WorkloadError { step: None, reason: error.to_string() })
}

/// A stage does these steps, from its birth to its death.
fn perform(
    stage: Stage,
    steps: &[Step],
    number: u32,
    control: &mut Control<'_>,
) -> Result<(), WorkloadError> {
    let trouble = |error: StepError| WorkloadError { step: Some(number), reason: error.to_string() };
    let line = ControlLine::new().map_err(trouble)?;
    let actor = stage.ledger.allocate_actor();
    let before = census::namespaces().map_err(StepError::call("census")).map_err(trouble)?;
    let origin = Origin { actor, parent: ActorId(1), call: Call::Fork, flags: 0, parent_set: before };
    // libc's fork, the only one: it is the one that leaves the allocator usable if the main task has threads.
    // SAFETY: the child uses nothing that another thread of this process could have held.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let status = match play(stage, &origin, steps, number, line) {
            Ok(()) => 0,
            Err(failed) => {
                stage.shared.fail(failed.step, &failed.error.to_string());
                GAVE_UP
            }
        };
        death::leave(false, status);
    }
    let pid = inherited::check(pid.into()).map_err(StepError::call("fork")).map_err(trouble)? as i32;
    let after = census::namespaces().map_err(StepError::call("census")).map_err(trouble)?;
    let outcome = Outcome::Child { actor, tid: pid as u32 };
    let tell = |act| stage.ledger.write_main(act).map_err(StepError::call("ledger")).map_err(trouble);
    tell(Act::Operation { call: Call::Fork, flags: 0, passed: 0, outcome, before, after })?;
    control.serve(line, pid, steps, number)?;
    let (_, status) = death::wait(pid).map_err(trouble)?;
    tell(Act::Reaped { child: actor, tid: pid as u32, status })?;
    match (stage.shared.failure(), status) {
        (Some((step, reason)), _) => Err(WorkloadError { step: Some(step), reason }),
        (None, 0) => Ok(()),
        (None, status) => {
            Err(trouble(StepError::Death { child: actor.0, status, expected: Status::Success }))
        }
    }
}

fn play(stage: Stage, origin: &Origin, steps: &[Step], number: u32, line: ControlLine) -> Result<(), Failed> {
    let failed = |error| Failed { step: number, error };
    let mut task = Task::start(stage, origin, number, &[], false, None).map_err(failed)?;
    task.control = Some(line);
    task.walk(steps, number)?;
    task.end().map_err(|error| Failed { step: task.step, error })
}

/// The main task's part of a scenario.
struct Control<'a> {
    audit: &'a dyn AuditControl,
    ledger: Ledger,
    collector: u32,
    /// Rules that stand, by the scenario's name for them.
    rules: Vec<(String, AuditRule)>,
    fences: u32,
}

impl Control<'_> {
    /// Does the stage's audit steps, each when the stage has come to it, until the stage is over.
    fn serve(
        &mut self,
        line: ControlLine,
        stage: i32,
        steps: &[Step],
        first: u32,
    ) -> Result<(), WorkloadError> {
        let trouble =
            |step: u32| move |error: StepError| WorkloadError { step: Some(step), reason: error.to_string() };
        let over = spawn::pidfd_open(stage).map_err(trouble(first))?;
        for (number, step) in numbered(steps, first).filter(|(_, step)| step.is_control()) {
            if !line.is_asked(over).map_err(trouble(number))? {
                break;
            }
            self.ledger.enter_step(number);
            self.take(step).map_err(trouble(number))?;
            line.answer().map_err(trouble(number))?;
        }
        inherited::close(over);
        line.close();
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Fence {} => {
                self.fences += 1;
                onlooker::at_fence(&self.ledger, self.collector)?;
                self.audit.fence(self.fences).map_err(StepError::call("fence"))
            }
            Step::Audit { enabled } => {
                self.audit.set_enabled(*enabled).map_err(StepError::call("AUDIT_SET of enabled"))
            }
            Step::Rule(RuleStep::Add(rule)) => {
                let audit_rule = audit_rule(rule);
                self.audit.add_rule(&audit_rule).map_err(StepError::call("AUDIT_ADD_RULE"))?;
                self.rules.push((rule.key.clone(), audit_rule));
                Ok(())
            }
            Step::Rule(RuleStep::Remove(key)) => {
                let at = self.rules.iter().position(|(known, _)| known == key);
                let (_, rule) = self.rules.remove(at.ok_or(StepError::Scenario("no such rule stands"))?);
                self.audit.delete_rule(&rule).map_err(StepError::call("AUDIT_DEL_RULE"))
            }
            Step::Backlog { limit } => {
                self.audit.set_backlog(*limit).map_err(StepError::call("AUDIT_SET of the backlog limit"))
            }
            Step::Lock {} => self.audit.lock().map_err(StepError::call("AUDIT_SET of enabled to locked")),
            Step::Meddle(how) => meddle::step(self.audit, self.collector, *how),
            Step::Absent(_) => Ok(()),
            _ => Err(StepError::Scenario("step is not for the main task")),
        }
    }
}

/// The rule as the kernel takes it.
fn audit_rule(rule: &rule::Rule) -> AuditRule {
    AuditRule {
        list: match rule.list {
            rule::RuleList::Exit => RuleList::Exit,
            rule::RuleList::Exclude => RuleList::Exclude,
            rule::RuleList::IoUring => RuleList::IoUring,
            rule::RuleList::Task => RuleList::Task,
        },
        action: match rule.action {
            rule::RuleAction::Never => RuleAction::Never,
            rule::RuleAction::Always => RuleAction::Always,
        },
        calls: match (rule.list, &rule.calls[..]) {
            (rule::RuleList::Exclude, _) => RuleCalls::Only(Vec::new()),
            (_, []) => RuleCalls::All,
            (_, calls) => RuleCalls::Only(calls.iter().map(|call| call.number()).collect()),
        },
        fields: rule
            .fields
            .iter()
            .map(|field| {
                let (field, value) = field.pair();
                RuleField::equal(field, value)
            })
            .collect(),
        key: rule.list.takes_key().then(|| rule.key.clone().into_bytes()),
    }
}
