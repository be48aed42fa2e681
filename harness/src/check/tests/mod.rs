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
    let mut checker = Checker::new(CheckOptions::for_version(6, 12));
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
    let mut state = seed | 1;
    let bias = seed % 7;
    check(log, ledger, &mut || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 8 > bias
    })
}

fn check_sim(sim: &Sim) -> CheckResult {
    let result = check_log_first(&sim.log, &sim.ledger);
    for other in [
        check_ledger_first(&sim.log, &sim.ledger),
        check_merged(&sim.log, &sim.ledger, 77),
        check_merged(&sim.log, &sim.ledger, 9_123_456_789),
    ] {
        assert_eq!(result, other, "the interleaving must not matter");
    }
    result
}
