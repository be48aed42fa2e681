// SPDX-License-Identifier: MIT OR Apache-2.0
//! The form depends on what happened, not on the order in which it is heard, nor on any number.

use nstrail_audit::NsidOp;
use nstrail_wire::fact::{Act, ActorId, Call, Outcome, ProbeKind};
use nstrail_wire::namespace::{NamespaceSet, NamespaceType};
use proptest::prelude::*;

use super::world::{ROOT, Story, World};

const KINDS: [ProbeKind; 3] = [ProbeKind::UserMessage, ProbeKind::Packet, ProbeKind::Seccomp];

/// What a list of numbers makes happen.
fn happen(numbers: &[(u8, u8, u8)]) -> Story {
    let mut world = World::boot();
    let mut parents = vec![];
    for (who, what, how) in numbers {
        let living = world.living();
        let actor = living[*who as usize % living.len()];
        let kind = NamespaceType::ALL[*how as usize % 8];
        match what % 9 {
            0..=2 if living.len() < 12 => {
                let two = kind.flag() | NamespaceType::ALL[*how as usize / 8 % 8].flag();
                let flags = if what % 9 == 0 { 0 } else { two };
                parents.push((world.spawn(actor, Call::Clone3, flags), actor));
            }
            3 if actor != ROOT => world.unshare(actor, kind.flag()),
            4 if actor != ROOT => {
                let target = living[*how as usize % living.len()];
                world.setns(actor, target, kind);
            }
            5 => world.fail(actor, kind.flag(), 1 + i32::from(*how % 3)),
            6 | 7 => world.probe(actor, KINDS[*how as usize % 3]),
            _ => {
                // The youngest ends, so that its maker is there to reap it.
                if let Some((child, maker)) = parents.pop() {
                    world.reap(child, maker, if how % 5 == 0 { 9 } else { 0 });
                }
            }
        }
    }
    while let Some((child, maker)) = parents.pop() {
        world.reap(child, maker, 0);
    }
    world.story
}

/// Every number replaced by another one, ids in their order (CONTRACT.md G3).
fn renamed(story: &Story) -> Story {
    let id = |id: u64| if id <= 1 { id } else { id * 7 + 1000 };
    let inum = |inum: u32| if inum == 0 { 0 } else { inum ^ 0x0005_5555 };
    let task = |tid: u32| tid.wrapping_mul(3) + 40_000;
    // Another order of the numbers too.
    let actor = |actor: ActorId| ActorId(if actor == ROOT { 900_000 } else { 500_000 - actor.0 });
    let set = |set: &NamespaceSet| NamespaceSet(set.0.map(inum));
    let mut other = Story {
        releases: story.releases.iter().map(|(set, how)| (id(*set), *how)).collect(),
        ..story.clone()
    };
    other.actors = story
        .actors
        .iter()
        .map(|(who, items)| {
            let items = items.iter().cloned().map(|mut item| {
                item.fact.actor = actor(item.fact.actor);
                item.fact.tid = task(item.fact.tid);
                item.fact.pid = task(item.fact.pid);
                item.after.iter_mut().for_each(|after| after.0 = actor(after.0));
                if let Some(NsidOp { pid, tid, opid, old, id: new, set: list, .. }) = &mut item.definition {
                    (*pid, *tid, *opid) = (task(*pid), task(*tid), task(*opid));
                    (*old, *new, *list) = (id(*old), id(*new), set(list));
                }
                if let Some(attribution) = &mut item.attribution {
                    attribution.auditnsid = attribution.auditnsid.map(id);
                    attribution.netns = attribution.netns.map(inum);
                }
                match &mut item.fact.act {
                    Act::Start { parent, parent_set, set: own, .. } => {
                        *parent = parent.map(actor);
                        (*parent_set, *own) = (set(parent_set), set(own));
                    }
                    Act::Operation { outcome, before, after, .. } => {
                        (*before, *after) = (set(before), set(after));
                        if let Outcome::Child { actor: child, tid } = outcome {
                            (*child, *tid) = (actor(*child), task(*tid));
                        }
                    }
                    Act::Probe { token, set: own, .. } => (*token, *own) = (*token + 77, set(own)),
                    Act::Reaped { child, tid, .. } => (*child, *tid) = (actor(*child), task(*tid)),
                    _ => {}
                }
                item
            });
            (actor(*who), items.collect())
        })
        .collect();
    other
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_interleaving_gives_the_same_bytes(
        numbers in prop::collection::vec(any::<(u8, u8, u8)>(), 0..40),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
    ) {
        let story = happen(&numbers);
        let mut next = picks.iter().cycle();
        let shuffled = story.play(&mut |choices| next.next().unwrap().index(choices));
        prop_assert_eq!(shuffled.to_string(), story.form());
        // The other extreme: the newest actor first, releases at once.
        let newest = story.play(&mut |choices| choices - 1);
        prop_assert_eq!(newest.to_string(), story.form());
    }

    #[test]
    fn other_numbers_give_the_same_bytes(numbers in prop::collection::vec(any::<(u8, u8, u8)>(), 0..40)) {
        let story = happen(&numbers);
        prop_assert_eq!(renamed(&story).form(), story.form());
    }

    #[test]
    fn no_number_of_the_run_stands_in_the_form(numbers in prop::collection::vec(any::<(u8, u8, u8)>(), 0..40)) {
        let form = happen(&numbers).form();
        prop_assert!(!form.contains("40265"), "{}", form);
        prop_assert!(form.ends_with('\n') && !form.lines().any(|line| line.ends_with(' ')), "{}", form);
    }
}

#[test]
fn an_inum_that_comes_back_is_another_namespace() {
    let mut world = World::boot();
    for kind in [NamespaceType::Uts, NamespaceType::Uts, NamespaceType::Net] {
        let child = world.spawn(ROOT, Call::Clone, kind.flag() | u64::from(libc::SIGCHLD.unsigned_abs()));
        if kind == NamespaceType::Net {
            world.probe(child, ProbeKind::Packet);
        }
        // Other shapes, so that they do not fold.
        world.fail(child, 0, world.calls as i32 + 1);
        world.calls += 1;
        world.reap(child, ROOT, 0);
    }
    let form = world.story.form();
    for line in ["clone NEWUTS -> #2 uts:n2,", "clone NEWUTS -> #3 uts:n3,", "clone NEWNET -> #4 net:n2,"] {
        assert!(form.contains(line), "{line} is not in\n{form}");
    }
    assert!(form.contains("probe packet: NETFILTER_PKT in #4 of net:n2\n"), "{form}");
}

#[test]
fn a_joined_namespace_has_the_label_of_its_maker() {
    let mut world = World::boot();
    let owner = world.spawn(ROOT, Call::Clone, NamespaceType::Net.flag());
    let guest = world.spawn(ROOT, Call::Fork, 0);
    world.setns(guest, owner, NamespaceType::Net);
    world.probe(guest, ProbeKind::Packet);
    world.reap(guest, ROOT, 0);
    world.reap(owner, ROOT, 0);
    let expected = "\
lineage of test (form 1)

#1 boot: cgroup:n1 ipc:n1 mnt:n1 net:n1 pid:n1 time:n1 user:n1 uts:n1
  clone NEWNET -> #2 net:n2, released by exit
  fork
    setns NEWNET -> #3 net:n2, released by exit
    probe packet: NETFILTER_PKT in #3 of net:n2
";
    assert_eq!(world.story.form(), expected);
    // The guest's words may all come before the owner's first.
    assert_eq!(world.story.play(&mut |choices| choices.saturating_sub(2)).to_string(), expected);
}
