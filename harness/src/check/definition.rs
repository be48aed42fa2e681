// SPDX-License-Identifier: MIT OR Apache-2.0
//! Definitions against what the ledger knows of the call, and the set of every task against its definition
//! (CONTRACT.md G1, G2, G6).

use std::sync::Arc;

use nstrail_audit::{FlagNames, Op, model::BOOT};
use nstrail_wire::{
    fact::{Act, ActorId, Call, Fact},
    namespace::{NamespaceEntry, NamespaceSet, NamespaceType},
};

use super::{
    core::Core,
    finding::Finding,
    invariant::Invariant,
    ledger::{Awaited, Hold, Item},
    pairing::same_set,
    sets::{Definition, Leaver, Left},
};

impl Core {
    /// A task of a set holds the set.
    pub fn check_set(&mut self, hold: Hold, census: &NamespaceSet, item: &Item, when: &str) {
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
    pub fn check_first_born(
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
    pub fn check_definition(
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

    pub fn missing(&mut self, item: &Item, hold: Hold) {
        let finding =
            Finding::new(Invariant::G2Missing, format!("a definition with opid={}", item.fact.tid), "none")
                .fact(item.position, &item.fact);
        let finding = self.with_lineage(finding, hold);
        self.findings.push(finding);
    }

    /// Definitions that no move took.
    pub fn explain_leftovers(&mut self, epoch: u64) {
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

    /// A task that was killed may have moved, or made a task, without being able to tell.
    pub fn excuse(&mut self, definition: &Arc<Definition>, epoch: u64) -> bool {
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
                let may_have_made = op.op != Op::Clone || !actor.childless;
                let same = actor.tid == op.tid && actor.pid == op.pid;
                actor.is_gone(epoch) && !actor.ended && same && may_have_made
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
                    let left = Left::Move(definition.stamp);
                    set.remember(Leaver { pid: op.pid, tid: op.tid, left, told: None });
                }
            }
            return true;
        }
        false
    }

    pub fn unexplained(&mut self, definition: &Arc<Definition>) {
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
                    && matches!(
                        &fact.act,
                        Act::Operation { call: failed, .. } | Act::Childless { call: failed, .. }
                            if call.contains(failed)
                    )
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
}
