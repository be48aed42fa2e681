// SPDX-License-Identifier: MIT OR Apache-2.0
//! The third witness: what `perf_event_open` with `attr.namespaces` and `attr.task` saw, an oracle of the kernel's that
//! knows nothing of audit.
//!
//! The kernel writes PERF_RECORD_FORK and PERF_RECORD_NAMESPACES for each new task before it runs, PERF_RECORD_NAMESPACES
//! also for each unshare and setns that succeeded, and PERF_RECORD_EXIT (include/uapi/linux/perf_event.h), into a ring of
//! each CPU. The collector merges the rings by time.
//!
//! Order: events of one task come in its program order, a task's behind its [`PerfEvent::Fork`], and those of successive
//! tasks that got the same tid in the order in which they held it. Numbers are those of the initial pid namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::namespace::{NamespaceEntry, NamespaceSet};

/// The types that a PERF_RECORD_NAMESPACES has: all but time, and the active pid namespace only.
pub const SEEN: [NamespaceEntry; 7] = [
    NamespaceEntry::Net,
    NamespaceEntry::Uts,
    NamespaceEntry::Ipc,
    NamespaceEntry::Pid,
    NamespaceEntry::User,
    NamespaceEntry::Mnt,
    NamespaceEntry::Cgroup,
];

/// Seven nsfs inode numbers in the order of [`SEEN`], which is the kernel's (`NET_NS_INDEX` and so on). 0 stands for one
/// that the kernel could not give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenSet(pub [u32; 7]);

impl SeenSet {
    /// What perf can see of a set.
    #[must_use]
    pub fn of(set: &NamespaceSet) -> Self {
        Self(SEEN.map(|entry| set.get(entry)))
    }

    /// Whether the two can be of one task: 0 is compatible with anything.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(left, right)| left == right || *left == 0 || *right == 0)
    }
}

impl fmt::Display for SeenSet {
    /// `net:N,uts:N,...`, with `?` for 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (entry, inum)) in SEEN.into_iter().zip(self.0).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match inum {
                0 => write!(f, "{comma}{entry}:?")?,
                inum => write!(f, "{comma}{entry}:{inum}")?,
            }
        }
        Ok(())
    }
}

/// One entry of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PerfEvent {
    /// The rings are open. Of the tasks that there are already only this one's set is known.
    Started { tid: u32, set: SeenSet },
    /// The kernel does not offer this witness.
    Unavailable { reason: String },
    /// PERF_RECORD_FORK: a new task.
    Fork { tid: u32, parent_tid: u32 },
    /// PERF_RECORD_NAMESPACES: a new task's set, or a task's after unshare or setns.
    Namespaces { tid: u32, set: SeenSet },
    /// PERF_RECORD_EXIT.
    Exit { tid: u32 },
    /// PERF_RECORD_LOST: a ring was full.
    Lost { count: u64 },
    /// The agent is about to turn audit off, or has turned it on again.
    Audit { enabled: bool },
    /// All that happened before this fence stands above.
    Fence { number: u32 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_number_fits_any_and_another_one_does_not() {
        let mut set = NamespaceSet::default();
        for (number, entry) in (1..).zip(NamespaceEntry::ALL) {
            set.set(entry, number);
        }
        let seen = SeenSet::of(&set);
        assert_eq!(seen.to_string(), "net:4,uts:10,ipc:2,pid:5,user:9,mnt:3,cgroup:1");
        assert!(seen.fits(&seen) && seen.fits(&SeenSet::default()));
        for at in 0..7 {
            let mut other = seen;
            other.0[at] += 100;
            assert!(!seen.fits(&other));
            other.0[at] = 0;
            assert!(seen.fits(&other) && other.fits(&seen));
        }
        assert!(SeenSet([0; 7]).to_string().starts_with("net:?,uts:?"));
    }
}
