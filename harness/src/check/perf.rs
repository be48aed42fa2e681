// SPDX-License-Identifier: MIT OR Apache-2.0
//! The third witness beside log and ledger: what perf saw of each task's namespaces (`nstrail_wire::perf`).
//!
//! perf knows nothing of audit, and nothing of what a task meant to do; it tells a task's set when the task is made, and
//! after each unshare and setns. So each definition by one of those has its PERF_RECORD_NAMESPACES, and each of those
//! that differs from what the task had (or inherited, by PERF_RECORD_FORK) has its definition. One that does not differ may
//! have one: a set that was joined again, a new time namespace, which perf does not see.
//!
//! One tid's definitions and its records of perf stand in the same order. A record that needs a definition is paired with
//! the first one that is left; where that does not fit, it belongs to an earlier record that needs none, if one fits (which
//! of several alike is all the same); the first definition that fits nothing puts the tid aside until the next fence. What is
//! contradictory is judged at fences only, when all three witnesses have spoken, so that the finding can say which
//! two agree.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use nstrail_audit::Op;
use nstrail_wire::{
    namespace::NamespaceSet,
    perf::{PerfEvent, SeenSet},
};

use super::{
    core::Core,
    finding::Finding,
    hash::Map,
    invariant::Invariant,
    pairing::{same_set, take_while},
    sets::Definition,
};

/// A definition that perf should have seen too.
#[derive(Debug)]
struct Waiting {
    definition: Arc<Definition>,
    /// What the task read in /proc, as far as the ledger has come.
    census: Option<NamespaceSet>,
}

impl Waiting {
    /// Perf and the log agree: does the ledger?
    fn contradiction(self) -> Option<(Arc<Definition>, NamespaceSet)> {
        let census = self.census?;
        (!same_set(&self.definition.op.set, &census)).then_some((self.definition, census))
    }
}

/// A PERF_RECORD_NAMESPACES.
#[derive(Debug)]
struct Seen {
    /// Place in the stream.
    at: u64,
    epoch: u64,
    set: SeenSet,
}

/// Several alike that need no definition: the first of them, and how many.
#[derive(Debug)]
struct Spare {
    first: Seen,
    count: u32,
}

#[derive(Debug, Default)]
struct TidQueue {
    definitions: VecDeque<Waiting>,
    /// It is not what the task had before: these must be defined.
    changes: VecDeque<Seen>,
    /// It is what the task had before: these may be defined.
    spares: Vec<Spare>,
    aside: bool,
}

impl TidQueue {
    /// Takes a record that needs no definition and fits one: the first, from before `end` in the stream.
    fn take_spare(&mut self, definition: &Definition, end: u64) -> bool {
        let set = SeenSet::of(&definition.op.set);
        let fits = |spare: &Spare| {
            spare.first.epoch == definition.epoch && spare.first.at < end && spare.first.set.fits(&set)
        };
        let Some(at) = self.spares.iter().position(fits) else { return false };
        self.spares[at].count -= 1;
        if self.spares[at].count == 0 {
            self.spares.remove(at);
        }
        true
    }

    fn is_empty(&self) -> bool {
        self.definitions.is_empty() && self.changes.is_empty() && self.spares.is_empty()
    }
}

/// What a task was seen to have.
#[derive(Debug, Clone, Copy)]
struct Told {
    epoch: u64,
    tid: u32,
    set: NamespaceSet,
}

#[derive(Debug, Default)]
pub(super) struct Perf {
    pub epoch: u64,
    position: u64,
    /// The epoch in which it began to look: nothing is to be said of earlier ones.
    started: Option<u64>,
    unavailable: Option<String>,
    /// Audit is off, or about to be.
    dark: bool,
    /// What each task has, as far as perf has seen it.
    tasks: Map<u32, SeenSet>,
    tids: Map<u32, TidQueue>,
    /// Of these another epoch's have come already.
    alone: Vec<Waiting>,
    undefined: Vec<(u32, Seen)>,
    /// Definitions that the ledger contradicts.
    contradicted: Vec<(Arc<Definition>, NamespaceSet)>,
    /// Moves of the ledger that have no definition.
    silent: Vec<Told>,
    /// Epochs that a stream has left, and that are not done with.
    pub ended: BTreeSet<u64>,
}

