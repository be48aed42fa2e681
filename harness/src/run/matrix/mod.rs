// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a matrix: builds one kernel at a time, guests as many at once as the machine carries.
//!
//! One thread decides; builds and guests run in threads of their own and tell it what happens. What is done is in
//! the journal before anything else starts. The kernel without the series runs beside each one: its smoke always,
//! another scenario only where that one does not get through with the series.

mod budget;
mod journal;
mod times;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Scope;
use std::time::{Duration, Instant};

use nstrail_wire::scenario::Scenario;
use thiserror::Error;

pub use self::journal::{JOURNAL, JournalError};
use self::{
    budget::Budget,
    journal::{Done, Journal},
    times::Times,
};
use super::{
    baseline,
    execute::{self, Base, Guest, RunConfig, RunEvent, Shared, kernel_failure, note_image, series_summary},
    folder::{FolderError, RunFolder},
};
use crate::{
    kernel::{self, BuildEvent, KernelImage, KernelSpec},
    outcome::Outcome,
    plan::matrix::{Cell, KernelCell},
    process::interrupt,
    report::summary::{
        BaselineScenario, BaselineSummary, Failure, Figures, KernelSummary, RunSummary, ScenarioSummary,
        SnapshotState, Stage,
    },
    snapshot::Mode,
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

/// Which of a cell's two kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Side {
    Patched,
    Baseline,
}

/// What threads tell.
enum Told {
    Build(usize, BuildEvent),
    Built(usize, Result<Arc<KernelImage>, Failure>, Duration),
    Records(usize, u64),
    Ran(usize, Box<ScenarioSummary>, Duration),
}

/// A kernel to build.
struct Job {
    kernel: KernelCell,
    side: Side,
    name: String,
    image: Option<Result<Arc<KernelImage>, Failure>>,
    /// Guests that wait for it.
    cells: Vec<usize>,
    started: bool,
}

/// A guest to run.
struct Task {
    id: String,
    job: usize,
    scenario: Scenario,
    vcpus: u8,
    state: TaskState,
    attempts: Vec<Outcome>,
}

impl Task {
    fn is_skipped(&self) -> bool {
        matches!(&self.state, TaskState::Done(ran) if ran.outcome == Outcome::Skipped)
    }

    const fn is_waiting(&self) -> bool {
        matches!(self.state, TaskState::Waiting)
    }
}

enum TaskState {
    Waiting,
    Running,
    Done(Box<ScenarioSummary>),
}

/// How often the deciding thread looks whether it was interrupted.
const TICK: Duration = Duration::from_millis(100);

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
    progress(MatrixEvent::Accelerator(&guest.decision));
    let mut runner = Runner::new(config, &folder, &guest, journal, done, Times::load(&any.store));
    std::thread::scope(|scope| runner.run(scope, progress))?;
    let times = std::mem::take(&mut runner.times);
    times.save(&any.store);
    if interrupt::requested().is_some() {
        return Err(MatrixTrouble::Interrupted(folder.path().to_owned()));
    }
    let kernels = runner.kernels();
    let outcome = RunSummary::judge(&kernels);
    let summary =
        RunSummary::new(folder.id(), outcome, config.reproducer.clone(), kernels, started.elapsed());
    execute::write_reports(&folder, &summary)?;
    Ok((summary, folder))
}

struct Runner<'a> {
    config: &'a MatrixConfig,
    folder: &'a RunFolder,
    guest: &'a Guest,
    journal: Journal,
    times: Times,
    jobs: Vec<Job>,
    tasks: Vec<Task>,
    /// Jobs to build, the longest first.
    builds: VecDeque<usize>,
    building: bool,
    running: usize,
    whole: Budget,
    free: Budget,
    /// Nothing more starts.
    stopped: bool,
}

impl<'a> Runner<'a> {
    fn new(
        config: &'a MatrixConfig,
        folder: &'a RunFolder,
        guest: &'a Guest,
        journal: Journal,
        mut done: Done,
        times: Times,
    ) -> Self {
        let whole = Budget::of_machine();
        let mut runner = Self {
            config,
            folder,
            guest,
            journal,
            times,
            jobs: Vec::new(),
            tasks: Vec::new(),
            builds: VecDeque::new(),
            building: false,
            running: 0,
            whole,
            free: whole,
            stopped: false,
        };
        for cell in &config.cells {
            let side = if config.kernels[&cell.kernel].kernel.series.is_some() {
                Side::Patched
            } else {
                Side::Baseline
            };
            let job = runner.job(&cell.kernel, Side::Patched);
            if config.baseline && side == Side::Patched {
                runner.baseline_task(&cell.kernel, baseline::SCENARIO, None, &mut done);
            }
            let state = match (done.cells.remove(&cell.id()), &cell.excluded) {
                (Some(summary), _) => TaskState::Done(Box::new(summary)),
                (None, Some(reason)) => TaskState::Done(Box::new(skipped(
                    &cell.scenario,
                    cell.vcpus,
                    config.kernels[&cell.kernel].seed,
                    reason,
                ))),
                (None, None) => TaskState::Waiting,
            };
            runner.add(job, cell.id(), cell.scenario.clone(), cell.vcpus, state);
        }
        runner
    }

