// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel without the series: what fails there as well is not the series' fault.

use crate::{
    outcome::Outcome,
    report::{
        summary::{BaselineScenario, BaselineVerdict, KernelSummary, ScenarioSummary},
        verdict::splat_line,
    },
};

/// What every baseline, and every patch by itself, has to get through, whatever else is run.
pub(super) const SCENARIO: &str = "smoke";

/// Whether a guest got to the end of its work, with nothing on its console. What its log says is left aside: a kernel
/// without the series has nothing to say in it.
pub(super) fn got_through(ran: &ScenarioSummary) -> (Outcome, Option<String>) {
    let splat = ran.console.iter().find(|splat| splat.counts());
    let splat = splat.map(|splat| format!("the console shows: {}", splat_line(splat)));
    match ran.outcome {
        Outcome::Crashed | Outcome::TimedOut | Outcome::Error => (ran.outcome, ran.reason.clone()),
        _ if splat.is_some() => (Outcome::Crashed, splat),
        _ => (Outcome::Passed, None),
    }
}

/// What a baseline keeps of a scenario.
pub(super) fn baseline_scenario(ran: &ScenarioSummary) -> BaselineScenario {
    let (outcome, reason) = got_through(ran);
    BaselineScenario {
        name: ran.name.clone(),
        vcpus: ran.vcpus,
        outcome,
        reason,
        workload_seconds: ran.figures.workload_seconds,
        console: ran.console.clone(),
    }
}

/// Whether a scenario's end asks for the same one without the series.
pub(super) fn is_asked_for(ran: &ScenarioSummary) -> bool {
    matches!(got_through(ran).0, Outcome::Crashed | Outcome::TimedOut)
}

/// Judges a kernel's failures beside its baseline's.
///
/// A baseline that does not build or boot gives no verdict about the series, not even a good one. A failure that
/// the baseline shares is told as such and counts as inconclusive; one that it does not share is a regression.
pub(super) fn classify(kernel: &mut KernelSummary) {
    let Some(baseline) = &kernel.baseline else { return };
    let bad = |outcome: Outcome| matches!(outcome, Outcome::Crashed | Outcome::TimedOut);
    if let Some(failure) = &baseline.failure {
        let message = format!("no verdict: the kernel without the series: {}", failure.message);
        no_verdict(kernel, failure.outcome, &message);
        return;
    }
    let boot = baseline.scenarios.iter().find(|ran| ran.name == SCENARIO && bad(ran.outcome));
    if let Some(ran) = boot {
        let reason = ran.reason.as_deref().unwrap_or_default();
        let message = format!(
            "no verdict: the kernel without the series does not get through {SCENARIO} ({}: {reason})",
            ran.outcome
        );
        no_verdict(kernel, Outcome::Crashed, &message);
        return;
    }
    for ran in &mut kernel.scenarios {
        let same = |before: &&BaselineScenario| before.name == ran.name && before.vcpus == ran.vcpus;
        let Some(before) = baseline.scenarios.iter().find(same) else { continue };
        if !is_asked_for(ran) {
            continue;
        }
        if bad(before.outcome) {
            ran.baseline = Some(BaselineVerdict::FailsBeforeAndAfter);
            ran.reason = Some(format!(
                "fails before and after: {}; without the series: {}",
                ran.reason.as_deref().unwrap_or_default(),
                before.reason.as_deref().unwrap_or_default()
            ));
            // Findings are the series' own, whatever the kernel does besides.
            if ran.outcome != Outcome::Failed {
                ran.outcome = Outcome::Inconclusive;
            }
        } else {
            ran.baseline = Some(BaselineVerdict::Regressed);
            ran.reason = Some(format!("regressed: {}", ran.reason.as_deref().unwrap_or_default()));
        }
    }
}

