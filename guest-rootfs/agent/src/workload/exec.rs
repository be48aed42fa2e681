// SPDX-License-Identifier: MIT OR Apache-2.0
//! A task replaces its image by the agent's own executable, and the new image goes on with the steps.
//!
//! What the new image must know crosses in a memory file, whose number is its argument.

use std::{
    convert::Infallible,
    ffi::OsString,
    fs::File,
    io::{Read, Seek, Write},
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd},
    ptr,
};

use nstrail_wire::{
    fact::{Act, ActorId, Call, Outcome, ProbeKind},
    namespace::{NamespaceEntry, NamespaceSet},
    step::{Exec, ExecBy, Step},
    version::KernelVersion,
};
use serde::{Deserialize, Serialize};

use super::{
    census,
    death::{self, Ending, GAVE_UP, Kept},
    error::StepError,
    inherited::{self, EXECUTABLE},
    shared::Shared,
    spawn::Label,
    task::{Stage, Task, hold},
};
use crate::ledger::{self, Ledger};

const NO_SUCH_FILE: &std::ffi::CStr = c"/nstrail-no-such-file";

/// A task on its way through exec.
#[derive(Debug, Serialize, Deserialize)]
struct Passenger {
    actor: ActorId,
    number: u32,
    step: u32,
    before: NamespaceSet,
    seed: u64,
    seccomp: bool,
    kept: Vec<Kept>,
    labels: Vec<Label>,
    ending: Ending,
    inside: Vec<Step>,
}

/// Does a [`Step::Exec`]. Returns only if the exec fails.
pub fn step(task: &mut Task, exec: &Exec, number: u32) -> Result<(), StepError> {
    let passenger = Passenger {
        actor: task.actor,
        number: task.number,
        step: number,
        before: task.set,
        seed: task.stage.seed,
        seccomp: task.seccomp,
        kept: task.kept.clone(),
        labels: task.labels.clone(),
        ending: task.ending,
        inside: exec.inside.clone(),
    };
    let file = luggage(&passenger)?;
    let argument = std::ffi::CString::new(file.to_string()).unwrap_or_default();
    let arguments = [c"nstrail-agent".as_ptr(), c"exec-step".as_ptr(), argument.as_ptr(), ptr::null()];
    let environment = [ptr::null::<libc::c_char>()];
    let (directory, path, flags) = match exec.expect {
        Some(_) => (libc::AT_FDCWD, NO_SUCH_FILE, 0),
        None => (EXECUTABLE, c"", libc::AT_EMPTY_PATH),
    };
    let result = match exec.by {
        // SAFETY: a path and two lists of C strings that end with a null.
        ExecBy::Descriptor => unsafe {
            libc::syscall(
                libc::SYS_execveat,
                directory,
                path.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
                flags,
            )
        },
        ExecBy::Path => {
            let own = std::ffi::CString::new(format!("/proc/self/fd/{EXECUTABLE}")).unwrap_or_default();
            let path = if exec.expect.is_some() { path } else { own.as_c_str() };
            // SAFETY: as above.
            unsafe {
                libc::syscall(libc::SYS_execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr())
            }
        }
    };
    let errno = inherited::check(result).err().and_then(|error| error.raw_os_error()).unwrap_or(0);
    inherited::close(file);
    task.tell_operation(Call::Exec, 0, 0, Outcome::Failed { errno })?;
    hold("execve", Some(errno), exec.expect)
}

/// Executes a file whose segment cannot be mapped, which is the caller's end: told beforehand, like the event of its death. Returns only if
/// the kernel refuses the file while there is a way back.
pub fn die(task: &mut Task) -> Result<Infallible, StepError> {
    let file = memory_file(&unmappable())?;
    let before = task.set;
    let mut after = before;
    if enters_time_namespaces()? {
        after.set(NamespaceEntry::Time, before.get(NamespaceEntry::TimeForChildren));
    }
    task.set = after;
    if after != before {
        task.count_container();
    }
    task.tell(Act::Operation {
        call: Call::Exec,
        flags: 0,
        passed: 0,
        outcome: Outcome::Done,
        before,
        after,
    })?;
    let token = task.stage.ledger.allocate_token();
    task.tell(Act::Probe { kind: ProbeKind::Abend, token, set: after })?;
    let none = [ptr::null::<libc::c_char>()];
    let arguments = [c"nstrail-unmappable".as_ptr(), ptr::null()];
    // SAFETY: an open file and two lists of C strings that end with a null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file,
            c"".as_ptr(),
            arguments.as_ptr(),
            none.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    match inherited::check(result) {
        Err(error) => Err(StepError::Call { what: "execve of a file that cannot be mapped", source: error }),
        Ok(_) => Err(StepError::Scenario("execve of a file that cannot be mapped came back")),
    }
}

