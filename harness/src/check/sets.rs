// SPDX-License-Identifier: MIT OR Apache-2.0
//! Namespace sets that have an auditnsid: what the log and the ledger know of each.
//!
//! An entry comes with its definition and goes when both sides have done with it: released in the log, and
//! left by the last member in the ledger. So the table grows with live containers, and with how far one
//! stream is ahead of the other.

use std::{collections::VecDeque, sync::Arc};

use nstrail_audit::{NsidOp, Op, Stamp, model::Lineage};
use nstrail_wire::{
    fact::Fact,
    namespace::{NamespaceSet, NamespaceType},
};

use super::{finding::Raw, hash::Map, ids::Ids, joined::ReleaseBy};

/// A definition as it stands in the log.
#[derive(Debug)]
pub(super) struct Definition {
    pub op: NsidOp,
    pub stamp: Stamp,
    pub epoch: u64,
    pub raw: Arc<Raw>,
    pub lineage: Lineage,
}

impl Definition {
    pub fn position(&self) -> u64 {
        self.raw.position
    }
}

/// A release as it stands in the log.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub pid: u32,
    pub tid: u32,
    pub stamp: Stamp,
    pub epoch: u64,
    pub by: ReleaseBy,
    pub raw: Arc<Raw>,
}

/// How a member left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Exit,
    Move(Stamp),
}

/// A member that left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaver {
    pub pid: u32,
    pub tid: u32,
    pub left: Left,
    /// Position in the ledger of the word that tells so; nobody has told when a soft leaver is gone.
    pub told: Option<u64>,
}

impl Leaver {
    fn same_way(&self, other: &Self) -> bool {
        (self.pid, self.tid, self.left) == (other.pid, other.tid, other.left)
    }

    /// The order of the ledger, which does not depend on the order in which the facts are judged.
    fn order(&self) -> (u64, u32, u32) {
        (self.told.unwrap_or(u64::MAX), self.pid, self.tid)
    }
}

/// A record of one who has waited for a member, ahead of the set's release: a violation if all members had left
/// by then.
#[derive(Clone, Debug)]
pub(super) struct Late {
    pub epoch: u64,
    /// Position in the ledger of the task's word before it caused the record.
    pub before: u64,
    /// Position of the record.
    pub record: u64,
    pub position: u64,
    pub fact: Fact,
}

/// Of these the latest are kept.
const LATE: usize = 4;

/// Leavers remembered of one set: any of them may turn out to be the one that released it.
const LEAVERS: usize = 256;

/// One set.
#[derive(Debug)]
pub(super) struct Set {
    pub definition: Arc<Definition>,
    pub release: Option<Release>,
    /// A later definition has one of its inode numbers as a new one (CONTRACT.md G5).
    pub reappeared: Option<Arc<Definition>>,
    /// Whether the ledger knows a task that moved here.
    pub joined: bool,
    /// Members by the ledger.
    pub members: u32,
    pub leavers: Vec<Leaver>,
    pub leavers_cut: bool,
    /// Ledger epoch in which the last member left.
    pub emptied: Option<u64>,
    /// Those who told their end, but for whom nobody has waited (threads, say): a release by one of them may take
    /// a moment longer than its words.
    pub soft: u32,
    /// A member was killed in the middle of something that it could not tell any more.
    pub untold: bool,
    /// A member used io_uring: a worker of the same process may hold the set longer.
    pub uring: bool,
    /// What was reported already.
    pub reported: bool,
    /// Nothing is to be said about who released it.
    pub verified: bool,
    /// The word of the last member, if it left while audit was off: its release must not be in the log.
    pub left_dark: Option<(u64, Fact)>,
    /// Who still has something to say about it.
    pub pins: u32,
    /// Position in the ledger of the last word that a member has left.
    pub last_left: u64,
    /// The same of those that surely left while audit was off: if nobody left later, the release was not logged.
    pub last_dark: Option<u64>,
    /// Records that one who waited for a member caused afterwards, with no release before them.
    pub late: Vec<Late>,
    /// The first word of a member in an epoch behind the release.
    pub alive: Option<(u64, Fact)>,
}

impl Set {
    fn new(definition: Arc<Definition>) -> Self {
        Self {
            definition,
            release: None,
            reappeared: None,
            joined: false,
            members: 0,
            leavers: Vec::new(),
            leavers_cut: false,
            emptied: None,
            soft: 0,
            untold: false,
            uring: false,
            reported: false,
            verified: false,
            left_dark: None,
            pins: 0,
            last_left: 0,
            last_dark: None,
            late: Vec::new(),
            alive: None,
        }
    }

    /// A member leaves.
    pub fn leave(&mut self, leaver: Leaver, epoch: u64) {
        match leaver.told {
            Some(told) => self.last_left = self.last_left.max(told),
            None => self.soft += 1,
        }
        self.members = self.members.saturating_sub(1);
        self.remember(leaver);
        if self.members == 0 {
            self.emptied = Some(epoch);
        }
    }

