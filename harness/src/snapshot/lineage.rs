// SPDX-License-Identifier: MIT OR Apache-2.0
//! Joined items in, the canonical form of the run out.
//!
//! Everything has its place by the ledger (which task made which, and each task's program order), never by
//! the order in which the log or the pipe brought it. A task stays open until it has been reaped (a
//! thread: until its last words), its children are complete and the sets that it defined are released; then
//! it folds into its maker, so memory grows with what is alive and with what is different.
//!
//! Not part of the form: tokens, fences, the state of the audit subsystem, and which *inner* step of the scenario a
//! fact belongs to; the checker looks at those.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use nstrail_audit::NsidOp;
use nstrail_wire::fact::{Act, ActorId, AuditFact, Call, Fact, Outcome, ProbeKind};
use nstrail_wire::namespace::{CLONE_NEW_ALL, CLONE_THREAD, NamespaceEntry, NamespaceSet};

use super::actor::Actor;
use super::line::Line;
use super::membership::{Membership, Way};
use super::origin::{Incarnations, Kind, Moment, Origin, resolve};
use super::shape::Forest;
use super::text::{Canonical, Title};
use super::words;
use crate::check::joined::{Joined, JoinedSink, ReleaseBy};

/// A set that the log has defined and that is still of interest.
#[derive(Debug)]
struct Defined {
    set: Arc<Origin>,
    by: ActorId,
}

/// Builds the canonical form of one run.
#[derive(Debug)]
pub struct Lineage {
    scenario: String,
    titles: Vec<Title>,
    incarnations: Incarnations,
    actors: BTreeMap<ActorId, Actor>,
    sets: HashMap<u64, Defined>,
    /// Releases that came before the definition.
    early: HashMap<u64, Vec<ReleaseBy>>,
    /// Sets that an event names and that were not defined then.
    wanted: HashMap<u64, Arc<Origin>>,
    /// The first task, and those without a maker.
    roots: Vec<ActorId>,
    forest: Forest,
    most_open: usize,
}

/// A call that makes a task or moves one, as its caller tells it.
struct Operation<'a> {
    call: Call,
    flags: u64,
    passed: u64,
    outcome: Outcome,
    before: &'a NamespaceSet,
    after: &'a NamespaceSet,
}

impl Lineage {
    /// `titles` are those of the scenario's outermost steps, in order.
    #[must_use]
    pub fn new(scenario: impl Into<String>, titles: Vec<Title>) -> Self {
        Self {
            scenario: scenario.into(),
            titles,
            incarnations: Incarnations::default(),
            actors: BTreeMap::new(),
            sets: HashMap::new(),
            early: HashMap::new(),
            wanted: HashMap::new(),
            roots: Vec::new(),
            forest: Forest::default(),
            most_open: 0,
        }
    }

    /// The largest number of tasks that were open at once.
    #[must_use]
    pub const fn most_open(&self) -> usize {
        self.most_open
    }

    /// No more items come.
    #[must_use]
    pub fn finish(mut self) -> Canonical {
        for id in self.actors.keys().copied().collect::<Vec<_>>() {
            self.place_orphans(id, true);
        }
        self.incarnations.settle();
        // Innermost first: a task closes when its children have.
        loop {
            let ready: Vec<ActorId> = self
                .actors
                .iter()
                .filter(|(id, actor)| !actor.has_open_children() && !self.roots.contains(id))
                .map(|(id, _)| *id)
                .collect();
            if ready.is_empty() {
                break;
            }
            for id in ready {
                self.close(id);
            }
        }
        for id in std::mem::take(&mut self.roots) {
            if let Some(actor) = self.actors.remove(&id) {
                self.forest.tasks.push(actor.close());
            }
        }
        self.forest.settle();
        Canonical::write(&self.scenario, &self.forest)
    }

    /// The open task `id`, which is made if nothing was heard of it yet.
    fn actor(&mut self, id: ActorId) -> &mut Actor {
        let incarnations = &mut self.incarnations;
        self.actors.entry(id).or_insert_with(|| Actor::new(Membership::unknown(incarnations)))
    }

