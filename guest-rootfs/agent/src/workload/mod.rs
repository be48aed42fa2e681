// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a scenario's steps.

use std::{ffi::OsString, time::Instant};

use nstrail_wire::scenario::{Scenario, Step};
use thiserror::Error;

use crate::{control::AuditControl, ledger::Ledger};

/// A scenario that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadEnd {
    pub workload_ns: u64,
    pub containers: u64,
    pub pid_rollovers: u64,
}

/// A scenario that did not.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct WorkloadError {
    pub step: Option<u32>,
    pub reason: String,
}

/// Runs all steps.
///
/// # Errors
/// If one cannot be done.
pub fn run(
    scenario: &Scenario,
    _seed: u64,
    ledger: &Ledger,
    audit: &dyn AuditControl,
) -> Result<WorkloadEnd, WorkloadError> {
    let start = Instant::now();
    for (number, step) in (0_u32..).zip(&scenario.steps) {
        ledger.enter_step(number);
        match step {
            Step::Fence {} => audit
                .fence(number + 1)
                .map_err(|error| WorkloadError { step: Some(number), reason: error.to_string() })?,
        }
    }
    Ok(WorkloadEnd { workload_ns: start.elapsed().as_nanos() as u64, containers: 0, pid_rollovers: 0 })
}

/// The image that a step executes.
pub fn exec_entry(_arguments: &[OsString]) -> ! {
    std::process::exit(2)
}
