// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judging a task's facts, one after the other, once the log has what belongs to them.
//!
//! A fact of an epoch is judged only when all earlier epochs are done with, whichever stream is ahead: so what
//! the fence's checks see does not depend on how the streams interleave.

use std::sync::Arc;

use nstrail_audit::Op;
use nstrail_wire::{
    fact::{Act, ActorId, Call, Outcome},
    namespace::{CLONE_NEW_ALL, NamespaceIds, NamespaceSet},
};

use super::{
    core::{Core, Output, Unborn},
    finding::Finding,
    invariant::Invariant,
    joined::Attribution,
    ledger::{Actor, Awaited, Birth, Hold, Item, asked, clone_moves},
    pairing::same_set,
    sets::{Leaver, Left},
};

impl Core {
    /// Judges what can be judged.
    pub fn run(&mut self) {
        while let Some(id) = self.ledger.ready.pop() {
            while self.step(id) {}
            let Some(actor) = self.ledger.actors.get_mut(&id) else { continue };
            if actor.items.is_empty() {
                let wakes = std::mem::take(&mut actor.wakes);
                self.ledger.ready.extend(wakes);
            }
        }
    }

    /// Judges the first fact of a task, if nothing is missing for it.
    fn step(&mut self, id: ActorId) -> bool {
        let Some(actor) = self.ledger.actors.get_mut(&id) else { return false };
        let Some(item) = actor.items.front() else { return false };
        if item.epoch > self.horizon || matches!(item.awaited, Awaited::AwaitDefinition | Awaited::AwaitEvent)
        {
            return false;
        }
        if actor.awaits_birth() && !self.fallback_birth(id) {
            return false;
        }
        let Some(actor) = self.ledger.actors.get(&id) else { return false };
        let Some(item) = actor.items.front() else { return false };
        let busy = self.waits_for(id, actor, item);
        if !busy.is_empty() {
            for over in busy {
                if let Some(over) = self.ledger.actors.get_mut(&over)
                    && !over.wakes.contains(&id)
                {
                    over.wakes.push(id);
                }
            }
            return false;
        }
        let Some(mut actor) = self.ledger.actors.remove(&id) else { return false };
        let Some(item) = actor.items.pop_front() else { return false };
        self.judge(&mut actor, &item);
        actor.last_position = item.position;
        if let Some(about) = item.about {
            let others = |(position, _): &(u64, ActorId)| *position != item.position;
            if about == id {
                actor.visited.retain(others);
            } else if let Some(other) = self.ledger.actors.get_mut(&about) {
                other.visited.retain(others);
                self.ledger.ready.push(about);
            }
        }
        // Some wait for the rest of the queue, but some for this fact alone, and the rest may wait for them.
        self.ledger.ready.append(&mut actor.wakes);
        self.emit(item);
        // A task that is over and judged goes; one that was killed stays to the fence, because it may
        // have done more than it could tell.
        let stays = !(actor.left && actor.ended && actor.items.is_empty());
        if stays {
            self.ledger.actors.insert(id, actor);
        }
        stays
    }

    /// Tasks that have a fact which must be judged before this one: those that are over by it, one that it is about (which
    /// must be in the set that it was in then), and those that have told something about this task, or one that is over.
    fn waits_for(&self, id: ActorId, actor: &Actor, item: &Item) -> Vec<ActorId> {
        let has_older = |other: &ActorId, than: u64| {
            let first = self.ledger.actors.get(other).and_then(|other| other.items.front());
            first.is_some_and(|first| first.position < than)
        };
        let over = item.over.iter().filter(|over| has_older(over, u64::MAX));
        let about = item.about.iter().filter(|about| has_older(about, item.position));
        let ended = item.over.iter().filter_map(|over| self.ledger.actors.get(over)).map(|over| &**over);
        // A fact that leaves the task where it is need not wait; and its word of a child must not, because the child may be
        // who looked at it.
        let leaves = matches!(item.fact.act, Act::End | Act::Operation { outcome: Outcome::Done, .. })
            .then_some(actor);
        let visitors = ended.chain(leaves).flat_map(|actor| &actor.visited);
        let visitors = visitors.filter(|(at, _)| *at < item.position).map(|(_, visitor)| visitor);
        over.chain(about).chain(visitors).copied().filter(|other| *other != id).collect()
    }