    fn job(&mut self, kernel: &KernelCell, side: Side) -> usize {
        let same = |job: &Job| job.kernel == *kernel && job.side == side;
        if let Some(at) = self.jobs.iter().position(same) {
            return at;
        }
        let name = match side {
            Side::Patched => kernel.to_string(),
            Side::Baseline => format!("{kernel} unpatched"),
        };
        let kernel = kernel.clone();
        self.jobs.push(Job { kernel, side, name, image: None, cells: Vec::new(), started: false });
        self.jobs.len() - 1
    }

    fn add(&mut self, job: usize, id: String, scenario: Scenario, vcpus: u8, state: TaskState) {
        self.jobs[job].cells.push(self.tasks.len());
        self.tasks.push(Task { id, job, scenario, vcpus, state, attempts: Vec::new() });
    }

    /// A scenario on the kernel without the series, unless it is there already.
    fn baseline_task(&mut self, kernel: &KernelCell, name: &str, vcpus: Option<u8>, done: &mut Done) {
        // Embedded ones cannot be missing; the user's own were read before.
        let scenario = self
            .config
            .cells
            .iter()
            .map(|cell| &cell.scenario)
            .find(|scenario| scenario.name == name)
            .cloned()
            .or_else(|| crate::plan::scenario::find(name).ok());
        let Some(scenario) = scenario else { return };
        let vcpus = vcpus.unwrap_or(scenario.vcpus);
        let id = format!("{kernel}/{name}/{vcpus} unpatched");
        if self.tasks.iter().any(|task| task.id == id) {
            return;
        }
        let job = self.job(kernel, Side::Baseline);
        let state = match done.baselines.remove(&id) {
            Some(ran) => TaskState::Done(Box::new(of_baseline(&scenario, ran))),
            None => TaskState::Waiting,
        };
        self.add(job, id, scenario, vcpus, state);
    }