impl Core {
    /// Takes one event of perf.
    pub fn take_perf(&mut self, event: PerfEvent) {
        self.figures.perf_events += 1;
        match event {
            PerfEvent::Started { tid, set } => {
                self.perf.started.get_or_insert(self.perf.epoch);
                self.perf.tasks.insert(tid, set);
            }
            PerfEvent::Unavailable { reason } => self.perf.unavailable = Some(reason),
            PerfEvent::Fork { tid, parent_tid } => {
                match self.perf.tasks.get(&parent_tid).copied() {
                    Some(set) => self.perf.tasks.insert(tid, set),
                    None => self.perf.tasks.remove(&tid),
                };
            }
            PerfEvent::Namespaces { tid, set } => self.perf_sees(tid, set),
            PerfEvent::Exit { tid } => {
                self.perf.tasks.remove(&tid);
            }
            PerfEvent::Lost { count } => {
                self.loss.perf_fault(format!("perf, the third witness, lost {count} records"));
            }
            PerfEvent::Audit { enabled } => self.perf.dark = !enabled,
            PerfEvent::Fence { number } => {
                self.perf.ended.insert(self.perf.epoch);
                self.perf.epoch = (u64::from(number) + 1).max(self.perf.epoch + 1);
                self.advance_perf();
            }
        }
    }

    fn perf_sees(&mut self, tid: u32, set: SeenSet) {
        let before = self.perf.tasks.insert(tid, set);
        // A task from before perf was there, or one that took over its leader's number in an exec: nothing is known.
        let changes = !self.perf.dark && before.is_some_and(|before| !before.fits(&set));
        let seen = Seen { at: self.perf.position, epoch: self.perf.epoch, set };
        self.perf.position += 1;
        let queue = self.perf.tids.entry(tid).or_default();
        if changes {
            queue.changes.push_back(seen);
        } else {
            match queue.spares.last_mut() {
                // Nothing that must be defined stands between them.
                Some(last)
                    if last.first.epoch == seen.epoch
                        && last.first.set == set
                        && queue.changes.back().is_none_or(|change| change.at < last.first.at) =>
                {
                    last.count += 1;
                }
                _ => queue.spares.push(Spare { first: seen, count: 1 }),
            }
        }
        self.pump_perf(tid);
    }

    /// A definition that the log has: one that perf sees as well, unless it is an exec's.
    pub fn perf_definition(&mut self, definition: &Arc<Definition>) {
        if !self.options.perf || definition.op.op == Op::Exec {
            return;
        }
        let tid = definition.op.opid;
        let waiting = Waiting { definition: Arc::clone(definition), census: None };
        self.perf.tids.entry(tid).or_default().definitions.push_back(waiting);
        self.pump_perf(tid);
    }

    /// The ledger's word about a move, and the definition that belongs to it.
    pub fn perf_census(
        &mut self,
        tid: u32,
        epoch: u64,
        definition: Option<&Arc<Definition>>,
        census: &NamespaceSet,
    ) {
        if !self.options.perf {
            return;
        }
        let Some(definition) = definition else {
            self.perf.silent.push(Told { epoch, tid, set: *census });
            return;
        };
        let queued = self.perf.tids.get_mut(&definition.op.opid);
        let queued = queued.into_iter().flat_map(|queue| &mut queue.definitions);
        let mut waiting = queued.chain(&mut self.perf.alone);
        if let Some(waiting) = waiting.find(|waiting| Arc::ptr_eq(&waiting.definition, definition)) {
            waiting.census = Some(*census);
        } else if definition.op.op != Op::Exec && !same_set(&definition.op.set, census) {
            self.perf.contradicted.push((Arc::clone(definition), *census));
        }
    }

    /// Pairs what can be paired.
    fn pump_perf(&mut self, tid: u32) {
        let Some(queue) = self.perf.tids.get_mut(&tid) else { return };
        while !queue.aside
            && let (Some(waiting), Some(seen)) = (queue.definitions.front(), queue.changes.front())
        {
            let definition = Arc::clone(&waiting.definition);
            let (at, told, defined) = (seen.at, seen.epoch, definition.epoch);
            let paired = if defined == told && seen.set.fits(&SeenSet::of(&definition.op.set)) {
                queue.changes.pop_front();
                true
            } else if defined <= told && queue.take_spare(&definition, at) {
                true
            } else if defined < told {
                self.perf.alone.extend(queue.definitions.pop_front());
                continue;
            } else if told < defined {
                self.perf.undefined.extend(queue.changes.pop_front().map(|seen| (tid, seen)));
                continue;
            } else {
                queue.aside = true;
                false
            };
            if paired && let Some(waiting) = queue.definitions.pop_front() {
                self.figures.seen_by_perf += 1;
                self.perf.contradicted.extend(waiting.contradiction());
            }
        }
        if queue.is_empty() {
            self.perf.tids.remove(&tid);
        }
    }

    /// Ends the epochs that all three streams have left.
    pub fn advance_perf(&mut self) {
        let target = self.log.epoch.min(self.ledger.epoch).min(self.perf.epoch);
        while let Some(epoch) = self.perf.ended.first().copied()
            && epoch < target
        {
            self.perf.ended.remove(&epoch);
            self.sweep_perf(epoch);
        }
    }