    /// A maker that is over and never told of the call leaves its last set to the child.
    fn fallback_birth(&mut self, id: ActorId) -> bool {
        let Some(maker_id) = self.ledger.actors.get(&id).and_then(|actor| actor.maker) else { return false };
        match self.ledger.actors.get_mut(&maker_id) {
            Some(maker) if !maker.is_gone(self.horizon) || !maker.items.is_empty() => {
                if !maker.wakes.contains(&id) {
                    maker.wakes.push(id);
                }
                false
            }
            _ => {
                self.force_birth(id);
                true
            }
        }
    }

    /// The child's Start is judged without its maker's word.
    pub fn force_birth(&mut self, id: ActorId) {
        let maker = self.ledger.actors.get(&id).and_then(|actor| actor.maker);
        // One that is known by the word of others alone has said nothing of where it is.
        let maker = maker.and_then(|maker| self.ledger.actors.get(&maker)).filter(|maker| maker.start_told);
        let (hold, pid, tid) =
            maker.map_or((Hold::Unknown, 0, 0), |maker| (maker.hold, maker.pid, maker.tid));
        if let Hold::Set(set) = hold
            && let Some(set) = self.sets.get_mut(set)
        {
            set.untold = true;
        }
        if let Some(actor) = self.ledger.actors.get_mut(&id) {
            actor.birth = Some(Birth {
                hold,
                pid,
                tid,
                due: Vec::new(),
                told: None,
                counted: false,
                origin: None,
                before: 0,
            });
        }
    }

    fn emit(&mut self, item: Item) {
        let (definition, attribution) = match item.awaited {
            Awaited::Definition(definition) => (Some(definition), None),
            Awaited::Event(event) => {
                (None, Some(Attribution { kind: event.kind, auditnsid: event.name, netns: event.netns }))
            }
            _ => (None, None),
        };
        let position = item.position;
        self.output.push(Output::Joined { fact: Box::new(item.fact), position, definition, attribution });
    }

    fn judge(&mut self, actor: &mut Actor, item: &Item) {
        // An exec by another thread than the first has taken that one's number.
        actor.tid = item.fact.tid;
        actor.pid = item.fact.pid;
        let held = self.ledger.held.entry(item.fact.pid).or_default();
        if actor.started {
            held.add(actor.hold);
        }
        // A fact that is judged late says nothing about the events of this epoch.
        held.many |= item.epoch < self.horizon;
        let acts = !matches!(item.fact.act, Act::Fence { .. } | Act::Audit(_) | Act::Start { .. });
        if acts {
            self.check_live(actor.hold, item);
        }
        match &item.fact.act {
            Act::Start { parent: None, set, .. } => self.judge_boot(actor, item, set),
            Act::Start { call, flags, parent_set, set, .. } => {
                self.judge_start(actor, item, *call, *flags, parent_set, set);
            }
            Act::Operation { call, flags, outcome, before, after, .. } => {
                self.check_set(actor.hold, before, item, "before the call");
                match outcome {
                    Outcome::Failed { .. } => {
                        self.check_set(actor.hold, after, item, "after the failed call");
                    }
                    Outcome::Child { actor: child, tid } => {
                        self.check_set(actor.hold, after, item, "after the call");
                        self.told_child(
                            actor,
                            item,
                            *child,
                            *tid,
                            clone_moves(*call, *flags, before),
                            asked(*call, *flags),
                        );
                    }
                    Outcome::Done => {
                        self.over(&item.over, item, actor);
                        self.judge_move(actor, item, *call, *flags, after);
                    }
                }
            }
            Act::Probe { kind, token, set } => {
                self.check_set(actor.hold, set, item, "at the probe");
                self.judge_probe(actor, item, *kind, *token, set);
            }
            Act::Seen { set, ids, unlisted, .. } => self.judge_seen(item, set, ids.as_ref(), unlisted),
            Act::Received { token, netns, .. } => self.judge_received(actor, item, *token, *netns),
            Act::Ids { ids } => self.check_ids(actor.hold, ids, item),
            Act::Reaped { .. } => self.over(&item.over, item, actor),
            Act::Childless { .. } | Act::Census { .. } | Act::End | Act::Fence { .. } | Act::Audit(_) => {}
        }
        self.ledger.held.entry(item.fact.pid).or_default().add(actor.hold);
    }

