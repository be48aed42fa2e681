// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making tasks, and seeing them off.
//!
//! A maker and the task that it made never run at the same time when they share memory, and with it libc's state:
//! the child waits at a gate until its maker has told of the call, and then its maker waits until the
//! child has done its steps. With vfork the kernel itself sees to that.

use std::{
    ffi::c_void,
    io,
    os::fd::RawFd,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use nstrail_wire::{
    errno::Errno,
    fact::{Act, ActorId, Call, Outcome},
    namespace::{CLONE_PARENT, CLONE_THREAD, CLONE_VFORK, CLONE_VM, NamespaceEntry, NamespaceType},
    step::{Death, Fault, Spawn, SpawnCall, SpawnFlag, Step},
};
use serde::{Deserialize, Serialize};

use super::{
    cgroup::Cgroup,
    error::{Failed, StepError},
    inherited::{self, PROC},
    privilege,
    task::{Origin, Stage, Task, hold},
    trampoline::{CloneArgs, RawCall, Stack, make_task},
};

/// Exit status of a task that could not do its steps: the reason is in [`super::shared`].
pub const GAVE_UP: libc::c_int = 97;
/// An address that is never mapped (below `mmap_min_addr`).
const UNMAPPED: u64 = 8;

/// A labelled child that waits to be released.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub label: String,
    pub actor: ActorId,
    pub local_pid: i32,
    /// A byte written here ends it.
    pub release: RawFd,
}

/// A task whose namespaces can be joined by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Label {
    pub name: String,
    /// In the initial pid namespace.
    pub tid: u32,
    pub pidfd: RawFd,
}

/// What a task does when its steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Exit,
    /// Says so at `ready`, then waits for a byte from `release`.
    Wait {
        ready: RawFd,
        release: RawFd,
        /// The other end of `release`: closed first, so that the maker's death is noticed.
        releaser: RawFd,
    },
    /// Says so at `ready`, then waits to be killed.
    BeKilled {
        ready: RawFd,
    },
}

/// How to make a task.
#[derive(Clone, Copy, Debug)]
pub struct Make {
    pub call: SpawnCall,
    /// All flags, without the exit signal.
    pub flags: u64,
    pub fault: Option<Fault>,
    pub cgroup: RawFd,
}

impl Make {
    /// A call with namespace types and nothing else.
    pub fn plain(call: SpawnCall, types: &[NamespaceType]) -> Self {
        Self { call, flags: bits(types), fault: None, cgroup: -1 }
    }

    /// The flags as the ledger has them: vfork implies two.
    const fn told_flags(&self) -> u64 {
        match self.call {
            SpawnCall::Vfork => CLONE_VM | CLONE_VFORK,
            _ => self.flags,
        }
    }

    const fn told_call(&self) -> Call {
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
    /// What it runs on if it shares its maker's memory: unmapped when this is dropped, after its end.
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
    let make = Make {
        call: spawn.call,
        flags: bits(&spawn.flags) | others,
        fault: spawn.fault,
        cgroup: cgroup.as_ref().map_or(PROC, Cgroup::fd),
    };
    let leaves = foundlings(&spawn.inside);
    if leaves > 0 {
        // SAFETY: plain system call without pointers.
        let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        inherited::check(result.into()).map_err(StepError::call("PR_SET_CHILD_SUBREAPER"))?;
    }
    let body = |child: &mut Task| child.walk(&spawn.inside, number + 1);
    let mut born = |ending, orphan| make_child(task, &make, ending, orphan, &body, spawn.expect);
    if let Some(name) = &spawn.label {
        let (ready, release) = (Pipe::new()?, Pipe::new()?);
        let ending = Ending::Wait { ready: ready.write, release: release.read, releaser: release.write };
        if let Some(made) = born(ending, None)? {
            ready.await_byte()?;
            inherited::close(release.read);
            let (actor, local_pid) = (made.actor, made.local_pid);
            let tid = task.stage.shared.tid(actor);
            task.labels.push(Label { name: name.clone(), tid, pidfd: pidfd_open(local_pid)? });
            task.kept.push(Kept { label: name.clone(), actor, local_pid, release: release.write });
        }
    } else if spawn.death == Death::Orphan {
        // Our end of the pipe closes when we die.
        let end = Pipe::new()?;
        // SAFETY: plain system call.
        let maker = unsafe { libc::getpid() };
        born(Ending::Exit, Some(Orphan { maker, end }))?;
        inherited::close(end.read);
    } else if spawn.death == Death::Kill {
        let ready = Pipe::new()?;
        if let Some(made) = born(Ending::BeKilled { ready: ready.write }, None)? {
            ready.await_byte()?;
            kill(made.local_pid)?;
            see_off(task, &made, &make, Death::Kill)?;
        }
    } else if make.flags & CLONE_PARENT != 0 {
        let end = Pipe::new()?;
        if born(Ending::Exit, None)?.is_some() {
            end.await_end()?;
        }
    } else if let Some(made) = born(Ending::Exit, None)? {
        see_off(task, &made, &make, Death::Exit)?;
    }
    for _ in 0..leaves {
        adopt(task)?;
    }
    cgroup.map_or(Ok(()), Cgroup::remove)
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
        gate: AtomicU32::new(u32::from(!takes_turns)),
        done: AtomicU32::new(0),
    };
    let stack = shares_memory.then(Stack::map).transpose().map_err(StepError::call("stack"))?;
    let mut pidfd: RawFd = -1;
    let pid_one: i32 = 1;
    let arguments = clone_args(make, &mut pidfd, &pid_one);
    let raw = raw_call(make, &arguments);
    // SAFETY: `enter` takes a cradle; it lives until the child is done with it, as the child has a copy or
    // its maker waits below; a stack is there if memory is shared.
    let result = unsafe { make_task(raw, stack.as_ref(), enter, ptr::from_ref(&cradle).cast::<c_void>()) };
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
    hold(&format!("{:?} with flags {told_flags:#x}", make.told_call()), errno, expect)?;
    Ok(errno.is_none().then_some(Made { actor, local_pid: result as i32, _stack: stack }))
}

