// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a check ends with: findings, the proof of no loss, figures, and the outcome that follows.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{finding::Finding, invariant::Invariant, loss::LossProof};

/// Figures of a run, all of them from the contents of the two streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Records in the log.
    pub records: u64,
    /// Events in the log.
    pub events: u64,
    /// Entries in the ledger.
    pub facts: u64,
    /// Calls that the ledger tells of, failed ones too.
    pub operations_told: u64,
    /// Tasks that the ledger tells of.
    pub actors: u64,
    /// Definitions (op=init not counted), and how many of each op.
    pub definitions: u64,
    pub operations: BTreeMap<&'static str, u64>,
    pub releases: u64,
    pub attributions: u64,
    /// Events that carry a token and were joined to the probe that caused them.
    pub probes: u64,
    pub highest_auditnsid: u64,
    /// The kernel's `lost` counter at the end; `None` if the ledger does not tell it.
    pub lost: Option<u32>,
    /// Sets made while audit was disabled.
    pub silent_sets: u64,
    /// Facts joined to their definition.
    pub joined: u64,
    /// Events of perf, and definitions that it saw as well.
    pub perf_events: u64,
    pub seen_by_perf: u64,
    /// Times that a task told the ids of its namespaces.
    pub ids_told: u64,
}

/// How a check ends, in the words of the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    Failed,
    Inconclusive,
}

/// What the checker found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// The first findings of each invariant, in the order of [`Invariant::ALL`].
    pub findings: Vec<Finding>,
    /// How many findings there were of each invariant that has any.
    pub counts: BTreeMap<Invariant, u64>,
    pub loss: LossProof,
    pub figures: Figures,
}

impl CheckResult {
    /// Passed only without findings and with loss excluded.
    ///
    /// Without that proof a finding that lost records could explain proves nothing, and the check is
    /// inconclusive; one that no loss can explain stands.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let proven = self.loss.is_proven();
        if self.counts.keys().any(|invariant| proven || !invariant.may_be_loss()) {
            Outcome::Failed
        } else if proven {
            Outcome::Passed
        } else {
            Outcome::Inconclusive
        }
    }
}
