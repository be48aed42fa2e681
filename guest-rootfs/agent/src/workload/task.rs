// SPDX-License-Identifier: MIT OR Apache-2.0
//! A task of the workload: who it is in the ledger, and its walk through a list of steps.

use std::{ptr::NonNull, sync::atomic::Ordering};

use nstrail_wire::{
    errno::{Errno, errno_name},
    fact::{Act, ActorId, Call, Fact, Outcome},
    namespace::{CLONE_NEW_ALL, NamespaceEntry, NamespaceSet},
    scenario::numbered,
    step::{Repeat, Step},
};
use serde::{Deserialize, Serialize};

use super::{
    census::{self, Numbers},
    churn,
    death::{self, Ending, Kept},
    error::{Failed, StepError},
    exec, interrupt, moves, nest, no_memory, onlooker,
    packet::datagram,
    pin,
    pipe::ControlLine,
    privilege, probe, rejoin,
    shared::Shared,
    spawn::{self, Label},
    splat, trace, web,
};
use crate::ledger::{Batch, Ledger};

const OUTERMOST: StepError = StepError::Scenario("step is for the outermost list");

/// What is the same for all tasks of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    pub ledger: Ledger,
    pub shared: &'static Shared,
    pub seed: u64,
}

/// How a task came to be, as its maker knows it before the call.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Origin {
    pub actor: ActorId,
    pub parent: ActorId,
    pub call: Call,
    pub flags: u64,
    pub parent_set: NamespaceSet,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    pub stage: Stage,
    pub actor: ActorId,
    /// Number of its next fact.
    pub number: u32,
    pub numbers: Numbers,
    /// Its namespaces as it last read them: nothing but its own calls changes them.
    pub set: NamespaceSet,
    /// The step that it is at.
    pub step: u32,
    /// A filter for the seccomp probe is installed: it stays for good, and children inherit it.
    pub seccomp: bool,
    /// What it does when its steps are done.
    pub ending: Ending,
    /// Labelled children that wait.
    pub kept: Vec<Kept>,
    /// Tasks that a setns can name.
    pub labels: Vec<Label>,
    /// It is at a part of a churn, or of many joins, that nobody looks at: it reads nothing, and its words wait in the batch, if it has one.
    pub bare: bool,
    /// Of its own, or of the maker that sleeps as long as this task lives and whose memory it shares.
    pub batch: Option<NonNull<Batch>>,
    /// Only a stage has one.
    pub control: Option<ControlLine>,
}

impl Task {
    /// First words of a task that was just made.
    ///
    /// A `bare` one must be in the initial pid namespace.
    pub fn start(
        stage: Stage,
        origin: &Origin,
        step: u32,
        labels: &[Label],
        bare: bool,
        batch: Option<NonNull<Batch>>,
    ) -> Result<Self, StepError> {
        let (numbers, set) = if stage.ledger.is_off() {
            (Numbers { pid: 0, tid: 0 }, origin.parent_set)
        } else if bare {
            (Numbers::own(), NamespaceSet::default())
        } else {
            let numbers = census::numbers().map_err(StepError::call("thread-self"))?;
            (numbers, census::namespaces_of(numbers).map_err(StepError::call("census"))?)
        };
        stage.shared.tell_tid(origin.actor, numbers.tid);
        let mut task = Self {
            stage,
            actor: origin.actor,
            number: 0,
            numbers,
            set,
            step,
            seccomp: false,
            ending: Ending::Exit,
            kept: Vec::new(),
            labels: labels.to_vec(),
            bare,
            batch,
            control: None,
        };
        task.tell(Act::Start {
            parent: Some(origin.parent),
            call: origin.call,
            flags: origin.flags,
            // Its maker tells it anyway.
            parent_set: if bare { NamespaceSet::default() } else { origin.parent_set },
            set,
        })?;
        let moved =
            |entry| origin.parent_set.get(entry) != set.get(entry) && origin.flags & CLONE_NEW_ALL == 0;
        // A bare one has read nothing: it is where its maker is, who has nothing pending.
        if !bare && (moved(NamespaceEntry::Pid) || moved(NamespaceEntry::Time)) {
            task.count_container();
        }
        Ok(task)
    }

    /// Writes a fact.
    pub fn tell(&mut self, act: Act) -> Result<(), StepError> {
        if self.stage.ledger.is_off() {
            return Ok(());
        }
        let Numbers { pid, tid } = self.numbers;
        let fact = Fact { actor: self.actor, number: self.number, tid, pid, step: self.step, act };
        self.number += 1;
        // SAFETY: the batch outlives the tasks that have it, and only one of them runs at a time: see the field.
        match self.batch.map(|mut batch| unsafe { batch.as_mut() }) {
            Some(batch) if self.bare => batch.push(&fact),
            Some(batch) => batch.flush().and_then(|()| self.stage.ledger.write(&fact)),
            None => self.stage.ledger.write(&fact),
        }
        .map_err(StepError::call("ledger"))
    }

