// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios: what a guest is told to do. Read from TOML on the host, sent to the agent as a message.
//!
//! Enums are externally tagged (`[[step]]` then `spawn = { ... }`), because the same types travel
//! as postcard, which cannot describe itself. For the same reason no field is skipped or flattened.
//!
//! Steps are numbered in preorder over the whole scenario, from 0: a step, then the steps inside it, then the
//! next one. That number stands in [`Fact::step`](crate::fact::Fact::step) and in error messages.

use serde::{Deserialize, Serialize};

use crate::{step::Step, version::KernelVersion};

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name: lower-case letters, digits and `-`.
    pub name: String,
    /// One sentence for `nstrail scenarios list`.
    pub description: String,
    /// vCPUs of the guest unless the command line says otherwise.
    #[serde(default = "default_vcpus")]
    pub vcpus: u8,
    /// Guest memory in MiB.
    #[serde(default = "default_memory")]
    pub memory_mib: u32,
    /// Wall clock limit in seconds under TCG, from the VM's start.
    #[serde(default = "default_wall")]
    pub wall_seconds: u32,
    /// Limit in seconds without any frame or console line.
    #[serde(default = "default_silence")]
    pub silence_seconds: u32,
    /// Whether its canonical form is compared with a reviewed snapshot: not where thousands of sets are made by chance.
    #[serde(default = "default_snapshot")]
    pub snapshot: bool,
    /// The kernel that first has what it is about: on older ones it is skipped.
    #[serde(default)]
    pub since: Option<KernelVersion>,
    /// Kconfig symbols (without `CONFIG_`) that the kernel must have built in; without them the scenario is skipped.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Whether audit is on from boot. If not, the collector turns it on, and `op=init` is logged then.
    #[serde(default = "default_audit_at_boot")]
    pub audit_at_boot: bool,
    /// Steps, in order.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

const fn default_vcpus() -> u8 {
    2
}
const fn default_memory() -> u32 {
    512
}
const fn default_wall() -> u32 {
    120
}
const fn default_silence() -> u32 {
    30
}
const fn default_snapshot() -> bool {
    true
}
const fn default_audit_at_boot() -> bool {
    true
}

impl Scenario {
    /// Whether a [`Step::Backlog`] makes everybody who logs wait for room, so that nothing may be lost for want of it.
    #[must_use]
    pub fn everybody_waits(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Backlog { limit: Some(_) }))
    }

    /// Steps in preorder: the position of each is its number.
    #[must_use]
    pub fn preorder(&self) -> Vec<&Step> {
        fn walk<'a>(steps: &'a [Step], into: &mut Vec<&'a Step>) {
            for step in steps {
                into.push(step);
                step.parts().into_iter().for_each(|part| walk(part, into));
            }
        }
        let mut steps = Vec::new();
        walk(&self.steps, &mut steps);
        steps
    }
}

/// Steps with their preorder numbers, if the first of them has the number `first`.
pub fn numbered(steps: &[Step], first: u32) -> impl Iterator<Item = (u32, &Step)> {
    steps.iter().scan(first, |next, step| {
        let number = *next;
        *next = next.saturating_add(step.size());
        Some((number, step))
    })
}

/// How many numbers a list of steps takes.
#[must_use]
pub fn size(steps: &[Step]) -> u32 {
    steps.iter().map(Step::size).fold(0, u32::saturating_add)
}
