// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole way with a tester that plays kernels: what it fails, how often, what cannot be tested.

use std::{collections::BTreeSet, convert::Infallible};

use proptest::prelude::*;

use super::*;

/// Marsaglia's xorshift64*: the same dice everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Candidates from `culprit` on fail with `rate`; those in `broken` do not build; of `murky` every second run proves nothing.
struct Fake {
    last: usize,
    culprit: usize,
    rate: f64,
    broken: BTreeSet<usize>,
    murky: bool,
    removal: Removal,
    /// Whether the fault stays without the culprit.
    stays: bool,
    dice: Dice,
    runs: u32,
}

impl Fake {
    fn new(last: usize, culprit: usize, rate: f64) -> Self {
        Self {
            last,
            culprit,
            rate,
            broken: BTreeSet::new(),
            murky: false,
            removal: Removal::Possible("taken out".to_owned()),
            stays: false,
            dice: Dice(0x9e37_79b9_7f4a_7c15),
            runs: 0,
        }
    }

    fn bisect(&mut self, demand: &Demand) -> Found {
        let last = self.last;
        let Ok(found) = bisect(self, last, demand);
        found
    }
}

impl Tester for Fake {
    type Trouble = Infallible;

    fn run(&mut self, probe: Probe, attempt: u32) -> Result<(Ran, f64), Infallible> {
        self.runs += 1;
        let bad = match probe {
            Probe::Candidate(at) if self.broken.contains(&at) => {
                return Ok((Ran::Skipped("does not build".to_owned()), 1.0));
            }
            Probe::Candidate(at) => at >= self.culprit,
            Probe::Without(at) => at != self.culprit || self.stays,
        };
        if self.murky && attempt % 2 == 1 {
            return Ok((Ran::Unclear("lost".to_owned()), 1.0));
        }
        let fails = bad && self.dice.roll() < self.rate;
        Ok((if fails { Ran::Failed("it fails".to_owned()) } else { Ran::Clean }, 1.0))
    }

    fn removal(&mut self, _culprit: usize) -> Result<Removal, Infallible> {
        Ok(self.removal.clone())
    }
}

fn demand(confidence: &str, rate: Option<&str>, max_runs: u32) -> Demand {
    Demand { confidence: confidence.parse().unwrap(), rate: rate.map(|rate| rate.parse().unwrap()), max_runs }
}

fn purposes(found: &Found) -> Vec<Purpose> {
    found.steps.iter().map(|step| step.purpose).collect()
}

#[test]
fn a_fault_that_always_shows_takes_a_run_for_each_candidate() {
    let mut fake = Fake::new(30, 17, 1.0);
    let found = fake.bisect(&demand("0.99", Some("1"), 100));
    assert_eq!(found.end, End::Culprit { candidate: 17 });
    assert_eq!(found.verification.as_ref().unwrap().state, Verified::Yes);
    let searched = purposes(&found).iter().filter(|purpose| **purpose == Purpose::Search).count();
    assert!(searched <= 5, "{found:?}");
    assert_eq!(fake.runs, found.steps.len() as u32);
    assert!((found.certainty.reached - 1.0).abs() < f64::EPSILON);
    assert!((found.steps.iter().map(|step| step.seconds).sum::<f64>() - f64::from(fake.runs)).abs() < 1e-9);
}

#[test]
fn ends_that_are_not_what_they_were_said_to_be_are_told() {
    let always = demand("0.99", Some("1"), 100);
    let found = Fake::new(30, 31, 1.0).bisect(&always);
    assert_eq!((found.end.clone(), purposes(&found)), (End::BadEndIsGood, vec![Purpose::BadEnd]));
    // Nothing is known of its rate: only the cap ends it.
    let mut fake = Fake::new(30, 31, 1.0);
    let found = fake.bisect(&demand("0.99", None, 25));
    assert_eq!((found.end, found.certainty.rate, fake.runs), (End::BadEndIsGood, RateSummary::Unknown, 25));
    let found = Fake::new(30, 0, 1.0).bisect(&always);
    assert_eq!(found.end, End::GoodEndIsBad);
    for (broken, purpose) in [(30, Purpose::BadEnd), (0, Purpose::GoodEnd)] {
        let mut fake = Fake::new(30, 17, 1.0);
        fake.broken.insert(broken);
        for demand in [always, demand("0.99", None, 25)] {
            assert_eq!(fake.bisect(&demand).end, End::EndSkipped { purpose });
        }
    }
}

#[test]
fn what_does_not_build_is_skipped_and_never_the_culprit_alone() {
    let mut fake = Fake::new(30, 17, 1.0);
    fake.broken.extend(12..=17);
    let found = fake.bisect(&demand("0.99", Some("1"), 100));
    assert_eq!((found.end.clone(), found.verification.clone()), (End::OneOf { first: 12, last: 18 }, None));
    let skipped = |step: &&StepSummary| step.verdict == Verdict::Skipped;
    let reasons: Vec<_> = found.steps.iter().filter(skipped).map(|step| step.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("does not build"); 6]);
}

#[test]
fn a_run_that_proves_nothing_is_done_again_and_a_candidate_of_such_is_skipped() {
    let mut fake = Fake::new(8, 3, 1.0);
    fake.murky = true;
    let found = fake.bisect(&demand("0.9", Some("0.5"), 100));
    assert_eq!(found.end, End::Culprit { candidate: 3 });
    assert!(found.steps.iter().all(|step| step.unclear == step.runs), "{found:?}");

    struct Murky;
    impl Tester for Murky {
        type Trouble = Infallible;
        fn run(&mut self, _: Probe, attempt: u32) -> Result<(Ran, f64), Infallible> {
            assert!(attempt <= TRIES);
            Ok((Ran::Unclear("lost".to_owned()), 1.0))
        }
        fn removal(&mut self, _: usize) -> Result<Removal, Infallible> {
            unreachable!()
        }
    }
    let Ok(step) = judge_one(&mut Murky, &demand("0.9", None, 100), Rate::ALWAYS);
    assert_eq!((step.verdict, step.unclear, step.runs), (Verdict::Skipped, TRIES, 0));
    assert_eq!(step.reason.unwrap(), "3 times in a row: lost");
}

