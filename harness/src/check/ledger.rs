// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger's side of the check: tasks, and their facts on the way to being judged.
//!
//! Facts come through one pipe that each task writes to, so what a task told before it died comes before
//! anybody's word that it was reaped. Each task's facts wait in a queue of its own until the log has what belongs to the
//! first of them; [`super::resolve`] then judges it. A child's Start also waits for its maker's word of
//! the call, because that says which set the maker was in; a vfork's maker speaks only afterwards.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use nstrail_audit::{Holes, Op};
use nstrail_wire::{
    fact::{Act, ActorId, AuditFact, Call, Fact, Outcome, ProbeKind},
    namespace::{CLONE_NEW_ALL, CLONE_THREAD, CLONE_VM, NamespaceEntry, NamespaceSet, NamespaceType},
};

use super::{
    core::Core,
    event::ProbeEvent,
    finding::{Finding, Raw},
    hash::Map,
    invariant::Invariant,
    pairing::Move,
    sets::Definition,
};

/// Which set a task is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Boot,
    Set(u64),
    /// Made while audit was off: the n-th such set.
    Silent(usize),
    /// Its definition is missing, so nothing more can be said.
    Unknown,
}

/// What a fact waits for, and what came.
#[derive(Debug)]
pub(super) enum Awaited {
    Nothing,
    /// A definition, or `op=init` for the first task.
    AwaitDefinition,
    Definition(Arc<Definition>),
    NoDefinition,
    /// A move while audit was off.
    Silent(usize),
    AwaitEvent,
    Event(Box<ProbeEvent>),
    NoEvent,
    /// A probe while audit was off.
    Dark,
}

#[derive(Debug)]
pub(super) struct Item {
    pub fact: Fact,
    pub position: u64,
    pub epoch: u64,
    pub awaited: Awaited,
    /// Tasks that are over when this Reaped or exec is told.
    pub over: Vec<ActorId>,
    /// Another task, whose set at this moment the fact is about.
    pub about: Option<ActorId>,
}

/// What a child has from its maker.
#[derive(Debug)]
pub(super) struct Birth {
    pub hold: Hold,
    pub pid: u32,
    pub tid: u32,
    /// Sets that must be released before this child was made (CONTRACT.md G5).
    pub due: Vec<u64>,
    /// The maker's word, if it could give one.
    pub told: Option<(u64, Fact)>,
    /// It was counted as a member of its maker's set.
    pub counted: bool,
    /// The maker's set, kept until the child is judged.
    pub origin: Option<u64>,
    /// Position of the maker's last word before the call.
    pub before: u64,
}

#[derive(Debug)]
pub(super) struct Actor {
    pub tid: u32,
    pub pid: u32,
    pub items: VecDeque<Item>,
    pub started: bool,
    pub start_told: bool,
    pub hold: Hold,
    pub birth: Option<Birth>,
    pub maker: Option<ActorId>,
    /// The task whose number is the thread group's.
    group: ActorId,
    pid_namespace: u32,
    pid_init: bool,
    pub thread: bool,
    pub ended: bool,
    /// It is over since this epoch: nothing more comes from it.
    gone: Option<u64>,
    /// It has left its set.
    pub left: bool,
    /// By its own word alone.
    pub left_softly: bool,
    pub due: Vec<u64>,
    /// Tasks that look at their queue again when a fact of this one is judged.
    pub wakes: Vec<ActorId>,
    /// Facts about it that others tell and that are not judged yet: position of the fact, and who tells it.
    pub visited: Vec<(u64, ActorId)>,
    /// Tasks that it has seen since its last census.
    seen: Vec<ActorId>,
    /// What workers of io_uring that it may have may name: the sets it was in when it used io_uring, `None` for set 1.
    pub uring: Vec<Option<u64>>,
    /// It also did while it was in a set that has no name here.
    pub uring_unnamed: bool,
    pub ended_epoch: u64,
    /// Position of the fact judged last.
    pub last_position: u64,
    /// Windows without audit up to its last fact, and whether it may have died in one.
    windows: u64,
    pub died_dark: bool,
    /// It surely did: its last word and that of its death lie in the same window.
    pub surely_dark: bool,
    /// It was killed in a call that made no task.
    pub childless: bool,
    /// A clone that moved it, for a child that never spoke.
    pub expected: Option<u64>,
}

