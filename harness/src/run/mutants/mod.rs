// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants: is each planted fault seen?
//!
//! The series without any fault comes first: in every scenario, and under every perturbation, in which a mutant is tried, it
//! has to pass, or there is no score. The next mutant is built while guests of the last one run.

mod green;
mod history;
mod in_diff;
mod plan;
mod runner;
mod sureness;
mod trial;
mod verdict;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

pub use in_diff::{InDiffError, in_diff};
pub use runner::plant;

use super::execute::{self, RunConfig, error};
use super::folder::{FolderError, RunFolder};
use crate::kernel::BuildEvent;
use crate::outcome::Outcome;
use crate::plan::mutant::Mutant;
use crate::report::escape;
use crate::report::mutants::{Class, MutantRun, MutantSummary, MutantsSummary, SCHEMA, ktap};
use crate::report::summary::Failure;
use crate::vm::Perturbation;
use crate::vm::accelerator::Decision;

/// Name of the summary in the run's folder.
pub const SUMMARY: &str = "mutants.json";

/// What is to be tried.
#[derive(Debug)]
pub struct MutantsConfig {
    /// The series without any fault; its scenarios are those that a mutant is tried in beside the ones that it names.
    pub base: RunConfig,
    pub mutants: Vec<Mutant>,
    /// For mutants with several tries, in turns.
    pub perturbations: Vec<Perturbation>,
    /// Mutants whose guests run at the same time.
    pub jobs: usize,
    /// Instead of a score: each mutant so many times under each perturbation, in the first scenario that it names.
    pub measure: Option<u32>,
}

/// What happens, for whoever shows progress.
#[derive(Debug)]
pub enum MutantsEvent<'a> {
    Accelerator(&'a Decision),
    Build {
        name: &'a str,
        event: &'a BuildEvent,
    },
    /// A guest starts; `name` is the mutant's, or `unmutated`.
    Started {
        name: &'a str,
        scenario: &'a str,
        perturbation: Perturbation,
        seed: u64,
    },
    Records {
        name: &'a str,
        count: u64,
    },
    Ended {
        name: &'a str,
        run: &'a MutantRun,
    },
    Mutant(&'a MutantSummary),
}

/// What a run came to.
#[derive(Debug)]
pub struct Tried {
    pub summary: MutantsSummary,
    pub folder: RunFolder,
    /// Why the summary is not in the run's folder.
    pub unwritten: Option<FolderError>,
}

/// Tries all mutants. The summary is complete whatever happens, and lies in the run's folder with the KTAP report.
///
/// # Errors
/// If the run's folder cannot be made.
pub fn execute(
    config: &MutantsConfig,
    progress: &mut dyn FnMut(MutantsEvent<'_>),
) -> Result<Tried, FolderError> {
    let started = Instant::now();
    let folder = RunFolder::create(&config.base.out)?;
    let mut summary = MutantsSummary {
        schema: SCHEMA,
        nstrail: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: folder.id().to_owned(),
        outcome: Outcome::Crashed,
        exit_code: 0,
        reason: None,
        reproducer: config.base.reproducer.clone(),
        kernel: config.base.version.clone(),
        accelerator: None,
        unmutated: Vec::new(),
        mutants: Vec::new(),
        seconds: 0.0,
    };
    let failure = try_all(config, &folder, &mut summary, progress).err();
    summary.outcome = judge(&summary.mutants, failure.as_ref());
    summary.reason = failure.map(|failure| failure.message);
    summary.exit_code = summary.outcome.exit_code();
    summary.seconds = started.elapsed().as_secs_f64();
    let unwritten = write(&folder, &summary).err();
    Ok(Tried { summary, folder, unwritten })
}

fn try_all(
    config: &MutantsConfig,
    folder: &RunFolder,
    summary: &mut MutantsSummary,
    progress: &mut dyn FnMut(MutantsEvent<'_>),
) -> Result<(), Failure> {
    if config.base.kernel.series.is_none() {
        return Err(error("there is no series to plant a fault in"));
    }
    let guest = execute::prepare(&config.base, folder)?;
    progress(MutantsEvent::Accelerator(&guest.chosen.decision()));
    let ended = runner::run(config, folder, &guest, summary, progress);
    // What guests ran under in the end: the first of them may have shown that KVM does not work.
    summary.accelerator = Some(guest.chosen.decision().accelerator.word().to_owned());
    summary.mutants.sort_by(|a, b| a.name.cmp(&b.name));
    ended
}

/// What all mutants amount to: a survivor weighs more than one that cannot be tried, and that more than a time limit.
fn judge(mutants: &[MutantSummary], failure: Option<&Failure>) -> Outcome {
    if let Some(failure) = failure {
        return failure.outcome;
    }
    let any = |class| mutants.iter().any(|mutant| mutant.class == class);
    match () {
        () if any(Class::Survived) => Outcome::Survived,
        () if any(Class::Unviable) => Outcome::BuildFailed,
        () if any(Class::TimedOut) => Outcome::TimedOut,
        // Guests that prove nothing are no kill, whatever became of the others.
        () if mutants.iter().any(|mutant| mutant.class == Class::NotRun && !mutant.runs.is_empty()) => {
            Outcome::Inconclusive
        }
        () if any(Class::Killed) => Outcome::Passed,
        () => Outcome::Skipped,
    }
}

fn write(folder: &RunFolder, summary: &MutantsSummary) -> Result<(), FolderError> {
    let json = escape::json(&serde_json::to_string_pretty(summary).unwrap_or_default());
    for (name, text) in [(SUMMARY, json), ("report.ktap", ktap(summary))] {
        let path: PathBuf = folder.path().join(name);
        fs::write(&path, text).map_err(|source| FolderError { path, source })?;
    }
    folder.link_latest()
}
