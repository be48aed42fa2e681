// SPDX-License-Identifier: MIT OR Apache-2.0
//! The third witness: contradictions between log, ledger and perf, and which two agree.

use nstrail_audit::NsidOp;
use nstrail_wire::{
    fact::{Act, Call},
    namespace::{NamespaceEntry, NamespaceType},
    perf::{PerfEvent, SeenSet},
};

use super::{
    check_sim,
    sim::{Line, Sim},
};
use crate::check::{Finding, Invariant, LossProof};

/// Two containers of one maker, the second of which moves.
fn story() -> Sim {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    for _ in 0..2 {
        let container = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag() | NamespaceType::Net.flag());
        sim.unshare(container, NamespaceType::Ipc.flag());
        let plain = sim.clone(container, Call::Fork, 0);
        sim.exit(plain, true);
        sim.reap(plain, 0);
        sim.setns(container, stage, NamespaceType::Net);
        sim.exit(container, true);
        sim.reap(container, 0);
        sim.fence();
    }
    sim.finish();
    sim
}

/// What is found of one invariant.
fn found(sim: &Sim, invariant: Invariant) -> Vec<Finding> {
    check_sim(sim).findings.into_iter().filter(|finding| finding.invariant == invariant).collect()
}

/// The place of what perf saw at the n-th definition.
fn seen_at(sim: &Sim, definition: &Line) -> usize {
    let op = NsidOp::parse(definition.body.as_bytes()).unwrap();
    let wanted = PerfEvent::Namespaces { tid: op.opid, set: SeenSet::of(&op.set) };
    sim.perf.iter().position(|event| *event == wanted).unwrap()
}

fn definition(sim: &Sim, op: &str) -> Line {
    sim.log.iter().find(|line| line.body.starts_with(&format!("op={op} "))).unwrap().clone()
}

#[test]
fn what_perf_saw_is_counted() {
    let result = check_sim(&story());
    assert_eq!(result.counts, [].into());
    assert!(result.loss.is_proven(), "{:?}", result.loss);
    assert_eq!(result.figures.seen_by_perf, result.figures.definitions);
    assert!(result.figures.perf_events > result.figures.seen_by_perf);
}

#[test]
fn a_definition_that_perf_did_not_see_is_found() {
    for op in ["clone", "unshare", "setns"] {
        let mut sim = story();
        let line = definition(&sim, op);
        let at = seen_at(&sim, &line);
        sim.perf.remove(at);
        let findings = found(&sim, Invariant::PerfMissing);
        assert_eq!(findings.len(), 1, "{op}: {findings:?}");
        assert!(findings[0].records[0].line.contains(&line.body), "{findings:?}");
        assert_eq!(findings[0].found, "none: log and ledger agree");
    }
}

#[test]
fn a_move_that_has_no_definition_is_found() {
    for op in ["clone", "unshare", "setns"] {
        let mut sim = story();
        let line = definition(&sim, op);
        sim.log.retain(|other| other != &line);
        let findings = found(&sim, Invariant::PerfUnexplained);
        assert_eq!(findings.len(), 1, "{op}: {findings:?}");
        assert_eq!(findings[0].found, "none: perf and ledger agree", "{op}");
    }
}

#[test]
fn a_task_that_only_perf_knows_is_found_if_it_changed_its_set() {
    let mut sim = story();
    let before = SeenSet::of(&sim.tasks[0].set);
    let mut other = before;
    other.0[1] += 5000;
    let fence = sim.perf.iter().position(|event| matches!(event, PerfEvent::Fence { number: 1 })).unwrap();
    let unknown = |tid, set| {
        [PerfEvent::Fork { tid, parent_tid: 1 }, PerfEvent::Namespaces { tid, set }, PerfEvent::Exit { tid }]
    };
    // A plain fork needs no definition, nor does the child of a task of which nothing is known.
    let orphan = [
        PerfEvent::Fork { tid: 57, parent_tid: 4000 },
        PerfEvent::Namespaces { tid: 57, set: other },
        PerfEvent::Exit { tid: 57 },
    ];
    let events = unknown(58, other).into_iter().chain(unknown(59, before)).chain(orphan);
    sim.perf.splice(fence..fence, events);
    let findings = found(&sim, Invariant::PerfUnexplained);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].expected.contains("task 58"), "{findings:?}");
    assert_eq!(findings[0].found, "none: only perf knows of it");
}