impl Actor {
    fn new(id: ActorId) -> Self {
        Self {
            tid: 0,
            pid: 0,
            items: VecDeque::new(),
            started: false,
            start_told: false,
            hold: Hold::Unknown,
            birth: None,
            maker: None,
            group: id,
            pid_namespace: 0,
            pid_init: false,
            thread: false,
            ended: false,
            gone: None,
            left: false,
            left_softly: false,
            due: Vec::new(),
            wakes: Vec::new(),
            visited: Vec::new(),
            seen: Vec::new(),
            uring: Vec::new(),
            uring_unnamed: false,
            ended_epoch: 0,
            last_position: 0,
            windows: 0,
            died_dark: false,
            surely_dark: false,
            childless: false,
            expected: None,
        }
    }

    /// Whether it is over by the end of this epoch.
    pub fn is_gone(&self, epoch: u64) -> bool {
        self.gone.is_some_and(|gone| gone <= epoch)
    }

    /// Its first fact, if it is that it was made.
    pub fn awaits_birth(&self) -> bool {
        self.birth.is_none()
            && !self.started
            && matches!(
                self.items.front(),
                Some(Item { fact: Fact { act: Act::Start { parent: Some(_), .. }, .. }, .. })
            )
    }
}

/// A set made while audit was off.
#[derive(Debug)]
pub(super) struct SilentSet {
    pub epoch: u64,
    pub position: u64,
    pub fact: Fact,
    pub set: Option<NamespaceSet>,
    /// It has a definition all the same.
    pub logged: bool,
    /// Ids by which the log named it.
    pub names: Vec<(u64, u64, Arc<Raw>)>,
    pub members: u32,
    /// Position in the ledger of the last word that a member has left, and of those that surely left while audit was off.
    pub last_left: u64,
    pub last_dark: Option<u64>,
    /// Nobody knows whether audit was on when a member left.
    pub untold: bool,
}

/// What the events of a probe must name: for those that come after the first.
#[derive(Clone, Debug)]
pub(super) struct Expectation {
    pub epoch: u64,
    pub name: Option<Option<u64>>,
    pub netns: Option<u32>,
}

/// Ids that tasks of one pid had in this epoch.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Each with the position of its release in the log, if both sides are done with it: nothing of its members stands behind that.
    ids: Vec<(Option<u64>, u64)>,
    /// Something is not known of them.
    pub many: bool,
}

/// A set that both sides are done with, and a pid that held it: forgotten when all events from before its release are complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parted {
    /// Position of the release.
    pub release: u64,
    pub pid: u32,
    pub id: u64,
}

impl Held {
    pub fn add(&mut self, hold: Hold) {
        let id = match hold {
            Hold::Boot => None,
            Hold::Set(id) => Some(id),
            Hold::Silent(_) | Hold::Unknown => {
                self.many = true;
                return;
            }
        };
        if !self.ids.iter().any(|(known, _)| *known == id) {
            self.ids.push((id, u64::MAX));
        }
    }

    /// A set was released at `position`.
    pub fn part(&mut self, id: u64, position: u64) {
        for (_, until) in self.ids.iter_mut().filter(|(known, _)| *known == Some(id)) {
            *until = position;
        }
    }

    pub fn forget(&mut self, id: u64) {
        self.ids.retain(|(known, _)| *known != Some(id));
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.many
    }

