// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that decides what is built and run next.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Scope;
use std::time::{Duration, Instant};

use nstrail_wire::scenario::Scenario;

use super::{
    MatrixConfig, MatrixEvent,
    budget::Budget,
    journal::{Done, Journal, JournalError},
    outcome::{of_baseline, skipped},
    times::Times,
};
use crate::{
    kernel::{self, BuildEvent, KernelImage, KernelSpec},
    outcome::Outcome,
    plan::matrix::{BaselineRuns, KernelCell},
    process::interrupt,
    report::summary::{Failure, ScenarioSummary},
    run::{
        baseline,
        execute::{Base, Guest, RunEvent, Shared, kernel_failure},
        folder::RunFolder,
    },
    snapshot::{Mode, Shelf},
    vm::accelerator::Decision,
};

/// Which of a cell's two kernels: the one that was asked for, or the one to compare it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    Tested,
    Baseline,
}

/// What threads tell.
enum Told {
    Build(usize, BuildEvent),
    Built(usize, Result<Arc<KernelImage>, Failure>, Duration),
    Fallback(Decision),
    Records(usize, u64),
    Ran(usize, Box<ScenarioSummary>, Duration),
}

/// A kernel to build.
pub(super) struct Job {
    pub kernel: KernelCell,
    pub side: Side,
    name: String,
    pub image: Option<Result<Arc<KernelImage>, Failure>>,
    /// Guests that wait for it.
    pub cells: Vec<usize>,
    started: bool,
}

/// A guest to run.
pub(super) struct Task {
    id: String,
    job: usize,
    pub scenario: Scenario,
    pub vcpus: u8,
    pub state: TaskState,
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

pub(super) enum TaskState {
    Waiting,
    Running,
    Done(Box<ScenarioSummary>),
}

/// How often the deciding thread looks whether it was interrupted.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Runner<'a> {
    pub config: &'a MatrixConfig,
    pub folder: &'a RunFolder,
    pub guest: &'a Guest,
    shelf: &'a Shelf,
    journal: Journal,
    pub times: Times,
    pub jobs: Vec<Job>,
    pub tasks: Vec<Task>,
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
    pub fn new(
        config: &'a MatrixConfig,
        folder: &'a RunFolder,
        guest: &'a Guest,
        shelf: &'a Shelf,
        journal: Journal,
        mut done: Done,
        times: Times,
    ) -> Self {
        let whole = Budget::of_machine();
        let mut runner = Self {
            config,
            folder,
            guest,
            shelf,
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
            let job = runner.job(&cell.kernel, Side::Tested);
            let always = cell.kernel.config.baseline == BaselineRuns::Always;
            if always && runner.has_baseline(&cell.kernel) && cell.excluded.is_none() {
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
            let asks = matches!(&state, TaskState::Done(ran) if baseline::is_asked_for(ran));
            runner.add(job, cell.id(), cell.scenario.clone(), cell.vcpus, state);
            if asks {
                runner.ask_baseline(&cell.kernel, Some((&cell.scenario.name, cell.vcpus)), &mut done);
            }
        }
        runner
    }

    /// Whether there is something to compare it with: not for a kernel that has no series itself.
    fn has_baseline(&self, kernel: &KernelCell) -> bool {
        self.config.baseline && self.config.kernels[kernel].kernel.series.is_some()
    }

    fn job(&mut self, kernel: &KernelCell, side: Side) -> usize {
        let same = |job: &Job| job.kernel == *kernel && job.side == side;
        if let Some(at) = self.jobs.iter().position(same) {
            return at;
        }
        let name = match side {
            Side::Tested => kernel.to_string(),
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

    /// Something went wrong with the series: does it without?
    fn ask_baseline(&mut self, kernel: &KernelCell, same: Option<(&str, u8)>, done: &mut Done) {
        if !self.has_baseline(kernel) {
            return;
        }
        self.baseline_task(kernel, baseline::SCENARIO, None, done);
        if let Some((name, vcpus)) = same {
            self.baseline_task(kernel, name, Some(vcpus), done);
        }
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

    pub fn run<'scope>(
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
        let shared = Shared { config, folder: self.folder, guest: self.guest, shelf: self.shelf };
        let (scenario, vcpus) = (task.scenario.clone(), task.vcpus);
        let place = place(kernel, side, &scenario, vcpus, task.attempts.len());
        let again = self.config.resume.is_some();
        scope.spawn(move || {
            let start = Instant::now();
            if again {
                // What a guest that was cut off has left; there is nothing where it never started.
                let _ = std::fs::remove_dir_all(shared.folder.path().join(&place));
            }
            let snapshots = if side == Side::Tested { shared.config.snapshots } else { Mode::Off };
            let base = Base { shared: &shared, image: &image, snapshots };
            let ran = base.scenario(&scenario, vcpus, &place, &mut |event| {
                let _ = match event {
                    RunEvent::Records { count, .. } => sender.send(Told::Records(at, count)),
                    RunEvent::Fallback(decision) => sender.send(Told::Fallback(decision.clone())),
                    _ => Ok(()),
                };
            });
            let _ = sender.send(Told::Ran(at, Box::new(ran), start.elapsed()));
        });
    }

    fn take(&mut self, told: Told, progress: &mut dyn FnMut(MatrixEvent<'_>)) -> Result<(), JournalError> {
        match told {
            Told::Build(at, event) => {
                progress(MatrixEvent::Build { kernel: &self.jobs[at].name, event: &event });
            }
            Told::Fallback(decision) => progress(MatrixEvent::Accelerator(&decision)),
            Told::Records(at, count) => progress(MatrixEvent::Records { id: &self.tasks[at].id, count }),
            Told::Built(at, built, time) => {
                self.building = false;
                let job = &mut self.jobs[at];
                if built.as_ref().is_ok_and(|image| !image.cached) {
                    self.times.note(&format!("build {}", job.name), time.as_secs_f64());
                }
                let failure = built.as_ref().err();
                progress(MatrixEvent::BuildEnded { kernel: &job.name, seconds: time.as_secs_f64(), failure });
                let fails = failure.is_some() && job.side == Side::Tested;
                let kernel = job.kernel.clone();
                job.image = Some(built);
                if fails {
                    self.stopped |= self.config.fail_fast;
                    self.ask_baseline(&kernel, None, &mut Done::default());
                    self.plan_builds();
                }
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
        let asks = baseline::is_asked_for(&ran);
        let (name, vcpus) = (ran.name.clone(), ran.vcpus);
        task.state = TaskState::Done(ran);
        if asks {
            self.ask_baseline(&kernel, Some((&name, vcpus)), &mut Done::default());
            self.plan_builds();
        }
        Ok(())
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
        Side::Tested => folder.join(name),
        Side::Baseline => folder.join("unpatched").join(name),
    }
}
