// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the checker gives on: ledger entries with the log's records that belong to them.
//!
//! The snapshot stage draws its lineage tree from these, so it needs no join of its own.

use nstrail_audit::{Kind, NsidOp};
use nstrail_wire::fact::Fact;

/// A ledger entry, and what the log has for it.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    pub fact: &'a Fact,
    /// Where the fact stands in the ledger.
    pub position: u64,
    /// Definition of the set that this fact's task entered by it: a Start that moved, a successful unshare or
    /// setns, an exec that moved. For actor 1's Start it is the `op=init` record.
    pub definition: Option<&'a NsidOp>,
    /// For a probe: what its event in the log names. `None` if there is no such event.
    pub attribution: Option<Attribution>,
}

/// What the event of a probe names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// Type of the record that carries the token.
    pub kind: Kind,
    /// `AUDIT_NSID` of the event; `None` if it has none (set 1).
    pub auditnsid: Option<u64>,
    /// For packets: inode number in the event's `AUDIT_NETNS`.
    pub netns: Option<u32>,
}

/// How the last member left a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseBy {
    Exit,
    Move,
}

/// Takes joined entries as they become known.
///
/// Items of one actor come in its program order; a child's Start after those items of its parent that precede
/// its making; the Reaped of an actor after all items of that actor. All else is unordered and may
/// differ between two interleavings of the same streams.
pub trait JoinedSink {
    fn joined(&mut self, item: &Joined<'_>);
    fn released(&mut self, auditnsid: u64, how: ReleaseBy);
}

/// Takes joined entries and drops them.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl JoinedSink for NoSink {
    fn joined(&mut self, _: &Joined<'_>) {}
    fn released(&mut self, _: u64, _: ReleaseBy) {}
}

impl<S: JoinedSink + ?Sized> JoinedSink for &mut S {
    fn joined(&mut self, item: &Joined<'_>) {
        (**self).joined(item);
    }

    fn released(&mut self, auditnsid: u64, how: ReleaseBy) {
        (**self).released(auditnsid, how);
    }
}
