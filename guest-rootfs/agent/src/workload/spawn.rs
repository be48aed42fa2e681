// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making tasks.
//!
//! A maker and the task that it made never run at the same time when they share memory, and with it libc's state:
//! the child waits at a gate until its maker has told of the call, and then its maker waits until the
//! child has done its steps. With vfork the kernel itself sees to that.

use std::{
    ffi::c_void,
    os::fd::RawFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nstrail_wire::{
    errno::Errno,
    fact::{ActorId, Call, Outcome},
    namespace::{
        CLONE_EMPTY_MNTNS, CLONE_PARENT, CLONE_THREAD, CLONE_VFORK, CLONE_VM, NamespaceEntry, NamespaceType,
    },
    step::{Death, Fault, Spawn, SpawnCall, SpawnFlag, Step},
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup::Cgroup,
    death::{Ending, GAVE_UP, Kept, adopt, await_death, finish, kill, leave, see_off},
    error::{Failed, StepError},
    exec,
    inherited::{self, PROC},
    no_memory::Famine,
    pipe::{Pipe, await_change, read_byte, wake},
    privilege,
    task::{Origin, Stage, Task, hold},
    trampoline::{CloneArgs, RawCall, Stack, make_task},
};
use crate::ledger::Batch;

/// An address that is never mapped (below `mmap_min_addr`).
const UNMAPPED: u64 = 8;

/// What can be joined by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Label {
    pub name: String,
    pub kind: LabelKind,
}

/// What a [`Label`] stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LabelKind {
    /// A task: its number in the initial pid namespace.
    Task { actor: ActorId, tid: u32, pidfd: RawFd },
    /// Namespaces that are held, each by a file.
    Pinned(Vec<(NamespaceType, RawFd)>),
    /// Namespaces that are held, each by a mount.
    Mounted(Vec<NamespaceType>),
}

/// How to make a task.
#[derive(Clone, Copy, Debug)]
pub struct Make {
    pub call: SpawnCall,
    /// All flags, without the exit signal.
    pub flags: u64,
    pub fault: Option<Fault>,
    pub cgroup: RawFd,
    pub trial: Option<Trial>,
    /// The child is a bare one ([`Task::bare`]).
    pub bare: bool,
    /// The number that the child is to have.
    pub tid: Option<u32>,
}

/// A call that may come to nothing: what became of it is told by [`Shared`](super::shared::Shared).
#[derive(Clone, Copy, Debug)]
pub enum Trial {
    /// It is left alone.
    Timed,
    /// A SIGALRM, so long after the call began, ends its maker.
    Alarm(Duration),
    /// One of its allocations fails.
    Starved(Famine),
}

impl Make {
    /// A call with namespace types and nothing else.
    pub fn plain(call: SpawnCall, types: &[NamespaceType]) -> Self {
        Self { call, flags: bits(types), fault: None, cgroup: -1, trial: None, bare: false, tid: None }
    }

    /// The flags as the ledger has them: vfork implies two.
    const fn told_flags(&self) -> u64 {
        match self.call {
            SpawnCall::Vfork => CLONE_VM | CLONE_VFORK,
            // It asks for a mount namespace by another flag.
            _ if self.flags & CLONE_EMPTY_MNTNS != 0 => self.flags | NamespaceType::Mnt.flag(),
            _ => self.flags,
        }
    }

    /// The call as the ledger has it.
    pub const fn told_call(&self) -> Call {
        match self.call {
            SpawnCall::Clone => Call::Clone,
            SpawnCall::Clone3 => Call::Clone3,
            SpawnCall::Fork => Call::Fork,
            SpawnCall::Vfork => Call::Vfork,
        }
    }
}

/// What the child finds in its maker's frame, or in its copy of it.
struct Cradle<'a> {
    stage: Stage,
    origin: Origin,
    step: u32,
    seccomp: bool,
    labels: &'a [Label],
    ending: Ending,
    orphan: Option<Orphan>,
    body: &'a dyn Fn(&mut Task) -> Result<(), Failed>,
    bare: bool,
    batch: Option<NonNull<Batch>>,
    /// Shut (0) while the maker of a task that shares its memory has not told of the call.
    gate: AtomicU32,
    /// 1 when such a task has done its steps.
    done: AtomicU32,
}

/// What a task needs to outlive its maker.
#[derive(Clone, Copy, Debug)]
pub struct Orphan {
    /// The maker's pid. Taken before the call: asked by the child, it might be its next parent's already.
    maker: i32,
    /// A pipe whose writers die with the maker.
    end: Pipe,
}

/// A task that was made.
#[derive(Debug)]
pub struct Made {
    pub actor: ActorId,
    pub local_pid: i32,
    /// What it runs on if it shares its maker's memory: free again when this is dropped, after its end.
    _stack: Option<Stack>,
}