fn no_verdict(kernel: &mut KernelSummary, outcome: Outcome, message: &str) {
    if let Some(failure) = &mut kernel.failure {
        // A patch that does not apply is the series' fault, whatever the kernel.
        if failure.outcome == outcome {
            failure.outcome = Outcome::Inconclusive;
            failure.message = format!("{message}; with the series: {}", failure.message);
        }
        return;
    }
    for ran in &mut kernel.scenarios {
        ran.baseline = Some(BaselineVerdict::NoVerdict);
        ran.outcome = Outcome::Inconclusive;
        ran.reason = Some(message.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::{BaselineSummary, ConsoleSummary, Failure, KnownSummary};

    fn ran(name: &str, outcome: Outcome) -> ScenarioSummary {
        ScenarioSummary {
            reason: (outcome != Outcome::Passed).then(|| "panic".to_owned()),
            ..ScenarioSummary::new(name, 1, 2, outcome, "")
        }
    }

    fn kernel(after: &[(&str, Outcome)], before: &[(&str, Outcome)]) -> KernelSummary {
        let scenarios =
            before.iter().map(|(name, outcome)| baseline_scenario(&ran(name, *outcome))).collect();
        let mut kernel = KernelSummary {
            scenarios: after.iter().map(|(name, outcome)| ran(name, *outcome)).collect(),
            baseline: Some(BaselineSummary { scenarios, ..BaselineSummary::default() }),
            ..KernelSummary::default()
        };
        classify(&mut kernel);
        kernel
    }

    fn of(kernel: &KernelSummary) -> Vec<(Outcome, Option<BaselineVerdict>)> {
        kernel.scenarios.iter().map(|ran| (ran.outcome, ran.baseline)).collect()
    }

    #[test]
    fn a_failure_is_a_regression_only_if_the_baseline_gets_through() {
        let after = [("smoke", Outcome::Passed), ("nest", Outcome::Crashed), ("churn", Outcome::TimedOut)];
        let before = [("smoke", Outcome::Failed), ("nest", Outcome::Failed), ("churn", Outcome::Crashed)];
        assert_eq!(
            of(&kernel(&after, &before)),
            [
                (Outcome::Passed, None),
                (Outcome::Crashed, Some(BaselineVerdict::Regressed)),
                (Outcome::Inconclusive, Some(BaselineVerdict::FailsBeforeAndAfter)),
            ]
        );
    }

    #[test]
    fn a_baseline_that_does_not_boot_gives_no_verdict() {
        let kernel = kernel(&[("nest", Outcome::Passed)], &[("smoke", Outcome::Crashed)]);
        assert_eq!(of(&kernel), [(Outcome::Inconclusive, Some(BaselineVerdict::NoVerdict))]);
        assert!(kernel.scenarios[0].reason.as_ref().unwrap().contains("without the series"), "{kernel:?}");
    }

    #[test]
    fn a_kernel_that_builds_neither_way_gives_no_verdict_and_a_reject_stays_one() {
        for (outcome, expected) in
            [(Outcome::BuildFailed, Outcome::Inconclusive), (Outcome::PatchRejected, Outcome::PatchRejected)]
        {
            let failure = |outcome| Some(Failure { outcome, message: "x".to_owned() });
            let mut kernel = KernelSummary {
                failure: failure(outcome),
                baseline: Some(BaselineSummary {
                    failure: failure(Outcome::BuildFailed),
                    ..BaselineSummary::default()
                }),
                ..KernelSummary::default()
            };
            classify(&mut kernel);
            assert_eq!(kernel.failure.unwrap().outcome, expected);
        }
    }

    #[test]
    fn a_splat_is_no_way_through_whatever_the_log_says() {
        let mut splat = ran("smoke", Outcome::Failed);
        assert_eq!(got_through(&splat), (Outcome::Passed, None));
        splat.console.push(ConsoleSummary {
            kind: "warning".to_owned(),
            lines: vec!["WARNING: x".to_owned()],
            ..ConsoleSummary::default()
        });
        assert_eq!(got_through(&splat).0, Outcome::Crashed);
        let known = KnownSummary {
            reason: "r".to_owned(),
            link: "l".to_owned(),
            expires: "2027-01-01".to_owned(),
            expired: false,
        };
        splat.console[0].known = Some(KnownSummary { expired: true, ..known.clone() });
        assert_eq!(got_through(&splat).0, Outcome::Crashed);
        splat.console[0].known = Some(known);
        assert_eq!(got_through(&splat), (Outcome::Passed, None));
    }
}
