// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which namespaces a task is in: ten entries with their identities, and how an operation changes them.
//!
//! The ledger's inums decide what changed; flags decide whether a changed entry is new or was joined. An entry
//! that the ledger could not read (`pid_for_children` before the first birth) is taken from the log's list.

use std::sync::Arc;

use nstrail_wire::namespace::{NamespaceEntry, NamespaceSet, NamespaceType};

use super::line::Line;
use super::origin::{Incarnations, Kind, Moment, Origin};
use nstrail_audit::NsidOp;

/// A namespace that a task is in.
#[derive(Clone, Debug)]
struct Held {
    /// `None` while nobody could read it.
    inum: Option<u32>,
    origin: Arc<Origin>,
}

/// The namespaces of a task, and its auditnsid.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    entries: [Option<Held>; 10],
    /// The auditnsid's number, if the log defined it, and what it names.
    id: Option<u64>,
    set: Arc<Origin>,
}

/// How an operation changes a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// These flags make new namespaces for a child.
    Birth(u64),
    /// These flags make new namespaces for the caller; `CLONE_NEWPID` and `CLONE_NEWTIME` for its children only.
    Unshare(u64),
    /// These types are joined (0 for an implicit move).
    Join(u64),
}

impl Way {
    const fn flags(self) -> u64 {
        match self {
            Self::Birth(flags) | Self::Unshare(flags) | Self::Join(flags) => flags,
        }
    }
}

/// An operation's result: the new membership, and what to say of it.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) membership: Membership,
    /// `uts:n2 net:n3`, what was made marked as such.
    pub(super) namespaces: Line,
    pub(super) changed: bool,
}

impl Membership {
    /// The set that the run begins with: auditnsid 1.
    pub(super) fn boot(set: &NamespaceSet, incarnations: &mut Incarnations) -> (Self, Line) {
        let mut line = Line::default();
        let id = incarnations.origin(Kind::Set);
        line.make(&id).text(" boot:");
        let mut entries: [Option<Held>; 10] = Default::default();
        for (entry, inum) in set.iter().filter(|(_, inum)| *inum != 0) {
            let twin = twin(entry).and_then(|twin| entries[twin as usize].clone());
            let held = match twin {
                Some(twin) if twin.inum == Some(inum) => twin,
                _ => {
                    let origin = incarnations.origin(Kind::Namespace(entry.type_name()));
                    incarnations.made(entry.type_name(), inum, Moment { id: Some(1), position: 0 }, &origin);
                    line.text(format!(" {entry}:")).make(&origin);
                    Held { inum: Some(inum), origin }
                }
            };
            entries[entry as usize] = Some(held);
        }
        (Self { entries, id: Some(1), set: id }, line)
    }

    /// A set of which nothing is known.
    pub(super) fn unknown(incarnations: &mut Incarnations) -> Self {
        Self { entries: Default::default(), id: None, set: incarnations.origin(Kind::StraySet) }
    }

    pub(super) const fn set(&self) -> &Arc<Origin> {
        &self.set
    }

    /// The set's auditnsid.
    pub(super) const fn id(&self) -> Option<u64> {
        self.id
    }

    /// Enters a set that the log defines.
    pub(super) fn enter(&mut self, id: u64, set: &Arc<Origin>) {
        self.id = Some(id);
        self.set = Arc::clone(set);
    }

    /// The network namespace, if it has this inum.
    pub(super) fn netns(&self, inum: u32) -> Option<&Arc<Origin>> {
        let held = self.entries[NamespaceEntry::Net as usize].as_ref()?;
        (held.inum == Some(inum)).then_some(&held.origin)
    }

    /// Entries in which `seen` is not this membership; what could not be read agrees with everything.
    pub(super) fn differing(&self, seen: &NamespaceSet) -> Vec<NamespaceEntry> {
        seen.iter()
            .filter(|(entry, inum)| {
                let held = self.entries[*entry as usize].as_ref();
                *inum != 0 && held.is_none_or(|held| held.inum.is_some_and(|held| held != *inum))
            })
            .map(|(entry, _)| entry)
            .collect()
    }