/// The `CLONE_NEW*` bits of types.
pub fn bits(types: &[NamespaceType]) -> u64 {
    types.iter().fold(0, |flags, r#type| flags | r#type.flag())
}

/// Does a [`Step::Spawn`].
pub fn step(task: &mut Task, spawn: &Spawn, number: u32) -> Result<(), StepError> {
    let others = spawn.with.iter().fold(0, |flags, flag| flags | flag.bit());
    let cgroup = match (spawn.with.contains(&SpawnFlag::IntoCgroup), spawn.fault) {
        (true, Some(Fault::Cgroup)) | (false, _) => None,
        (true, _) => Some(Cgroup::make(task.actor)?),
    };
    if let (Some(cgroup), Some(Fault::FullCgroup)) = (&cgroup, spawn.fault) {
        cgroup.fill()?;
    }
    let implied = if others & CLONE_EMPTY_MNTNS != 0 { NamespaceType::Mnt.flag() } else { 0 };
    let make = Make {
        call: spawn.call,
        flags: bits(&spawn.flags) & !implied | others,
        fault: spawn.fault,
        cgroup: cgroup.as_ref().map_or(PROC, Cgroup::fd),
        trial: None,
        bare: false,
        tid: spawn.tid,
    };
    let leaves = foundlings(&spawn.inside);
    if leaves > 0 {
        become_subreaper()?;
    }
    let body = |child: &mut Task| child.walk(&spawn.inside, number + 1);
    if let Some(name) = &spawn.label {
        make_labelled(task, &make, name, &body, spawn.expect)?;
    } else if spawn.death == Death::Orphan {
        // Our end of the pipe closes when we die.
        let end = Pipe::new()?;
        // SAFETY: plain system call.
        let maker = unsafe { libc::getpid() };
        make_child(task, &make, Ending::Exit, Some(Orphan { maker, end }), &body, spawn.expect)?;
        inherited::close(end.read);
    } else if spawn.death == Death::Kill {
        let ready = Pipe::new()?;
        let ending = Ending::BeKilled { ready: ready.write };
        if let Some(made) = make_child(task, &make, ending, None, &body, spawn.expect)? {
            ready.await_byte()?;
            kill(made.local_pid)?;
            see_off(task, &made, &make, Death::Kill)?;
        }
    } else if spawn.death == Death::Exec {
        let body = |child: &mut Task| {
            body(child)?;
            match exec::die(child) {
                Ok(never) => match never {},
                Err(error) => Err(Failed { step: child.step, error }),
            }
        };
        if let Some(made) = make_child(task, &make, Ending::Exit, None, &body, spawn.expect)? {
            see_off(task, &made, &make, Death::Exec)?;
        }
    } else if spawn.death == Death::Replaced {
        let body = |child: &mut Task| {
            body(child)?;
            let error = StepError::Scenario("no thread took this task's place by an exec");
            Err(Failed { step: child.step, error })
        };
        if let Some(made) = make_child(task, &make, Ending::Exit, None, &body, spawn.expect)? {
            see_off(task, &made, &make, Death::Replaced)?;
        }
    } else if make.flags & CLONE_PARENT != 0 {
        let end = Pipe::new()?;
        if make_child(task, &make, Ending::Exit, None, &body, spawn.expect)?.is_some() {
            end.await_end()?;
        }
    } else if let Some(made) = make_child(task, &make, Ending::Exit, None, &body, spawn.expect)? {
        see_off(task, &made, &make, Death::Exit)?;
    }
    for _ in 0..leaves {
        adopt(task)?;
    }
    cgroup.map_or(Ok(()), Cgroup::remove)
}

/// A SIGALRM for the calling process.
fn set_alarm(after: Duration) -> Result<(), StepError> {
    let value = libc::timeval {
        tv_sec: after.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(after.subsec_micros().max(1)),
    };
    let once = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: `once` is readable, and no former value is asked for.
    let result = unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const once, 0) };
    inherited::check(result).map(drop).map_err(StepError::call("setitimer"))
}

/// Whoever is left behind below becomes a child of the calling task.
pub fn become_subreaper() -> Result<(), StepError> {
    // SAFETY: plain system call without pointers.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    inherited::check(result.into()).map(drop).map_err(StepError::call("PR_SET_CHILD_SUBREAPER"))
}

/// Makes a task that stays when it has done its steps, under a name.
pub fn make_labelled(
    task: &mut Task,
    make: &Make,
    name: &str,
    body: &dyn Fn(&mut Task) -> Result<(), Failed>,
    expect: Option<Errno>,
) -> Result<(), StepError> {
    let (ready, release) = (Pipe::new()?, Pipe::new()?);
    let ending = Ending::Wait { ready: ready.write, release: release.read, releaser: release.write };
    if let Some(made) = make_child(task, make, ending, None, body, expect)? {
        ready.await_byte()?;
        inherited::close(release.read);
        let (actor, local_pid) = (made.actor, made.local_pid);
        let kind =
            LabelKind::Task { actor, tid: task.stage.shared.tid(actor), pidfd: pidfd_open(local_pid)? };
        task.labels.push(Label { name: name.to_owned(), kind });
        task.kept.push(Kept { label: name.to_owned(), actor, local_pid, release: release.write });
    }
    Ok(())
}

