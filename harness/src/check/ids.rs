// SPDX-License-Identifier: MIT OR Apache-2.0
//! The 64-bit ids of namespaces (`nsid=`): an id stands for one namespace for good (CONTRACT.md, "Records").
//!
//! What the log alone shows: which type and inode number each id of a live set stands for. What only the kernel can
//! tell, whether the ids are the right ones, comes from the ledger.

use std::{
    collections::{VecDeque, hash_map::Entry},
    sync::Arc,
};

use nstrail_audit::{NsidOp, Op};
use nstrail_wire::namespace::{NamespaceEntry, NamespaceIds};

use super::{
    core::Core,
    hash::{Map, Set},
    invariant::Invariant,
    ledger::{Hold, Item},
    sets::{Definition, new_here},
};

/// Ids of namespaces without a live set that are remembered.
const PAST: usize = 4096;

/// A namespace that live sets list.
#[derive(Debug)]
struct Known {
    type_name: &'static str,
    inum: u32,
    /// Live sets that list it.
    holders: u32,
    /// The definition of the set that it was made for has been seen; before that it can have been joined (CONTRACT.md G4).
    made: bool,
}

/// All ids that live sets list, and the latest that none lists any more.
#[derive(Debug, Default)]
pub(super) struct Ids {
    known: Map<u64, Known>,
    past: Set<u64>,
    past_order: VecDeque<u64>,
}

impl Ids {
    /// Takes a definition, of a set made from one with the definition `old`. Gives what is wrong with its ids: what is
    /// expected, and what stands there.
    fn take(&mut self, op: &NsidOp, old: Option<&NsidOp>) -> Vec<(String, String)> {
        let Some(ids) = op.ns_ids else { return Vec::new() };
        let mut wrong = Vec::new();
        let mut listed: Vec<(&'static str, u32, u64)> = Vec::new();
        for ((entry, inum), id) in op.set.iter().zip(ids.0) {
            if inum == 0 || id == 0 {
                continue;
            }
            let type_name = entry.type_name();
            let here = format!("{entry}:{id} beside {entry}:{inum}");
            if let Some((_, _, other)) = listed.iter().find(|(t, i, _)| (*t, *i) == (type_name, inum)) {
                if *other != id {
                    wrong.push((format!("one id for {type_name}:{inum}: {other}"), here));
                }
                continue;
            }
            listed.push((type_name, inum, id));
            // The old set's namespaces live on during the operation: an equal number is the same namespace.
            if let Some(old) = old.filter(|old| old.set.get(entry) == inum)
                && let Some(before) = id_of(old, entry)
                && before != id
            {
                wrong.push((format!("{entry}:{before}, as in the set that was left"), here.clone()));
            }
            let new = |old: &NsidOp| op.op != Op::Setns && new_here(op, entry) && old.set.get(entry) != inum;
            let made = op.op == Op::Init || old.is_some_and(new);
            if made && self.past.contains(&id) {
                wrong.push((
                    format!("an id for the new {type_name} namespace that none had before"),
                    here.clone(),
                ));
            }
            match self.known.entry(id) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Known { type_name, inum, holders: 1, made });
                }
                Entry::Occupied(mut occupied) => {
                    let known = occupied.get_mut();
                    known.holders += 1;
                    if (known.type_name, known.inum) != (type_name, inum) {
                        wrong.push((
                            format!("{}:{}, for which {id} stands", known.type_name, known.inum),
                            here,
                        ));
                    } else if made && known.made {
                        wrong.push((format!("an id for the new {type_name} namespace that none has"), here));
                    }
                    known.made |= made;
                }
            }
        }
        wrong
    }

    /// The set of this definition is released.
    pub fn release(&mut self, op: &NsidOp) {
        let Some(ids) = op.ns_ids else { return };
        let mut listed: Vec<(&'static str, u32)> = Vec::new();
        for ((entry, inum), id) in op.set.iter().zip(ids.0) {
            if inum == 0 || id == 0 || listed.contains(&(entry.type_name(), inum)) {
                continue;
            }
            listed.push((entry.type_name(), inum));
            let Entry::Occupied(mut occupied) = self.known.entry(id) else { continue };
            occupied.get_mut().holders -= 1;
            if occupied.get().holders == 0 {
                let known = occupied.remove();
                if known.made && self.past.insert(id) {
                    self.past_order.push_back(id);
                }
                if self.past_order.len() > PAST
                    && let Some(oldest) = self.past_order.pop_front()
                {
                    self.past.remove(&oldest);
                }
            }
        }
    }
}

fn id_of(op: &NsidOp, entry: NamespaceEntry) -> Option<u64> {
    op.ns_ids.map(|ids| ids.0[entry as usize]).filter(|id| *id != 0)
}

impl Core {
    /// The ids of a definition against those before it.
    pub fn ids_of(&mut self, definition: &Arc<Definition>) {
        let old = self.sets.live(definition.op.old).map(|set| Arc::clone(&set.definition));
        let wrong = self.sets.ids.take(&definition.op, old.as_ref().map(|old| &old.op));
        for (expected, found) in wrong {
            let finding = self.about(Invariant::G2Ids, expected, found, definition);
            self.findings.push(finding.records(&old.as_ref().map(|old| Arc::clone(&old.raw))));
        }
    }

    /// The definition of a set, and its ids. That they are there at all is another invariant's business.
    fn ids_listed(&self, hold: Hold) -> Option<(Arc<Definition>, NamespaceIds)> {
        let definition = match hold {
            Hold::Boot => self.boot_set.as_ref(),
            Hold::Set(id) => self.sets.get(id).map(|set| &set.definition),
            Hold::Silent(_) | Hold::Unknown => None,
        }?;
        Some((Arc::clone(definition), definition.op.ns_ids?))
    }

    /// What the definition of a live task's set lists, the kernel must list as well (listns(2)). `unlisted`: those of the task's ids that it
    /// did not; 0 stands for none.
    pub fn check_listed(&mut self, hold: Hold, unlisted: &NamespaceIds, item: &Item) {
        let Some((definition, listed)) = self.ids_listed(hold) else { return };
        if let Some(id) = unlisted.0.iter().find(|id| **id != 0 && listed.0.contains(id)) {
            let (expected, found) = (format!("{id} among those of listns(2)"), format!("nsid={listed}"));
            let finding = self.about(Invariant::G2Ids, expected, found, &definition);
            self.findings.push(finding.fact(item.position, &item.fact));
        }
    }

    /// The ids that the kernel gave the task itself. 0 in them stands for an entry that cannot be opened; that a list
    /// has `?` for the right types is another invariant's business.
    pub fn check_ids(&mut self, hold: Hold, told: &NamespaceIds, item: &Item) {
        let Some((definition, listed)) = self.ids_listed(hold) else { return };
        if listed.0.iter().zip(&told.0).all(|(listed, told)| listed == told || *listed == 0 || *told == 0) {
            return;
        }
        let (expected, found) = (format!("nsid={told}"), format!("nsid={listed}"));
        let finding = self.about(Invariant::G2Ids, expected, found, &definition);
        self.findings.push(finding.fact(item.position, &item.fact));
    }
}
