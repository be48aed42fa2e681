// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss on purpose: what another process of the machine may do to audit, and the ledger is not told of.
//!
//! Each of these leaves the log without records that it should have, or could leave it so; the host must see that from what the kernel and the
//! collector say, and must not pass such a run.

use std::io;

use nstrail_wire::step::Meddle;

use super::{
    death::{self, GAVE_UP, kill, wait},
    error::StepError,
    inherited,
    pipe::Pipe,
    spawn::pidfd_open,
};
use crate::{
    control::{AuditControl, AuditRule, RuleAction, RuleCalls, RuleField, RuleList},
    netlink::{AuditSocket, Setting},
};

/// Events of a flood: three records each.
const FLOOD: u32 = 3_000;
/// As many as leave the collector's two sockets full (32 MiB, some 25,000 records) while it is stopped, and more.
const DELUGE: u32 = 40_000;
/// While the collector is stopped the kernel's own thread waits for it, and at last the flood waits for that thread.
const STOPPED: i32 = 4_000;
/// Field `AUDIT_MSGTYPE` of a rule.
const AUDIT_MSGTYPE: u32 = 12;
/// A definition.
const AUDIT_NSID_NEW: u32 = 1340;

/// Does a [`Step::Meddle`](nstrail_wire::step::Step::Meddle). For the main task.
pub fn step(audit: &dyn AuditControl, collector: u32, how: Meddle) -> Result<(), StepError> {
    let socket = AuditSocket::open().map_err(StepError::call("audit socket"))?;
    let set = |setting| socket.set(setting).map_err(StepError::call("AUDIT_SET"));
    match how {
        Meddle::Backlog => {
            let before = socket.status().map_err(StepError::call("AUDIT_GET"))?;
            set(Setting::BacklogWaitTime(0))?;
            set(Setting::BacklogLimit(1))?;
            flood(audit, || finish(flooder(FLOOD)?))?;
            set(Setting::BacklogLimit(before.backlog_limit))?;
            set(Setting::BacklogWaitTime(before.backlog_wait_time))
        }
        Meddle::RateLimit => {
            set(Setting::RateLimit(100))?;
            flood(audit, || finish(flooder(FLOOD)?))?;
            set(Setting::RateLimit(0))
        }
        Meddle::Exclude | Meddle::ExcludeBriefly => {
            let rule = exclude_definitions()?;
            socket.add_rule(&rule).map_err(StepError::call("AUDIT_ADD_RULE"))?;
            if how == Meddle::ExcludeBriefly {
                socket.delete_rule(&rule).map_err(StepError::call("AUDIT_DEL_RULE"))?;
            }
            Ok(())
        }
        Meddle::Disable => {
            set(Setting::Enabled(false))?;
            set(Setting::Enabled(true))
        }
        Meddle::Daemon => flood(audit, || replace_daemon(audit)),
        Meddle::StopReader => flood(audit, || stop(collector as libc::pid_t)),
    }
}

fn exclude_definitions() -> Result<Vec<u8>, StepError> {
    let rule = AuditRule {
        list: RuleList::Exclude,
        action: RuleAction::Always,
        calls: RuleCalls::Only(Vec::new()),
        fields: vec![RuleField::equal(AUDIT_MSGTYPE, AUDIT_NSID_NEW)],
        key: None,
    };
    rule.encode().ok_or(StepError::Scenario("rule does not fit"))
}

/// Has each getppid(2) logged meanwhile.
fn flood(audit: &dyn AuditControl, work: impl FnOnce() -> Result<(), StepError>) -> Result<(), StepError> {
    let rule = AuditRule {
        list: RuleList::Exit,
        action: RuleAction::Always,
        calls: RuleCalls::Only(vec![libc::SYS_getppid as u32]),
        fields: Vec::new(),
        key: Some(b"nstrail-flood".to_vec()),
    };
    audit.add_rule(&rule).map_err(StepError::call("AUDIT_ADD_RULE"))?;
    work()?;
    audit.delete_rule(&rule).map_err(StepError::call("AUDIT_DEL_RULE"))
}

/// A process that does `body`, and that the ledger knows nothing of.
fn stranger(body: impl FnOnce() -> io::Result<()>) -> Result<libc::pid_t, StepError> {
    // SAFETY: the child uses nothing that another thread of this process could have held.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        death::leave(false, if body().is_ok() { 0 } else { GAVE_UP });
    }
    inherited::check(pid.into()).map_err(StepError::call("fork")).map(|pid| pid as libc::pid_t)
}

fn flooder(events: u32) -> Result<libc::pid_t, StepError> {
    stranger(|| {
        for _ in 0..events {
            // SAFETY: plain system call.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        Ok(())
    })
}

fn finish(pid: libc::pid_t) -> Result<(), StepError> {
    match wait(pid)?.1 {
        0 => Ok(()),
        _ => Err(StepError::Scenario("the process that meddles gave up")),
    }
}

/// Another process is the audit daemon while events come.
fn replace_daemon(audit: &dyn AuditControl) -> Result<(), StepError> {
    audit.be_daemon(false).map_err(StepError::call("audit daemon"))?;
    let ready = Pipe::new()?;
    let daemon = stranger(|| {
        let socket = AuditSocket::open()?;
        socket.set(Setting::Pid(std::process::id()))?;
        super::pipe::write_byte(ready.write).map_err(io::Error::other)?;
        // Until it is killed.
        socket.discard()
    })?;
    ready.await_byte()?;
    finish(flooder(FLOOD)?)?;
    kill(daemon)?;
    wait(daemon)?;
    audit.be_daemon(true).map_err(StepError::call("audit daemon"))
}

/// Stops the collector while events come.
fn stop(collector: libc::pid_t) -> Result<(), StepError> {
    let signal = |signal| {
        // SAFETY: plain system call; the collector lives as long as this process.
        inherited::check(unsafe { libc::kill(collector, signal) }.into())
            .map(drop)
            .map_err(StepError::call("kill"))
    };
    signal(libc::SIGSTOP)?;
    let flooder = flooder(DELUGE)?;
    let mut end = libc::pollfd { fd: pidfd_open(flooder)?, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut end, 1, STOPPED) };
    inherited::close(end.fd);
    kill(flooder)?;
    signal(libc::SIGCONT)?;
    wait(flooder).map(drop)
}
