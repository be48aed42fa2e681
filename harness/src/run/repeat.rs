// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often what fails only now and then has to be repeated, and what is known of how often it fails.
//!
//! Runs are taken for independent trials that fail with the same probability *p* (a rate, per run). Then
//!
//! - `n` clean runs of something that fails with rate `p` come with probability `(1 - p)^n`: who calls it good after so
//!   many is wrong no more often than that ([`Rate::missed`], [`Rate::runs_needed`]);
//! - after `k` failures in `n` runs the rate is, at a confidence, at least the exact bound of C. J. Clopper and
//!   E. S. Pearson ("The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26,
//!   1934): the `p` with which `k` or more failures in `n` runs have the probability `1 - confidence`, a quantile of
//!   the beta distribution ([`Rate::at_least`]). Wilson's interval is shorter, and too often wrong for few runs. The
//!   bound also stands for whoever runs until the `k`-th failure: `n` runs or fewer were enough for it exactly when
//!   `k` or more of `n` runs fail.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use statrs::function::beta::beta_reg;
use thiserror::Error;

/// Text that is no probability of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RepeatError {
    #[error("`{0}` is no confidence (hint: above 0 and below 1, for example 0.99)")]
    Confidence(String),
    #[error(
        "`{0}` is no rate (hint: failures per run, above 0 and at most 1: 0.1 or 1/10; 1 for what always fails)"
    )]
    Rate(String),
}

/// How sure one wants to be: a probability above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confidence(f64);

impl Confidence {
    /// The confidence that errors of this probability leave.
    #[must_use]
    pub fn of_risk(risk: f64) -> Option<Self> {
        (risk > 0.0 && risk < 1.0).then_some(Self(1.0 - risk))
    }

    /// The probability.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }

    /// The probability of an error that it allows.
    #[must_use]
    pub fn risk(self) -> f64 {
        1.0 - self.0
    }
}

impl FromStr for Confidence {
    type Err = RepeatError;

