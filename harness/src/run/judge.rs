// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a driven scenario amounts to: its outcome, and its entry in the summary.

use nstrail_wire::{fact::Fact, version::KernelVersion};

use super::drive::{Driven, GuestEnding};
use crate::{
    check::{CheckResult, Finding, LossProof, Outcome as Checked},
    outcome::Outcome,
    plan::known_splats::{Known, KnownSplat, KnownSplats},
    report::{
        summary::{ConsoleSummary, Figures, FindingSummary, KnownSummary},
        verdict::splat_line,
    },
    vm::{
        ConsoleFinding,
        console::{Fingerprint, SplatKind},
    },
};

/// The outcome, and a reason if it is not `passed`.
///
/// Findings count only if the guest got to its end: what a guest that died did not log is no finding about the
/// log. The snapshot is looked at afterwards, and only if this is `passed`.
pub fn judge<S>(driven: &Driven<S>, console: &[ConsoleSummary]) -> (Outcome, Option<String>) {
    let mut parts = vec![(driven.ending.outcome(), driven.ending.reason())];
    for splat in console.iter().filter(|splat| splat.counts()) {
        let reason = format!("the console shows: {}", splat_line(splat));
        parts.push((outcome_of_splat(&splat.kind), Some(reason)));
    }
    if matches!(driven.ending, GuestEnding::Finished { .. }) {
        parts.push(match driven.check.outcome() {
            Checked::Passed => (Outcome::Passed, None),
            Checked::Failed => {
                let count: u64 = driven.check.counts.values().sum();
                let findings = if count == 1 { "finding" } else { "findings" };
                (Outcome::Failed, Some(format!("{count} {findings}")))
            }
            Checked::Inconclusive => (Outcome::Inconclusive, Some(unproven(&doubts(&driven.check)))),
        });
    }
    let worst = Outcome::of_parts(parts.iter().map(|(outcome, _)| *outcome)).unwrap_or(Outcome::Crashed);
    let reason = parts.into_iter().find(|(outcome, _)| *outcome == worst).and_then(|(_, reason)| reason);
    (worst, reason)
}

/// Why a capture that may have lost something is none that passes: the first reason in full.
fn unproven(doubts: &[String]) -> String {
    let what = "it is not proven that nothing was lost";
    match doubts {
        [] => what.to_owned(),
        [first] => format!("{what}: {first}"),
        [first, rest @ ..] => format!("{what}: {first} (and {} more reasons)", rest.len()),
    }
}

fn outcome_of_splat(kind: &str) -> Outcome {
    // The kernel is well, but it has dropped records or says that it will.
    let lossy = [SplatKind::AuditBacklog, SplatKind::AuditHoldQueue];
    if lossy.iter().any(|lossy| lossy.word() == kind) { Outcome::Inconclusive } else { Outcome::Crashed }
}

/// Findings as text, and how many there are beyond those.
pub fn findings(check: &CheckResult) -> (Vec<FindingSummary>, u64) {
    let listed: Vec<FindingSummary> = check.findings.iter().map(finding).collect();
    let all: u64 = check.counts.values().sum();
    let unlisted = all.saturating_sub(listed.len() as u64);
    (listed, unlisted)
}

fn finding(finding: &Finding) -> FindingSummary {
    FindingSummary {
        invariant: finding.invariant.id().to_owned(),
        expected: finding.expected.clone(),
        found: finding.found.clone(),
        records: finding.records.iter().map(|line| format!("{}: {}", line.position + 1, line.line)).collect(),
        ledger: finding
            .facts
            .iter()
            .map(|entry| format!("{}: {}", entry.position, fact(&entry.fact)))
            .collect(),
        lineage: finding
            .lineage
            .iter()
            .map(|step| match (step.op, &step.flags) {
                (Some(op), Some(flags)) => format!("{:#x} by {op} {flags}", step.auditnsid),
                _ => format!("{:#x}", step.auditnsid),
            })
            .collect(),
    }
}

fn fact(fact: &Fact) -> String {
    format!("actor {} (pid {} tid {}, step {}): {:?}", fact.actor.0, fact.pid, fact.tid, fact.step, fact.act)
}

/// Doubts about losslessness; none if it is proven.
#[must_use]
pub fn doubts(check: &CheckResult) -> Vec<String> {
    match &check.loss {
        LossProof::Proven => Vec::new(),
        LossProof::NotProven { reasons } => reasons.clone(),
    }
}

/// The console's splats, each fingerprint once, with what is known of it on a kernel of that version.
#[must_use]
pub fn console(
    splats: &[ConsoleFinding],
    known: &KnownSplats,
    kernel: Option<KernelVersion>,
) -> Vec<ConsoleSummary> {
    let mut console: Vec<ConsoleSummary> = Vec::new();
    for splat in splats {
        let fingerprint = Fingerprint::of(splat);
        if let Some(before) = console.iter_mut().find(|before| before.fingerprint == fingerprint.id()) {
            before.times += 1;
            continue;
        }
        let entry = |entry: &KnownSplat, expired| KnownSummary {
            reason: entry.reason.clone(),
            link: entry.link.clone(),
            expires: entry.expires.to_string(),
            expired,
        };
        console.push(ConsoleSummary {
            kind: splat.kind.word().to_owned(),
            fingerprint: fingerprint.id().to_owned(),
            times: 1,
            lines: splat.lines.clone(),
            known: match known.look_up(splat, fingerprint.id(), kernel) {
                Known::No => None,
                Known::Yes(known) => Some(entry(known, false)),
                Known::Expired(known) => Some(entry(known, true)),
            },
            frames: fingerprint.frames,
            decoded: Vec::new(),
            not_decoded: None,
        });
    }
    console
}

/// What was counted and measured.
pub fn figures<S>(driven: &Driven<S>) -> Figures {
    let (workload_ns, containers, pid_rollovers) = match driven.ending {
        GuestEnding::Finished { workload_ns, containers, pid_rollovers } => {
            (workload_ns, containers, pid_rollovers)
        }
        _ => (0, 0, 0),
    };
    Figures {
        operations: driven.check.figures.operations_told,
        containers,
        seen_by_perf: driven.check.figures.seen_by_perf,
        records: driven.check.figures.records,
        facts: driven.check.figures.facts,
        lost: driven.check.figures.lost,
        pid_rollovers,
        boot_seconds: driven.boot.as_secs_f64(),
        workload_seconds: workload_ns as f64 / 1e9,
        vm_seconds: driven.vm.as_secs_f64(),
        check_seconds: driven.check_tail.as_secs_f64(),
    }
}
