// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tester of real candidates: builds each once, and runs the scenarios on it as often as it is asked to.

use std::path::PathBuf;
use std::time::Instant;

use super::{
    BisectEvent,
    engine::{Ahead, Probe, Ran, Removal, Tester},
    journal::Journal,
    subject::{Subject, first_line},
    verdict,
};
use crate::{
    kernel::{self, KernelError, KernelImage, KernelSpec},
    outcome::Outcome,
    process::interrupt,
    report::{
        bisect::{CandidateSummary, Mode, StepSummary},
        summary::{Failure, KernelSummary},
    },
    run::{
        execute::{self, Base, RunEvent, Shared, error, kernel_failure},
        journal::JournalError,
    },
    snapshot::Mode as Snapshots,
};

/// What ends a bisection without a verdict.
#[derive(Debug)]
pub(super) enum Trouble {
    Failure(Failure),
    Journal(JournalError),
    Interrupted,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// See the module.
pub(super) struct Kernels<'a> {
    pub shared: &'a Shared<'a>,
    pub subject: &'a Subject,
    pub candidates: &'a [CandidateSummary],
    pub expect: &'a [String],
    /// None where nothing can be resumed.
    pub journal: Option<Journal>,
    pub progress: &'a mut dyn FnMut(BisectEvent<'_>),
    /// The kernel that was built last.
    image: Option<(Probe, KernelImage)>,
    /// The bad end without a candidate.
    without: Option<KernelSpec>,
}

impl<'a> Kernels<'a> {
    pub fn new(
        shared: &'a Shared<'a>,
        subject: &'a Subject,
        candidates: &'a [CandidateSummary],
        expect: &'a [String],
        journal: Option<Journal>,
        progress: &'a mut dyn FnMut(BisectEvent<'_>),
    ) -> Self {
        Self { shared, subject, candidates, expect, journal, progress, image: None, without: None }
    }

    /// Folder of what is tested, in the folder of the run: `patch-17`, `without-patch-17`.
    fn place(&self, probe: Probe) -> PathBuf {
        let (Probe::Candidate(at) | Probe::Without(at)) = probe;
        let id = self.candidates.get(at).map_or("", |candidate| candidate.id.as_str());
        let name = format!("{}-{id}", self.subject.mode().noun());
        match probe {
            Probe::Candidate(_) => name.into(),
            Probe::Without(_) => format!("without-{name}").into(),
        }
    }

    fn spec(&self, probe: Probe) -> Result<KernelSpec, Failure> {
        match probe {
            Probe::Candidate(at) => self.subject.kernel(at),
            Probe::Without(_) => self.without.clone().ok_or_else(|| error("the culprit was not taken out")),
        }
    }

    /// Builds what is tested, unless it was the last; or says why there is nothing to test.
    fn build(&mut self, probe: Probe) -> Result<Option<Ran>, Failure> {
        if self.image.as_ref().is_some_and(|(built, _)| *built == probe) {
            return Ok(None);
        }
        let spec = self.spec(probe)?;
        let built = match self.try_build(&spec) {
            // A prefix that ends before the symbol is defined is a kernel like any other.
            Err(trouble) if symbol_of(&spec).is_some_and(|symbol| trouble.lacks_symbol(symbol)) => {
                self.try_build(&without_symbol(spec))
            }
            built => built,
        };
        let image = match built {
            Ok(image) => image,
            Err(trouble) => return skip(&trouble, self.subject.mode()).map(Some),
        };
        // Configuration and build log, beside what the guests leave.
        let place = self.place(probe);
        execute::note_image(&image, self.shared.folder, &place, &mut KernelSummary::default())?;
        self.image = Some((probe, image));
        Ok(None)
    }

    fn try_build(&mut self, spec: &KernelSpec) -> Result<KernelImage, KernelError> {
        let progress = &mut *self.progress;
        kernel::build(&self.shared.config.store, spec, &mut |event| {
            progress(BisectEvent::Run(RunEvent::Kernel(event)));
        })
    }

    /// All scenarios, up to the first that is not clean.
    fn guests(&mut self, probe: Probe, attempt: u32) -> Result<Ran, Failure> {
        let place = self.place(probe).join(format!("run-{attempt:04}"));
        // What a run that was cut off has left; there is nothing where none was.
        let _ = std::fs::remove_dir_all(self.shared.folder.path().join(&place));
        let shared = self.shared;
        let Some((_, image)) = &self.image else { return Err(error("no kernel was built")) };
        let base = Base { shared, image, snapshots: Snapshots::Off };
        for scenario in &shared.config.scenarios {
            if interrupt::requested().is_some() {
                return Err(error("interrupted"));
            }
            let vcpus = shared.config.guest.vcpus(scenario);
            let progress = &mut *self.progress;
            let ran = base.scenario(scenario, vcpus, &place.join(&scenario.name), &mut |event| {
                progress(BisectEvent::Run(event));
            });
            let verdict = verdict::of_scenario(&ran, self.expect)?;
            if verdict != Ran::Clean {
                return Ok(verdict);
            }
        }
        Ok(Ran::Clean)
    }
}

