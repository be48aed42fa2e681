// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the checker hands on: each fact of the ledger with what the log says about it.
//!
//! Order of items: those of one actor in its program order; a child's [`Act::Start`](nstrail_wire::fact::Act)
//! after its parent's earlier items; nothing of an actor after its end or after it was reaped. Items of
//! different actors come in any order else, and so do releases.

use nstrail_wire::fact::Fact;
use nstrail_wire::namespace::NamespaceSet;

/// What an `AUDIT_NSID_OP` record defines or releases (CONTRACT.md, "Records").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Init,
    Clone,
    Unshare,
    Setns,
    Exec,
    Release,
}

/// An `AUDIT_NSID_OP` record. Fields that its op does not have are 0 or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NsidOp {
    pub op: Op,
    pub pid: u32,
    pub tid: u32,
    /// The task that holds `id`.
    pub opid: u32,
    /// `CLONE_NEW*` bits.
    pub flags: u64,
    /// `old-auditnsid=`.
    pub old: u64,
    /// `auditnsid=`.
    pub id: u64,
    /// `ns=`; 0 stands for `?`.
    pub set: NamespaceSet,
}

/// What the event of a probe names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribution {
    pub record_type: u16,
    pub auditnsid: Option<u64>,
    pub netns: Option<u32>,
}

/// How the last member left a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseBy {
    Exit,
    Move,
}

/// A fact, and what the log says about it.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    pub fact: &'a Fact,
    /// The definition of the set that this fact's task entered by it.
    pub definition: Option<&'a NsidOp>,
    /// For a probe: what its event names.
    pub attribution: Option<Attribution>,
}

/// Takes joined items as they come.
pub trait JoinedSink {
    fn joined(&mut self, item: &Joined<'_>);
    fn released(&mut self, auditnsid: u64, how: ReleaseBy);
}
