// SPDX-License-Identifier: MIT OR Apache-2.0
//! Planted faults: each is caught, in every interleaving, by the invariant that should.

use std::collections::BTreeSet;

use nstrail_wire::{
    fact::{Act, AuditFact, Call, ProbeKind},
    namespace::{CLONE_THREAD, CLONE_VM, NamespaceType},
    perf::PerfEvent,
};

use super::{
    assert_same_in_any_interleaving, check_on, check_sim,
    sim::{Line, Sim},
};
use crate::check::{Invariant, LossProof, Outcome};

/// A run with something of everything: ids 0x2 (a container with a probe, a fork, an unshare to 0x3), 0x4 (killed), ...
pub fn story() -> Sim {
    tell(Sim::new())
}

fn tell(mut sim: Sim) -> Sim {
    let stage = sim.clone(0, Call::Fork, 0);
    let container = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag() | NamespaceType::Net.flag());
    sim.probe(container, ProbeKind::UserMessage);
    let plain = sim.clone(container, Call::Fork, 0);
    sim.probe(plain, ProbeKind::Syscall);
    sim.exit(plain, true);
    sim.reap(plain, 0);
    sim.probe(container, ProbeKind::ConfigChange);
    sim.probe(container, ProbeKind::Packet);
    sim.unshare(container, NamespaceType::Ipc.flag());
    sim.probe(container, ProbeKind::Login);
    let inner = sim.clone(container, Call::Clone3, NamespaceType::Mnt.flag());
    sim.probe(inner, ProbeKind::Seccomp);
    sim.exit(inner, true);
    sim.reap(inner, 0);
    sim.fail(container, Call::Unshare, NamespaceType::User.flag());
    sim.setns(container, stage, NamespaceType::Net);
    sim.probe(container, ProbeKind::IoUring);
    sim.exit(container, true);
    sim.reap(container, 0);
    sim.probe(stage, ProbeKind::UserMessage);
    sim.fence();
    let thread = sim.clone(stage, Call::Clone3, CLONE_THREAD | CLONE_VM | NamespaceType::Uts.flag());
    sim.probe(thread, ProbeKind::UserMessage);
    sim.exit(thread, true);
    let pending = sim.clone(stage, Call::Fork, 0);
    sim.unshare(pending, NamespaceType::Time.flag());
    let entered = sim.clone(pending, Call::Fork, 0);
    sim.probe(entered, ProbeKind::UserMessage);
    sim.exit(entered, true);
    sim.reap(entered, 0);
    sim.exec(pending);
    sim.probe(pending, ProbeKind::UserMessage);
    sim.exit(pending, true);
    sim.reap(pending, 0);
    sim.probe(stage, ProbeKind::Syscall);
    sim.finish();
    sim
}

pub fn at(sim: &Sim, what: impl Fn(&Line) -> bool) -> usize {
    sim.log.iter().position(what).expect("the story has such a record")
}

pub fn with(parts: &'static [&'static str]) -> impl Fn(&Line) -> bool {
    move |line| parts.iter().all(|part| line.body.contains(part))
}

/// Plants a fault and gives the invariants that are broken by it.
pub fn plant(fault: impl FnOnce(&mut Sim)) -> BTreeSet<Invariant> {
    plant_in(story(), fault)
}

fn plant_in(mut sim: Sim, fault: impl FnOnce(&mut Sim)) -> BTreeSet<Invariant> {
    fault(&mut sim);
    // The collector counted what came out, planted or not.
    let records = sim.log.len() as u64;
    for fact in &mut sim.ledger {
        if let Act::Audit(AuditFact::Collected { unicast, multicast, .. }) = &mut fact.act {
            *unicast = records;
            *multicast = records;
        }
    }
    let result = check_sim(&sim);
    assert_eq!(result.loss, LossProof::Proven);
    assert!(result.findings.iter().all(|finding| !finding.expected.is_empty() && !finding.found.is_empty()));
    if !result.findings.is_empty() {
        assert_eq!(result.outcome(), Outcome::Failed);
    }
    result.counts.keys().copied().collect()
}

#[track_caller]
pub fn caught(by: Invariant, fault: impl FnOnce(&mut Sim)) {
    let broken = plant(fault);
    assert!(broken.contains(&by), "expected {by}, found {broken:?}");
}

/// Caught by this invariant and no other.
#[track_caller]
pub fn caught_only(by: Invariant, fault: impl FnOnce(&mut Sim)) {
    let broken = plant(fault);
    assert_eq!(broken.into_iter().collect::<Vec<_>>(), [by]);
}

pub fn edit(sim: &mut Sim, parts: &'static [&'static str], from: &str, to: &str) {
    let at = at(sim, with(parts));
    assert!(sim.log[at].body.contains(from), "{:?} has no {from}", sim.log[at]);
    sim.log[at].body = sim.log[at].body.replacen(from, to, 1);
}

pub fn remove(sim: &mut Sim, parts: &'static [&'static str]) -> Line {
    let at = at(sim, with(parts));
    sim.log.remove(at)
}

