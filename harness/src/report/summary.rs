// SPDX-License-Identifier: MIT OR Apache-2.0
//! `summary.json`: everything that a run found out, in one versioned document.
//!
//! Every other report (terminal, KTAP) is drawn from it, so they cannot disagree. Durations are seconds;
//! sizes are bytes. Paths are relative to the folder of the run.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::splats;
use crate::outcome::Outcome;

/// Text that is no summary.
#[derive(Debug, Error)]
pub enum SummaryError {
    #[error("it is no summary: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has schema {0}, this nstrail reads {SCHEMA} (hint: it was written by another nstrail)")]
    Schema(u32),
}

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
    /// Each splat once, wherever it was seen.
    #[serde(default)]
    pub splats: Vec<SplatSummary>,
    /// Entries of known-splats.toml whose day has passed, in words: each makes the run fail.
    #[serde(default)]
    pub expired_splats: Vec<String>,
    /// Wall clock of the whole run.
    pub seconds: f64,
}

/// One kernel of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KernelSummary {
    /// As asked for: `6.12`.
    pub version: String,
    /// Name of the configuration in a matrix; empty for the plain one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config: String,
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
    /// With `--each-patch`: each patch on top of those before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<PatchSummary>,
    pub scenarios: Vec<ScenarioSummary>,
    /// The same kernel without the series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineSummary>,
    /// Set if the kernel never got as far as a scenario.
    pub failure: Option<Failure>,
}

/// A kernel without the series: of its guests it only counts whether they get through.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BaselineSummary {
    pub image_key: Option<String>,
    pub compiled: bool,
    pub scenarios: Vec<BaselineScenario>,
    /// Set if it was not built.
    pub failure: Option<Failure>,
}

/// One scenario without the series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BaselineScenario {
    pub name: String,
    pub vcpus: u8,
    /// `passed` if the guest got to its end and the console showed nothing.
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub workload_seconds: f64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<ConsoleSummary>,
}

/// What the kernel without the series says about a scenario that did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineVerdict {
    /// It gets through without the series.
    Regressed,
    /// It does not get through without the series either.
    FailsBeforeAndAfter,
    /// The kernel without the series does not build or boot.
    NoVerdict,
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
    /// Of its `base-commit:`, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
}

/// One patch of a series, on top of those before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PatchSummary {
    /// Its place in the series, from 1.
    pub number: usize,
    pub name: String,
    /// Of its mail header.
    pub subject: String,
    pub outcome: Outcome,
    /// In words, if the outcome is not `passed`.
    pub reason: Option<String>,
    pub builds: Vec<PrefixBuild>,
    /// Compiler (W=1) and sparse warnings in files that the patch touches, which the kernel without it has not.
    pub new_warnings: Vec<String>,
    /// Why warnings could not be compared; files that were not built are among them.
    pub warnings_not_compared: Option<String>,
    /// What checkpatch.pl --strict says.
    pub checkpatch: Vec<String>,
}

/// A kernel with the series up to one patch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrefixBuild {
    /// `AUDIT_NSID=y`, or empty if the series names no symbol.
    pub symbol: String,
    /// Whether it was built, and a guest got through the smoke scenario; what the log says is not judged.
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub image_key: Option<String>,
    pub compiled: bool,
    pub build_seconds: f64,
    pub boot_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<ConsoleSummary>,
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
    /// How earlier attempts of this run ended, with `--retries`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineVerdict>,
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
    /// Calls that the workload's tasks told of: clones, unshares, setns, execs, failed ones too.
    #[serde(default)]
    pub operations: u64,
    /// Namespace sets made, as the guest counts its operations.
    pub containers: u64,
    /// Definitions in the log that perf saw as well.
    #[serde(default)]
    pub seen_by_perf: u64,
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

/// A splat on one guest's console.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSummary {
    /// `panic`, `warning`, `lockdep`, ...
    pub kind: String,
    /// Names the splat beyond builds, kernels and runs.
    #[serde(default)]
    pub fingerprint: String,
    /// What the fingerprint is made of.
    #[serde(default)]
    pub frames: Vec<String>,
    /// How often the guest showed it.
    #[serde(default = "once")]
    pub times: u32,
    /// Of the first time.
    pub lines: Vec<String>,
    /// The same with places in the sources, where a run has first seen the splat on this kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decoded: Vec<String>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_decoded: Option<String>,
    /// What known-splats.toml says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<KnownSummary>,
}

