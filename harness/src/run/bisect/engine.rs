// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection from its ends to the culprit and its removal. What a candidate is and how it is run is the tester's.
//!
//! The bad end comes first: it is there that the fault's rate is measured, and without a fault there is nothing to do.

use serde::{Deserialize, Serialize};

use super::{
    confidence::{self, Budget, Demand, Share},
    search::{Next, Search},
};
use crate::{
    report::bisect::{Certainty, End, Purpose, RateSummary, StepSummary, Verdict, Verification, Verified},
    run::repeat::Rate,
};

/// How often in a row a run may prove nothing before the candidate is skipped for it.
pub const TRIES: u32 = 3;
/// The same for one that has come to results before: it can be tested, and the machine may have a bad moment.
pub const TRIES_ONCE_TESTED: u32 = 12;

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    Candidate(usize),
    /// The bad end without what this candidate adds to the one before it.
    Without(usize),
}

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ran {
    Clean,
    Failed(String),
    /// It proves nothing, another one may.
    Unclear(String),
    /// The candidate cannot be tested.
    Skipped(String),
}

/// What becomes of the culprit in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The bad end without it can be tested as [`Probe::Without`]; in words, how it was taken out.
    Possible(String),
    /// In words, why not.
    NotPossible(String),
    /// It is nothing that can be taken out of anything; in words.
    Meaningless(String),
}

/// A test that is about to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Ahead {
    /// From 1.
    pub number: u32,
    pub purpose: Purpose,
    /// Place among the candidates.
    pub candidate: usize,
    /// How many candidates may be the culprit, and how many steps are left, if none is skipped.
    pub suspects: usize,
    pub steps_left: u32,
    pub until: Until,
}

/// When a candidate has been run often enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    /// At the first failure, or after so many clean runs.
    Clean(u32),
    /// At this failure, or after so many runs: its rate is measured.
    Failures { failures: u32, runs: u32 },
}

/// Runs candidates, and is told what comes of it.
pub trait Tester {
    /// What ends a bisection without a verdict.
    type Trouble;

    /// Runs what is tested once. `attempt` counts from 1 for each.
    ///
    /// # Errors
    /// Trouble that is not the candidate's.
    fn run(&mut self, probe: Probe, attempt: u32) -> Result<(Ran, f64), Self::Trouble>;

    /// Whether the bad end can be had without a candidate.
    ///
    /// # Errors
    /// As [`Tester::run`].
    fn removal(&mut self, culprit: usize) -> Result<Removal, Self::Trouble>;

    /// A test begins.
    fn begin(&mut self, _ahead: &Ahead) {}

    /// A test has ended.
    fn ended(&mut self, _step: &StepSummary) {}
}

/// What a bisection came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub steps: Vec<StepSummary>,
    pub end: End,
    pub verification: Option<Verification>,
    pub certainty: Certainty,
}

/// Bisects the candidates 0 (good) to `last` (bad), of which there are at least two.
///
/// # Errors
/// The tester's trouble.
pub fn bisect<T: Tester>(tester: &mut T, last: usize, demand: &Demand) -> Result<Found, T::Trouble> {
    let mut run = Run { tester, demand, last, steps: Vec::new(), suspects: last };
    let search = Search::new(0, last);
    let (rate, budget) = match demand.rate {
        Some(rate) => {
            let mut budget = Budget::new(demand, rate);
            let share = budget.share(search.steps_left() + 2);
            run.candidate(Purpose::BadEnd, last, share, &mut budget)?;
            (RateSummary::Given { value: rate }, Some(budget))
        }
        None => {
            let rate = run.measure()?;
            let budget = rate.value().map(|value| Budget::new(demand, value));
            (rate, budget)
        }
    };
    let bad = run.steps.last().map_or(Verdict::Skipped, |step| step.verdict);
    let (Some(value), Some(mut budget), Verdict::Bad) = (rate.value(), budget.clone(), bad) else {
        let end = match bad {
            Verdict::Skipped => End::EndSkipped { purpose: Purpose::BadEnd },
            Verdict::Good | Verdict::Bad => End::BadEndIsGood,
        };
        let reached = budget.map_or(0.0, |budget| budget.reached());
        return Ok(run.found(end, None, rate, reached));
    };
    let share = budget.share(search.steps_left() + 1);
    match run.candidate(Purpose::GoodEnd, 0, share, &mut budget)? {
        Verdict::Good => {}
        Verdict::Bad => return Ok(run.found(End::GoodEndIsBad, None, rate, budget.reached())),
        Verdict::Skipped => {
            let end = End::EndSkipped { purpose: Purpose::GoodEnd };
            return Ok(run.found(end, None, rate, budget.reached()));
        }
    }
    let end = run.search(search, &mut budget)?;
    let reached = budget.reached();
    let verification = match end {
        End::Culprit { candidate } => Some(run.verify(candidate, value)?),
        _ => None,
    };
    Ok(run.found(end, verification, rate, reached))
}

/// Runs one candidate until it is good or bad: what `git bisect run` asks for.
///
/// # Errors
/// The tester's trouble.
pub fn judge_one<T: Tester>(tester: &mut T, demand: &Demand, rate: Rate) -> Result<StepSummary, T::Trouble> {
    let mut run = Run { tester, demand, last: 0, steps: Vec::new(), suspects: 1 };
    let runs = rate.runs_needed(demand.confidence.risk()).min(demand.max_runs);
    let probe = Probe::Candidate(0);
    run.test(Purpose::Search, probe, Until::Clean(runs), |runs| rate.missed(runs))
}

