// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of invariants: stable ids, and what each says.
//!
//! The ids are part of reports, of mutants and of docs/invariants.md (a test keeps the three words alike). Once
//! released an id is never given another meaning.

use std::fmt;

use serde::Serialize;

/// Declares the invariants once: variant, id, whether a lost record alone can break it, what it says.
macro_rules! invariants {
    ($($variant:ident $id:literal $loss:ident $says:literal;)*) => {
        /// An invariant of CONTRACT.md.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Invariant {
            $(#[doc = $says] $variant,)*
        }

        impl Invariant {
            /// All of them, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable id.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// One sentence.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }

            /// Whether records that were lost on their way can make it look broken, so that a finding
            /// proves nothing as long as loss is not excluded.
            #[must_use]
            pub const fn may_be_loss(self) -> bool {
                match self { $(Self::$variant => invariants!(@ $loss),)* }
            }
        }
    };
    (@ loss) => { true };
    (@ sure) => { false };
}

invariants! {
    RecHeader "NS-REC-HEADER" sure "Every record begins with audit(TIME:SERIAL).";
    RecFormat "NS-REC-FORMAT" sure "Records 1340-1342 have exactly the contract's fields, order and notation.";
    RecTypes "NS-REC-TYPES" sure "All definitions of a run agree on which types the kernel has, and on having an nsid list.";
    RecEoe "NS-REC-EOE" sure "No record of an event follows its EOE.";
    RecLost "NS-REC-LOST" sure "Where everybody who logs can wait for room, no record is lost.";
    G1Set "NS-G1-SET" loss "Every task of an auditnsid holds the set of its definition, from joining to leaving it.";
    G1Hidden "NS-G1-HIDDEN" sure "No file of /proc shows an auditnsid.";
    G2Series "NS-G2-SERIES" sure "The log has auditnsid records at all.";
    G2Init "NS-G2-INIT" loss "One op=init record, ahead of all tasks' records, defines 0x1 as the set of the first task.";
    G2Missing "NS-G2-MISSING" loss "Each successful operation that moves a task has a definition.";
    G2Unexplained "NS-G2-UNEXPLAINED" loss "Each definition belongs to an operation that the ledger knows.";
    G2Task "NS-G2-TASK" loss "pid, tid and opid of a definition are those of the caller and of the task that moved.";
    G2Op "NS-G2-OP" loss "op of a definition is the operation that was called.";
    G2Flags "NS-G2-FLAGS" loss "flags of a definition are the types asked for, or joined; none for an implicit move.";
    G2Old "NS-G2-OLD" loss "old-auditnsid of a definition is the set that the caller was in.";
    G2List "NS-G2-LIST" loss "The ten inode numbers of a definition are those that the moved task reads in /proc.";
    G2Ids "NS-G2-IDS" loss "The ids in a definition's nsid list are those that the kernel gives the task; an id stands for one namespace for good.";
    G3Unique "NS-G3-UNIQUE" sure "No auditnsid is defined twice or used again.";
    G3Dense "NS-G3-DENSE" loss "Below the highest auditnsid none is missing.";
    G4First "NS-G4-FIRST" loss "A definition precedes every record that names its auditnsid and every event begun by a member.";
    G5Missing "NS-G5-MISSING" loss "A set that the last member has left is released.";
    G5Timely "NS-G5-TIMELY" loss "The release that an exit causes is queued before the parent's wait returns.";
    G5One "NS-G5-ONE" loss "A set is released once, after its definition, and 0x1 never.";
    G5Last "NS-G5-LAST" sure "No record of a member's event, and none that names the set, follows its release.";
    G5Live "NS-G5-LIVE" sure "No set is released while the ledger knows a living member.";
    G5By "NS-G5-BY" loss "A release names a task that was a member and left.";
    G5Event "NS-G5-EVENT" loss "An exit's release is an event of its own without attribution; a mover's stands in its event, after the definition.";
    G5Inum "NS-G5-INUM" loss "An inode number comes back before its old holder's release only if nobody acts as a member of it any more.";
    G6Silence "NS-G6-SILENCE" loss "A failed operation logs no definition.";
    G7Probe "NS-G7-PROBE" loss "The event that a task caused on purpose is in the log.";
    G7Missing "NS-G7-MISSING" loss "Each event of a task outside set 1 carries an AUDIT_NSID.";
    G7One "NS-G7-ONE" sure "No event carries more than one AUDIT_NSID.";
    G7Alone "NS-G7-ALONE" loss "No event consists of an AUDIT_NSID alone.";
    G7Boot "NS-G7-BOOT" sure "No AUDIT_NSID names 0x1, and no event of a task in set 1 carries one.";
    G7Right "NS-G7-RIGHT" loss "An AUDIT_NSID names the set of the task that caused the event.";
    G8Netns "NS-G8-NETNS" loss "Each NETFILTER_PKT event carries exactly one AUDIT_NETNS.";
    G8Right "NS-G8-RIGHT" sure "An AUDIT_NETNS names the network namespace of the packet.";
    G8Map "NS-G8-MAP" loss "The live sets that list a packet's network namespace include the set of its sender or, where it comes in, of its receiver.";
    G9Silent "NS-G9-SILENT" sure "Nothing is logged while audit is disabled.";
    G9Count "NS-G9-COUNT" loss "Ids go on being counted while audit is disabled: one per operation.";
    PerfMissing "NS-PERF-MISSING" loss "perf has seen each set that a clone, unshare or setns defines.";
    PerfUnexplained "NS-PERF-UNEXPLAINED" loss "Each set that perf sees a task change to has a definition.";
    PerfList "NS-PERF-LIST" loss "Log, /proc and perf agree on the inode numbers of a definition.";
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl Serialize for Invariant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique() {
        let ids: BTreeSet<_> = Invariant::ALL.iter().map(|invariant| invariant.id()).collect();
        assert_eq!(ids.len(), Invariant::ALL.len());
    }

    #[test]
    fn the_document_lists_exactly_these_invariants() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/invariants.md");
        let text = std::fs::read_to_string(path).unwrap();
        let listed: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("### NS-").map(|rest| format!("NS-{rest}")))
            .collect();
        let ours: Vec<_> = Invariant::ALL.iter().map(|invariant| invariant.id().to_owned()).collect();
        assert_eq!(listed, ours, "headings `### NS-...` of docs/invariants.md, in the order of the code");
        for invariant in Invariant::ALL {
            assert!(
                text.contains(invariant.says()),
                "docs/invariants.md says about {invariant}: {}",
                invariant.says()
            );
        }
    }
}