    /// Somebody has waited for a soft leaver: that it is gone is certain now.
    pub fn confirm(&mut self, told: u64) {
        self.soft = self.soft.saturating_sub(1);
        self.last_left = self.last_left.max(told);
    }

    /// A task that may turn out to be the one that released the set.
    pub fn remember(&mut self, leaver: Leaver) {
        if let Some(known) = self.leavers.iter_mut().find(|known| known.same_way(&leaver)) {
            known.told = known.told.max(leaver.told);
            return;
        }
        if self.leavers.len() == LEAVERS {
            self.leavers.remove(0);
            self.leavers_cut = true;
        }
        self.leavers.push(leaver);
    }

    /// The latest leavers, in the order of the ledger.
    pub fn latest_leavers(&self, count: usize) -> Vec<Leaver> {
        let mut leavers = self.leavers.clone();
        leavers.sort_by_key(Leaver::order);
        leavers.split_off(leavers.len().saturating_sub(count))
    }

    pub fn add_late(&mut self, late: Late) {
        self.late.push(late);
        self.late.sort_by_key(|late| (late.before, late.record, late.position));
        if self.late.len() > LATE {
            self.late.remove(0);
        }
    }

    pub fn enter(&mut self) {
        self.members += 1;
        self.emptied = None;
        self.left_dark = None;
    }

    /// Whether nothing is to be said about who released it, or whether it had to be.
    pub fn is_excused(&self) -> bool {
        self.verified || self.last_dark.is_some_and(|dark| self.soft > 0 || dark >= self.last_left)
    }

    /// Whether the release names one of those who left.
    pub fn release_matches(&self) -> bool {
        let Some(release) = &self.release else { return false };
        self.leavers_cut
            || self.leavers.iter().any(|leaver| {
                let task = leaver.pid == release.pid && leaver.tid == release.tid;
                let way = match (leaver.left, release.by) {
                    (Left::Exit, ReleaseBy::Exit) => true,
                    (Left::Move(stamp), ReleaseBy::Move) => stamp == release.stamp,
                    _ => false,
                };
                // The worker of an io_uring has a tid that the ledger cannot know.
                let worker = self.uring && leaver.pid == release.pid && release.by == ReleaseBy::Exit;
                (task && way) || worker
            })
    }
}

/// A namespace that some live set holds, by one of its numbers' incarnations.
#[derive(Debug, Default)]
struct Incarnation {
    holders: Vec<u64>,
    /// It was first seen in a set that no clone or unshare of this type made: a setns into a child
    /// whose definition is still to come (CONTRACT.md G4), or into a namespace that something else pinned.
    joined: bool,
}

