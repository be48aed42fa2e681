// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judging a task's facts, one after the other, once the log has what belongs to them.
//!
//! A fact of an epoch is judged only when all earlier epochs are done with, whichever stream is ahead: so what
//! the fence's checks see does not depend on how the streams interleave.

use std::sync::Arc;

use nstrail_audit::{FlagNames, Op, model::BOOT};
use nstrail_wire::{
    fact::{Act, ActorId, Call, Fact, Outcome, ProbeKind},
    namespace::{CLONE_NEW_ALL, NamespaceEntry, NamespaceSet, NamespaceType},
};

use super::{
    core::{Core, Output, Unborn},
    event::ProbeEvent,
    finding::Finding,
    invariant::Invariant,
    joined::Attribution,
    ledger::{Actor, Awaited, Birth, Expectation, Hold, Item, asked, clone_moves, probe_key},
    log::attribution,
    pairing::same_set,
    sets::{Definition, Late, Leaver, Left},
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
        let Some(actor) = self.ledger.actors.get_mut(&id) else { return false };
        let Some(item) = actor.items.front() else { return false };
        let busy: Vec<ActorId> = item.over.iter().copied().filter(|over| *over != id).collect();
        let busy: Vec<ActorId> = busy
            .into_iter()
            .filter(|over| self.ledger.actors.get(over).is_some_and(|over| !over.items.is_empty()))
            .collect();
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
        self.emit(item);
        // A task that is over and judged goes; one that was killed stays to the fence, because it may
        // have done more than it could tell.
        if !(actor.left && actor.ended && actor.items.is_empty()) {
            self.ledger.actors.insert(id, actor);
            return true;
        }
        let wakes = std::mem::take(&mut actor.wakes);
        self.ledger.ready.extend(wakes);
        false
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
        let maker = maker.and_then(|maker| self.ledger.actors.get(&maker));
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
        self.output.push(Output::Joined { fact: Box::new(item.fact), definition, attribution });
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
                        self.check_set(actor.hold, after, item, "after the failed call")
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
            Act::Reaped { .. } => self.over(&item.over, item, actor),
            Act::End | Act::Fence { .. } | Act::Audit(_) => {}
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
                let leaver =
                    Leaver { pid: item.fact.pid, tid: item.fact.tid, left: Left::Move(definition.stamp) };
                self.leave(actor.hold, leaver, item.epoch, Some(item.position));
                actor.hold = self.enter_defined(definition);
            }
            Awaited::NoDefinition => {
                self.missing(item, actor.hold);
                self.forget(actor.hold);
                actor.hold = Hold::Unknown;
            }
            Awaited::Silent(index) => {
                let leaver = Leaver { pid: item.fact.pid, tid: item.fact.tid, left: Left::Exit };
                if let Hold::Set(id) = actor.hold
                    && let Some(set) = self.sets.get_mut(id)
                {
                    // Its release, if it was the last member, was not logged.
                    set.verified = true;
                }
                self.leave(actor.hold, leaver, item.epoch, Some(item.position));
                actor.hold = Hold::Silent(*index);
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
                if actor.died_dark {
                    // Its release, if it was the last member, may not have been logged.
                    self.forget(actor.hold);
                }
                let leaver = Leaver { pid: actor.pid, tid: actor.tid, left: Left::Exit };
                // The pin comes first: a set that is done with otherwise goes at once.
                let due = match actor.hold {
                    Hold::Set(set) => vec![set],
                    _ => Vec::new(),
                };
                for set in &due {
                    self.pin(*set);
                }
                self.leave(actor.hold, leaver, item.epoch, Some(item.position));
                teller.due.extend(due);
            } else if let Hold::Set(set) = actor.hold
                && let Some(state) = self.sets.get_mut(set)
            {
                // What was soft is certain now.
                state.soft = false;
                state.last_left = item.position;
            }
            let wakes = std::mem::take(&mut actor.wakes);
            self.ledger.ready.extend(wakes);
            if !actor.ended {
                self.ledger.actors.insert(*id, actor);
            }
        }
    }

    fn judge_probe(
        &mut self,
        actor: &mut Actor,
        item: &Item,
        kind: ProbeKind,
        token: u64,
        set: &NamespaceSet,
    ) {
        let key = probe_key(kind, token, item.fact.pid);
        match &item.awaited {
            Awaited::Event(event) => {
                self.figures.probes += 1;
                let due = std::mem::take(&mut actor.due);
                self.check_due(&due, actor.last_position, event.first, item.position, &item.fact, item.epoch);
                self.check_attribution(actor, item, kind, event);
                let mut netns = None;
                if kind == ProbeKind::Packet {
                    netns = Some(set.get(NamespaceEntry::Net));
                    self.check_netns(event, netns, Some(item));
                }
                if matches!(kind, ProbeKind::Packet | ProbeKind::ConfigChange) {
                    let name = match actor.hold {
                        Hold::Boot => Some(None),
                        Hold::Set(id) => Some(Some(id)),
                        Hold::Silent(_) | Hold::Unknown => None,
                    };
                    self.ledger.expectations.insert(key, Expectation { epoch: item.epoch, name, netns });
                    self.more_events(key);
                }
                if kind == ProbeKind::IoUring
                    && let Hold::Set(id) = actor.hold
                {
                    actor.uring.push(id);
                    if let Some(set) = self.sets.get_mut(id) {
                        set.uring = true;
                    }
                }
            }
            Awaited::NoEvent => {
                let expected = format!("an event of kind {kind:?} with token {token}");
                self.findings
                    .push(Finding::new(Invariant::G7Probe, expected, "none").fact(item.position, &item.fact));
            }
            _ => {}
        }
    }

    fn check_attribution(&mut self, actor: &Actor, item: &Item, kind: ProbeKind, event: &ProbeEvent) {
        let right = match actor.hold {
            Hold::Boot => event.name.is_none(),
            Hold::Set(id) => {
                // A worker of io_uring keeps the set in which it was made.
                let worker = kind == ProbeKind::IoUring && !event.syscall;
                event.name == Some(id)
                    || (worker && event.name.is_some_and(|name| actor.uring.contains(&name)))
            }
            Hold::Silent(index) => {
                if let (Some(name), Some(set)) = (event.name, self.ledger.silent.get_mut(index))
                    && let Some(raw) = event.raws.first()
                {
                    set.names.push((name, event.name_at, Arc::clone(raw)));
                }
                event.name.is_some()
            }
            Hold::Unknown => true,
        };
        // A packet may be logged on behalf of no task.
        if right || (kind == ProbeKind::Packet && event.name.is_none()) {
            return;
        }
        let (invariant, expected) = match (actor.hold, event.name) {
            (Hold::Boot, Some(BOOT)) => return,
            (Hold::Boot, _) => (Invariant::G7Boot, attribution(None)),
            (Hold::Set(id), None) => (Invariant::G7Missing, attribution(Some(id))),
            (Hold::Set(id), Some(_)) => (Invariant::G7Right, attribution(Some(id))),
            _ => (Invariant::G7Missing, "the id of a set that was made while audit was off".to_owned()),
        };
        let finding = Finding::new(
            invariant,
            format!("{expected} in the event of a {kind:?} probe"),
            attribution(event.name),
        )
        .records(&event.raws)
        .fact(item.position, &item.fact);
        let finding = self.with_lineage(finding, actor.hold);
        self.findings.push(finding);
    }

    /// Later events of the same probe.
    pub fn more_events(&mut self, key: (ProbeKind, u64)) {
        let Some(expectation) = self.ledger.expectations.get(&key).cloned() else { return };
        if self.ledger.probes.contains_key(&key) {
            return;
        }
        while let Some(events) = self.ledger.events.get_mut(&key)
            && events.front().is_some_and(|event| event.epoch == expectation.epoch)
            && let Some(event) = events.pop_front()
        {
            if events.is_empty() {
                self.ledger.events.remove(&key);
            }
            if expectation.netns.is_some() {
                self.check_netns(&event, expectation.netns, None);
            }
            let Some(expected) = expectation.name else { continue };
            let excused = key.0 == ProbeKind::Packet && event.name.is_none();
            if event.name != expected && !excused {
                let invariant = match (expected, event.name) {
                    (None, _) => Invariant::G7Boot,
                    (_, None) => Invariant::G7Missing,
                    _ => Invariant::G7Right,
                };
                let expected = format!("{} in a later event of a {:?} probe", attribution(expected), key.0);
                self.findings
                    .push(Finding::new(invariant, expected, attribution(event.name)).records(&event.raws));
            }
        }
    }

    fn check_netns(&mut self, event: &ProbeEvent, expected: Option<u32>, item: Option<&Item>) {
        // How many there are is checked when the event is complete.
        if let (Some(found), Some(expected)) = (event.netns, expected)
            && expected != 0
            && found != expected
        {
            let mut finding =
                Finding::new(Invariant::G8Right, format!("net:{expected}"), format!("net:{found}"))
                    .records(&event.raws);
            if let Some(item) = item {
                finding = finding.fact(item.position, &item.fact);
            }
            self.findings.push(finding);
        }
    }

    /// Whether the ledger's word shows life in a set that an earlier epoch released.
    fn check_live(&mut self, hold: Hold, item: &Item) {
        let Hold::Set(id) = hold else { return };
        let Some(set) = self.sets.get_mut(id) else { return };
        let Some(release) = &set.release else { return };
        if release.epoch < item.epoch
            && set.alive.as_ref().is_none_or(|(position, _)| *position > item.position)
        {
            set.alive = Some((item.position, item.fact.clone()));
        }
    }

    /// A task of a set holds the set.
    fn check_set(&mut self, hold: Hold, census: &NamespaceSet, item: &Item, when: &str) {
        let (list, definition) = match hold {
            Hold::Boot => {
                let Some(init) = &self.boot_set else { return };
                (init.op.set, Some(Arc::clone(init)))
            }
            Hold::Set(id) => {
                let Some(set) = self.sets.get(id) else { return };
                (set.definition.op.set, Some(Arc::clone(&set.definition)))
            }
            Hold::Silent(index) => {
                let Some(silent) = self.ledger.silent.get_mut(index) else { return };
                (*silent.set.get_or_insert(*census), None)
            }
            Hold::Unknown => return,
        };
        let same = if definition.is_some() {
            same_set(&list, census)
        } else {
            list.0.iter().zip(&census.0).all(|(one, other)| one == other || *one == 0 || *other == 0)
        };
        if same {
            return;
        }
        // The set of a definition is compared by its own invariant when it is joined.
        let own = matches!(&item.awaited, Awaited::Definition(own)
            if definition.as_ref().is_some_and(|definition| Arc::ptr_eq(own, definition)));
        if own {
            return;
        }
        let mut finding = Finding::new(Invariant::G1Set, list.to_string(), format!("{census} {when}"))
            .fact(item.position, &item.fact);
        if let Some(definition) = &definition {
            finding = finding.record(&definition.raw);
        }
        let finding = self.with_lineage(finding, hold);
        self.findings.push(finding);
    }

    /// The first task born in a pending pid namespace shows which one its maker's definition had to list.
    fn check_first_born(
        &mut self,
        maker: Hold,
        flags: u64,
        parent_set: &NamespaceSet,
        set: &NamespaceSet,
        item: &Item,
    ) {
        let Hold::Set(id) = maker else { return };
        let unread =
            parent_set.get(NamespaceEntry::PidForChildren) == 0 && parent_set.get(NamespaceEntry::Pid) != 0;
        let born = set.get(NamespaceEntry::Pid);
        if !unread || born == 0 || flags & NamespaceType::Pid.flag() != 0 {
            return;
        }
        let Some(definition) = self.sets.get(id).map(|set| Arc::clone(&set.definition)) else { return };
        let listed = definition.op.set.get(NamespaceEntry::PidForChildren);
        if listed != born {
            let finding = self.about(
                Invariant::G2List,
                format!("pid_for_children:{born}, in which this child was born"),
                format!("pid_for_children:{listed}"),
                &definition,
            );
            self.findings.push(finding.fact(item.position, &item.fact));
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one definition against all that the ledger knows of its call"
    )]
    fn check_definition(
        &mut self,
        definition: &Arc<Definition>,
        item: &Item,
        op: Op,
        flags: u64,
        hold: Hold,
        caller: Option<(u32, u32)>,
        told: Option<&(u64, Fact)>,
    ) {
        let found = &definition.op;
        let mut wrong: Vec<(Invariant, String, String)> = Vec::new();
        if found.op != op {
            wrong.push((Invariant::G2Op, format!("op={op}"), format!("op={}", found.op)));
        }
        if found.flags != flags {
            wrong.push((
                Invariant::G2Flags,
                format!("flags={}", FlagNames(flags)),
                format!("flags={}", FlagNames(found.flags)),
            ));
        }
        if let Some((pid, tid)) = caller
            && (found.pid, found.tid) != (pid, tid)
        {
            wrong.push((
                Invariant::G2Task,
                format!("pid={pid} tid={tid}"),
                format!("pid={} tid={}", found.pid, found.tid),
            ));
        }
        if op != Op::Clone && found.opid != item.fact.tid {
            wrong.push((
                Invariant::G2Task,
                format!("opid={}", item.fact.tid),
                format!("opid={}", found.opid),
            ));
        }
        let census = match &item.fact.act {
            Act::Start { set, .. } => Some(set),
            Act::Operation { after, .. } => Some(after),
            _ => None,
        };
        if let Some(census) = census
            && !same_set(&found.set, census)
        {
            wrong.push((Invariant::G2List, format!("ns={census}"), format!("ns={}", found.set)));
        }
        let old = match hold {
            Hold::Boot => Some(BOOT),
            Hold::Set(id) => Some(id),
            Hold::Silent(index) => {
                if let Some(set) = self.ledger.silent.get_mut(index) {
                    set.names.push((found.old, definition.position(), Arc::clone(&definition.raw)));
                }
                None
            }
            Hold::Unknown => None,
        };
        if let Some(old) = old
            && found.old != old
        {
            wrong.push((
                Invariant::G2Old,
                format!("old-auditnsid={old:#x}"),
                format!("old-auditnsid={:#x}", found.old),
            ));
        }
        for (invariant, expected, found) in wrong {
            let mut finding =
                self.about(invariant, expected, found, definition).fact(item.position, &item.fact);
            if let Some((position, fact)) = told {
                finding = finding.fact(*position, fact);
            }
            self.findings.push(finding);
        }
    }

    /// A finding about a definition, with its lineage.
    pub fn about(
        &self,
        invariant: Invariant,
        expected: String,
        found: String,
        definition: &Definition,
    ) -> Finding {
        let op = &definition.op;
        Finding::new(invariant, expected, found).record(&definition.raw).lineage(
            op.id,
            Some((op.op, op.flags)),
            &definition.lineage,
        )
    }

    pub fn with_lineage(&self, finding: Finding, hold: Hold) -> Finding {
        let Hold::Set(id) = hold else { return finding };
        match self.sets.get(id) {
            Some(set) => {
                let op = &set.definition.op;
                finding.lineage(id, Some((op.op, op.flags)), &set.definition.lineage)
            }
            None => finding,
        }
    }

    fn missing(&mut self, item: &Item, hold: Hold) {
        let finding =
            Finding::new(Invariant::G2Missing, format!("a definition with opid={}", item.fact.tid), "none")
                .fact(item.position, &item.fact);
        let finding = self.with_lineage(finding, hold);
        self.findings.push(finding);
    }

    /// Sets that a member has left whom the teller waited for. If it was the last, the release must precede
    /// the record that the teller causes next; whether it was is known at the fence.
    fn check_due(&mut self, due: &[u64], before: u64, record: u64, position: u64, fact: &Fact, epoch: u64) {
        for id in due {
            let Some(set) = self.sets.get_mut(*id) else { continue };
            if set.release.as_ref().is_none_or(|release| release.raw.position > record) {
                set.add_late(Late { epoch, before, record, position, fact: fact.clone() });
            }
        }
        self.unpin(due);
    }

    /// The set stays, even if it is done with otherwise.
    pub fn pin(&mut self, id: u64) {
        if let Some(set) = self.sets.get_mut(id) {
            set.pins += 1;
        }
    }

    pub fn unpin(&mut self, due: &[u64]) {
        for id in due {
            if let Some(set) = self.sets.get_mut(*id) {
                set.pins = set.pins.saturating_sub(1);
            }
            self.settle(*id);
        }
    }

    /// The task enters the set that is defined here.
    fn enter_defined(&mut self, definition: &Arc<Definition>) -> Hold {
        match self.sets.defined_by(definition) {
            Some(set) => {
                set.enter();
                Hold::Set(definition.op.id)
            }
            None => Hold::Unknown,
        }
    }

    fn enter(&mut self, hold: Hold) {
        if let Hold::Set(id) = hold
            && let Some(set) = self.sets.get_mut(id)
        {
            set.enter();
        }
    }

    /// A member leaves.
    pub fn leave(&mut self, hold: Hold, leaver: Leaver, epoch: u64, told: Option<u64>) {
        let Hold::Set(id) = hold else { return };
        if let Some(set) = self.sets.get_mut(id)
            && set.members > 0
        {
            set.leave(leaver, epoch, told);
            self.settle(id);
        }
    }

    /// A member is not followed any further: nothing can be said about the set's release.
    fn forget(&mut self, hold: Hold) {
        if let Hold::Set(id) = hold
            && let Some(set) = self.sets.get_mut(id)
        {
            set.verified = true;
            set.untold = true;
        }
    }
}

fn maker_of(item: &Item) -> ActorId {
    item.fact.actor
}
