// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ledger and log joined, invariants, findings.
//!
//! A [`Checker`] takes the streams of a run (the log, the ledger, and perf as a third witness), each in its own order and in any interleaving, and ends with the
//! same [`CheckResult`] whatever the interleaving was. It keeps no clock and does no I/O, so a recorded run
//! replays to the same bytes. Memory grows with live containers and with how far one stream is ahead.
//!
//! The way of the data: [`log`] judges what the log alone decides; [`pairing`] joins definitions to moves, [`ledger`]
//! joins probes to their events; [`perf`] joins what a third witness saw; [`resolve`] judges each task's facts in its program order; [`sweep`] judges at each fence
//! what has to be complete. [`invariant`] lists what is judged, docs/invariants.md says why.

// Numbers of a log or a ledger are never cut down to fit.
#![cfg_attr(
    not(test),
    deny(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )
)]

mod attribution;
mod core;
mod definition;
mod event;
pub mod finding;
mod hash;
mod ids;
pub mod invariant;
pub mod joined;
mod ledger;
mod log;
mod loss;
mod numbering;
mod pairing;
mod perf;
mod release;
mod resolve;
pub mod result;
mod sets;
mod sweep;
#[cfg(test)]
mod tests;

use nstrail_wire::{fact::Fact, perf::PerfEvent};

use self::core::{Core, Output};
pub use self::{
    finding::{Finding, LedgerEntry, LineageStep, LogLine},
    invariant::Invariant,
    joined::{Attribution, Joined, JoinedSink, NoSink, ReleaseBy},
    loss::LossProof,
    result::{CheckResult, Figures, Outcome},
};

/// What a checker is told about the run beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Whether definitions must have an `nsid=` list (7.2 and later: yes, earlier: no); `None` if the
    /// kernel's version is not known, and then all of them must agree.
    pub ns_ids: Option<bool>,
    /// Whether perf is heard as a third witness; a run in which it says nothing is inconclusive then.
    pub perf: bool,
    /// Whether everybody who logs can wait for room in audit's queue: a record that the kernel has lost is a finding then.
    pub everybody_waits: bool,
}

impl CheckOptions {
    /// For a kernel of this version.
    #[must_use]
    pub const fn for_version(major: u32, minor: u32) -> Self {
        Self { ns_ids: Some(major > 7 || (major == 7 && minor >= 2)), perf: false, everybody_waits: false }
    }

    /// With perf as a third witness.
    #[must_use]
    pub const fn with_perf(self) -> Self {
        Self { perf: true, ..self }
    }

    /// Where everybody who logs can wait, or not.
    #[must_use]
    pub const fn with_everybody_waiting(self, everybody_waits: bool) -> Self {
        Self { everybody_waits, ..self }
    }
}

/// Checks a run.
#[derive(Debug)]
pub struct Checker<S = NoSink> {
    core: Core,
    sink: S,
}

impl Checker<NoSink> {
    #[must_use]
    pub fn new(options: CheckOptions) -> Self {
        Self::with_sink(options, NoSink)
    }
}

impl<S: JoinedSink> Checker<S> {
    /// A checker that gives on what it has joined.
    #[must_use]
    pub fn with_sink(options: CheckOptions, sink: S) -> Self {
        Self { core: Core::new(options), sink }
    }

    /// Takes the next record of the audit stream: its netlink type, and its bytes (`audit(TIME:SERIAL): ...`).
    pub fn record(&mut self, kind: u16, bytes: &[u8]) {
        self.core.take_record(kind, bytes);
        self.core.run();
        self.give();
    }

    /// Takes the next entry of the ledger.
    pub fn fact(&mut self, fact: Fact) {
        self.core.take_fact(fact);
        self.core.run();
        self.give();
    }

    /// Takes the next event of perf.
    pub fn perf(&mut self, event: PerfEvent) {
        self.core.take_perf(event);
    }

    /// All streams are at their end.
    #[must_use]
    pub fn finish(self) -> CheckResult {
        self.finish_with_sink().0
    }

    /// As [`Checker::finish`], and the sink comes back.
    #[must_use]
    pub fn finish_with_sink(mut self) -> (CheckResult, S) {
        self.core.end();
        self.give();
        (self.core.into_result(), self.sink)
    }

    /// Whether every fence of the ledger has been seen in the log too: nothing that was told of before the last
    /// one is still on its way.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.core.loss.fences_agree()
    }

    /// Sets, tasks and pids that are held in memory at this moment.
    #[must_use]
    pub fn held(&self) -> [usize; 3] {
        let ledger = &self.core.ledger;
        [self.core.sets.len(), ledger.actors.len(), ledger.held.len()]
    }

    fn give(&mut self) {
        for output in self.core.output.drain(..) {
            match output {
                Output::Joined { fact, position, definition, attribution } => {
                    let definition = definition.as_ref().map(|definition| &definition.op);
                    self.sink.joined(&Joined { fact: &fact, position, definition, attribution });
                }
                Output::Released { id, by } => self.sink.released(id, by),
            }
        }
    }
}

impl Core {
    /// The end of the streams is the last fence.
    fn end(&mut self) {
        self.close_all(true);
        let epoch = self.log.epoch;
        self.log.holes_at.insert(epoch, self.log.holes.clone());
        self.ended.extend([epoch, self.ledger.epoch]);
        self.log.epoch = u64::MAX;
        self.ledger.epoch = u64::MAX;
        while let Some(epoch) = self.ended.pop_first() {
            let last = self.ended.is_empty();
            self.sweep(epoch, last);
        }
        self.perf.ended.extend([epoch, self.perf.epoch, u64::MAX]);
        while let Some(epoch) = self.perf.ended.pop_first() {
            self.sweep_perf(epoch);
        }
    }

    fn into_result(mut self) -> CheckResult {
        self.figures.highest_auditnsid = self.log.holes.highest();
        let records = self.figures.records;
        self.figures.lost = self.loss.lost();
        if self.options.ns_ids == Some(true) && self.figures.probes > 0 && self.figures.ids_told == 0 {
            // The kernel has ids, so a witness is missing.
            self.loss.ledger_fault("no task told the ids of its namespaces (NS_GET_ID)".to_owned());
        }
        self.demand_perf();
        let mut unjudged: Vec<u64> = self
            .ledger
            .actors
            .iter()
            .filter(|(_, actor)| !actor.items.is_empty())
            .map(|(id, _)| id.0)
            .collect();
        unjudged.sort_unstable();
        for id in unjudged {
            // No order of events is one in which all of it could be true.
            self.loss.ledger_fault(format!("what task {id} told waits for itself"));
        }
        let lost = self.loss.lost_meanwhile();
        if self.options.everybody_waits && lost > 0 {
            let expected = "no record is lost: everybody who logs can wait";
            self.findings.push(Finding::new(Invariant::RecLost, expected, format!("the kernel lost {lost}")));
        }
        let loss = self.loss.prove(records);
        if self.log.init.is_none() && !self.findings.has(Invariant::G2Init) {
            self.findings.push(Finding::new(Invariant::G2Init, "one op=init record", "none"));
        }
        let (mut findings, mut counts) = self.findings.into_parts();
        if self.log.ours == 0 && records > 0 {
            // Thousands of findings would all say this.
            let finding = Finding::new(
                Invariant::G2Series,
                "auditnsid records (types 1340 and 1341)",
                "no auditnsid records: the kernel lacks the series or CONFIG_AUDIT_NSID",
            );
            findings = vec![finding];
            counts = [(Invariant::G2Series, 1)].into();
        }
        CheckResult { findings, counts, loss, figures: self.figures }
    }
}