    /// The membership after an operation after which the ledger read `seen`.
    ///
    /// `position` is that of the ledger's word: with the auditnsid that the operation took it is the moment in which joined inums are to be understood.
    pub(super) fn moved(
        &self,
        way: Way,
        seen: &NamespaceSet,
        definition: Option<&NsidOp>,
        position: u64,
        incarnations: &mut Incarnations,
    ) -> Moved {
        let at = Moment { id: definition.map(|definition| definition.id), position };
        let mut after = Self { entries: Default::default(), id: self.id, set: Arc::clone(&self.set) };
        let mut made: [bool; 10] = [false; 10];
        for (entry, inum) in seen.iter() {
            let inum = [inum, definition.map_or(0, |definition| definition.set.get(entry))]
                .into_iter()
                .find(|inum| *inum != 0);
            let held = self.entries[entry as usize].as_ref();
            let flagged = flag(entry) & way.flags() != 0;
            let new = match way {
                Way::Birth(_) => flagged,
                Way::Unshare(_) => flagged && !matches!(entry, NamespaceEntry::Pid | NamespaceEntry::Time),
                Way::Join(_) => false,
            };
            let next = match (inum, held) {
                (Some(inum), Some(held)) if held.inum == Some(inum) => Some(held.clone()),
                (Some(inum), Some(held)) if held.inum.is_none() && !new => {
                    incarnations.made(entry.type_name(), inum, at, &held.origin);
                    Some(Held { inum: Some(inum), origin: Arc::clone(&held.origin) })
                }
                (None, _) if !new => held.cloned(),
                (inum, _) => {
                    // The two entries of pid and of time are one namespace if they have one inum: in a child
                    // that was born into a new or a pending one.
                    let born = twin(entry).and_then(|twin| after.entries[twin as usize].as_ref());
                    let pending = pending(entry).and_then(|entry| self.entries[entry as usize].as_ref());
                    if let Some(born) = born.filter(|born| inum.is_some() && born.inum == inum) {
                        Some(born.clone())
                    } else if new {
                        made[entry as usize] = true;
                        let origin = incarnations.origin(Kind::Namespace(entry.type_name()));
                        if let Some(inum) = inum {
                            incarnations.made(entry.type_name(), inum, at, &origin);
                        }
                        Some(Held { inum, origin })
                    } else if let Some(pending) =
                        pending.filter(|pending| pending.inum.is_none() || pending.inum == inum)
                    {
                        Some(Held { inum, origin: Arc::clone(&pending.origin) })
                    } else {
                        inum.map(|number| Held {
                            inum,
                            origin: incarnations.join(entry.type_name(), number, at),
                        })
                    }
                }
            };
            after.entries[entry as usize] = next;
        }
        let changed = NamespaceEntry::ALL.iter().any(|entry| !after.same(self, *entry));
        let namespaces = after.describe(self, way.flags(), made);
        Moved { membership: after, namespaces, changed }
    }

    fn same(&self, other: &Self, entry: NamespaceEntry) -> bool {
        match (&self.entries[entry as usize], &other.entries[entry as usize]) {
            (Some(a), Some(b)) => a.origin.serial == b.origin.serial,
            (None, None) => true,
            _ => false,
        }
    }

    /// Entries that differ from `before` or that the call names.
    fn describe(&self, before: &Self, flags: u64, made: [bool; 10]) -> Line {
        let mut line = Line::default();
        let shown = |entry: NamespaceEntry| !self.same(before, entry) || flags & flag(entry) != 0;
        for entry in NamespaceEntry::ALL {
            let other = twin(entry).or_else(|| pending(entry));
            if !shown(entry) && !other.is_some_and(shown) {
                continue;
            }
            let Some(held) = &self.entries[entry as usize] else {
                line.text(format!(" {entry}:?"));
                continue;
            };
            // `pid:n2` alone means that the entry for children is n2 too.
            if let Some(twin) = twin(entry)
                && let Some(own) = &self.entries[twin as usize]
                && own.origin.serial == held.origin.serial
            {
                continue;
            }
            line.text(format!(" {entry}:"));
            if made[entry as usize] {
                line.make(&held.origin)
            } else {
                line.name(&held.origin)
            };
        }
        line
    }
}

/// The flag that names an entry's type.
fn flag(entry: NamespaceEntry) -> u64 {
    NamespaceType::ALL
        .into_iter()
        .find(|kind| kind.entry().type_name() == entry.type_name())
        .map_or(0, NamespaceType::flag)
}

/// For an entry for children, that of the task itself.
const fn twin(entry: NamespaceEntry) -> Option<NamespaceEntry> {
    match entry {
        NamespaceEntry::PidForChildren => Some(NamespaceEntry::Pid),
        NamespaceEntry::TimeForChildren => Some(NamespaceEntry::Time),
        _ => None,
    }
}

/// For an entry of the task itself, that for its children: where an implicit move leads.
const fn pending(entry: NamespaceEntry) -> Option<NamespaceEntry> {
    match entry {
        NamespaceEntry::Pid => Some(NamespaceEntry::PidForChildren),
        NamespaceEntry::Time => Some(NamespaceEntry::TimeForChildren),
        _ => None,
    }
}
