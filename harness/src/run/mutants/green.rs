// SPDX-License-Identifier: MIT OR Apache-2.0
//! The series without any fault: what it does not pass can show no fault.

use std::sync::{Mutex, PoisonError};

use super::plan::Try;
use super::trial::Bench;
use super::verdict::Said;
use crate::kernel::KernelImage;
use crate::outcome::Outcome;
use crate::report::mutants::MutantRun;
use crate::report::summary::Failure;
use crate::vm::Perturbation;

/// Name of the folder of its guests.
pub(super) const UNMUTATED: &str = "unmutated";

/// Each scenario and perturbation once, when it is first asked for.
pub(super) struct Green<'a> {
    pub image: &'a KernelImage,
    pub runs: Mutex<Vec<MutantRun>>,
}

impl Green<'_> {
    /// Whether the series passes there; with the run, if this made it.
    pub fn ask(
        &self,
        bench: &Bench<'_>,
        scenario: &str,
        perturbation: Perturbation,
    ) -> Result<Option<MutantRun>, Failure> {
        // Held while it runs: another one who asks for the same waits for it.
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |run: &&MutantRun| run.scenario == scenario && run.perturbation == perturbation.name();
        if let Some(run) = runs.iter().find(same) {
            return verdict(run).map(|()| None);
        }
        let one = Try { scenario: scenario.to_owned(), perturbation, seed: 0 };
        let (mut run, said) = bench.run(UNMUTATED, self.image, &one, &mut |_| {});
        if said == Said::Survived {
            run.outcome = Outcome::Passed;
        }
        runs.push(run.clone());
        verdict(&run).map(|()| Some(run))
    }
}

/// A scenario that is skipped on this kernel kills nothing there, and is no fault of the series.
fn verdict(run: &MutantRun) -> Result<(), Failure> {
    if matches!(run.outcome, Outcome::Passed | Outcome::Skipped) {
        return Ok(());
    }
    let by = if run.by.is_empty() { String::new() } else { format!(" by {}", run.by.join(", ")) };
    let reason = run.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let message = format!(
        "the series without any fault is {} in {} ({}){by}{reason}",
        run.outcome, run.scenario, run.perturbation
    );
    Err(Failure { outcome: run.outcome, message })
}