    fn start(
        &mut self,
        item: &Joined<'_>,
        call: Call,
        flags: u64,
        parent_set: &NamespaceSet,
        set: &NamespaceSet,
    ) {
        let fact = item.fact;
        let Act::Start { parent, .. } = fact.act else { return };
        let step = self.step(fact.step);
        let Some(parent) = parent else {
            let (membership, mut head) = Membership::boot(set, &mut self.incarnations);
            match item.definition {
                Some(definition) => log_differs(&mut head, definition, set),
                None => {
                    head.text(" -> no definition");
                }
            }
            self.sets.insert(1, Defined { set: Arc::clone(membership.set()), by: fact.actor });
            let actor = self.actor(fact.actor);
            actor.membership = membership;
            actor.head = Some(head);
            actor.call = Some(written(call, flags));
            actor.first = true;
            actor.tid = fact.tid;
            self.roots.insert(0, fact.actor);
            return;
        };
        let known = self.actors.get(&fact.actor).and_then(|actor| actor.inherits.clone());
        let inherits = match known.or_else(|| self.actors.get(&parent).map(|maker| maker.membership.clone()))
        {
            Some(inherits) => inherits,
            None => Membership::unknown(&mut self.incarnations),
        };
        let mut head = Line::new(written(call, flags));
        let makes = flags & CLONE_NEW_ALL;
        let moved =
            inherits.moved(Way::Birth(makes), set, item.definition, item.position, &mut self.incarnations);
        let mut notes = Line::default();
        drift(&mut notes, "maker's set", &inherits.differing(parent_set));
        let expected = makes != 0 || moved.changed;
        let mut membership = moved.membership;
        let defined = self.define(&mut head, &mut membership, item, call, makes, expected, set);
        if expected || item.definition.is_some() {
            head.append(moved.namespaces);
        }
        head.append(notes);

        let actor = self.actor(fact.actor);
        actor.membership = membership;
        actor.head = Some(head);
        actor.call = Some(written(call, flags));
        actor.thread = flags & CLONE_THREAD != 0;
        actor.tid = fact.tid;
        let placed = actor.place.is_some();
        if let Some(maker) = self.actors.get_mut(&parent) {
            let first = maker.first;
            if !placed {
                maker.unplaced.push(fact.actor);
                self.place_orphans(parent, false);
            }
            // The first task's children do whole steps, and give them their titles themselves.
            self.actor(fact.actor).step = if first { None } else { step };
        } else if !placed {
            self.roots.push(fact.actor);
        }
        if let Some((id, set)) = defined {
            self.enter(fact.actor, id, &set);
        }
    }

    /// Writes what the log says of a move, and gives the set that it defines.
    #[expect(clippy::too_many_arguments, reason = "each is one fact of the move")]
    fn define(
        &mut self,
        line: &mut Line,
        membership: &mut Membership,
        item: &Joined<'_>,
        call: Call,
        flags: u64,
        expected: bool,
        seen: &NamespaceSet,
    ) -> Option<(u64, Arc<Origin>)> {
        let Some(definition) = item.definition else {
            if expected {
                line.text(" -> no definition");
            }
            return None;
        };
        let old = membership.id();
        let set = self.incarnations.origin(Kind::Set);
        line.text(" -> ").make(&set);
        membership.enter(definition.id, &set);
        if let Some(wanted) = self.wanted.remove(&definition.id) {
            wanted.becomes(&set);
        }
        if definition.op != words::op_of(call) {
            line.text(format!(" [log: op={}]", words::op(definition.op)));
        }
        if definition.flags != flags {
            line.text(format!(" [log: flags {}]", words::flags(Call::Clone3, definition.flags)));
        }
        if old != Some(definition.old) {
            let named = self.set(definition.old);
            line.text(" [log: from ").name(&named).text("]");
        }
        if definition.opid != item.fact.tid {
            line.text(" [log: of another task]");
        }
        log_differs(line, definition, seen);
        Some((definition.id, set))
    }

    /// The actor's current section begins with the definition of a set.
    fn enter(&mut self, by: ActorId, id: u64, set: &Arc<Origin>) {
        self.actor(by).define(id, set);
        self.sets.insert(id, Defined { set: Arc::clone(set), by });
        for how in self.early.remove(&id).unwrap_or_default() {
            self.released(id, how);
        }
    }

    /// What the log calls `id`.
    fn set(&mut self, id: u64) -> Arc<Origin> {
        if let Some(defined) = self.sets.get(&id) {
            return Arc::clone(&defined.set);
        }
        let incarnations = &mut self.incarnations;
        Arc::clone(self.wanted.entry(id).or_insert_with(|| incarnations.origin(Kind::StraySet)))
    }