    /// The ids that an event which begins at this position may name, in order.
    pub fn ids(&self, position: u64) -> Vec<Option<u64>> {
        let mut ids: Vec<Option<u64>> =
            self.ids.iter().filter(|(_, until)| position < *until).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

/// A task that has told its start.
#[derive(Clone, Copy, Debug)]
struct Alive {
    /// As it was told last; which one a task is judged by may be an older one.
    tid: u32,
    /// The number of its next fact.
    next: u32,
    /// It has told its end.
    ended: bool,
}

/// The task, the number of the fact, its epoch.
type WaitingProbe = (ActorId, u32, u64);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub position: u64,
    pub epoch: u64,
    pub actors: Map<ActorId, Box<Actor>>,
    /// Tasks to look at.
    pub ready: Vec<ActorId>,
    /// Probes that wait for their events, and events that wait for their probes.
    pub probes: Map<(ProbeKind, u64), VecDeque<WaitingProbe>>,
    pub events: Map<(ProbeKind, u64), VecDeque<ProbeEvent>>,
    pub expectations: Map<(ProbeKind, u64), Expectation>,
    /// Audit is off.
    dark: bool,
    windows: u64,
    pub silent: Vec<SilentSet>,
    /// Failed calls by the caller's tid: epoch, position, fact.
    pub failed: Map<u32, Vec<(u64, u64, Fact)>>,
    pub held: Map<u32, Held>,
    pub parted: VecDeque<Parted>,
    /// Tasks that have told their start, also those that are long over.
    started: Holes,
    /// Tasks that are not over.
    alive: BTreeMap<ActorId, Alive>,
}

/// Failed calls remembered for each tid.
const FAILED: usize = 16;

/// Whether a call moves the task that it makes (CONTRACT.md G1).
pub(super) fn clone_moves(call: Call, flags: u64, maker: &NamespaceSet) -> bool {
    let pending = |own, children| {
        let (own, children) = (maker.get(own), maker.get(children));
        // An unreadable pid_for_children is one in which nobody was born yet.
        own != 0 && own != children
    };
    asked(call, flags) != 0
        || pending(NamespaceEntry::Pid, NamespaceEntry::PidForChildren)
        || (flags & CLONE_VM == 0 && pending(NamespaceEntry::Time, NamespaceEntry::TimeForChildren))
}

/// The namespace types that a call asked for.
pub(super) fn asked(call: Call, flags: u64) -> u64 {
    let flags = flags & CLONE_NEW_ALL;
    match call {
        // There CLONE_NEWTIME is a bit of the exit signal.
        Call::Clone | Call::Fork | Call::Vfork => flags & !NamespaceType::Time.flag(),
        _ => flags,
    }
}

impl Core {
    /// Takes one fact.
    pub fn take_fact(&mut self, fact: Fact) {
        let position = self.ledger.position;
        self.ledger.position += 1;
        self.figures.facts += 1;
        let epoch = self.ledger.epoch;
        let id = fact.actor;
        // What is asked of the ledger alone: how long a task is kept depends on the other stream.
        let told = self.ledger.alive.get(&id).copied();
        let fault = if matches!(fact.act, Act::Start { .. }) {
            (!self.ledger.started.take(id.0)).then(|| format!("task {} tells its start twice", id.0))
        } else {
            let speaks = told.is_some_and(|alive| !alive.ended);
            (!speaks).then(|| {
                format!("fact {} of task {} comes before its start or after its end", fact.number, id.0)
            })
        };
        if let Some(fault) = fault {
            // Whatever it is about, nothing follows from it.
            self.loss.ledger_fault(fault);
            return;
        }
        let expected = told.map_or(0, |alive| alive.next);
        if fact.number != expected {
            self.loss.ledger_fault(format!(
                "the ledger of task {} goes from fact {expected} to {}",
                id.0, fact.number
            ));
        }
        let ended = matches!(fact.act, Act::End);
        self.ledger.alive.insert(id, Alive { tid: fact.tid, next: fact.number.wrapping_add(1), ended });
        let actor = self.ledger.actors.entry(id).or_insert_with(|| Box::new(Actor::new(id)));
        actor.windows = self.ledger.windows;
        if actor.pid == 0 {
            actor.tid = fact.tid;
            actor.pid = fact.pid;
        }
        let mut item =
            Item { position, epoch, awaited: Awaited::Nothing, over: Vec::new(), about: None, fact };
        let mut pending = None;
        match &item.fact.act {
            Act::Start { parent, call, flags, parent_set, set } => {
                self.figures.actors += 1;
                actor.start_told = true;
                actor.maker = *parent;
                actor.thread = flags & CLONE_THREAD != 0;
                actor.pid_namespace = set.get(NamespaceEntry::Pid);
                let first_born = parent_set.get(NamespaceEntry::Pid) != 0
                    && parent_set.get(NamespaceEntry::PidForChildren) == 0;
                actor.pid_init = parent.is_some() && (flags & NamespaceType::Pid.flag() != 0 || first_born);
                if parent.is_none() {
                    item.awaited = Awaited::AwaitDefinition;
                } else if clone_moves(*call, *flags, parent_set) {
                    pending = Some((Op::Clone, *set));
                }
                let group = parent.filter(|_| flags & CLONE_THREAD != 0);
                let group = group.and_then(|maker| Some(self.ledger.actors.get(&maker)?.group));
                if let (Some(group), Some(actor)) = (group, self.ledger.actors.get_mut(&id)) {
                    actor.group = group;
                }
            }
            Act::Operation { call, flags, outcome, before, after, .. } => {
                self.figures.operations_told += 1;
                match (call, outcome) {
                    (Call::Unshare, Outcome::Done) if flags & CLONE_NEW_ALL != 0 => {
                        pending = Some((Op::Unshare, *after));
                    }
                    (Call::Setns, Outcome::Done) => pending = Some((Op::Setns, *after)),
                    (Call::Exec, Outcome::Done) => {
                        // The other threads of the group are over (de_thread in fs/exec.c).
                        item.over = self.group_of(id).into_iter().filter(|other| *other != id).collect();
                        let entered = before.get(NamespaceEntry::Time)
                            != before.get(NamespaceEntry::TimeForChildren)
                            && after.get(NamespaceEntry::Time) != before.get(NamespaceEntry::Time);
                        if entered {
                            pending = Some((Op::Exec, *after));
                        }
                    }
                    (_, Outcome::Failed { .. }) => {
                        let failed = self.ledger.failed.entry(item.fact.tid).or_default();
                        if failed.len() < FAILED {
                            failed.push((epoch, position, item.fact.clone()));
                        }
                    }
                    _ => {}
                }
            }
            Act::Probe { .. } | Act::Received { .. } => {
                item.awaited = if self.ledger.dark { Awaited::Dark } else { Awaited::AwaitEvent };
                if let Act::Received { by, .. } = item.fact.act {
                    item.about = Some(by);
                }
            }
            Act::Seen { of, .. } => item.about = self.seen(id, *of),
            Act::Census { tasks } => self.census(id, *tasks),
            Act::Reaped { child, .. } => item.over = self.over_with(*child),
            Act::End => {
                actor.ended = true;
                actor.ended_epoch = epoch;
            }
            Act::Childless { of, .. } => {
                // As if it had told so itself.
                let of = *of;
                let fact = item.fact.clone();
                if let Some(killed) = self.ledger.actors.get_mut(&of) {
                    killed.childless = true;
                    let tid = killed.tid;
                    self.ledger.failed.entry(tid).or_default().push((epoch, position, fact));
                }
            }
            Act::Ids { .. } => self.figures.ids_told += 1,
            Act::Fence { .. } => {}
            Act::Audit(audit) => {
                match audit {
                    AuditFact::Enabled(on) => {
                        self.ledger.dark = !on;
                        // Odd while audit is off.
                        self.ledger.windows += 1;
                    }
                    AuditFact::Exposed { path } => {
                        let expected = "no file of /proc that shows an auditnsid";
                        let finding = Finding::new(Invariant::G1Hidden, expected, path.clone());
                        self.findings.push(finding.fact(position, &item.fact));
                    }
                    _ => {}
                }
                self.loss.audit(audit);
            }
        }
        if pending.is_some() {
            item.awaited = if self.ledger.dark {
                self.ledger.silent.push(SilentSet {
                    epoch,
                    position,
                    fact: item.fact.clone(),
                    set: None,
                    logged: false,
                    names: Vec::new(),
                    members: 0,
                    last_left: 0,
                    last_dark: None,
                    untold: false,
                });
                self.figures.silent_sets += 1;
                Awaited::Silent(self.ledger.silent.len() - 1)
            } else {
                Awaited::AwaitDefinition
            };
        }
        let windows = self.ledger.windows;
        for over in &item.over {
            self.ledger.alive.remove(over);
            if let Some(over) = self.ledger.actors.get_mut(over) {
                over.gone.get_or_insert(epoch);
                over.died_dark = over.windows != windows || windows % 2 == 1;
                over.surely_dark = over.windows == windows && windows % 2 == 1;
            }
            self.ledger.ready.push(*over);
        }
        let (number, tid, pid) = (item.fact.number, item.fact.tid, item.fact.pid);
        let waits = matches!(item.awaited, Awaited::AwaitDefinition);
        let probe = match (&item.fact.act, &item.awaited) {
            (Act::Probe { kind, token, .. }, Awaited::AwaitEvent) => Some(probe_key(*kind, *token, pid)),
            (Act::Received { token, .. }, Awaited::AwaitEvent) => {
                Some(probe_key(ProbeKind::Received, *token, pid))
            }
            _ => None,
        };
        if let Some(about) = item.about.and_then(|about| self.ledger.actors.get_mut(&about)) {
            about.visited.push((position, id));
        }
        let fence = match item.fact.act {
            Act::Fence { number } => Some(number),
            _ => None,
        };
        let boot = matches!(item.fact.act, Act::Start { parent: None, .. });
        if let Some(actor) = self.ledger.actors.get_mut(&id) {
            actor.items.push_back(item);
        }
        self.ledger.ready.push(id);
        if waits && boot {
            self.boot = Some((id, number, epoch));
            self.settle_boot();
        } else if let (true, Some((op, set))) = (waits, pending) {
            self.push_move(tid, Move { actor: id, number, epoch, op, set });
        }
        if let Some(key) = probe {
            self.await_probe(key, id, number, epoch);
        }
        if let Some(number) = fence {
            self.loss.ledger_fence(number);
            self.ended.insert(epoch);
            self.perf.ended.insert(epoch);
            self.ledger.epoch = (u64::from(number) + 1).max(self.ledger.epoch + 1);
            self.advance();
        }
    }

