// SPDX-License-Identifier: MIT OR Apache-2.0
//! An event as the checker sees it: not all its bytes, but what the contract says something about.

use std::sync::Arc;

use nstrail_audit::{Kind, Record};
use nstrail_wire::fact::ProbeKind;

use super::{finding::Raw, sets::Definition};

/// What a prctl probe passes as its first argument, and a ptrace probe as its third (`"nstr"`).
const MAGIC: u64 = 0x6e73_7472;
/// What a seccomp probe adds to its token.
const SECCOMP_BASE: u64 = 1_000_000;
/// What io_uring probes do (include/uapi/linux/io_uring.h).
const IORING_OP_OPENAT: u64 = 18;
const IORING_OP_MKDIRAT: u64 = 37;
const TOKEN_KEY: &[u8] = b"nstrail-token-";
/// In the name of a file that a rename probe renames another one over.
const RENAME_KEY: &[u8] = b"/nstrail-rename-";

/// An event that may still grow.
#[derive(Debug)]
pub(super) struct OpenEvent {
    /// Positions of its first and its last record.
    pub first: u64,
    pub last: u64,
    /// Its epoch (see the log side).
    pub epoch: u64,
    pub records: u32,
    /// What its `AUDIT_NSID` records name, and where.
    pub names: Vec<(u64, u64)>,
    /// What its `AUDIT_NETNS` records name.
    pub netns: Vec<Option<u32>>,
    /// The sets that the first of them leads to.
    pub in_netns: Vec<u64>,
    pub definitions: Vec<Arc<Definition>>,
    /// Ids of releases in it, and where.
    pub releases: Vec<(u64, u64)>,
    /// `success=` of its SYSCALL record.
    pub success: Option<bool>,
    pub syscall: bool,
    pub uring: bool,
    pub packet: bool,
    pub end: bool,
    /// Its task has an audit context that ends the event with more records.
    pub contextual: bool,
    /// Something that only a running task does, not what a dying one leaves behind.
    pub acts: bool,
    pub pid: Option<u32>,
    pub token: Option<(ProbeKind, u64)>,
    /// Type of the record with the token.
    pub token_kind: Kind,
    /// Records kept as evidence.
    pub raws: Vec<Arc<Raw>>,
    /// In the list of events that wait for a fence.
    pub held: bool,
}

impl OpenEvent {
    pub const fn new(position: u64, epoch: u64) -> Self {
        Self {
            first: position,
            last: position,
            epoch,
            records: 0,
            names: Vec::new(),
            netns: Vec::new(),
            in_netns: Vec::new(),
            definitions: Vec::new(),
            releases: Vec::new(),
            success: None,
            syscall: false,
            uring: false,
            packet: false,
            end: false,
            contextual: false,
            acts: false,
            pid: None,
            token: None,
            token_kind: Kind(0),
            raws: Vec::new(),
            held: false,
        }
    }

    /// The auditnsid that the contract demands of an event in which a task makes or enters a set, if it
    /// demands one (G7): the set that it moved to; for a clone the caller's.
    pub fn required(&self) -> Option<Option<u64>> {
        let definition = &self.definitions.last()?.op;
        let id = if definition.op == nstrail_audit::Op::Clone { definition.old } else { definition.id };
        Some((id != nstrail_audit::model::BOOT).then_some(id))
    }

    /// Whether nothing that must be in it is missing.
    pub fn settled(&self) -> bool {
        if !self.names.is_empty() {
            return true;
        }
        match self.required() {
            Some(Some(_)) => false,
            Some(None) => true,
            None => !self.contextual || self.end,
        }
    }

    /// Whether its task may still be inside the call: a clone that waits for its child (CLONE_VFORK).
    pub fn may_wait_for_child(&self) -> bool {
        !self.syscall
            && !self.end
            && self.definitions.last().is_some_and(|definition| definition.op.op == nstrail_audit::Op::Clone)
    }

