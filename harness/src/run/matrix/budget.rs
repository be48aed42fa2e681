// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many guests the machine carries at once.

use std::fs;

/// What QEMU needs beside the guest's memory.
const OVERHEAD_MIB: u64 = 256;

/// CPUs and memory that are free for guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    cpus: u64,
    memory_mib: u64,
    running: u64,
}

impl Budget {
    /// What this machine has: as many vCPUs as CPUs, and three quarters of the memory that is available now.
    pub fn of_machine() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self::new(cpus, available_mib(&text).unwrap_or(2048) * 3 / 4)
    }

    pub const fn new(cpus: u64, memory_mib: u64) -> Self {
        Self { cpus, memory_mib, running: 0 }
    }

    /// Takes what a guest needs, if it is there. One guest may always run: it is not the machine's last.
    pub fn take(&mut self, vcpus: u8, memory_mib: u32) -> bool {
        let (cpus, memory) = need(vcpus, memory_mib);
        let fits = cpus <= self.cpus && memory <= self.memory_mib;
        if !fits && self.running > 0 {
            return false;
        }
        self.cpus = self.cpus.saturating_sub(cpus);
        self.memory_mib = self.memory_mib.saturating_sub(memory);
        self.running += 1;
        true
    }

    /// Gives it back.
    pub fn give(&mut self, whole: Self, vcpus: u8, memory_mib: u32) {
        let (cpus, memory) = need(vcpus, memory_mib);
        self.running -= 1;
        // A guest that was larger than the machine took less than it needs.
        self.cpus = (self.cpus + cpus).min(whole.cpus);
        self.memory_mib = (self.memory_mib + memory).min(whole.memory_mib);
        if self.running == 0 {
            *self = whole;
        }
    }
}

fn need(vcpus: u8, memory_mib: u32) -> (u64, u64) {
    (vcpus.into(), u64::from(memory_mib) + OVERHEAD_MIB)
}

/// `MemAvailable` of /proc/meminfo (Documentation/filesystems/proc.rst), in MiB.
fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_run_at_once_as_far_as_cpus_and_memory_go() {
        let whole = Budget::new(4, 4096);
        let mut budget = whole;
        assert!(budget.take(2, 512));
        assert!(budget.take(1, 512));
        assert!(!budget.take(2, 512), "only one CPU is left");
        assert!(!budget.take(1, 4096), "not so much memory is left");
        assert!(budget.take(1, 512));
        budget.give(whole, 2, 512);
        assert!(budget.take(2, 512));
        for vcpus in [1, 1, 2] {
            budget.give(whole, vcpus, 512);
        }
        assert_eq!(budget, whole);
    }

    #[test]
    fn a_guest_that_is_larger_than_the_machine_runs_alone() {
        let whole = Budget::new(2, 1024);
        let mut budget = whole;
        assert!(budget.take(8, 16_384));
        assert!(!budget.take(1, 128));
        budget.give(whole, 8, 16_384);
        assert_eq!(budget, whole);
        assert!(budget.take(1, 128));
    }

    #[test]
    fn available_memory_is_read_from_meminfo() {
        assert_eq!(available_mib("MemTotal: 9 kB\nMemAvailable:   2097152 kB\n"), Some(2048));
        assert_eq!(available_mib("MemTotal: 9 kB\n"), None);
        assert!(Budget::of_machine().cpus >= 1);
    }
}