fn clone_args(make: &Make, pidfd: &mut RawFd, pid_one: &i32) -> CloneArgs {
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
    match make.fault {
        Some(Fault::TakenPid) => {
            arguments.set_tid = ptr::from_ref(pid_one) as u64;
            arguments.set_tid_size = 1;
        }
        Some(Fault::ExitSignal) => arguments.exit_signal = 200,
        _ => {}
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
    let mut task = Task::start(cradle.stage, &cradle.origin, cradle.step, cradle.labels).map_err(failed)?;
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

/// The last acts of a task whose steps are done. Returns before the exit, or the wait to be killed.
pub fn finish(task: &mut Task, ending: Ending) -> Result<(), StepError> {
    match ending {
        Ending::Exit => task.end(),
        Ending::Wait { ready, release, releaser } => {
            inherited::close(releaser);
            write_byte(ready)?;
            inherited::close(ready);
            if !read_byte(release)? {
                // The maker was killed, and its pid namespace dies with it. Whether this task noticed that
                // before its own death must not show in the ledger.
                await_death();
            }
            task.end()
        }
        Ending::BeKilled { ready } => write_byte(ready),
    }
}

/// Waits for SIGKILL.
pub fn await_death() -> ! {
    loop {
        // SAFETY: plain system call without pointers.
        unsafe { libc::pause() };
    }
}

/// Ends the calling task, at once and without libc.
pub fn leave(thread: bool, status: libc::c_int) -> ! {
    let number = if thread { libc::SYS_exit } else { libc::SYS_exit_group };
    loop {
        // SAFETY: plain system call; it does not return.
        unsafe { libc::syscall(number, status) };
    }
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

/// Waits for the end of a task, and tells of it.
pub fn see_off(task: &mut Task, made: &Made, make: &Make, death: Death) -> Result<(), StepError> {
    if make.flags & CLONE_THREAD != 0 {
        // Nobody can wait for a thread: it is over when its number names nobody.
        // SAFETY: plain system calls without pointers; signal 0 is never delivered.
        while unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), made.local_pid, 0) } == 0 {
            // SAFETY: plain system call.
            unsafe { libc::sched_yield() };
        }
        return gave_up(task);
    }
    reap(task, made.actor, made.local_pid, death.into())
}

/// The end that a task must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    Signal(libc::c_int),
}

impl From<Death> for Status {
    fn from(death: Death) -> Self {
        match death {
            Death::Exit | Death::Orphan => Self::Success,
            Death::Kill => Self::Signal(libc::SIGKILL),
        }
    }
}

/// `wait` for a child, and the fact.
pub fn reap(task: &mut Task, actor: ActorId, local_pid: i32, expected: Status) -> Result<(), StepError> {
    let status = wait(local_pid)?.1;
    let tid = task.stage.shared.tid(actor);
    task.tell(Act::Reaped { child: actor, tid, status })?;
    let as_expected = match expected {
        Status::Success => status == 0,
        // With or without a core dump.
        Status::Signal(signal) => status & 0x7f == signal,
    };
    if as_expected {
        return Ok(());
    }
    gave_up(task)?;
    Err(StepError::Death { child: actor.0, status, expected })
}

