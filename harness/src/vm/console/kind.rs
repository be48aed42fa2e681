// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kinds of splats, and the first lines by which they are known.
//!
//! Patterns are those that the kernel prints (lib/bug.c, kernel/panic.c, kernel/locking/lockdep.c,
//! kernel/rcu/tree_stall.h, kernel/hung_task.c, mm/kasan/report.c, mm/slub.c, kernel/audit.c); most are held
//! against traces of a real kernel (traces.rs says which are not).

use std::sync::OnceLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// What the kernel complains of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplatKind {
    Panic,
    Oops,
    Bug,
    Warning,
    Kasan,
    Kcsan,
    Ubsan,
    Lockdep,
    RcuStall,
    HungTask,
    SoftLockup,
    SleepingInAtomic,
    Refcount,
    SlabCorruption,
    ListCorruption,
    Kmemleak,
    NetdeviceLeak,
    AuditBacklog,
    AuditHoldQueue,
}

impl SplatKind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 19] = [
        Self::Panic,
        Self::Oops,
        Self::Bug,
        Self::Warning,
        Self::Kasan,
        Self::Kcsan,
        Self::Ubsan,
        Self::Lockdep,
        Self::RcuStall,
        Self::HungTask,
        Self::SoftLockup,
        Self::SleepingInAtomic,
        Self::Refcount,
        Self::SlabCorruption,
        Self::ListCorruption,
        Self::Kmemleak,
        Self::NetdeviceLeak,
        Self::AuditBacklog,
        Self::AuditHoldQueue,
    ];

    /// The name used in files: of fingerprints, known-splats.toml and recorded traces. It never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Oops => "oops",
            Self::Bug => "bug",
            Self::Warning => "warning",
            Self::Kasan => "kasan",
            Self::Kcsan => "kcsan",
            Self::Ubsan => "ubsan",
            Self::Lockdep => "lockdep",
            Self::RcuStall => "rcu_stall",
            Self::HungTask => "hung_task",
            Self::SoftLockup => "soft_lockup",
            Self::SleepingInAtomic => "sleeping_in_atomic",
            Self::Refcount => "refcount",
            Self::SlabCorruption => "slab_corruption",
            Self::ListCorruption => "list_corruption",
            Self::Kmemleak => "kmemleak",
            Self::NetdeviceLeak => "netdevice_leak",
            Self::AuditBacklog => "audit_backlog",
            Self::AuditHoldQueue => "audit_hold_queue",
        }
    }

    /// The kind of a [`name`](Self::name).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the kernel is gone after it.
    #[must_use]
    pub const fn is_fatal(self) -> bool {
        matches!(self, Self::Panic)
    }

    /// The word used in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Oops => "oops",
            Self::Bug => "BUG",
            Self::Warning => "warning",
            Self::Kasan => "KASAN",
            Self::Kcsan => "KCSAN",
            Self::Ubsan => "UBSAN",
            Self::Lockdep => "lockdep",
            Self::RcuStall => "RCU stall",
            Self::HungTask => "hung task",
            Self::SoftLockup => "soft lockup",
            Self::SleepingInAtomic => "sleeping in atomic context",
            Self::Refcount => "refcount",
            Self::SlabCorruption => "slab corruption",
            Self::ListCorruption => "list corruption",
            Self::Kmemleak => "kmemleak",
            Self::NetdeviceLeak => "netdevice leak",
            Self::AuditBacklog => "audit backlog limit exceeded",
            Self::AuditHoldQueue => "audit hold queue overflow",
        }
    }
}

/// In order of precedence: a line is of the first kind that matches.
const PATTERNS: [(SplatKind, &str); 19] = [
    (SplatKind::Panic, r"^Kernel panic - not syncing"),
    (SplatKind::Kasan, r"^BUG: KASAN: "),
    (SplatKind::Kcsan, r"^BUG: KCSAN: "),
    (
        SplatKind::SleepingInAtomic,
        r"^BUG: (sleeping function called from invalid context|scheduling while atomic)",
    ),
    (SplatKind::SoftLockup, r"^watchdog: BUG: soft lockup"),
    // mm/slub.c:__slab_bug, whatever it is that the cache suffers from.
    (SplatKind::SlabCorruption, r"^BUG .+ \((Not tainted|Tainted: .*)\): "),
    // Up to 6.9 the trap's name comes first, without "Oops": `divide error: 0000 [#1]`.
    (
        SplatKind::Oops,
        r"^(Oops[:!]|BUG: (unable to handle|kernel NULL pointer)|general protection fault|[a-z0-9 ]+: [0-9a-f]{4} \[#[0-9]+\])",
    ),
    (
        SplatKind::Lockdep,
        r"^WARNING: (possible |bad unlock|bad contention|inconsistent lock|suspicious RCU|held lock freed|Nested lock|lock held|chain_key collision|\S+-safe -> \S+-unsafe lock order|.* still has locks held!)|^\[ BUG: .* \]|^BUG: (.*(lock held when returning|MAX_LOCK|MAX_STACK_TRACE)|key .* has not been registered!|looking up invalid subclass)",
    ),
    (SplatKind::Refcount, r"^refcount_t: "),
    (SplatKind::ListCorruption, r"^list_(add|del) corruption"),
    (SplatKind::Bug, r"^(kernel BUG at |BUG: |BUG )"),
    (SplatKind::Warning, r"^WARNING: "),
    (SplatKind::Ubsan, r"^UBSAN: "),
    (SplatKind::RcuStall, r"^rcu: INFO: .*(detected stalls|self-detected stall|detected expedited stalls)"),
    (SplatKind::HungTask, r"^INFO: task .* blocked for more than"),
    // As the agent begins the report (guest-rootfs/agent/src/collector/leaks.rs), not as the kernel tells that there is one.
    (SplatKind::Kmemleak, r"^kmemleak: [0-9]+ new suspected memory leaks$"),
    (SplatKind::NetdeviceLeak, r"^unregister_netdevice: waiting for"),
    (SplatKind::AuditBacklog, r"^audit: backlog limit exceeded"),
    (SplatKind::AuditHoldQueue, r"^audit: kauditd hold queue overflow"),
];

fn patterns() -> &'static [(SplatKind, Regex)] {
    static COMPILED: OnceLock<Vec<(SplatKind, Regex)>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        PATTERNS
            .iter()
            .filter_map(|&(kind, pattern)| Regex::new(pattern).ok().map(|regex| (kind, regex)))
            .collect()
    })
}

/// The kind of a splat that begins with this line.
pub(super) fn kind_of(text: &str) -> Option<SplatKind> {
    // Nearly every line has none of these; the expressions are for the rest.
    let suspicious = [
        "BUG",
        "WARN",
        "anic",
        "ops",
        "[#",
        "fault",
        "stall",
        "INFO",
        "corruption",
        "refcount",
        "UBSAN",
        "kmemleak",
        "waiting",
        "audit:",
    ];
    if !suspicious.iter().any(|word| text.contains(word)) {
        return None;
    }
    patterns().iter().find(|(_, regex)| regex.is_match(text)).map(|&(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_every_kind_has_one() {
        assert_eq!(patterns().len(), PATTERNS.len());
        for kind in SplatKind::ALL {
            assert!(PATTERNS.iter().any(|(known, _)| *known == kind), "{kind:?}");
            assert_eq!(SplatKind::named(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