/// All sets that are not done with.
#[derive(Debug, Default)]
pub(super) struct Sets {
    map: Map<u64, Set>,
    pub ids: Ids,
    boot: NamespaceSet,
    incarnations: Map<(&'static str, u32), Incarnation>,
    /// Sets released last, in the order of the log: what the log's side needs to know of them does not depend
    /// on when the ledger's side has done with them.
    gone: Map<u64, Gone>,
    gone_order: VecDeque<u64>,
}

/// A released set, as the log tells of it.
#[derive(Debug)]
pub(super) struct Gone {
    pub definition: Arc<Definition>,
    pub release: Arc<Raw>,
    pub reappeared: Option<Arc<Definition>>,
}

/// Released sets that are remembered; above the window in which events stay open.
const GONE: usize = 4096;

impl Sets {
    pub fn get(&self, id: u64) -> Option<&Set> {
        self.map.get(&id)
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut Set> {
        self.map.get_mut(&id)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Set)> {
        self.map.iter_mut().map(|(id, set)| (*id, set))
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The set of exactly this definition: an id that is defined twice has no second entry.
    pub fn defined_by(&mut self, definition: &Arc<Definition>) -> Option<&mut Set> {
        self.map.get_mut(&definition.op.id).filter(|set| Arc::ptr_eq(&set.definition, definition))
    }

    /// A set that is defined and not released.
    pub fn live(&self, id: u64) -> Option<&Set> {
        self.map.get(&id).filter(|set| set.release.is_none())
    }

    /// A set that was released not long ago.
    pub fn gone(&self, id: u64) -> Option<&Gone> {
        self.gone.get(&id)
    }

    /// Takes the release of a live set.
    pub fn release(&mut self, id: u64, release: Release) {
        let Some(set) = self.map.get_mut(&id) else { return };
        let gone = Gone {
            definition: Arc::clone(&set.definition),
            release: Arc::clone(&release.raw),
            reappeared: set.reappeared.clone(),
        };
        set.release = Some(release);
        self.ids.release(&set.definition.op);
        self.forget_numbers(id);
        if self.gone.insert(id, gone).is_none() {
            self.gone_order.push_back(id);
        }
        if self.gone_order.len() > GONE
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    /// Live sets, as the log tells of them, that list this network namespace.
    pub fn in_net(&self, inum: u32) -> Vec<u64> {
        use nstrail_wire::namespace::NamespaceEntry;
        let mut ids = match self.incarnations.get(&(NamespaceEntry::Net.type_name(), inum)) {
            Some(incarnation) => incarnation.holders.clone(),
            None if inum == self.boot.get(NamespaceEntry::Net) => {
                let there = |set: &Set| {
                    set.release.is_none() && set.definition.op.set.get(NamespaceEntry::Net) == inum
                };
                self.map.iter().filter(|(_, set)| there(set)).map(|(id, _)| *id).collect()
            }
            None => Vec::new(),
        };
        ids.sort_unstable();
        ids
    }

    /// Lineage of a set made from `old`.
    pub fn lineage_from(&self, old: u64) -> Lineage {
        use nstrail_audit::model::{Ancestor, MAX_LINEAGE};
        let Some(set) = self.live(old) else {
            return Lineage { ancestors: vec![Ancestor { id: old, made: None }], forgotten: 0 };
        };
        let definition = &set.definition;
        let from = &definition.lineage;
        let kept = from.ancestors.len().min(MAX_LINEAGE - 1);
        let mut ancestors = Vec::with_capacity(kept + 1);
        ancestors.push(Ancestor { id: old, made: Some((definition.op.op, definition.op.flags)) });
        ancestors.extend_from_slice(&from.ancestors[..kept]);
        Lineage { ancestors, forgotten: from.forgotten + (from.ancestors.len() - kept) as u64 }
    }

    /// Adds a set. Gives the live sets one of whose inode numbers the definition claims as a new one.
    pub fn define(&mut self, definition: Arc<Definition>) -> Vec<u64> {
        let id = definition.op.id;
        let mut reappeared = Vec::new();
        if definition.op.op == Op::Init {
            self.boot = definition.op.set;
        } else {
            for (entry, inum) in definition.op.set.iter() {
                if inum == 0 || inum == self.boot.get(entry) {
                    continue;
                }
                let new = definition.op.op != Op::Setns && new_here(&definition.op, entry);
                let joined = definition.op.op == Op::Setns || !new;
                match self.incarnations.entry((entry.type_name(), inum)) {
                    std::collections::hash_map::Entry::Vacant(vacant) => {
                        vacant.insert(Incarnation { holders: vec![id], joined });
                    }
                    std::collections::hash_map::Entry::Occupied(mut occupied) => {
                        let incarnation = occupied.get_mut();
                        if incarnation.holders.contains(&id) {
                            continue;
                        }
                        if new && incarnation.joined {
                            incarnation.joined = false;
                        } else if new {
                            reappeared.append(&mut incarnation.holders);
                        }
                        incarnation.holders.push(id);
                    }
                }
            }
            reappeared.sort_unstable();
            reappeared.dedup();
            for holder in &reappeared {
                if let Some(set) = self.map.get_mut(holder) {
                    set.reappeared.get_or_insert_with(|| Arc::clone(&definition));
                }
            }
        }
        self.map.insert(id, Set::new(definition));
        reappeared
    }

    /// The set's namespaces have no claim on their numbers any more.
    fn forget_numbers(&mut self, id: u64) {
        let Some(set) = self.map.get(&id) else { return };
        for (entry, inum) in set.definition.op.set.iter() {
            let key = (entry.type_name(), inum);
            if let Some(incarnation) = self.incarnations.get_mut(&key) {
                incarnation.holders.retain(|holder| *holder != id);
                if incarnation.holders.is_empty() {
                    self.incarnations.remove(&key);
                }
            }
        }
    }

    pub fn drop_set(&mut self, id: u64) -> Option<Set> {
        self.map.remove(&id)
    }
}

/// Whether an operation made this namespace: the type was asked for, and shows in this entry.
pub(super) fn new_here(op: &NsidOp, entry: nstrail_wire::namespace::NamespaceEntry) -> bool {
    use nstrail_wire::namespace::NamespaceEntry as Entry;
    let asked = |kind: NamespaceType| op.flags & kind.flag() != 0;
    match entry {
        Entry::Cgroup => asked(NamespaceType::Cgroup),
        Entry::Ipc => asked(NamespaceType::Ipc),
        Entry::Mnt => asked(NamespaceType::Mnt),
        Entry::Net => asked(NamespaceType::Net),
        // unshare makes a pid or time namespace for the children only
        Entry::Pid => op.op == Op::Clone && asked(NamespaceType::Pid),
        Entry::Time => op.op == Op::Clone && asked(NamespaceType::Time),
        Entry::PidForChildren => asked(NamespaceType::Pid),
        Entry::TimeForChildren => asked(NamespaceType::Time),
        Entry::User => asked(NamespaceType::User),
        Entry::Uts => asked(NamespaceType::Uts),
    }
}
