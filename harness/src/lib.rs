// SPDX-License-Identifier: MIT OR Apache-2.0
//! nstrail: follows namespaces through the kernel's audit log.
//!
//! One folder a stage, in the order of the data; see ARCHITECTURE.md.

pub mod check;
pub mod kernel;
pub mod outcome;
pub mod plan;
pub mod process;
pub mod report;
pub mod run;
pub mod snapshot;
pub mod vm;