const fn once() -> u32 {
    1
}

/// An entry of known-splats.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSummary {
    pub reason: String,
    pub link: String,
    /// The last day on which it counts.
    pub expires: String,
    /// Whether that day has passed: the splat counts as if it were not known.
    pub expired: bool,
}

/// A splat, wherever it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplatSummary {
    pub fingerprint: String,
    pub kind: String,
    pub frames: Vec<String>,
    /// How often it was shown, in all.
    pub times: u64,
    /// `6.12+lockdep smoke/2`, ...: kernel, scenario, vCPUs.
    pub seen: Vec<String>,
    /// The trace of the first time, decoded if any was.
    pub lines: Vec<String>,
    /// Why it is not decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_decoded: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<KnownSummary>,
}

impl ConsoleSummary {
    /// Whether it counts: it is not known, or not any more.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.known.as_ref().is_none_or(|known| known.expired)
    }
}

impl ScenarioSummary {
    /// One that has nothing to tell yet; `not_compared` is why there is no canonical form.
    #[must_use]
    pub fn new(name: &str, seed: u64, vcpus: u8, outcome: Outcome, not_compared: &str) -> Self {
        Self {
            name: name.to_owned(),
            seed,
            vcpus,
            outcome,
            reason: None,
            attempts: Vec::new(),
            baseline: None,
            figures: Figures::default(),
            findings: Vec::new(),
            findings_not_listed: 0,
            loss_doubts: Vec::new(),
            snapshot: SnapshotState::NotCompared { reason: not_compared.to_owned() },
            console: Vec::new(),
            adapted: Vec::new(),
            artifacts: String::new(),
            reproducer: String::new(),
        }
    }
}

impl KernelSummary {
    /// `6.12`, or `6.12+lockdep`.
    #[must_use]
    pub fn title(&self) -> String {
        if self.config.is_empty() {
            self.version.clone()
        } else {
            format!("{}+{}", self.version, self.config)
        }
    }
}

impl RunSummary {
    /// Reads a summary.json.
    ///
    /// # Errors
    /// If it is none, or of another schema.
    pub fn parse(text: &str) -> Result<Self, SummaryError> {
        let summary: Self = serde_json::from_str(text)?;
        if summary.schema == SCHEMA { Ok(summary) } else { Err(SummaryError::Schema(summary.schema)) }
    }

    /// A run that has come to its end.
    #[must_use]
    pub fn new(
        id: &str,
        outcome: Outcome,
        reproducer: String,
        kernels: Vec<KernelSummary>,
        time: Duration,
    ) -> Self {
        Self {
            schema: SCHEMA,
            nstrail: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: id.to_owned(),
            outcome,
            exit_code: outcome.exit_code(),
            reproducer,
            splats: splats::collect(&kernels),
            kernels,
            expired_splats: Vec::new(),
            seconds: time.as_secs_f64(),
        }
    }

    /// The same beside entries of known-splats.toml whose day has passed: it fails for them.
    #[must_use]
    pub fn with_expired_splats(mut self, expired: Vec<String>) -> Self {
        if !expired.is_empty() {
            self.outcome = Outcome::of_parts([self.outcome, Outcome::Failed]).unwrap_or(Outcome::Failed);
            self.exit_code = self.outcome.exit_code();
        }
        self.expired_splats = expired;
        self
    }

    /// The outcome that the kernels and scenarios amount to.
    #[must_use]
    pub fn judge(kernels: &[KernelSummary]) -> Outcome {
        let parts = kernels.iter().flat_map(|kernel| {
            kernel
                .failure
                .iter()
                .map(|failure| failure.outcome)
                .chain(kernel.patches.iter().map(|patch| patch.outcome))
                .chain(kernel.scenarios.iter().map(|scenario| scenario.outcome))
        });
        Outcome::of_parts(parts).unwrap_or(Outcome::Skipped)
    }
}
