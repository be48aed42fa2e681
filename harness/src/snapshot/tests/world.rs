// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small kernel and its workload, for tests: tasks, namespaces with inums that are reused at once, auditnsids.
//!
//! It runs in one order and keeps the items of each actor; [`Story::play`] hands them to a lineage in any
//! order that the sink is promised ([`JoinedSink`]).

use std::collections::{BTreeMap, BTreeSet};

use nstrail_audit::{Kind, NsidOp, Op};
use nstrail_wire::fact::{Act, ActorId, Call, Fact, Outcome, ProbeKind};
use nstrail_wire::namespace::{CLONE_NEW_ALL, NamespaceEntry, NamespaceSet, NamespaceType};

use crate::check::joined::{Attribution, Joined, JoinedSink, ReleaseBy};
use crate::snapshot::{Canonical, Lineage, Title};

/// An item as the sink gets it.
#[derive(Clone, Debug)]
pub struct Item {
    pub fact: Fact,
    /// In the order in which all of it happened.
    pub position: u64,
    pub definition: Option<NsidOp>,
    pub attribution: Option<Attribution>,
    /// Items that must have come before: an actor, and how many of its items.
    pub after: Vec<(ActorId, usize)>,
}

/// All that happened.
#[derive(Clone, Debug, Default)]
pub struct Story {
    pub actors: BTreeMap<ActorId, Vec<Item>>,
    pub releases: Vec<(u64, ReleaseBy)>,
    pub titles: Vec<Title>,
}

impl Story {
    /// The canonical form if the items come in the order that `choose` picks: it is given the number of
    /// those that may come next.
    pub fn play(&self, choose: &mut dyn FnMut(usize) -> usize) -> Canonical {
        self.lineage(choose).finish()
    }

    pub fn lineage(&self, choose: &mut dyn FnMut(usize) -> usize) -> Lineage {
        let mut lineage = Lineage::new("test", self.titles.clone());
        let mut given: BTreeMap<ActorId, usize> = BTreeMap::new();
        let mut releases = self.releases.clone();
        loop {
            let ready: Vec<ActorId> = self
                .actors
                .iter()
                .filter(|(actor, items)| {
                    items.get(given.get(actor).copied().unwrap_or_default()).is_some_and(|item| {
                        item.after.iter().all(|(actor, count)| given.get(actor).is_some_and(|n| n >= count))
                    })
                })
                .map(|(actor, _)| *actor)
                .collect();
            let choices = ready.len() + usize::from(!releases.is_empty());
            if choices == 0 {
                break;
            }
            match ready.get(choose(choices)) {
                Some(actor) => {
                    let next = given.entry(*actor).or_default();
                    let Item { fact, position, definition, attribution, .. } = &self.actors[actor][*next];
                    *next += 1;
                    lineage.joined(&Joined {
                        fact,
                        position: *position,
                        definition: definition.as_ref(),
                        attribution: *attribution,
                    });
                }
                None => {
                    let (id, how) = releases.remove(choose(releases.len()));
                    lineage.released(id, how);
                }
            }
        }
        for (actor, items) in &self.actors {
            assert_eq!(given.get(actor).copied().unwrap_or_default(), items.len(), "{actor:?} is stuck");
        }
        lineage
    }

    /// In the order of actors, each as soon as it may.
    pub fn form(&self) -> String {
        self.play(&mut |_| 0).to_string()
    }
}

#[derive(Clone, Debug)]
struct Task {
    tid: u32,
    /// Namespaces by number; see [`World::namespaces`].
    entries: [usize; 10],
    id: u64,
}

/// The kernel.
#[derive(Debug)]
pub struct World {
    pub story: Story,
    tasks: BTreeMap<ActorId, Task>,
    /// Inum, and entries of live tasks that are this namespace.
    namespaces: Vec<(u32, usize)>,
    used: BTreeSet<u32>,
    members: BTreeMap<u64, usize>,
    next_id: u64,
    next_actor: u64,
    pub calls: u64,
}

pub const ROOT: ActorId = ActorId(1);
const FIRST_INUM: u32 = 0xF000_0000;

