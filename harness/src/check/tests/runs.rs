// SPDX-License-Identifier: MIT OR Apache-2.0
//! Right runs: no finding, whatever the interleaving.

use nstrail_wire::{
    fact::{Call, ProbeKind},
    namespace::{CLONE_THREAD, CLONE_VFORK, CLONE_VM, NamespaceEntry, NamespaceType},
};
use proptest::prelude::*;

use super::{
    check_by, check_sim, merge,
    sim::{Sim, random_step},
};
use crate::check::{CheckOptions, Checker, Outcome};

fn explain(sim: &Sim, result: &crate::check::CheckResult) -> String {
    let log: Vec<String> = sim
        .log
        .iter()
        .enumerate()
        .map(|(at, l)| format!("{at} {} {}", l.kind, String::from_utf8_lossy(&l.bytes())))
        .collect();
    let ledger: Vec<String> =
        sim.ledger.iter().enumerate().map(|(at, fact)| format!("{at} {fact:?}")).collect();
    format!("{:?}\n{:?}\n{}\n{}", result.findings, result.loss, log.join("\n"), ledger.join("\n"))
}

/// The same bytes, or what differs.
fn assert_alike(sim: &Sim, one: &crate::check::CheckResult, other: &crate::check::CheckResult) {
    let only = |a: &crate::check::CheckResult, b: &crate::check::CheckResult| {
        let findings: Vec<_> = a.findings.iter().filter(|f| !b.findings.contains(f)).cloned().collect();
        format!("{findings:?}")
    };
    assert!(
        one == other,
        "only in the first: {}\nonly in the other: {}\n{:?} {:?}\n{:?} {:?}\n{}",
        only(one, other),
        only(other, one),
        one.counts,
        one.figures,
        other.counts,
        other.figures,
        explain(sim, one)
    );
}

fn assert_passes(sim: &Sim) {
    let result = check_sim(sim);
    assert_eq!(result.outcome(), Outcome::Passed, "{}", explain(sim, &result));
}

#[test]
fn an_empty_run_passes() {
    let mut sim = Sim::new();
    sim.finish();
    assert_passes(&sim);
}

#[test]
fn every_operation_passes() {
    each_operation(Sim::new());
}

#[test]
fn every_operation_passes_where_namespaces_have_ids() {
    each_operation(Sim::with_ids());
}

fn each_operation(mut sim: Sim) {
    let stage = sim.clone(0, Call::Fork, 0);
    for kind in NamespaceType::ALL {
        let child = sim.clone(stage, Call::Clone3, kind.flag());
        for probe in [
            ProbeKind::UserMessage,
            ProbeKind::Syscall,
            ProbeKind::Seccomp,
            ProbeKind::Login,
            ProbeKind::ConfigChange,
            ProbeKind::Packet,
            ProbeKind::IoUring,
            ProbeKind::IoUringReused,
            ProbeKind::IoUringInline,
            ProbeKind::IoUringPoller,
            ProbeKind::Rename,
            ProbeKind::UserLogin,
            ProbeKind::UserAnomaly,
            ProbeKind::PacketOut,
            ProbeKind::Promiscuous,
        ] {
            sim.probe(child, probe);
        }
        sim.setns(child, stage, kind);
        sim.setns(child, child, NamespaceType::Net);
        sim.unshare(child, NamespaceType::Ipc.flag());
        sim.fail(child, Call::Setns, NamespaceType::User.flag());
        let abends = sim.clone(child, Call::Fork, 0);
        sim.probe(abends, ProbeKind::Abend);
        sim.exit(abends, false);
        sim.reap(abends, 11);
        let listens = sim.clone(child, Call::Fork, 0);
        sim.probe(listens, ProbeKind::Listener);
        sim.exit(listens, true);
        sim.reap(listens, 0);
        sim.exit(child, true);
        sim.reap(child, 0);
    }
    sim.fence();
    // The implicit moves.
    let pending = sim.clone(stage, Call::Fork, 0);
    sim.unshare(pending, NamespaceType::Time.flag());
    let vforked = sim.clone(pending, Call::Vfork, CLONE_VM | CLONE_VFORK);
    sim.probe(vforked, ProbeKind::UserMessage);
    sim.exec(vforked);
    sim.probe(vforked, ProbeKind::UserMessage);
    let forked = sim.clone(pending, Call::Fork, 0);
    sim.probe(forked, ProbeKind::Syscall);
    sim.exec(pending);
    sim.unshare(pending, NamespaceType::Pid.flag());
    let init = sim.clone(pending, Call::Fork, 0);
    sim.probe(init, ProbeKind::UserMessage);
    sim.finish();
    assert_passes(&sim);
}