    /// What a record of another stage says: who, whether it succeeded, and tokens.
    pub fn take(&mut self, record: &Record<'_>) {
        let kind = record.kind;
        match kind {
            Kind::SYSCALL => {
                self.syscall = true;
                self.contextual = true;
                self.acts = true;
                let (mut first_argument, mut third_argument) = (None, None);
                for field in record.fields() {
                    match field.key {
                        b"success" => self.success = Some(field.value.bytes() == b"yes"),
                        b"a0" => first_argument = field.value.hexadecimal(),
                        b"a1" if first_argument == Some(MAGIC) => {
                            if let Some(token) = field.value.hexadecimal() {
                                self.token_of(kind, ProbeKind::Syscall, token);
                            }
                        }
                        b"a2" => third_argument = field.value.hexadecimal(),
                        b"a3" if third_argument == Some(MAGIC) => {
                            if let Some(token) = field.value.hexadecimal() {
                                self.token_of(kind, ProbeKind::Ptrace, token);
                            }
                        }
                        b"pid" => {
                            self.pid = field.value.decimal().and_then(|pid| u32::try_from(pid).ok());
                            break;
                        }
                        _ => {}
                    }
                }
            }
            Kind::PATH => {
                self.contextual = true;
                if let Some(name) = record.field("name")
                    && let Some(token) = token_in(&name.decoded(), RENAME_KEY, true)
                {
                    self.token_of(kind, ProbeKind::Rename, token);
                }
            }
            Kind::EOE => self.end = true,
            Kind::URINGOP => {
                self.uring = true;
                self.contextual = true;
                self.acts = true;
                self.pid_of(record);
                // Its PATH records have no name where a worker does it (seen on 6.12), so the pid stands for the token. An
                // attempt that came back with EAGAIN is not the operation.
                let done = record.field("success").is_some_and(|success| success.bytes() == b"yes");
                let operation = record.field("uring_op").and_then(nstrail_audit::Value::decimal);
                let probe = match operation {
                    Some(IORING_OP_MKDIRAT) => Some(ProbeKind::IoUring),
                    Some(IORING_OP_OPENAT) => Some(ProbeKind::IoUringInline),
                    _ => None,
                };
                if let Some(pid) = self.pid
                    && done
                    && let Some(probe) = probe
                {
                    self.token_of(kind, probe, u64::from(pid));
                }
            }
            Kind::LOGIN => {
                self.contextual = true;
                self.acts = true;
                self.pid_of(record);
                if let Some(token) = record.field("auid").and_then(nstrail_audit::Value::decimal) {
                    self.token_of(kind, ProbeKind::Login, token);
                }
            }
            Kind::CONFIG_CHANGE => {
                self.contextual = true;
                self.acts = true;
                if let Some(key) = record.field("key")
                    && let Some(token) = token_in(&key.decoded(), TOKEN_KEY, true)
                {
                    self.token_of(kind, ProbeKind::ConfigChange, token);
                }
            }
            Kind::SECCOMP => {
                self.acts = true;
                self.pid_of(record);
                if let Some(number) = record.field("syscall").and_then(nstrail_audit::Value::decimal)
                    && number >= SECCOMP_BASE
                {
                    self.token_of(kind, ProbeKind::Seccomp, number - SECCOMP_BASE);
                }
            }
            Kind::USER => {
                self.acts = true;
                self.pid_of(record);
                if let Some(token) = token_in(record.body, b"nstrail-token=", false) {
                    self.token_of(kind, ProbeKind::UserMessage, token);
                }
            }
            Kind::NETFILTER_PKT => {
                self.packet = true;
                let address = record.field("daddr").and_then(|address| address_of(address.bytes()));
                let mark = record.field("mark").map(nstrail_audit::Value::bytes);
                match (address, mark) {
                    (Some((127, token)), _) => self.token_of(kind, ProbeKind::Packet, token),
                    (Some((10, token)), Some(b"0x1")) => self.token_of(kind, ProbeKind::Sent, token),
                    (Some((10, token)), Some(b"0x2")) => self.token_of(kind, ProbeKind::Received, token),
                    _ => {}
                }
            }
            Kind::ANOM_ABEND => {
                self.pid_of(record);
                // No token fits into this record: the dying task's number stands for it.
                if let Some(pid) = self.pid
                    && record.field("sig").and_then(nstrail_audit::Value::decimal) == Some(11)
                {
                    self.token_of(kind, ProbeKind::Abend, u64::from(pid));
                }
            }
            // What user space sends has the sender's pid in front.
            Kind(1100..=1199 | 2100..=2999) => {
                self.acts = true;
                self.pid_of(record);
                let probe = match kind {
                    Kind::USER_LOGIN => Some(ProbeKind::UserLogin),
                    Kind::ANOM_LOGIN_FAILURES => Some(ProbeKind::UserAnomaly),
                    _ => None,
                };
                if let Some(probe) = probe
                    && let Some(token) = token_in(record.body, b"nstrail-token=", false)
                {
                    self.token_of(kind, probe, token);
                }
            }
            Kind::ANOM_PROMISCUOUS => {
                let on = record.field("prom").is_some_and(|prom| prom.bytes() != b"0");
                if on
                    && let Some(device) = record.field("dev")
                    && let Some(token) = token_in(&device.decoded(), b"nst", true)
                {
                    self.token_of(kind, ProbeKind::Promiscuous, token);
                }
            }
            Kind::EVENT_LISTENER => {
                self.pid_of(record);
                // As above.
                if let Some(pid) = self.pid
                    && record.field("op").map(nstrail_audit::Value::bytes) == Some(b"disconnect")
                {
                    self.token_of(kind, ProbeKind::Listener, u64::from(pid));
                }
            }
            Kind::BPF | Kind(1700..=1799) => self.pid_of(record),
            Kind(1301..=1323 | 1325 | 1327..=1399) if !kind.is_ours() => self.contextual = true,
            _ => {}
        }
    }