    fn operation(&mut self, item: &Joined<'_>, operation: &Operation<'_>) {
        let fact = item.fact;
        let Operation { call, flags, passed, outcome, before, after } = *operation;
        if let Outcome::Child { actor: child, .. } = outcome {
            self.child(item, child, operation);
            return;
        }
        let mut line = Line::new(written(call, flags));
        if call == Call::Setns && passed != flags {
            let passed = words::flags(Call::Setns, passed);
            line.text(format!(" (passed {})", if passed.is_empty() { "0" } else { &passed }));
        }
        let membership = self.actor(fact.actor).membership.clone();
        let way = match (call, outcome) {
            (_, Outcome::Failed { .. }) => Way::Join(0),
            (Call::Setns, _) => Way::Join(flags & CLONE_NEW_ALL),
            (_, _) => Way::Unshare(flags & CLONE_NEW_ALL),
        };
        let mut notes = Line::default();
        drift(&mut notes, "set before", &membership.differing(before));
        if let Outcome::Failed { errno } = outcome {
            line.text(format!(" = {}", words::errno(errno)));
        }
        let moved = membership.moved(way, after, item.definition, item.position, &mut self.incarnations);
        let mut entered = moved.membership;
        let asked = if let Outcome::Failed { .. } = outcome { 0 } else { flags & CLONE_NEW_ALL };
        let expected = asked != 0 || moved.changed;
        let defined = self.define(&mut line, &mut entered, item, call, asked, expected, after);
        if expected || defined.is_some() {
            line.append(moved.namespaces);
        }
        line.append(notes);
        let actor = self.actor(fact.actor);
        actor.membership = entered;
        if expected || defined.is_some() {
            actor.open_section(None, Some(line));
        } else {
            actor.tell(line);
        }
        if let Some((id, set)) = defined {
            self.enter(fact.actor, id, &set);
        }
    }

    /// The actor tells that it has made a child.
    fn child(&mut self, item: &Joined<'_>, child: ActorId, operation: &Operation<'_>) {
        let by = item.fact.actor;
        let told = written(operation.call, operation.flags);
        let maker = self.actor(by);
        let mut notes = Line::new(format!("{told}:"));
        drift(&mut notes, "maker's set before", &maker.membership.differing(operation.before));
        drift(&mut notes, "maker's set after", &maker.membership.differing(operation.after));
        if item.definition.is_some() {
            notes.text(" [log: the maker moved]");
        }
        let inherits = maker.membership.clone();
        maker.unplaced.retain(|unplaced| *unplaced != child);
        let place = maker.expect(by, true);
        if notes.parts() > 1 {
            maker.tell(notes);
        }
        self.roots.retain(|root| *root != child);
        let actor = self.actor(child);
        actor.place = Some(place);
        actor.told = Some(told);
        if actor.call.is_none() {
            actor.inherits = Some(inherits);
        }
        self.try_close(child);
    }

    /// `inside` is the task in whose network namespace a packet is.
    fn probe(&mut self, item: &Joined<'_>, mut line: Line, seen: &NamespaceSet, inside: ActorId) {
        let (fact, attribution) = (item.fact, item.attribution);
        let membership = self.actor(fact.actor).membership.clone();
        match attribution {
            None => {
                line.text(": no record");
            }
            Some(attribution) => {
                line.text(format!(": {}", words::record(attribution.kind.0)));
                match attribution.auditnsid {
                    None => line.text(" without auditnsid"),
                    Some(id) if membership.id() == Some(id) => line.text(" in ").name(membership.set()),
                    Some(id) => line.text(" in ").name(&self.set(id)),
                };
                if let Some(inum) = attribution.netns {
                    let id = membership.id().map(|id| id.saturating_add(1));
                    let at = Moment { id, position: item.position };
                    let netns =
                        self.actors.get(&inside).and_then(|actor| actor.membership.netns(inum)).cloned();
                    let netns = netns.unwrap_or_else(|| self.incarnations.join("net", inum, at));
                    line.text(" of net:").name(&netns);
                }
            }
        }
        drift(&mut line, "set", &membership.differing(seen));
        self.actor(fact.actor).tell(line);
    }

    fn reaped(&mut self, child: ActorId, status: i32) {
        let Some(actor) = self.actors.get_mut(&child) else { return };
        actor.reaped += 1;
        if actor.reaped == 1 {
            actor.status = words::status(status);
        }
        self.over(child);
    }

    /// Nothing comes any more from `id` itself.
    fn over(&mut self, id: ActorId) {
        self.place_orphans(id, false);
        self.try_close(id);
    }

    /// Gives children a place of whose making `id` did not tell, if it will not do so any more.
    fn place_orphans(&mut self, id: ActorId, finished: bool) {
        let Some(actor) = self.actors.get_mut(&id) else { return };
        if !(finished || actor.reaped > 0 || actor.ended) {
            return;
        }
        for child in std::mem::take(&mut actor.unplaced) {
            let Some(maker) = self.actors.get_mut(&id) else { return };
            let place = maker.expect(id, false);
            if let Some(child) = self.actors.get_mut(&child) {
                child.place = Some(place);
            }
            self.try_close(child);
        }
    }

    /// Folds a task into its maker if it is complete, and then the maker if that is.
    fn try_close(&mut self, id: ActorId) {
        let complete = self.actors.get(&id).is_some_and(|actor| actor.place.is_some() && actor.complete());
        if complete {
            self.close(id);
        }
    }

