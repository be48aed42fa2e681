// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the first bad patch of a series, release of a line or commit of a git range, and takes it out to see.
//!
//! `search` says which candidate is next, `confidence` how many runs it gets, `engine` goes the whole way with a tester
//! of any kind; none of them knows kernels. `subject` says what kernel a candidate is, `kernels` is the tester that
//! builds and runs it, `verdict` reads what a guest came to, `journal` keeps every run.

pub mod confidence;
pub mod engine;
mod journal;
mod kernels;
pub mod search;
pub mod subject;
mod verdict;

use std::path::PathBuf;
use std::time::Instant;

use thiserror::Error;

use self::{
    confidence::Demand,
    engine::{Ahead, Ran},
    journal::Journal,
    kernels::{Kernels, Trouble},
    subject::Subject,
};
use super::{
    execute::{self, RunConfig, RunEvent, Shared},
    folder::{FolderError, RunFolder},
    journal::JournalError,
    repeat::Rate,
};
use crate::{
    report::{
        bisect::{self, BisectSummary, CandidateSummary, StepSummary},
        bisect_text, escape,
        summary::Failure,
    },
    snapshot::Shelf,
};

/// A bisection that is to be done.
#[derive(Debug)]
pub struct BisectConfig {
    /// Project, cache, scenarios, guests, seed, reproducer. Its kernel is that of no candidate; its snapshots are not
    /// looked at.
    pub run: RunConfig,
    pub subject: Subject,
    pub demand: Demand,
    /// Invariants and fingerprints of splats; if there are any, nothing else is bad.
    pub expect: Vec<String>,
    /// A run's folder to go on in.
    pub resume: Option<PathBuf>,
}