    fn pid_of(&mut self, record: &Record<'_>) {
        if self.pid.is_none() {
            let pid = record.field("pid").and_then(nstrail_audit::Value::decimal);
            self.pid = pid.and_then(|pid| u32::try_from(pid).ok());
        }
    }

    fn token_of(&mut self, record: Kind, kind: ProbeKind, token: u64) {
        if self.token.is_none() {
            self.token = Some((kind, token));
            self.token_kind = record;
        }
    }
}

/// The decimal number behind `mark`, which must stand at the end of the bytes if `at_end`.
pub(super) fn token_in(bytes: &[u8], mark: &[u8], at_end: bool) -> Option<u64> {
    let at = memchr::memmem::find(bytes, mark)? + mark.len();
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 19 || (at_end && at + digits != bytes.len()) {
        return None;
    }
    Some(bytes[at..at + digits].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// A of A.B.C.D, and B.C.D as a number.
fn address_of(text: &[u8]) -> Option<(u8, u64)> {
    let address: std::net::Ipv4Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
    let [a, b, c, d] = address.octets();
    Some((a, u64::from(b) << 16 | u64::from(c) << 8 | u64::from(d)))
}

/// The event of a probe, complete.
#[derive(Debug)]
pub(super) struct ProbeEvent {
    pub kind: Kind,
    pub first: u64,
    pub epoch: u64,
    pub name: Option<u64>,
    pub name_at: u64,
    pub netns: Option<u32>,
    pub in_netns: Vec<u64>,
    pub syscall: bool,
    pub raws: Vec<Arc<Raw>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(kind: Kind, body: &str) -> OpenEvent {
        let mut event = OpenEvent::new(0, 0);
        let stamp = nstrail_audit::Stamp { seconds: 1, millis: 0, serial: 1 };
        event.take(&Record { kind, stamp, body: body.as_bytes() });
        event
    }

    #[test]
    fn each_kind_of_probe_has_its_token_where_the_ledger_says() {
        for (kind, body, token) in [
            (Kind::USER, "pid=7 uid=0 msg='nstrail-token=12 x'", (ProbeKind::UserMessage, 12)),
            (
                Kind::SYSCALL,
                "arch=c000003e syscall=157 success=no exit=-22 a0=6e737472 a1=c a2=0 a3=0 items=0 ppid=1 pid=7",
                (ProbeKind::Syscall, 12),
            ),
            (
                Kind::SYSCALL,
                "arch=c000003e syscall=101 success=yes exit=0 a0=10 a1=1d a2=6e737472 a3=c items=0 ppid=1 pid=7",
                (ProbeKind::Ptrace, 12),
            ),
            (
                Kind::SECCOMP,
                "auid=1 uid=0 gid=0 ses=1 pid=7 comm=\"a\" exe=\"/a\" sig=0 arch=c000003e syscall=1000012 compat=0",
                (ProbeKind::Seccomp, 12),
            ),
            (
                Kind::LOGIN,
                "pid=7 uid=0 old-auid=4294967295 auid=12 tty=(none) old-ses=4294967295 ses=1 res=1",
                (ProbeKind::Login, 12),
            ),
            (
                Kind::CONFIG_CHANGE,
                "auid=1 ses=1 op=add_rule key=\"nstrail-token-12\" list=4 res=1",
                (ProbeKind::ConfigChange, 12),
            ),
            (
                Kind::NETFILTER_PKT,
                "mark=0x0 saddr=127.0.0.1 daddr=127.1.0.12 proto=17",
                (ProbeKind::Packet, 65_548),
            ),
            (
                Kind::NETFILTER_PKT,
                "mark=0x1 saddr=192.0.2.1 daddr=10.1.0.12 proto=17",
                (ProbeKind::Sent, 65_548),
            ),
            (
                Kind::NETFILTER_PKT,
                "mark=0x2 saddr=192.0.2.1 daddr=10.1.0.12 proto=17",
                (ProbeKind::Received, 65_548),
            ),
            (
                Kind::PATH,
                "item=3 name=\"/nstrail-rename-12\" inode=1 nametype=DELETE",
                (ProbeKind::Rename, 12),
            ),
            (Kind::URINGOP, "uring_op=37 success=yes exit=0 items=4 ppid=1 pid=12", (ProbeKind::IoUring, 12)),
            (
                Kind::URINGOP,
                "uring_op=18 success=yes exit=5 items=0 ppid=1 pid=12",
                (ProbeKind::IoUringInline, 12),
            ),
            (Kind::USER_LOGIN, "pid=7 uid=0 msg='nstrail-token=12 x'", (ProbeKind::UserLogin, 12)),
            (Kind::ANOM_LOGIN_FAILURES, "pid=7 uid=0 msg='nstrail-token=12'", (ProbeKind::UserAnomaly, 12)),
            (
                Kind::ANOM_PROMISCUOUS,
                "dev=nst12 prom=256 old_prom=0 auid=1 uid=0 gid=0 ses=1",
                (ProbeKind::Promiscuous, 12),
            ),
            (
                Kind::ANOM_ABEND,
                "auid=1 uid=0 gid=0 ses=1 pid=7 comm=\"a\" exe=\"/a\" sig=11 res=1",
                (ProbeKind::Abend, 7),
            ),
            (
                Kind::EVENT_LISTENER,
                "pid=7 uid=0 auid=1 tty=(none) ses=1 comm=\"a\" exe=\"/a\" nl-mcgrp=1 op=disconnect res=1",
                (ProbeKind::Listener, 7),
            ),
        ] {
            assert_eq!(taken(kind, body).token, Some(token), "{body}");
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        for (kind, body) in [
            (Kind::USER, "pid=7 msg='nstrail-token='"),
            (Kind::SYSCALL, "syscall=157 success=no a0=6e737473 a1=c pid=7"),
            (Kind::SECCOMP, "pid=7 syscall=110"),
            (Kind::NETFILTER_PKT, "saddr=10.0.0.1 daddr=10.0.0.2"),
            (Kind::NETFILTER_PKT, "mark=0x0 saddr=10.0.0.1 daddr=10.0.0.2 proto=17"),
            (Kind::NETFILTER_PKT, "mark=0x1 saddr=10.0.0.1 daddr=11.0.0.2 proto=17"),
            (Kind::ANOM_ABEND, "pid=7 sig=6"),
            (Kind::EVENT_LISTENER, "pid=7 nl-mcgrp=1 op=connect res=1"),
            (Kind::URINGOP, "uring_op=37 success=no exit=-11 items=1 ppid=1 pid=7 uid=0"),
            (Kind::URINGOP, "uring_op=28 success=yes exit=0 items=0 ppid=1 pid=7 uid=0"),
            (Kind::ANOM_PROMISCUOUS, "dev=nst12 prom=0 old_prom=256 auid=1 uid=0 gid=0 ses=1"),
            (Kind::ANOM_PROMISCUOUS, "dev=eth0 prom=256 old_prom=0 auid=1 uid=0 gid=0 ses=1"),
            (Kind(1113), "pid=7 uid=0 msg='nstrail-token=12'"),
            (Kind::CONFIG_CHANGE, "op=add_rule key=\"nstrail-token-12x\" list=4"),
        ] {
            assert_eq!(taken(kind, body).token, None, "{body}");
        }
    }
}
