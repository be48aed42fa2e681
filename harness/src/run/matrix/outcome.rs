// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the runner's tasks came to, kernel by kernel.

use std::path::PathBuf;

use nstrail_wire::scenario::Scenario;

use super::runner::{Runner, Side, Task, TaskState};
use crate::{
    outcome::Outcome,
    report::summary::{BaselineScenario, BaselineSummary, KernelSummary, ScenarioSummary, Stage},
    run::{
        baseline,
        execute::{note_image, series_summary},
    },
};

impl Runner<'_> {
    /// What it all came to, in the order of the matrix.
    pub fn kernels(self) -> Vec<KernelSummary> {
        let mut kernels: Vec<KernelSummary> = Vec::new();
        let mut tasks: Vec<Option<Task>> = self.tasks.into_iter().map(Some).collect();
        for job in self.jobs.iter().filter(|job| job.side == Side::Tested) {
            let config = &self.config.kernels[&job.kernel];
            let mut kernel = KernelSummary {
                version: job.kernel.kernel.clone(),
                config: job.kernel.config.name.clone(),
                series: series_summary(&config.kernel),
                accelerator: Some(self.guest.chosen.decision().accelerator.word().to_owned()),
                accelerator_reason: Some(self.guest.chosen.decision().reason),
                ..KernelSummary::default()
            };
            match &job.image {
                Some(Ok(image)) => {
                    let place = PathBuf::from(job.kernel.to_string());
                    kernel.failure = note_image(image, self.folder, &place, &mut kernel).err();
                }
                Some(Err(failure)) => kernel.failure = Some(failure.clone()),
                None => {}
            }
            let mut seconds = 0.0;
            for at in &job.cells {
                let Some(task) = tasks[*at].take() else { continue };
                if let TaskState::Done(ran) = task.state {
                    seconds += ran.figures.vm_seconds;
                    kernel.scenarios.push(*ran);
                } else if kernel.failure.is_none() {
                    let reason = "not started: --fail-fast, and another one was not passed";
                    kernel.scenarios.push(skipped(&task.scenario, task.vcpus, config.seed, reason));
                }
            }
            kernel.stages.push(Stage { name: "guests".to_owned(), seconds });
            let beside =
                |other: &&super::runner::Job| other.side == Side::Baseline && other.kernel == job.kernel;
            kernel.baseline = self.jobs.iter().find(beside).map(|job| {
                let (image_key, compiled, failure) = match &job.image {
                    Some(Ok(image)) => (Some(image.key.to_string()), !image.cached, None),
                    Some(Err(failure)) => (None, false, Some(failure.clone())),
                    None => (None, false, None),
                };
                let ran = |at: &usize| match tasks[*at].take()?.state {
                    TaskState::Done(ran) => Some(baseline::baseline_scenario(&ran)),
                    _ => None,
                };
                let scenarios = job.cells.iter().filter_map(ran).collect();
                BaselineSummary { image_key, compiled, scenarios, failure }
            });
            baseline::classify(&mut kernel);
            kernels.push(kernel);
        }
        kernels
    }
}

pub(super) fn skipped(scenario: &Scenario, vcpus: u8, seed: u64, reason: &str) -> ScenarioSummary {
    ScenarioSummary {
        reason: Some(reason.to_owned()),
        ..ScenarioSummary::new(&scenario.name, seed, vcpus, Outcome::Skipped, "it did not run")
    }
}

/// A baseline's scenario of an earlier session, as far as it is kept.
pub(super) fn of_baseline(scenario: &Scenario, ran: BaselineScenario) -> ScenarioSummary {
    let reason = ran.reason.clone().unwrap_or_default();
    let mut summary = skipped(scenario, ran.vcpus, 0, &reason);
    summary.outcome = ran.outcome;
    summary.reason = ran.reason;
    summary.figures.workload_seconds = ran.workload_seconds;
    summary.console = ran.console;
    summary
}
