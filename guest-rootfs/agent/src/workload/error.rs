// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a workload could not do what its scenario says. Trouble of ours, never a finding about the kernel.

use std::io;

use nstrail_wire::errno::errno_name;
use thiserror::Error;

use super::death::Status;

/// The end of a workload that did not get through.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{reason}", step.map(|step| format!("step {step}: ")).unwrap_or_default())]
pub struct WorkloadError {
    /// Preorder number of the step, if one was running.
    pub step: Option<u32>,
    pub reason: String,
}

/// What a task could not do. Its text ends up in a [`WorkloadError`].
#[derive(Debug, Error)]
pub enum StepError {
    #[error("{what}: {}", name(source))]
    Call { what: &'static str, source: io::Error },
    #[error("{call} gave {found}, expected {expected}")]
    Unexpected { call: String, found: String, expected: String },
    #[error("task {child} ended with wait status {status:#x}, expected {expected:?}")]
    Death { child: u64, status: i32, expected: Status },
    #[error("task with local pid {0} was reaped here, but did not announce itself")]
    Stranger(i64),
    #[error("no task is labelled \"{0}\" here")]
    Label(String),
    #[error("{0}")]
    Scenario(&'static str),
    #[error("step cannot be passed to the new image: {0}")]
    Encoding(#[from] postcard::Error),
}

impl StepError {
    /// For `map_err`: names what failed.
    pub fn call(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Call { what, source }
    }
}

fn name(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_name)
}

/// An error, and the step that it happened in.
#[derive(Debug)]
pub struct Failed {
    pub step: u32,
    pub error: StepError,
}
