// SPDX-License-Identifier: MIT OR Apache-2.0
//! Equal things are written once, and what is folded is not kept.

use nstrail_wire::fact::{Call, ProbeKind};
use nstrail_wire::namespace::NamespaceType;

use super::world::{ROOT, World};

const UTS: u64 = NamespaceType::Uts.flag();
const NET: u64 = NamespaceType::Net.flag();

#[test]
fn many_containers_are_a_page_and_are_not_kept() {
    let mut world = World::boot();
    let workers: Vec<_> = (0..4).map(|_| world.spawn(ROOT, Call::Fork, 0)).collect();
    for round in 0..90 {
        for worker in &workers {
            let flags = if round % 3 == 0 { NET } else { UTS };
            let container = world.spawn(*worker, Call::Clone3, flags);
            if round % 5 == 0 {
                world.probe(container, ProbeKind::UserMessage);
            }
            world.reap(container, *worker, 0);
        }
    }
    for worker in workers {
        world.reap(worker, ROOT, 0);
    }
    let mut turn = 0_usize;
    let lineage = world.story.lineage(&mut |choices| {
        turn += 1;
        turn % choices
    });
    // Those that wait for a release which the test holds back are the open ones.
    assert!(lineage.most_open() < 360, "{} tasks were open at once", lineage.most_open());
    let expected = "\
lineage of test (form 1)

#1 boot: cgroup:n1 ipc:n1 mnt:n1 net:n1 pid:n1 time:n1 user:n1 uts:n1
  fork  (x 4)
    clone3 NEWNET -> #2 net:n2, released by exit  (x 6)
      probe user message: USER in #2
    clone3 NEWUTS -> #3 uts:n2, released by exit  (x 48)
    clone3 NEWNET -> #4 net:n3, released by exit  (x 24)
    clone3 NEWUTS -> #5 uts:n3, released by exit  (x 12)
      probe user message: USER in #5
";
    assert_eq!(lineage.finish().to_string(), expected);
}

#[test]
fn what_is_heard_in_the_order_in_which_it_happened_is_folded_at_once() {
    let mut world = World::boot();
    for _ in 0..300 {
        let container = world.spawn(ROOT, Call::Clone3, UTS);
        world.reap(container, ROOT, 0);
    }
    // Child before maker, and releases as soon as there is one: last choice first.
    let mut lineage = crate::snapshot::Lineage::new("test", Vec::new());
    use crate::check::joined::{Joined, JoinedSink};
    let give = |lineage: &mut crate::snapshot::Lineage, actor: u64, from: usize, to: usize| {
        for item in &world.story.actors[&nstrail_wire::fact::ActorId(actor)][from..to] {
            lineage.joined(&Joined {
                fact: &item.fact,
                position: item.position,
                definition: item.definition.as_ref(),
                attribution: item.attribution,
            });
        }
    };
    give(&mut lineage, 1, 0, 1);
    for container in 0..300 {
        give(&mut lineage, container + 2, 0, 2);
        lineage.released(container + 2, crate::check::joined::ReleaseBy::Exit);
        let told = 1 + 2 * container as usize;
        give(&mut lineage, 1, told, told + 2);
    }
    assert_eq!(lineage.most_open(), 2);
    assert!(lineage.finish().as_str().contains("uts:n2, released by exit  (x 300)\n"));
}

#[test]
fn repeated_moves_of_one_task_fold() {
    let mut world = World::boot();
    let task = world.spawn(ROOT, Call::Fork, 0);
    for _ in 0..100 {
        world.unshare(task, UTS);
        world.probe(task, ProbeKind::UserMessage);
    }
    world.reap(task, ROOT, 0);
    let form = world.story.form();
    let folded =
        "    unshare NEWUTS -> #2 uts:n2, released by move  (x 99)\n      probe user message: USER in #2\n";
    assert!(form.contains(folded), "{form}");
    assert_eq!(form.matches("unshare").count(), 2, "the last one is released by exit:\n{form}");
}

#[test]
fn siblings_that_join_different_namespaces_do_not_fold() {
    let mut world = World::boot();
    let owners = [UTS, UTS | NET].map(|flags| world.spawn(ROOT, Call::Clone3, flags));
    for owner in owners {
        let guest = world.spawn(ROOT, Call::Fork, 0);
        world.setns(guest, owner, NamespaceType::Uts);
        world.reap(guest, ROOT, 0);
    }
    for owner in owners {
        world.reap(owner, ROOT, 0);
    }
    let form = world.story.form();
    assert!(
        form.contains("setns NEWUTS -> #4 uts:n2,") && form.contains("setns NEWUTS -> #5 uts:n3,"),
        "{form}"
    );
}

#[test]
fn siblings_that_join_namespaces_of_folded_siblings_fold_too() {
    let mut world = World::boot();
    let owners = [UTS, UTS].map(|flags| world.spawn(ROOT, Call::Clone3, flags));
    for owner in owners {
        let guest = world.spawn(ROOT, Call::Fork, 0);
        world.setns(guest, owner, NamespaceType::Uts);
        world.reap(guest, ROOT, 0);
    }
    for owner in owners {
        world.reap(owner, ROOT, 0);
    }
    let form = world.story.form();
    assert!(form.contains("clone3 NEWUTS -> #2 uts:n2, released by exit  (x 2)\n  fork  (x 2)\n"), "{form}");
}
