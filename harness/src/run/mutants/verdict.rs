// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest's end says about a mutant.

use std::fs;
use std::path::Path;

use memchr::memmem;

use super::super::capture::AUDIT_LOG;
use crate::check::Invariant;
use crate::outcome::Outcome;
use crate::report::summary::{FindingSummary, ScenarioSummary};

/// What one run says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It was seen: by these invariants, or by splats of these kinds.
    Killed { by: Vec<String> },
    /// It was not.
    Survived,
    /// A time limit ended the guest.
    TimedOut,
    /// The guest was never heard of.
    NoBoot,
    /// Nothing can be said: the scenario is not for this kernel, or the capture is not proven lossless.
    Nothing,
    /// Trouble of our own.
    Error,
}

/// What a scenario's end on a mutant says.
pub(super) fn said(ran: &ScenarioSummary) -> Said {
    match ran.outcome {
        Outcome::Passed | Outcome::SnapshotPending => Said::Survived,
        Outcome::Failed => Said::Killed { by: invariants(ran) },
        Outcome::Crashed | Outcome::TimedOut if ran.figures.boot_seconds == 0.0 => Said::NoBoot,
        Outcome::Crashed => {
            let mut by: Vec<String> =
                ran.console.iter().filter(|splat| splat.counts()).map(|splat| splat.kind.clone()).collect();
            if by.is_empty() {
                by.push("crash".to_owned());
            }
            by.dedup();
            Said::Killed { by }
        }
        Outcome::TimedOut => Said::TimedOut,
        Outcome::Skipped | Outcome::Inconclusive => Said::Nothing,
        Outcome::Survived | Outcome::BuildFailed | Outcome::PatchRejected | Outcome::Error => Said::Error,
    }
}

/// The invariants that were found broken and count: without the proof of no loss only those that no loss can explain.
fn invariants(ran: &ScenarioSummary) -> Vec<String> {
    let proven = ran.loss_doubts.is_empty();
    let counts = |id: &str| {
        let invariant = Invariant::ALL.iter().find(|invariant| invariant.id() == id);
        invariant.is_some_and(|invariant| proven || !invariant.may_be_loss())
    };
    let mut by: Vec<String> = Vec::new();
    for finding in &ran.findings {
        if counts(&finding.invariant) && !by.contains(&finding.invariant) {
            by.push(finding.invariant.clone());
        }
    }
    by
}

/// How many sets the log defines up to the first record that proves one of these invariants broken; all of the run's if no record does
/// (what is missing is seen at a fence, or in the end).
pub(super) fn containers_until(ran: &ScenarioSummary, by: &[String], run_folder: &Path) -> u64 {
    let line = |finding: &FindingSummary| -> Option<usize> {
        // The last of its records is the one at which it could be seen.
        let last = finding.records.last()?;
        last.split(':').next()?.parse().ok()
    };
    let found = ran.findings.iter().filter(|finding| by.contains(&finding.invariant));
    let Some(line) = found.filter_map(line).min() else { return ran.figures.containers };
    let Ok(log) = fs::read(run_folder.join(&ran.artifacts).join(AUDIT_LOG)) else {
        return ran.figures.containers;
    };
    let defines = |line: &&[u8]| memmem::find(line, b" old-auditnsid=").is_some();
    log.split(|byte| *byte == b'\n').take(line).filter(defines).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::{ConsoleSummary, Figures};

    fn ran(outcome: Outcome) -> ScenarioSummary {
        ScenarioSummary {
            figures: Figures { boot_seconds: 1.0, containers: 9, ..Figures::default() },
            ..ScenarioSummary::new("smoke", 1, 2, outcome, "")
        }
    }

    fn finding(invariant: &str, records: &[&str]) -> FindingSummary {
        FindingSummary {
            invariant: invariant.to_owned(),
            expected: String::new(),
            found: String::new(),
            records: records.iter().map(|record| (*record).to_owned()).collect(),
            ledger: Vec::new(),
            lineage: Vec::new(),
        }
    }

    #[test]
    fn findings_count_as_far_as_loss_does_not_explain_them() {
        let mut failed = ran(Outcome::Failed);
        failed.findings = ["NS-G3-DENSE", "NS-G3-UNIQUE", "NS-G3-UNIQUE"].map(|id| finding(id, &[])).to_vec();
        let by = |ids: &[&str]| Said::Killed { by: ids.iter().map(|id| (*id).to_owned()).collect() };
        assert_eq!(said(&failed), by(&["NS-G3-DENSE", "NS-G3-UNIQUE"]));
        failed.loss_doubts.push("the marker is missing".to_owned());
        assert_eq!(said(&failed), by(&["NS-G3-UNIQUE"]));
    }

    #[test]
    fn a_guest_that_was_never_heard_of_says_nothing_about_the_fault() {
        let mut crashed = ran(Outcome::Crashed);
        crashed.console = vec![ConsoleSummary { kind: "oops".to_owned(), ..ConsoleSummary::default() }];
        assert_eq!(said(&crashed), Said::Killed { by: vec!["oops".to_owned()] });
        crashed.console.clear();
        assert_eq!(said(&crashed), Said::Killed { by: vec!["crash".to_owned()] });
        crashed.figures.boot_seconds = 0.0;
        assert_eq!(said(&crashed), Said::NoBoot);
        assert_eq!(said(&ran(Outcome::TimedOut)), Said::TimedOut);
        assert_eq!(said(&ran(Outcome::Passed)), Said::Survived);
        assert_eq!(said(&ran(Outcome::Inconclusive)), Said::Nothing);
        assert_eq!(said(&ran(Outcome::Error)), Said::Error);
    }

    #[test]
    fn containers_are_counted_up_to_the_record_that_proves_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut failed = ran(Outcome::Failed);
        failed.artifacts = "a".to_owned();
        fs::create_dir(folder.path().join("a")).unwrap();
        let define = "type=UNKNOWN[1340] msg=audit(1.0:1): op=clone old-auditnsid=0x1 auditnsid=0x2\n";
        let log = format!("{define}type=EOE\n{define}{define}");
        fs::write(folder.path().join("a").join(AUDIT_LOG), log).unwrap();
        failed.findings = vec![finding("NS-G2-LIST", &["1: x", "3: x"]), finding("NS-G2-TASK", &["1: x"])];
        let by = |id: &str| containers_until(&failed, &[id.to_owned()], folder.path());
        assert_eq!((by("NS-G2-LIST"), by("NS-G2-TASK"), by("NS-G5-MISSING")), (2, 1, 9));
    }
}