impl World {
    pub fn boot() -> Self {
        let mut world = Self {
            story: Story::default(),
            tasks: BTreeMap::new(),
            namespaces: Vec::new(),
            used: BTreeSet::new(),
            members: BTreeMap::from([(1, 1)]),
            next_id: 2,
            next_actor: 2,
            calls: 0,
        };
        let mut entries = [0; 10];
        for entry in NamespaceEntry::ALL {
            entries[entry as usize] = match entry {
                NamespaceEntry::PidForChildren => entries[NamespaceEntry::Pid as usize],
                NamespaceEntry::TimeForChildren => entries[NamespaceEntry::Time as usize],
                _ => world.namespace(),
            };
        }
        world.hold(&entries);
        world.tasks.insert(ROOT, Task { tid: 1, entries, id: 1 });
        let set = world.set(ROOT);
        let act = Act::Start { parent: None, call: Call::Boot, flags: 0, parent_set: set, set };
        let definition =
            NsidOp { op: Op::Init, pid: 0, tid: 0, opid: 0, flags: 0, old: 0, id: 1, set, ns_ids: None };
        world.tell(ROOT, act, Some(definition), None, Vec::new());
        world
    }

    /// A namespace with the lowest inum that is free.
    fn namespace(&mut self) -> usize {
        let inum = (FIRST_INUM..).find(|inum| !self.used.contains(inum)).unwrap();
        self.used.insert(inum);
        self.namespaces.push((inum, 0));
        self.namespaces.len() - 1
    }

    fn hold(&mut self, entries: &[usize; 10]) {
        for entry in entries {
            self.namespaces[*entry].1 += 1;
        }
    }

    fn drop(&mut self, entries: &[usize; 10]) {
        for entry in entries {
            let (inum, holders) = &mut self.namespaces[*entry];
            *holders -= 1;
            if *holders == 0 {
                self.used.remove(inum);
            }
        }
    }

    fn inums(&self, entries: &[usize; 10]) -> NamespaceSet {
        NamespaceSet(entries.map(|entry| self.namespaces[entry].0))
    }

    pub fn set(&self, actor: ActorId) -> NamespaceSet {
        self.inums(&self.tasks[&actor].entries)
    }

    pub fn living(&self) -> Vec<ActorId> {
        self.tasks.keys().copied().collect()
    }

    fn tell(
        &mut self,
        actor: ActorId,
        act: Act,
        definition: Option<NsidOp>,
        attribution: Option<Attribution>,
        after: Vec<(ActorId, usize)>,
    ) {
        let task = &self.tasks[&actor];
        let position = self.story.actors.values().map(Vec::len).sum::<usize>() as u64;
        let items = self.story.actors.entry(actor).or_default();
        let fact = Fact { actor, number: items.len() as u32, tid: task.tid, pid: task.tid, step: 0, act };
        items.push(Item { fact, position, definition, attribution, after });
    }

    /// New entries for a call with these flags by a task with `old` ones.
    fn made(&mut self, old: [usize; 10], flags: u64, birth: bool) -> [usize; 10] {
        let mut entries = old;
        for kind in NamespaceType::ALL.into_iter().filter(|kind| flags & kind.flag() != 0) {
            let new = self.namespace();
            match kind {
                NamespaceType::Pid => entries[NamespaceEntry::PidForChildren as usize] = new,
                NamespaceType::Time => entries[NamespaceEntry::TimeForChildren as usize] = new,
                other => entries[other.entry() as usize] = new,
            }
        }
        if birth {
            entries[NamespaceEntry::Pid as usize] = entries[NamespaceEntry::PidForChildren as usize];
            entries[NamespaceEntry::Time as usize] = entries[NamespaceEntry::TimeForChildren as usize];
        }
        entries
    }

    fn join_set(
        &mut self,
        op: Op,
        tid: u32,
        opid: u32,
        flags: u64,
        old: u64,
        entries: &[usize; 10],
    ) -> NsidOp {
        let id = self.next_id;
        self.next_id += 1;
        self.members.insert(id, 1);
        let set = self.inums(entries);
        NsidOp { op, pid: tid, tid, opid, flags: flags & CLONE_NEW_ALL, old, id, set, ns_ids: None }
    }

    fn leave_set(&mut self, id: u64, how: ReleaseBy) {
        let members = self.members.get_mut(&id).unwrap();
        *members -= 1;
        if *members == 0 {
            self.members.remove(&id);
            self.story.releases.push((id, how));
        }
    }

