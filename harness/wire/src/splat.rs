// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ways to break a kernel on purpose, by what it then says on its console.

use serde::{Deserialize, Serialize};

/// What the kernel is to complain of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Splat {
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
    /// A vCPU that spins with interrupts off, without a word: a guest has no NMI watchdog. With one vCPU that is the end of the guest.
    HardLockup,
}

/// The file in debugfs that takes the name of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// drivers/misc/lkdtm.
    Lkdtm,
    /// patches/splats: what lkdtm does not do, or not so that it ends.
    NstrailSplat,
}

impl Breaker {
    /// Below the mount point of debugfs.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Lkdtm => "provoke-crash/DIRECT",
            Self::NstrailSplat => "nstrail-splat",
        }
    }
}

impl Splat {
    /// All of them.
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
        Self::HardLockup,
    ];

    /// Who breaks the kernel, and by what name of a fault.
    #[must_use]
    pub const fn fault(self) -> (Breaker, &'static str) {
        match self {
            Self::Panic => (Breaker::Lkdtm, "PANIC"),
            Self::Oops => (Breaker::Lkdtm, "EXCEPTION"),
            Self::Bug => (Breaker::Lkdtm, "BUG"),
            Self::Warning => (Breaker::Lkdtm, "WARNING"),
            Self::Kasan => (Breaker::Lkdtm, "READ_AFTER_FREE"),
            Self::Ubsan => (Breaker::Lkdtm, "ARRAY_BOUNDS"),
            Self::Refcount => (Breaker::Lkdtm, "REFCOUNT_INC_ZERO"),
            Self::SlabCorruption => (Breaker::Lkdtm, "SLAB_LINEAR_OVERFLOW"),
            Self::ListCorruption => (Breaker::Lkdtm, "CORRUPT_LIST_ADD"),
            Self::HardLockup => (Breaker::Lkdtm, "HARDLOCKUP"),
            Self::Kcsan => (Breaker::NstrailSplat, "data_race"),
            Self::Lockdep => (Breaker::NstrailSplat, "lockdep"),
            Self::RcuStall => (Breaker::NstrailSplat, "rcu_stall"),
            Self::HungTask => (Breaker::NstrailSplat, "hung_task"),
            Self::SoftLockup => (Breaker::NstrailSplat, "soft_lockup"),
            Self::SleepingInAtomic => (Breaker::NstrailSplat, "sleeping"),
            Self::Kmemleak => (Breaker::NstrailSplat, "memory_leak"),
            Self::NetdeviceLeak => (Breaker::NstrailSplat, "netdev_leak"),
            Self::AuditBacklog => (Breaker::NstrailSplat, "audit_backlog"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_another_one_and_fits_the_file_of_ours() {
        let mut faults: Vec<&str> = Splat::ALL.iter().map(|splat| splat.fault().1).collect();
        faults.sort_unstable();
        faults.dedup();
        assert_eq!(faults.len(), Splat::ALL.len());
        // lib/nstrail_splat.c:splat_write takes no more.
        assert!(faults.iter().all(|fault| fault.len() < 32));
    }
}
