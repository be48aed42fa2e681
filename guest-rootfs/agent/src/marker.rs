// SPDX-License-Identifier: MIT OR Apache-2.0
//! The set that ends a run: a lost id at the very end leaves no hole (CONTRACT.md G3), so the last id must be one that
//! is known to have been given.

use std::io;

use nstrail_wire::{
    fact::{Act, Call, Fact, Outcome, ProbeKind},
    namespace::NamespaceType,
};

use crate::{census::own_set, ledger::Ledger, netlink::AuditSocket, workload::census::ids_in};

/// The step of the marker's facts.
pub const MARKER_STEP: u32 = u32::MAX;

/// Makes a set of its own with `clone3(CLONE_NEWUTS)`, whose only task tells what it sees, sends a user message and ends.
///
/// For the main task. The set has been released when this returns.
///
/// # Errors
/// If a call fails, or the child says that one of its own did.
pub fn make_set(ledger: &Ledger) -> io::Result<()> {
    ledger.enter_step(MARKER_STEP);
    let flags = NamespaceType::Uts.flag();
    let before = own_set();
    let actor = ledger.allocate_actor();
    let token = ledger.allocate_token();
    // SAFETY: all-zero is a valid argument: a plain fork, with no stack of its own and no pointers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: a fork from the only thread of this process, so the child finds no lock held; it ends in `_exit`.
    let tid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    if tid < 0 {
        return Err(io::Error::last_os_error());
    }
    if tid == 0 {
        let set = own_set();
        let pid = std::process::id();
        let fact = |number, act| Fact { actor, number, tid: pid, pid, step: MARKER_STEP, act };
        let start = Act::Start {
            parent: Some(nstrail_wire::fact::ActorId(1)),
            call: Call::Clone3,
            flags,
            parent_set: before,
            set,
        };
        let told = ledger
            .write(&fact(0, start))
            .and_then(|()| AuditSocket::open())
            .and_then(|socket| socket.user_message(format!("nstrail-token={token} marker").as_bytes()))
            .and_then(|()| ledger.write(&fact(1, Act::Probe { kind: ProbeKind::UserMessage, token, set })))
            .and_then(|()| ids_in(libc::AT_FDCWD, c"/proc/thread-self/ns"))
            .and_then(|ids| {
                let ids = ids.map(|ids| Act::Ids { ids });
                let acts = ids.into_iter().chain([Act::End]);
                (2..).zip(acts).try_for_each(|(number, act)| ledger.write(&fact(number, act)))
            });
        let status = told.map_or_else(|error| error.raw_os_error().unwrap_or(255), |()| 0);
        // SAFETY: ends the child, whose memory is a copy of its parent's.
        unsafe { libc::_exit(status) };
    }
    let tid = tid as u32;
    let outcome = Outcome::Child { actor, tid };
    let after = own_set();
    ledger.write_main(Act::Operation { call: Call::Clone3, flags, passed: flags, outcome, before, after })?;
    let mut status = 0;
    // SAFETY: `status` is writable.
    while unsafe { libc::waitpid(tid as libc::pid_t, &raw mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    ledger.write_main(Act::Reaped { child: actor, tid, status })?;
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        Ok(())
    } else if libc::WIFEXITED(status) {
        Err(io::Error::from_raw_os_error(libc::WEXITSTATUS(status)))
    } else {
        Err(io::Error::other(format!("its task ended with wait status {status:#x}")))
    }
}