struct Run<'a, T> {
    tester: &'a mut T,
    demand: &'a Demand,
    last: usize,
    steps: Vec<StepSummary>,
    /// How many candidates may be the culprit.
    suspects: usize,
}

impl<T: Tester> Run<'_, T> {
    /// The rate of the fault, from runs of the bad end.
    fn measure(&mut self) -> Result<RateSummary, T::Trouble> {
        let failures = confidence::failures_to_see(self.demand, self.last);
        let until = Until::Failures { failures, runs: self.demand.max_runs };
        let step = self.test(Purpose::BadEnd, Probe::Candidate(self.last), until, |_| 0.0)?;
        Ok(confidence::measured(self.demand, step.failures, step.runs))
    }

    fn search(&mut self, mut search: Search, budget: &mut Budget) -> Result<End, T::Trouble> {
        loop {
            match search.next() {
                Next::Culprit(candidate) => return Ok(End::Culprit { candidate }),
                Next::OneOf(first, last) => return Ok(End::OneOf { first, last }),
                Next::Test(at) => {
                    self.suspects = search.suspects();
                    let share = budget.share(search.steps_left());
                    let verdict = self.candidate(Purpose::Search, at, share, budget)?;
                    search.mark(at, verdict);
                }
            }
        }
    }

    fn candidate(
        &mut self,
        purpose: Purpose,
        at: usize,
        share: Share,
        budget: &mut Budget,
    ) -> Result<Verdict, T::Trouble> {
        let until = Until::Clean(share.runs);
        let verdict = self.test(purpose, Probe::Candidate(at), until, |_| share.risk)?.verdict;
        if verdict != Verdict::Skipped {
            budget.take(share);
        }
        Ok(verdict)
    }

    /// The bad end without the culprit, with a confidence of its own.
    fn verify(&mut self, culprit: usize, rate: Rate) -> Result<Verification, T::Trouble> {
        let how = match self.tester.removal(culprit)? {
            Removal::Possible(how) => how,
            Removal::NotPossible(how) => return Ok(Verification { state: Verified::NotTested, how }),
            Removal::Meaningless(how) => return Ok(Verification { state: Verified::Impossible, how }),
        };
        self.suspects = 1;
        let allowed = self.demand.confidence.risk();
        let runs = rate.runs_needed(allowed).min(self.demand.max_runs);
        let probe = Probe::Without(culprit);
        let step = self.test(Purpose::Verification, probe, Until::Clean(runs), |runs| rate.missed(runs))?;
        Ok(match step.verdict {
            Verdict::Good if step.risk > allowed * (1.0 + 1e-9) => Verification {
                state: Verified::NotTested,
                how: format!("{how}: {runs} clean runs are too few for a verdict"),
            },
            Verdict::Good => Verification { state: Verified::Yes, how },
            Verdict::Bad => Verification { state: Verified::No, how },
            Verdict::Skipped => {
                let why = step.reason.unwrap_or_default();
                Verification { state: Verified::NotTested, how: format!("{how}: {why}") }
            }
        })
    }

    /// Runs it until there is a verdict. `risk` is that of a good one after so many runs.
    fn test(
        &mut self,
        purpose: Purpose,
        probe: Probe,
        until: Until,
        risk: impl FnOnce(u32) -> f64,
    ) -> Result<StepSummary, T::Trouble> {
        let (Probe::Candidate(candidate) | Probe::Without(candidate)) = probe;
        let number = self.steps.len() as u32 + 1;
        self.tester.begin(&Ahead {
            number,
            purpose,
            candidate,
            suspects: self.suspects,
            steps_left: super::search::steps(self.suspects),
            until,
        });
        let needed = match until {
            Until::Clean(runs) => Some(runs),
            Until::Failures { .. } => None,
        };
        let mut step = StepSummary {
            number,
            purpose,
            candidate,
            verdict: Verdict::Good,
            runs: 0,
            failures: 0,
            unclear: 0,
            needed,
            risk: 0.0,
            seconds: 0.0,
            reason: None,
        };
        let mut in_a_row = 0;
        for attempt in 1.. {
            let (ran, seconds) = self.tester.run(probe, attempt)?;
            step.seconds += seconds;
            match ran {
                Ran::Clean => step.runs += 1,
                Ran::Failed(reason) => {
                    step.runs += 1;
                    step.failures += 1;
                    step.verdict = Verdict::Bad;
                    step.reason.get_or_insert(reason);
                }
                Ran::Unclear(reason) => {
                    step.unclear += 1;
                    in_a_row += 1;
                    if in_a_row < if step.runs == 0 { TRIES } else { TRIES_ONCE_TESTED } {
                        continue;
                    }
                    step.verdict = Verdict::Skipped;
                    step.reason = Some(format!("{in_a_row} times in a row: {reason}"));
                    break;
                }
                Ran::Skipped(reason) => {
                    step.verdict = Verdict::Skipped;
                    step.reason = Some(reason);
                    break;
                }
            }
            in_a_row = 0;
            let enough = match until {
                Until::Clean(runs) => step.failures > 0 || step.runs >= runs,
                Until::Failures { failures, runs } => step.failures >= failures || step.runs >= runs,
            };
            if enough {
                break;
            }
        }
        if step.verdict != Verdict::Skipped {
            step.risk = risk(step.needed.unwrap_or(step.runs));
        }
        self.tester.ended(&step);
        self.steps.push(step.clone());
        Ok(step)
    }

    fn found(self, end: End, verification: Option<Verification>, rate: RateSummary, reached: f64) -> Found {
        let (asked, max_runs) = (self.demand.confidence, self.demand.max_runs);
        let certainty = Certainty { asked, reached, rate, max_runs };
        Found { steps: self.steps, end, verification, certainty }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