/// What happens, for whoever shows progress.
#[derive(Debug)]
pub enum BisectEvent<'a> {
    /// What a build or a guest tells.
    Run(RunEvent<'a>),
    /// So many runs are done already.
    Resumed {
        runs: usize,
    },
    Begin(&'a Ahead),
    Ran {
        attempt: u32,
        ran: &'a Ran,
    },
    Ended(&'a StepSummary),
}

/// A bisection that has no result.
#[derive(Debug, Error)]
pub enum BisectTrouble {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{}", .0.message)]
    Failure(Failure),
    #[error("interrupted (hint: what is done is kept, --resume {} goes on)", .0.display())]
    Interrupted(PathBuf),
}

impl BisectTrouble {
    fn of(trouble: Trouble, folder: &RunFolder) -> Self {
        match trouble {
            Trouble::Failure(failure) => Self::Failure(failure),
            Trouble::Journal(error) => Self::Journal(error),
            Trouble::Interrupted => Self::Interrupted(folder.path().to_owned()),
        }
    }
}

/// Does it. The result lies in the run's folder as well: `bisect.json`, and for git `bisect.log`, which `git bisect
/// replay` takes.
///
/// # Errors
/// If there is no folder or journal, QEMU or the agent is missing, a series does not apply at all, a file cannot be
/// written, or it was interrupted.
pub fn execute(
    config: &BisectConfig,
    progress: &mut dyn FnMut(BisectEvent<'_>),
) -> Result<(BisectSummary, RunFolder), BisectTrouble> {
    let started = Instant::now();
    if let Subject::Series(series) = &config.subject {
        series
            .check(&config.run.store, &mut |event| progress(BisectEvent::Run(RunEvent::Kernel(event))))
            .map_err(BisectTrouble::Failure)?;
    }
    let candidates = config.subject.candidates();
    let plan = plan(config);
    let (folder, journal) = match &config.resume {
        Some(path) => {
            let folder = RunFolder::open(path)?;
            let journal = Journal::resume(folder.path(), &plan)?;
            progress(BisectEvent::Resumed { runs: journal.runs() });
            (folder, journal)
        }
        None => {
            let folder = RunFolder::create(&config.run.out)?;
            let journal = Journal::create(folder.path(), &plan)?;
            (folder, journal)
        }
    };
    let guest = execute::prepare(&config.run, &folder).map_err(BisectTrouble::Failure)?;
    progress(BisectEvent::Run(RunEvent::Accelerator(&guest.chosen.decision())));
    let shelf = Shelf::new(config.run.project.snapshots());
    let shared = Shared { config: &config.run, folder: &folder, guest: &guest, shelf: &shelf };
    let mut tester =
        Kernels::new(&shared, &config.subject, &candidates, &config.expect, Some(journal), progress);
    let last = candidates.len().saturating_sub(1);
    let found = engine::bisect(&mut tester, last, &config.demand)
        .map_err(|trouble| BisectTrouble::of(trouble, &folder))?;
    let mode = config.subject.mode();
    let (exit_code, sentence) =
        bisect::conclusion(mode, &found.end, found.verification.as_ref(), &found.certainty);
    let summary = BisectSummary {
        schema: bisect::SCHEMA,
        nstrail: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: folder.id().to_owned(),
        exit_code,
        sentence,
        reproducer: execute::reproducer(&config.run, names(config)),
        mode,
        kernel: config.run.version.clone(),
        with: config.subject.with(),
        scenarios: names(config).map(str::to_owned).collect(),
        seed: config.run.seed,
        expect: config.expect.clone(),
        candidates,
        steps: found.steps,
        end: found.end,
        verification: found.verification,
        certainty: found.certainty,
        seconds: started.elapsed().as_secs_f64(),
    };
    let json = serde_json::to_string_pretty(&summary).unwrap_or_default();
    execute::write(&folder, bisect::FILE_NAME, &escape::json(&json))?;
    if let Subject::Git(git) = &config.subject {
        execute::write(&folder, "bisect.log", &bisect_text::git_log(&summary, &git.ids()))?;
    }
    folder.link_latest()?;
    Ok((summary, folder))
}

/// Tests the only candidate of a git subject: what `git bisect run` asks for at each step.
///
/// # Errors
/// As [`execute`].
pub fn judge(
    config: &BisectConfig,
    rate: Rate,
    progress: &mut dyn FnMut(BisectEvent<'_>),
) -> Result<(StepSummary, CandidateSummary, RunFolder), BisectTrouble> {
    let mut candidates = config.subject.candidates();
    let folder = RunFolder::create(&config.run.out)?;
    let guest = execute::prepare(&config.run, &folder).map_err(BisectTrouble::Failure)?;
    progress(BisectEvent::Run(RunEvent::Accelerator(&guest.chosen.decision())));
    let shelf = Shelf::new(config.run.project.snapshots());
    let shared = Shared { config: &config.run, folder: &folder, guest: &guest, shelf: &shelf };
    let mut tester = Kernels::new(&shared, &config.subject, &candidates, &config.expect, None, progress);
    let step = engine::judge_one(&mut tester, &config.demand, rate)
        .map_err(|trouble| BisectTrouble::of(trouble, &folder))?;
    folder.link_latest()?;
    Ok((step, candidates.swap_remove(0), folder))
}

fn names(config: &BisectConfig) -> impl Iterator<Item = &str> {
    config.run.scenarios.iter().map(|scenario| scenario.name.as_str())
}

/// What a resumed bisection must have in common with the one that it goes on with.
fn plan(config: &BisectConfig) -> Vec<String> {
    let Demand { confidence, rate, max_runs } = config.demand;
    let rate = rate.map_or_else(|| "measured".to_owned(), |rate| rate.to_string());
    let mut plan = config.subject.plan();
    plan.push(format!("confidence {confidence}, rate {rate}, at most {max_runs} runs"));
    plan.push(format!("seed {}, vCPUs {:?}", config.run.seed, config.run.guest.vcpus));
    plan.push(format!("expect {:?}", config.expect));
    plan.extend(config.run.scenarios.iter().map(|scenario| {
        let json = serde_json::to_string(scenario).unwrap_or_default();
        format!("scenario {} {}", scenario.name, crate::kernel::Hash::of(json.as_bytes()))
    }));
    plan
}