#[test]
fn of_three_that_contradict_each_other_the_two_that_agree_are_named() {
    // perf is wrong.
    let mut sim = story();
    let line = definition(&sim, "clone");
    let at = seen_at(&sim, &line);
    let PerfEvent::Namespaces { set, .. } = &mut sim.perf[at] else { panic!() };
    set.0[0] += 5000;
    let findings = found(&sim, Invariant::PerfList);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].found.ends_with(": log and ledger agree"), "{findings:?}");

    // The log is wrong.
    let mut sim = story();
    for record in &mut sim.log {
        if record.body == line.body {
            let op = NsidOp::parse(line.body.as_bytes()).unwrap();
            let net = op.set.get(NamespaceEntry::Net);
            record.body = record.body.replace(&format!("net:{net}"), "net:9999");
        }
    }
    let findings = found(&sim, Invariant::PerfList);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].found.ends_with(": perf and ledger agree"), "{findings:?}");

    // The ledger is wrong.
    let mut sim = story();
    let told =
        |fact: &&mut nstrail_wire::fact::Fact| matches!(fact.act, Act::Operation { call: Call::Unshare, .. });
    let fact = sim.ledger.iter_mut().find(told).unwrap();
    let Act::Operation { after, .. } = &mut fact.act else { panic!() };
    after.set(NamespaceEntry::Ipc, 7777);
    let findings = found(&sim, Invariant::PerfList);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].found.ends_with(": log and perf agree"), "{findings:?}");
}

#[test]
fn perf_that_lost_something_or_is_not_there_leaves_no_proof() {
    let doubts = |perf: Vec<PerfEvent>| {
        let mut sim = story();
        sim.perf = perf;
        match check_sim(&sim).loss {
            LossProof::Proven => Vec::new(),
            LossProof::NotProven { reasons } => reasons,
        }
    };
    assert_eq!(doubts(Vec::new()), ["perf, the third witness, told nothing"]);
    let reason = "perf_event_open: ENOSYS".to_owned();
    let unavailable = doubts(vec![PerfEvent::Unavailable { reason }]);
    assert_eq!(unavailable, ["perf, the third witness, could not be had: perf_event_open: ENOSYS"]);
    let mut perf = story().perf;
    perf.insert(5, PerfEvent::Lost { count: 3 });
    assert_eq!(doubts(perf), ["perf, the third witness, lost 3 records"]);
}

#[test]
fn while_audit_is_off_perf_sees_what_nobody_defines() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    sim.enable(false);
    let silent = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    sim.exit(silent, true);
    sim.reap(silent, 0);
    sim.enable(true);
    sim.fence();
    sim.finish();
    assert_eq!(check_sim(&sim).counts, [].into());
}

#[test]
fn a_plain_fork_does_not_take_the_place_of_a_later_container_with_its_number() {
    // The same tid, the same inode numbers: a child of one container, then another container.
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    let uts = NamespaceType::Uts.flag();
    let mut twice = 0;
    let mut forked = std::collections::BTreeSet::new();
    for round in 0..400 {
        let container = sim.clone(stage, Call::Clone3, uts);
        let key = (sim.tasks[container].tid, sim.tasks[container].set);
        twice += usize::from(forked.contains(&key));
        if round % 3 == 0 {
            let plain = sim.clone(container, Call::Fork, 0);
            forked.insert((sim.tasks[plain].tid, sim.tasks[plain].set));
            sim.exit(plain, true);
            sim.reap(plain, 0);
        }
        sim.exit(container, true);
        sim.reap(container, 0);
    }
    sim.finish();
    assert!(twice > 10, "{twice}");
    let result = check_sim(&sim);
    assert_eq!(result.counts, [].into(), "{:?}", result.findings);
    assert_eq!(result.figures.seen_by_perf, result.figures.definitions);
}