    /// Tells what waits in the batch, before another task speaks for itself.
    pub fn flush(&mut self) -> Result<(), StepError> {
        // SAFETY: as in `tell`.
        let flushed = self.batch.map_or(Ok(()), |mut batch| unsafe { batch.as_mut() }.flush());
        flushed.map_err(StepError::call("ledger"))
    }

    /// Writes that a call has returned, after a look at what it did.
    pub fn tell_operation(
        &mut self,
        call: Call,
        flags: u64,
        passed: u64,
        outcome: Outcome,
    ) -> Result<(), StepError> {
        let before = self.set;
        let mut after = NamespaceSet::default();
        if !self.bare && !self.stage.ledger.is_off() {
            after = census::namespaces_of(self.numbers).map_err(StepError::call("census"))?;
            self.set = after;
        }
        if flags & CLONE_NEW_ALL != 0 && !matches!(outcome, Outcome::Failed { .. }) {
            self.count_container();
        }
        self.tell(Act::Operation { call, flags, passed, outcome, before, after })
    }

    /// One more set was made.
    pub fn count_container(&self) {
        self.stage.shared.containers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this task is in the initial pid namespace, so that its calls give the ledger's numbers.
    pub fn counts_from_init(&self) -> bool {
        // PROC_PID_INIT_INO, the same in every kernel version.
        self.set.get(NamespaceEntry::Pid) == 0xEFFF_FFFC
    }

    /// Walks through steps, of which the first has the number `first`.
    pub fn walk(&mut self, steps: &[Step], first: u32) -> Result<(), Failed> {
        for (number, step) in numbered(steps, first) {
            self.step = number;
            self.take(step, number).map_err(|error| Failed { step: self.step, error })?;
        }
        Ok(())
    }

    fn take(&mut self, step: &Step, number: u32) -> Result<(), StepError> {
        match step {
            Step::Audit { .. } => match self.control {
                Some(line) => line.ask(),
                None => Err(OUTERMOST),
            },
            Step::Fence {} | Step::Rule(_) | Step::Meddle(_) | Step::Backlog { .. } | Step::Lock {} => {
                Err(OUTERMOST)
            }
            Step::Spawn(spawn) => spawn::step(self, spawn, number),
            Step::Unshare(unshare) => moves::unshare(self, unshare),
            Step::Setns(setns) => moves::setns(self, setns),
            Step::Exec(exec) => exec::step(self, exec, number),
            Step::Probe(kind) => probe::cause(self, *kind),
            Step::DropCapabilities {} => privilege::drop_capabilities(),
            Step::Become { uid } => privilege::become_user(*uid),
            Step::Processes { max } => privilege::limit_processes(*max),
            Step::Limit { r#type, max } => privilege::limit(*r#type, *max),
            Step::Release { label } => death::release(self, label),
            Step::Together { labels } => death::release_together(self, labels),
            Step::Nest(nest) => nest::step(self, nest, number),
            Step::Churn(churn) => churn::step(self, churn),
            Step::Web(web) => web::step(self, web),
            Step::Repeat(repeat) => self.repeat(repeat, number),
            Step::Sysctl { name, value } => privilege::sysctl(name, *value),
            Step::Pin(step) => pin::pin(self, step),
            Step::Unpin { name } => pin::unpin(self, name),
            Step::Trace(step) => trace::step(self, step),
            Step::Listen {} => datagram::listen(),
            Step::Datagram(step) => datagram::send(self, step),
            Step::Interrupt(step) => interrupt::step(self, step, number),
            Step::NoMemory(step) => no_memory::step(self, step),
            Step::Census {} => onlooker::step(self),
            Step::Splat(splat) => splat::step(*splat),
            Step::Rejoin(rejoin) => rejoin::step(self, rejoin),
            Step::Every(_) => Err(StepError::Scenario("`every` is for the host to write out")),
            Step::Absent(_) => Ok(()),
        }
    }

    fn repeat(&mut self, repeat: &Repeat, number: u32) -> Result<(), StepError> {
        for _ in 0..repeat.times {
            self.walk(&repeat.inside, number + 1).map_err(|failed| failed.error)?;
        }
        Ok(())
    }

    /// Last words: labelled children end before their maker, the youngest first.
    pub fn end(&mut self) -> Result<(), StepError> {
        while let Some(kept) = self.kept.pop() {
            death::end_kept(self, kept)?;
        }
        self.tell(Act::End)
    }
}

/// Holds what a call gave against what the scenario expects.
pub fn hold(call: &str, found: Option<i32>, expected: Option<Errno>) -> Result<(), StepError> {
    if found == expected.map(Errno::number) {
        return Ok(());
    }
    Err(StepError::Unexpected {
        call: call.to_owned(),
        found: found.map_or_else(|| "success".to_owned(), errno_name),
        expected: expected.map_or_else(|| "success".to_owned(), |errno| errno.to_string()),
    })
}