    fn from_str(text: &str) -> Result<Self, RepeatError> {
        match text.parse::<f64>() {
            Ok(value) if value > 0.0 && value < 1.0 => Ok(Self(value)),
            _ => Err(RepeatError::Confidence(text.to_owned())),
        }
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often something fails, per run: above 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(f64);

impl Rate {
    /// What fails in every run.
    pub const ALWAYS: Self = Self(1.0);

    /// What is known of a rate after `failures` in `runs`, at a confidence: it is at least this. Nothing without a
    /// failure.
    #[must_use]
    pub fn at_least(failures: u32, runs: u32, confidence: Confidence) -> Option<Self> {
        let failures = failures.min(runs);
        if failures == 0 {
            return None;
        }
        let (failed, clean) = (f64::from(failures), f64::from(runs - failures));
        if clean <= 0.0 {
            // The same in closed form.
            return Some(Self(confidence.risk().powf(failed.recip())));
        }
        // How probable so many failures are grows with the rate. The library's inverse is good to five digits only.
        let (mut bound, mut above) = (0.0, 1.0);
        for _ in 0..f64::MANTISSA_DIGITS {
            let middle = f64::midpoint(bound, above);
            let tail = beta_reg(failed, clean + 1.0, middle);
            *if tail < confidence.risk() { &mut bound } else { &mut above } = middle;
        }
        (bound > 0.0).then_some(Self(bound))
    }

    /// The probability per run.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }

    /// How probable it is that so many runs all come out clean.
    #[must_use]
    pub fn missed(self, runs: u32) -> f64 {
        (1.0 - self.0).powf(f64::from(runs))
    }

    /// How many clean runs it takes until something that fails with this rate is taken for good with a probability of
    /// at most `risk`. At least one.
    #[must_use]
    pub fn runs_needed(self, risk: f64) -> u32 {
        if risk >= 1.0 || self.0 >= 1.0 {
            return 1;
        }
        if risk <= 0.0 {
            return u32::MAX;
        }
        // `as` ends at u32::MAX.
        let estimate = (risk.ln() / (-self.0).ln_1p()).ceil().max(1.0) as u32;
        // A run that only the last digit of a logarithm asks for is none that is needed.
        if estimate > 1 && self.missed(estimate - 1) <= risk * (1.0 + 1e-9) { estimate - 1 } else { estimate }
    }
}

/// `0.1`, or `1/10` as one says it.
impl FromStr for Rate {
    type Err = RepeatError;

    fn from_str(text: &str) -> Result<Self, RepeatError> {
        let value = match text.split_once('/') {
            Some((times, runs)) => {
                times.trim().parse::<u32>().ok().zip(runs.trim().parse::<u32>().ok()).map(|(times, runs)| {
                    // 0/0 is none, and is refused below.
                    f64::from(times) / f64::from(runs)
                })
            }
            None => text.parse().ok(),
        };
        match value {
            Some(value) if value > 0.0 && value <= 1.0 => Ok(Self(value)),
            _ => Err(RepeatError::Rate(text.to_owned())),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn confidence(text: &str) -> Confidence {
        text.parse().unwrap()
    }

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    /// How probable `failures` or more in `runs` are, run by run.
    fn tail(failures: u32, runs: u32, p: f64) -> f64 {
        let mut of = vec![0.0; runs as usize + 1];
        of[0] = 1.0;
        for run in 1..of.len() {
            for k in (0..=run).rev() {
                of[k] = of[k] * (1.0 - p) + if k > 0 { of[k - 1] * p } else { 0.0 };
            }
        }
        of[failures as usize..].iter().sum()
    }

    #[test]
    fn what_fails_in_one_run_of_ten_takes_44_clean_runs_at_99_percent() {
        assert_eq!(rate("0.1").runs_needed(0.01), 44);
        assert_eq!(rate("1/10").runs_needed(0.01), 44);
        assert_eq!(rate("0.5").runs_needed(0.25), 2);
        assert_eq!(rate("1").runs_needed(1e-9), 1);
        assert_eq!(rate("1e-12").runs_needed(1e-9), u32::MAX);
        assert_eq!(rate("0.1").runs_needed(0.0), u32::MAX);
        assert!((rate("1").missed(1) - 0.0).abs() < f64::EPSILON);
        assert!((rate("0.3").missed(0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn bounds_are_those_of_the_tables() {
        // Lower ends of two-sided 95 % intervals, as R's binom.test gives them.
        for (failures, runs, bound) in [(1, 10, 0.002_528_579), (5, 10, 0.187_086), (10, 10, 0.691_502_9)] {
            let found = Rate::at_least(failures, runs, confidence("0.975")).unwrap().value();
            assert!((found - bound).abs() < 1e-6, "{failures} of {runs}: {found}");
        }
        assert_eq!(Rate::at_least(0, 10, confidence("0.99")), None);
        assert_eq!(Rate::at_least(0, 0, confidence("0.99")), None);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["0", "1", "-1", "99", "nan", "inf", "x", ""] {
            assert_eq!(text.parse::<Confidence>(), Err(RepeatError::Confidence(text.to_owned())));
        }
        for text in ["0", "1.1", "2/1", "0/5", "0/0", "1/0", "-1/-2", "nan", "x", ""] {
            assert_eq!(text.parse::<Rate>(), Err(RepeatError::Rate(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn a_bound_is_where_the_tail_has_the_risk(runs in 1_u32..400, share in 0.0_f64..=1.0, risk in 0.0005_f64..0.4) {
            let failures = ((f64::from(runs) * share) as u32).max(1);
            let sure = Confidence::of_risk(risk).unwrap();
            let bound = Rate::at_least(failures, runs, sure).unwrap().value();
            prop_assert!(bound <= f64::from(failures) / f64::from(runs));
            let found = tail(failures, runs, bound);
            prop_assert!((found - risk).abs() < 1e-7, "{} of {}: {} {}", failures, runs, bound, found);
        }

        #[test]
        fn as_many_runs_as_are_needed_and_no_more(p in 0.001_f64..1.0, risk in 1e-6_f64..0.9) {
            let rate = rate(&p.to_string());
            let needed = rate.runs_needed(risk);
            prop_assert!(rate.missed(needed) <= risk * (1.0 + 1e-9));
            prop_assert!(needed == 1 || rate.missed(needed - 1) > risk);
        }
    }
}
