// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which candidate is tested next.
//!
//! Candidates are numbered in their order; the first is known to be good, the last to be bad, and somewhere between two
//! neighbours good turns into bad. Each verdict halves what is left. A candidate that cannot be tested is stepped aside
//! from, further each time (what does not build has mostly neighbours that do not either); where nothing is left to
//! test, the culprit is one of several.

use crate::report::bisect::Verdict;

/// Marks of the candidates, and where good may turn into bad.
#[derive(Debug, Clone)]
pub struct Search {
    good: usize,
    bad: usize,
    /// In the order in which they were marked.
    skipped: Vec<usize>,
}

/// What the marks come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This candidate is to be tested.
    Test(usize),
    /// The first bad candidate: the one before it is good.
    Culprit(usize),
    /// One of these, first to last, is the first bad one: all but the last were skipped.
    OneOf(usize, usize),
}

impl Search {
    /// Between a good candidate and a bad one behind it.
    #[must_use]
    pub const fn new(good: usize, bad: usize) -> Self {
        Self { good, bad, skipped: Vec::new() }
    }

    /// How many candidates could be the first bad one. At least one.
    #[must_use]
    pub fn suspects(&self) -> usize {
        self.bad.saturating_sub(self.good).max(1)
    }

    /// How many more verdicts it takes, if none is skipped.
    #[must_use]
    pub fn steps_left(&self) -> u32 {
        steps(self.suspects())
    }

    /// What is next.
    #[must_use]
    pub fn next(&self) -> Next {
        if self.good + 1 >= self.bad {
            return Next::Culprit(self.bad);
        }
        let middle = self.good + (self.bad - self.good) / 2;
        let aim = self.step_aside(middle);
        let open = (self.good + 1..self.bad).filter(|at| !self.skipped.contains(at));
        match open.min_by_key(|at| at.abs_diff(aim)) {
            Some(at) => Next::Test(at),
            None => Next::OneOf(self.good + 1, self.bad),
        }
    }

    /// The middle, or beside it by 1, 2, 4, ... to either side in turn, as many candidates as were skipped in between.
    fn step_aside(&self, middle: usize) -> usize {
        let skips = self.skipped.iter().filter(|at| (self.good..self.bad).contains(*at)).count();
        let Some(exponent) = skips.checked_sub(1) else { return middle };
        let distance = 1_usize.checked_shl(u32::try_from(exponent).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
        if skips % 2 == 1 {
            middle.saturating_add(distance).min(self.bad - 1)
        } else {
            middle.saturating_sub(distance).max(self.good + 1)
        }
    }

    /// Marks a candidate that [`Search::next`] has given.
    pub fn mark(&mut self, at: usize, verdict: Verdict) {
        match verdict {
            Verdict::Good => self.good = self.good.max(at),
            Verdict::Bad => self.bad = self.bad.min(at),
            Verdict::Skipped => self.skipped.push(at),
        }
    }
}

/// How many halvings make one of so many.
#[must_use]
pub fn steps(of: usize) -> u32 {
    of.max(1).next_power_of_two().ilog2()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Searches with a fault that `culprit` brings; gives the end and what was tested.
    fn search(last: usize, culprit: usize, broken: &BTreeSet<usize>) -> (Next, Vec<usize>) {
        let mut search = Search::new(0, last);
        let mut tested = Vec::new();
        loop {
            match search.next() {
                Next::Test(at) => {
                    assert!(!tested.contains(&at) && at > 0 && at < last, "{at} after {tested:?}");
                    tested.push(at);
                    let verdict = match at {
                        at if broken.contains(&at) => Verdict::Skipped,
                        at if at < culprit => Verdict::Good,
                        _ => Verdict::Bad,
                    };
                    search.mark(at, verdict);
                }
                end => return (end, tested),
            }
        }
    }

    #[test]
    fn one_of_thirty_takes_five_steps_at_most() {
        for culprit in 1..=30 {
            let (end, tested) = search(30, culprit, &BTreeSet::new());
            assert_eq!(end, Next::Culprit(culprit));
            assert!(tested.len() <= 5, "{tested:?}");
        }
        assert_eq!(Search::new(0, 30).steps_left(), 5);
        assert_eq!((steps(1), steps(2), steps(3), steps(32), steps(33)), (0, 1, 2, 5, 6));
    }

    #[test]
    fn a_lone_candidate_is_the_culprit_without_a_test() {
        assert_eq!(Search::new(3, 4).next(), Next::Culprit(4));
    }

    #[test]
    fn what_cannot_be_tested_is_left_by_ever_longer_steps() {
        let mut search = Search::new(0, 64);
        let mut seen = Vec::new();
        for _ in 0..5 {
            let Next::Test(at) = search.next() else { panic!("{search:?}") };
            seen.push(at);
            search.mark(at, Verdict::Skipped);
        }
        assert_eq!(seen, [32, 33, 30, 36, 24]);
    }

    #[test]
    fn a_culprit_beside_skipped_ones_is_one_of_them() {
        let (end, _) = search(30, 17, &(12..=17).collect());
        assert_eq!(end, Next::OneOf(12, 18));
        let (end, _) = search(2, 1, &BTreeSet::from([1]));
        assert_eq!(end, Next::OneOf(1, 2));
    }

    proptest! {
        #[test]
        fn the_end_holds_the_culprit_and_nothing_that_could_be_told_apart(
            last in 1_usize..200,
            at in 0.0_f64..1.0,
            broken in proptest::collection::btree_set(1_usize..200, 0..60),
        ) {
            let culprit = 1 + (last as f64 * at) as usize;
            let broken: BTreeSet<usize> = broken.into_iter().filter(|at| *at < last).collect();
            let (end, tested) = search(last, culprit, &broken);
            let (first, to) = match end {
                Next::Culprit(at) => (at, at),
                Next::OneOf(first, last) => (first, last),
                Next::Test(_) => unreachable!(),
            };
            prop_assert!((first..=to).contains(&culprit));
            prop_assert!((first..to).all(|at| broken.contains(&at)));
            let skips = tested.iter().filter(|at| broken.contains(at)).count();
            if skips == 0 {
                prop_assert!(tested.len() <= steps(last) as usize, "{:?}", tested);
            }
        }
    }
}
