// SPDX-License-Identifier: MIT OR Apache-2.0
//! The steps of a scenario: what one task does, and what the tasks that it makes do in turn.
//!
//! A task walks through its list of steps and then ends. `spawn`, `nest` and `churn` make tasks, with lists
//! of their own; a maker does nothing else while the task that it made is at work, so that the order of
//! events is the scenario's and not the scheduler's. Only `churn`, `web` and `rejoin` run tasks beside each other.
//!
//! `fence`, `rule`, `audit`, `backlog` and `lock` are for the outermost list: the agent's main task does them. What stands between two
//! of them is done by a plain fork of it, which is gone before the next of them begins.

use serde::{Deserialize, Serialize};

use crate::{
    errno::Errno,
    fact::ProbeKind,
    namespace::{CLONE_EMPTY_MNTNS, NamespaceType},
    rule::Rule,
    scenario::size,
    splat::Splat,
    version::KernelVersion,
};

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// End what came before: all tasks reaped, which a census shows, and a fence in both streams.
    Fence {},
    /// Add or remove an audit rule.
    Rule(RuleStep),
    /// Turn audit off or on.
    Audit { enabled: bool },
    /// Make a task.
    Spawn(Spawn),
    /// Leave namespaces for new ones.
    Unshare(Unshare),
    /// Join namespaces.
    Setns(Setns),
    /// Replace the image, and go on with these steps in the new one: an exec is the last step of its list.
    Exec(Exec),
    /// Cause an audit event with a token in it.
    Probe(ProbeKind),
    /// Give up all capabilities.
    DropCapabilities {},
    /// Become another user, with all capabilities lost, for good.
    Become { uid: u32 },
    /// Limit the processes of the task's user (RLIMIT_NPROC): root is exempt from it.
    Processes { max: u32 },
    /// Write `user.max_TYPE_namespaces` of the task's own user namespace.
    Limit { r#type: NamespaceType, max: u32 },
    /// End a labelled task and reap it.
    Release { label: String },
    /// Spawn inside spawn inside spawn.
    Nest(Nest),
    /// Spawn and reap at a high rate.
    Churn(Churn),
    /// Joins between sets that live.
    Web(Web),
    /// The same steps again and again: their numbers are those of the first time.
    Repeat(Repeat),
    /// Write a sysctl of the guest, for the rest of the run.
    Sysctl { name: String, value: u32 },
    /// A spawn for each set of namespace types: the host writes them out.
    Every(Every),
    /// Hold namespaces of a task, so that they outlive it.
    Pin(Pin),
    /// Let go of what was held.
    Unpin { name: String },
    /// Nothing: the host puts it where the kernel does not have what a step needs.
    Absent(Absent),
    /// Attach to a labelled task by ptrace, and let it go: an audit event with a token, about another task.
    Trace(Trace),
    /// Make ready for datagrams from other tasks, in the task's own network namespace (which must be a new one): they
    /// are logged on their way in. Whoever has a label and has done this can be sent to.
    Listen {},
    /// Send a datagram to another task, through a pair of network devices that joins the two network namespaces.
    Datagram(Datagram),
    /// End tasks by a fatal signal in the middle of a call that makes a task.
    Interrupt(Interrupt),
    /// Let each memory allocation of a call fail in turn.
    NoMemory(NoMemory),
    /// Look at every task of the guest from outside, by the initial /proc and listns(2): each must still be in the set that it has told, and
    /// there must be no other one. All others must sleep or wait, so it is no step for tasks that run beside each other.
    Census {},
    /// Meddle with audit behind the ledger's back, as another process of the machine might: a run with such a step proves nothing any more, and
    /// must not pass.
    Meddle(Meddle),
    /// Break the kernel, so that it complains on its console.
    Splat(Splat),
    /// So many records may wait for their reader (`audit_backlog_limit`) from here on, or as many as at boot: whoever logs and can wait then waits
    /// for room, and nothing of theirs is lost. What is logged where nobody can wait (a packet) may be.
    Backlog {
        #[serde(default)]
        limit: Option<u32>,
    },
    /// Moves at the highest rate: tasks join the namespaces that they are in already.
    Rejoin(Rejoin),
    /// End labelled tasks at the same moment, each on a CPU of its own as far as there are enough, and reap them.
    Together { labels: Vec<String> },
    /// Lock audit's configuration until the guest's end (`AUDIT_LOCKED`, `auditctl -e 2`): it is as much on as before.
    Lock {},
}

impl Step {
    /// The lists of steps inside this one, in preorder.
    #[must_use]
    pub fn parts(&self) -> Vec<&[Step]> {
        match self {
            Self::Spawn(spawn) => vec![&spawn.inside],
            Self::Exec(exec) => vec![&exec.inside],
            Self::Nest(nest) => vec![&nest.each, &nest.inside],
            Self::Every(every) => vec![&every.inside],
            Self::Repeat(repeat) => vec![&repeat.inside],
            _ => Vec::new(),
        }
    }