/// How many direct children of a task with these steps are left to its own reaper.
fn foundlings(steps: &[Step]) -> usize {
    let of = |step: &Step| match step {
        Step::Spawn(spawn) if spawn.expect.is_none() => {
            usize::from(spawn.death == Death::Orphan || spawn.with.contains(&SpawnFlag::Parent))
        }
        Step::Exec(exec) => foundlings(&exec.inside),
        _ => 0,
    };
    steps.iter().map(of).sum()
}

/// Makes a task that runs `body`, and tells of it. `None` if the call failed as expected.
pub fn make_child(
    task: &mut Task,
    make: &Make,
    ending: Ending,
    orphan: Option<Orphan>,
    body: &dyn Fn(&mut Task) -> Result<(), Failed>,
    expect: Option<Errno>,
) -> Result<Option<Made>, StepError> {
    let told_flags = make.told_flags();
    let actor = task.stage.ledger.allocate_actor();
    let shares_memory = told_flags & CLONE_VM != 0;
    let takes_turns = shares_memory && told_flags & CLONE_VFORK == 0;
    let labels = task.labels.clone();
    let cradle = Cradle {
        stage: task.stage,
        origin: Origin {
            actor,
            parent: task.actor,
            call: make.told_call(),
            flags: told_flags,
            parent_set: task.set,
        },
        step: task.step,
        seccomp: task.seccomp,
        labels: &labels,
        ending,
        orphan,
        body,
        bare: make.bare,
        batch: task.batch.filter(|_| make.bare && shares_memory && !takes_turns),
        gate: AtomicU32::new(u32::from(!takes_turns)),
        done: AtomicU32::new(0),
    };
    let stack = shares_memory.then(Stack::take).transpose().map_err(StepError::call("stack"))?;
    let mut pidfd: RawFd = -1;
    // Number 1 is taken.
    let number: u32 = make.tid.unwrap_or(1);
    let arguments = clone_args(make, &mut pidfd, &number);
    let raw = raw_call(make, &arguments);
    let told = &task.stage.shared.trial;
    if let Some(trial) = make.trial {
        told.attempted.store(actor.0, Ordering::Release);
        match trial {
            Trial::Timed => {}
            Trial::Alarm(after) => set_alarm(after)?,
            Trial::Starved(famine) => famine.begin()?,
        }
    }
    let began = Instant::now();
    // SAFETY: `enter` takes a cradle; it lives until the child is done with it, as the child has a copy or
    // its maker waits below; a stack is there if memory is shared.
    let result = unsafe { make_task(raw, stack.as_ref(), enter, ptr::from_ref(&cradle).cast::<c_void>()) };
    if let Some(Trial::Starved(famine)) = make.trial {
        told.spared.store(famine.end()?, Ordering::Release);
    } else if make.trial.is_some() {
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        told.took.store(took, Ordering::Release);
    }
    let outcome = match i32::try_from(result) {
        Ok(errno) if errno < 0 => Outcome::Failed { errno: -errno },
        Ok(pid) => Outcome::Child { actor, tid: if task.counts_from_init() { pid as u32 } else { 0 } },
        Err(_) => return Err(StepError::Scenario("clone gave no pid")),
    };
    task.tell_operation(make.told_call(), told_flags, told_flags, outcome)?;
    let errno = if let Outcome::Failed { errno } = outcome { Some(errno) } else { None };
    if errno.is_none() && takes_turns {
        cradle.gate.store(1, Ordering::Release);
        wake(&cradle.gate);
        await_change(&cradle.done, 0);
    }
    if pidfd >= 0 {
        inherited::close(pidfd);
    }
    // Of a call without memory any errno will do: where ucounts cannot be had, it is EAGAIN or ENOSPC.
    let starved = matches!(make.trial, Some(Trial::Starved(_))) && told.spared.load(Ordering::Acquire) == 0;
    if errno.is_none() || !starved {
        hold(&format!("{:?} with flags {told_flags:#x}", make.told_call()), errno, expect)?;
    }
    Ok(errno.is_none().then_some(Made { actor, local_pid: result as i32, _stack: stack }))
}