impl Tester for Kernels<'_> {
    type Trouble = Trouble;

    fn run(&mut self, probe: Probe, attempt: u32) -> Result<(Ran, f64), Trouble> {
        if let Some((ran, seconds)) = self.journal.as_ref().and_then(|journal| journal.done(probe, attempt)) {
            (self.progress)(BisectEvent::Ran { attempt, ran: &ran });
            return Ok((ran, seconds));
        }
        let start = Instant::now();
        let ran = match self.build(probe) {
            Ok(Some(skipped)) => Ok(skipped),
            Ok(None) => self.guests(probe, attempt),
            Err(failure) => Err(failure),
        };
        if interrupt::requested().is_some() {
            // Whatever it came to: it was ended by us.
            return Err(Trouble::Interrupted);
        }
        let (ran, seconds) = (ran?, start.elapsed().as_secs_f64());
        if let Some(journal) = &mut self.journal {
            journal.write(probe, attempt, &ran, seconds)?;
        }
        (self.progress)(BisectEvent::Ran { attempt, ran: &ran });
        Ok((ran, seconds))
    }

    fn removal(&mut self, culprit: usize) -> Result<Removal, Trouble> {
        if self.subject.mode() == Mode::Releases {
            let (now, before) = (self.candidates.get(culprit), self.candidates.get(culprit.wrapping_sub(1)));
            let id = |candidate: Option<&CandidateSummary>| candidate.map_or("", |c| &c.id).to_owned();
            let how = format!(
                "a release cannot be taken out of a kernel: what lies between {} and {} brings the fault",
                id(before),
                id(now)
            );
            return Ok(Removal::Meaningless(how));
        }
        let progress = &mut *self.progress;
        let without = self.subject.without(culprit, &self.shared.config.store, &mut |event| {
            progress(BisectEvent::Run(RunEvent::Kernel(event)));
        })?;
        Ok(match without {
            Ok((spec, how)) => {
                self.without = Some(spec);
                Removal::Possible(how)
            }
            Err(why) => Removal::NotPossible(why),
        })
    }

    fn begin(&mut self, ahead: &Ahead) {
        (self.progress)(BisectEvent::Begin(ahead));
    }

    fn ended(&mut self, step: &StepSummary) {
        (self.progress)(BisectEvent::Ended(step));
    }
}

fn symbol_of(spec: &KernelSpec) -> Option<&str> {
    spec.series.as_ref().and_then(|series| series.config.as_deref())
}

fn without_symbol(mut spec: KernelSpec) -> KernelSpec {
    if let Some(series) = &mut spec.series {
        series.config = None;
    }
    spec
}

/// Why a candidate has no kernel; or trouble of ours.
fn skip(trouble: &KernelError, mode: Mode) -> Result<Ran, Failure> {
    let failure = kernel_failure(trouble);
    let first = first_line(&failure.message);
    match failure.outcome {
        Outcome::BuildFailed => Ok(Ran::Skipped(format!("does not build: {first}"))),
        Outcome::PatchRejected => Ok(Ran::Skipped(first)),
        // Indices also list packages that the site has removed; nothing can be said about those.
        _ if mode == Mode::Releases && failure.message.contains("404  Not Found") => {
            Ok(Ran::Skipped("the archive lists it, and does not have it".to_owned()))
        }
        _ => Err(failure),
    }
}
