// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mutants.json`: what became of each mutant, and what is drawn from it.
//!
//! Durations are seconds. Paths are relative to the folder of the run.

mod ktap;
mod table;

use serde::{Deserialize, Serialize};

pub use ktap::ktap;
pub use table::{measured, text};

use crate::outcome::Outcome;

/// Version of the document's shape. Raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MutantsSummary {
    pub schema: u32,
    /// Version of nstrail.
    pub nstrail: String,
    /// Name of the folder under `out/`.
    pub run_id: String,
    pub outcome: Outcome,
    pub exit_code: u8,
    /// Why there is no score, if there is none.
    pub reason: Option<String>,
    /// One line that runs the same again.
    pub reproducer: String,
    /// `6.12`.
    pub kernel: String,
    pub accelerator: Option<String>,
    /// The series without any fault, in each scenario and under each perturbation that a mutant was tried in.
    pub unmutated: Vec<MutantRun>,
    pub mutants: Vec<MutantSummary>,
    /// Wall clock of the whole run.
    pub seconds: f64,
}

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Some run saw it.
    Killed,
    /// No run saw it.
    Survived,
    /// A guest did not come to its end in time.
    TimedOut,
    /// It does not build, or no guest of it boots.
    Unviable,
    /// Not tried: not for this kernel, or the run ended before.
    NotRun,
}

impl Class {
    /// The word of the reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Survived => "SURVIVED",
            Self::TimedOut => "timed out",
            Self::Unviable => "unviable",
            Self::NotRun => "not run",
        }
    }
}

/// One mutant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MutantSummary {
    pub name: String,
    pub title: String,
    /// `always`, `limit`, `race`, `silent`.
    pub kind: String,
    pub guarantees: Vec<String>,
    /// Invariants of which one should see it.
    pub named: Vec<String>,
    pub class: Class,
    /// In words, if it is neither killed nor survived.
    pub reason: Option<String>,
    /// Invariants that saw it, or kinds of splats, in the run that decides.
    pub by: Vec<String>,
    /// Whether one of those is among the named ones.
    pub by_named: bool,
    /// Sets made until then in the run that decides.
    pub containers: u64,
    /// Seconds of guests until then.
    pub guest_seconds: f64,
    pub image_key: Option<String>,
    pub compiled: bool,
    pub build_seconds: f64,
    /// Every guest, in order.
    pub runs: Vec<MutantRun>,
    /// How sure a survivor is one, or with what chance another run would miss a killed one, in words.
    pub sureness: Option<String>,
}

/// One guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MutantRun {
    pub scenario: String,
    pub perturbation: String,
    pub seed: u64,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub by: Vec<String>,
    pub containers: u64,
    pub guest_seconds: f64,
    pub artifacts: String,
}

impl MutantsSummary {
    /// How many mutants are of a class.
    #[must_use]
    pub fn count(&self, class: Class) -> usize {
        self.mutants.iter().filter(|mutant| mutant.class == class).count()
    }

    /// Killed ones of those that could be, in percent; `None` if there is none.
    #[must_use]
    pub fn score(&self) -> Option<f64> {
        let (killed, survived) = (self.count(Class::Killed), self.count(Class::Survived));
        let all = killed + survived + self.count(Class::TimedOut);
        (all > 0).then(|| 100.0 * killed as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests;
