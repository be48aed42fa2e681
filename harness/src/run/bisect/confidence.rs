// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many runs a candidate gets, so that the whole bisection is right with the confidence that was asked for.
//!
//! One failure proves bad; only "good" can be wrong. A bisection ends at the wrong place only if some candidate that is
//! bad is called good, so the risks of all candidates that are tested may not add up to more than `1 - confidence` (a
//! union bound: the first error happens on the path of a search without one). Each takes its share of what is left,
//! by how many are still to come. If the rate is not given but measured on the bad end, half of the risk is that
//! its lower bound is too high.

use super::search;
use crate::{
    report::bisect::RateSummary,
    run::repeat::{Confidence, Rate},
};

/// What is asked of a bisection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Of the end.
    pub confidence: Confidence,
    /// How often a bad candidate fails, at least; `None` to measure it on the bad end.
    pub rate: Option<Rate>,
    /// No candidate gets more runs. At least 1.
    pub max_runs: u32,
}

/// The risk that is left to take.
#[derive(Debug, Clone)]
pub struct Budget {
    left: f64,
    /// What was taken.
    taken: f64,
    rate: Rate,
    max_runs: u32,
}

/// What one candidate gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Clean runs before it is called good.
    pub runs: u32,
    /// How probable it is that a bad one is called good after so many.
    pub risk: f64,
}

impl Budget {
    /// With the whole risk of all tests.
    #[must_use]
    pub fn new(demand: &Demand, rate: Rate) -> Self {
        let (rate_risk, left) = risks(demand);
        Self { left, taken: rate_risk, rate, max_runs: demand.max_runs }
    }

    /// The share of a candidate when, with it, so many are still to be tested; it counts once [`Budget::take`]n.
    #[must_use]
    pub fn share(&self, ahead: u32) -> Share {
        let runs = self.rate.runs_needed(self.left / f64::from(ahead.max(1))).min(self.max_runs);
        Share { runs, risk: self.rate.missed(runs) }
    }

    /// A candidate has got its verdict, whichever: at other rolls of the dice it would have been the other one.
    pub fn take(&mut self, share: Share) {
        self.taken += share.risk;
        // What the cap has made larger is no debt of the others.
        self.left = (self.left - share.risk).max(0.0);
    }

    /// The confidence that everything so far is right.
    #[must_use]
    pub fn reached(&self) -> f64 {
        (1.0 - self.taken).max(0.0)
    }
}

/// The risk that the rate is not as high as it is taken to be, and that of all tests together.
fn risks(demand: &Demand) -> (f64, f64) {
    let risk = demand.confidence.risk();
    match demand.rate {
        Some(_) => (0.0, risk),
        None => (risk / 2.0, risk / 2.0),
    }
}

/// How often the bad end has to fail until its rate is known well enough: so that measuring and searching, with a
/// bound from so many failures, take the fewest runs together. Both take the longer the rarer the fault is, so the
/// number does not depend on it. It is fixed before the first run: who stops when the numbers look good is wrong more
/// often than he says.
#[must_use]
pub fn failures_to_see(demand: &Demand, suspects: usize) -> u32 {
    const MOST: u32 = 60;
    let steps = search::steps(suspects);
    let (rate_risk, test_risk) = risks(demand);
    let Some(sure) = Confidence::of_risk(rate_risk) else { return 1 };
    // Half of the steps are bad ones, which fail early; the good end and the verification are good.
    let good = f64::from(steps) / 2.0 + 2.0;
    let cost = |failures: u32| {
        let needed = Rate::at_least(failures, failures, sure)
            .map_or(u32::MAX, |rate| rate.runs_needed(test_risk / f64::from(steps + 1)));
        f64::from(failures) + good * f64::from(needed)
    };
    (1..=MOST).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(1)
}

/// What is known of the rate from the bad end's runs.
#[must_use]
pub fn measured(demand: &Demand, failures: u32, runs: u32) -> RateSummary {
    let sure = Confidence::of_risk(risks(demand).0);
    match sure.and_then(|sure| Some((sure, Rate::at_least(failures, runs, sure)?))) {
        Some((confidence, value)) => RateSummary::Measured { failures, runs, value, confidence },
        None => RateSummary::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand(confidence: &str, rate: Option<&str>, max_runs: u32) -> Demand {
        Demand {
            confidence: confidence.parse().unwrap(),
            rate: rate.map(|rate| rate.parse().unwrap()),
            max_runs,
        }
    }

    #[test]
    fn a_fault_that_always_shows_takes_one_run_and_no_risk() {
        let demand = demand("0.99", Some("1"), 100);
        let mut budget = Budget::new(&demand, Rate::ALWAYS);
        for ahead in [6, 5, 4, 3, 2, 1] {
            let share = budget.share(ahead);
            assert_eq!(share, Share { runs: 1, risk: 0.0 });
            budget.take(share);
        }
        assert!((budget.reached() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_cap_on_the_runs_is_paid_with_confidence() {
        let demand = demand("0.99", Some("0.5"), 3);
        let mut budget = Budget::new(&demand, "0.5".parse().unwrap());
        let share = budget.share(1);
        assert_eq!(share, Share { runs: 3, risk: 0.125 });
        budget.take(share);
        assert!((budget.reached() - 0.875).abs() < 1e-12);
    }

    #[test]
    fn the_rate_is_measured_until_more_of_it_would_cost_more_than_it_saves() {
        let seen = failures_to_see(&demand("0.99", None, 1000), 30);
        assert!((10..=20).contains(&seen), "{seen}");
        assert!(matches!(measured(&demand("0.99", None, 9), 0, 9), RateSummary::Unknown));
        let RateSummary::Measured { value, confidence, .. } = measured(&demand("0.98", None, 9), 9, 9) else {
            panic!("9 of 9 say something")
        };
        assert!((confidence.value() - 0.99).abs() < 1e-12 && value.value() > 0.59, "{value}");
    }

    proptest! {
        #[test]
        fn all_shares_together_are_within_the_risk(
            confidence in 0.5_f64..0.999,
            rate in 0.05_f64..1.0,
            suspects in 1_usize..300,
        ) {
            let demand = Demand {
                confidence: confidence.to_string().parse().unwrap(),
                rate: Some(rate.to_string().parse().unwrap()),
                max_runs: u32::MAX,
            };
            let mut budget = Budget::new(&demand, demand.rate.unwrap());
            for ahead in (1..=search::steps(suspects) + 1).rev() {
                budget.take(budget.share(ahead));
            }
            prop_assert!(budget.reached() + 1e-9 >= confidence, "{}", budget.reached());
        }
    }
}