    /// How many numbers this step and those inside it take; a file may claim any number for an `absent`.
    #[must_use]
    pub fn size(&self) -> u32 {
        match self {
            Self::Absent(absent) => absent.numbers,
            _ => self.parts().into_iter().map(size).fold(1, u32::saturating_add),
        }
    }

    /// Whether the agent's main task does this step itself.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        match self {
            Self::Fence {}
            | Self::Rule(_)
            | Self::Audit { .. }
            | Self::Meddle(_)
            | Self::Backlog { .. }
            | Self::Lock {} => true,
            Self::Absent(absent) => absent.control,
            _ => false,
        }
    }
}

/// See [`Step::Meddle`]. What they change they change back, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meddle {
    /// A backlog of one record and no wait for room in it, while events come at a high rate.
    Backlog,
    /// A rate limit, while events come at a high rate.
    RateLimit,
    /// A rule that excludes definitions (record type 1340) for the rest of the run.
    Exclude,
    /// The same for a moment.
    ExcludeBriefly,
    /// Audit is turned off for a moment.
    Disable,
    /// Another process is the audit daemon for a while, in which events come.
    Daemon,
    /// The collector is stopped (SIGSTOP) while more events come than its sockets have room for.
    StopReader,
}

/// See [`Step::Absent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// The kernel that first has what the step needs.
    pub since: KernelVersion,
    /// How many numbers the step takes: those of all others stay what they are.
    pub numbers: u32,
    /// Whether it was for the agent's main task.
    pub control: bool,
}

/// See [`Step::Rule`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleStep {
    Add(Rule),
    /// By the name that it was added with.
    Remove(String),
}

/// See [`Step::Spawn`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spawn {
    pub call: SpawnCall,
    /// New namespaces.
    #[serde(default)]
    pub flags: Vec<NamespaceType>,
    /// Other flags of the call.
    #[serde(default)]
    pub with: Vec<SpawnFlag>,
    /// What the task does.
    #[serde(default)]
    pub inside: Vec<Step>,
    /// How it ends.
    #[serde(default)]
    pub death: Death,
    /// The task stays when it has done its steps, until a [`Step::Release`] or the end of its maker. Steps after
    /// this one, and tasks made after it, can join its namespaces by this name.
    #[serde(default)]
    pub label: Option<String>,
    /// An argument that the kernel must refuse.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// The call fails with this errno.
    #[serde(default)]
    pub expect: Option<Errno>,
    /// The call fails on older kernels.
    #[serde(default)]
    pub refused_before: Option<RefusedBefore>,
    /// Older kernels have nothing to see here: the spawn is left out.
    #[serde(default)]
    pub since: Option<KernelVersion>,
    /// The number that the task is to have (`set_tid` of clone3), in its maker's pid namespace.
    #[serde(default)]
    pub tid: Option<u32>,
}

impl Spawn {
    /// A call with namespace types and nothing else.
    #[must_use]
    pub const fn plain(call: SpawnCall, flags: Vec<NamespaceType>) -> Self {
        Self {
            call,
            flags,
            with: Vec::new(),
            inside: Vec::new(),
            death: Death::Exit,
            label: None,
            fault: None,
            expect: None,
            refused_before: None,
            since: None,
            tid: None,
        }
    }
}

/// What a kernel older than `kernel` says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedBefore {
    pub kernel: KernelVersion,
    pub expect: Errno,
}

/// The system call of a [`Spawn`]. `fork` and `vfork` take no flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnCall {
    Clone,
    Clone3,
    Fork,
    Vfork,
}

/// A flag of clone that makes no namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnFlag {
    /// CLONE_PARENT: a sibling, reaped by its maker's parent.
    Parent,
    /// CLONE_THREAD; `vm` and `sighand` must stand beside it.
    Thread,
    Vm,
    Sighand,
    Vfork,
    Fs,
    Sysvsem,
    Pidfd,
    /// CLONE_INTO_CGROUP: a cgroup of its own (clone3 only).
    IntoCgroup,
    /// CLONE_EMPTY_MNTNS, beside the type `mnt`: a mount namespace with nothing but its root (clone3 only). It stands
    /// for CLONE_NEWNS, which is not passed.
    EmptyMntns,
}

