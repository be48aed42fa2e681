// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fence: both streams are past it, all tasks of before are quiet, so nothing of before is still to come.
//!
//! What has found no partner by now has none; what should have been released is not; what is missing is
//! missing. This is also where memory ends that only an epoch needs.

use std::sync::Arc;

use nstrail_audit::{Op, model::BOOT};
use nstrail_wire::{
    fact::{Act, ActorId, Call},
    namespace::CLONE_VFORK,
};

use super::{
    core::Core,
    finding::Finding,
    invariant::Invariant,
    joined::ReleaseBy,
    ledger::{Awaited, Hold},
    log::attribution,
    pairing::same_set,
    sets::{Definition, Late, Leaver, Left},
};

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
        let unjudged = self.ledger.actors.values().flat_map(|actor| actor.items.front());
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

    /// Children whose makers said nothing: killed, or still waiting for them (vfork).
    fn force_births(&mut self, epoch: u64, end: bool) -> bool {
        let mut waiting: Vec<(u64, ActorId)> = Vec::new();
        for (id, actor) in &self.ledger.actors {
            let Some(item) = actor.items.front() else { continue };
            if item.epoch > epoch || !actor.awaits_birth() {
                continue;
            }
            let waits = matches!(item.fact.act, Act::Start { call, flags, .. }
                if call == Call::Vfork || flags & CLONE_VFORK != 0);
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

    /// Definitions that no move took.
    fn explain_leftovers(&mut self, epoch: u64) {
        let (mut now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pairing.leftovers).into_iter().partition(|d| d.epoch <= epoch);
        self.pairing.leftovers = later;
        now.sort_by_key(|definition| definition.position());
        for definition in now {
            if !self.made_in_the_dark(&definition) && !self.excuse(&definition, epoch) {
                self.unexplained(&definition);
            }
            if let Some(set) = self.sets.defined_by(&definition)
                && !set.joined
            {
                set.verified = true;
            }
        }
    }

    /// A set was made while audit was off, and logged all the same.
    fn made_in_the_dark(&mut self, definition: &Arc<Definition>) -> bool {
        let op = &definition.op;
        let silent = self.ledger.silent.iter_mut().find(|silent| {
            let read = match &silent.fact.act {
                Act::Start { set, .. } => set,
                Act::Operation { after, .. } => after,
                _ => return false,
            };
            silent.epoch == definition.epoch
                && !silent.logged
                && silent.fact.tid == op.opid
                && same_set(&op.set, read)
        });
        let Some(silent) = silent else { return false };
        silent.logged = true;
        let (position, fact) = (silent.position, silent.fact.clone());
        let finding = self
            .about(
                Invariant::G9Silent,
                "no record while audit is disabled".to_owned(),
                format!("op={} auditnsid={:#x}", op.op, op.id),
                definition,
            )
            .fact(position, &fact);
        self.findings.push(finding);
        true
    }

    /// A task that was killed may have moved, or made a task, without being able to tell.
    fn excuse(&mut self, definition: &Arc<Definition>, epoch: u64) -> bool {
        let op = &definition.op;
        if op.op == Op::Clone {
            let unborn = self.unborn.iter().position(|unborn| {
                unborn.epoch == definition.epoch
                    && unborn.maker_tid == op.tid
                    && (unborn.tid == op.opid || unborn.tid == 0)
                    && unborn.flags == op.flags
            });
            if let Some(unborn) = unborn {
                self.unborn.remove(unborn);
                return true;
            }
        }
        let mut killed: Vec<ActorId> = self
            .ledger
            .actors
            .iter()
            .filter(|(_, actor)| {
                actor.is_gone(epoch) && !actor.ended && actor.tid == op.tid && actor.pid == op.pid
            })
            .map(|(id, _)| *id)
            .collect();
        killed.sort_unstable();
        for id in killed {
            let Some(actor) = self.ledger.actors.get_mut(&id) else { continue };
            let from = match actor.hold {
                Hold::Boot => BOOT,
                Hold::Set(id) => id,
                _ => continue,
            };
            if from != op.old {
                continue;
            }
            // One act at most: the one in which it was killed.
            actor.hold = Hold::Unknown;
            if let Some(set) = self.sets.get_mut(from) {
                set.untold = true;
                if op.op != Op::Clone {
                    set.leavers.push(Leaver { pid: op.pid, tid: op.tid, left: Left::Move(definition.stamp) });
                }
            }
            return true;
        }
        false
    }

    fn unexplained(&mut self, definition: &Arc<Definition>) {
        let op = &definition.op;
        let call = match op.op {
            Op::Unshare => &[Call::Unshare][..],
            Op::Setns => &[Call::Setns],
            Op::Exec => &[Call::Exec],
            _ => &[Call::Clone, Call::Clone3, Call::Fork, Call::Vfork],
        };
        let failed = self.ledger.failed.get(&op.tid).and_then(|calls| {
            calls.iter().find(|(epoch, _, fact)| {
                *epoch == definition.epoch
                    && matches!(&fact.act, Act::Operation { call: failed, .. } if call.contains(failed))
            })
        });
        let finding = match failed {
            Some((_, position, fact)) => self
                .about(
                    Invariant::G6Silence,
                    "no definition for a call that failed".to_owned(),
                    format!("op={}", op.op),
                    definition,
                )
                .fact(*position, fact),
            None => self.about(
                Invariant::G2Unexplained,
                format!("no definition with opid={} here, by the ledger", op.opid),
                format!("op={} auditnsid={:#x}", op.op, op.id),
                definition,
            ),
        };
        self.findings.push(finding);
    }

    /// Tasks that told their end and that nobody waits for: threads above all.
    fn leave_softly(&mut self, epoch: u64) {
        let mut ended: Vec<ActorId> = self
            .ledger
            .actors
            .iter()
            .filter(|(_, actor)| {
                actor.ended
                    && !actor.left
                    && actor.ended_epoch <= epoch
                    && actor.items.is_empty()
                    && actor.started
            })
            .map(|(id, _)| *id)
            .collect();
        ended.sort_unstable();
        for id in ended {
            let Some(actor) = self.ledger.actors.get_mut(&id) else { continue };
            actor.left = true;
            let (hold, at) = (actor.hold, actor.ended_epoch);
            let leaver = Leaver { pid: actor.pid, tid: actor.tid, left: Left::Exit };
            self.leave(hold, leaver, at, None);
        }
    }

    fn judge_undefined(&mut self, epoch: u64) {
        let dark = self.ledger.silent.iter().any(|silent| silent.epoch <= epoch);
        let mut ids: Vec<u64> = self
            .log
            .undefined
            .iter()
            .filter(|(_, undefined)| undefined.epoch <= epoch && !undefined.judged)
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        for id in ids {
            let Some(undefined) = self.log.undefined.get_mut(&id) else { continue };
            undefined.judged = true;
            if dark {
                continue;
            }
            let finding = Finding::new(
                undefined.invariant,
                format!("the definition of {id:#x} before this record"),
                "none",
            );
            self.findings.push(finding.record(&undefined.raw));
        }
    }

    fn judge_holes(&mut self, epoch: u64, end: bool) {
        let mut latest = None;
        while let Some(entry) = self.log.holes_at.first_entry()
            && *entry.key() <= epoch
        {
            latest = Some(entry.remove());
        }
        let Some(holes) = latest else { return };
        let silent =
            self.ledger.silent.iter().filter(|silent| silent.epoch <= epoch && !silent.logged).count() as u64;
        if silent == 0 {
            for (from, to) in holes.ranges() {
                if self.holes_reported.len() < 1024 && self.holes_reported.insert(from) {
                    let found = if from == to {
                        format!("{from:#x} is missing")
                    } else {
                        format!("{from:#x} to {to:#x} are missing")
                    };
                    let expected = format!("a definition of every id up to {:#x}", holes.highest());
                    self.findings.push(Finding::new(Invariant::G3Dense, expected, found));
                }
            }
            return;
        }
        let count = holes.count();
        // Before the next definition the last ids given in the dark leave no hole yet.
        let wrong = count > silent || (end && count < silent);
        if wrong && self.holes_reported.insert(u64::MAX) {
            let mut finding = Finding::new(
                Invariant::G9Count,
                format!("{silent} ids without definition, one for each set made while audit was off"),
                format!("{count} of them below {:#x}", holes.highest()),
            );
            for silent in self.ledger.silent.iter().take(4) {
                finding = finding.fact(silent.position, &silent.fact);
            }
            self.findings.push(finding);
        }
    }

    fn judge_sets(&mut self, epoch: u64, end: bool) {
        let mut findings = Vec::new();
        let mut done = Vec::new();
        for (id, set) in self.sets.iter_mut() {
            if set.definition.epoch > epoch || id == BOOT {
                continue;
            }
            let released = set.release.as_ref().filter(|release| release.epoch <= epoch);
            let op = &set.definition.op;
            let made = Some((op.op, op.flags));
            let empty = set.members == 0 && set.emptied.is_some_and(|emptied| emptied <= epoch);
            let lineage = &set.definition.lineage;
            let (late, later): (Vec<Late>, Vec<Late>) =
                std::mem::take(&mut set.late).into_iter().partition(|late| late.epoch <= epoch);
            set.late = later;
            let all_had_left = |late: &&Late| late.before >= set.last_left;
            if empty
                && released.is_some()
                && !set.verified
                && !set.untold
                && let Some(late) = late.iter().find(all_had_left)
            {
                let found =
                    format!("record {}, which one who had waited caused later, comes first", late.record);
                let finding = Finding::new(
                    Invariant::G5Timely,
                    format!("the release of {id:#x} before wait returns"),
                    found,
                )
                .record(&set.definition.raw)
                .fact(late.position, &late.fact)
                .lineage(id, made, lineage);
                findings.push(finding);
            }
            match released {
                Some(release) => {
                    if let Some((position, fact)) = set.alive.take()
                        && !set.reported
                    {
                        set.reported = true;
                        findings.push(
                            Finding::new(
                                Invariant::G5Live,
                                format!("{id:#x} released when its last member leaves"),
                                "a member that lives behind the fence",
                            )
                            .record(&release.raw)
                            .fact(position, &fact)
                            .lineage(id, made, lineage),
                        );
                    }
                    // Within one epoch a member that the ledger has not told of any more may have been the last.
                    if empty && set.joined && !set.verified && !set.reported && !set.untold && !matches(set) {
                        let names = set.leavers.iter().any(|l| (l.pid, l.tid) == (release.pid, release.tid));
                        let invariant = if names { Invariant::G5Event } else { Invariant::G5By };
                        let leavers: Vec<String> = set.leavers.iter().rev().take(4).map(leaver).collect();
                        let by = match release.by {
                            ReleaseBy::Exit => "an event of its own",
                            ReleaseBy::Move => "the event of a move",
                        };
                        findings.push(
                            Finding::new(
                                invariant,
                                format!("a release of {id:#x} by a member that left: {}", leavers.join(", ")),
                                format!("pid={} tid={}, in {by}", release.pid, release.tid),
                            )
                            .record(&set.definition.raw)
                            .record(&release.raw)
                            .lineage(id, made, lineage),
                        );
                    }
                    if set.members == 0 && set.pins == 0 && (empty || !set.joined) {
                        done.push(id);
                    }
                }
                None => {
                    let wait = (set.soft
                        && set.emptied.is_some_and(|emptied| emptied >= epoch.min(self.ledger.epoch)))
                        || (set.uring && !end);
                    if empty && set.joined && !set.reported && !set.verified && !set.untold && !wait {
                        set.reported = true;
                        findings.push(
                            Finding::new(
                                Invariant::G5Missing,
                                format!("a release of {id:#x} before the fence"),
                                "none, and no member is left",
                            )
                            .record(&set.definition.raw)
                            .lineage(id, made, lineage),
                        );
                    }
                    if let Some(reappeared) = &set.reappeared
                        && reappeared.epoch <= epoch
                        && !set.reported
                        && !set.verified
                        && set.members > 0
                    {
                        set.reported = true;
                        findings.push(
                            Finding::new(
                                Invariant::G5Inum,
                                format!("the release of {id:#x} once its inode numbers came back"),
                                "members behind the fence",
                            )
                            .record(&set.definition.raw)
                            .record(&reappeared.raw)
                            .lineage(id, made, lineage),
                        );
                    }
                }
            }
        }
        for finding in findings {
            self.findings.push(finding);
        }
        for id in done {
            self.sets.drop_set(id);
        }
    }

    /// Sets made in the dark: each has one id, its own, and no definition.
    fn judge_silent(&mut self, end: bool) {
        if !end {
            return;
        }
        let mut owners: std::collections::BTreeMap<u64, usize> = std::collections::BTreeMap::new();
        let mut findings = Vec::new();
        for (index, silent) in self.ledger.silent.iter_mut().enumerate() {
            silent.names.sort_by_key(|(_, position, _)| *position);
            let Some(&(first, _, _)) = silent.names.first() else { continue };
            for (id, _, raw) in &silent.names {
                let defined = !self.log.undefined.contains_key(id)
                    && !self.log.holes.contains(*id)
                    && *id <= self.log.holes.highest();
                let taken = owners.get(id).is_some_and(|owner| *owner != index);
                if *id != first || defined || taken {
                    findings.push(
                        Finding::new(
                            Invariant::G7Right,
                            "one id of its own for a set that was made while audit was off",
                            attribution(Some(*id)),
                        )
                        .record(raw)
                        .fact(silent.position, &silent.fact),
                    );
                }
            }
            owners.entry(first).or_insert(index);
        }
        for finding in findings {
            self.findings.push(finding);
        }
    }

    /// Events that name their task by pid only.
    fn judge_loose(&mut self, epoch: u64) {
        while let Some(entry) = self.log.loose.first_entry()
            && *entry.key() <= epoch
        {
            for ((pid, name), (_, raws)) in entry.remove() {
                // Named 0x1, or named after a release: reported where the record stands.
                let Some(held) = self.ledger.held.get(&pid) else { continue };
                if held.allows(name) || name == Some(BOOT) {
                    continue;
                }
                let invariant = match (held.ids(), name) {
                    ([None], _) => Invariant::G7Boot,
                    (_, None) => Invariant::G7Missing,
                    _ => Invariant::G7Right,
                };
                let expected: Vec<String> = held.ids().iter().map(|id| attribution(*id)).collect();
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

fn matches(set: &super::sets::Set) -> bool {
    set.release_matches()
}

fn leaver(leaver: &Leaver) -> String {
    let how = match leaver.left {
        Left::Exit => "by exit",
        Left::Move(_) => "by a move",
    };
    format!("pid={} tid={} {how}", leaver.pid, leaver.tid)
}