#[test]
fn a_bad_moment_of_the_machine_does_not_take_a_candidate_that_was_tested() {
    struct Moment;
    impl Tester for Moment {
        type Trouble = Infallible;
        fn run(&mut self, _: Probe, attempt: u32) -> Result<(Ran, f64), Infallible> {
            let bad = (5..5 + TRIES_ONCE_TESTED - 1).contains(&attempt) || attempt > 40;
            Ok((if bad { Ran::Unclear("no boot".to_owned()) } else { Ran::Clean }, 1.0))
        }
        fn removal(&mut self, _: usize) -> Result<Removal, Infallible> {
            unreachable!()
        }
    }
    let rate = "0.5".parse().unwrap();
    let Ok(step) = judge_one(&mut Moment, &demand("0.99", None, 100), rate);
    assert_eq!((step.verdict, step.unclear, step.runs), (Verdict::Good, TRIES_ONCE_TESTED - 1, 7));
    let rate = "0.1".parse().unwrap();
    let Ok(step) = judge_one(&mut Moment, &demand("0.99", None, 100), rate);
    assert_eq!((step.verdict, step.unclear), (Verdict::Skipped, 2 * TRIES_ONCE_TESTED - 1));
}

#[test]
fn a_culprit_without_which_the_fault_stays_or_that_stays_itself_is_not_verified() {
    let demand = demand("0.99", Some("1"), 100);
    let mut fake = Fake::new(30, 17, 1.0);
    fake.stays = true;
    assert_eq!(fake.bisect(&demand).verification.unwrap().state, Verified::No);
    for (removal, state) in [
        (Removal::NotPossible("no".to_owned()), Verified::NotTested),
        (Removal::Meaningless("no".to_owned()), Verified::Impossible),
    ] {
        fake.removal = removal;
        let verification = fake.bisect(&demand).verification.unwrap();
        assert_eq!(verification, Verification { state, how: "no".to_owned() });
    }
}

#[test]
fn a_cap_that_is_too_low_for_the_confidence_is_told_with_what_was_reached() {
    let found = Fake::new(30, 17, 0.5).bisect(&demand("0.99", Some("0.5"), 4));
    assert!(found.certainty.reached < 0.99 && found.certainty.reached > 0.5, "{found:?}");
    let verification = found.verification.unwrap();
    assert!(
        verification.state != Verified::Yes && verification.how.ends_with("too few for a verdict"),
        "{verification:?}"
    );
}

/// How often the culprit is found, in so many bisections of a fault that shows with `rate`.
fn share(demand: &Demand, rate: f64, bisections: u32) -> f64 {
    let mut dice = Dice(0x0123_4567_89ab_cdef);
    let mut found = 0_u32;
    for _ in 0..bisections {
        let last = 1 + (dice.roll() * 40.0) as usize;
        let culprit = 1 + (dice.roll() * last as f64) as usize;
        let mut fake = Fake::new(last, culprit, rate);
        fake.dice = Dice((dice.roll() * 1e15) as u64 | 1);
        found += u32::from(fake.bisect(demand).end == End::Culprit { candidate: culprit });
    }
    f64::from(found) / f64::from(bisections)
}

#[test]
fn a_rare_fault_is_found_as_often_as_the_confidence_says() {
    for (rate, text) in [(0.5, "0.5"), (0.1, "0.1"), (0.03, "0.03")] {
        for confidence in ["0.8", "0.95"] {
            let asked: f64 = confidence.parse().unwrap();
            let given = share(&demand(confidence, Some(text), u32::MAX), rate, 400);
            assert!(given >= asked, "rate {rate} given: {given} of {asked}");
            let measured = share(&demand(confidence, None, u32::MAX), rate, 400);
            assert!(measured >= asked, "rate {rate} measured: {measured} of {asked}");
        }
    }
    // One run for each candidate, as who takes the fault for one that always shows: so it would have been.
    let naive = share(&demand("0.95", Some("1"), u32::MAX), 0.1, 400);
    assert!(naive < 0.2, "{naive}");
}

proptest! {
    #[test]
    fn every_candidate_that_is_called_good_had_the_runs_for_it(
        last in 1_usize..60,
        at in 0.0_f64..1.0,
        seed in 1_u64..,
        broken in proptest::collection::btree_set(1_usize..60, 0..10),
    ) {
        let mut fake = Fake::new(last, 1 + (last as f64 * at) as usize, 0.3);
        fake.broken = broken.into_iter().filter(|at| *at < last).collect();
        fake.dice = Dice(seed);
        let demand = demand("0.9", Some("0.3"), 1000);
        let found = fake.bisect(&demand);
        for step in &found.steps {
            prop_assert_eq!(step.verdict == Verdict::Bad, step.failures > 0);
            prop_assert!(step.verdict != Verdict::Good || Some(step.runs) == step.needed, "{:?}", step);
        }
        let searched = |step: &&StepSummary| step.purpose != Purpose::Verification;
        let risk: f64 = found.steps.iter().filter(searched).map(|step| step.risk).sum();
        prop_assert!((found.certainty.reached - (1.0 - risk)).abs() < 1e-9);
        prop_assert!(found.certainty.reached + 1e-9 >= 0.9);
    }
}
