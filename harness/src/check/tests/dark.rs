// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets that are made or left while audit is off.

use nstrail_wire::{
    fact::{Call, ProbeKind},
    namespace::NamespaceType,
};

use super::{check_sim, faults::attribution_of, sim::Sim};
use crate::check::Invariant;

#[test]
fn a_window_without_audit_is_checked_too() {
    let window = |during: &dyn Fn(&mut Sim)| {
        let mut sim = Sim::new();
        sim.enable(false);
        let silent = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
        sim.go_on(0);
        sim.enable(true);
        sim.probe(silent, ProbeKind::UserMessage);
        during(&mut sim);
        sim.finish();
        check_sim(&sim).counts.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(window(&|_| ()), []);
    assert_eq!(
        window(&|sim| {
            let at = attribution_of(sim, &["nstrail-token=1'"]);
            sim.log.remove(at);
        }),
        [Invariant::G7Missing]
    );
    // Ids that stood still meanwhile.
    let mut sim = Sim::new();
    sim.enable(false);
    let silent = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    sim.exit(silent, true);
    sim.reap(silent, 0);
    sim.enable(true);
    sim.finish();
    for line in &mut sim.log {
        line.body = line.body.replace("auditnsid=0x3", "auditnsid=0x2");
    }
    assert_eq!(check_sim(&sim).counts.into_keys().collect::<Vec<_>>(), [Invariant::G9Count]);
}

/// What is left in the dark has no release, by whatever way it is left.
#[test]
fn a_release_in_the_dark_is_caught() {
    let run = |moves: bool, loud: bool| {
        let mut sim = Sim::new();
        let early = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
        sim.go_on(0);
        sim.enable(false);
        sim.audit = loud;
        if moves {
            sim.unshare(early, NamespaceType::Ipc.flag());
            // Of the move itself nothing is to be seen.
            sim.log.retain(|line| !line.body.starts_with("op=unshare"));
        } else {
            sim.exit(early, true);
            sim.reap(early, 0);
        }
        sim.go_on(0);
        sim.enable(true);
        sim.finish();
        check_sim(&sim).counts.into_keys().collect::<Vec<_>>()
    };
    for moves in [false, true] {
        assert_eq!(run(moves, false), [], "{moves}");
        assert!(run(moves, true).contains(&Invariant::G9Silent), "{moves}");
    }
}

/// What was made in the dark and is left in the light has a release, though no definition.
#[test]
fn a_release_without_definition_is_missed_too() {
    let run = |fault: &dyn Fn(&mut Sim)| {
        let mut sim = Sim::new();
        sim.enable(false);
        let silent = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
        let gone = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
        sim.exit(gone, true);
        sim.reap(gone, 0);
        sim.go_on(0);
        sim.enable(true);
        let inherits = sim.clone(silent, Call::Fork, 0);
        sim.exit(inherits, true);
        sim.reap(inherits, 0);
        sim.exit(silent, true);
        sim.reap(silent, 0);
        fault(&mut sim);
        sim.finish();
        check_sim(&sim).counts.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(run(&|_| ()), []);
    let forget = |sim: &mut Sim| sim.log.retain(|line| !line.body.starts_with("op=release"));
    assert_eq!(run(&forget), [Invariant::G5Missing]);
}

#[test]
fn a_definition_made_in_the_dark_is_caught() {
    let mut sim = Sim::new();
    sim.enable(false);
    sim.audit = true;
    let loud = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    sim.exit(loud, true);
    sim.reap(loud, 0);
    sim.enable(true);
    sim.finish();
    let counts = check_sim(&sim).counts;
    assert!(counts.contains_key(&Invariant::G9Silent), "{counts:?}");
}

/// A set that one member left in the dark and another one in the light has a release, whichever way the first one went.
#[test]
fn a_set_that_lives_across_the_dark_is_released() {
    for (moves, made_dark) in [(false, false), (true, false), (false, true), (true, true)] {
        let run = |forgotten: bool| {
            let mut sim = Sim::new();
            if made_dark {
                sim.enable(false);
            }
            let stays = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
            let leaves = sim.clone(stays, Call::Fork, 0);
            sim.go_on(leaves);
            if !made_dark {
                sim.enable(false);
            }
            if moves {
                sim.unshare(leaves, NamespaceType::Ipc.flag());
            }
            sim.exit(leaves, true);
            sim.reap(leaves, 0);
            sim.go_on(0);
            sim.enable(true);
            sim.exit(stays, true);
            sim.reap(stays, 0);
            if forgotten {
                sim.log.retain(|line| !line.body.starts_with("op=release"));
            }
            sim.finish();
            check_sim(&sim).counts.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(run(false), [], "{moves} {made_dark}");
        assert_eq!(run(true), [Invariant::G5Missing], "{moves} {made_dark}");
    }
}
