// SPDX-License-Identifier: MIT OR Apache-2.0
//! How sure a verdict is about a fault that shows only now and then.

use super::super::repeat::{Confidence, Rate};
use super::history::History;
use crate::report::mutants::{Class, MutantSummary};
use crate::vm::Perturbation;

/// Of what is said about rates: wrong at most once in twenty times.
const RISK: f64 = 0.05;

/// In words; `None` where there is nothing to doubt: a fault of kind `always` or `limit`, or a single run.
pub(super) fn sureness(summary: &MutantSummary, history: &History) -> Option<String> {
    if !matches!(summary.kind.as_str(), "race" | "silent") {
        return None;
    }
    let confidence = Confidence::of_risk(RISK)?;
    match summary.class {
        Class::Killed => {
            let last = summary.runs.last()?;
            let perturbation = Perturbation::find(&last.perturbation).ok()?;
            let seen = history.rate(&summary.name, &last.scenario, perturbation);
            if seen.runs < 2 {
                return None;
            }
            let rate = Rate::at_least(seen.kills, seen.runs, confidence)?;
            let tries = u32::try_from(summary.runs.len()).unwrap_or(u32::MAX);
            Some(format!(
                "seen in {} of {} runs of {} ({}): with 95 % confidence in at least {:.0} % of them, so that {tries} miss it with a probability of at most {:.2}",
                seen.kills,
                seen.runs,
                last.scenario,
                last.perturbation,
                100.0 * rate.value(),
                rate.missed(tries)
            ))
        }
        Class::Survived => {
            let runs = u32::try_from(summary.runs.len()).unwrap_or(u32::MAX).max(1);
            // The rate with which so many runs all miss it once in twenty times.
            let at_most = 1.0 - RISK.powf(f64::from(runs).recip());
            Some(format!(
                "not seen in {runs} runs: with 95 % confidence it shows in fewer than {:.0} % of such runs",
                100.0 * at_most
            ))
        }
        Class::TimedOut | Class::Unviable | Class::NotRun => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{run, summary};
    use super::*;

    #[test]
    fn a_race_says_how_often_it_shows_and_a_survivor_how_seldom() {
        let plain = Perturbation::default();
        let mut history = History::default();
        for killed in [true, true, false, true] {
            history.note("01-a", "smoke", plain, killed);
        }
        let mut killed = summary("race", Class::Killed);
        killed.runs = vec![run("smoke", false), run("smoke", true)];
        let text = sureness(&killed, &history).unwrap();
        assert!(text.contains("3 of 4 runs") && text.contains("at least 25 %"), "{text}");
        let mut survived = summary("race", Class::Survived);
        survived.runs = vec![run("smoke", false); 10];
        let text = sureness(&survived, &history).unwrap();
        assert!(text.contains("not seen in 10 runs") && text.contains("fewer than 26 %"), "{text}");
        assert_eq!(sureness(&summary("always", Class::Survived), &history), None);
    }
}