    fn run<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, 'a>,
        progress: &mut dyn FnMut(MatrixEvent<'_>),
    ) -> Result<(), JournalError> {
        let (sender, receiver): (Sender<Told>, Receiver<Told>) = mpsc::channel();
        self.plan_builds();
        loop {
            self.stopped |= interrupt::requested().is_some();
            if !self.stopped {
                self.start_build(scope, &sender, progress);
                self.start_guests(scope, &sender, progress);
            }
            if self.running == 0 && !self.building {
                return Ok(());
            }
            match receiver.recv_timeout(TICK) {
                Ok(told) => self.take(told, progress)?,
                Err(RecvTimeoutError::Timeout) => {}
                // We hold a sender ourselves.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Kernels that some waiting guest needs, the one with the most work behind it first.
    fn plan_builds(&mut self) {
        let work = |job: &Job| -> f64 {
            let waiting = job.cells.iter().map(|at| &self.tasks[*at]);
            waiting.filter(|task| task.is_waiting()).map(|task| self.expected(task)).sum()
        };
        let mut order: Vec<(f64, usize)> = self
            .jobs
            .iter()
            .enumerate()
            // One whose guests are all done comes from the cache, and says which kernel it is.
            .filter(|(_, job)| !job.started && job.cells.iter().any(|at| !self.tasks[*at].is_skipped()))
            .map(|(at, job)| (work(job) + self.times.expected(&format!("build {}", job.name), 0.0), at))
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        self.builds = order.into_iter().map(|(_, at)| at).collect();
    }

    fn expected(&self, task: &Task) -> f64 {
        // Never seen: a scenario's limit tells the long ones from the short ones.
        self.times.expected(&task.id, f64::from(task.scenario.wall_seconds) / 10.0)
    }

    fn spec(&self, job: &Job) -> KernelSpec {
        let mut spec = self.config.kernels[&job.kernel].kernel.clone();
        if job.side == Side::Baseline {
            spec.series = None;
        }
        spec.background = true;
        spec
    }

    fn start_build<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, 'a>,
        sender: &Sender<Told>,
        progress: &mut dyn FnMut(MatrixEvent<'_>),
    ) {
        if self.building {
            return;
        }
        let Some(at) = self.builds.pop_front() else { return };
        self.jobs[at].started = true;
        self.building = true;
        let spec = self.spec(&self.jobs[at]);
        let store = &self.config.kernels[&self.jobs[at].kernel].store;
        progress(MatrixEvent::BuildStarted { kernel: &self.jobs[at].name });
        let sender = sender.clone();
        scope.spawn(move || {
            let start = Instant::now();
            // The deciding thread outlives us: it waits for our word.
            let built = kernel::build(store, &spec, &mut |event| drop(sender.send(Told::Build(at, event))));
            let built = built.map(Arc::new).map_err(|trouble| kernel_failure(&trouble));
            let _ = sender.send(Told::Built(at, built, start.elapsed()));
        });
    }

    /// Of the guests whose kernel is there the longest first; a shorter one may pass by one that does not fit yet.
    fn start_guests<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, 'a>,
        sender: &Sender<Told>,
        progress: &mut dyn FnMut(MatrixEvent<'_>),
    ) {
        let mut ready: Vec<(f64, usize)> = self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| task.is_waiting())
            .filter(|(_, task)| matches!(self.jobs[task.job].image, Some(Ok(_))))
            .map(|(at, task)| (self.expected(task), at))
            .collect();
        ready.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, at) in ready {
            let task = &self.tasks[at];
            if self.free.take(task.vcpus, task.scenario.memory_mib) {
                self.start_guest(scope, at, sender.clone());
                progress(MatrixEvent::Started { id: &self.tasks[at].id });
            }
        }
    }

    fn start_guest<'scope>(&mut self, scope: &'scope Scope<'scope, 'a>, at: usize, sender: Sender<Told>) {
        let task = &mut self.tasks[at];
        task.state = TaskState::Running;
        self.running += 1;
        let job = &self.jobs[task.job];
        let Some(Ok(image)) = &job.image else { return };
        let (image, side, kernel) = (Arc::clone(image), job.side, &job.kernel);
        let Some((_, config)) = self.config.kernels.get_key_value(kernel) else { return };
        let shared = Shared { config, folder: self.folder, guest: self.guest };
        let (scenario, vcpus) = (task.scenario.clone(), task.vcpus);
        let place = place(kernel, side, &scenario, vcpus, task.attempts.len());
        scope.spawn(move || {
            let start = Instant::now();
            let snapshots = if side == Side::Patched { shared.config.snapshots } else { Mode::Off };
            let base = Base { shared: &shared, image: &image, snapshots };
            let ran = base.scenario(&scenario, vcpus, &place, &mut |event| {
                if let RunEvent::Records { count, .. } = event {
                    let _ = sender.send(Told::Records(at, count));
                }
            });
            let _ = sender.send(Told::Ran(at, Box::new(ran), start.elapsed()));
        });
    }