impl SpawnFlag {
    /// The bit (include/uapi/linux/sched.h).
    #[must_use]
    pub const fn bit(self) -> u64 {
        match self {
            Self::Vm => 0x100,
            Self::Fs => 0x200,
            Self::Sighand => 0x800,
            Self::Pidfd => 0x1000,
            Self::Vfork => 0x4000,
            Self::Parent => 0x8000,
            Self::Thread => 0x1_0000,
            Self::Sysvsem => 0x4_0000,
            Self::IntoCgroup => 0x2_0000_0000,
            Self::EmptyMntns => CLONE_EMPTY_MNTNS,
        }
    }
}

/// How a task ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// It exits when it has done its steps, and its maker reaps it.
    #[default]
    Exit,
    /// Its maker kills it when it has done its steps. Labelled tasks below it stay as they are.
    Kill,
    /// Its maker ends first; its steps begin when it has been given another parent, which reaps it.
    Orphan,
    /// When it has done its steps it executes a file whose segments cannot be mapped: beyond its point of no return execve(2) has no
    /// image to go back to, and the kernel ends the task by SIGSEGV. It has entered its pending time namespace by then.
    Exec,
    /// Its last step spawns a thread whose last step is an exec: that ends all other threads of the process, its leader too, and the new image has
    /// the leader's number from then on, and the thread's namespaces.
    Replaced,
}

/// An argument that the kernel refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The `struct clone_args` lies at an unmapped address (clone3).
    Args,
    /// The pidfd is to be stored at an unmapped address: noticed after the namespaces are made.
    PidfdPointer,
    /// The pid that is asked for is taken: noticed after the namespaces are made (clone3).
    TakenPid,
    /// The cgroup to be put in is no cgroup (clone3).
    Cgroup,
    /// The exit signal is out of range (clone3).
    ExitSignal,
    /// The cgroup to be put in takes no process (`pids.max` is 0): noticed after the namespaces are made (clone3).
    FullCgroup,
}

/// See [`Step::Unshare`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unshare {
    pub flags: Vec<NamespaceType>,
    /// Other bits, on top: ones that move nobody (CLONE_FILES, say), or that unshare does not know.
    #[serde(default)]
    pub unknown: u32,
    /// UNSHARE_EMPTY_MNTNS instead of CLONE_NEWNS for the type `mnt`.
    #[serde(default)]
    pub empty_mntns: bool,
    #[serde(default)]
    pub expect: Option<Errno>,
}

/// See [`Step::Setns`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setns {
    /// The types to join: one call for all by `pidfd`, one call for each by `nsfs`.
    pub types: Vec<NamespaceType>,
    /// `self`, `init` (the agent's main task) or the label of a task.
    pub target: String,
    pub by: JoinBy,
    /// What is passed as the second argument, if not `types`: `[]` passes 0.
    #[serde(default)]
    pub passed: Option<Vec<NamespaceType>>,
    #[serde(default)]
    pub expect: Option<Errno>,
}

/// What a setns names its target by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinBy {
    /// A file of `/proc/PID/ns/`.
    Nsfs,
    Pidfd,
    /// A file that is neither.
    OrdinaryFile,
    /// A number that is no open file.
    ClosedFile,
}

/// See [`Step::Exec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    #[serde(default)]
    pub inside: Vec<Step>,
    /// The exec fails with this errno (its file does not exist), and the old image goes on.
    #[serde(default)]
    pub expect: Option<Errno>,
    #[serde(default)]
    pub by: ExecBy,
}

/// What an exec names its file by, and the system call that goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecBy {
    /// execveat(2) of an open file.
    #[default]
    Descriptor,
    /// execve(2) of a path, which leads through /proc.
    Path,
}

/// See [`Step::Nest`]: each level is a child of the one above it, in namespaces below its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nest {
    pub depth: u32,
    pub call: SpawnCall,
    pub flags: Vec<NamespaceType>,
    /// What the task of each level does before it makes the next one.
    #[serde(default)]
    pub each: Vec<Step>,
    /// What the task of the last level does on top.
    #[serde(default)]
    pub inside: Vec<Step>,
    /// How it ends: level by level from the last one, or by a SIGKILL of the first level, whose pid namespace dies with
    /// all that are in it and below.
    #[serde(default)]
    pub death: Death,
}

/// See [`Step::Web`]: `containers` of them live, each in namespaces of its own, and `workers` join one after the other, by
/// pidfd, some or all of the types at once. Who joins what depends on the seed, the worker and its position alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    pub containers: u32,
    /// Joins in all.
    pub joins: u32,
    pub workers: u32,
    /// Types that are joined: not `user`, from which there is no way back, nor `pid`, which only leads downwards.
    pub types: Vec<NamespaceType>,
    /// One join in so many (by chance) is followed by an event, by a syscall.
    #[serde(default)]
    pub probe_every: u32,
}

