// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the checker as a whole: right runs in any interleaving, then each planted fault.

mod faults;
mod runs;
mod sim;

use nstrail_wire::fact::Fact;

use self::sim::{Line, Sim};
use super::{CheckOptions, CheckResult, Checker};

/// Checks two streams, merged as the bits say: one takes the next record, zero the next fact.
fn check(log: &[Line], ledger: &[Fact], merge: &mut dyn FnMut() -> bool) -> CheckResult {
    let ids = log.iter().any(|line| line.body.contains(" nsid="));
    let options = if ids { CheckOptions::for_version(7, 2) } else { CheckOptions::for_version(6, 12) };
    check_on(options, log, ledger, merge)
}

fn check_on(
    options: CheckOptions,
    log: &[Line],
    ledger: &[Fact],
    merge: &mut dyn FnMut() -> bool,
) -> CheckResult {
    let mut checker = Checker::new(options);
    let (mut records, mut facts) = (log.iter(), ledger.iter());
    loop {
        let first = merge();
        let (record, fact) = if first { (records.next(), None) } else { (None, facts.next()) };
        match (record, fact) {
            (Some(line), _) => checker.record(line.kind, &line.bytes()),
            (None, Some(fact)) => checker.fact(fact.clone()),
            (None, None) => {
                for line in records.by_ref() {
                    checker.record(line.kind, &line.bytes());
                }
                for fact in facts.by_ref() {
                    checker.fact(fact.clone());
                }
                return checker.finish();
            }
        }
    }
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

fn check_sim(sim: &Sim) -> CheckResult {
    let check = |merge: &mut dyn FnMut() -> bool| check_on(sim.options(), &sim.log, &sim.ledger, merge);
    let result = check(&mut || true);
    for other in [check(&mut || false), check(&mut merge(77)), check(&mut merge(9_123_456_789))] {
        assert_eq!(result, other, "the interleaving must not matter");
    }
    result
}