/// An error that a task left behind ends its maker too.
fn gave_up(task: &Task) -> Result<(), StepError> {
    if task.stage.shared.failure().is_some() {
        return Err(StepError::Scenario("a task inside gave up"));
    }
    Ok(())
}

/// Reaps one task that somebody else made.
fn adopt(task: &mut Task) -> Result<(), StepError> {
    let (local_pid, status) = wait(-1)?;
    let actor = task
        .stage
        .shared
        .recognise(local_pid as u32, task.set.get(NamespaceEntry::Pid))
        .ok_or(StepError::Stranger(local_pid.into()))?;
    let tid = task.stage.shared.tid(actor);
    task.tell(Act::Reaped { child: actor, tid, status })?;
    if status != 0 {
        gave_up(task)?;
        return Err(StepError::Death { child: actor.0, status, expected: Status::Success });
    }
    Ok(())
}

/// Does a [`Step::Release`].
pub fn release(task: &mut Task, label: &str) -> Result<(), StepError> {
    let at = task.kept.iter().position(|kept| kept.label == label);
    let kept = task.kept.remove(at.ok_or_else(|| StepError::Label(label.to_owned()))?);
    end_kept(task, kept)
}

/// Lets a labelled child go, and reaps it.
pub fn end_kept(task: &mut Task, kept: Kept) -> Result<(), StepError> {
    write_byte(kept.release)?;
    reap(task, kept.actor, kept.local_pid, Status::Success)?;
    inherited::close(kept.release);
    Ok(())
}

/// Sends SIGKILL.
pub fn kill(local_pid: i32) -> Result<(), StepError> {
    // SAFETY: plain system call on a child that is not reaped yet.
    inherited::check(unsafe { libc::kill(local_pid, libc::SIGKILL) }.into())
        .map_err(StepError::call("kill"))?;
    Ok(())
}

/// `waitpid`, for any kind of child.
pub fn wait(local_pid: i32) -> Result<(i32, i32), StepError> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable.
        let result = unsafe { libc::waitpid(local_pid, &raw mut status, libc::__WALL) };
        match inherited::check(result.into()) {
            Ok(pid) => return Ok((pid as i32, status)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StepError::Call { what: "wait", source: error }),
        }
    }
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

/// A pipe between a maker and its child. Both ends are open in both until one closes them.
#[derive(Clone, Copy, Debug)]
pub struct Pipe {
    pub read: RawFd,
    pub write: RawFd,
}

impl Pipe {
    pub fn new() -> Result<Self, StepError> {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two descriptors.
        inherited::check(unsafe { libc::pipe(ends.as_mut_ptr()) }.into()).map_err(StepError::call("pipe"))?;
        Ok(Self { read: ends[0], write: ends[1] })
    }

    /// Waits for the byte of a child that has done its steps, or finds that it died before.
    pub fn await_byte(self) -> Result<(), StepError> {
        inherited::close(self.write);
        let done = read_byte(self.read)?;
        inherited::close(self.read);
        if done { Ok(()) } else { Err(StepError::Scenario("a task inside ended too early")) }
    }

    /// Waits until nobody else holds the writing end.
    fn await_end(self) -> Result<(), StepError> {
        inherited::close(self.write);
        read_byte(self.read)?;
        inherited::close(self.read);
        Ok(())
    }
}

fn write_byte(fd: RawFd) -> Result<(), StepError> {
    // SAFETY: one byte of a constant.
    let result = unsafe { libc::write(fd, b"!".as_ptr().cast(), 1) };
    inherited::check(result as libc::c_long).map(drop).map_err(StepError::call("write to a pipe"))
}

/// False at the end of the pipe.
fn read_byte(fd: RawFd) -> Result<bool, StepError> {
    let mut byte = 0_u8;
    // SAFETY: `byte` is writable.
    let result = unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
    inherited::check(result as libc::c_long).map(|n| n == 1).map_err(StepError::call("read from a pipe"))
}

fn await_change(word: &AtomicU32, from: u32) {
    while word.load(Ordering::Acquire) == from {
        // SAFETY: the word outlives the call; a wake-up without a change is caught by the loop.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, from, ptr::null::<c_void>())
        };
    }
}

fn wake(word: &AtomicU32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