    /// Who has this tid, as one sees it that looks at /proc; a task that nobody told of puts the ledger in doubt.
    fn seen(&mut self, onlooker: ActorId, tid: u32) -> Option<ActorId> {
        // Nobody waits for a thread, so one that told its end may still stand here beside a task that has its number now.
        let has_tid = self.ledger.alive.iter().filter(|(_, alive)| alive.tid == tid);
        let found = has_tid.min_by_key(|(_, alive)| alive.ended).map(|(id, _)| *id);
        if found.is_none() {
            self.loss.ledger_fault(format!(
                "task {} saw one with tid {tid}, and no task of that number told its start",
                onlooker.0
            ));
        }
        if let Some(actor) = self.ledger.actors.get_mut(&onlooker) {
            actor.seen.extend(found);
        }
        found
    }

    /// Every task that told its start, and neither its end nor anybody that it is over, must have been seen.
    fn census(&mut self, onlooker: ActorId, tasks: u32) {
        let Some(actor) = self.ledger.actors.get_mut(&onlooker) else { return };
        let seen = std::mem::take(&mut actor.seen);
        let expected = |id: &ActorId| *id != ActorId(1) && *id != onlooker;
        let alive = self.ledger.alive.iter().filter(|(_, alive)| !alive.ended).map(|(id, _)| *id);
        let missing: Vec<ActorId> = alive.filter(expected).filter(|id| !seen.contains(id)).collect();
        for id in missing {
            self.loss.ledger_fault(format!(
                "task {} told its start and not its end, and task {} did not see it",
                id.0, onlooker.0
            ));
        }
        // What was seen and is not known has been told of already.
        if seen.len() > tasks as usize {
            self.loss.ledger_fault(format!(
                "task {} saw {} tasks and counts {tasks}",
                onlooker.0,
                seen.len()
            ));
        }
    }

