// SPDX-License-Identifier: MIT OR Apache-2.0
//! Audit events with a token in them, caused by the task that tells of them.
//!
//! Where the token stands in the log, see [`ProbeKind`].

use std::{ffi::CString, os::fd::RawFd, ptr};

use nstrail_wire::{
    fact::{Act, ProbeKind},
    step::SpawnCall,
};

use super::{
    census,
    death::{Ending, Status, reap},
    error::{Failed, StepError},
    inherited,
    packet::{self, Logger},
    spawn::{Make, make_child},
    task::Task,
    uring::{self, Poll},
};
use crate::{
    netlink::{AUDIT_ANOM_LOGIN_FAILURES, AUDIT_USER, AUDIT_USER_LOGIN, AuditSocket},
    rule::{AuditRule, RuleAction, RuleCalls, RuleList},
};

/// `nstr`: the first argument of a prctl, and the third one of a ptrace, that a rule can be made for. No prctl has this
/// number.
pub const MAGIC: u32 = 0x6e73_7472;
/// No system call has this number, nor any above it.
const FIRST_UNUSED_CALL: u32 = 1_000_000;

/// Does a [`Step::Probe`](nstrail_wire::step::Step::Probe).
pub fn cause(task: &mut Task, mut kind: ProbeKind) -> Result<(), StepError> {
    match kind {
        ProbeKind::Abend => return abend(task),
        ProbeKind::Listener => return listener(task),
        _ => {}
    }
    let token = task.stage.ledger.allocate_token();
    match kind {
        ProbeKind::UserMessage => user_message(AUDIT_USER, token)?,
        ProbeKind::UserLogin => user_message(AUDIT_USER_LOGIN, token)?,
        ProbeKind::UserAnomaly => user_message(AUDIT_ANOM_LOGIN_FAILURES, token)?,
        ProbeKind::Syscall => call(token),
        ProbeKind::Seccomp => seccomp(task, token)?,
        ProbeKind::Login => inherited::write_proc(c"thread-self/loginuid", token.to_string().as_bytes())
            .map_err(StepError::call("loginuid"))?,
        ProbeKind::ConfigChange => config_change(token)?,
        ProbeKind::Packet => packet::send(Logger::Xtables, token)?,
        ProbeKind::PacketOut => packet::send(Logger::XtablesOut, token)?,
        ProbeKind::Promiscuous => packet::listen_to_all(token)?,
        ProbeKind::NftPacket => packet::send(Logger::Nftables, token)?,
        ProbeKind::IoUring => kind = uring::make_directory(token)?,
        ProbeKind::IoUringInline => uring::open_file(Poll::No)?,
        ProbeKind::IoUringPoller => uring::open_file(Poll::Yes)?,
        ProbeKind::Rename => rename(token)?,
        ProbeKind::Abend | ProbeKind::Listener => {}
        ProbeKind::Ptrace | ProbeKind::Sent | ProbeKind::Received => {
            return Err(StepError::Scenario("a probe of another task: the steps `trace` and `datagram`"));
        }
        ProbeKind::IoUringReused => {
            return Err(StepError::Scenario("which worker it is, is not ours to say"));
        }
    }
    task.tell(Act::Probe { kind, token, set: task.set })?;
    match census::ids().map_err(StepError::call("NS_GET_ID"))? {
        Some(ids) => task.tell(Act::Ids { ids }),
        None => Ok(()),
    }
}

/// The system call of the `syscall` probe.
pub fn call(token: u64) {
    // SAFETY: an unknown prctl does nothing.
    unsafe { libc::syscall(libc::SYS_prctl, libc::c_long::from(MAGIC), token, 0, 0, 0) };
}

fn user_message(message_type: u16, token: u64) -> Result<(), StepError> {
    AuditSocket::open()
        .and_then(|socket| socket.user_message_of(message_type, format!("nstrail-token={token}").as_bytes()))
        .map_err(StepError::call("message to audit"))
}

