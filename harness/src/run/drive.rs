// SPDX-License-Identifier: MIT OR Apache-2.0
//! One scenario on one kernel image: boot, start, capture, check as it comes, end the machine.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nstrail_wire::{
    batch,
    fact::Fact,
    message::{GuestMessage, HostMessage, PROTOCOL},
    scenario::Scenario,
};
use thiserror::Error;

use super::capture::{Capture, CaptureError};
use crate::{
    check::{CheckOptions, CheckResult, Checker},
    outcome::Outcome,
    snapshot::Canonicalizer,
    vm::{self, BootFailure, ConsoleFinding, RunningVm, VmEvent, VmSpec},
};

/// What ended the guest's part, and what it told.
#[derive(Debug)]
pub struct Driven {
    /// How the guest's part ended: passed if the workload ran to its end.
    pub ending: GuestEnding,
    pub check: CheckResult,
    /// Canonical form of what was joined; only meaningful after [`GuestEnding::Finished`].
    pub canonical: String,
    pub console: Vec<ConsoleFinding>,
    pub records: u64,
    pub facts: u64,
    pub kernel_release: Option<String>,
    /// From QEMU's start to the agent's first message.
    pub boot: Duration,
    /// From QEMU's start to its end.
    pub vm: Duration,
    /// What the checker still had to do when the guest was done.
    pub check_tail: Duration,
}

/// Why the guest's part is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEnding {
    /// Every step ran.
    Finished { workload_ns: u64, containers: u64, pid_rollovers: u64 },
    /// The agent gave up: trouble of ours.
    AgentFailed { step: Option<u32>, reason: String },
    /// The machine ended without a last message.
    Died { reason: String },
    /// A limit was reached.
    TimedOut { reason: String },
    /// A channel's stream is faulty: nothing after it proves anything.
    StreamFault { reason: String },
}

impl GuestEnding {
    /// The outcome that this ending allows at best.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Finished { .. } => Outcome::Passed,
            Self::AgentFailed { .. } => Outcome::Error,
            Self::Died { .. } => Outcome::Crashed,
            Self::TimedOut { .. } => Outcome::TimedOut,
            Self::StreamFault { .. } => Outcome::Inconclusive,
        }
    }

    /// In words, unless it finished.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Finished { .. } => None,
            Self::AgentFailed { step: Some(step), reason } => {
                Some(format!("the guest agent failed in step {step}: {reason}"))
            }
            Self::AgentFailed { step: None, reason } => Some(format!("the guest agent failed: {reason}")),
            Self::Died { reason } | Self::TimedOut { reason } | Self::StreamFault { reason } => {
                Some(reason.clone())
            }
        }
    }
}

/// Trouble that leaves no verdict about the guest.
#[derive(Debug, Error)]
pub enum DriveError {
    #[error(transparent)]
    Boot(#[from] BootFailure),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("cannot send to the guest agent: {0}")]
    Send(#[source] std::io::Error),
}

/// Runs one scenario to its end.
///
/// Everything gathered so far is on disk and in the result, however the guest ends.
///
/// # Errors
/// If the machine cannot be started or a file cannot be written; a guest that fails is no error.
pub fn drive(
    spec: &VmSpec,
    scenario: &Scenario,
    seed: u64,
    folder: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Driven, DriveError> {
    let started = Instant::now();
    let mut session = Session::new(folder)?;
    let mut machine = vm::launch(spec)?;
    let ending = session.follow(&mut machine, scenario, seed, started, progress)?;
    machine.shutdown();
    let vm = started.elapsed();
    session.finish(ending, vm)
}

struct Session {
    capture: Capture,
    checker: Checker,
    canonical: Canonicalizer,
    console: Vec<ConsoleFinding>,
    facts: u64,
    kernel_release: Option<String>,
    boot: Duration,
}