/// The attribution in the event of the record that has these parts.
pub fn attribution_of(sim: &Sim, parts: &'static [&'static str]) -> usize {
    let serial = sim.log[at(sim, with(parts))].serial;
    at(sim, |line| line.kind == 1341 && line.serial == serial)
}

#[test]
fn the_story_itself_is_right() {
    assert_eq!(plant(|_| ()), BTreeSet::new());
}

#[test]
fn a_kernel_without_the_series_fails_with_one_finding() {
    let mut sim = story();
    sim.log.retain(|line| !(1340..=1342).contains(&line.kind));
    let result = check_sim(&sim);
    assert_eq!(result.counts.into_iter().collect::<Vec<_>>(), [(Invariant::G2Series, 1)]);
    assert!(result.findings[0].found.contains("lacks the series or CONFIG_AUDIT_NSID"));
}

#[test]
fn records_out_of_format_are_caught() {
    caught(Invariant::RecFormat, |sim| edit(sim, &["op=clone", "auditnsid=0x2 "], "opid=", "child="));
    caught(Invariant::RecFormat, |sim| edit(sim, &["op=release", "auditnsid=0x3 "], "0x3", "3"));
    caught(Invariant::RecFormat, |sim| edit(sim, &["netns="], "net:", ""));
    caught(Invariant::RecFormat, |sim| {
        edit(
            sim,
            &["flags=CLONE_NEWUTS|CLONE_NEWNET"],
            "CLONE_NEWUTS|CLONE_NEWNET",
            "CLONE_NEWNET|CLONE_NEWUTS",
        );
    });
    caught(Invariant::RecTypes, |sim| edit(sim, &["op=clone", "auditnsid=0x2 "], ",time:34", ",time:?"));
    caught(Invariant::RecTypes, |sim| {
        edit(
            sim,
            &["op=clone", "auditnsid=0x2 "],
            " res=1",
            " nsid=cgroup:1,ipc:1,mnt:1,net:1,pid:1,pid_for_children:1,time:1,time_for_children:1,user:1,uts:1 res=1",
        );
    });
}

#[test]
fn a_wrong_set_is_caught() {
    caught(Invariant::G2List, |sim| edit(sim, &["op=clone", "auditnsid=0x2 "], "ipc:39", "ipc:77"));
    // The list of the set as it was before the move.
    caught(Invariant::G2List, |sim| edit(sim, &["op=unshare", "auditnsid=0x3 "], "ipc:1002", "ipc:39"));
    caught(Invariant::G1Set, |sim| {
        let probe = sim.ledger.iter_mut().find_map(|fact| match &mut fact.act {
            Act::Probe { kind: ProbeKind::Login, set, .. } => Some(set),
            _ => None,
        });
        probe.unwrap().0[9] = 4711;
    });
}

/// Plants a fault on a kernel whose namespaces have ids.
#[track_caller]
fn caught_among_ids(by: Invariant, fault: impl FnOnce(&mut Sim)) {
    let broken = plant_in(tell(Sim::with_ids()), fault);
    assert_eq!(broken.into_iter().collect::<Vec<_>>(), [by]);
}

#[test]
fn a_right_run_on_a_kernel_with_ids_passes() {
    let sim = tell(Sim::with_ids());
    let result = check_sim(&sim);
    assert_eq!(result.counts.into_iter().collect::<Vec<_>>(), []);
    let told = sim.ledger.iter().filter(|fact| matches!(fact.act, Act::Ids { .. })).count();
    assert!(told > 10);
    assert_eq!(result.figures.ids_told, told as u64);
}

#[test]
fn without_the_kernels_word_about_ids_nothing_is_proven() {
    let mut sim = Sim::with_ids();
    sim.finish();
    let told = sim.ledger.iter().position(|fact| matches!(fact.act, Act::Ids { .. })).unwrap();
    let actor = sim.ledger.remove(told).actor;
    for fact in sim.ledger.iter_mut().skip(told).filter(|fact| fact.actor == actor) {
        fact.number -= 1;
    }
    let result = check_sim(&sim);
    assert_eq!(result.outcome(), Outcome::Inconclusive, "{:?}", result.loss);
    let LossProof::NotProven { reasons } = result.loss else { panic!("proven") };
    assert!(reasons.len() == 1 && reasons[0].contains("NS_GET_ID"), "{reasons:?}");
}