    pub fn spawn(&mut self, maker: ActorId, call: Call, flags: u64) -> ActorId {
        let parent = self.tasks[&maker].clone();
        let child = ActorId(self.next_actor);
        self.next_actor += 1;
        let entries = self.made(parent.entries, flags, true);
        // PIDs are reused too.
        let tid = 100 + (child.0 % 50) as u32;
        self.hold(&entries);
        let parent_set = self.inums(&parent.entries);
        let moved = flags & CLONE_NEW_ALL != 0 || entries != parent.entries;
        let definition = moved.then(|| self.join_set(Op::Clone, parent.tid, tid, flags, parent.id, &entries));
        let id = definition.as_ref().map_or(parent.id, |definition| definition.id);
        if !moved {
            *self.members.get_mut(&id).unwrap() += 1;
        }
        let after = vec![(maker, self.story.actors[&maker].len())];
        self.tasks.insert(child, Task { tid, entries, id });
        let set = self.inums(&entries);
        let act = Act::Start { parent: Some(maker), call, flags, parent_set, set };
        self.tell(child, act, definition, None, after);
        let act = Act::Operation {
            call,
            flags,
            passed: flags,
            outcome: Outcome::Child { actor: child, tid },
            before: parent_set,
            after: parent_set,
        };
        self.tell(maker, act, None, None, Vec::new());
        child
    }

    fn enter(&mut self, actor: ActorId, call: Call, flags: u64, entries: [usize; 10]) {
        let task = self.tasks[&actor].clone();
        let op = if call == Call::Setns { Op::Setns } else { Op::Unshare };
        let definition = self.join_set(op, task.tid, task.tid, flags, task.id, &entries);
        self.hold(&entries);
        self.drop(&task.entries);
        let (before, after) = (self.inums(&task.entries), self.inums(&entries));
        let entered = self.tasks.get_mut(&actor).unwrap();
        entered.entries = entries;
        entered.id = definition.id;
        let act = Act::Operation { call, flags, passed: flags, outcome: Outcome::Done, before, after };
        self.tell(actor, act, Some(definition), None, Vec::new());
        self.leave_set(task.id, ReleaseBy::Move);
    }

    pub fn unshare(&mut self, actor: ActorId, flags: u64) {
        let entries = self.made(self.tasks[&actor].entries, flags, false);
        self.enter(actor, Call::Unshare, flags, entries);
    }

    /// Joins one namespace of another task.
    pub fn setns(&mut self, actor: ActorId, target: ActorId, kind: NamespaceType) {
        let mut entries = self.tasks[&actor].entries;
        let theirs = self.tasks[&target].entries;
        match kind {
            NamespaceType::Pid => {
                entries[NamespaceEntry::PidForChildren as usize] = theirs[NamespaceEntry::Pid as usize];
            }
            NamespaceType::Time => {
                entries[NamespaceEntry::Time as usize] = theirs[NamespaceEntry::Time as usize];
                entries[NamespaceEntry::TimeForChildren as usize] = theirs[NamespaceEntry::Time as usize];
            }
            other => entries[other.entry() as usize] = theirs[other.entry() as usize],
        }
        self.enter(actor, Call::Setns, kind.flag(), entries);
    }

    pub fn fail(&mut self, actor: ActorId, flags: u64, errno: i32) {
        let set = self.set(actor);
        let outcome = Outcome::Failed { errno };
        let act =
            Act::Operation { call: Call::Unshare, flags, passed: flags, outcome, before: set, after: set };
        self.tell(actor, act, None, None, Vec::new());
    }

    pub fn probe(&mut self, actor: ActorId, kind: ProbeKind) {
        self.calls += 1;
        let id = self.tasks[&actor].id;
        let set = self.set(actor);
        let attribution = Attribution {
            kind: if kind.is_packet() { Kind(1324) } else { Kind(1005) },
            auditnsid: (id != 1).then_some(id),
            netns: (kind.is_packet()).then(|| set.get(NamespaceEntry::Net)),
        };
        let act = Act::Probe { kind, token: self.calls, set };
        self.tell(actor, act, None, Some(attribution), Vec::new());
    }

    /// Ends a task, which `by` reaps.
    pub fn reap(&mut self, actor: ActorId, by: ActorId, status: i32) {
        if libc::WIFEXITED(status) {
            self.tell(actor, Act::End, None, None, Vec::new());
        }
        let task = self.tasks.remove(&actor).unwrap();
        self.drop(&task.entries);
        self.leave_set(task.id, ReleaseBy::Exit);
        let after = vec![(actor, self.story.actors[&actor].len())];
        self.tell(by, Act::Reaped { child: actor, tid: task.tid, status }, None, None, after);
    }
}
