// SPDX-License-Identifier: MIT OR Apache-2.0
//! No blindness: whatever a reader ought to see, a change of it changes the text.

use nstrail_audit::{Kind, Op};
use nstrail_wire::fact::{Act, ActorId, AuditFact, AuditStatus, Call, Fact, Outcome, ProbeKind, When};
use nstrail_wire::namespace::{NamespaceEntry, NamespaceType};

use super::world::{Item, ROOT, Story, World};
use crate::check::joined::ReleaseBy;
use crate::snapshot::Title;

const UTS: u64 = NamespaceType::Uts.flag();

/// Items of the container in [`story`]: its start, a probe, a failure, a move, a packet, the making of a child, the
/// child's reaping, its end.
const CONTAINER: ActorId = ActorId(2);
const CHILD: ActorId = ActorId(3);
const PROBE: usize = 1;
const FAILURE: usize = 2;
const MOVE: usize = 3;
const PACKET: usize = 4;
const BIRTH: usize = 5;
const REAP: usize = 6;

fn story() -> Story {
    let mut world = World::boot();
    let container = world.spawn(ROOT, Call::Clone, UTS | u64::from(libc::SIGCHLD.unsigned_abs()));
    world.probe(container, ProbeKind::UserMessage);
    world.fail(container, NamespaceType::User.flag(), libc::EPERM);
    world.unshare(container, NamespaceType::Net.flag());
    world.probe(container, ProbeKind::Packet);
    let child = world.spawn(container, Call::Clone3, NamespaceType::Pid.flag());
    world.reap(child, container, 0);
    world.reap(container, ROOT, 0);
    world.story.titles = vec![Title { step: 0, text: "one".into() }, Title { step: 1, text: "two".into() }];
    world.story
}

fn item(story: &mut Story, actor: ActorId, index: usize) -> &mut Item {
    &mut story.actors.get_mut(&actor).unwrap()[index]
}

type Change = fn(&mut Story);

/// Kinds of change that must show.
const SHOWN: [(&str, Change); 34] = [
    ("the call that makes a task", |story| {
        if let Act::Start { call, .. } = &mut item(story, CHILD, 0).fact.act {
            *call = Call::Fork;
        }
    }),
    ("a namespace flag", |story| {
        if let Act::Start { flags, .. } = &mut item(story, CONTAINER, 0).fact.act {
            *flags |= NamespaceType::Ipc.flag();
        }
    }),
    ("another flag", |story| {
        if let Act::Start { flags, .. } = &mut item(story, CONTAINER, 0).fact.act {
            *flags |= 0x100;
        }
    }),
    ("a flag without a name", |story| {
        if let Act::Start { flags, .. } = &mut item(story, CONTAINER, 0).fact.act {
            *flags |= 1 << 50;
        }
    }),
    ("what the maker says of the call", |story| {
        if let Act::Operation { flags, .. } = &mut item(story, CONTAINER, BIRTH).fact.act {
            *flags = 0;
        }
    }),
    ("a namespace that stays", |story| {
        let before = item(story, ROOT, 0).fact.act.clone();
        if let (Act::Start { set: old, .. }, Act::Start { set, .. }) =
            (before, &mut item(story, CONTAINER, 0).fact.act)
        {
            *set = old;
        }
    }),
    ("a namespace that changes unasked", |story| {
        if let Act::Start { set, .. } = &mut item(story, CONTAINER, 0).fact.act {
            set.set(NamespaceEntry::Ipc, 7);
        }
    }),
    ("the maker's set", |story| {
        if let Act::Start { parent_set, .. } = &mut item(story, CONTAINER, 0).fact.act {
            parent_set.set(NamespaceEntry::Ipc, 7);
        }
    }),
    ("the set before a call", |story| {
        if let Act::Operation { before, .. } = &mut item(story, CONTAINER, MOVE).fact.act {
            before.set(NamespaceEntry::Mnt, 7);
        }
    }),
    ("the set after a failure", |story| {
        if let Act::Operation { after, .. } = &mut item(story, CONTAINER, FAILURE).fact.act {
            after.set(NamespaceEntry::User, 7);
        }
    }),
    ("an errno", |story| {
        if let Act::Operation { outcome, .. } = &mut item(story, CONTAINER, FAILURE).fact.act {
            *outcome = Outcome::Failed { errno: libc::EINVAL };
        }
    }),
    ("a failure that succeeds", |story| {
        if let Act::Operation { outcome, .. } = &mut item(story, CONTAINER, FAILURE).fact.act {
            *outcome = Outcome::Done;
        }
    }),
    ("a definition for a failure", |story| {
        let definition = item(story, CONTAINER, MOVE).definition.clone();
        item(story, CONTAINER, FAILURE).definition = definition;
    }),
    ("a child's missing definition", |story| item(story, CHILD, 0).definition = None),
    ("a move's missing definition", |story| item(story, CONTAINER, MOVE).definition = None),
    ("the first set's missing definition", |story| item(story, ROOT, 0).definition = None),
    ("a definition's op", |story| item(story, CHILD, 0).definition.as_mut().unwrap().op = Op::Unshare),
    ("a definition's flags", |story| item(story, CHILD, 0).definition.as_mut().unwrap().flags = UTS),
    ("a definition's old set", |story| item(story, CHILD, 0).definition.as_mut().unwrap().old = 2),
    ("a definition's task", |story| item(story, CHILD, 0).definition.as_mut().unwrap().opid += 1),
    ("a definition's list", |story| {
        item(story, CHILD, 0).definition.as_mut().unwrap().set.set(NamespaceEntry::Mnt, 7);
    }),
    ("a probe's kind", |story| {
        if let Act::Probe { kind, .. } = &mut item(story, CONTAINER, PROBE).fact.act {
            *kind = ProbeKind::Syscall;
        }
    }),
    ("a probe's record type", |story| {
        item(story, CONTAINER, PROBE).attribution.as_mut().unwrap().kind = Kind(1300);
    }),
    ("a probe's missing record", |story| item(story, CONTAINER, PROBE).attribution = None),
    ("a probe's missing attribution", |story| {
        item(story, CONTAINER, PROBE).attribution.as_mut().unwrap().auditnsid = None;
    }),
    ("a probe's attribution to another set", |story| {
        item(story, CONTAINER, PROBE).attribution.as_mut().unwrap().auditnsid = Some(1);
    }),
    ("a packet's namespace", |story| {
        let Act::Start { set, .. } = item(story, ROOT, 0).fact.act else { unreachable!() };
        let netns = set.get(NamespaceEntry::Net);
        item(story, CONTAINER, PACKET).attribution.as_mut().unwrap().netns = Some(netns);
    }),
    ("a wait status", |story| {
        if let Act::Reaped { status, .. } = &mut item(story, CONTAINER, REAP).fact.act {
            *status = 3 << 8;
        }
    }),
    ("a missing reaping", |story| {
        story.actors.get_mut(&CONTAINER).unwrap().remove(REAP);
    }),
    ("missing last words", |story| {
        story.actors.get_mut(&CONTAINER).unwrap().pop();
    }),
    ("a missing release", |story| {
        story.releases.pop();
    }),
    ("the way of a release", |story| story.releases[0].1 = ReleaseBy::Exit),
    ("the order of what a task does", |story| {
        story.actors.get_mut(&CONTAINER).unwrap().swap(PROBE, FAILURE);
    }),
    ("the step", |story| item(story, CONTAINER, PACKET).fact.step = 1),
];

