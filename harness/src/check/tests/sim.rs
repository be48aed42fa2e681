// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tiny kernel and its workload: tasks, namespaces, auditnsids, and the two streams that they leave.
//!
//! It is written from CONTRACT.md and shares nothing with the checker but the record format. What it leaves is right; the tests
//! then plant faults in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::CheckOptions;
use nstrail_audit::{NsidOp, Op};
use nstrail_wire::{
    fact::{Act, ActorId, AuditFact, AuditStatus, Call, Fact, Outcome, ProbeKind, When},
    namespace::{
        CLONE_NEW_ALL, CLONE_THREAD, CLONE_VFORK, CLONE_VM, NamespaceEntry, NamespaceIds, NamespaceSet,
        NamespaceType,
    },
    perf::{PerfEvent, SeenSet},
};

/// One record of the log, in pieces, so that faults can be planted.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub kind: u16,
    pub serial: u32,
    pub body: String,
}

impl Line {
    pub fn bytes(&self) -> Vec<u8> {
        format!("audit(17.{:03}:{}): {}", self.serial % 7, self.serial, self.body).into_bytes()
    }
}

#[derive(Clone, Debug)]
pub struct Task {
    pub actor: ActorId,
    pub tid: u32,
    pub pid: u32,
    pub id: u64,
    pub set: NamespaceSet,
    pub alive: bool,
    pub reaped: bool,
    pub parent: usize,
    pub thread: bool,
    /// The child that a vfork waits for.
    pub waits_for: Option<usize>,
    /// The pid namespace that it is the init of.
    pub init_of: Option<u32>,
    number: u32,
    /// End of a clone's event, and the word about it: they come when the task goes on.
    tail: Option<(u32, Option<u64>)>,
    pub word: Option<Act>,
}

#[derive(Debug)]
pub struct Sim {
    pub log: Vec<Line>,
    pub ledger: Vec<Fact>,
    pub perf: Vec<PerfEvent>,
    pub tasks: Vec<Task>,
    pub audit: bool,
    /// The ids of the namespaces that have these inode numbers now; `None` for a kernel that has none.
    ids: Option<BTreeMap<u32, u64>>,
    next_id: u64,
    serial: u32,
    highest: u64,
    members: BTreeMap<u64, u32>,
    born: BTreeSet<u32>,
    dead_pid: BTreeSet<u32>,
    next_tid: u32,
    next_actor: u64,
    next_token: u64,
    fences: u32,
    /// A thread ended without a word: nobody waits for it, so nobody can tell that it is over.
    pub mute_thread: bool,
}

const BOOT_SET: [u32; 10] = [35, 39, 41, 40, 36, 36, 34, 34, 37, 38];
/// Small, so that PIDs come back.
const PID_MAX: u32 = 60;

impl Sim {
    /// A kernel before 7.2.
    pub fn new() -> Self {
        Self::boot(None)
    }

    /// A kernel whose namespaces have ids.
    pub fn with_ids() -> Self {
        let ids = BOOT_SET.into_iter().map(|inum| (inum, u64::from(inum) - 33)).collect();
        Self::boot(Some(ids))
    }

    /// What a checker knows of this kernel.
    pub fn options(&self) -> CheckOptions {
        let minor = if self.ids.is_some() { (7, 2) } else { (6, 12) };
        CheckOptions::for_version(minor.0, minor.1).with_perf()
    }

    /// The ids of a set; those of a census, if that is a census.
    pub fn ids(&self, set: NamespaceSet) -> Option<NamespaceIds> {
        let ids = self.ids.as_ref()?;
        Some(NamespaceIds(set.0.map(|inum| if inum == 0 { 0 } else { ids[&inum] })))
    }