#[test]
fn wrong_lists_of_ids_are_caught() {
    // No list at all, or one that does not agree with the other.
    caught_among_ids(Invariant::RecTypes, |sim| {
        for line in &mut sim.log {
            if let Some(at) = line.body.find(" nsid=") {
                line.body.replace_range(at.., " res=1");
            }
        }
    });
    caught_among_ids(Invariant::RecTypes, |sim| {
        let line = at(sim, with(&["op=clone", "auditnsid=0x4 "]));
        let list = sim.log[line].body.find(" nsid=").unwrap();
        sim.log[line].body.replace_range(list.., " res=1");
    });
    caught_among_ids(Invariant::RecTypes, |sim| {
        edit(
            sim,
            &["op=clone", "auditnsid=0x4 "],
            "time:1,time_for_children:1,",
            "time:?,time_for_children:1,",
        );
    });
    let mut broken = plant_in(tell(Sim::with_ids()), |sim| {
        edit(sim, &["op=clone", "auditnsid=0x2 "], "nsid=cgroup:2", "nsid=cgroup:02");
    });
    assert!(broken.remove(&Invariant::RecFormat), "{broken:?}");
    broken = plant_in(tell(Sim::with_ids()), |sim| {
        let line = at(sim, with(&["op=clone", "auditnsid=0x2 "]));
        let body = &sim.log[line].body;
        let (list, end) = (body.find(" nsid=").unwrap(), body.find(" res=").unwrap());
        let moved = format!(" res=1{}", &body[list..end]);
        sim.log[line].body.replace_range(list.., &moved);
    });
    assert!(broken.remove(&Invariant::RecFormat), "{broken:?}");
}

#[test]
fn wrong_ids_are_caught() {
    // uts, net: the container 0x2; its ids are 101 and 102 in the order of the flags.
    let list = |sim: &Sim| {
        let line = at(sim, with(&["op=clone", "auditnsid=0x2 "]));
        sim.log[line].body.clone()
    };
    assert!(
        list(&tell(Sim::with_ids())).ends_with("user:4,uts:101 res=1"),
        "{}",
        list(&tell(Sim::with_ids()))
    );
    // Another id for what is in the set that was left.
    caught_among_ids(Invariant::G2Ids, |sim| {
        edit(sim, &["op=clone", "auditnsid=0x2 "], "user:4,", "user:44,");
    });
    // A new namespace with an id that is in use, and with one that was.
    caught_among_ids(Invariant::G2Ids, |sim| edit(sim, &["op=clone", "auditnsid=0x2 "], "uts:101", "uts:4"));
    // The id of one that is gone: 0x4's mount namespace, in the thread's set.
    caught_among_ids(Invariant::G2Ids, |sim| {
        let body = sim.log[at(sim, with(&["op=clone", "auditnsid=0x4 "]))].body.clone();
        let gone =
            body.split(" nsid=").nth(1).unwrap().split("mnt:").nth(1).unwrap().split(',').next().unwrap();
        let line = at(sim, with(&["op=clone", "auditnsid=0x6 "]));
        let cut = sim.log[line].body.rfind("uts:").unwrap();
        sim.log[line].body.replace_range(cut.., &format!("uts:{gone} res=1"));
    });
    // Two entries changed places: only the kernel's own word, or an older definition, shows it.
    caught_among_ids(Invariant::G2Ids, |sim| {
        edit(sim, &["op=clone", "auditnsid=0x2 "], "uts:101", "uts:102");
        let line = at(sim, with(&["op=clone", "auditnsid=0x2 "]));
        let cut = sim.log[line].body.find(" nsid=").unwrap();
        let swapped = sim.log[line].body[cut..].replacen("net:102", "net:101", 1);
        sim.log[line].body.replace_range(cut.., &swapped);
    });
    // Inode numbers for ids, in every definition.
    caught_among_ids(Invariant::G2Ids, |sim| {
        for line in &mut sim.log {
            let Some(ids) = line.body.find(" nsid=") else { continue };
            let list = line.body[..ids].rfind(" ns=").unwrap();
            let numbers = line.body[list + 4..ids].to_owned();
            line.body.replace_range(ids.., &format!(" nsid={numbers} res=1"));
        }
    });
    // Nothing but the ledger contradicts: an id that is new and not the kernel's.
    caught_among_ids(Invariant::G2Ids, |sim| {
        for line in &mut sim.log {
            if line.body.contains(" nsid=") {
                line.body = line.body.replace("uts:101", "uts:9101");
            }
        }
    });
}

#[test]
fn ids_that_come_before_their_definition_are_no_fault() {
    // A third task joins a child's namespace ahead of the child's definition (CONTRACT.md G4).
    let mut sim = Sim::with_ids();
    let stage = sim.clone(0, Call::Fork, 0);
    let child = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    let third = sim.clone(0, Call::Fork, 0);
    sim.setns(third, child, NamespaceType::Uts);
    let from = at(&sim, with(&["op=clone", "auditnsid=0x2 "]));
    let to = at(&sim, with(&["op=setns", "auditnsid=0x3 "]));
    // The ids of auditnsids follow the counter, which has nothing to do with the order of the queue.
    let definition = sim.log.remove(from);
    sim.log.insert(to, definition);
    sim.finish();
    assert_eq!(plant_in(sim, |_| ()), BTreeSet::new());
}