    fn take(&mut self, told: Told, progress: &mut dyn FnMut(MatrixEvent<'_>)) -> Result<(), JournalError> {
        match told {
            Told::Build(at, event) => {
                progress(MatrixEvent::Build { kernel: &self.jobs[at].name, event: &event });
            }
            Told::Records(at, count) => progress(MatrixEvent::Records { id: &self.tasks[at].id, count }),
            Told::Built(at, built, time) => {
                self.building = false;
                let job = &mut self.jobs[at];
                if built.as_ref().is_ok_and(|image| !image.cached) {
                    self.times.note(&format!("build {}", job.name), time.as_secs_f64());
                }
                let failure = built.as_ref().err();
                progress(MatrixEvent::BuildEnded { kernel: &job.name, seconds: time.as_secs_f64(), failure });
                self.stopped |= failure.is_some() && self.config.fail_fast && job.side == Side::Patched;
                job.image = Some(built);
            }
            Told::Ran(at, ran, time) => self.ran(at, ran, time, progress)?,
        }
        Ok(())
    }

    fn ran(
        &mut self,
        at: usize,
        mut ran: Box<ScenarioSummary>,
        time: Duration,
        progress: &mut dyn FnMut(MatrixEvent<'_>),
    ) -> Result<(), JournalError> {
        self.running -= 1;
        let task = &mut self.tasks[at];
        self.free.give(self.whole, task.vcpus, task.scenario.memory_mib);
        if interrupt::requested().is_some() {
            // It was ended by us: it has not run.
            task.state = TaskState::Waiting;
            return Ok(());
        }
        let id = task.id.clone();
        let side = self.jobs[task.job].side;
        let kernel = self.jobs[task.job].kernel.clone();
        if side == Side::Baseline {
            let kept = baseline::baseline_scenario(&ran);
            self.times.note(&id, time.as_secs_f64());
            self.journal.baseline(&id, &kept)?;
            progress(MatrixEvent::Ended { id: &id, outcome: kept.outcome, seconds: time.as_secs_f64() });
            task.state = TaskState::Done(ran);
            return Ok(());
        }
        if ran.outcome != Outcome::Passed && task.attempts.len() < self.config.retries as usize {
            progress(MatrixEvent::Retry { id: &id, outcome: ran.outcome });
            task.attempts.push(ran.outcome);
            task.state = TaskState::Waiting;
            return Ok(());
        }
        ran.attempts.clone_from(&task.attempts);
        if ran.outcome == Outcome::Passed {
            self.times.note(&id, time.as_secs_f64());
            if self.config.flaky_fails
                && let Some(worst) = Outcome::of_parts(task.attempts.iter().copied())
            {
                ran.outcome = worst;
                ran.reason = Some(format!("flaky: passed only at attempt {}", task.attempts.len() + 1));
            }
        }
        progress(MatrixEvent::Ended { id: &id, outcome: ran.outcome, seconds: time.as_secs_f64() });
        self.journal.cell(&id, &ran)?;
        self.stopped |= ran.outcome != Outcome::Passed && self.config.fail_fast;
        let asks = self.config.baseline
            && baseline::is_asked_for(&ran)
            && self.config.kernels[&kernel].kernel.series.is_some();
        let (name, vcpus) = (ran.name.clone(), ran.vcpus);
        task.state = TaskState::Done(ran);
        if asks {
            self.baseline_task(&kernel, &name, Some(vcpus), &mut Done::default());
            self.plan_builds();
        }
        Ok(())
    }

    /// What it all came to, in the order of the matrix.
    fn kernels(self) -> Vec<KernelSummary> {
        let mut kernels: Vec<KernelSummary> = Vec::new();
        let mut tasks: Vec<Option<Task>> = self.tasks.into_iter().map(Some).collect();
        for job in self.jobs.iter().filter(|job| job.side == Side::Patched) {
            let config = &self.config.kernels[&job.kernel];
            let mut kernel = KernelSummary {
                version: job.kernel.kernel.clone(),
                config: job.kernel.config.name.clone(),
                series: series_summary(&config.kernel),
                accelerator: Some(self.guest.decision.accelerator.word().to_owned()),
                accelerator_reason: Some(self.guest.decision.reason.clone()),
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
            let beside = |other: &&Job| other.side == Side::Baseline && other.kernel == job.kernel;
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

/// Where a guest's files go: `6.12+lockdep/churn`, with the vCPUs if they are not the scenario's own.
fn place(kernel: &KernelCell, side: Side, scenario: &Scenario, vcpus: u8, attempt: usize) -> PathBuf {
    let mut name = scenario.name.clone();
    if vcpus != scenario.vcpus {
        name.push_str(&format!("-{vcpus}vcpu"));
    }
    if attempt > 0 {
        name.push_str(&format!("-retry{attempt}"));
    }
    let folder = PathBuf::from(kernel.to_string());
    match side {
        Side::Patched => folder.join(name),
        Side::Baseline => folder.join("unpatched").join(name),
    }
}

fn skipped(scenario: &Scenario, vcpus: u8, seed: u64, reason: &str) -> ScenarioSummary {
    ScenarioSummary {
        name: scenario.name.clone(),
        seed,
        vcpus,
        outcome: Outcome::Skipped,
        reason: Some(reason.to_owned()),
        attempts: Vec::new(),
        baseline: None,
        figures: Figures::default(),
        findings: Vec::new(),
        findings_not_listed: 0,
        loss_doubts: Vec::new(),
        snapshot: SnapshotState::NotCompared { reason: "it did not run".to_owned() },
        console: Vec::new(),
        adapted: Vec::new(),
        artifacts: String::new(),
        reproducer: String::new(),
    }
}

/// A baseline's scenario of an earlier session, as far as it is kept.
fn of_baseline(scenario: &Scenario, ran: BaselineScenario) -> ScenarioSummary {
    let reason = ran.reason.clone().unwrap_or_default();
    let mut summary = skipped(scenario, ran.vcpus, 0, &reason);
    summary.outcome = ran.outcome;
    summary.reason = ran.reason;
    summary.figures.workload_seconds = ran.workload_seconds;
    summary
}

/// The newest run's folder that has a journal.
#[must_use]
pub fn has_journal(folder: &Path) -> bool {
    folder.join(JOURNAL).is_file()
}
