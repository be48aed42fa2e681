// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a machine is disturbed, so that what depends on timing shows itself sooner.
//!
//! A perturbation changes when things happen and never what happens: a kernel that keeps the contract keeps it under each of
//! them. docs/mutants.md says how often each has shown which fault.

use std::fmt;

use thiserror::Error;

use super::Accelerator;

/// One way to disturb a machine. The default one disturbs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Perturbation {
    name: &'static str,
    /// What it does, in words.
    pub what: &'static str,
    /// Instead of the scenario's.
    pub vcpus: Option<u8>,
    /// For QEMU's `-icount`, which only TCG has: one thread runs all vCPUs in turns, by counted instructions.
    pub icount: Option<&'static str>,
    /// All threads of QEMU on one CPU of the host: a vCPU is stopped anywhere while others go on later.
    pub pinned: bool,
    /// A kernel parameter.
    pub parameter: Option<&'static str>,
}

/// A name that is none.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("no perturbation `{name}` (hint: there are {})", Perturbation::names())]
pub struct UnknownPerturbation {
    name: String,
}

const NONE: Perturbation = Perturbation {
    name: "plain",
    what: "nothing is disturbed",
    vcpus: None,
    icount: None,
    pinned: false,
    parameter: None,
};

impl Perturbation {
    /// All of them, the undisturbed one first.
    pub const ALL: [Self; 8] = [
        NONE,
        Self { name: "vcpus-1", what: "one vCPU", vcpus: Some(1), ..NONE },
        Self { name: "vcpus-4", what: "four vCPUs", vcpus: Some(4), ..NONE },
        Self { name: "pinned", what: "all of QEMU on one CPU of the host", pinned: true, ..NONE },
        Self {
            name: "pinned-4",
            what: "four vCPUs on one CPU of the host",
            vcpus: Some(4),
            pinned: true,
            ..NONE
        },
        Self {
            name: "icount-0",
            what: "vCPUs in turns, 1 ns an instruction",
            icount: Some("shift=0,sleep=off"),
            ..NONE
        },
        Self {
            name: "icount-5",
            what: "vCPUs in turns, 32 ns an instruction",
            icount: Some("shift=5,sleep=off"),
            ..NONE
        },
        Self {
            // With less the records from before the daemon is there do not find room, and no run proves anything.
            name: "backlog-64",
            what: "room for 64 records in audit's queue",
            parameter: Some("audit_backlog_limit=64"),
            ..NONE
        },
    ];

    /// The one of a name.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(name: &str) -> Result<Self, UnknownPerturbation> {
        let found = Self::ALL.into_iter().find(|perturbation| perturbation.name == name);
        found.ok_or_else(|| UnknownPerturbation { name: name.to_owned() })
    }

    /// Its name; `plain` if it disturbs nothing.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.name.is_empty() { NONE.name } else { self.name }
    }

    /// Whether it disturbs nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.name() == NONE.name
    }

    /// What a guest runs under that would otherwise run under `chosen`.
    #[must_use]
    pub const fn accelerator(&self, chosen: Accelerator) -> Accelerator {
        if self.icount.is_some() { Accelerator::Tcg } else { chosen }
    }

    /// All names, for messages.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.iter().map(Self::name).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_name_and_one_disturbs_nothing() {
        for perturbation in Perturbation::ALL {
            assert_eq!(Perturbation::find(perturbation.name()), Ok(perturbation));
        }
        assert_eq!(Perturbation::ALL.iter().filter(|one| one.is_none()).count(), 1);
        assert!(Perturbation::default().is_none());
        let message = Perturbation::find("storm").unwrap_err().to_string();
        assert!(message.contains("`storm`") && message.contains("pinned"), "{message}");
    }
}