/// Whether an execve enters the pending time namespace: since 2b5f9dad32ed ("fs/exec: switch timens when a task gets a new mm"), Linux 6.3. Taken from
/// the version, since whoever looks at it is gone: of an older kernel that has that commit too, this would tell what is not so.
fn enters_time_namespaces() -> Result<bool, StepError> {
    let mut room = [0; 128];
    let release =
        inherited::read_proc(c"sys/kernel/osrelease", &mut room).map_err(StepError::call("osrelease"))?;
    let version = KernelVersion::of(&String::from_utf8_lossy(release))
        .ok_or(StepError::Scenario("the kernel's release has no version"))?;
    Ok(version >= KernelVersion { major: 6, minor: 3 })
}

/// An ELF executable for x86-64 that is right in all that execve(2) looks at while it can still refuse it, and has its one segment at the end of
/// the address space.
fn unmappable() -> Vec<u8> {
    /// `TASK_SIZE_MAX` with four levels of page tables: the first address that no process can have.
    const END: u64 = 0x7fff_ffff_f000;
    const HEADER: u16 = 64;
    const SEGMENT: u16 = 56;
    let mut file = Vec::new();
    // Class 64 bits, little endian, version 1; ET_EXEC, EM_X86_64.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&2_u16.to_le_bytes());
    file.extend_from_slice(&62_u16.to_le_bytes());
    file.extend_from_slice(&1_u32.to_le_bytes());
    // Entry, program headers, section headers.
    for word in [END, u64::from(HEADER), 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&0_u32.to_le_bytes());
    for half in [HEADER, SEGMENT, 1, 0, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    file.extend_from_slice(&1_u32.to_le_bytes());
    file.extend_from_slice(&5_u32.to_le_bytes());
    for word in [0, END, END, 0x1000, 0x1000, 0x1000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.resize(0x1000, 0);
    file
}

fn luggage(passenger: &Passenger) -> Result<RawFd, StepError> {
    memory_file(&postcard::to_stdvec(passenger)?)
}

/// A file that holds these bytes, and is read from their start.
fn memory_file(bytes: &[u8]) -> Result<RawFd, StepError> {
    // SAFETY: the name is a C string; no flags, so that the descriptor survives exec.
    let fd = inherited::check(unsafe { libc::memfd_create(c"nstrail-exec".as_ptr(), 0) }.into())
        .map_err(StepError::call("memfd_create"))?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    let mut file = unsafe { File::from_raw_fd(fd as RawFd) };
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(StepError::call("memory file"))?;
    Ok(file.into_raw_fd())
}

/// What an image does that was executed by a step: the rest of its task's life.
///
/// `arguments` is the whole command line: `AGENT exec-step DESCRIPTOR`.
pub fn entry(arguments: &[OsString]) -> ! {
    let status = match arrive(arguments.get(2).and_then(|argument| argument.to_str())) {
        Ok(()) => 0,
        Err(reason) => {
            // The memory that errors pass through may be the very thing that is missing: tell the collector.
            let _ = ledger::report_failure(reason.as_bytes());
            GAVE_UP
        }
    };
    death::leave(false, status)
}

fn arrive(argument: Option<&str>) -> Result<(), String> {
    let fd: RawFd = argument.and_then(|fd| fd.parse().ok()).ok_or("exec-step: no descriptor is named")?;
    // SAFETY: the descriptor was passed to this image for it to own.
    let mut file = unsafe { File::from_raw_fd(fd) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| format!("exec-step: {error}"))?;
    debug_assert_eq!(file.as_raw_fd(), fd);
    drop(file);
    let passenger: Passenger = postcard::from_bytes(&bytes).map_err(|error| format!("exec-step: {error}"))?;
    let ledger = Ledger::inherited().map_err(|error| format!("exec-step: ledger: {error}"))?;
    let shared = Shared::inherited().map_err(|error| format!("exec-step: shared memory: {error}"))?;
    let inside = passenger.inside.clone();
    let (first, ending) = (passenger.step + 1, passenger.ending);
    let step = passenger.step;
    let result = resume(Stage { ledger, shared, seed: passenger.seed }, passenger)
        .map_err(|error| (step, error))
        .and_then(|mut task| {
            task.walk(&inside, first).map_err(|failed| (failed.step, failed.error))?;
            death::finish(&mut task, ending).map_err(|error| (task.step, error))
        });
    match result {
        Ok(()) => {
            if let Ending::BeKilled { .. } = ending {
                death::await_death();
            }
            Ok(())
        }
        Err((step, error)) => {
            shared.fail(step, &error.to_string());
            death::leave(false, GAVE_UP)
        }
    }
}

/// The task as it was before the exec, and its word that it came through.
fn resume(stage: Stage, passenger: Passenger) -> Result<Task, StepError> {
    let mut task = Task {
        stage,
        actor: passenger.actor,
        number: passenger.number,
        numbers: census::numbers().map_err(StepError::call("thread-self"))?,
        set: passenger.before,
        step: passenger.step,
        seccomp: passenger.seccomp,
        ending: passenger.ending,
        kept: passenger.kept,
        labels: passenger.labels,
        bare: false,
        batch: None,
        control: None,
    };
    task.tell_operation(Call::Exec, 0, 0, Outcome::Done)?;
    if task.set.get(NamespaceEntry::Time) != passenger.before.get(NamespaceEntry::Time) {
        task.count_container();
    }
    Ok(task)
}