    /// No stream has anything more of this epoch.
    pub fn sweep_perf(&mut self, epoch: u64) {
        let mut missing = take(&mut self.perf.alone, |waiting| waiting.definition.epoch <= epoch);
        let mut undefined = take(&mut self.perf.undefined, |(_, seen)| seen.epoch <= epoch);
        let mut tids: Vec<u32> = self.perf.tids.keys().copied().collect();
        tids.sort_unstable();
        for tid in tids {
            let Some(queue) = self.perf.tids.get_mut(&tid) else { continue };
            queue.aside = false;
            let definitions = take_while(&mut queue.definitions, |waiting| waiting.definition.epoch <= epoch);
            let changes = take_while(&mut queue.changes, |seen| seen.epoch <= epoch);
            let mut rest = TidQueue {
                definitions: definitions.into(),
                changes: changes.into(),
                spares: take(&mut queue.spares, |spare| spare.first.epoch <= epoch),
                aside: false,
            };
            self.settle_perf(tid, &mut rest, &mut missing, &mut undefined);
            self.pump_perf(tid);
        }
        let silent = take(&mut self.perf.silent, |told| told.epoch <= epoch);
        let contradicted = take(&mut self.perf.contradicted, |(definition, _)| definition.epoch <= epoch);
        if self.perf.started.is_none_or(|started| epoch < started) {
            return;
        }
        for waiting in missing {
            let known = waiting.census.is_some_and(|census| same_set(&waiting.definition.op.set, &census));
            let who = if known { "log and ledger agree" } else { "only the log knows of it" };
            let finding = self.about(
                Invariant::PerfMissing,
                format!("a PERF_RECORD_NAMESPACES of task {}", waiting.definition.op.opid),
                format!("none: {who}"),
                &waiting.definition,
            );
            self.findings.push(finding);
        }
        for (tid, seen) in undefined {
            let known = silent.iter().any(|told| told.tid == tid && seen.set.fits(&SeenSet::of(&told.set)));
            let who = if known { "perf and ledger agree" } else { "only perf knows of it" };
            self.findings.push(Finding::new(
                Invariant::PerfUnexplained,
                format!("a definition for task {tid}, which perf saw with {}", seen.set),
                format!("none: {who}"),
            ));
        }
        for (definition, census) in contradicted {
            let found = format!("/proc {census}: log and perf agree");
            let expected = format!("{} by all three witnesses", definition.op.set);
            let finding = self.about(Invariant::PerfList, expected, found, &definition);
            self.findings.push(finding);
        }
    }

    /// What one tid has left over of an epoch.
    fn settle_perf(
        &mut self,
        tid: u32,
        rest: &mut TidQueue,
        missing: &mut Vec<Waiting>,
        undefined: &mut Vec<(u32, Seen)>,
    ) {
        let mut unseen = Vec::new();
        for waiting in std::mem::take(&mut rest.definitions) {
            let set = SeenSet::of(&waiting.definition.op.set);
            let fitting = rest.changes.iter().position(|seen| seen.set.fits(&set));
            let seen = fitting.and_then(|at| rest.changes.remove(at)).is_some()
                || rest.take_spare(&waiting.definition, u64::MAX);
            if seen {
                self.figures.seen_by_perf += 1;
                self.perf.contradicted.extend(waiting.contradiction());
            } else {
                unseen.push(waiting);
            }
        }
        let mut changes = std::mem::take(&mut rest.changes).into_iter();
        for waiting in unseen {
            let Some(seen) = changes.next() else {
                missing.push(waiting);
                continue;
            };
            let log = SeenSet::of(&waiting.definition.op.set);
            let who = match waiting.census.map(|census| SeenSet::of(&census)) {
                Some(ledger) if ledger.fits(&log) => "log and ledger agree".to_owned(),
                Some(ledger) if ledger.fits(&seen.set) => "perf and ledger agree".to_owned(),
                Some(ledger) => format!("no two agree, /proc {ledger}"),
                None => "the ledger does not know".to_owned(),
            };
            let finding = self.about(
                Invariant::PerfList,
                format!("{log} by all three witnesses"),
                format!("perf {}: {who}", seen.set),
                &waiting.definition,
            );
            self.findings.push(finding);
        }
        undefined.extend(changes.map(|seen| (tid, seen)));
    }

    /// What is missing if perf was to be heard.
    pub fn demand_perf(&mut self) {
        if !self.options.perf || self.perf.started.is_some() {
            return;
        }
        self.loss.ledger_fault(match self.perf.unavailable.take() {
            Some(reason) => format!("perf, the third witness, could not be had: {reason}"),
            None => "perf, the third witness, told nothing".to_owned(),
        });
    }
}

fn take<T>(list: &mut Vec<T>, over: impl Fn(&T) -> bool) -> Vec<T> {
    let (done, rest) = std::mem::take(list).into_iter().partition(over);
    *list = rest;
    done
}
