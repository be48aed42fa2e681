// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a run can end, and the process exit code that says so.
//!
//! The words are those of the field and of the reports; the numbers are those of README.md
//! ("Exit codes"). A run starts as [`Outcome::Crashed`] and has to earn anything better.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a scenario, a kernel or a whole run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every invariant held, nothing was lost, and the snapshot is the reviewed one.
    Passed,
    /// Not run, for a reason that is given.
    Skipped,
    /// Every invariant held, but the snapshot differs from the reviewed one or there is none yet.
    SnapshotPending,
    /// No finding, but it could not be proven that the capture was lossless.
    Inconclusive,
    /// The wall clock or the silence limit ended it.
    TimedOut,
    /// The guest did not boot, died, or printed a splat.
    Crashed,
    /// At least one finding, or an entry of known-splats.toml whose day has passed.
    Failed,
    /// A mutant was not seen by anything.
    Survived,
    /// The kernel did not build.
    BuildFailed,
    /// A patch did not apply.
    PatchRejected,
    /// Trouble of the tool's own: says nothing about the kernel.
    Error,
}

impl Outcome {
    /// From best to worst; a whole is as bad as its worst part.
    const ORDER: [Self; 11] = [
        Self::Skipped,
        Self::Passed,
        Self::SnapshotPending,
        Self::Inconclusive,
        Self::TimedOut,
        Self::Crashed,
        Self::Failed,
        Self::Survived,
        Self::BuildFailed,
        Self::PatchRejected,
        Self::Error,
    ];

    fn rank(self) -> usize {
        Self::ORDER.iter().position(|&outcome| outcome == self).unwrap_or(Self::ORDER.len())
    }

    /// The outcome of a whole from those of its parts; `None` if it has no parts.
    pub fn of_parts(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        parts.into_iter().max_by_key(|outcome| outcome.rank())
    }

    /// The process exit code (0 to 10, 70), as `nstrail help exit-codes` lists them.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::PatchRejected => 3,
            Self::BuildFailed => 4,
            Self::Crashed => 5,
            Self::TimedOut => 6,
            Self::SnapshotPending => 7,
            Self::Skipped => 8,
            Self::Survived => 9,
            Self::Inconclusive => 10,
            Self::Error => 70,
        }
    }

    /// One sentence that says what the exit code means.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Passed => "every scenario passed",
            Self::Survived => "a mutant survived: an invariant or a workload is missing",
            Self::Failed => "at least one finding, or a known splat whose entry has expired",
            Self::PatchRejected => "a patch does not apply",
            Self::BuildFailed => "a kernel does not build",
            Self::Crashed => "a guest did not boot, crashed, or printed a splat",
            Self::TimedOut => "a time limit was reached",
            Self::SnapshotPending => "a snapshot changed, review is pending",
            Self::Skipped => "nothing ran",
            Self::Inconclusive => "no finding, but losslessness is not proven",
            Self::Error => "trouble of nstrail's own, no verdict",
        }
    }

    /// The word used in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::SnapshotPending => "snapshot pending",
            Self::Inconclusive => "inconclusive",
            Self::TimedOut => "timed out",
            Self::Crashed => "crashed",
            Self::Failed => "failed",
            Self::Survived => "survived",
            Self::BuildFailed => "build failed",
            Self::PatchRejected => "patch rejected",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_is_as_bad_as_its_worst_part() {
        assert_eq!(Outcome::of_parts([Outcome::Passed, Outcome::Failed]), Some(Outcome::Failed));
        assert_eq!(Outcome::of_parts([Outcome::Inconclusive, Outcome::Passed]), Some(Outcome::Inconclusive));
        assert_eq!(Outcome::of_parts([Outcome::Passed, Outcome::Skipped]), Some(Outcome::Passed));
        assert_eq!(Outcome::of_parts([]), None);
    }

    #[test]
    fn every_outcome_but_passed_exits_with_its_own_non_zero_code() {
        let mut codes: Vec<u8> = Outcome::ORDER.iter().map(|outcome| outcome.exit_code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Outcome::ORDER.len());
        assert_eq!(Outcome::ORDER.iter().filter(|outcome| outcome.exit_code() == 0).count(), 1);
    }
}
