// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bisect.json`: everything that a bisection found out, in one versioned document.
//!
//! The text is drawn from it ([`super::bisect_text`]). Durations are seconds; paths are relative to the folder of the
//! run.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::summary::SeriesSummary;
use crate::run::repeat::{Confidence, Rate};

/// Version of the document's shape. Raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// Name of the file in the run's folder.
pub const FILE_NAME: &str = "bisect.json";

/// Text that is no such document.
#[derive(Debug, Error)]
pub enum BisectError {
    #[error("it is no result of a bisection: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has schema {0}, this nstrail reads {SCHEMA} (hint: it was written by another nstrail)")]
    Schema(u32),
}

/// A whole bisection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BisectSummary {
    pub schema: u32,
    /// Version of nstrail.
    pub nstrail: String,
    /// Name of the folder under `out/`.
    pub run_id: String,
    pub exit_code: u8,
    /// What it came to, in one sentence.
    pub sentence: String,
    /// One line that does the same again.
    pub reproducer: String,
    /// What candidates are: patches, releases or commits.
    pub mode: Mode,
    /// As asked for: `6.12`, or the git tree.
    pub kernel: String,
    /// What lies below or on top of every candidate.
    pub with: Option<SeriesSummary>,
    pub scenarios: Vec<String>,
    pub seed: u64,
    /// Only a run with a finding of one of these is bad.
    pub expect: Vec<String>,
    /// In their order, from the good end to the bad one.
    pub candidates: Vec<CandidateSummary>,
    pub steps: Vec<StepSummary>,
    pub end: End,
    pub verification: Option<Verification>,
    pub certainty: Certainty,
    /// Wall clock of what ran, without what was resumed.
    pub seconds: f64,
}

/// What is bisected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Series,
    Releases,
    Git,
}

impl Mode {
    /// What one candidate adds to the one before it.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Series => "patch",
            Self::Releases => "release",
            Self::Git => "commit",
        }
    }
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateSummary {
    /// `7` of a series (so many patches are applied), a release, a commit.
    pub id: String,
    /// Subject of what it adds to the one before it; empty if there is none.
    pub title: String,
}

/// Why a kernel was tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Whether it is bad at all, and how often it fails.
    BadEnd,
    GoodEnd,
    Search,
    /// The bad end without the culprit.
    Verification,
}

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    Bad,
    /// It says nothing: it does not build, does not boot, or fails otherwise.
    Skipped,
}

impl Verdict {
    /// The word used in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        }
    }
}

/// One candidate's test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSummary {
    /// From 1.
    pub number: u32,
    pub purpose: Purpose,
    /// Place in `candidates`; of a verification the culprit's.
    pub candidate: usize,
    pub verdict: Verdict,
    /// Runs that came to a result.
    pub runs: u32,
    pub failures: u32,
    /// Runs that proved nothing and were done again.
    pub unclear: u32,
    /// How many clean runs were to be seen before it is called good; none where nothing was to be called good.
    pub needed: Option<u32>,
    /// The probability that a kernel that is bad would have been called good here.
    pub risk: f64,
    /// Of builds and runs.
    pub seconds: f64,
    /// Why it is bad or skipped.
    pub reason: Option<String>,
}

/// How a bisection ended. Numbers are places in `candidates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum End {
    /// The first bad one.
    Culprit {
        candidate: usize,
    },
    /// The first bad one is among these: all but the last were skipped.
    OneOf {
        first: usize,
        last: usize,
    },
    /// There is nothing to find between the ends.
    GoodEndIsBad,
    BadEndIsGood,
    /// An end cannot be tested.
    EndSkipped {
        purpose: Purpose,
    },
}

/// The bad end without the culprit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub state: Verified,
    /// How the culprit was taken out, or why it was not.
    pub how: String,
}

/// Whether the culprit is what makes the bad end bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// Good without it.
    Yes,
    /// Bad without it, too.
    No,
    /// It could not be taken out, or what is left cannot be tested.
    NotTested,
    /// There is no such thing as a kernel without it: a release.
    Impossible,
}

/// How sure the result is, and what of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certainty {
    /// What was asked for.
    pub asked: Confidence,
    /// The probability that the end is right, as long as a bad candidate fails at least at the rate: at least this.
    pub reached: f64,
    pub rate: RateSummary,
    /// No candidate gets more runs.
    pub max_runs: u32,
}

/// How often the fault shows, per run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rate")]
pub enum RateSummary {
    /// By the user.
    Given { value: Rate },
    /// Of the bad end: at least `value`, at this confidence.
    Measured { failures: u32, runs: u32, value: Rate, confidence: Confidence },
    /// The bad end did not fail.
    Unknown,
}

impl RateSummary {
    /// What is counted with.
    #[must_use]
    pub const fn value(&self) -> Option<Rate> {
        match self {
            Self::Given { value } | Self::Measured { value, .. } => Some(*value),
            Self::Unknown => None,
        }
    }
}

/// Exit code of a bisection that has found what it was to find.
const FOUND: u8 = 0;
/// Of one that has not.
const INCONCLUSIVE: u8 = 10;

/// Exit code and sentence of what a bisection came to.
#[must_use]
pub fn conclusion(
    mode: Mode,
    end: &End,
    verification: Option<&Verification>,
    certainty: &Certainty,
) -> (u8, String) {
    let noun = mode.noun();
    let inconclusive = |text: String| (INCONCLUSIVE, text);
    match end {
        End::Culprit { .. } => {
            let asked = certainty.asked;
            // The sum of risks is one of rounded numbers.
            if certainty.reached + 1e-9 < asked.value() {
                return inconclusive(format!(
                    "a first bad {noun} is found, but not with a confidence of {asked}: {} runs of each candidate are too few",
                    certainty.max_runs
                ));
            }
            match verification.map(|verification| verification.state) {
                Some(Verified::Yes) => {
                    (FOUND, format!("the first bad {noun} is found, and without it the fault is gone"))
                }
                Some(Verified::Impossible) => {
                    (FOUND, format!("the first bad {noun} is found; it cannot be verified by its removal"))
                }
                Some(Verified::No) => inconclusive(format!(
                    "the first bad {noun} is found, but the fault stays without it: another one brings it as well"
                )),
                Some(Verified::NotTested) | None => {
                    inconclusive(format!("the first bad {noun} is found, but is not verified by its removal"))
                }
            }
        }
        End::OneOf { first, last } => inconclusive(format!(
            "one of {} is the first bad {noun}: those before the last cannot be tested",
            last + 1 - first
        )),
        End::GoodEndIsBad => {
            inconclusive("the good end is bad: the fault is older (hint: begin further back)".to_owned())
        }
        End::BadEndIsGood => inconclusive(
            "the bad end is not bad: there is no fault to search (hint: the same scenarios, seed and vCPUs that show it? \
             more runs: --max-runs)"
                .to_owned(),
        ),
        End::EndSkipped { purpose } => {
            let which = if *purpose == Purpose::BadEnd { "bad" } else { "good" };
            inconclusive(format!("the {which} end cannot be tested, so nothing can be found between the ends"))
        }
    }
}

impl BisectSummary {
    /// Reads a bisect.json.
    ///
    /// # Errors
    /// If it is none, or of another schema.
    pub fn parse(text: &str) -> Result<Self, BisectError> {
        let summary: Self = serde_json::from_str(text)?;
        if summary.schema == SCHEMA { Ok(summary) } else { Err(BisectError::Schema(summary.schema)) }
    }
}