#[test]
fn a_pending_pid_namespace_that_nobody_can_read_is_checked() {
    let pending = |from: &str, to: &str| {
        let mut sim = Sim::new();
        let stage = sim.clone(0, Call::Fork, 0);
        sim.unshare(stage, NamespaceType::Pid.flag());
        let init = sim.clone(stage, Call::Fork, 0);
        sim.probe(init, ProbeKind::UserMessage);
        sim.finish();
        let at = at(&sim, with(&["op=unshare"]));
        sim.log[at].body = sim.log[at].body.replace(from, to);
        check_sim(&sim).counts.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(pending("pid_for_children:1000", "pid_for_children:1000"), []);
    assert!(pending("pid_for_children:1000", "pid_for_children:36").contains(&Invariant::G2List));
    assert!(pending("pid_for_children:1000", "pid_for_children:1001").contains(&Invariant::G2List));
}

#[test]
fn a_wrong_init_is_caught() {
    caught(Invariant::G2Init, |sim| drop(sim.log.remove(0)));
    caught(Invariant::G2Init, |sim| sim.log.swap(0, 2));
    caught(Invariant::G2Init, |sim| {
        let line = sim.log[0].clone();
        sim.log.insert(9, Line { serial: 9999, ..line });
    });
    caught(Invariant::G2Init, |sim| edit(sim, &["op=init"], "uts:38", "uts:83"));
}

#[test]
fn a_missing_definition_is_caught() {
    caught(Invariant::G2Missing, |sim| drop(remove(sim, &["op=unshare", "auditnsid=0x3 "])));
    caught(Invariant::G3Dense, |sim| drop(remove(sim, &["op=clone", "auditnsid=0x4 "])));
    caught(Invariant::G2Missing, |sim| drop(remove(sim, &["op=exec"])));
    caught(Invariant::G2Missing, |sim| drop(remove(sim, &["op=clone", "flags=none"])));
}

#[test]
fn a_definition_too_many_is_caught() {
    caught(Invariant::G3Unique, |sim| {
        let at = at(sim, with(&["op=clone", "auditnsid=0x4 "]));
        let line = sim.log[at].clone();
        sim.log.insert(at + 1, line);
    });
    caught(Invariant::G2Unexplained, |sim| {
        let at = at(sim, with(&["op=clone", "auditnsid=0x4 "]));
        let mut line = sim.log[at].clone();
        line.serial = 9000;
        line.body = line.body.replace("auditnsid=0x4 ", "auditnsid=0x999 ");
        sim.log.insert(at, line);
    });
}

#[test]
fn wrong_fields_of_a_definition_are_caught() {
    caught_only(Invariant::G2Task, |sim| {
        edit(sim, &["op=clone", "auditnsid=0x4 "], "pid=3 tid=3", "pid=2 tid=2");
    });
    caught_only(Invariant::G2Task, |sim| edit(sim, &["op=setns"], "pid=3 ", "pid=2 "));
    caught(Invariant::G2Op, |sim| edit(sim, &["op=setns"], "op=setns", "op=unshare"));
    caught_only(Invariant::G2Flags, |sim| edit(sim, &["op=setns"], "CLONE_NEWNET", "none"));
    caught_only(Invariant::G2Flags, |sim| edit(sim, &["op=exec"], "none", "CLONE_NEWTIME"));
    caught_only(Invariant::G2Flags, |sim| edit(sim, &["op=clone", "flags=none"], "none", "CLONE_NEWTIME"));
    caught(Invariant::G2Old, |sim| {
        edit(sim, &["op=unshare", "auditnsid=0x3 "], "old-auditnsid=0x2", "old-auditnsid=0x1");
    });
    caught(Invariant::G2Old, |sim| {
        edit(sim, &["op=clone", "auditnsid=0x4 "], "old-auditnsid=0x3", "old-auditnsid=0x1");
    });
}

#[test]
fn a_reused_id_is_caught() {
    caught(Invariant::G3Unique, |sim| {
        for line in &mut sim.log {
            if line.kind != 1005 {
                line.body = line.body.replace("auditnsid=0x5", "auditnsid=0x4");
            }
        }
    });
    caught(Invariant::G3Dense, |sim| {
        for line in &mut sim.log {
            line.body = line.body.replace("auditnsid=0xa", "auditnsid=0xb");
        }
    });
}

#[test]
fn a_definition_that_comes_too_late_is_caught() {
    // Behind the child's first event.
    caught(Invariant::G4First, |sim| {
        let line = remove(sim, &["op=clone", "auditnsid=0x2 "]);
        let at = at(sim, |line| line.kind == 1341 && line.body == "auditnsid=0x2");
        sim.log.insert(at + 1, line);
    });
    // Between the first record of the child's event and its attribution.
    caught(Invariant::G4First, |sim| {
        let line = remove(sim, &["op=clone", "auditnsid=0x2 "]);
        let at = at(sim, with(&["nstrail-token=1'"]));
        sim.log.insert(at + 1, line);
    });
}

#[test]
fn a_wrong_release_is_caught() {
    caught_only(Invariant::G5Missing, |sim| drop(remove(sim, &["op=release", "auditnsid=0x4 "])));
    caught(Invariant::G5One, |sim| {
        let at = at(sim, with(&["op=release", "auditnsid=0x4 "]));
        let line = sim.log[at].clone();
        sim.log.insert(at + 1, Line { serial: 9000, ..line });
    });
    caught(Invariant::G5One, |sim| {
        let last = sim.log.len();
        sim.log.insert(
            last - 1,
            Line { kind: 1340, serial: 9000, body: "op=release pid=2 tid=2 auditnsid=0x1 res=1".to_owned() },
        );
    });
    // Before the last words of a member.
    caught(Invariant::G5Last, |sim| {
        let line = remove(sim, &["op=release", "auditnsid=0x4 "]);
        let at = at(sim, with(&["syscall=10000"]));
        sim.log.insert(at, line);
    });
    // By the first member that leaves.
    caught(Invariant::G5Last, |sim| {
        let mut line = remove(sim, &["op=release", "auditnsid=0x2 "]);
        line.serial = 9000;
        let at = at(sim, with(&["op=add_rule"]));
        sim.log.insert(at, line);
    });
    // After wait has returned: behind what the waiter causes next.
    caught_only(Invariant::G5Timely, |sim| {
        let line = remove(sim, &["op=release", "auditnsid=0x4 "]);
        let at = at(sim, with(&["op=setns"]));
        sim.log.insert(at + 1, line);
    });
    caught_only(Invariant::G5By, |sim| {
        edit(sim, &["op=release", "auditnsid=0x4 "], "pid=5 tid=5", "pid=1 tid=1");
    });
    // In the wrong event.
    caught_only(Invariant::G5Event, |sim| {
        let at = at(sim, with(&["op=release", "auditnsid=0x2 "]));
        sim.log[at].serial = 9000;
    });
    caught(Invariant::G5Event, |sim| {
        let release = at(sim, with(&["op=release", "auditnsid=0x2 "]));
        let definition = at(sim, with(&["op=unshare", "auditnsid=0x3 "]));
        sim.log.swap(release, definition);
    });
    caught(Invariant::G5Event, |sim| {
        let at = at(sim, with(&["op=release", "auditnsid=0x4 "]));
        let serial = sim.log[at].serial;
        sim.log.insert(at, Line { kind: 1341, serial, body: "auditnsid=0x4".to_owned() });
    });
}

#[test]
fn a_release_while_a_member_lives_is_caught() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    let container = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    let plain = sim.clone(container, Call::Fork, 0);
    sim.go_on(container);
    sim.log.push(Line {
        kind: 1340,
        serial: 5000,
        body: format!("op=release pid={0} tid={0} auditnsid=0x2 res=1", sim.tasks[container].tid),
    });
    sim.fence();
    sim.fail(plain, Call::Unshare, 0);
    let silent = sim.log.len();
    sim.finish();
    sim.log.drain(silent - 4..silent);
    sim.log.retain(|line| line.serial == 5000 || !line.body.contains("op=release pid=3"));
    let result = check_sim(&sim);
    assert!(result.counts.contains_key(&Invariant::G5Live), "{:?}", result.counts);
}