    /// Tasks of a thread group that are not over.
    fn group_of(&self, id: ActorId) -> Vec<ActorId> {
        let Some(group) = self.ledger.actors.get(&id).map(|actor| actor.group) else { return vec![id] };
        let group: Vec<ActorId> = self
            .ledger
            .alive
            .keys()
            .copied()
            .filter(|id| self.ledger.actors.get(id).is_some_and(|actor| actor.group == group))
            .collect();
        group
    }

    /// Tasks that are over when `wait` has returned for this one: its threads, and if it was a pid namespace's
    /// init, all that lived in there.
    fn over_with(&self, child: ActorId) -> Vec<ActorId> {
        let actors = &self.ledger.actors;
        let Some(init) = actors.get(&child) else { return vec![child] };
        let mut over = self.group_of(child);
        if !over.contains(&child) {
            over.push(child);
        }
        if init.pid_init {
            let lives_in = |id: &ActorId| {
                let (mut next, mut inside) = (Some(*id), false);
                // A guest that lies may name two tasks as each other's maker.
                for _ in 0..actors.len() {
                    let Some((id, at)) = next.and_then(|id| Some((id, actors.get(&id)?))) else { break };
                    if id == child {
                        return true;
                    }
                    if at.start_told && at.pid_namespace == init.pid_namespace {
                        // The number may be another namespace's by now: its first task has told its start before
                        // the one who waited for this one came to tell so.
                        if at.pid_init {
                            return false;
                        }
                        inside = true;
                    }
                    next = at.maker;
                }
                inside
            };
            let inside = self.ledger.alive.keys().copied();
            over.extend(inside.filter(lives_in).filter(|id| *id != ActorId(1)));
            over.sort_unstable();
            over.dedup();
        }
        over
    }

