// SPDX-License-Identifier: MIT OR Apache-2.0
//! The auditnsid model: live sets, their definitions and their lineage, from the log alone.
//!
//! This is what a container logging daemon would keep (CONTRACT.md, "The strawman"): feed it the records in
//! the order of the queue, and ask which set an auditnsid names and where it comes from. Memory grows
//! with live sets only: a released set is dropped, and what its children need of it, the lineage, they hold.

use std::collections::HashMap;

use nstrail_wire::namespace::{NamespaceEntry, NamespaceSet};

use crate::{
    holes::Holes,
    nsid::{NsidOp, Op},
};

/// The auditnsid of the set that every task has at boot.
pub const BOOT: u64 = 1;
/// Ancestors that a set remembers; of a longer chain the oldest are forgotten (and [`Lineage::forgotten`] counts them).
pub const MAX_LINEAGE: usize = 24;

/// A step from one set to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    pub id: u64,
    /// How it was made; `None` if its definition was never seen.
    pub made: Option<(Op, u64)>,
}

/// The chain of sets from which a set was made, nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    pub ancestors: Vec<Ancestor>,
    /// Ancestors beyond [`MAX_LINEAGE`].
    pub forgotten: u64,
}

/// A live set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSet {
    pub set: NamespaceSet,
    /// How it was made (`flags` are `CLONE_NEW*` bits).
    pub op: Op,
    pub flags: u64,
    /// Position of its definition in the log.
    pub position: u64,
    pub lineage: Lineage,
}

/// What a record says against those before it (a violation, or a loss).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A second definition of an id, or an id at or below the highest that was no hole.
    Redefined(u64),
    /// `old-auditnsid` names a set that is not live.
    OldNotLive(u64),
    /// A release of a set that is not live.
    ReleaseNotLive(u64),
}

/// Sets as the log tells of them.
#[derive(Debug, Default)]
pub struct Model {
    live: HashMap<u64, LiveSet>,
    /// Ids may stand out of order: those jumped over are holes until their definitions come.
    holes: Holes,
}

impl Model {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a 1340 record that stands at `position`.
    ///
    /// # Errors
    /// What the record says against those before it; it is taken all the same where that makes sense.
    pub fn apply(&mut self, op: &NsidOp, position: u64) -> Result<(), Fault> {
        if op.op == Op::Release {
            return self.live.remove(&op.id).map(|_| ()).ok_or(Fault::ReleaseNotLive(op.id));
        }
        if !self.holes.take(op.id) {
            return Err(Fault::Redefined(op.id));
        }
        let lineage = if op.op == Op::Init { Lineage::default() } else { self.lineage_from(op.old) };
        let known = op.op == Op::Init || self.live.contains_key(&op.old);
        self.live.insert(op.id, LiveSet { set: op.set, op: op.op, flags: op.flags, position, lineage });
        if known { Ok(()) } else { Err(Fault::OldNotLive(op.old)) }
    }

    /// The lineage of a set that is made from `old`: `old` itself, then its ancestors.
    #[must_use]
    pub fn lineage_from(&self, old: u64) -> Lineage {
        let Some(set) = self.live.get(&old) else {
            return Lineage { ancestors: vec![Ancestor { id: old, made: None }], forgotten: 0 };
        };
        let mut lineage = Lineage {
            ancestors: Vec::with_capacity((set.lineage.ancestors.len() + 1).min(MAX_LINEAGE)),
            forgotten: set.lineage.forgotten,
        };
        lineage.ancestors.push(Ancestor { id: old, made: Some((set.op, set.flags)) });
        let kept = set.lineage.ancestors.len().min(MAX_LINEAGE - 1);
        lineage.ancestors.extend_from_slice(&set.lineage.ancestors[..kept]);
        lineage.forgotten += (set.lineage.ancestors.len() - kept) as u64;
        lineage
    }

    /// The live set of an id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&LiveSet> {
        self.live.get(&id)
    }

    /// Ids of the live sets that list this namespace in this entry, the lowest first.
    #[must_use]
    pub fn holding(&self, entry: NamespaceEntry, inum: u32) -> Vec<u64> {
        let holds = |(id, live): (&u64, &LiveSet)| (live.set.get(entry) == inum).then_some(*id);
        let mut ids: Vec<u64> = self.live.iter().filter_map(holds).collect();
        ids.sort_unstable();
        ids
    }

    /// Number of live sets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no set is live: nothing was defined yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The highest id defined.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.holes.highest()
    }

    /// Ids below the highest that were never defined.
    #[must_use]
    pub const fn holes(&self) -> &Holes {
        &self.holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(op: Op, old: u64, id: u64) -> NsidOp {
        NsidOp { op, pid: 1, tid: 1, opid: 1, flags: 0, old, id, set: NamespaceSet::default(), ns_ids: None }
    }

    #[test]
    fn a_set_keeps_the_chain_of_sets_that_are_gone() {
        let mut model = Model::new();
        model.apply(&op(Op::Init, 0, 1), 0).unwrap();
        model.apply(&op(Op::Clone, 1, 2), 1).unwrap();
        model.apply(&op(Op::Unshare, 2, 3), 2).unwrap();
        model.apply(&op(Op::Release, 0, 2), 3).unwrap();
        let chain: Vec<_> = model.get(3).unwrap().lineage.ancestors.iter().map(|a| a.id).collect();
        assert_eq!(chain, [2, 1]);
        assert_eq!(model.len(), 2);
    }

    #[test]
    fn a_chain_of_any_length_costs_the_same() {
        let mut model = Model::new();
        model.apply(&op(Op::Init, 0, 1), 0).unwrap();
        for id in 2..1000 {
            model.apply(&op(Op::Unshare, id - 1, id), id).unwrap();
            if id > 2 {
                model.apply(&op(Op::Release, 0, id - 1), id).unwrap();
            }
        }
        let lineage = &model.get(999).unwrap().lineage;
        assert_eq!(lineage.ancestors.len(), MAX_LINEAGE);
        assert_eq!(lineage.forgotten as usize + MAX_LINEAGE, 998);
    }

    #[test]
    fn jumps_cost_nothing_however_far_they_are() {
        let mut model = Model::new();
        model.apply(&op(Op::Init, 0, 1), 0).unwrap();
        for jump in 1..5000 {
            model.apply(&op(Op::Clone, 1, jump << 40), jump).unwrap();
        }
        assert_eq!(model.holes().ranges().count(), 4999);
        assert_eq!(model.holes().count() + 5000, model.highest());
        assert!(model.holes().contains(2) && !model.holes().contains(1 << 40));
    }

    #[test]
    fn disorder_is_no_fault_and_reuse_is_one() {
        let mut model = Model::new();
        model.apply(&op(Op::Init, 0, 1), 0).unwrap();
        model.apply(&op(Op::Clone, 1, 3), 1).unwrap();
        assert_eq!(model.holes().ranges().collect::<Vec<_>>(), [(2, 2)]);
        model.apply(&op(Op::Clone, 1, 2), 2).unwrap();
        assert_eq!(model.holes().count(), 0);
        model.apply(&op(Op::Release, 0, 2), 3).unwrap();
        assert_eq!(model.apply(&op(Op::Clone, 1, 2), 4), Err(Fault::Redefined(2)));
        assert_eq!(model.apply(&op(Op::Release, 0, 2), 5), Err(Fault::ReleaseNotLive(2)));
        assert_eq!(model.apply(&op(Op::Clone, 9, 4), 6), Err(Fault::OldNotLive(9)));
    }
}