    fn boot(ids: Option<BTreeMap<u32, u64>>) -> Self {
        let set = NamespaceSet(BOOT_SET);
        let task = Task {
            actor: ActorId(1),
            tid: 1,
            pid: 1,
            id: 1,
            set,
            alive: true,
            reaped: false,
            parent: 0,
            thread: false,
            waits_for: None,
            init_of: None,
            number: 0,
            tail: None,
            word: None,
        };
        let mut sim = Self {
            log: Vec::new(),
            ledger: Vec::new(),
            perf: vec![PerfEvent::Started { tid: 1, set: SeenSet::of(&set) }],
            tasks: vec![task],
            audit: true,
            ids,
            next_id: 100,
            serial: 0,
            highest: 1,
            members: [(1, 1)].into(),
            born: [36].into(),
            dead_pid: BTreeSet::new(),
            next_tid: 1,
            next_actor: 1,
            next_token: 0,
            fences: 0,
            mute_thread: false,
        };
        let ns_ids = sim.ids(set);
        let op = NsidOp { op: Op::Init, pid: 0, tid: 0, opid: 0, flags: 0, old: 0, id: 1, set, ns_ids };
        sim.event(1340, op.to_string());
        sim.event(2000, "state=initialized audit_enabled=1 res=1".to_owned());
        let parent_set = NamespaceSet::default();
        sim.tell(0, Act::Start { parent: None, call: Call::Boot, flags: 0, parent_set, set });
        sim.state(When::Before);
        sim.fence();
        sim
    }

    fn state(&mut self, when: When) {
        let status = AuditStatus { enabled: 1, ..AuditStatus::default() };
        self.tell(0, Act::Audit(AuditFact::Status { when, status }));
        self.tell(0, Act::Audit(AuditFact::Rules { when, exclude: 0, task_never: 0, other: 3 }));
    }

    pub fn tell(&mut self, task: usize, act: Act) {
        let task = &mut self.tasks[task];
        let fact =
            Fact { actor: task.actor, number: task.number, tid: task.tid, pid: task.pid, step: 0, act };
        task.number += 1;
        self.ledger.push(fact);
    }

    pub fn serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    pub fn push(&mut self, kind: u16, serial: u32, body: String) {
        if self.audit {
            self.log.push(Line { kind, serial, body });
        }
    }

    fn event(&mut self, kind: u16, body: String) {
        let serial = self.serial();
        self.push(kind, serial, body);
    }

    /// What a task reads in /proc.
    pub fn census(&self, task: usize) -> NamespaceSet {
        let mut set = self.tasks[task].set;
        if !self.born.contains(&set.get(NamespaceEntry::PidForChildren)) {
            set.set(NamespaceEntry::PidForChildren, 0);
        }
        set
    }

    fn make(&mut self, set: &mut NamespaceSet, flags: u64, task: usize, own: bool) {
        let fresh = |sim: &mut Self, set: &mut NamespaceSet, entry| {
            // The number must stay taken while the next one is drawn.
            let before = sim.tasks[task].set;
            let mut with = before;
            with.0 = set.0;
            let inum = {
                let held = |inum: &u32| {
                    with.0.contains(inum)
                        || sim.dead_pid.contains(inum)
                        || sim.tasks.iter().any(|task| task.alive && task.set.0.contains(inum))
                };
                (1000..).find(|inum| !held(inum)).unwrap()
            };
            sim.born.remove(&inum);
            sim.next_id += 1;
            if let Some(ids) = &mut sim.ids {
                ids.insert(inum, sim.next_id);
            }
            set.set(entry, inum);
            inum
        };
        for kind in NamespaceType::ALL {
            if flags & kind.flag() == 0 {
                continue;
            }
            match kind {
                NamespaceType::Pid => {
                    let inum = fresh(self, set, NamespaceEntry::PidForChildren);
                    if own {
                        set.set(NamespaceEntry::Pid, inum);
                    }
                }
                NamespaceType::Time => {
                    let inum = fresh(self, set, NamespaceEntry::TimeForChildren);
                    if own {
                        set.set(NamespaceEntry::Time, inum);
                    }
                }
                _ => {
                    fresh(self, set, kind.entry());
                }
            }
        }
    }

