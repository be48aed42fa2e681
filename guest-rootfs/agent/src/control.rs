// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1's hold on the audit subsystem and the collector: fences, rules, and the state of audit.

use std::{
    cell::{Cell, RefCell},
    io,
};

use nstrail_wire::{
    fact::{Act, AuditFact, When},
    message::GuestMessage,
};

pub use crate::rule::{AuditRule, RuleAction, RuleCalls, RuleField, RuleList};
use crate::{
    collector::command::{Command, Connection, Reply},
    ledger::Ledger,
    netlink::{AuditSocket, Setting},
    rule::RuleCount,
};

/// What a workload may do to audit. For the main task only: all of it speaks as actor 1.
pub trait AuditControl {
    /// Sends the marker `nstrail-fence=NUMBER`, waits until the collector has seen it on both sockets and
    /// all facts up to here are on their way to the host, and then tells `Act::Fence`.
    ///
    /// # Errors
    /// While audit is off, when no marker is logged; after the collector's limits.
    fn fence(&self, number: u32) -> io::Result<()>;

    /// Adds a rule. Its CONFIG_CHANGE record is caused by the main task.
    ///
    /// # Errors
    /// What the kernel answers: `EEXIST` for one that is there.
    fn add_rule(&self, rule: &AuditRule) -> io::Result<()>;

    /// Deletes a rule.
    ///
    /// # Errors
    /// What the kernel answers: `ENOENT` for one that is not there.
    fn delete_rule(&self, rule: &AuditRule) -> io::Result<()>;

    /// Turns audit on or off, and tells it as `AuditFact::Enabled`.
    ///
    /// # Errors
    /// What the kernel answers.
    fn set_enabled(&self, on: bool) -> io::Result<()>;

    /// Lets so many records wait for their reader, or as many as at boot. The ledger need not know: nothing is lost by it as long as those who log
    /// wait for room.
    ///
    /// # Errors
    /// What the kernel answers.
    fn set_backlog(&self, limit: Option<u32>) -> io::Result<()>;

    /// Locks audit's configuration for good.
    ///
    /// # Errors
    /// What the kernel answers.
    fn lock(&self) -> io::Result<()>;

    /// Stops being the audit daemon, or is it again.
    ///
    /// # Errors
    /// In the collector's words.
    fn be_daemon(&self, on: bool) -> io::Result<()>;
}

/// The connection to the collector, and a netlink socket of PID 1's own.
#[derive(Debug)]
pub struct AuditController {
    connection: RefCell<Connection>,
    ledger: Ledger,
    socket: AuditSocket,
    enabled: Cell<bool>,
    /// The backlog limit of the boot, once it has been changed.
    backlog: Cell<Option<u32>>,
}

impl AuditController {
    /// Opens the socket.
    ///
    /// # Errors
    /// If the kernel has no audit.
    pub fn new(connection: Connection, ledger: Ledger) -> io::Result<Self> {
        let socket = AuditSocket::open()?;
        Ok(Self {
            connection: RefCell::new(connection),
            ledger,
            socket,
            enabled: Cell::new(true),
            backlog: Cell::new(None),
        })
    }

    /// Passes a message on to the host.
    ///
    /// # Errors
    /// In the collector's words.
    pub fn send(&self, message: GuestMessage) -> io::Result<()> {
        self.call(&Command::Send(message)).map(drop)
    }

    /// Gives the collector a command that has no result.
    ///
    /// # Errors
    /// In the collector's words.
    pub fn command(&self, command: &Command) -> io::Result<()> {
        self.call(command).map(drop)
    }

    fn call(&self, command: &Command) -> io::Result<Reply> {
        let mut connection = self.connection.borrow_mut();
        connection.send(command)?;
        match connection.receive()? {
            Some(Reply::Failed { reason }) => Err(io::Error::other(reason)),
            Some(reply) => Ok(reply),
            None => Err(io::Error::other("the collector is gone (hint: see the console)")),
        }
    }

    /// Waits until all facts told up to here are on their way to the host.
    ///
    /// # Errors
    /// In the collector's words.
    pub fn drain_ledger(&self) -> io::Result<()> {
        let sync = self.ledger.sync()?;
        self.command(&Command::AwaitLedger { sync })
    }

    /// Tells `AuditFact::Status` and `AuditFact::Rules`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn tell_state(&self, when: When) -> io::Result<()> {
        let status = self.socket.status()?;
        self.ledger.write_main(Act::Audit(AuditFact::Status { when, status }))?;
        let mut count = RuleCount::default();
        self.socket.rules(|rule| count.add(rule))?;
        let RuleCount { exclude, task_never, other } = count;
        self.ledger.write_main(Act::Audit(AuditFact::Rules { when, exclude, task_never, other }))
    }

    /// Tells `AuditFact::Collected`, after the last fence.
    ///
    /// # Errors
    /// In the collector's words.
    pub fn tell_collected(&self) -> io::Result<()> {
        match self.call(&Command::Collected)? {
            Reply::Collected(fact) => self.ledger.write_main(Act::Audit(fact)),
            other => Err(io::Error::other(format!("the collector answered {other:?} instead of its totals"))),
        }
    }

    /// The log has a rule's record only while audit is on.
    fn tell_rule(&self, rule: &AuditRule, added: bool) -> io::Result<()> {
        if !self.enabled.get() {
            return Ok(());
        }
        self.ledger.write_main(Act::Audit(AuditFact::Rule { list: rule.list as u32, added }))
    }

    fn encode(rule: &AuditRule) -> io::Result<Vec<u8>> {
        let error = "the rule has more fields, or a higher call number, than one can have";
        rule.encode().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, error))
    }
}

impl AuditControl for AuditController {
    fn fence(&self, number: u32) -> io::Result<()> {
        if !self.enabled.get() {
            return Err(io::Error::other(format!("fence {number} would not be logged while audit is off")));
        }
        self.socket.user_message(format!("nstrail-fence={number}").as_bytes())?;
        self.command(&Command::AwaitFence { number })?;
        self.ledger.write_main(Act::Fence { number })?;
        self.drain_ledger()
    }

    fn add_rule(&self, rule: &AuditRule) -> io::Result<()> {
        self.socket.add_rule(&Self::encode(rule)?)?;
        self.tell_rule(rule, true)
    }

    fn delete_rule(&self, rule: &AuditRule) -> io::Result<()> {
        self.socket.delete_rule(&Self::encode(rule)?)?;
        self.tell_rule(rule, false)
    }

    fn set_backlog(&self, limit: Option<u32>) -> io::Result<()> {
        let before = match self.backlog.get() {
            Some(before) => before,
            None => self.socket.status()?.backlog_limit,
        };
        self.backlog.set(Some(before));
        self.socket.set(Setting::BacklogLimit(limit.unwrap_or(before)))
    }

    fn lock(&self) -> io::Result<()> {
        self.socket.set(Setting::Locked)
    }

    fn be_daemon(&self, on: bool) -> io::Result<()> {
        self.command(&Command::Daemon { on })
    }

    fn set_enabled(&self, on: bool) -> io::Result<()> {
        // What happens while audit is off stands between the two in what perf tells.
        if !on {
            self.command(&Command::Audit { enabled: on })?;
        }
        self.socket.set(Setting::Enabled(on))?;
        if on {
            self.command(&Command::Audit { enabled: on })?;
        }
        self.enabled.set(on);
        self.ledger.write_main(Act::Audit(AuditFact::Enabled(on)))
    }
}