    /// What a fact waited for is here, or will never be.
    pub fn arrived(&mut self, actor: ActorId, number: u32, awaited: Awaited) {
        let Some(state) = self.ledger.actors.get_mut(&actor) else { return };
        let found = state.items.iter_mut().find(|item| {
            item.fact.number == number
                && matches!(item.awaited, Awaited::AwaitDefinition | Awaited::AwaitEvent)
        });
        if let Some(item) = found {
            item.awaited = awaited;
        }
        self.ledger.ready.push(actor);
    }

    fn await_probe(&mut self, key: (ProbeKind, u64), actor: ActorId, number: u32, epoch: u64) {
        self.ledger.probes.entry(key).or_default().push_back((actor, number, epoch));
        self.match_probes(key);
    }

    /// An event with a token is complete.
    pub fn push_probe_event(&mut self, kind: ProbeKind, token: u64, event: ProbeEvent) {
        let key = (kind, token);
        self.ledger.events.entry(key).or_default().push_back(event);
        self.match_probes(key);
    }

    fn match_probes(&mut self, key: (ProbeKind, u64)) {
        while let (Some(probes), Some(events)) =
            (self.ledger.probes.get_mut(&key), self.ledger.events.get_mut(&key))
        {
            let (Some(probe), Some(event)) = (probes.front(), events.front()) else { break };
            let (told, logged) = (probe.2, event.epoch);
            // The epoch of the earlier one is over in both streams, so its partner does not exist.
            let probe = if told <= logged { probes.pop_front() } else { None };
            let event = if logged <= told { events.pop_front() } else { None };
            if let Some((actor, number, _)) = probe {
                let awaited = event.map_or(Awaited::NoEvent, |event| Awaited::Event(Box::new(event)));
                self.arrived(actor, number, awaited);
            }
        }
        if self.ledger.probes.get(&key).is_some_and(VecDeque::is_empty) {
            self.ledger.probes.remove(&key);
        }
        if self.ledger.events.get(&key).is_some_and(VecDeque::is_empty) {
            self.ledger.events.remove(&key);
        }
        self.more_events(key);
    }
}

/// How the log names a probe: abends, io_uring events and those of listeners have no room for a token, so the task's pid stands for it.
pub(super) fn probe_key(kind: ProbeKind, token: u64, pid: u32) -> (ProbeKind, u64) {
    match kind {
        ProbeKind::Abend | ProbeKind::IoUring | ProbeKind::Listener | ProbeKind::IoUringInline => {
            (kind, u64::from(pid))
        }
        // Nor does the log tell which thread of a process did it.
        ProbeKind::IoUringReused => (ProbeKind::IoUring, u64::from(pid)),
        ProbeKind::IoUringPoller => (ProbeKind::IoUringInline, u64::from(pid)),
        // Nor who logged it.
        ProbeKind::Packet | ProbeKind::NftPacket | ProbeKind::PacketOut => {
            (ProbeKind::Packet, token & 0xFF_FFFF)
        }
        ProbeKind::Sent | ProbeKind::Received => (kind, token & 0xFF_FFFF),
        _ => (kind, token),
    }
}

impl Actor {
    /// A task that has not spoken yet.
    pub fn placeholder(id: ActorId) -> Self {
        Self::new(id)
    }
}