    fn close(&mut self, id: ActorId) {
        let Some(actor) = self.actors.remove(&id) else { return };
        let place = actor.place;
        let task = actor.close();
        match place.and_then(|place| Some((place, self.actors.get_mut(&place.maker)?))) {
            Some((place, maker)) => {
                maker.receive(place, task);
                self.try_close(place.maker);
            }
            None => self.forest.tasks.push(task),
        }
    }

    /// The outermost step that the step `number` belongs to.
    fn step(&self, number: u32) -> Option<usize> {
        self.titles.partition_point(|title| title.step <= number).checked_sub(1)
    }

    /// Begins a section if the actor has come to another one of the outermost steps.
    fn enter_step(&mut self, fact: &Fact) {
        let step = self.step(fact.step);
        let title = step.map(|step| &self.titles[step]).map(ToString::to_string);
        let actor = self.actor(fact.actor);
        if actor.step != step {
            actor.step = step;
            if title.is_some() {
                actor.open_section(title, None);
            }
        }
    }
}

impl JoinedSink for Lineage {
    fn joined(&mut self, item: &Joined<'_>) {
        let fact = item.fact;
        if !matches!(fact.act, Act::Start { .. }) && !self.actors.contains_key(&fact.actor) {
            // Words of a task that never said how it was made; the checker reports that.
            self.actor(fact.actor);
            self.roots.push(fact.actor);
        }
        match &fact.act {
            Act::Start { call, flags, parent_set, set, .. } => {
                self.start(item, *call, *flags, parent_set, set);
            }
            Act::Operation { call, flags, passed, outcome, before, after } => {
                // See `start` for the first task's children.
                let first = self.actors.get(&fact.actor).is_some_and(|actor| actor.first);
                if !(first && matches!(outcome, Outcome::Child { .. })) {
                    self.enter_step(fact);
                }
                let operation = Operation {
                    call: *call,
                    flags: *flags,
                    passed: *passed,
                    outcome: *outcome,
                    before,
                    after,
                };
                self.operation(item, &operation);
            }
            Act::Probe { kind, set, .. } => {
                self.enter_step(fact);
                let line = Line::new(format!("probe {}", words::probe(*kind)));
                self.probe(item, line, set, fact.actor);
            }
            Act::Received { by, .. } => {
                self.enter_step(fact);
                let line = Line::new(words::probe(ProbeKind::Received));
                // It says nothing about the sender's own set.
                self.probe(item, line, &NamespaceSet::default(), *by);
            }
            Act::Reaped { child, status, .. } => self.reaped(*child, *status),
            Act::End => {
                self.actor(fact.actor).ended = true;
                self.over(fact.actor);
            }
            Act::Audit(AuditFact::Enabled(enabled)) => {
                self.enter_step(fact);
                let line = Line::new(if *enabled { "audit on" } else { "audit off" });
                self.actor(fact.actor).tell(line);
            }
            Act::Childless { .. } => {
                self.actor(fact.actor).tell(Line::new("it was in a call that made no task"));
            }
            Act::Fence { .. } | Act::Audit(_) | Act::Ids { .. } | Act::Seen { .. } | Act::Census { .. } => {}
        }
        self.most_open = self.most_open.max(self.actors.len());
    }

    fn released(&mut self, auditnsid: u64, how: ReleaseBy) {
        // A set without members is of no interest any more: ids are never used again (CONTRACT.md G3).
        let Some(defined) = self.sets.remove(&auditnsid) else {
            self.early.entry(auditnsid).or_default().push(how);
            return;
        };
        resolve(&defined.set).release(how);
        let by = defined.by;
        if let Some(actor) = self.actors.get_mut(&by) {
            actor.released(auditnsid);
            self.try_close(by);
        }
    }
}

/// A call as it is written: its name and its flags.
fn written(call: Call, flags: u64) -> String {
    let flags = words::flags(call, flags);
    if flags.is_empty() { words::call(call).to_owned() } else { format!("{} {flags}", words::call(call)) }
}

/// Says where the log's list is not what the ledger read.
fn log_differs(line: &mut Line, definition: &NsidOp, seen: &NamespaceSet) {
    let differs = NamespaceEntry::ALL.into_iter().filter(|entry| {
        let (logged, seen) = (definition.set.get(*entry), seen.get(*entry));
        logged != seen && seen != 0
    });
    drift(line, "log's list", &differs.collect::<Vec<_>>());
}

/// Says where two witnesses of one set differ; nothing if they do not.
fn drift(line: &mut Line, what: &'static str, entries: &[NamespaceEntry]) {
    if !entries.is_empty() {
        let names: Vec<&str> = entries.iter().map(|entry| entry.name()).collect();
        line.text(format!(" [{what} differs: {}]", names.join(" ")));
    }
}
