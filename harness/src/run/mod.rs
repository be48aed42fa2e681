// SPDX-License-Identifier: MIT OR Apache-2.0
//! Executes a plan: one kernel, one scenario, one capture at a time, and what they amount to.

mod baseline;
pub mod bisect;
pub mod capture;
pub mod drive;
mod each_patch;
pub mod execute;
pub mod folder;
pub mod journal;
pub mod judge;
pub mod matrix;
pub mod mutants;
pub mod repeat;
pub mod replay;