#[test]
fn an_inode_number_of_a_living_set_is_caught() {
    // Two live sets have the same new uts namespace, and the first goes on acting.
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    let one = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    let other = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    sim.probe(other, ProbeKind::UserMessage);
    sim.probe(one, ProbeKind::UserMessage);
    sim.finish();
    let twin = |inum: &mut u32| {
        if *inum == 1001 {
            *inum = 1000;
        }
    };
    for line in &mut sim.log {
        line.body = line.body.replace("uts:1001", "uts:1000");
    }
    for fact in &mut sim.ledger {
        match &mut fact.act {
            Act::Start { set, parent_set, .. } => {
                [set, parent_set].into_iter().for_each(|set| set.0.iter_mut().for_each(twin));
            }
            Act::Operation { before, after, .. } => {
                [before, after].into_iter().for_each(|set| set.0.iter_mut().for_each(twin));
            }
            Act::Probe { set, .. } => set.0.iter_mut().for_each(twin),
            _ => {}
        }
    }
    for event in &mut sim.perf {
        if let PerfEvent::Namespaces { set, .. } = event {
            set.0.iter_mut().for_each(twin);
        }
    }
    let result = check_sim(&sim);
    assert_eq!(result.counts.into_keys().collect::<Vec<_>>(), [Invariant::G5Inum]);
}

#[test]
fn a_number_that_comes_back_before_the_release_is_tolerated() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    let one = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    sim.probe(one, ProbeKind::UserMessage);
    sim.exit(one, true);
    let other = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    sim.reap(one, 0);
    sim.probe(other, ProbeKind::UserMessage);
    sim.finish();
    // Another CPU queues the second definition ahead of the first one's release.
    let release = at(&sim, with(&["op=release", "auditnsid=0x2 "]));
    let definition = at(&sim, with(&["op=clone", "auditnsid=0x3 "]));
    let line = sim.log.remove(definition);
    sim.log.insert(release, line);
    assert_eq!(check_sim(&sim).outcome(), Outcome::Passed);
}

