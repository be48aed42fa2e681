// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario's end says about a candidate.
//!
//! Only what the workload has met is bad. A guest whose agent never spoke has not booted, and that says nothing about
//! the fault that is searched. It may even be the host's doing: on a busy one a guest can be so slow that the kernel finds
//! its timer broken. Trouble of ours says nothing at all.

use super::engine::Ran;
use crate::{
    outcome::Outcome,
    report::summary::{Failure, ScenarioSummary},
};

/// Reads the end of one scenario. `expect` names invariants and fingerprints of splats: if there are any, only these are
/// what is searched.
///
/// # Errors
/// Trouble that is not the kernel's.
pub fn of_scenario(ran: &ScenarioSummary, expect: &[String]) -> Result<Ran, Failure> {
    let reason = ran.reason.clone().unwrap_or_else(|| ran.outcome.to_string());
    let told = format!("{}: {}: {reason}", ran.name, ran.outcome);
    Ok(match ran.outcome {
        Outcome::Passed | Outcome::SnapshotPending => Ran::Clean,
        Outcome::Error => return Err(Failure { outcome: Outcome::Error, message: told }),
        Outcome::Inconclusive => Ran::Unclear(told),
        Outcome::Skipped | Outcome::Survived | Outcome::BuildFailed | Outcome::PatchRejected => {
            Ran::Skipped(told)
        }
        Outcome::Crashed | Outcome::TimedOut if !has_booted(ran) => {
            Ran::Unclear(format!("does not boot: {reason}"))
        }
        Outcome::Failed | Outcome::Crashed | Outcome::TimedOut => {
            let mut found: Vec<&str> = Vec::new();
            let splats = ran.console.iter().filter(|splat| splat.counts());
            let ids = ran.findings.iter().map(|finding| finding.invariant.as_str());
            for id in ids.chain(splats.map(|splat| splat.fingerprint.as_str())) {
                if !found.contains(&id) {
                    found.push(id);
                }
            }
            let told = if found.is_empty() { told } else { format!("{told} ({})", found.join(", ")) };
            if expect.is_empty() || expect.iter().any(|expected| found.contains(&expected.as_str())) {
                Ran::Failed(told)
            } else {
                // Another fault says nothing about this one, and need not come each time.
                Ran::Unclear(format!("fails otherwise: {told}"))
            }
        }
    })
}

/// Whether the agent was heard.
fn has_booted(ran: &ScenarioSummary) -> bool {
    ran.figures.boot_seconds > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::{ConsoleSummary, FindingSummary};

    fn ran(outcome: Outcome, boot_seconds: f64, invariants: &[&str]) -> ScenarioSummary {
        let finding = |invariant: &&str| FindingSummary {
            invariant: (*invariant).to_owned(),
            expected: String::new(),
            found: String::new(),
            records: Vec::new(),
            ledger: Vec::new(),
            lineage: Vec::new(),
        };
        let mut ran = ScenarioSummary::new("smoke", 1, 2, outcome, "");
        ran.reason = Some("why".to_owned());
        ran.figures.boot_seconds = boot_seconds;
        ran.findings = invariants.iter().map(finding).collect();
        ran
    }

    fn of(outcome: Outcome, boot: f64) -> Ran {
        of_scenario(&ran(outcome, boot, &[]), &[]).unwrap()
    }

    #[test]
    fn only_what_the_workload_has_met_is_bad() {
        assert_eq!(of(Outcome::Passed, 1.0), Ran::Clean);
        assert_eq!(of(Outcome::SnapshotPending, 1.0), Ran::Clean);
        for outcome in [Outcome::Failed, Outcome::Crashed, Outcome::TimedOut] {
            assert_eq!(of(outcome, 1.0), Ran::Failed(format!("smoke: {outcome}: why")));
        }
        for outcome in [Outcome::Crashed, Outcome::TimedOut] {
            assert_eq!(of(outcome, 0.0), Ran::Unclear("does not boot: why".to_owned()));
        }
        assert_eq!(of(Outcome::Inconclusive, 1.0), Ran::Unclear("smoke: inconclusive: why".to_owned()));
        assert_eq!(of(Outcome::Skipped, 0.0), Ran::Skipped("smoke: skipped: why".to_owned()));
        let trouble = of_scenario(&ran(Outcome::Error, 1.0, &[]), &[]).unwrap_err();
        assert_eq!((trouble.outcome, trouble.message.as_str()), (Outcome::Error, "smoke: error: why"));
    }

    #[test]
    fn another_fault_than_the_expected_one_is_not_followed() {
        let expect = ["NS-G3-UNIQUE".to_owned()];
        let of = |invariants: &[&str]| of_scenario(&ran(Outcome::Failed, 1.0, invariants), &expect).unwrap();
        let both = of(&["NS-G2-LIST", "NS-G3-UNIQUE", "NS-G2-LIST"]);
        assert_eq!(both, Ran::Failed("smoke: failed: why (NS-G2-LIST, NS-G3-UNIQUE)".to_owned()));
        let other = of(&["NS-G2-LIST"]);
        assert_eq!(other, Ran::Unclear("fails otherwise: smoke: failed: why (NS-G2-LIST)".to_owned()));
        let mut crash = ran(Outcome::Crashed, 1.0, &[]);
        crash.console =
            vec![ConsoleSummary { fingerprint: "0123456789ab".to_owned(), ..ConsoleSummary::default() }];
        assert!(matches!(of_scenario(&crash, &expect), Ok(Ran::Unclear(_))));
        let this_one = ["0123456789ab".to_owned()];
        assert!(matches!(of_scenario(&crash, &this_one), Ok(Ran::Failed(_))));
    }
}
