// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events against the sets of the tasks that caused them (CONTRACT.md G7, G8).

use std::sync::Arc;

use nstrail_audit::model::BOOT;
use nstrail_wire::{
    fact::ProbeKind,
    namespace::{NamespaceEntry, NamespaceSet},
};

use super::{
    core::Core,
    event::ProbeEvent,
    finding::Finding,
    invariant::Invariant,
    ledger::{Actor, Awaited, Expectation, Hold, Item, probe_key},
    log::attribution,
};

impl Core {
    pub fn judge_probe(
        &mut self,
        actor: &mut Actor,
        item: &Item,
        kind: ProbeKind,
        token: u64,
        set: &NamespaceSet,
    ) {
        let key = probe_key(kind, token, item.fact.pid);
        if matches!(kind, ProbeKind::IoUring | ProbeKind::IoUringPoller) {
            self.uses_uring(actor, kind);
        }
        match &item.awaited {
            Awaited::Event(event) => {
                self.figures.probes += 1;
                let due = std::mem::take(&mut actor.due);
                self.check_due(&due, actor.last_position, event.first, item.position, &item.fact, item.epoch);
                self.check_attribution(actor, item, kind, event);
                let mut netns = None;
                if kind.is_packet() {
                    netns = Some(set.get(NamespaceEntry::Net));
                    self.check_netns(event, netns, Some(item));
                    self.check_candidates(event, actor.hold, set.get(NamespaceEntry::Net), item);
                }
                if kind.is_packet() || kind == ProbeKind::ConfigChange {
                    let name = match actor.hold {
                        Hold::Boot => Some(None),
                        Hold::Set(id) => Some(Some(id)),
                        Hold::Silent(_) | Hold::Unknown => None,
                    };
                    self.ledger.expectations.insert(key, Expectation { epoch: item.epoch, name, netns });
                    self.more_events(key);
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

    /// It has a worker from now on that was made in its set, or had a thread that polled for it.
    fn uses_uring(&mut self, actor: &mut Actor, kind: ProbeKind) {
        let made_in = match actor.hold {
            Hold::Boot => Some(None),
            Hold::Set(id) => Some(Some(id)),
            Hold::Silent(_) | Hold::Unknown => None,
        };
        if kind == ProbeKind::IoUring {
            actor.uring.extend(made_in);
            actor.uring_unnamed |= made_in.is_none();
        }
        if let Hold::Set(id) = actor.hold
            && let Some(set) = self.sets.get_mut(id)
        {
            set.uring = true;
        }
    }

    /// A datagram has come in at another task's network namespace: a softirq received it, which acts for no task.
    pub fn judge_received(&mut self, actor: &Actor, item: &Item, token: u64, netns: u32) {
        match &item.awaited {
            Awaited::Event(event) => {
                self.figures.probes += 1;
                if event.name.is_some() {
                    let expected = "none: a softirq acts for no task";
                    let finding = Finding::new(Invariant::G7Right, expected, attribution(event.name))
                        .records(&event.raws)
                        .fact(item.position, &item.fact);
                    let finding = self.with_lineage(finding, actor.hold);
                    self.findings.push(finding);
                }
                self.check_netns(event, Some(netns), Some(item));
                let hold = match item.about {
                    Some(receiver) if receiver == item.fact.actor => actor.hold,
                    Some(receiver) => {
                        self.ledger.actors.get(&receiver).map_or(Hold::Unknown, |receiver| receiver.hold)
                    }
                    None => Hold::Unknown,
                };
                self.check_candidates(event, hold, netns, item);
                let key = probe_key(ProbeKind::Received, token, item.fact.pid);
                let expectation = Expectation { epoch: item.epoch, name: Some(None), netns: Some(netns) };
                self.ledger.expectations.insert(key, expectation);
                self.more_events(key);
            }
            Awaited::NoEvent => {
                let expected = format!("a packet with token {token} in net:{netns}");
                self.findings
                    .push(Finding::new(Invariant::G7Probe, expected, "none").fact(item.position, &item.fact));
            }
            _ => {}
        }
    }

    pub fn check_attribution(&mut self, actor: &Actor, item: &Item, kind: ProbeKind, event: &ProbeEvent) {
        // A worker of io_uring keeps the set in which it was made: the one of now, if it is new or nobody knows.
        let worker = matches!(kind, ProbeKind::IoUring | ProbeKind::IoUringReused) && !event.syscall;
        let made_before = worker && actor.uring.contains(&event.name);
        let known = kind == ProbeKind::IoUringReused && !actor.uring.is_empty() && !actor.uring_unnamed;
        let right = match actor.hold {
            _ if worker && known => made_before,
            _ if made_before || (worker && actor.uring_unnamed) => true,
            Hold::Boot => event.name.is_none(),
            Hold::Set(id) => event.name == Some(id),
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
        if right || (kind.is_packet() && event.name.is_none()) {
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
            let excused = key.0.is_packet() && event.name.is_none();
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

    pub fn check_netns(&mut self, event: &ProbeEvent, expected: Option<u32>, item: Option<&Item>) {
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

    /// The packet's namespace leads a reader of the log to the set of the task that has sent it, or received it.
    fn check_candidates(&mut self, event: &ProbeEvent, hold: Hold, netns: u32, item: &Item) {
        let id = match hold {
            Hold::Boot => BOOT,
            Hold::Set(id) => id,
            Hold::Silent(_) | Hold::Unknown => return,
        };
        // Another namespace than the task's is a finding of its own.
        if event.netns != Some(netns) || event.in_netns.contains(&id) {
            return;
        }
        let ids: Vec<String> = event.in_netns.iter().map(|id| format!("{id:#x}")).collect();
        let found = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        let finding = Finding::new(
            Invariant::G8Map,
            format!("{id:#x} among the live sets that list net:{netns}"),
            found,
        )
        .records(&event.raws)
        .fact(item.position, &item.fact);
        let finding = self.with_lineage(finding, hold);
        self.findings.push(finding);
    }

    /// Events that name their task by pid only.
    pub fn judge_loose(&mut self, epoch: u64) {
        while let Some(entry) = self.log.loose.first_entry()
            && *entry.key() <= epoch
        {
            for ((pid, name), (first, raws)) in entry.remove() {
                // Named 0x1, or named after a release: reported where the record stands.
                let Some(held) = self.ledger.held.get(&pid).filter(|held| !held.many) else { continue };
                let ids = held.ids(first);
                if ids.is_empty() || ids.contains(&name) || name == Some(BOOT) {
                    continue;
                }
                let invariant = match (&ids[..], name) {
                    ([None], _) => Invariant::G7Boot,
                    (_, None) => Invariant::G7Missing,
                    _ => Invariant::G7Right,
                };
                let expected: Vec<String> = ids.iter().map(|id| attribution(*id)).collect();
                let finding = Finding::new(
                    invariant,
                    format!("{} in an event of pid {pid}", expected.join(" or ")),
                    attribution(name),
                );
                self.findings.push(finding.records(&raws));
            }
        }
    }
}