#[test]
fn a_definition_for_a_failed_call_is_caught() {
    // In the event of the failed call itself.
    caught(Invariant::G6Silence, |sim| {
        let at = at(sim, |line| {
            line.kind == 1300
                && line.body.contains("success=no")
                && line.body.contains("pid=3")
                && !line.body.contains("6e73")
        });
        let serial = sim.log[at].serial;
        let definition = sim
            .log
            .iter()
            .find(|line| line.body.contains("op=unshare") && line.body.contains("auditnsid=0x3 "))
            .unwrap();
        let body = definition
            .body
            .replace("auditnsid=0x3 ", "auditnsid=0x50 ")
            .replace("old-auditnsid=0x2", "old-auditnsid=0x3");
        sim.log.insert(at, Line { kind: 1340, serial, body });
    });
    // An event without SYSCALL record, as under `-a never,exit`.
    caught(Invariant::G6Silence, |sim| {
        let at = at(sim, with(&["op=setns"]));
        let definition = sim
            .log
            .iter()
            .find(|line| line.body.contains("op=unshare") && line.body.contains("auditnsid=0x3 "))
            .unwrap();
        let body = definition
            .body
            .replace("auditnsid=0x3 ", "auditnsid=0x50 ")
            .replace("old-auditnsid=0x2", "old-auditnsid=0x3");
        sim.log.insert(at, Line { kind: 1340, serial: 9000, body });
    });
    // The id is taken, and nothing logged.
    caught(Invariant::G3Dense, |sim| {
        for line in &mut sim.log {
            for id in (5..12).rev() {
                line.body =
                    line.body.replace(&format!("auditnsid={id:#x}"), &format!("auditnsid={:#x}", id + 1));
            }
        }
    });
}

#[test]
fn a_missing_attribution_is_caught() {
    const EVENTS: [&[&str]; 8] = [
        &["nstrail-token=1'"],
        &["a0=6e737472 a1=2 "],
        &["op=add_rule"],
        &["op=remove_rule"],
        &["auid=5 "],
        &["syscall=10000"],
        &["uring_op=37"],
        &["op=unshare", "auditnsid=0x3 "],
    ];
    for parts in EVENTS {
        let broken = plant(|sim| {
            let at = attribution_of(sim, parts);
            sim.log.remove(at);
        });
        assert_eq!(broken.into_iter().collect::<Vec<_>>(), [Invariant::G7Missing], "{parts:?}");
    }
    // Of a failed call, which no token names.
    caught_only(Invariant::G7Missing, |sim| {
        let serial = sim
            .log
            .iter()
            .find(|line| line.kind == 1300 && line.body.contains("success=no") && line.body.contains("a0=0 "))
            .unwrap()
            .serial;
        sim.log.retain(|line| line.serial != serial || line.kind != 1341);
    });
    caught(Invariant::G7Probe, |sim| drop(remove(sim, &["nstrail-token=1'"])));
}

#[test]
fn a_wrong_attribution_is_caught() {
    caught_only(Invariant::G7Right, |sim| {
        let at = attribution_of(sim, &["syscall=10000"]);
        sim.log[at].body = "auditnsid=0x3".to_owned();
    });
    // The move's event named for the set that was left.
    caught(Invariant::G7Right, |sim| {
        let at = attribution_of(sim, &["op=unshare", "auditnsid=0x3 "]);
        sim.log[at].body = "auditnsid=0x2".to_owned();
    });
    // The clone's event named for the child's set.
    caught(Invariant::G7Right, |sim| {
        let at = attribution_of(sim, &["op=clone", "auditnsid=0x4 "]);
        sim.log[at].body = "auditnsid=0x4".to_owned();
    });
    caught_only(Invariant::G7One, |sim| {
        let at = attribution_of(sim, &["nstrail-token=1'"]);
        let line = sim.log[at].clone();
        sim.log.insert(at, line);
    });
    caught(Invariant::G7Boot, |sim| {
        let at = attribution_of(sim, &["nstrail-token=1'"]);
        sim.log[at].body = "auditnsid=0x1".to_owned();
    });
    // An event of a task in set 1.
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Fork, 0);
    let container = sim.clone(stage, Call::Clone3, NamespaceType::Uts.flag());
    sim.go_on(stage);
    sim.probe(stage, ProbeKind::UserMessage);
    sim.exit(container, true);
    sim.reap(container, 0);
    sim.finish();
    let probe = at(&sim, with(&["nstrail-token=1'"]));
    let serial = sim.log[probe].serial;
    sim.log.insert(probe + 1, Line { kind: 1341, serial, body: "auditnsid=0x2".to_owned() });
    assert_eq!(check_sim(&sim).counts.into_keys().collect::<Vec<_>>(), [Invariant::G7Boot]);
}