/// See [`Step::Rejoin`]: `workers` make so many setns in all, each of one type, in turns, by a file of nsfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejoin {
    pub joins: u32,
    pub workers: u32,
    /// As for a [`Web`].
    pub types: Vec<NamespaceType>,
    /// After one join in so many the task reads its namespaces in /proc; of the others it tells that they were made.
    #[serde(default = "each")]
    pub look_every: u32,
}

/// See [`Step::Trace`]. The event is the tracer's, whichever set the other one is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The label of a task.
    pub target: String,
    #[serde(default)]
    pub expect: Option<Errno>,
}

/// See [`Step::Interrupt`]. Each try is a plain fork that makes the call and is killed by a timer meanwhile. The moment is left to chance, within
/// the time that such a call takes, which a ballast of memory stretches: the kernel looks for a fatal signal when the namespaces are made already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupt {
    pub call: SpawnCall,
    pub flags: Vec<NamespaceType>,
    /// Calls that must be cut off, so that the killed task leaves no child.
    pub hits: u32,
    /// Tries after which the scenario gives up.
    pub tries: u32,
}

/// See [`Step::NoMemory`]. The call is made again and again by a new task, and each time one more allocation goes well before one
/// fails (Documentation/fault-injection: `fail-nth` of failslab), until the call needs no more of them. Audit's own are spared: a record that was
/// lost by one would prove nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoMemory {
    pub call: EveryCall,
    pub flags: Vec<NamespaceType>,
    /// For `setns`: whom to join, by pidfd.
    #[serde(default)]
    pub target: Option<String>,
    /// Calls after which the scenario gives up.
    pub at_most: u32,
}

/// See [`Step::Datagram`]. Logged twice: where it leaves and, in a softirq, where it comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datagram {
    /// The label of a task that has done [`Step::Listen`].
    pub target: String,
}

/// See [`Step::Repeat`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    pub times: u32,
    pub inside: Vec<Step>,
}

/// See [`Step::Every`]: 2^N - 1 spawns for N types, in the order of the binary numbers that stand for the sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Every {
    pub call: EveryCall,
    pub types: Vec<NamespaceType>,
    /// For `setns`: whom to join, by pidfd.
    #[serde(default)]
    pub target: Option<String>,
    /// What the task does in its new set.
    #[serde(default)]
    pub inside: Vec<Step>,
}

/// The system call of an [`Every`]: by `unshare` and `setns` a plain fork moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EveryCall {
    Clone,
    Clone3,
    Unshare,
    Setns,
}

/// See [`Step::Pin`]. A setns by `nsfs` can name it as its target, also when the task is long dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub name: String,
    /// `self` or the label of a task.
    pub target: String,
    pub types: Vec<NamespaceType>,
    pub by: PinBy,
}

/// What keeps a namespace alive without a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinBy {
    /// An open file of `/proc/PID/ns/`.
    File,
    /// Such a file mounted upon another one.
    Mount,
    /// A mount namespace that no task was ever in: a copy of the task's own mounts, by open_tree(OPEN_TREE_NAMESPACE).
    OpenTree,
    /// One with a new tmpfs in it, by fsmount(FSMOUNT_NAMESPACE).
    Fsmount,
}

/// See [`Step::Churn`]. What each container is depends on the seed, its worker and its position alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// Containers in all, without those that are nested.
    pub containers: u32,
    pub workers: u32,
    /// `kernel.pid_max` meanwhile.
    pub pid_max: u32,
    /// Sets of flags to choose from; one that stands twice is chosen twice as often.
    pub kinds: Vec<Vec<NamespaceType>>,
    /// One container in so many (by chance) causes events, by one of `probes`.
    pub probe_every: u32,
    pub probes: Vec<ProbeKind>,
    /// One in so many makes a container of its own.
    pub nest_every: u32,
    /// One in so many makes a plain fork.
    pub fork_every: u32,
    /// One in so many is killed.
    pub kill_every: u32,
    /// Containers share the memory of their maker, which waits for their end (CLONE_VM, CLONE_VFORK) and its
    /// files (CLONE_FILES): nothing to copy, and the fastest way there is.
    #[serde(default)]
    pub vfork: bool,
    /// Seconds after which no more containers are made, however many there are by then.
    #[serde(default)]
    pub seconds: Option<u32>,
    /// One container in so many reads its namespaces in /proc, and has its maker read its own afterwards. The others, if they do nothing but live and die and are no
    /// new pid or user namespace, tell what was called and what came back; log and perf have their namespaces, too.
    #[serde(default = "each")]
    pub look_every: u32,
    /// Containers run on other CPUs than their workers, which look for their end all the time and cause an event at once when it has
    /// come: what a kernel does about a task after its parent knows of its end is seen too late. Wants a rule for the `syscall`
    /// probe.
    #[serde(default)]
    pub apart: bool,
}

const fn each() -> u32 {
    1
}