    fn judge_boot(&mut self, actor: &mut Actor, item: &Item, set: &NamespaceSet) {
        actor.started = true;
        actor.hold = Hold::Boot;
        match &item.awaited {
            Awaited::Definition(init) => {
                self.boot_set = Some(Arc::clone(init));
                if !same_set(&init.op.set, set) {
                    let finding = Finding::new(Invariant::G2Init, set.to_string(), init.op.set.to_string());
                    self.findings.push(finding.record(&init.raw).fact(item.position, &item.fact));
                }
            }
            _ => self.findings.push(
                Finding::new(Invariant::G2Init, "op=init ahead of all other records", "none")
                    .fact(item.position, &item.fact),
            ),
        }
    }

    fn judge_start(
        &mut self,
        actor: &mut Actor,
        item: &Item,
        call: Call,
        flags: u64,
        parent_set: &NamespaceSet,
        set: &NamespaceSet,
    ) {
        actor.started = true;
        let birth = actor.birth.take().unwrap_or(Birth {
            hold: Hold::Unknown,
            pid: 0,
            tid: 0,
            due: Vec::new(),
            told: None,
            counted: false,
            origin: None,
            before: 0,
        });
        self.check_set(birth.hold, parent_set, item, "of the maker before the call");
        self.check_first_born(birth.hold, flags, parent_set, set, item);
        match &item.awaited {
            Awaited::Definition(definition) => {
                let (position, fact) =
                    birth.told.as_ref().map_or((item.position, &item.fact), |(at, fact)| (*at, fact));
                self.check_due(&birth.due, birth.before, definition.position(), position, fact, item.epoch);
                let op = &definition.op;
                let caller = (birth.tid != 0).then_some((birth.pid, birth.tid));
                self.check_definition(
                    definition,
                    item,
                    Op::Clone,
                    asked(call, flags),
                    birth.hold,
                    caller,
                    birth.told.as_ref(),
                );
                if op.opid != item.fact.tid {
                    let finding = self.about(
                        Invariant::G2Task,
                        format!("opid={}", item.fact.tid),
                        format!("opid={}", op.opid),
                        definition,
                    );
                    self.findings.push(finding.fact(item.position, &item.fact));
                }
                actor.hold = self.enter_defined(definition);
            }
            Awaited::NoDefinition => {
                self.missing(item, birth.hold);
                self.unpin(&birth.due);
            }
            Awaited::Silent(index) => {
                actor.hold = Hold::Silent(*index);
                self.enter(actor.hold);
                self.unpin(&birth.due);
            }
            _ => {
                actor.hold = birth.hold;
                self.unpin(&birth.due);
                if !birth.counted {
                    self.enter(birth.hold);
                }
            }
        }
        self.check_set(actor.hold, set, item, "at its first look");
        if let Some(origin) = birth.origin {
            self.unpin(&[origin]);
        }
    }

    /// A task as another one sees it, while it sleeps: it must be where it said that it is.
    fn judge_seen(
        &mut self,
        item: &Item,
        set: &NamespaceSet,
        ids: Option<&NamespaceIds>,
        unlisted: &NamespaceIds,
    ) {
        let Some(seen) = item.about.and_then(|about| self.ledger.actors.get(&about)) else { return };
        let hold = seen.hold;
        self.check_live(hold, item);
        self.check_set(hold, set, item, "as another task sees it");
        if let Some(ids) = ids {
            self.check_ids(hold, ids, item);
        }
        self.check_listed(hold, unlisted, item);
    }

    /// The maker's word of a child.
    fn told_child(
        &mut self,
        maker: &mut Actor,
        item: &Item,
        child: ActorId,
        tid: u32,
        moves: bool,
        flags: u64,
    ) {
        let counted = !moves;
        if counted {
            self.enter(maker.hold);
        }
        let mut due = if moves { std::mem::take(&mut maker.due) } else { Vec::new() };
        let state = self.ledger.actors.entry(child).or_insert_with(|| Box::new(Actor::placeholder(child)));
        if state.started || state.birth.is_some() {
            // Judged without this word, at a fence.
            self.unpin(&due);
            return;
        }
        if state.tid == 0 {
            state.tid = tid;
        }
        // What is said of the maker's set must not depend on whether it is done with by then.
        let origin = match maker.hold {
            Hold::Set(id) if moves => Some(id),
            _ => None,
        };
        state.expected = moves.then_some(flags);
        state.maker = Some(maker_of(item));
        state.hold = if moves { Hold::Unknown } else { maker.hold };
        state.birth = Some(Birth {
            hold: maker.hold,
            pid: item.fact.pid,
            tid: item.fact.tid,
            due: std::mem::take(&mut due),
            told: Some((item.position, item.fact.clone())),
            counted,
            origin,
            before: maker.last_position,
        });
        if let Some(origin) = origin {
            self.pin(origin);
        }
        self.ledger.ready.push(child);
    }

