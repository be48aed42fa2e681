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

/// When an operation was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The auditnsid that it took, if the log tells.
    pub id: Option<u64>,
    /// Where the ledger tells of it.
    pub position: u64,
}

/// Who holds which (type, inum).
///
/// A join names a namespace that another actor made, and items of different actors come in any order. So the
/// incarnation is chosen by auditnsid, not by arrival: ids rise with the operations that take them
/// (CONTRACT.md G3), and what was joined was made by the newest operation before. Where the log does not tell an id (audit was off), the order of
/// the ledger has to do.
#[derive(Debug, Default)]
pub(super) struct Incarnations {
    slots: HashMap<(&'static str, u32), Slot>,
    serials: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// Incarnations, and when they were made.
    made: VecDeque<(Moment, Arc<Origin>)>,
    /// Joins that may still be bound to another one.
    joins: Vec<(Moment, Weak<Origin>)>,
}

impl Slot {
    /// The newest incarnation that was made before.
    fn newest_before(&self, at: Moment) -> Option<&Arc<Origin>> {
        let numbered = at.id.is_some() && self.made.iter().all(|(made, _)| made.id.is_some());
        let key = |moment: &Moment| if numbered { moment.id.unwrap_or_default() } else { moment.position };
        // The last of equal ones: then only the order of arrival is left.
        let before = self.made.iter().filter(|(made, _)| key(made) < key(&at));
        before.max_by_key(|(made, _)| key(made)).map(|(_, origin)| origin)
    }
}

impl Incarnations {
    /// A new origin.
    pub(super) fn origin(&mut self, kind: Kind) -> Arc<Origin> {
        self.serials += 1;
        Arc::new(Origin { serial: self.serials, kind, state: Mutex::default() })
    }

    /// `origin` holds (type, inum) from this operation on.
    pub(super) fn made(&mut self, type_name: &'static str, inum: u32, at: Moment, origin: &Arc<Origin>) {
        let slot = self.slots.entry((type_name, inum)).or_default();
        slot.made.push_back((at, Arc::clone(origin)));
        if slot.made.len() > REMEMBERED
            && let Some((oldest, _)) = slot.made.iter().enumerate().min_by_key(|(_, (made, _))| made.position)
        {
            slot.made.remove(oldest);
        }
        let joins = std::mem::take(&mut slot.joins);
        for (at, join) in joins {
            let Some(found) = join.upgrade() else { continue };
            if let Some(origin) = slot.newest_before(at) {
                found.state().same = Some(Arc::clone(origin));
            }
            slot.joins.push((at, join));
        }
    }

    /// The namespace that this operation found at (type, inum).
    pub(super) fn join(&mut self, type_name: &'static str, inum: u32, at: Moment) -> Arc<Origin> {
        let join = self.origin(Kind::Namespace(type_name));
        let slot = self.slots.entry((type_name, inum)).or_default();
        join.state().same = slot.newest_before(at).map(Arc::clone);
        slot.joins.retain(|(_, other)| other.strong_count() > 0);
        slot.joins.push((at, Arc::downgrade(&join)));
        join
    }

    /// No more items come: joins of what nobody in the ledger made (a bind mount, `open_tree` with a mount
    /// namespace) are one namespace for each (type, inum).
    pub(super) fn settle(&mut self) {
        for slot in self.slots.values_mut() {
            let mut first: Option<Arc<Origin>> = None;
            slot.joins.sort_by_key(|(at, _)| (at.id.unwrap_or(u64::MAX), at.position));
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

#[cfg(test)]
mod tests {
    use super::*;

    const NET: Kind = Kind::Namespace("net");

    fn at(id: Option<u64>, position: u64) -> Moment {
        Moment { id, position }
    }

    /// Whichever comes first, an incarnation or those who join it: each gets the newest one before it.
    #[test]
    fn a_join_finds_the_newest_incarnation_before_it_in_any_order() {
        for late in [false, true] {
            let mut all = Incarnations::default();
            let made: Vec<_> = (0..3).map(|_| all.origin(NET)).collect();
            // 0x2, one while audit is off, and 0x9, all with the same number one after the other.
            let moments = [at(Some(2), 10), at(None, 20), at(Some(9), 40)];
            let tell = |all: &mut Incarnations| {
                for (moment, origin) in moments.iter().zip(&made) {
                    all.made("net", 7, *moment, origin);
                }
            };
            if !late {
                tell(&mut all);
            }
            let asked = [at(None, 15), at(None, 30), at(Some(5), 35), at(Some(12), 50)];
            let joins: Vec<_> = asked.iter().map(|moment| all.join("net", 7, *moment)).collect();
            if late {
                tell(&mut all);
            }
            all.settle();
            let found: Vec<_> = joins.iter().map(|join| resolve(join).serial).collect();
            let expected = [0, 1, 1, 2].map(|index: usize| made[index].serial);
            assert_eq!(found, expected, "{late}");
        }
    }
}
