// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fence: both streams are past it, all tasks of before are quiet, so nothing of before is still to come.
//!
//! What has found no partner by now has none; what should have been released is not; what is missing is
//! missing. This is also where memory ends that only an epoch needs.

use nstrail_wire::{
    fact::{Act, ActorId, Call},
    namespace::CLONE_VFORK,
};

use super::{core::Core, ledger::Awaited};

impl Core {
    /// Ends the epochs that both streams have left.
    pub fn advance(&mut self) {
        let target = self.log.epoch.min(self.ledger.epoch);
        // One after the other: a fence that one stream lost must not join two epochs in some interleavings.
        let mut swept = false;
        while let Some(epoch) = self.ended.first().copied()
            && epoch < target
        {
            self.ended.remove(&epoch);
            self.sweep(epoch, false);
            swept = true;
        }
        if swept {
            self.horizon = target;
            self.wake_all();
        }
        self.advance_perf();
    }

    fn wake_all(&mut self) {
        let mut waiting: Vec<ActorId> = self.ledger.actors.keys().copied().collect();
        waiting.sort_unstable();
        self.ledger.ready.extend(waiting);
    }

    /// Ends all epochs up to this one.
    pub fn sweep(&mut self, epoch: u64, end: bool) {
        self.horizon = epoch;
        self.wake_all();
        self.flush_pairing(epoch);
        self.flush_probes(epoch);
        if let Some((actor, number, _)) = self.boot.take_if(|(_, _, told)| *told <= epoch) {
            self.arrived(actor, number, Awaited::NoDefinition);
        }
        loop {
            self.run();
            if self.part_with_unborn(epoch, end) {
                self.run();
            }
            if !self.force_births(epoch, end) {
                break;
            }
        }
        self.explain_leftovers(epoch);
        self.leave_softly(epoch);
        self.judge_undefined(epoch);
        self.judge_holes(epoch, end);
        self.judge_sets(epoch, end);
        self.judge_silent(end);
        let unjudged = self.ledger.actors.values().filter_map(|actor| actor.items.front());
        for item in unjudged.filter(|item| item.epoch <= epoch) {
            self.ledger.held.entry(item.fact.pid).or_default().many = true;
        }
        self.judge_loose(epoch);
        self.ledger.failed.retain(|_, calls| {
            calls.retain(|(at, _, _)| *at > epoch);
            !calls.is_empty()
        });
        self.ledger.expectations.retain(|_, expectation| expectation.epoch > epoch);
        self.ledger.held.clear();
        self.ledger.parted.clear();
        self.unborn.retain(|unborn| unborn.epoch > epoch);
        let over: Vec<ActorId> = self
            .ledger
            .actors
            .iter()
            .filter(|(_, actor)| actor.left && actor.items.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            if let Some(actor) = self.ledger.actors.remove(&id) {
                self.unpin(&actor.due);
            }
        }
    }

    fn flush_probes(&mut self, epoch: u64) {
        let mut missing = Vec::new();
        self.ledger.probes.retain(|_, probes| {
            while probes.front().is_some_and(|(_, _, told)| *told <= epoch) {
                missing.extend(probes.pop_front());
            }
            !probes.is_empty()
        });
        missing.sort_unstable();
        for (actor, number, _) in missing {
            self.arrived(actor, number, Awaited::NoEvent);
        }
        // Events of tasks that could not tell of them any more.
        self.run();
        self.ledger.events.retain(|_, events| {
            while events.front().is_some_and(|event| event.epoch <= epoch) {
                events.pop_front();
            }
            !events.is_empty()
        });
    }

    /// A vfork's child lives on beyond the fence, unjudged, as does whoever comes from it: what it says of others, and others of it, must not
    /// keep those.
    fn part_with_unborn(&mut self, epoch: u64, end: bool) -> bool {
        if end {
            return false;
        }
        let mut any = false;
        let unborn: Vec<ActorId> =
            self.ledger.actors.keys().copied().filter(|id| self.is_unborn(*id, epoch)).collect();
        for id in unborn {
            let Some(actor) = self.ledger.actors.get_mut(&id) else { continue };
            let mut parted: Vec<(u64, ActorId, ActorId)> =
                actor.visited.iter().map(|(position, visitor)| (*position, *visitor, id)).collect();
            parted.extend(actor.items.iter().filter_map(|item| Some((item.position, id, item.about?))));
            for (position, visitor, about) in parted {
                let item = self.ledger.actors.get_mut(&visitor).and_then(|visitor| {
                    visitor.items.iter_mut().find(|item| item.position == position && item.epoch <= epoch)
                });
                let Some(item) = item else { continue };
                item.about = None;
                any = true;
                if let Some(about) = self.ledger.actors.get_mut(&about) {
                    about.visited.retain(|(at, _)| *at != position);
                }
            }
        }
        if any {
            self.wake_all();
        }
        any
    }

    /// Whether the task waits for a word that comes when its maker, or one before that, goes on after a vfork.
    fn is_unborn(&self, id: ActorId, epoch: u64) -> bool {
        let mut next = Some(id);
        // A guest that lies may name two tasks as each other's maker.
        for _ in 0..self.ledger.actors.len() {
            let Some(actor) = next.and_then(|id| self.ledger.actors.get(&id)) else { return false };
            let Some(item) = actor.items.front() else { return false };
            if item.epoch > epoch || !actor.awaits_birth() {
                return false;
            }
            let maker = actor.maker.and_then(|maker| self.ledger.actors.get(&maker));
            if maker.is_none_or(|maker| !maker.awaits_birth()) {
                let gone = actor.is_gone(epoch) || maker.is_none_or(|maker| maker.is_gone(epoch));
                return is_vfork(&item.fact.act) && !gone;
            }
            next = actor.maker;
        }
        false
    }

    /// Children whose makers said nothing: killed, or still waiting for them (vfork).
    fn force_births(&mut self, epoch: u64, end: bool) -> bool {
        let mut waiting: Vec<(u64, ActorId)> = Vec::new();
        for (id, actor) in &self.ledger.actors {
            let Some(item) = actor.items.front() else { continue };
            if item.epoch > epoch || !actor.awaits_birth() {
                continue;
            }
            let waits = is_vfork(&item.fact.act);
            let maker = actor.maker.and_then(|maker| self.ledger.actors.get(&maker));
            // A maker that waits for its own birth may have the word about this child further back. One that
            // waits for anything else waits for this child.
            let silent = maker.is_none_or(|maker| !maker.awaits_birth());
            let gone = actor.is_gone(epoch) || maker.is_none_or(|maker| maker.is_gone(epoch));
            if silent && (end || !waits || gone) {
                waiting.push((item.position, *id));
            }
        }
        let Some((_, first)) = waiting.into_iter().min() else { return false };
        self.force_birth(first);
        self.ledger.ready.push(first);
        true
    }
}

/// The start of a task whose maker waits for it.
fn is_vfork(act: &Act) -> bool {
    matches!(act, Act::Start { call, flags, .. } if *call == Call::Vfork || flags & CLONE_VFORK != 0)
}