#[test]
fn a_vfork_that_lasts_beyond_a_fence_passes() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    let child = sim.clone(stage, Call::Clone, CLONE_VM | CLONE_VFORK | NamespaceType::Ipc.flag());
    sim.probe(child, ProbeKind::UserMessage);
    sim.fence();
    sim.probe(child, ProbeKind::UserMessage);
    sim.fence();
    sim.finish();
    assert_passes(&sim);
}

#[test]
fn a_thread_that_takes_its_leaders_place_keeps_its_own_set() {
    for flags in [0, NamespaceType::Ipc.flag()] {
        let mut sim = Sim::new();
        let stage = sim.clone(0, Call::Fork, 0);
        let leader = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
        sim.probe(leader, ProbeKind::UserMessage);
        let thread = sim.clone(leader, Call::Clone, CLONE_THREAD | CLONE_VM | flags);
        sim.probe(thread, ProbeKind::UserMessage);
        sim.take_place(thread, leader);
        sim.probe(thread, ProbeKind::Syscall);
        let child = sim.clone(thread, Call::Fork, 0);
        sim.probe(child, ProbeKind::UserMessage);
        sim.exit(child, true);
        sim.reap(child, 0);
        sim.unshare(thread, NamespaceType::Net.flag());
        sim.probe(thread, ProbeKind::UserMessage);
        sim.exit(thread, true);
        sim.reap(leader, 0);
        sim.finish();
        assert_passes(&sim);
    }
}

#[test]
fn an_init_that_falls_takes_its_namespace_along() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    let init = sim.clone(stage, Call::Clone3, NamespaceType::Pid.flag());
    let inside = sim.clone(init, Call::Clone3, NamespaceType::Uts.flag());
    let plain = sim.clone(inside, Call::Fork, 0);
    sim.probe(plain, ProbeKind::UserMessage);
    sim.go_on(inside);
    sim.fall(init);
    sim.reap(init, 9);
    sim.probe(stage, ProbeKind::UserMessage);
    sim.fence();
    sim.finish();
    assert_passes(&sim);
}

#[test]
fn a_pid_namespace_with_the_number_of_a_dead_one_passes() {
    let mut sim = Sim::new();
    let (one, other) = (sim.clone(0, Call::Fork, 0), sim.clone(0, Call::Fork, 0));
    let dead = sim.clone(one, Call::Clone3, NamespaceType::Pid.flag());
    let number = sim.census(dead).get(NamespaceEntry::Pid);
    sim.fall(dead);
    // Made with the same number, before the one who waits for the dead init has told so.
    let new = sim.clone(other, Call::Clone3, NamespaceType::Pid.flag());
    let inside = sim.clone(new, Call::Fork, 0);
    let reused = sim.census(new).get(NamespaceEntry::Pid);
    sim.reap(dead, 9);
    sim.probe(new, ProbeKind::Syscall);
    sim.probe(inside, ProbeKind::Syscall);
    sim.finish();
    let renumber = |text: &str| text.replace(&reused.to_string(), &number.to_string());
    for line in &mut sim.log {
        line.body = renumber(&line.body);
    }
    for fact in &mut sim.ledger {
        let text = serde_json::to_string(fact).unwrap();
        *fact = serde_json::from_str(&renumber(&text)).unwrap();
    }
    for event in &mut sim.perf {
        let text = serde_json::to_string(event).unwrap();
        *event = serde_json::from_str(&renumber(&text)).unwrap();
    }
    assert!(sim.log.iter().filter(|line| line.body.contains(&format!("pid:{number}"))).count() >= 2);
    assert_passes(&sim);
}

