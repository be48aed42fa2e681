// SPDX-License-Identifier: MIT OR Apache-2.0
//! One guest: a kernel, a scenario, a perturbation, a seed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use nstrail_wire::scenario::Scenario;

use super::super::execute::{Base, Guest, RunConfig, RunEvent, Shared};
use super::super::folder::RunFolder;
use super::plan::Try;
use super::verdict::{Said, containers_until, said};
use crate::kernel::KernelImage;
use crate::outcome::Outcome;
use crate::plan::scenario;
use crate::report::mutants::MutantRun;
use crate::snapshot::{Mode, Shelf};

/// Where guests run.
pub(super) struct Bench<'a> {
    pub config: &'a RunConfig,
    pub folder: &'a RunFolder,
    pub guest: &'a Guest,
    pub shelf: &'a Shelf,
}

impl Bench<'_> {
    /// Runs one. What it leaves goes to the folder of `name`, a mutant's or that of none.
    pub fn run(
        &self,
        name: &str,
        image: &KernelImage,
        one: &Try,
        records: &mut dyn FnMut(u64),
    ) -> (MutantRun, Said) {
        let scenario = match self.scenario(&one.scenario) {
            Ok(scenario) => scenario,
            Err(reason) => {
                let run = MutantRun { reason: Some(reason), ..blank(one, self.config.seed) };
                return (run, Said::Error);
            }
        };
        let mut config = self.config.clone();
        config.seed = self.config.seed.wrapping_add(one.seed);
        config.guest.perturbation = one.perturbation;
        let shared = Shared { config: &config, folder: self.folder, guest: self.guest, shelf: self.shelf };
        let base = Base { shared: &shared, image, snapshots: Mode::Off };
        let vcpus = config.guest.vcpus(&scenario);
        let started = Instant::now();
        let ran = base.scenario(&scenario, vcpus, &place(name, one), &mut |event| {
            if let RunEvent::Records { count, .. } = event {
                records(count);
            }
        });
        let said = said(&ran);
        let mut run = MutantRun {
            outcome: ran.outcome,
            reason: ran.reason.clone(),
            containers: ran.figures.containers,
            guest_seconds: started.elapsed().as_secs_f64(),
            artifacts: ran.artifacts.clone(),
            ..blank(one, self.config.seed)
        };
        if let Said::Killed { by } = &said {
            run.by.clone_from(by);
            run.containers = containers_until(&ran, by, self.folder.path());
        }
        (run, said)
    }

    fn scenario(&self, name: &str) -> Result<Scenario, String> {
        let own = self.config.scenarios.iter().find(|scenario| scenario.name == name);
        own.map_or_else(|| scenario::find(name).map_err(|error| error.to_string()), |own| Ok(own.clone()))
    }
}

fn blank(one: &Try, seed: u64) -> MutantRun {
    MutantRun {
        scenario: one.scenario.clone(),
        perturbation: one.perturbation.to_string(),
        seed: seed.wrapping_add(one.seed),
        outcome: Outcome::Error,
        reason: None,
        by: Vec::new(),
        containers: 0,
        guest_seconds: 0.0,
        artifacts: String::new(),
    }
}

/// `07-flags-as-passed/smoke`, with perturbation and seed where they are not the plain ones.
fn place(name: &str, one: &Try) -> PathBuf {
    let mut last = one.scenario.clone();
    if !one.perturbation.is_none() {
        last.push_str(&format!("-{}", one.perturbation));
    }
    if one.seed > 0 {
        last.push_str(&format!("-{}", one.seed));
    }
    Path::new(name).join(last)
}
