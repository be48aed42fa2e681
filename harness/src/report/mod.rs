// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users read: one summary, drawn as JSON, KTAP and text for a terminal or a mail.

pub mod bisect;
pub mod bisect_text;
pub mod escape;
pub mod ktap;
pub mod merge;
pub mod mutants;
pub mod splats;
pub mod summary;
pub mod verdict;

#[cfg(test)]
mod tests;
