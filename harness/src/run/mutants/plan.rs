// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which runs a mutant may show itself, in their order.

use super::history::History;
use crate::plan::mutant::Mutant;
use crate::vm::Perturbation;

/// One guest to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub scenario: String,
    pub perturbation: Perturbation,
    /// On top of the run's seed.
    pub seed: u64,
}

/// The tries of a mutant: each that it is due in the scenarios that should show it, the one with the longest history of
/// kills first, disturbed in turns; then once in each other scenario, in the same order.
pub(super) fn tries(
    mutant: &Mutant,
    scenarios: &[String],
    perturbations: &[Perturbation],
    history: &History,
) -> Vec<Try> {
    let mut named = mutant.scenarios.clone();
    let mut others: Vec<String> =
        scenarios.iter().filter(|scenario| !named.contains(scenario)).cloned().collect();
    // The order of the file, and of the list, decides between two that have killed as often.
    for scenarios in [&mut named, &mut others] {
        scenarios.sort_by_key(|scenario| std::cmp::Reverse(history.rank(&mutant.name, scenario)));
    }
    let disturbed = |number: u32| match perturbations.get(number as usize % perturbations.len().max(1)) {
        // A fault that is always there needs nobody to disturb it.
        Some(perturbation) if mutant.tries > 1 => *perturbation,
        _ => Perturbation::default(),
    };
    let due =
        (0..mutant.tries).flat_map(|number| named.iter().map(move |scenario| (scenario.clone(), number)));
    let mut tries: Vec<Try> = due
        .map(|(scenario, number)| Try { scenario, perturbation: disturbed(number), seed: number.into() })
        .collect();
    tries.extend(others.into_iter().map(|scenario| Try {
        scenario,
        perturbation: Perturbation::default(),
        seed: 0,
    }));
    tries
}

#[cfg(test)]
mod tests {
    use super::super::tests::mutant;
    use super::*;

    fn scenarios() -> Vec<String> {
        ["smoke", "nest", "quiet", "churn"].map(str::to_owned).to_vec()
    }

    fn named(tries: &[Try]) -> Vec<String> {
        let word = |one: &Try| format!("{} {} {}", one.scenario, one.perturbation, one.seed);
        tries.iter().map(word).collect()
    }

    #[test]
    fn a_fault_that_is_always_there_is_tried_once_where_it_should_show() {
        let mutant = mutant("01-a", &["nest", "smoke"], 1);
        let tries = tries(&mutant, &scenarios(), &Perturbation::ALL, &History::default());
        assert_eq!(named(&tries), ["nest plain 0", "smoke plain 0", "quiet plain 0", "churn plain 0"]);
    }

    #[test]
    fn a_race_has_its_tries_under_each_perturbation_in_turn() {
        let mutant = mutant("01-a", &["smoke"], 3);
        let perturbations = ["pinned", "vcpus-4"].map(|name| Perturbation::find(name).unwrap());
        let tries = tries(&mutant, &scenarios(), &perturbations, &History::default());
        let expected = ["smoke pinned 0", "smoke vcpus-4 1", "smoke pinned 2"];
        assert_eq!(named(&tries)[..3], expected);
        assert_eq!(named(&tries)[3..], ["nest plain 0", "quiet plain 0", "churn plain 0"]);
    }

    #[test]
    fn what_has_killed_most_comes_first() {
        let mut history = History::default();
        let plain = Perturbation::default();
        history.note("02-b", "churn", plain, true);
        history.note("02-b", "churn", plain, true);
        history.note("02-b", "quiet", plain, true);
        // Its own history counts for more than that of all others.
        history.note("01-a", "smoke", plain, true);
        let first = tries(&mutant("01-a", &["nest", "smoke"], 1), &scenarios(), &[], &history);
        assert_eq!(named(&first), ["smoke plain 0", "nest plain 0", "churn plain 0", "quiet plain 0"]);
    }
}
