// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ledger: what a workload really did, told by the tasks that did it.
//!
//! Facts, never verdicts: what a task called, with which flags, what came back, and the ten inode numbers
//! that it read in `/proc/thread-self/ns/` before and after. The checker joins them to the log.
//!
//! Order: facts of one task come in its program order ([`Fact::number`] rises by one), and facts of
//! successive tasks that got the same tid come in the order in which they held it. Between tasks
//! that live at the same time nothing is promised: a child's facts may come before its parent's
//! [`Act::Operation`] that made it.

use serde::{Deserialize, Serialize};

use crate::namespace::{NamespaceIds, NamespaceSet};

/// The ledger's own number of a task. Never used twice in a run, whatever the kernel does with PIDs.
///
/// 1 is the agent's main task (PID 1 of the guest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActorId(pub u64);

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Who speaks.
    pub actor: ActorId,
    /// Position in the actor's own order, from 0 ([`Act::Start`] is 0; an exec goes on counting).
    pub number: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Preorder number of the scenario's step that this belongs to (0 is the first step).
    pub step: u32,
    pub act: Act,
}

/// What a task did or saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// First words of a task: how it was made (known to it from its parent), and its own set.
    Start {
        /// `None` for the agent's main task.
        parent: Option<ActorId>,
        call: Call,
        /// All flags of the call, `CLONE_NEW*` and others.
        flags: u64,
        /// The maker's set just before the call.
        parent_set: NamespaceSet,
        set: NamespaceSet,
    },
    /// A call that makes a task or moves one has returned (told by its caller).
    ///
    /// An exec that succeeded is told by the new image, an exec that failed by the old one.
    Operation {
        call: Call,
        /// All flags passed. For setns: `CLONE_NEW*` of the types that the *caller* knows to have joined
        /// if it succeeded, as the contract's FLAGS; what was passed is `passed`.
        flags: u64,
        /// The raw flag argument (setns may pass 0).
        passed: u64,
        outcome: Outcome,
        /// The caller's set before and after.
        before: NamespaceSet,
        after: NamespaceSet,
    },
    /// The task caused an audit event that carries a token.
    Probe { kind: ProbeKind, token: u64, set: NamespaceSet },
    /// `wait` has returned for a child.
    Reaped { child: ActorId, tid: u32, status: i32 },
    /// Last words before exit. A task that is killed has none.
    End,
    /// The agent's main task: all facts before it are in, and the log holds `nstrail-fence=NUMBER`.
    Fence { number: u32 },
    /// The agent's main task: state of the audit subsystem (see [`AuditFact`]).
    Audit(AuditFact),
    /// The ids that the kernel gives for the task's own namespaces (NS_GET_ID), asked for after a probe. Told
    /// only where the kernel has such ids.
    Ids { ids: NamespaceIds },
    /// The datagram of the [`ProbeKind::Sent`] before has come in at the network namespace of another task, which
    /// was waiting in it ([`Datagram`](crate::step::Datagram)). NETFILTER_PKT (1324) by nftables in PREROUTING: `mark=0x2`
    /// and the same `daddr=`.
    Received { token: u64, by: ActorId, netns: u32 },
    /// The task `of`, which was reaped before, was killed in a call that makes a task, and has left none: the call failed.
    Childless { of: ActorId, call: Call },
    /// Another task of the guest, which sleeps or waits, as the initial /proc shows it to one that does
    /// [`Step::Census`](crate::step::Step::Census).
    Seen {
        /// The other task's thread id in the initial pid namespace.
        of: u32,
        set: NamespaceSet,
        /// NS_GET_ID, where the kernel has such ids.
        ids: Option<NamespaceIds>,
        /// Those of its ids that listns(2) did not list, where the kernel has that call; 0 stands for none.
        unlisted: NamespaceIds,
    },
    /// There are no other tasks than those that the teller has [`Act::Seen`] since its last census: so many, not counting itself
    /// and the agent's own.
    Census { tasks: u32 },
}

/// The system call that an operation used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The agent's main task was started by the kernel.
    Boot,
    Clone,
    Clone3,
    Fork,
    Vfork,
    Unshare,
    Setns,
    Exec,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A task was made: its number, and its tid in the initial pid namespace (0 if the caller
    /// cannot know it; the child's own [`Act::Start`] has it).
    Child { actor: ActorId, tid: u32 },
    /// Success of a call that makes no task.
    Done,
    /// It failed with this errno.
    Failed { errno: i32 },
}