#[test]
fn a_window_without_audit_passes() {
    let mut sim = Sim::new();
    let early = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    sim.enable(false);
    let silent = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    let moved = sim.clone(0, Call::Fork, 0);
    sim.unshare(moved, NamespaceType::Ipc.flag());
    let gone = sim.clone(0, Call::Clone3, NamespaceType::Net.flag());
    sim.exit(gone, true);
    sim.reap(gone, 0);
    sim.exit(early, true);
    sim.reap(early, 0);
    sim.go_on(0);
    sim.enable(true);
    sim.probe(silent, ProbeKind::UserMessage);
    sim.probe(moved, ProbeKind::Syscall);
    let child = sim.clone(silent, Call::Clone3, NamespaceType::Ipc.flag());
    sim.probe(child, ProbeKind::UserMessage);
    sim.finish();
    assert_passes(&sim);
}

#[test]
fn memory_follows_live_containers_and_not_the_log() {
    let mut sim = Sim::new();
    for _ in 0..3000 {
        let child = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
        sim.probe(child, ProbeKind::UserMessage);
        sim.exit(child, true);
        sim.reap(child, 0);
        sim.tasks.truncate(1);
    }
    sim.finish();
    let mut checker = Checker::new(CheckOptions::default());
    let mut facts = sim.ledger.iter();
    let per_record = sim.ledger.len() as f64 / sim.log.len() as f64;
    let mut given = 0.0;
    let mut most = [0; 3];
    for line in &sim.log {
        checker.record(line.kind, &line.bytes());
        given += per_record;
        while given >= 1.0 {
            given -= 1.0;
            checker.fact(facts.next().unwrap().clone());
        }
        for (most, held) in most.iter_mut().zip(checker.held()) {
            *most = held.max(*most);
        }
    }
    facts.for_each(|fact| checker.fact(fact.clone()));
    assert_eq!(checker.finish().outcome(), Outcome::Passed);
    // The window of events is 2048 records, 7 for each container.
    assert!(most.iter().all(|most| *most < 600), "{most:?} sets, tasks and pids of 3000 were held at once");
}

proptest! {
    #[test]
    fn random_runs_pass_in_any_interleaving(
        steps in proptest::collection::vec(any::<[u8; 4]>(), 0..150),
        seed in any::<u64>(), ids in any::<bool>(),
    ) {
        let mut sim = if ids { Sim::with_ids() } else { Sim::new() };
        for step in steps {
            random_step(&mut sim, step);
        }
        sim.finish();
        let result = check_by(&sim, &mut || true);
        prop_assert_eq!(result.outcome(), Outcome::Passed, "{}", explain(&sim, &result));
        prop_assert_eq!(&result, &check_by(&sim, &mut || false));
        prop_assert_eq!(&result, &check_by(&sim, &mut merge(seed)));
    }

    #[test]
    fn damaged_runs_give_the_same_findings_in_any_interleaving(
        steps in proptest::collection::vec(any::<[u8; 4]>(), 0..100),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..9, any::<prop::sample::Index>()), 1..6),
        seed in any::<u64>(), ids in any::<bool>(),
    ) {
        let mut sim = if ids { Sim::with_ids() } else { Sim::new() };
        for step in steps {
            random_step(&mut sim, step);
        }
        sim.finish();
        for (at, how, other) in damage {
            let (event, place) = (at.index(sim.perf.len()), other.index(sim.perf.len()));
            let at = at.index(sim.log.len());
            let to = other.index(sim.log.len());
            match how {
                6 => drop(sim.perf.remove(event)),
                7 => sim.perf.swap(event, place),
                8 => sim.perf[event] = sim.perf[place].clone(),
                0 => drop(sim.log.remove(at)),
                1 => { let line = sim.log[at].clone(); sim.log.insert(to, line); }
                2 => sim.log.swap(at, to),
                3 => sim.log[at].body = sim.log[to].body.clone(),
                4 => sim.log[at].serial = sim.log[to].serial,
                _ => sim.log[at].kind = sim.log[to].kind,
            }
        }
        let result = check_by(&sim, &mut || true);
        assert_alike(&sim, &result, &check_by(&sim, &mut || false));
        assert_alike(&sim, &result, &check_by(&sim, &mut merge(seed)));
    }
}
