// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identity without numbers: what an auditnsid or a namespace *is* in the canonical form.
//!
//! An [`Origin`] stands for one auditnsid, or for one incarnation of a namespace, from the operation that
//! made it on. Inode numbers are handed out again at once, to any type (proc_alloc_inum(), one IDA), so
//! (type, inum) says nothing by itself: [`Incarnations`] keeps who holds a pair at the moment.
//!
//! Two origins become one when the subtrees that made them are folded into one: the copy then points at
//! the one that is kept. Whoever asks goes through [`resolve`], so the moment of folding does not show.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::check::joined::ReleaseBy;

/// What an origin names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A namespace set, by its auditnsid.
    Set,
    /// An auditnsid that an event names and that no living task of the ledger has entered.
    StraySet,
    /// A namespace of this type (the name before `:[` in an nsfs link).
    Namespace(&'static str),
}

/// One auditnsid, or one incarnation of a namespace.
#[derive(Debug)]
pub(super) struct Origin {
    /// Unique in this process of canonicalizing; never shown.
    pub(super) serial: u64,
    pub(super) kind: Kind,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The origin that this one turned out to be.
    same: Option<Arc<Origin>>,
    /// Rank of `same` while a better one may still come (joins only).
    rank: u64,
    exits: u32,
    moves: u32,
}

impl Origin {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is `other`.
    pub(super) fn becomes(&self, other: &Arc<Self>) {
        if self.serial != other.serial {
            self.state().same = Some(Arc::clone(other));
        }
    }

    /// Counts a release of the set.
    pub(super) fn release(&self, how: ReleaseBy) {
        let mut state = self.state();
        match how {
            ReleaseBy::Exit => state.exits += 1,
            ReleaseBy::Move => state.moves += 1,
        }
    }

    /// Releases seen: by exit, by move.
    pub(super) fn releases(&self) -> (u32, u32) {
        let state = self.state();
        (state.exits, state.moves)
    }
}

/// The origin that `origin` turned out to be.
pub(super) fn resolve(origin: &Arc<Origin>) -> Arc<Origin> {
    let mut current = Arc::clone(origin);
    loop {
        let next = current.state().same.clone();
        match next {
            Some(same) => current = same,
            None => return current,
        }
    }
}

/// Incarnations of a (type, inum) to remember. A join is bound when it comes, and bound again if an
/// incarnation made before it comes late; older ones than these cannot be meant any more.
const REMEMBERED: usize = 16;

/// Who holds which (type, inum).
///
/// A join names a namespace that another actor made, and items of different actors come in any order. So the
/// incarnation is chosen by auditnsid, not by arrival: ids rise with the operations that take them
/// (CONTRACT.md G3), and what `at` joins was made by the newest operation before it.
#[derive(Debug, Default)]
pub(super) struct Incarnations {
    slots: HashMap<(&'static str, u32), Slot>,
    serials: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// Rank (auditnsid of the making operation, 0 if the log does not tell) and incarnation.
    made: VecDeque<(u64, Arc<Origin>)>,
    /// Joins that may still be bound to another one.
    joins: Vec<(u64, Weak<Origin>)>,
}

impl Incarnations {
    /// A new origin.
    pub(super) fn origin(&mut self, kind: Kind) -> Arc<Origin> {
        self.serials += 1;
        Arc::new(Origin { serial: self.serials, kind, state: Mutex::default() })
    }

    /// `origin` holds (type, inum) from the operation `rank` on.
    pub(super) fn made(&mut self, type_name: &'static str, inum: u32, rank: u64, origin: &Arc<Origin>) {
        let slot = self.slots.entry((type_name, inum)).or_default();
        slot.made.push_back((rank, Arc::clone(origin)));
        if slot.made.len() > REMEMBERED {
            slot.made.pop_front();
        }
        slot.joins.retain(|(at, join)| {
            let Some(join) = join.upgrade() else { return false };
            let mut state = join.state();
            if rank < *at && (state.same.is_none() || rank > state.rank) {
                state.same = Some(Arc::clone(origin));
                state.rank = rank;
            }
            true
        });
    }

    /// The namespace that the operation `at` found at (type, inum).
    pub(super) fn join(&mut self, type_name: &'static str, inum: u32, at: u64) -> Arc<Origin> {
        let join = self.origin(Kind::Namespace(type_name));
        let slot = self.slots.entry((type_name, inum)).or_default();
        // The last of equal ranks: without ids only the order of arrival is left.
        let best = slot.made.iter().filter(|(rank, _)| *rank < at).max_by_key(|(rank, _)| *rank);
        if let Some((rank, origin)) = best {
            let mut state = join.state();
            state.same = Some(Arc::clone(origin));
            state.rank = *rank;
        }
        slot.joins.retain(|(_, other)| other.strong_count() > 0);
        slot.joins.push((at, Arc::downgrade(&join)));
        join
    }

    /// No more items come: joins of what nobody in the ledger made (a bind mount, `open_tree` with a mount
    /// namespace) are one namespace for each (type, inum).
    pub(super) fn settle(&mut self) {
        for slot in self.slots.values_mut() {
            let mut first: Option<Arc<Origin>> = None;
            slot.joins.sort_by_key(|(at, _)| *at);
            for join in slot.joins.drain(..).filter_map(|(_, join)| join.upgrade()) {
                if join.state().same.is_some() {
                    continue;
                }
                match &first {
                    Some(first) => join.becomes(first),
                    None => first = Some(join),
                }
            }
        }
    }
}