/// Ways to cause an audit event with a token in it, and where the token stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// AUDIT_USER (1005): `msg='nstrail-token=TOKEN ...'`.
    UserMessage,
    /// SYSCALL (1300) by an `always,exit` rule on prctl: `a0=6e737472` (hex), `a1=TOKEN` (hex).
    Syscall,
    /// SECCOMP (1326) by SECCOMP_RET_LOG: `syscall=` is 1_000_000 + TOKEN (decimal).
    Seccomp,
    /// LOGIN (1006): `auid=` is TOKEN (decimal).
    Login,
    /// CONFIG_CHANGE (1305) by adding a rule: `key="nstrail-token-TOKEN"`.
    ConfigChange,
    /// NETFILTER_PKT (1324): IPv4 packet whose `daddr=` is 127.B.C.D, B.C.D being TOKEN's low 24 bits.
    Packet,
    /// URINGOP (1336): `pid=` is the actor's. The PATH records of an io_uring worker have no names to carry a token.
    IoUring,
    /// ANOM_ABEND (1701) of a child that dies by SIGSEGV, or of a task that an execve kills: `sig=11`, `pid=` is the actor's.
    Abend,
    /// As [`ProbeKind::Packet`], logged by a rule of nftables instead of one of iptables.
    NftPacket,
    /// SYSCALL (1300) by an `always,exit` rule on ptrace: `a2=6e737472` (hex), `a3=TOKEN` (hex). Of a step
    /// [`Trace`](crate::step::Step::Trace) only: it needs a task to attach to.
    Ptrace,
    /// NETFILTER_PKT (1324) by nftables in OUTPUT: `mark=0x1` and `daddr=` 10.B.C.D, B.C.D being TOKEN's low 24 bits. Of a
    /// step [`Datagram`](crate::step::Datagram) only: it needs somebody to send to.
    Sent,
    /// How an [`Act::Received`] is told apart from its [`ProbeKind::Sent`]; no fact has it.
    Received,
    /// EVENT_LISTENER (1335) of a child that listens to audit's multicast and dies with the socket open: `op=disconnect`, `pid=` is
    /// the actor's. The last file is put when the task has closed all of them, in its last moment in which it may log.
    Listener,
    /// PATH (1302) by an `always,exit` rule on rename: `name="/nstrail-rename-TOKEN"`, a file that is renamed over. Such an event has five PATH
    /// records, as many as a context has room for without asking for memory (`AUDIT_NAMES`, kernel/audit.h).
    Rename,
    /// USER_LOGIN (1112), as programs that log people in send it: as [`ProbeKind::UserMessage`].
    UserLogin,
    /// ANOM_LOGIN_FAILURES (2100), of the second range of types that programs may send: as [`ProbeKind::UserMessage`].
    UserAnomaly,
    /// As [`ProbeKind::Packet`], logged by iptables in OUTPUT, where the task itself sends it.
    PacketOut,
    /// ANOM_PROMISCUOUS (1700) of a device that the task renamed: `dev=nstTOKEN`, and `prom=` is not 0. The kernel asks for its
    /// memory without waiting, though a task does it (net/core/dev.c:__dev_set_promiscuity).
    Promiscuous,
    /// URINGOP (1336) of an openat that needs no worker: `uring_op=18`, `pid=` is the actor's. It is done in the actor's own system call.
    IoUringInline,
    /// As [`ProbeKind::IoUringInline`], done by the thread that polls the ring (`IORING_SETUP_SQPOLL`), which the actor has just made.
    IoUringPoller,
    /// As [`ProbeKind::IoUring`], by a worker that was there before: no new one came meanwhile. What an actor is told to do is `IoUring`.
    IoUringReused,
}

impl ProbeKind {
    /// Whether it is a packet, which the kernel may log on behalf of no task.
    #[must_use]
    pub const fn is_packet(self) -> bool {
        matches!(self, Self::Packet | Self::NftPacket | Self::Sent | Self::Received | Self::PacketOut)
    }
}

/// State of the audit subsystem, and what the collector counted: the parts of the proof of no loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditFact {
    /// AUDIT_GET (`struct audit_status`) at this moment.
    Status { when: When, status: AuditStatus },
    /// AUDIT_LIST_RULES: rules that can suppress records, and all others.
    Rules { when: When, exclude: u32, task_never: u32, other: u32 },
    /// What the collector saw, after the last fence.
    Collected {
        /// Records read from the unicast socket, which are those of the audit stream.
        unicast: u64,
        /// Records read from the multicast socket.
        multicast: u64,
        /// Unicast records before the first multicast one (boot, `op=init`: multicast cannot have them).
        before_multicast: u64,
        /// Position from which the two streams first differ in type or bytes; `None` if they are equal.
        first_difference: Option<u64>,
        /// ENOBUFS seen on either socket.
        overruns: u64,
        /// What the kernel could not put into the two sockets (`SK_MEMINFO_DROPS` of SO_MEMINFO).
        unicast_drops: u64,
        multicast_drops: u64,
    },
    /// The agent turned audit off (false) or on again (true) on purpose: between the two, sets are made silently.
    Enabled(bool),
    /// The agent added (true) or deleted a rule of this list (`AUDIT_FILTER_*`), while audit was on.
    Rule { list: u32, added: bool },
    /// A file of /proc, or a field of one (`FILE: FIELD`), that by its name shows an auditnsid.
    Exposed { path: String },
}

/// When a state was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Before the first step.
    Before,
    /// After the last step, before the last fence.
    After,
}

/// `struct audit_status` (include/uapi/linux/audit.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    pub enabled: u32,
    pub failure: u32,
    pub pid: u32,
    pub rate_limit: u32,
    pub backlog_limit: u32,
    pub lost: u32,
    pub backlog: u32,
    pub backlog_wait_time: u32,
    pub backlog_wait_time_actual: u32,
}
