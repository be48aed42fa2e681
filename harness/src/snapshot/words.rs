// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers of the kernel's interface in the words that a reader knows.
//!
//! Numbers without a word here are written as numbers: nothing is left out.

use std::borrow::Cow;

use nstrail_wire::fact::{Call, ProbeKind};
use nstrail_wire::namespace::NamespaceType;

use nstrail_audit::Op;

/// Flags of clone(2) that make no namespace (include/uapi/linux/sched.h).
const OTHER_FLAGS: [(u64, &str); 19] = [
    (0x0000_0100, "VM"),
    (0x0000_0200, "FS"),
    (0x0000_0400, "FILES"),
    (0x0000_0800, "SIGHAND"),
    (0x0000_1000, "PIDFD"),
    (0x0000_2000, "PTRACE"),
    (0x0000_4000, "VFORK"),
    (0x0000_8000, "PARENT"),
    (0x0001_0000, "THREAD"),
    (0x0004_0000, "SYSVSEM"),
    (0x0008_0000, "SETTLS"),
    (0x0010_0000, "PARENT_SETTID"),
    (0x0020_0000, "CHILD_CLEARTID"),
    (0x0080_0000, "UNTRACED"),
    (0x0100_0000, "CHILD_SETTID"),
    (0x8000_0000, "IO"),
    (0x1_0000_0000, "CLEAR_SIGHAND"),
    (0x2_0000_0000, "INTO_CGROUP"),
    (0x20_0000_0000, "EMPTY_MNTNS"),
];

/// The low byte of clone(2)'s flags is the signal at the child's exit, and this one is the usual.
const SIGCHLD: u64 = 17;

/// Flags without their `CLONE_`: namespaces first, in the order of a record's `flags=`.
pub(super) fn flags(call: Call, bits: u64) -> String {
    let mut rest = bits;
    if matches!(call, Call::Clone | Call::Fork | Call::Vfork) && rest & 0xff == SIGCHLD {
        rest &= !0xff;
    }
    let namespaces = NamespaceType::ALL
        .into_iter()
        .map(|kind| (kind.flag(), kind.flag_name().trim_start_matches("CLONE_")));
    let mut words = Vec::new();
    for (bit, word) in namespaces.chain(OTHER_FLAGS) {
        if rest & bit != 0 {
            words.push(Cow::Borrowed(word));
            rest &= !bit;
        }
    }
    if rest != 0 {
        words.push(Cow::Owned(format!("{rest:#x}")));
    }
    words.join("|")
}

/// The name of a call.
pub(super) const fn call(call: Call) -> &'static str {
    match call {
        Call::Boot => "boot",
        Call::Clone => "clone",
        Call::Clone3 => "clone3",
        Call::Fork => "fork",
        Call::Vfork => "vfork",
        Call::Unshare => "unshare",
        Call::Setns => "setns",
        Call::Exec => "exec",
    }
}

/// The `op=` that a call is logged as.
pub(super) const fn op_of(call: Call) -> Op {
    match call {
        Call::Boot => Op::Init,
        Call::Clone | Call::Clone3 | Call::Fork | Call::Vfork => Op::Clone,
        Call::Unshare => Op::Unshare,
        Call::Setns => Op::Setns,
        Call::Exec => Op::Exec,
    }
}

/// The name of an `op=`.
pub(super) const fn op(op: Op) -> &'static str {
    match op {
        Op::Init => "init",
        Op::Clone => "clone",
        Op::Unshare => "unshare",
        Op::Setns => "setns",
        Op::Exec => "exec",
        Op::Release => "release",
    }
}

/// The name of a probe.
pub(super) const fn probe(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::UserMessage => "user message",
        ProbeKind::Syscall => "syscall",
        ProbeKind::Seccomp => "seccomp",
        ProbeKind::Login => "login",
        ProbeKind::ConfigChange => "config change",
        ProbeKind::Packet => "packet",
        ProbeKind::NftPacket => "nft packet",
        ProbeKind::IoUring | ProbeKind::IoUringReused => "io_uring",
        ProbeKind::Abend => "abend",
        ProbeKind::Ptrace => "ptrace",
        ProbeKind::Sent => "datagram",
        ProbeKind::Received => "datagram that came in",
        ProbeKind::Listener => "listener",
        ProbeKind::Rename => "rename",
        ProbeKind::UserLogin => "user login",
        ProbeKind::UserAnomaly => "user anomaly",
        ProbeKind::PacketOut => "packet on its way out",
        ProbeKind::Promiscuous => "promiscuous",
        ProbeKind::IoUringInline => "io_uring inline",
        ProbeKind::IoUringPoller => "io_uring poller",
    }
}

/// The name of a record type (include/uapi/linux/audit.h, without `AUDIT_`).
pub(super) fn record(record_type: u16) -> Cow<'static, str> {
    Cow::Borrowed(match record_type {
        1005 => "USER",
        1006 => "LOGIN",
        1300 => "SYSCALL",
        1302 => "PATH",
        1305 => "CONFIG_CHANGE",
        1324 => "NETFILTER_PKT",
        1335 => "EVENT_LISTENER",
        1326 => "SECCOMP",
        1336 => "URINGOP",
        1112 => "USER_LOGIN",
        1700 => "ANOM_PROMISCUOUS",
        1701 => "ANOM_ABEND",
        2100 => "ANOM_LOGIN_FAILURES",
        other => return Cow::Owned(format!("record {other}")),
    })
}

/// The name of an errno.
pub(super) fn errno(number: i32) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EINTR => "EINTR",
        libc::EIO => "EIO",
        libc::E2BIG => "E2BIG",
        libc::ENOEXEC => "ENOEXEC",
        libc::EBADF => "EBADF",
        libc::ECHILD => "ECHILD",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EINVAL => "EINVAL",
        libc::ENFILE => "ENFILE",
        libc::EMFILE => "EMFILE",
        libc::ENOSPC => "ENOSPC",
        libc::ENOSYS => "ENOSYS",
        libc::ELOOP => "ELOOP",
        libc::EUSERS => "EUSERS",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        other => return Cow::Owned(format!("errno {other}")),
    })
}

/// How a task ended, from its wait status; `None` for exit 0.
pub(super) fn status(status: i32) -> Option<String> {
    match (status & 0x7f, (status >> 8) & 0xff) {
        (0, 0) => None,
        (0, code) => Some(format!("exit {code}")),
        (signal, _) => Some(format!("killed by signal {signal}")),
    }
}