    /// A successful call that makes no task.
    fn judge_move(&mut self, actor: &mut Actor, item: &Item, call: Call, flags: u64, after: &NamespaceSet) {
        match &item.awaited {
            Awaited::Definition(definition) => {
                let op = match call {
                    Call::Unshare => Op::Unshare,
                    Call::Setns => Op::Setns,
                    _ => Op::Exec,
                };
                let due = std::mem::take(&mut actor.due);
                self.check_due(
                    &due,
                    actor.last_position,
                    definition.position(),
                    item.position,
                    &item.fact,
                    item.epoch,
                );
                let caller = Some((item.fact.pid, item.fact.tid));
                let flags = if op == Op::Exec { 0 } else { flags & CLONE_NEW_ALL };
                self.check_definition(definition, item, op, flags, actor.hold, caller, None);
                let left = Left::Move(definition.stamp);
                let told = Some(item.position);
                let leaver = Leaver { pid: item.fact.pid, tid: item.fact.tid, left, told };
                self.leave(actor.hold, leaver, item.epoch);
                actor.hold = self.enter_defined(definition);
            }
            Awaited::NoDefinition => {
                self.missing(item, actor.hold);
                self.forget(actor.hold);
                actor.hold = Hold::Unknown;
            }
            Awaited::Silent(index) => {
                let told = Some(item.position);
                let leaver = Leaver { pid: item.fact.pid, tid: item.fact.tid, left: Left::Exit, told };
                self.left_dark(actor.hold, item);
                self.leave(actor.hold, leaver, item.epoch);
                actor.hold = Hold::Silent(*index);
                self.enter(actor.hold);
            }
            _ => {}
        }
        self.check_set(actor.hold, after, item, "after the call");
    }

    /// Tasks that are over: they leave their sets, which must be released before the teller acts again.
    fn over(&mut self, over: &[ActorId], item: &Item, teller: &mut Actor) {
        for id in over {
            let Some(mut actor) = self.ledger.actors.remove(id) else { continue };
            if actor.pid != 0 {
                self.ledger.held.entry(actor.pid).or_default().add(actor.hold);
            }
            if !actor.left {
                actor.left = true;
                if !actor.start_told
                    && let (Some(flags), Some(birth)) = (actor.expected, &actor.birth)
                {
                    let told = match item.fact.act {
                        Act::Reaped { child, tid, .. } if child == *id => tid,
                        _ => actor.tid,
                    };
                    self.unborn.push(Unborn { epoch: item.epoch, tid: told, maker_tid: birth.tid, flags });
                }
                if let Some(birth) = actor.birth.take() {
                    self.unpin(&birth.due);
                    if let Some(origin) = birth.origin {
                        self.unpin(&[origin]);
                    }
                }
                let due = std::mem::take(&mut actor.due);
                self.unpin(&due);
                if actor.died_dark && !actor.surely_dark {
                    // Its release, if it was the last member, may not have been logged.
                    self.forget(actor.hold);
                }
                let told = Some(item.position);
                let leaver = Leaver { pid: actor.pid, tid: actor.tid, left: Left::Exit, told };
                // The pin comes first: a set that is done with otherwise goes at once.
                let due = match actor.hold {
                    Hold::Set(set) => vec![set],
                    _ => Vec::new(),
                };
                for set in &due {
                    self.pin(*set);
                }
                if actor.surely_dark {
                    self.left_dark(actor.hold, item);
                }
                self.leave(actor.hold, leaver, item.epoch);
                teller.due.extend(due);
            } else if std::mem::take(&mut actor.left_softly)
                && let Hold::Set(set) = actor.hold
                && let Some(state) = self.sets.get_mut(set)
            {
                state.confirm(item.position);
            }
            let wakes = std::mem::take(&mut actor.wakes);
            self.ledger.ready.extend(wakes);
            if !actor.ended {
                self.ledger.actors.insert(*id, actor);
            }
        }
    }
}

fn maker_of(item: &Item) -> ActorId {
    item.fact.actor
}
