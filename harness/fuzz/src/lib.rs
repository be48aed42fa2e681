// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each fuzz target does with its bytes: everything that nstrail reads from others, and what must hold of it.
//!
//! A target panics if something does not hold. The corpora in `corpus/` are replayed by an ordinary test
//! (harness/tests/corpora.rs), which takes this file as a module of its own.

mod frames;
mod ledger;
mod mbox;
mod patch;
mod records;
mod scenario;
mod snapshot;
mod summary;

pub use self::{
    frames::frames, ledger::ledger, mbox::mbox, patch::patch, records::records, scenario::scenario,
    snapshot::snapshot, summary::summary,
};

/// A target: its name, and what takes the input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, by the names of their corpora.
pub const TARGETS: [Target; 8] = [
    ("frames", frames),
    ("ledger", ledger),
    ("mbox", mbox),
    ("patch", patch),
    ("records", records),
    ("scenario", scenario),
    ("snapshot", snapshot),
    ("summary", summary),
];
