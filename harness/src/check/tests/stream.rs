// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams that are cut, hurt or strange, and a guest that lies: never a panic, and never a pass where something is missing.

use nstrail_wire::{
    fact::{Act, AuditFact},
    namespace::NamespaceSet,
};

use super::{
    check_sim,
    faults::story,
    merge,
    sim::{Line, Sim},
};
use crate::check::{CheckOptions, Checker, Outcome};

#[test]
fn a_log_that_ends_anywhere_is_no_pass() {
    let whole = story();
    for length in 0..whole.log.len() {
        let mut sim = story();
        sim.log.truncate(length);
        assert_ne!(check_sim(&sim).outcome(), Outcome::Passed, "cut behind {length} of {}", whole.log.len());
    }
}

#[test]
fn a_log_that_lacks_or_doubles_one_record_is_no_pass() {
    let whole = story();
    for at in 0..whole.log.len() {
        let mut sim = story();
        let line = sim.log.remove(at);
        assert_ne!(check_sim(&sim).outcome(), Outcome::Passed, "without {line:?}");
    }
}

#[test]
fn a_ledger_that_lacks_one_fact_is_no_pass() {
    let whole = story();
    for at in 0..whole.ledger.len() {
        let mut sim = story();
        let fact = sim.ledger.remove(at);
        // A task that is killed does not tell its end.
        if fact.act == Act::End {
            continue;
        }
        assert_ne!(check_sim(&sim).outcome(), Outcome::Passed, "without {fact:?}");
    }
}

/// The sets that a fact tells.
fn sets(act: &mut Act) -> Vec<&mut NamespaceSet> {
    match act {
        Act::Start { parent: Some(_), parent_set, set, .. } => vec![parent_set, set],
        Act::Start { set, .. } | Act::Probe { set, .. } => vec![set],
        Act::Operation { before, after, .. } => vec![before, after],
        _ => Vec::new(),
    }
}

#[test]
fn a_ledger_that_lies_about_one_inode_number_is_no_pass() {
    let whole = story();
    let mut lies = 0;
    for at in 0..whole.ledger.len() {
        for which in 0..sets(&mut whole.ledger[at].act.clone()).len() {
            for entry in 0..10 {
                let mut sim = story();
                let place = &mut sets(&mut sim.ledger[at].act)[which].0[entry];
                *place = place.wrapping_add(1_000_003);
                assert_ne!(check_sim(&sim).outcome(), Outcome::Passed, "{:?}", sim.ledger[at]);
                lies += 1;
            }
        }
    }
    assert!(lies > 500, "{lies}");
}

/// The outcome of a log of bytes.
fn outcome(sim: &Sim, log: &[(u16, Vec<u8>)]) -> Outcome {
    let mut checker = Checker::new(CheckOptions::for_version(6, 12));
    let mut merge = merge(5);
    let (mut records, mut facts) = (log.iter(), sim.ledger.iter());
    loop {
        let left = if merge() {
            records.next().map(|(kind, bytes)| checker.record(*kind, bytes))
        } else {
            facts.next().map(|fact| checker.fact(fact.clone()))
        };
        if left.is_none() {
            break;
        }
    }
    records.for_each(|(kind, bytes)| checker.record(*kind, bytes));
    facts.for_each(|fact| checker.fact(fact.clone()));
    checker.finish().outcome()
}

fn bytes(sim: &Sim) -> Vec<(u16, Vec<u8>)> {
    sim.log.iter().map(|line| (line.kind, line.bytes())).collect()
}

#[test]
fn bytes_that_are_no_text_are_no_panic_and_in_our_records_no_pass() {
    let sim = story();
    let whole = bytes(&sim);
    assert_eq!(outcome(&sim, &whole), Outcome::Passed);
    for at in 0..whole.len() {
        let length = whole[at].1.len();
        for place in (0..length).step_by(1 + length / 24) {
            for byte in [0xff, 0x00, b'\n', b'"'] {
                let mut log = whole.clone();
                log[at].1[place] = byte;
                let found = outcome(&sim, &log);
                if (1340..=1342).contains(&log[at].0) {
                    let hurt = String::from_utf8_lossy(&log[at].1).into_owned();
                    assert_ne!(found, Outcome::Passed, "{hurt:?}");
                }
            }
        }
    }
}

/// As many records more as were put in are what the collector has counted.
fn counted(sim: &mut Sim, more: u64) {
    for fact in &mut sim.ledger {
        if let Act::Audit(AuditFact::Collected { unicast, multicast, .. }) = &mut fact.act {
            *unicast += more;
            *multicast += more;
        }
    }
}

#[test]
fn records_of_other_types_and_of_any_length_pass_by() {
    // MAX_AUDIT_MESSAGE_LENGTH is 8970; the others are what later kernels and other modules may log.
    for (kind, length) in [(1305, 8970), (1326, 100_000), (1420, 10), (1999, 8971), (2999, 0), (65_535, 300)]
    {
        let mut sim = story();
        let at = sim.log.len() / 2;
        let stranger = Line { kind, serial: 900_000, body: format!("x={}", "y".repeat(length)) };
        sim.log.insert(at, stranger);
        counted(&mut sim, 1);
        assert_eq!(check_sim(&sim).outcome(), Outcome::Passed, "type {kind}, {length} bytes");
    }
}

#[test]
fn a_record_without_its_header_is_a_finding() {
    for hurt in [&b""[..], b"audit(", b"audit(1.2:3)", b"audit(1.2:99999999999999999999): x", &[0xff; 4000]] {
        let sim = story();
        let mut log = bytes(&sim);
        let at = log.len() / 2;
        log.insert(at, (1300, hurt.to_vec()));
        assert_eq!(outcome(&sim, &log), Outcome::Failed, "{hurt:?}");
    }
}