/// Renames a file over another one, and removes what is left.
fn rename(token: u64) -> Result<(), StepError> {
    let path = |tail: &str| CString::new(format!("/nstrail-rename-{token}{tail}")).unwrap_or_default();
    let (source, target) = (path("-source"), path(""));
    for file in [&source, &target] {
        let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC;
        // SAFETY: the path is a C string.
        let fd = inherited::check(unsafe { libc::open(file.as_ptr(), flags, 0o600) }.into())
            .map_err(StepError::call("file to rename"))?;
        inherited::close(fd as RawFd);
    }
    // The libc may prefer another call of the family, and a rule names one.
    // SAFETY: both paths are C strings.
    inherited::check(unsafe { libc::syscall(libc::SYS_rename, source.as_ptr(), target.as_ptr()) })
        .map_err(StepError::call("rename"))?;
    // SAFETY: the path is a C string.
    inherited::check(unsafe { libc::unlink(target.as_ptr()) }.into())
        .map(drop)
        .map_err(StepError::call("unlink"))
}

/// Adds a rule that matches nothing, and removes it.
fn config_change(token: u64) -> Result<(), StepError> {
    let rule = AuditRule {
        list: RuleList::Exit,
        action: RuleAction::Always,
        calls: RuleCalls::Only(Vec::new()),
        fields: Vec::new(),
        key: Some(format!("nstrail-token-{token}").into_bytes()),
    };
    let rule = rule.encode().ok_or(StepError::Scenario("rule does not fit"))?;
    AuditSocket::open()
        .and_then(|socket| socket.add_rule(&rule).and_then(|()| socket.delete_rule(&rule)))
        .map_err(StepError::call("AUDIT_ADD_RULE"))
}

fn seccomp(task: &mut Task, token: u64) -> Result<(), StepError> {
    if !task.seccomp {
        // Load the call's number; from FIRST_UNUSED_CALL on, log it.
        let program = [
            libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
            libc::sock_filter { code: 0x35, jt: 0, jf: 1, k: FIRST_UNUSED_CALL },
            libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_LOG },
            libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: plain system call without pointers.
        inherited::check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
            .map_err(StepError::call("PR_SET_NO_NEW_PRIVS"))?;
        // SAFETY: the program is valid and only read.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
        inherited::check(result).map_err(StepError::call("seccomp"))?;
        task.seccomp = true;
    }
    // SAFETY: there is no such system call.
    unsafe { libc::syscall(u64::from(FIRST_UNUSED_CALL).wrapping_add(token) as libc::c_long) };
    Ok(())
}

/// A child that has joined audit's multicast group leaves the socket to its own end.
fn listener(task: &mut Task) -> Result<(), StepError> {
    let body = |child: &mut Task| -> Result<(), Failed> {
        let step = child.step;
        let failed = |error| Failed { step, error };
        let socket = AuditSocket::listen().map_err(StepError::call("multicast")).map_err(failed)?;
        std::mem::forget(socket);
        let token = child.stage.ledger.allocate_token();
        let set = child.set;
        child.tell(Act::Probe { kind: ProbeKind::Listener, token, set }).map_err(failed)
    };
    let make = Make::plain(SpawnCall::Fork, &[]);
    let made = make_child(task, &make, Ending::Exit, None, &body, None)?
        .ok_or(StepError::Scenario("fork was refused"))?;
    reap(task, made.actor, made.local_pid, Status::Success)
}

/// A child that tells of its own death beforehand, and dies by a null pointer.
fn abend(task: &mut Task) -> Result<(), StepError> {
    let body = |child: &mut Task| -> Result<(), Failed> {
        let token = child.stage.ledger.allocate_token();
        let set = child.set;
        child
            .tell(Act::Probe { kind: ProbeKind::Abend, token, set })
            .map_err(|error| Failed { step: child.step, error })?;
        // The runtime's own handler would try to tell stack overflows apart.
        // SAFETY: resets a signal to its default.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        // A fault, not a kill: a pid namespace's init cannot shield itself from it.
        // SAFETY: faults, and that is the end of this process, which shares no memory.
        unsafe { std::arch::asm!("mov byte ptr [{}], 0", in(reg) ptr::null_mut::<u8>()) };
        Ok(())
    };
    let make = Make::plain(SpawnCall::Fork, &[]);
    let made = make_child(task, &make, Ending::Exit, None, &body, None)?
        .ok_or(StepError::Scenario("fork was refused"))?;
    reap(task, made.actor, made.local_pid, Status::Signal(libc::SIGSEGV))
}
