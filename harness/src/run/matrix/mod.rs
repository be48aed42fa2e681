// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a matrix: builds one kernel at a time, guests as many at once as the machine carries.
//!
//! One thread decides; builds and guests run in threads of their own and tell it what happens. What is done is in
//! the journal before anything else starts. The kernel without the series runs beside each one: its smoke always (or,
//! if the configuration says so, only where something goes wrong), another scenario only where that one does not get
//! through with the series.

mod budget;
mod journal;
mod outcome;
mod runner;
mod times;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use thiserror::Error;

pub use self::journal::{JOURNAL, JournalError};
use self::{
    journal::{Done, Journal},
    runner::Runner,
    times::Times,
};
use super::{
    execute::{self, RunConfig},
    folder::{FolderError, RunFolder},
};
use crate::{
    kernel::BuildEvent,
    outcome::Outcome,
    plan::matrix::{Cell, KernelCell},
    process::interrupt,
    report::summary::{Failure, RunSummary},
    snapshot::Shelf,
    vm::accelerator::Decision,
};

/// A matrix that is to be run.
#[derive(Debug)]
pub struct MatrixConfig {
    pub cells: Vec<Cell>,
    /// How each kernel of the cells is made and run.
    pub kernels: BTreeMap<KernelCell, RunConfig>,
    /// Whether the kernels without the series run as well.
    pub baseline: bool,
    /// After the first cell that is not passed, nothing more starts.
    pub fail_fast: bool,
    /// How often a cell that is not passed is tried again.
    pub retries: u32,
    /// Whether a cell that passes only when tried again fails.
    pub flaky_fails: bool,
    pub out: PathBuf,
    /// A run's folder to go on in.
    pub resume: Option<PathBuf>,
    /// The command line that runs the same again.
    pub reproducer: String,
}

/// What happens, for whoever shows progress.
#[derive(Debug)]
pub enum MatrixEvent<'a> {
    Accelerator(&'a Decision),
    /// So many cells are done already.
    Resumed {
        cells: usize,
    },
    /// What a build tells, by the kernel's name.
    Build {
        kernel: &'a str,
        event: &'a BuildEvent,
    },
    BuildStarted {
        kernel: &'a str,
    },
    BuildEnded {
        kernel: &'a str,
        seconds: f64,
        failure: Option<&'a Failure>,
    },
    Started {
        id: &'a str,
    },
    Records {
        id: &'a str,
        count: u64,
    },
    Ended {
        id: &'a str,
        outcome: Outcome,
        seconds: f64,
    },
    /// It is tried again.
    Retry {
        id: &'a str,
        outcome: Outcome,
    },
}

/// A matrix that has no result.
#[derive(Debug, Error)]
pub enum MatrixTrouble {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Prepare(String),
    #[error("interrupted (hint: what is done is kept, --resume {} goes on)", .0.display())]
    Interrupted(PathBuf),
}

/// Runs it.
///
/// # Errors
/// If there is no folder or journal, QEMU or the agent is missing, or it was interrupted.
pub fn execute(
    config: &MatrixConfig,
    progress: &mut dyn FnMut(MatrixEvent<'_>),
) -> Result<(RunSummary, RunFolder), MatrixTrouble> {
    let started = Instant::now();
    let ids: Vec<String> = config.cells.iter().map(Cell::id).collect();
    let (folder, journal, done) = match &config.resume {
        Some(path) => {
            let folder = RunFolder::open(path)?;
            let (journal, done) = Journal::resume(folder.path(), &ids)?;
            progress(MatrixEvent::Resumed { cells: done.cells.len() });
            (folder, journal, done)
        }
        None => {
            let folder = RunFolder::create(&config.out)?;
            let journal = Journal::create(folder.path(), &ids)?;
            (folder, journal, Done::default())
        }
    };
    let Some(any) = config.kernels.values().next() else {
        return Err(MatrixTrouble::Prepare("the matrix has no kernel".to_owned()));
    };
    let guest = execute::prepare(any, &folder).map_err(|failure| MatrixTrouble::Prepare(failure.message))?;
    progress(MatrixEvent::Accelerator(&guest.chosen.decision()));
    let shelf = Shelf::new(any.project.snapshots());
    let mut runner = Runner::new(config, &folder, &guest, &shelf, journal, done, Times::load(&any.store));
    std::thread::scope(|scope| runner.run(scope, progress))?;
    let times = std::mem::take(&mut runner.times);
    times.save(&any.store);
    if interrupt::requested().is_some() {
        return Err(MatrixTrouble::Interrupted(folder.path().to_owned()));
    }
    let kernels = runner.kernels();
    let outcome = RunSummary::judge(&kernels);
    let summary =
        RunSummary::new(folder.id(), outcome, config.reproducer.clone(), kernels, started.elapsed())
            // All kernels have the same file.
            .with_expired_splats(any.guest.known_splats.expired());
    execute::write_reports(&folder, &summary)?;
    Ok((summary, folder))
}