#[test]
fn loss_is_never_a_pass() {
    let spoil = |spoil: &dyn Fn(&mut AuditFact)| {
        let mut sim = story();
        for fact in &mut sim.ledger {
            if let Act::Audit(audit) = &mut fact.act {
                spoil(audit);
            }
        }
        check_sim(&sim).outcome()
    };
    assert_eq!(spoil(&|_| ()), Outcome::Passed);
    assert_eq!(
        spoil(&|fact| if let AuditFact::Status { status, when: nstrail_wire::fact::When::After } = fact {
            status.lost = 1;
        }),
        Outcome::Inconclusive
    );
    assert_eq!(
        spoil(&|fact| if let AuditFact::Status { status, .. } = fact {
            status.rate_limit = 1;
        }),
        Outcome::Inconclusive
    );
    assert_eq!(
        spoil(&|fact| if let AuditFact::Rules { exclude, .. } = fact {
            *exclude = 1;
        }),
        Outcome::Inconclusive
    );
    assert_eq!(
        spoil(&|fact| if let AuditFact::Rules { task_never, .. } = fact {
            *task_never = 1;
        }),
        Outcome::Inconclusive
    );
    assert_eq!(
        spoil(&|fact| if let AuditFact::Collected { overruns, .. } = fact {
            *overruns = 1;
        }),
        Outcome::Inconclusive
    );
    assert_eq!(
        spoil(&|fact| if let AuditFact::Collected { multicast_drops, .. } = fact {
            *multicast_drops = 1;
        }),
        Outcome::Inconclusive
    );
    assert_eq!(
        spoil(&|fact| if let AuditFact::Collected { first_difference, .. } = fact {
            *first_difference = Some(7);
        }),
        Outcome::Inconclusive
    );
    assert_eq!(
        spoil(&|fact| if let AuditFact::Collected { unicast, multicast, .. } = fact {
            *unicast += 1;
            *multicast += 1;
        }),
        Outcome::Inconclusive
    );
    // A tail that is lost takes the last fence along, and a definition that is lost is no proof against the kernel then.
    let mut sim = story();
    sim.log.truncate(sim.log.len() - 2);
    assert_eq!(check_sim(&sim).outcome(), Outcome::Inconclusive);
    let mut sim = story();
    let at = at(&sim, with(&["op=unshare", "auditnsid=0x3 "]));
    sim.log.truncate(at);
    assert_eq!(check_sim(&sim).outcome(), Outcome::Inconclusive);
}

#[test]
fn those_who_left_are_named_in_the_order_of_the_ledger() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    for member in [stage, sim.clone(stage, Call::Fork, 0), sim.clone(stage, Call::Fork, 0)] {
        sim.unshare(member, NamespaceType::Ipc.flag());
    }
    let release =
        at(&sim, |line| line.body.starts_with("op=release") && line.body.contains("auditnsid=0x2 "));
    let definition = sim.log[release - 1].clone();
    assert!(definition.body.starts_with("op=unshare"), "{definition:?}");
    sim.log.swap(release - 1, release);
    sim.finish();
    assert_same_in_any_interleaving(&sim, Invariant::G5Event);
}

#[test]
fn a_task_that_speaks_after_its_end_is_no_proof() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    let child = sim.clone(stage, Call::Fork, 0);
    sim.exit(child, true);
    sim.exit(stage, true);
    sim.reap(stage, 0);
    sim.reap(child, 0);
    sim.finish();
    let result = check_sim(&sim);
    assert!(matches!(&result.loss, LossProof::NotProven { reasons } if reasons[0].contains("after its end")));
    assert_eq!(result.outcome(), Outcome::Inconclusive);
}

#[test]
fn an_event_that_is_held_over_a_fence_finds_no_probe_before_it() {
    let mut sim = Sim::new();
    let stage = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
    let child = sim.clone(stage, Call::Clone3, NamespaceType::Ipc.flag());
    sim.probe(child, ProbeKind::Syscall);
    sim.fence();
    sim.finish();
    // The probe's event and the clone's become one, with its definition before the fence and the rest behind it.
    let definition = at(&sim, |line| line.body.contains("flags=CLONE_NEWIPC"));
    let (moved, serial) = (sim.log[definition].clone(), sim.log[definition].serial);
    let probe = at(&sim, |line| line.body.contains("a0=6e737472"));
    let token = sim.log[probe].clone();
    sim.log.retain(|line| line.serial != serial && line.serial != token.serial);
    let fence = at(&sim, |line| line.body.contains("nstrail-fence=1"));
    sim.log.insert(fence, moved);
    sim.log.insert(fence + 2, Line { serial, ..token });
    assert_same_in_any_interleaving(&sim, Invariant::G7Probe);
}

