// SPDX-License-Identifier: MIT OR Apache-2.0
//! Membership by the ledger, and releases against it (CONTRACT.md G5).
//!
//! The order in which facts are judged is not the order in which things happened. What happened before what is known
//! from positions: a task's word stands in the ledger after its act, and before its next one.

use std::sync::Arc;

use nstrail_audit::model::BOOT;
use nstrail_wire::fact::{ActorId, Fact};

use super::{
    core::Core,
    finding::Finding,
    invariant::Invariant,
    joined::ReleaseBy,
    ledger::{Hold, Item},
    sets::{Definition, Late, Leaver, Left},
};

impl Core {
    /// Whether the ledger's word shows life in a set that an earlier epoch released.
    pub fn check_live(&mut self, hold: Hold, item: &Item) {
        let Hold::Set(id) = hold else { return };
        let Some(set) = self.sets.get_mut(id) else { return };
        let Some(release) = &set.release else { return };
        if release.epoch < item.epoch
            && set.alive.as_ref().is_none_or(|(position, _)| *position > item.position)
        {
            set.alive = Some((item.position, item.fact.clone()));
        }
    }

    /// Sets that a member has left whom the teller waited for. If it was the last, the release must precede
    /// the record that the teller causes next; whether it was is known at the fence.
    pub fn check_due(
        &mut self,
        due: &[u64],
        before: u64,
        record: u64,
        position: u64,
        fact: &Fact,
        epoch: u64,
    ) {
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
    pub fn enter_defined(&mut self, definition: &Arc<Definition>) -> Hold {
        match self.sets.defined_by(definition) {
            Some(set) => {
                set.enter();
                Hold::Set(definition.op.id)
            }
            None => Hold::Unknown,
        }
    }

    pub fn enter(&mut self, hold: Hold) {
        match hold {
            Hold::Set(id) => {
                if let Some(set) = self.sets.get_mut(id) {
                    set.enter();
                }
            }
            Hold::Silent(index) => {
                if let Some(silent) = self.ledger.silent.get_mut(index) {
                    silent.members += 1;
                }
            }
            Hold::Boot | Hold::Unknown => {}
        }
    }

    /// A member leaves.
    pub fn leave(&mut self, hold: Hold, leaver: Leaver, epoch: u64) {
        match hold {
            Hold::Set(id) => {
                if let Some(set) = self.sets.get_mut(id)
                    && set.members > 0
                {
                    set.leave(leaver, epoch);
                    self.settle(id);
                }
            }
            Hold::Silent(index) => {
                if let Some(silent) = self.ledger.silent.get_mut(index)
                    && silent.members > 0
                {
                    silent.members -= 1;
                    silent.last_left = silent.last_left.max(leaver.told.unwrap_or_default());
                }
            }
            Hold::Boot | Hold::Unknown => {}
        }
    }

    /// A member is not followed any further: nothing can be said about the set's release.
    pub fn forget(&mut self, hold: Hold) {
        match hold {
            Hold::Set(id) => {
                if let Some(set) = self.sets.get_mut(id) {
                    set.verified = true;
                    set.untold = true;
                }
            }
            Hold::Silent(index) => {
                if let Some(silent) = self.ledger.silent.get_mut(index) {
                    silent.untold = true;
                }
            }
            Hold::Boot | Hold::Unknown => {}
        }
    }

    /// A member surely left while audit was off. If it was the last one, its release was not logged; whether it was is known when all have told.
    pub fn left_dark(&mut self, hold: Hold, item: &Item) {
        match hold {
            Hold::Set(id) => {
                if let Some(set) = self.sets.get_mut(id) {
                    set.last_dark = set.last_dark.max(Some(item.position));
                    if set.members == 1 {
                        set.left_dark = Some((item.position, item.fact.clone()));
                    }
                }
            }
            Hold::Silent(index) => {
                if let Some(silent) = self.ledger.silent.get_mut(index) {
                    silent.last_dark = silent.last_dark.max(Some(item.position));
                }
            }
            Hold::Boot | Hold::Unknown => {}
        }
    }

    /// Tasks that told their end and that nobody waits for: threads above all.
    pub fn leave_softly(&mut self, epoch: u64) {
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
            actor.left_softly = matches!(actor.hold, Hold::Set(_));
            let (hold, at) = (actor.hold, actor.ended_epoch);
            let leaver = Leaver { pid: actor.pid, tid: actor.tid, left: Left::Exit, told: None };
            if matches!(hold, Hold::Silent(_)) {
                // Audit may have been turned off or on between its last word and its end.
                self.forget(hold);
            }
            self.leave(hold, leaver, at);
        }
    }

    pub fn judge_sets(&mut self, epoch: u64, end: bool) {
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
            let all_had_left = |late: &&Late| set.soft == 0 && late.before >= set.last_left;
            if empty
                && released.is_some()
                && !set.is_excused()
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
                    if empty
                        && let Some((position, fact)) = set.left_dark.take()
                        && !set.reported
                    {
                        set.reported = true;
                        findings.push(
                            Finding::new(
                                Invariant::G9Silent,
                                "no record while audit is disabled",
                                format!("the release of {id:#x}, which was left then"),
                            )
                            .record(&set.definition.raw)
                            .record(&release.raw)
                            .fact(position, &fact)
                            .lineage(id, made, lineage),
                        );
                    }
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
                    if empty
                        && set.joined
                        && !set.is_excused()
                        && !set.reported
                        && !set.untold
                        && !set.release_matches()
                    {
                        let names = set.leavers.iter().any(|l| (l.pid, l.tid) == (release.pid, release.tid));
                        let invariant = if names { Invariant::G5Event } else { Invariant::G5By };
                        let leavers: Vec<String> = set.latest_leavers(4).iter().map(leaver).collect();
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
                    let wait = (set.soft > 0
                        && set.emptied.is_some_and(|emptied| emptied >= epoch.min(self.ledger.epoch)))
                        || (set.uring && !end);
                    if empty && set.joined && !set.reported && !set.is_excused() && !set.untold && !wait {
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
            self.part(id);
        }
    }
}

fn leaver(leaver: &Leaver) -> String {
    let how = match leaver.left {
        Left::Exit => "by exit",
        Left::Move(_) => "by a move",
    };
    format!("pid={} tid={} {how}", leaver.pid, leaver.tid)
}