    pub fn may_clone(&self, task: usize) -> bool {
        let pending = self.tasks[task].set.get(NamespaceEntry::PidForChildren);
        !self.dead_pid.contains(&pending)
    }

    /// Tasks that can do something.
    pub fn free(&self) -> Vec<usize> {
        (0..self.tasks.len()).filter(|task| self.is_free(*task)).collect()
    }

    fn is_free(&self, task: usize) -> bool {
        self.tasks[task].alive && self.tasks[task].waits_for.is_none()
    }

    /// A task goes on: its clone has returned.
    pub fn go_on(&mut self, task: usize) {
        if let Some((serial, id)) = self.tasks[task].tail.take() {
            let pid = self.tasks[task].pid;
            self.syscall(serial, pid, id, true, "a0=0 a1=0");
        }
        if let Some(act) = self.tasks[task].word.take() {
            self.tell(task, act);
        }
    }

    fn syscall(&mut self, serial: u32, pid: u32, id: Option<u64>, success: bool, arguments: &str) {
        let success = if success { "yes" } else { "no" };
        self.push(1300, serial, format!("arch=c000003e syscall=56 success={success} exit=7 {arguments} items=0 ppid=1 pid={pid} auid=1 comm=\"x\""));
        self.push(1327, serial, "proctitle=78".to_owned());
        self.attribute(serial, id);
        self.push(1320, serial, String::new());
    }

    fn attribute(&mut self, serial: u32, id: Option<u64>) {
        if let Some(id) = id {
            self.push(1341, serial, format!("auditnsid={id:#x}"));
        }
    }