fn clone_args(make: &Make, pidfd: &mut RawFd, number: &u32) -> CloneArgs {
    let sibling = make.flags & (CLONE_THREAD | CLONE_PARENT) != 0;
    let mut arguments = CloneArgs {
        flags: make.flags,
        exit_signal: if sibling { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if make.flags & SpawnFlag::Pidfd.bit() != 0 {
        arguments.pidfd = match make.fault {
            Some(Fault::PidfdPointer) => UNMAPPED,
            _ => ptr::from_mut(pidfd) as u64,
        };
    }
    if make.flags & SpawnFlag::IntoCgroup.bit() != 0 {
        arguments.cgroup = make.cgroup as u64;
    }
    if make.fault == Some(Fault::TakenPid) || make.tid.is_some() {
        arguments.set_tid = ptr::from_ref(number) as u64;
        arguments.set_tid_size = 1;
    }
    if make.fault == Some(Fault::ExitSignal) {
        arguments.exit_signal = 200;
    }
    arguments
}

fn raw_call(make: &Make, arguments: &CloneArgs) -> RawCall {
    match make.call {
        SpawnCall::Clone => RawCall {
            number: libc::SYS_clone,
            arguments: [arguments.flags | arguments.exit_signal, 0, arguments.pidfd],
        },
        SpawnCall::Clone3 => {
            let address = match make.fault {
                Some(Fault::Args) => UNMAPPED,
                _ => ptr::from_ref(arguments) as u64,
            };
            RawCall { number: libc::SYS_clone3, arguments: [address, size_of::<CloneArgs>() as u64, 0] }
        }
        SpawnCall::Fork => RawCall { number: libc::SYS_fork, arguments: [0; 3] },
        SpawnCall::Vfork => RawCall { number: libc::SYS_vfork, arguments: [0; 3] },
    }
}

/// Where a child begins.
unsafe extern "C" fn enter(cradle: *const c_void) -> ! {
    // SAFETY: `make_child` passes its cradle, which outlives the child's use of it.
    let cradle = unsafe { &*cradle.cast::<Cradle<'_>>() };
    await_change(&cradle.gate, 0);
    let thread = cradle.origin.flags & CLONE_THREAD != 0;
    let result = live(cradle);
    let status = match &result {
        Ok(_) => 0,
        Err(failed) => {
            cradle.stage.shared.fail(failed.step, &failed.error.to_string());
            GAVE_UP
        }
    };
    // From here on a maker that shares this memory may run: nothing below touches libc's state.
    cradle.done.store(1, Ordering::Release);
    wake(&cradle.done);
    match result {
        Ok(Ending::BeKilled { .. }) => await_death(),
        _ => leave(thread, status),
    }
}

fn live(cradle: &Cradle<'_>) -> Result<Ending, Failed> {
    let failed = |error| Failed { step: cradle.step, error };
    let mut task =
        Task::start(cradle.stage, &cradle.origin, cradle.step, cradle.labels, cradle.bare, cradle.batch)
            .map_err(failed)?;
    task.seccomp = cradle.seccomp;
    task.ending = cradle.ending;
    if cradle.origin.flags & NamespaceType::User.flag() != 0 {
        privilege::map_root().map_err(failed)?;
    }
    if let Some(orphan) = cradle.orphan {
        outlive_maker(&task, orphan).map_err(failed)?;
    } else if cradle.origin.flags & CLONE_PARENT != 0 {
        announce(&task).map_err(failed)?;
    }
    (cradle.body)(&mut task)?;
    finish(&mut task, cradle.ending).map_err(|error| Failed { step: task.step, error })?;
    Ok(cradle.ending)
}

fn announce(task: &Task) -> Result<(), StepError> {
    // SAFETY: plain system call.
    let local_pid = unsafe { libc::getpid() } as u32;
    if task.stage.shared.announce(task.actor, local_pid, task.set.get(NamespaceEntry::Pid)) {
        Ok(())
    } else {
        Err(StepError::Scenario("too many orphans at a time"))
    }
}

/// Waits until the maker is dead and this task has another parent.
fn outlive_maker(task: &Task, orphan: Orphan) -> Result<(), StepError> {
    inherited::close(orphan.end.write);
    read_byte(orphan.end.read)?;
    // The maker's files are closed a moment before its children are given away.
    // SAFETY: plain system call.
    while unsafe { libc::getppid() } == orphan.maker {
        // SAFETY: plain system call.
        unsafe { libc::sched_yield() };
    }
    announce(task)
}

/// `pidfd_open(2)`.
pub fn pidfd_open(local_pid: i32) -> Result<RawFd, StepError> {
    // SAFETY: plain system call without pointers.
    let fd = inherited::check(unsafe { libc::syscall(libc::SYS_pidfd_open, local_pid, 0) })
        .map_err(StepError::call("pidfd_open"))?;
    // pidfds close on exec unless told otherwise, and an image that comes through exec still needs its labels.
    // SAFETY: plain system call on a descriptor that is open.
    unsafe { libc::fcntl(fd as RawFd, libc::F_SETFD, 0) };
    Ok(fd as RawFd)
}
