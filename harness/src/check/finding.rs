// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings: which invariant is broken, what was expected, what was found, and what proves it.
//!
//! A broken kernel breaks thousands of times. Of each invariant only the first findings are kept, "first" by
//! position in the log and in the ledger and never by arrival, so that any interleaving of the two streams
//! keeps the same ones; the rest is counted.

use std::{collections::BTreeMap, sync::Arc};

use nstrail_audit::{FlagNames, Op, model::Lineage, record::raw_line};
use nstrail_wire::fact::Fact;
use serde::Serialize;

use super::invariant::Invariant;

/// Findings of one invariant that are kept.
pub const KEPT: usize = 10;

/// A record as evidence, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub position: u64,
    pub kind: u16,
    pub bytes: Box<[u8]>,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LogLine {
    /// Position in the log, from 0: line `position + 1` of audit.log.
    pub position: u64,
    /// As auditd writes it in raw format. Bytes that are not UTF-8 are replaced.
    pub line: String,
}

impl From<&Raw> for LogLine {
    fn from(raw: &Raw) -> Self {
        let mut line = Vec::new();
        raw_line(raw.kind, &raw.bytes, &mut line);
        line.pop();
        Self { position: raw.position, line: String::from_utf8_lossy(&line).into_owned() }
    }
}

/// An entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerEntry {
    /// Position in the ledger, from 0.
    pub position: u64,
    pub fact: Fact,
}

/// A step of a container's lineage, nearest first, down to 0x1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineageStep {
    pub auditnsid: u64,
    /// The operation that made it; `None` if its definition is not known.
    pub op: Option<&'static str>,
    /// Flags of that operation, by name.
    pub flags: Option<String>,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub invariant: Invariant,
    pub expected: String,
    pub found: String,
    /// Records that prove it, in the order of the queue.
    pub records: Vec<LogLine>,
    /// Entries of the ledger that prove it.
    pub facts: Vec<LedgerEntry>,
    /// Where the container concerned comes from.
    pub lineage: Vec<LineageStep>,
}

impl Finding {
    pub(super) fn new(invariant: Invariant, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            invariant,
            expected: expected.into(),
            found: found.into(),
            records: Vec::new(),
            facts: Vec::new(),
            lineage: Vec::new(),
        }
    }

    pub(super) fn record(mut self, raw: &Raw) -> Self {
        self.records.push(raw.into());
        self.records.sort();
        self.records.dedup();
        self
    }

    pub(super) fn records<'a>(self, raws: impl IntoIterator<Item = &'a Arc<Raw>>) -> Self {
        raws.into_iter().fold(self, |finding, raw| finding.record(raw))
    }

    pub(super) fn fact(mut self, position: u64, fact: &Fact) -> Self {
        self.facts.push(LedgerEntry { position, fact: fact.clone() });
        self.facts.sort_by_key(|entry| entry.position);
        self
    }

    pub(super) fn lineage(mut self, id: u64, made: Option<(Op, u64)>, lineage: &Lineage) -> Self {
        let step = |auditnsid, made: Option<(Op, u64)>| LineageStep {
            auditnsid,
            op: made.map(|(op, _)| op.name()),
            flags: made.map(|(_, flags)| FlagNames(flags).to_string()),
        };
        self.lineage.push(step(id, made));
        self.lineage.extend(lineage.ancestors.iter().map(|ancestor| step(ancestor.id, ancestor.made)));
        self
    }

    /// What findings are ordered by: nothing that depends on arrival.
    fn key(&self) -> Key {
        (
            self.records.first().map_or(u64::MAX, |line| line.position),
            self.facts.first().map_or(u64::MAX, |entry| entry.position),
            self.expected.clone(),
            self.found.clone(),
        )
    }
}

/// Position in the log, position in the ledger, what was expected and found.
type Key = (u64, u64, String, String);

/// Findings as they come, the first of each invariant kept.
#[derive(Debug, Default)]
pub(super) struct FindingSet {
    kept: BTreeMap<Invariant, BTreeMap<Key, Finding>>,
    counts: BTreeMap<Invariant, u64>,
}

impl FindingSet {
    pub fn push(&mut self, finding: Finding) {
        *self.counts.entry(finding.invariant).or_default() += 1;
        let kept = self.kept.entry(finding.invariant).or_default();
        let key = finding.key();
        if kept.len() == KEPT {
            match kept.last_key_value() {
                Some((last, _)) if *last <= key => return,
                _ => kept.pop_last(),
            };
        }
        kept.insert(key, finding);
    }

    pub fn has(&self, invariant: Invariant) -> bool {
        self.counts.contains_key(&invariant)
    }

    /// Findings in the order of the invariants, and how many there were of each.
    pub fn into_parts(self) -> (Vec<Finding>, BTreeMap<Invariant, u64>) {
        (self.kept.into_values().flat_map(BTreeMap::into_values).collect(), self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_position_are_kept_whatever_comes_first() {
        let finding = |position| {
            let raw = Raw { position, kind: 1341, bytes: Box::default() };
            Finding::new(Invariant::G7Right, "a", "b").record(&raw)
        };
        let (mut rising, mut falling) = (FindingSet::default(), FindingSet::default());
        for position in 0..100 {
            rising.push(finding(position));
            falling.push(finding(99 - position));
        }
        let (findings, counts) = rising.into_parts();
        assert_eq!((findings.clone(), counts), falling.into_parts());
        assert_eq!(findings.len(), KEPT);
        assert_eq!(findings[KEPT - 1].records[0].position, KEPT as u64 - 1);
    }
}
