// SPDX-License-Identifier: MIT OR Apache-2.0
//! Namespace types, flags and sets, in the order and with the names of CONTRACT.md ("Terms").

use std::fmt;

use serde::{Deserialize, Serialize};

/// An entry of `/proc/PID/ns/`: the eight types, and the two pending entries.
///
/// The order is that of the `ns=` list of an `AUDIT_NSID_OP` record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceEntry {
    Cgroup,
    Ipc,
    Mnt,
    Net,
    Pid,
    PidForChildren,
    Time,
    TimeForChildren,
    User,
    Uts,
}

impl NamespaceEntry {
    /// All entries, in the order of the `ns=` list.
    pub const ALL: [Self; 10] = [
        Self::Cgroup,
        Self::Ipc,
        Self::Mnt,
        Self::Net,
        Self::Pid,
        Self::PidForChildren,
        Self::Time,
        Self::TimeForChildren,
        Self::User,
        Self::Uts,
    ];

    /// The file name in `/proc/PID/ns/`, which is also the name in the `ns=` list.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mnt => "mnt",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::PidForChildren => "pid_for_children",
            Self::Time => "time",
            Self::TimeForChildren => "time_for_children",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    /// The nsfs type: what stands before `:[` in the link's target. Both pid entries are `pid`.
    #[must_use]
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::PidForChildren => "pid",
            Self::TimeForChildren => "time",
            other => other.name(),
        }
    }
}

impl fmt::Display for NamespaceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A namespace type as `clone`, `unshare` and `setns` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NamespaceType {
    #[serde(rename = "time")]
    Time,
    #[serde(rename = "mnt")]
    Mnt,
    #[serde(rename = "cgroup")]
    Cgroup,
    #[serde(rename = "uts")]
    Uts,
    #[serde(rename = "ipc")]
    Ipc,
    #[serde(rename = "user")]
    User,
    #[serde(rename = "pid")]
    Pid,
    #[serde(rename = "net")]
    Net,
}

impl NamespaceType {
    /// All types, in the order of a record's `flags=` field.
    pub const ALL: [Self; 8] =
        [Self::Time, Self::Mnt, Self::Cgroup, Self::Uts, Self::Ipc, Self::User, Self::Pid, Self::Net];

    /// The `CLONE_NEW*` bit (include/uapi/linux/sched.h).
    #[must_use]
    pub const fn flag(self) -> u64 {
        match self {
            Self::Time => 0x0000_0080,
            Self::Mnt => 0x0002_0000,
            Self::Cgroup => 0x0200_0000,
            Self::Uts => 0x0400_0000,
            Self::Ipc => 0x0800_0000,
            Self::User => 0x1000_0000,
            Self::Pid => 0x2000_0000,
            Self::Net => 0x4000_0000,
        }
    }

    /// The name of the bit, as a record's `flags=` field writes it.
    #[must_use]
    pub const fn flag_name(self) -> &'static str {
        match self {
            Self::Time => "CLONE_NEWTIME",
            Self::Mnt => "CLONE_NEWNS",
            Self::Cgroup => "CLONE_NEWCGROUP",
            Self::Uts => "CLONE_NEWUTS",
            Self::Ipc => "CLONE_NEWIPC",
            Self::User => "CLONE_NEWUSER",
            Self::Pid => "CLONE_NEWPID",
            Self::Net => "CLONE_NEWNET",
        }
    }

    /// The entry of `/proc/PID/ns/` that the calling thread's own membership shows in.
    #[must_use]
    pub const fn entry(self) -> NamespaceEntry {
        match self {
            Self::Time => NamespaceEntry::Time,
            Self::Mnt => NamespaceEntry::Mnt,
            Self::Cgroup => NamespaceEntry::Cgroup,
            Self::Uts => NamespaceEntry::Uts,
            Self::Ipc => NamespaceEntry::Ipc,
            Self::User => NamespaceEntry::User,
            Self::Pid => NamespaceEntry::Pid,
            Self::Net => NamespaceEntry::Net,
        }
    }
}

/// All `CLONE_NEW*` bits.
pub const CLONE_NEW_ALL: u64 = 0x7E02_0080;
/// `CLONE_EMPTY_MNTNS` (clone3), which stands for `CLONE_NEWNS` too.
pub const CLONE_EMPTY_MNTNS: u64 = 1 << 37;
/// `UNSHARE_EMPTY_MNTNS`, the same for unshare.
pub const UNSHARE_EMPTY_MNTNS: u64 = 0x10_0000;
/// `CLONE_VM`: such a child does not enter a pending time namespace (CONTRACT.md G1).
pub const CLONE_VM: u64 = 0x0000_0100;
/// `CLONE_VFORK`.
pub const CLONE_VFORK: u64 = 0x0000_4000;
/// `CLONE_PARENT`.
pub const CLONE_PARENT: u64 = 0x0000_8000;
/// `CLONE_THREAD`.
pub const CLONE_THREAD: u64 = 0x0001_0000;

/// A namespace set: ten nsfs inode numbers in the order of [`NamespaceEntry::ALL`].
///
/// 0 stands for an entry that could not be read: a type that the kernel is built without, or a
/// `pid_for_children` in which nobody was born yet (ENOENT, CONTRACT.md G1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceSet(pub [u32; 10]);

impl NamespaceSet {
    /// The inode number of one entry; 0 if it could not be read.
    #[must_use]
    pub const fn get(&self, entry: NamespaceEntry) -> u32 {
        self.0[entry as usize]
    }

    /// Sets the inode number of one entry.
    pub const fn set(&mut self, entry: NamespaceEntry, inum: u32) {
        self.0[entry as usize] = inum;
    }

    /// Entries with their inode numbers, in list order.
    pub fn iter(&self) -> impl Iterator<Item = (NamespaceEntry, u32)> + '_ {
        NamespaceEntry::ALL.into_iter().zip(self.0.iter().copied())
    }
}

impl fmt::Display for NamespaceSet {
    /// The `ns=` list: `cgroup:N,ipc:N,...`, with `?` for 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0.map(u64::from))
    }
}

/// The 64-bit ids of a set's namespaces, in the order of [`NamespaceEntry::ALL`]: those of NS_GET_ID (from 7.x
/// kernels on), which are never used again. 0 as in [`NamespaceSet`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceIds(pub [u64; 10]);

impl fmt::Display for NamespaceIds {
    /// The `nsid=` list: as the `ns=` list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0)
    }
}

fn list(f: &mut fmt::Formatter<'_>, numbers: [u64; 10]) -> fmt::Result {
    for (index, (entry, number)) in NamespaceEntry::ALL.into_iter().zip(numbers).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        match number {
            0 => write!(f, "{comma}{entry}:?")?,
            n => write!(f, "{comma}{entry}:{n}")?,
        }
    }
    Ok(())
}
