// SPDX-License-Identifier: MIT OR Apache-2.0
//! `summary.json`: everything that a run found out, in one versioned document.
//!
//! Every other report (terminal, KTAP) is drawn from it, so they cannot disagree. Durations are seconds;
//! sizes are bytes. Paths are relative to the folder of the run.

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// Version of the document's shape. Raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSummary {
    pub schema: u32,
    /// Version of nstrail.
    pub nstrail: String,
    /// Name of the folder under `out/`.
    pub run_id: String,
    pub outcome: Outcome,
    pub exit_code: u8,
    /// One line that runs the same again.
    pub reproducer: String,
    pub kernels: Vec<KernelSummary>,
    /// Wall clock of the whole run.
    pub seconds: f64,
}

/// One kernel of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KernelSummary {
    /// As asked for: `6.12`.
    pub version: String,
    /// What was built: `6.12.117-1`.
    pub source: String,
    /// SHA-256 of the source archive.
    pub source_sha256: Option<String>,
    pub series: Option<SeriesSummary>,
    /// Key of the image in the cache.
    pub image_key: Option<String>,
    /// Whether this run had to compile anything.
    pub compiled: bool,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// Why that accelerator.
    pub accelerator_reason: Option<String>,
    /// Where the time went, in order.
    pub stages: Vec<Stage>,
    pub scenarios: Vec<ScenarioSummary>,
    /// Set if the kernel never got as far as a scenario.
    pub failure: Option<Failure>,
}

/// Why a kernel has no verdict from scenarios.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub outcome: Outcome,
    pub message: String,
}

/// The series that a kernel was patched with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeriesSummary {
    pub name: String,
    pub patches: usize,
    pub key: String,
}

/// A stage and its wall clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub seconds: f64,
}

/// One scenario on one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScenarioSummary {
    pub name: String,
    pub seed: u64,
    pub vcpus: u8,
    pub outcome: Outcome,
    /// In words, if the outcome is not `passed`.
    pub reason: Option<String>,
    pub figures: Figures,
    pub findings: Vec<FindingSummary>,
    /// Findings beyond those listed.
    pub findings_not_listed: u64,
    /// Why losslessness is not proven; empty if it is.
    pub loss_doubts: Vec<String>,
    pub snapshot: SnapshotState,
    /// Splats that the console showed while the guest ran.
    pub console: Vec<ConsoleSummary>,
    /// What this kernel, by its version, is asked otherwise than the newest one, or not at all.
    #[serde(default)]
    pub adapted: Vec<String>,
    /// Folder with console.log, audit.log, ledger.frames, qemu.cmd.
    pub artifacts: String,
    pub reproducer: String,
}

/// What was counted and measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Namespace sets made, as the guest counts its operations.
    pub containers: u64,
    /// Audit records in the log.
    pub records: u64,
    /// Facts in the ledger.
    pub facts: u64,
    /// The kernel's `lost` counter at the end.
    pub lost: Option<u32>,
    pub pid_rollovers: u64,
    /// From QEMU's start to the agent's first message.
    pub boot_seconds: f64,
    /// The workload alone, by the guest's clock.
    pub workload_seconds: f64,
    /// From QEMU's start to its end.
    pub vm_seconds: f64,
    /// What the checker still had to do when the guest was done.
    pub check_seconds: f64,
}

/// A finding, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingSummary {
    /// Stable id of the invariant (docs/invariants.md).
    pub invariant: String,
    pub expected: String,
    pub found: String,
    /// Log records that prove it, as they stand in audit.log.
    pub records: Vec<String>,
    /// Ledger entries that prove it.
    pub ledger: Vec<String>,
    /// Chain of containers down from auditnsid 0x1.
    pub lineage: Vec<String>,
}

/// How the canonical form compares with the reviewed one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum SnapshotState {
    /// Not compared, and why.
    NotCompared {
        reason: String,
    },
    Match {
        file: String,
    },
    Changed {
        file: String,
        pending: Option<String>,
        diff: String,
    },
    Missing {
        file: String,
        pending: Option<String>,
    },
}

/// A splat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSummary {
    /// `panic`, `warning`, `lockdep`, ...
    pub kind: String,
    pub lines: Vec<String>,
}

impl RunSummary {
    /// The outcome that the kernels and scenarios amount to.
    #[must_use]
    pub fn judge(kernels: &[KernelSummary]) -> Outcome {
        let parts = kernels.iter().flat_map(|kernel| {
            kernel
                .failure
                .iter()
                .map(|failure| failure.outcome)
                .chain(kernel.scenarios.iter().map(|scenario| scenario.outcome))
        });
        Outcome::of_parts(parts).unwrap_or(Outcome::Skipped)
    }
}