/// The form, with nothing waiting for items that a change took away.
fn form(mut story: Story) -> String {
    let lengths: Vec<(ActorId, usize)> =
        story.actors.iter().map(|(actor, items)| (*actor, items.len())).collect();
    for after in story.actors.values_mut().flatten().flat_map(|item| &mut item.after) {
        let length = lengths.iter().find(|(actor, _)| *actor == after.0).unwrap().1;
        after.1 = after.1.min(length);
    }
    story.form()
}

#[test]
fn each_kind_of_change_changes_the_text() {
    for (what, change) in SHOWN {
        let mut story = story();
        let unchanged = form(story.clone());
        change(&mut story);
        assert_ne!(form(story), unchanged, "{what} does not show");
    }
}

#[test]
fn the_unchanged_text_reads_so() {
    let expected = "\
lineage of test (form 1)

#1 boot: cgroup:n1 ipc:n1 mnt:n1 net:n1 pid:n1 time:n1 user:n1 uts:n1
  clone NEWUTS -> #2 uts:n2, released by move

    step 0: one
      probe user message: USER in #2
      unshare NEWUSER = EPERM
      unshare NEWNET -> #3 net:n2, released by exit
      probe packet: NETFILTER_PKT in #3 of net:n2
      clone3 NEWPID -> #4 pid:n2, released by exit
";
    assert_eq!(story().form(), expected);
}

#[test]
fn what_the_checker_looks_at_does_not_show() {
    let form = story().form();
    let mut story = story();
    let items = story.actors.get_mut(&ROOT).unwrap();
    let status = AuditStatus { lost: 3, ..AuditStatus::default() };
    for act in [Act::Fence { number: 4 }, Act::Audit(AuditFact::Status { when: When::After, status })] {
        let fact = Fact { actor: ROOT, number: 99, tid: 1, pid: 1, step: 0, act };
        items.push(Item { fact, position: 1000, definition: None, attribution: None, after: Vec::new() });
    }
    if let Act::Probe { token, .. } = &mut item(&mut story, CONTAINER, PROBE).fact.act {
        *token = 1000;
    }
    assert_eq!(story.form(), form);
    let fact = Fact {
        actor: ROOT,
        number: 100,
        tid: 1,
        pid: 1,
        step: 0,
        act: Act::Audit(AuditFact::Enabled(false)),
    };
    let last = Item { fact, position: 1000, definition: None, attribution: None, after: Vec::new() };
    story.actors.get_mut(&ROOT).unwrap().push(last);
    assert!(story.form().contains("audit off\n"));
}
