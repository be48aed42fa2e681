// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the checker as a whole: right runs in any interleaving, then each planted fault.

mod dark;
mod faults;
mod lies;
mod onlooker;
mod packets;
mod perf;
mod runs;
mod sim;
mod stream;

use nstrail_wire::{fact::Fact, perf::PerfEvent};

use self::sim::{Line, Sim};
use super::{CheckOptions, CheckResult, Checker, Invariant};

/// Checks two streams, merged as the bits say: one takes the next record, zero the next fact.
fn check(log: &[Line], ledger: &[Fact], merge: &mut dyn FnMut() -> bool) -> CheckResult {
    let ids = log.iter().any(|line| line.body.contains(" nsid="));
    let options = if ids { CheckOptions::for_version(7, 2) } else { CheckOptions::for_version(6, 12) };
    check_on(options, log, ledger, &[], merge)
}

/// As [`check`], with what perf saw; of two zeroes in a row the second one takes an event of perf.
fn check_on(
    options: CheckOptions,
    log: &[Line],
    ledger: &[Fact],
    perf: &[PerfEvent],
    merge: &mut dyn FnMut() -> bool,
) -> CheckResult {
    let mut checker = Checker::new(options);
    let (mut records, mut facts, mut events) = (log.iter(), ledger.iter(), perf.iter());
    loop {
        let left = if merge() {
            records.next().map(|line| checker.record(line.kind, &line.bytes()))
        } else if perf.is_empty() || merge() {
            facts.next().map(|fact| checker.fact(fact.clone()))
        } else {
            events.next().map(|event| checker.perf(event.clone()))
        };
        if left.is_none() {
            break;
        }
    }
    records.for_each(|line| checker.record(line.kind, &line.bytes()));
    facts.for_each(|fact| checker.fact(fact.clone()));
    events.for_each(|event| checker.perf(event.clone()));
    checker.finish()
}

/// The log first, then the ledger.
fn check_log_first(log: &[Line], ledger: &[Fact]) -> CheckResult {
    check(log, ledger, &mut || true)
}

fn check_ledger_first(log: &[Line], ledger: &[Fact]) -> CheckResult {
    check(log, ledger, &mut || false)
}

/// A merge from a generator: the same for the same seed.
fn check_merged(log: &[Line], ledger: &[Fact], seed: u64) -> CheckResult {
    check(log, ledger, &mut merge(seed))
}

fn merge(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed | 1;
    let bias = seed % 7;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 8 > bias
    }
}

/// All three streams of a run, merged as the bits say.
fn check_by(sim: &Sim, merge: &mut dyn FnMut() -> bool) -> CheckResult {
    check_on(sim.options(), &sim.log, &sim.ledger, &sim.perf, merge)
}

fn check_sim(sim: &Sim) -> CheckResult {
    let check = |merge: &mut dyn FnMut() -> bool| check_by(sim, merge);
    let result = check(&mut || true);
    for other in [check(&mut || false), check(&mut merge(77)), check(&mut merge(9_123_456_789))] {
        assert_eq!(result, other, "the interleaving must not matter");
    }
    result
}

/// The findings are the same bytes in any interleaving.
fn assert_same_in_any_interleaving(sim: &Sim, invariant: Invariant) {
    let result = check_log_first(&sim.log, &sim.ledger);
    assert!(result.findings.iter().any(|found| found.invariant == invariant), "{:?}", result.findings);
    assert_eq!(result, check_ledger_first(&sim.log, &sim.ledger));
    for seed in 0..500 {
        assert_eq!(result, check_merged(&sim.log, &sim.ledger, seed), "seed {seed}");
    }
}