#[test]
fn a_record_of_a_clone_that_a_signal_cut_off_is_caught() {
    let mut sim = Sim::new();
    let killer = sim.clone(0, Call::Fork, 0);
    sim.go_on(0);
    let victim = sim.clone(killer, Call::Fork, 0);
    sim.go_on(killer);
    let child = sim.clone(victim, Call::Clone3, NamespaceType::Uts.flag());
    sim.tasks[victim].word = None;
    sim.exit(victim, false);
    sim.reap(victim, 9);
    // Given to the one who has killed its maker.
    sim.tasks[child].parent = killer;
    sim.exit(child, true);
    sim.reap(child, 0);
    sim.exit(killer, true);
    sim.reap(killer, 0);
    sim.finish();
    let found = |sim: &Sim| check_sim(sim).counts.into_keys().collect::<Vec<_>>();
    assert_eq!(found(&sim), [], "a maker that is killed after the call");

    // The child was never there.
    let (child, of) = (sim.tasks[child].actor, sim.tasks[victim].actor);
    sim.ledger.retain(|fact| fact.actor != child);
    let reaped = |act: &Act| matches!(act, Act::Reaped { child: reaped, .. } if *reaped == child);
    let at = sim.ledger.iter().position(|fact| reaped(&fact.act)).unwrap();
    sim.ledger[at].act = Act::Childless { of, call: Call::Clone3 };
    assert_eq!(found(&sim), [Invariant::G6Silence]);
    assert_same_in_any_interleaving(&sim, Invariant::G6Silence);
}

/// A kernel that loses a record where everybody can wait is wrong, and not only in doubt.
#[test]
fn a_loss_where_everybody_waits_is_a_finding() {
    let mut sim = story();
    for fact in &mut sim.ledger {
        if let Act::Audit(AuditFact::Status { status, when: nstrail_wire::fact::When::After }) = &mut fact.act
        {
            status.lost = 1;
        }
    }
    let run = |everybody_waits| {
        let options = sim.options().with_everybody_waiting(everybody_waits);
        let result = check_on(options, &sim.log, &sim.ledger, &sim.perf, &mut || true);
        (result.outcome(), result.counts.into_keys().collect::<Vec<_>>())
    };
    assert_eq!(run(false), (Outcome::Inconclusive, vec![]));
    assert_eq!(run(true), (Outcome::Failed, vec![Invariant::RecLost]));
}

/// Nobody may read a number but in the log.
#[test]
fn a_number_in_proc_is_caught() {
    let mut sim = story();
    sim.tell(0, Act::Audit(AuditFact::Exposed { path: "/proc/self/auditnsid".to_owned() }));
    sim.finish();
    let result = check_sim(&sim);
    assert_eq!(result.counts.into_keys().collect::<Vec<_>>(), [Invariant::G1Hidden]);
    assert!(result.findings[0].found.contains("/proc/self/auditnsid"), "{:?}", result.findings);
}

/// What stands behind the end of an event, soon or long after it, is lost for readers that have closed it by then.
#[test]
fn a_record_behind_the_end_of_its_event_is_caught() {
    for late in [false, true] {
        let mut sim = story();
        let is = |kind: u16, serial: u32| move |line: &Line| line.kind == kind && line.serial == serial;
        let named = |line: &Line| line.kind == 1341 && sim.log.iter().any(is(1320, line.serial));
        let at = sim.log.iter().position(named).unwrap();
        let end = sim.log.iter().position(is(1320, sim.log[at].serial)).unwrap();
        let named = sim.log.remove(at);
        sim.log.insert(if late { sim.log.len() } else { end }, named);
        assert!(check_sim(&sim).counts.contains_key(&Invariant::RecEoe), "{late}");
    }
}

/// An event that is there for the sake of its attribution, with an end or without.
#[test]
fn an_attribution_alone_is_caught() {
    for with_end in [false, true] {
        let mut sim = Sim::new();
        let container = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
        sim.go_on(container);
        let serial = sim.serial();
        sim.push(1341, serial, "auditnsid=0x2".to_owned());
        if with_end {
            sim.push(1320, serial, String::new());
        }
        sim.exit(container, true);
        sim.reap(container, 0);
        sim.finish();
        assert_eq!(
            check_sim(&sim).counts.into_keys().collect::<Vec<_>>(),
            [Invariant::G7Alone],
            "{with_end}"
        );
    }
}

/// A worker of io_uring that was there before its task moved names the set that it was made in, and not the one of now.
#[test]
fn a_worker_that_was_there_before_is_held_against_its_own_set() {
    let run = |own: bool| {
        let mut sim = Sim::new();
        let owner = sim.clone(0, Call::Clone3, NamespaceType::Uts.flag());
        // It stays in the set for the worker.
        let stays = sim.clone(owner, Call::Fork, 0);
        sim.probe(owner, ProbeKind::IoUring);
        sim.unshare(owner, NamespaceType::Ipc.flag());
        sim.probe(owner, ProbeKind::IoUringReused);
        if own {
            let at = sim.log.iter().rposition(|line| line.kind == 1341).unwrap();
            sim.log[at].body = "auditnsid=0x2".to_owned();
        }
        sim.exit(stays, true);
        sim.reap(stays, 0);
        sim.exit(owner, true);
        sim.reap(owner, 0);
        sim.finish();
        check_sim(&sim).counts.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(run(true), []);
    assert_eq!(run(false), [Invariant::G7Right]);
}
