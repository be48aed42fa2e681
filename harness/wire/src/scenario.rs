// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios: what a guest is told to do. Read from TOML on the host, sent to the agent as a message.
//!
//! Enums are externally tagged (`[[step]]` then `spawn = { ... }`), because the same types travel
//! as postcard, which cannot describe itself.

use serde::{Deserialize, Serialize};

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

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// End what came before: all tasks reaped, a fence in both streams.
    Fence {},
}
