// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one task sees of all others, against the log and against what they told.

use nstrail_wire::{
    fact::{Act, Call},
    namespace::{CLONE_VFORK, CLONE_VM, NamespaceIds, NamespaceSet, NamespaceType},
};

use super::{assert_same_in_any_interleaving, check_sim, sim::Sim};
use crate::check::{Invariant, LossProof, Outcome};

/// A container that sleeps, one that is in the middle of a call, and one that looks at both.
fn tell_of_an_onlooker(mut sim: Sim) -> Sim {
    let stage = sim.clone(0, Call::Fork, 0);
    let sleeper = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag() | NamespaceType::Net.flag());
    let waiter = sim.clone(stage, Call::Clone3, NamespaceType::Pid.flag());
    sim.clone(waiter, Call::Clone, CLONE_VM | CLONE_VFORK | NamespaceType::Ipc.flag());
    let onlooker = sim.clone(stage, Call::Fork, 0);
    sim.look_around(onlooker);
    sim.unshare(sleeper, NamespaceType::Mnt.flag());
    sim.look_around(onlooker);
    // Killed in its sleep: the onlooker's word is about the time before that.
    sim.exit(sleeper, false);
    sim.reap(sleeper, 9);
    sim.finish();
    sim
}

#[test]
fn what_an_onlooker_sees_is_held_against_the_log() {
    for sim in [Sim::new(), Sim::with_ids()] {
        let sim = tell_of_an_onlooker(sim);
        let result = check_sim(&sim);
        assert_eq!((result.outcome(), result.counts.len()), (Outcome::Passed, 0), "{result:?}");
    }
    type Fault<'a> = &'a dyn Fn(&mut NamespaceSet, &mut Option<NamespaceIds>, &mut NamespaceIds);
    let caught = |by: Invariant, fault: Fault<'_>| {
        let mut sim = tell_of_an_onlooker(Sim::with_ids());
        let seen = sim.ledger.iter_mut().rev().find_map(|fact| match &mut fact.act {
            Act::Seen { set, ids, unlisted, .. } => Some((set, ids, unlisted)),
            _ => None,
        });
        let (set, ids, unlisted) = seen.unwrap();
        fault(set, ids, unlisted);
        assert_eq!(check_sim(&sim).counts.into_keys().collect::<Vec<_>>(), [by]);
        assert_same_in_any_interleaving(&sim, by);
    };
    caught(Invariant::G1Set, &|set, _, _| set.0[9] = 4711);
    caught(Invariant::G2Ids, &|_, ids, _| ids.as_mut().unwrap().0[9] = 4711);
    caught(Invariant::G2Ids, &|_, ids, unlisted| unlisted.0[9] = ids.unwrap().0[9]);
}

#[test]
fn a_release_of_a_set_that_an_onlooker_sees_a_task_in_is_caught() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    let sleeper = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    sim.go_on(stage);
    sim.fence();
    let onlooker = sim.clone(stage, Call::Fork, 0);
    sim.look_around(onlooker);
    sim.exit(sleeper, false);
    sim.reap(sleeper, 9);
    sim.finish();
    // Before the fence, at which the sleeper told nothing.
    let release = sim
        .log
        .iter()
        .position(|line| line.body.contains("op=release") && line.body.contains("auditnsid=0x2 "))
        .unwrap();
    let release = sim.log.remove(release);
    let fence = sim.log.iter().rposition(|line| line.body.contains("nstrail-fence=1'")).unwrap();
    sim.log.insert(fence, release);
    let counts = check_sim(&sim).counts;
    assert!(counts.contains_key(&Invariant::G5Live), "{counts:?}");
}

#[test]
fn an_onlooker_who_sees_too_much_or_too_little_proves_nothing() {
    type Fault = fn(&mut Act) -> bool;
    let faults: [(&str, Fault); 2] = [
        ("no task of that number", |act| match act {
            Act::Seen { of, .. } => {
                *of = 4711;
                true
            }
            _ => false,
        }),
        ("did not see it", |act| {
            let seen = matches!(act, Act::Seen { .. });
            if seen {
                *act = Act::Census { tasks: 0 };
            }
            seen
        }),
    ];
    for (reason, fault) in faults {
        let mut sim = tell_of_an_onlooker(Sim::new());
        assert!(sim.ledger.iter_mut().any(|fact| fault(&mut fact.act)));
        let result = check_sim(&sim);
        assert_eq!(result.outcome(), Outcome::Inconclusive);
        let LossProof::NotProven { reasons } = result.loss else { panic!("proven") };
        assert!(reasons.iter().any(|text| text.contains(reason)), "{reasons:?}");
    }
}

/// The order of words is not that of births: a child may speak of its maker first, and a vfork's child is not known to the checker
/// until its maker goes on.
#[test]
fn nobody_waits_for_an_onlooker_whose_birth_is_not_told_yet() {
    let mut sim = Sim::new();
    let maker = sim.clone(0, Call::Fork, 0);
    let child = sim.clone(maker, Call::Fork, 0);
    let grandchild = sim.clone(child, Call::Clone3, NamespaceType::Uts.flag());
    sim.look_around(grandchild);
    sim.look_around(child);
    sim.unshare(maker, NamespaceType::Ipc.flag());
    sim.look_around(child);
    sim.finish();
    let result = check_sim(&sim);
    assert_eq!((result.outcome(), result.counts.len()), (Outcome::Passed, 0), "{result:?}");
}

#[test]
fn what_a_vforks_child_sees_beyond_a_fence_keeps_nobody() {
    let mut sim = Sim::new();
    let maker = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    let vforked = sim.clone(maker, Call::Vfork, CLONE_VM | CLONE_VFORK);
    let other = sim.clone(0, Call::Fork, 0);
    let onlooker = sim.clone(other, Call::Fork, 0);
    sim.look_around(onlooker);
    sim.look_around(vforked);
    sim.datagram(vforked, onlooker);
    sim.datagram(onlooker, vforked);
    sim.exit(onlooker, true);
    sim.reap(onlooker, 0);
    // A child that moves by its maker's pending time namespace, told of behind all that.
    sim.unshare(other, NamespaceType::Time.flag());
    let moved = sim.clone(other, Call::Fork, 0);
    sim.go_on(other);
    sim.fence();
    sim.exit(moved, true);
    sim.reap(moved, 0);
    sim.finish();
    let result = check_sim(&sim);
    assert_eq!((result.outcome(), result.counts.len()), (Outcome::Passed, 0), "{result:?}");
}