    fn id_of(&self, task: usize) -> Option<u64> {
        Some(self.tasks[task].id).filter(|id| *id != 1)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a record")]
    fn define(&mut self, op: Op, serial: u32, caller: usize, task: usize, flags: u64, old: u64, id: u64) {
        let (pid, tid) = (self.tasks[caller].pid, self.tasks[caller].tid);
        let (opid, set) = (self.tasks[task].tid, self.tasks[task].set);
        let op = NsidOp { op, pid, tid, opid, flags, old, id, set, ns_ids: self.ids(set) };
        self.push(1340, serial, op.to_string());
    }

    fn leave(&mut self, task: usize, id: u64, serial: Option<u32>) {
        let members = self.members.get_mut(&id).unwrap();
        *members -= 1;
        if *members == 0 {
            self.members.remove(&id);
            let (pid, tid) = (self.tasks[task].pid, self.tasks[task].tid);
            let serial = serial.unwrap_or_else(|| self.serial());
            self.push(1340, serial, format!("op=release pid={pid} tid={tid} auditnsid={id:#x} res=1"));
        }
    }

    fn tid(&mut self) -> u32 {
        loop {
            self.next_tid = if self.next_tid >= PID_MAX { 2 } else { self.next_tid + 1 };
            let tid = self.next_tid;
            if !self.tasks.iter().any(|task| task.tid == tid && !task.reaped) {
                return tid;
            }
        }
    }

    /// `flags` are those of the call; gives the child.
    pub fn clone(&mut self, maker: usize, call: Call, flags: u64) -> usize {
        self.go_on(maker);
        let before = self.census(maker);
        let old = self.tasks[maker].id;
        let mut set = self.tasks[maker].set;
        let types = flags & CLONE_NEW_ALL;
        let pending_pid = set.get(NamespaceEntry::PidForChildren) != set.get(NamespaceEntry::Pid);
        let pending_time = set.get(NamespaceEntry::TimeForChildren) != set.get(NamespaceEntry::Time)
            && flags & CLONE_VM == 0;
        set.set(NamespaceEntry::Pid, set.get(NamespaceEntry::PidForChildren));
        if pending_time {
            set.set(NamespaceEntry::Time, set.get(NamespaceEntry::TimeForChildren));
        }
        self.make(&mut set, types, maker, true);
        let moved = types != 0 || pending_pid || pending_time;
        let tid = self.tid();
        self.next_actor += 1;
        let thread = flags & CLONE_THREAD != 0;
        let pid_namespace = set.get(NamespaceEntry::Pid);
        let init_of = (!self.born.contains(&pid_namespace)).then_some(pid_namespace);
        self.born.insert(pid_namespace);
        let child = Task {
            actor: ActorId(self.next_actor),
            tid,
            pid: if thread { self.tasks[maker].pid } else { tid },
            id: old,
            set,
            alive: true,
            reaped: false,
            parent: maker,
            thread,
            waits_for: None,
            init_of,
            number: 0,
            tail: None,
            word: None,
        };
        self.tasks.push(child);
        let child = self.tasks.len() - 1;
        self.perf.push(PerfEvent::Fork { tid, parent_tid: self.tasks[maker].tid });
        self.perf.push(PerfEvent::Namespaces { tid, set: SeenSet::of(&set) });
        let serial = self.serial();
        if moved {
            self.highest += 1;
            self.tasks[child].id = self.highest;
            self.members.insert(self.highest, 1);
            let id = self.highest;
            self.define(Op::Clone, serial, maker, child, types, old, id);
            self.tasks[maker].tail = Some((serial, self.id_of(maker)));
        } else {
            *self.members.get_mut(&old).unwrap() += 1;
        }
        let actor = self.tasks[child].actor;
        let parent = Some(self.tasks[maker].actor);
        let set = self.census(child);
        let after = self.census(maker);
        let outcome = Outcome::Child { actor, tid };
        self.tasks[maker].word = Some(Act::Operation { call, flags, passed: flags, outcome, before, after });
        if flags & CLONE_VFORK != 0 {
            self.tasks[maker].waits_for = Some(child);
        }
        self.tell(child, Act::Start { parent, call, flags, parent_set: before, set });
        child
    }

    fn moved(&mut self, task: usize, op: Op, call: Call, flags: u64, passed: u64, set: NamespaceSet) {
        let before = self.census(task);
        let old = self.tasks[task].id;
        self.highest += 1;
        let id = self.highest;
        self.members.insert(id, 1);
        let serial = self.serial();
        self.tasks[task].set = set;
        self.tasks[task].id = id;
        if op != Op::Exec {
            let tid = self.tasks[task].tid;
            self.perf.push(PerfEvent::Namespaces { tid, set: SeenSet::of(&set) });
        }
        let named = if op == Op::Exec { 0 } else { flags & CLONE_NEW_ALL };
        self.define(op, serial, task, task, named, old, id);
        self.leave(task, old, Some(serial));
        let pid = self.tasks[task].pid;
        self.syscall(serial, pid, Some(id), true, "a0=0 a1=0");
        let after = self.census(task);
        self.tell(task, Act::Operation { call, flags, passed, outcome: Outcome::Done, before, after });
    }

    pub fn unshare(&mut self, task: usize, types: u64) {
        self.go_on(task);
        let mut set = self.tasks[task].set;
        self.make(&mut set, types, task, false);
        self.moved(task, Op::Unshare, Call::Unshare, types, types, set);
    }

    pub fn setns(&mut self, task: usize, target: usize, kind: NamespaceType) {
        self.go_on(task);
        let mut set = self.tasks[task].set;
        let entry = match kind {
            NamespaceType::Pid => NamespaceEntry::PidForChildren,
            NamespaceType::Time => NamespaceEntry::TimeForChildren,
            other => other.entry(),
        };
        let joined = self.tasks[target].set.get(kind.entry());
        set.set(entry, joined);
        if kind == NamespaceType::Time {
            set.set(NamespaceEntry::Time, joined);
        }
        self.moved(task, Op::Setns, Call::Setns, kind.flag(), 0, set);
    }

    pub fn exec(&mut self, task: usize) {
        self.go_on(task);
        self.end_vfork(task);
        let mut set = self.tasks[task].set;
        let pending = set.get(NamespaceEntry::TimeForChildren);
        if set.get(NamespaceEntry::Time) == pending {
            let set = self.census(task);
            let outcome = Outcome::Done;
            self.tell(
                task,
                Act::Operation { call: Call::Exec, flags: 0, passed: 0, outcome, before: set, after: set },
            );
        } else {
            set.set(NamespaceEntry::Time, pending);
            self.moved(task, Op::Exec, Call::Exec, 0, 0, set);
        }
    }

    /// A thread executes something: its leader dies without a word, and the thread has the leader's number from then on.
    pub fn take_place(&mut self, thread: usize, leader: usize) {
        self.go_on(leader);
        self.die(leader);
        self.tasks[thread].tid = self.tasks[leader].tid;
        self.exec(thread);
    }

    pub fn fail(&mut self, task: usize, call: Call, flags: u64) {
        self.go_on(task);
        let serial = self.serial();
        let (pid, id) = (self.tasks[task].pid, self.id_of(task));
        self.syscall(serial, pid, id, false, "a0=0 a1=0");
        let set = self.census(task);
        let outcome = Outcome::Failed { errno: 22 };
        self.tell(task, Act::Operation { call, flags, passed: flags, outcome, before: set, after: set });
    }

    pub fn probe(&mut self, task: usize, kind: ProbeKind) -> u64 {
        self.go_on(task);
        self.next_token += 1;
        let token = self.next_token;
        let (pid, id, set) = (self.tasks[task].pid, self.id_of(task), self.census(task));
        let serial = self.serial();
        match kind {
            ProbeKind::UserMessage => {
                self.push(1005, serial, format!("pid={pid} uid=0 auid=1 ses=1 msg='nstrail-token={token}'"));
                self.attribute(serial, id);
            }
            ProbeKind::Syscall => {
                self.syscall(serial, pid, id, false, &format!("a0=6e737472 a1={token:x} a2=0 a3=0"));
            }
            ProbeKind::Ptrace => {
                self.syscall(serial, pid, id, true, &format!("a0=10 a1=5 a2=6e737472 a3={token:x}"));
            }
            ProbeKind::Seccomp => {
                let number = 1_000_000 + token;
                self.push(
                    1326,
                    serial,
                    format!("auid=1 pid={pid} comm=\"x\" sig=0 arch=c000003e syscall={number}"),
                );
                self.attribute(serial, id);
            }
            ProbeKind::Login => {
                self.push(
                    1006,
                    serial,
                    format!("pid={pid} uid=0 old-auid=4294967295 auid={token} ses=1 res=1"),
                );
                self.syscall(serial, pid, id, true, "a0=0 a1=0");
            }
            ProbeKind::ConfigChange => {
                for op in ["add_rule", "remove_rule"] {
                    let serial = self.serial();
                    self.push(
                        1305,
                        serial,
                        format!("auid=1 ses=1 op={op} key=\"nstrail-token-{token}\" list=4 res=1"),
                    );
                    self.syscall(serial, pid, id, true, "a0=0 a1=0");
                }
            }
            ProbeKind::Packet | ProbeKind::NftPacket => {
                let net = set.get(NamespaceEntry::Net);
                let [.., b, c, d] = token.to_be_bytes();
                for _ in 0..2 {
                    let serial = self.serial();
                    self.push(
                        1324,
                        serial,
                        format!("mark=0x0 saddr=127.0.0.1 daddr=127.{b}.{c}.{d} proto=17"),
                    );
                    self.push(1342, serial, format!("netns=net:{net}"));
                }
            }
            ProbeKind::UserLogin | ProbeKind::UserAnomaly => {
                let kind = if kind == ProbeKind::UserLogin { 1112 } else { 2100 };
                self.push(kind, serial, format!("pid={pid} uid=0 auid=1 ses=1 msg='nstrail-token={token}'"));
                self.attribute(serial, id);
            }
            ProbeKind::PacketOut => {
                let net = set.get(NamespaceEntry::Net);
                let [.., b, c, d] = token.to_be_bytes();
                self.push(1324, serial, format!("mark=0x0 saddr=127.0.0.1 daddr=127.{b}.{c}.{d} proto=17"));
                self.push(1342, serial, format!("netns=net:{net}"));
                self.attribute(serial, id);
            }
            ProbeKind::Promiscuous => {
                self.push(
                    1700,
                    serial,
                    format!("dev=nst{token} prom=256 old_prom=0 auid=1 uid=0 gid=0 ses=1"),
                );
                self.attribute(serial, id);
            }
            ProbeKind::IoUringInline | ProbeKind::IoUringPoller => {
                self.push(1336, serial, format!("uring_op=18 success=yes exit=5 items=0 ppid=1 pid={pid}"));
                self.attribute(serial, id);
                self.push(1320, serial, String::new());
            }
            ProbeKind::IoUring | ProbeKind::IoUringReused => {
                self.push(1336, serial, format!("uring_op=37 success=yes exit=0 items=1 ppid=1 pid={pid}"));
                self.push(1302, serial, "item=0 name=(null) inode=1".to_owned());
                self.attribute(serial, id);
                self.push(1320, serial, String::new());
            }
            ProbeKind::Abend => {
                // The ledger's word comes first, and then death.
                self.tell(task, Act::Probe { kind, token, set });
                self.push(1701, serial, format!("auid=1 pid={pid} comm=\"x\" exe=\"/x\" sig=11 res=1"));
                self.attribute(serial, id);
                return token;
            }
            ProbeKind::Listener => {
                // Likewise.
                self.tell(task, Act::Probe { kind, token, set });
                self.push(1335, serial, format!("pid={pid} uid=0 comm=\"x\" nl-mcgrp=1 op=disconnect res=1"));
                self.attribute(serial, id);
                return token;
            }
            ProbeKind::Rename => {
                self.push(
                    1300,
                    serial,
                    format!(
                        "arch=c000003e syscall=82 success=yes exit=0 a0=7f a1=7f items=5 ppid=1 pid={pid}"
                    ),
                );
                for (item, name) in ["/", "/", "-source", "", ""].iter().enumerate() {
                    let name =
                        if item < 2 { (*name).to_owned() } else { format!("/nstrail-rename-{token}{name}") };
                    self.push(1302, serial, format!("item={item} name=\"{name}\" inode=1"));
                }
                self.attribute(serial, id);
                self.push(1320, serial, String::new());
            }
            ProbeKind::Sent | ProbeKind::Received => unreachable!("a datagram has two ends"),
        }
        self.tell(task, Act::Probe { kind, token, set });
        if let Some(ids) = self.ids(set) {
            self.tell(task, Act::Ids { ids });
        }
        token
    }

    /// A datagram to the network namespace of another task.
    pub fn datagram(&mut self, task: usize, to: usize) -> u64 {
        self.go_on(task);
        self.next_token += 1;
        let token = self.next_token;
        let (id, set) = (self.id_of(task), self.census(task));
        let (near, far) = (set.get(NamespaceEntry::Net), self.census(to).get(NamespaceEntry::Net));
        let [.., b, c, d] = token.to_be_bytes();
        for (mark, net, id) in [(1, near, id), (2, far, None)] {
            let serial = self.serial();
            self.push(1324, serial, format!("mark={mark:#x} saddr=192.0.2.1 daddr=10.{b}.{c}.{d} proto=17"));
            self.push(1342, serial, format!("netns=net:{net}"));
            self.attribute(serial, id);
        }
        self.tell(task, Act::Probe { kind: ProbeKind::Sent, token, set });
        self.tell(task, Act::Received { token, by: self.tasks[to].actor, netns: far });
        token
    }

    /// A task looks at all others.
    pub fn look_around(&mut self, task: usize) {
        self.go_on(task);
        let others: Vec<usize> =
            (1..self.tasks.len()).filter(|other| *other != task && self.tasks[*other].alive).collect();
        for other in &others {
            let (of, set) = (self.tasks[*other].tid, self.census(*other));
            let ids = self.ids(set);
            self.tell(task, Act::Seen { of, set, ids, unlisted: NamespaceIds::default() });
        }
        self.tell(task, Act::Census { tasks: others.len() as u32 });
    }

    /// Other threads would not survive an exec.
    fn has_threads(&self, task: usize) -> bool {
        let pid = self.tasks[task].pid;
        self.tasks.iter().filter(|other| other.alive && other.pid == pid).count() > 1
    }

    fn end_vfork(&mut self, child: usize) {
        let parent = self.tasks[child].parent;
        if self.tasks[parent].waits_for == Some(child) {
            self.tasks[parent].waits_for = None;
        }
    }

    pub fn may_exit(&self, task: usize) -> bool {
        let own = &self.tasks[task];
        let others = |other: &Task| {
            other.alive
                && other.actor != own.actor
                && ((!own.thread && other.thread && other.pid == own.pid)
                    || own.init_of.is_some_and(|inum| other.set.get(NamespaceEntry::Pid) == inum))
        };
        task != 0
            && self.is_free(task)
            && !self.tasks.iter().any(others)
            && !(0..self.tasks.len()).any(|child| {
                self.tasks[child].parent == task && !self.tasks[child].reaped && !self.tasks[child].thread
            })
    }

    /// The task ends by itself (with last words), or is killed.
    pub fn exit(&mut self, task: usize, words: bool) {
        self.go_on(task);
        if words {
            self.tell(task, Act::End);
        }
        self.mute_thread |= !words && self.tasks[task].thread;
        self.die(task);
    }

    fn die(&mut self, task: usize) {
        self.tasks[task].alive = false;
        self.perf.push(PerfEvent::Exit { tid: self.tasks[task].tid });
        if let Some(inum) = self.tasks[task].init_of {
            self.dead_pid.insert(inum);
        }
        let id = self.tasks[task].id;
        self.leave(task, id, None);
        self.end_vfork(task);
        if self.tasks[task].thread {
            self.tasks[task].reaped = true;
        }
    }

    /// A pid namespace's init dies, and all in its namespace with it, after it.
    pub fn fall(&mut self, init: usize) {
        let inum = self.tasks[init].init_of.unwrap();
        self.go_on(init);
        self.die(init);
        for task in 0..self.tasks.len() {
            if self.tasks[task].alive && self.tasks[task].set.get(NamespaceEntry::Pid) == inum {
                self.tasks[task].tail = None;
                self.tasks[task].word = None;
                self.die(task);
                self.tasks[task].reaped = true;
            }
        }
    }

    pub fn reap(&mut self, task: usize, status: i32) {
        if self.tasks[task].thread {
            return;
        }
        let parent = self.tasks[task].parent;
        self.go_on(parent);
        self.tasks[task].reaped = true;
        let (child, tid) = (self.tasks[task].actor, self.tasks[task].tid);
        self.tell(parent, Act::Reaped { child, tid, status });
    }

    pub fn fence(&mut self) {
        for task in self.free() {
            self.go_on(task);
        }
        let number = self.fences;
        self.fences += 1;
        self.event(1005, format!("pid=1 uid=0 auid=1 ses=1 msg='nstrail-fence={number}'"));
        self.perf.push(PerfEvent::Fence { number });
        self.tell(0, Act::Fence { number });
    }

    pub fn enable(&mut self, on: bool) {
        self.go_on(0);
        if !on {
            let serial = self.serial();
            self.push(1305, serial, "op=set audit_enabled=0 old=1 auid=1 ses=1 res=1".to_owned());
            self.syscall(serial, 1, None, true, "a0=0 a1=0");
        }
        self.audit = on;
        self.perf.push(PerfEvent::Audit { enabled: on });
        self.tell(0, Act::Audit(AuditFact::Enabled(on)));
    }

    /// Everybody ends, and the last set of all is made.
    pub fn finish(&mut self) {
        while self.tasks.iter().skip(1).any(|task| task.alive) {
            let task = (1..self.tasks.len()).rev().find(|task| self.may_exit(*task)).unwrap();
            self.exit(task, true);
            self.reap(task, 0);
        }
        let marker = self.clone(0, Call::Clone3, NamespaceType::Uts.flag());
        self.probe(marker, ProbeKind::UserMessage);
        self.exit(marker, true);
        self.reap(marker, 0);
        self.fence();
        self.state(When::After);
        self.fence();
        let unicast = self.log.len() as u64;
        self.tell(
            0,
            Act::Audit(AuditFact::Collected {
                unicast,
                multicast: unicast,
                before_multicast: 0,
                first_difference: None,
                overruns: 0,
                unicast_drops: 0,
                multicast_drops: 0,
            }),
        );
    }
}

/// One step of a random workload: four bytes decide.
pub fn random_step(sim: &mut Sim, choice: [u8; 4]) {
    let free = sim.free();
    let task = free[usize::from(choice[0]) % free.len()];
    let target = free[usize::from(choice[2]) % free.len()];
    let types: u64 = NamespaceType::ALL
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| choice[3] >> bit & 1 == 1)
        .map(|(_, kind)| kind.flag())
        .sum();
    let clones = sim.may_clone(task) && sim.tasks.iter().filter(|task| task.alive).count() < 12;
    let pending_pid = {
        let set = &sim.tasks[task].set;
        set.get(NamespaceEntry::Pid) != set.get(NamespaceEntry::PidForChildren)
    };
    let not_pid = types & !NamespaceType::Pid.flag();
    // A second new pid namespace inside a pending one is refused.
    let types = if pending_pid { not_pid } else { types };
    match choice[1] % 16 {
        0 if clones => drop(sim.clone(task, Call::Fork, 0)),
        1 | 2 if clones => drop(sim.clone(task, Call::Clone3, types)),
        3 if clones && !pending_pid => {
            let flags = CLONE_THREAD
                | CLONE_VM
                | 0x800
                | (types & (NamespaceType::Uts.flag() | NamespaceType::Ipc.flag()));
            sim.clone(task, Call::Clone3, flags);
        }
        4 if clones => drop(sim.clone(task, Call::Vfork, CLONE_VM | CLONE_VFORK)),
        5 | 6 if types != 0 && task != 0 => {
            let types = if sim.tasks[task].thread { types & !NamespaceType::User.flag() } else { types };
            if types != 0 {
                sim.unshare(task, types);
            }
        }
        7 if task != 0 => {
            let kind = NamespaceType::ALL[usize::from(choice[3]) % 8];
            let pid = sim.tasks[target].set.get(NamespaceEntry::Pid);
            let dead = kind == NamespaceType::Pid && sim.tasks[target].init_of.is_none() && pid != 36;
            if !dead {
                sim.setns(task, target, kind);
            }
        }
        8 if task != 0 && !sim.tasks[task].thread && !sim.has_threads(task) => sim.exec(task),
        9 => sim.fail(task, Call::Unshare, types),
        10..=12 => {
            if choice[3] >= 0xF0 {
                sim.datagram(task, target);
                return;
            }
            let kinds = [
                ProbeKind::UserMessage,
                ProbeKind::Syscall,
                ProbeKind::Seccomp,
                ProbeKind::Login,
                ProbeKind::ConfigChange,
                ProbeKind::Packet,
                ProbeKind::NftPacket,
                ProbeKind::Ptrace,
            ];
            sim.probe(task, kinds[usize::from(choice[3]) % kinds.len()]);
        }
        13 | 14 if sim.may_exit(task) => {
            sim.exit(task, !choice[3].is_multiple_of(4));
            sim.reap(task, 0);
        }
        15 if choice[3] < 60 => sim.fence(),
        15 if choice[3] >= 0xC0 && !sim.mute_thread => sim.look_around(task),
        _ => sim.go_on(task),
    }
}
