// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole run: the kernel, then each scenario on it, then the summary.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nstrail_wire::{
    scenario::{Scenario, numbered},
    version::KernelVersion,
};

use super::{
    capture::{CANONICAL, SCENARIO},
    drive::{self, Driven, GuestEnding},
    each_patch,
    folder::{FolderError, RunFolder},
    judge,
};
use crate::{
    check::CheckOptions,
    kernel::{self, BuildEvent, DotConfig, KernelError, KernelImage, KernelSpec, NotDecoded, Origin, Store},
    outcome::Outcome,
    plan::{known_splats::KnownSplats, line, project::Project, title::title},
    process::interrupt,
    report::{
        escape, ktap,
        summary::{
            ConsoleSummary, Failure, KernelSummary, PatchSummary, RunSummary, ScenarioSummary, SeriesSummary,
            SnapshotState, Stage,
        },
    },
    snapshot::{Canonical, Comparison, Lineage, Mode, Shelf, Title},
    vm::{
        Limits, Perturbation, VmSpec,
        accelerator::{Accelerator, AcceleratorChoice, Decision},
        agent,
        fallback::{Carried, Chosen},
        initramfs,
    },
};

/// Everything that a run is made from.
#[derive(Debug, Clone)]
pub struct RunConfig {
    pub project: Project,
    pub store: Store,
    /// As asked for: names the folder, `6.12`.
    pub version: String,
    pub kernel: KernelSpec,
    pub scenarios: Vec<Scenario>,
    pub guest: GuestConfig,
    pub seed: u64,
    pub out: PathBuf,
    pub snapshots: Mode,
    /// Whether each patch is validated on top of those before it.
    pub each_patch: Option<EachPatch>,
    /// The command line that runs the same again, without scenarios.
    pub reproducer: String,
}

/// How each patch is validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EachPatch {
    /// Whether a patch fails for what checkpatch says.
    pub deny_checkpatch: bool,
}

/// How guests are run.
#[derive(Debug, Clone)]
pub struct GuestConfig {
    pub qemu: PathBuf,
    pub accelerator: AcceleratorChoice,
    /// `None`: the scenario's.
    pub vcpus: Option<u8>,
    pub wall: Option<Duration>,
    pub silence: Option<Duration>,
    /// How the guest's timing is disturbed.
    pub perturbation: Perturbation,
    /// Additional kernel parameters.
    pub append: Vec<String>,
    /// Splats that do not count.
    pub known_splats: KnownSplats,
}

impl GuestConfig {
    /// How many vCPUs a scenario gets: as the user says, or as it is to be disturbed, or as it says itself.
    #[must_use]
    pub fn vcpus(&self, scenario: &Scenario) -> u8 {
        self.vcpus.or(self.perturbation.vcpus).unwrap_or(scenario.vcpus)
    }
}

/// What happens, for whoever shows progress.
#[derive(Debug)]
pub enum RunEvent<'a> {
    Kernel(BuildEvent),
    Accelerator(&'a Decision),
    /// A guest has shown that KVM does not work.
    Fallback(&'a Decision),
    Patch {
        number: usize,
        of: usize,
        name: &'a str,
        symbol: &'a str,
    },
    PatchEnded(&'a PatchSummary),
    Scenario {
        name: &'a str,
        vcpus: u8,
    },
    Records {
        name: &'a str,
        count: u64,
    },
    Ended {
        name: &'a str,
        outcome: Outcome,
        seconds: f64,
    },
}

/// Kernel parameters that every scenario needs: audit from boot, and a backlog that throttles the guest
/// before it drops a record.
pub const AUDIT_PARAMETERS: [&str; 2] = [AUDIT_ON, "audit_backlog_limit=8192"];

/// Of these the one that a scenario may do without (`audit_at_boot`).
const AUDIT_ON: &str = "audit=1";

/// How long the trace of one splat may be looked up in the sources.
const DECODE_LIMIT: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Debug)]
pub struct Executed {
    pub summary: RunSummary,
    pub folder: RunFolder,
    /// Why the summary is not in the run's folder.
    pub unwritten: Option<FolderError>,
}

/// Runs it all. The summary is complete whatever happens, and lies in the run's folder with the KTAP report, unless that cannot be written.
///
/// # Errors
/// If the run's folder cannot be made.
pub fn execute(config: &RunConfig, progress: &mut dyn FnMut(RunEvent<'_>)) -> Result<Executed, FolderError> {
    let started = Instant::now();
    let folder = RunFolder::create(&config.out)?;
    let kernels = vec![one_kernel(config, &folder, progress)];
    let outcome = RunSummary::judge(&kernels);
    let reproducer = reproducer(config, config.scenarios.iter().map(|scenario| scenario.name.as_str()));
    let summary = RunSummary::new(folder.id(), outcome, reproducer, kernels, started.elapsed())
        .with_expired_splats(config.guest.known_splats.expired());
    let unwritten = write_reports(&folder, &summary).err();
    Ok(Executed { summary, folder, unwritten })
}

/// summary.json, report.ktap, and `out/latest`.
///
/// # Errors
/// If the run's folder cannot be written.
pub fn write_reports(folder: &RunFolder, summary: &RunSummary) -> Result<(), FolderError> {
    let json = escape::json(&serde_json::to_string_pretty(summary).unwrap_or_default());
    write(folder, "summary.json", &json)?;
    write(folder, "report.ktap", &ktap::render(summary))?;
    folder.link_latest()
}

pub(super) fn write(folder: &RunFolder, name: &str, text: &str) -> Result<(), FolderError> {
    let path = folder.path().join(name);
    fs::write(&path, text).map_err(|source| FolderError { path, source })
}

pub(super) fn reproducer<'a>(config: &RunConfig, scenarios: impl Iterator<Item = &'a str>) -> String {
    let mut line = config.reproducer.clone();
    for scenario in scenarios {
        line.push(' ');
        line.push_str(scenario);
    }
    line
}

fn one_kernel(
    config: &RunConfig,
    folder: &RunFolder,
    progress: &mut dyn FnMut(RunEvent<'_>),
) -> KernelSummary {
    let mut summary = KernelSummary { version: config.version.clone(), ..KernelSummary::default() };
    if let Err(failure) = fill_kernel(config, folder, &mut summary, progress) {
        summary.failure = Some(failure);
    }
    summary
}

pub(super) fn error(message: impl ToString) -> Failure {
    Failure { outcome: Outcome::Error, message: message.to_string() }
}

/// Whose trouble a kernel is that could not be had.
#[must_use]
pub fn kernel_failure(trouble: &KernelError) -> Failure {
    // ENOSPC as the C library words it, whoever of make's many programs met it.
    let message = trouble.to_string();
    if message.contains("No space left on device") {
        let hint =
            "make room, or have NSTRAIL_CACHE name a folder elsewhere: this is no verdict about the kernel";
        return error(format!("{message} (hint: {hint})"));
    }
    let outcome = match trouble {
        _ if trouble.is_interrupted() => Outcome::Error,
        KernelError::Rejected(_) => Outcome::PatchRejected,
        KernelError::Config(_) | KernelError::Build { .. } | KernelError::NoImage { .. } => {
            Outcome::BuildFailed
        }
        _ => Outcome::Error,
    };
    Failure { outcome, message }
}

fn stage(name: &str, time: Duration, summary: &mut KernelSummary) {
    summary.stages.push(Stage { name: name.to_owned(), seconds: time.as_secs_f64() });
}

fn fill_kernel(
    config: &RunConfig,
    folder: &RunFolder,
    summary: &mut KernelSummary,
    progress: &mut dyn FnMut(RunEvent<'_>),
) -> Result<(), Failure> {
    summary.series = series_summary(&config.kernel);
    // First what is quickly found missing: nobody wants to hear of it after five minutes of compiling.
    let start = Instant::now();
    let guest = prepare(config, folder)?;
    progress(RunEvent::Accelerator(&guest.chosen.decision()));
    stage("prepare", start.elapsed(), summary);
    let ended = fill_guests(config, folder, &guest, summary, progress);
    // What guests ran under in the end: the first of them may have shown that KVM does not work.
    let decision = guest.chosen.decision();
    summary.accelerator = Some(decision.accelerator.word().to_owned());
    summary.accelerator_reason = Some(decision.reason);
    ended
}

fn fill_guests(
    config: &RunConfig,
    folder: &RunFolder,
    guest: &Guest,
    summary: &mut KernelSummary,
    progress: &mut dyn FnMut(RunEvent<'_>),
) -> Result<(), Failure> {
    let shelf = Shelf::new(config.project.snapshots());

    if let (Some(how), Some(series)) = (config.each_patch, &config.kernel.series) {
        let start = Instant::now();
        let shared = Shared { config, folder, guest, shelf: &shelf };
        let ended = each_patch::validate(&shared, how, series, &mut summary.patches, progress);
        stage("each patch", start.elapsed(), summary);
        ended?;
    }

    let image = kernel::build(&config.store, &config.kernel, &mut |event| progress(RunEvent::Kernel(event)))
        .map_err(|trouble| kernel_failure(&trouble))?;
    let place = PathBuf::from(&config.version);
    note_image(&image, folder, &place, summary)?;

    let start = Instant::now();
    let shared = Shared { config, folder, guest, shelf: &shelf };
    let base = Base { shared: &shared, image: &image, snapshots: config.snapshots };
    for scenario in &config.scenarios {
        if interrupt::requested().is_some() {
            return Err(error("interrupted"));
        }
        let vcpus = config.guest.vcpus(scenario);
        let ran = base.scenario(scenario, vcpus, &place.join(&scenario.name), progress);
        progress(RunEvent::Ended { name: &ran.name, outcome: ran.outcome, seconds: ran.figures.vm_seconds });
        summary.scenarios.push(ran);
    }
    stage("scenarios", start.elapsed(), summary);
    Ok(())
}

/// Puts down which kernel it is, and its configuration and build log in the run's folder.
pub(super) fn note_image(
    image: &KernelImage,
    folder: &RunFolder,
    place: &Path,
    summary: &mut KernelSummary,
) -> Result<(), Failure> {
    summary.source = image.origin.to_string();
    summary.source_sha256 = match &image.origin {
        Origin::Debian { sha256, .. } | Origin::Tarball { sha256, .. } | Origin::Directory { sha256, .. } => {
            Some(sha256.to_string())
        }
        Origin::Git { .. } => None,
    };
    summary.image_key = Some(image.key.to_string());
    summary.compiled = !image.cached;
    for (name, time) in [
        ("source", image.times.source),
        ("apply", image.times.apply),
        ("configure", image.times.configure),
        ("build", image.times.build),
    ] {
        summary.stages.push(Stage { name: name.to_owned(), seconds: time.as_secs_f64() });
    }
    let kernel_folder = folder.make(place).map_err(error)?;
    for (from, to) in [(&image.config, "config"), (&image.build_log, "build.log")] {
        fs::copy(from, kernel_folder.join(to))
            .map_err(|trouble| error(format!("cannot copy {}: {trouble}", from.display())))?;
    }
    Ok(())
}

/// The series of a kernel, for its summary.
pub(super) fn series_summary(spec: &KernelSpec) -> Option<SeriesSummary> {
    spec.series.as_ref().map(|series| SeriesSummary {
        name: series.name.clone(),
        patches: series.patches.len(),
        key: series.hash.to_string(),
        base_commit: series.base_commit.clone(),
    })
}

/// What guests need besides a kernel.
pub(super) struct Guest {
    pub chosen: Chosen,
    initrd: PathBuf,
    /// Image and fingerprint of splats whose trace was looked up in the sources, or is just being.
    decoded: Mutex<BTreeSet<(String, String)>>,
}

pub(super) fn prepare(config: &RunConfig, folder: &RunFolder) -> Result<Guest, Failure> {
    let chosen = Chosen::new(config.guest.accelerator, &config.guest.qemu, config.store.root());
    let chosen = chosen.map_err(error)?;
    let agent = agent::load(config.project.root()).map_err(error)?;
    let initrd = folder.path().join("initrd.cpio");
    if let Err(trouble) = fs::write(&initrd, initramfs::archive(&agent)) {
        // Half of it is of no use, and the summary needs the room.
        let _ = fs::remove_file(&initrd);
        return Err(error(format!("cannot write {}: {trouble}", initrd.display())));
    }
    Ok(Guest { chosen, initrd, decoded: Mutex::default() })
}

/// What all kernels of a run share.
pub(super) struct Shared<'a> {
    pub config: &'a RunConfig,
    pub folder: &'a RunFolder,
    pub guest: &'a Guest,
    pub shelf: &'a Shelf,
}

/// What all scenarios of a kernel share.
pub(super) struct Base<'a> {
    pub shared: &'a Shared<'a>,
    pub image: &'a KernelImage,
    pub snapshots: Mode,
}

impl Base<'_> {
    /// Runs a scenario; what it leaves goes to `place` in the run's folder.
    pub fn scenario(
        &self,
        scenario: &Scenario,
        vcpus: u8,
        place: &Path,
        progress: &mut dyn FnMut(RunEvent<'_>),
    ) -> ScenarioSummary {
        let config = self.shared.config;
        progress(RunEvent::Scenario { name: &scenario.name, vcpus });
        let not_compared = "the scenario did not run to its end";
        let mut summary = ScenarioSummary {
            artifacts: place.display().to_string(),
            reproducer: reproducer(config, std::iter::once(scenario.name.as_str())),
            ..ScenarioSummary::new(&scenario.name, config.seed, vcpus, Outcome::Crashed, not_compared)
        };
        match self.lacks(scenario) {
            Ok(None) => {}
            Ok(lacking) => {
                summary.outcome = Outcome::Skipped;
                summary.reason = lacking;
                let reason = "the scenario was skipped".to_owned();
                summary.snapshot = SnapshotState::NotCompared { reason };
                return summary;
            }
            Err(failure) => {
                summary.outcome = failure.outcome;
                summary.reason = Some(failure.message);
                return summary;
            }
        }
        let (scenario, adapted) = line::on(scenario, KernelVersion::of(&self.image.version));
        summary.adapted = adapted;
        if let Err(failure) = self.fill_scenario(&scenario, vcpus, place, &mut summary, progress) {
            summary.outcome = failure.outcome;
            summary.reason = Some(failure.message);
        }
        summary
    }

    /// In words, what the scenario needs and the kernel does not have.
    fn lacks(&self, scenario: &Scenario) -> Result<Option<String>, Failure> {
        if let (Some(since), Some(kernel)) = (scenario.since, KernelVersion::of(&self.image.version))
            && kernel < since
        {
            return Ok(Some(format!("what it is about is there since Linux {since}")));
        }
        if scenario.needs.is_empty() {
            return Ok(None);
        }
        let path = &self.image.config;
        let text = fs::read_to_string(path)
            .map_err(|trouble| error(format!("cannot read {}: {trouble}", path.display())))?;
        let config = DotConfig::parse(&text);
        let missing = scenario.needs.iter().filter(|symbol| config.value(symbol) != "y");
        let missing: Vec<String> = missing.map(|symbol| format!("CONFIG_{symbol}=y")).collect();
        Ok((!missing.is_empty()).then(|| format!("the kernel is built without {}", missing.join(", "))))
    }

    /// A scenario's limits are meant for a plain kernel under TCG.
    fn limit(&self, seconds: u32, accelerator: Accelerator) -> Duration {
        let limit = Duration::from_secs(seconds.into()) * self.image.slowdown;
        match accelerator {
            Accelerator::Tcg => limit,
            Accelerator::Kvm => limit / 2,
        }
    }

    /// The machine of a scenario; what it leaves goes to `folder`.
    fn spec(
        &self,
        scenario: &Scenario,
        vcpus: u8,
        folder: &Path,
        share: &Path,
        accelerator: Accelerator,
    ) -> VmSpec {
        let guest = &self.shared.config.guest;
        // What the user says is meant as it is said; a scenario knows nothing of the kernel.
        let silence = guest.silence.unwrap_or_else(|| self.limit(scenario.silence_seconds, accelerator));
        VmSpec {
            qemu: guest.qemu.clone(),
            kernel: self.image.vmlinux.clone(),
            initrd: self.shared.guest.initrd.clone(),
            vcpus,
            memory_mib: scenario.memory_mib,
            accelerator,
            perturbation: guest.perturbation,
            cmdline: AUDIT_PARAMETERS
                .iter()
                .copied()
                .filter(|parameter| scenario.audit_at_boot || *parameter != AUDIT_ON)
                .chain(guest.perturbation.parameter)
                .map(str::to_owned)
                .chain(guest.append.clone())
                .collect(),
            run_dir: folder.to_owned(),
            share: Some(share.to_owned()),
            limits: Limits {
                wall: guest.wall.unwrap_or_else(|| self.limit(scenario.wall_seconds, accelerator)),
                silence,
                first_sign: self.shared.guest.chosen.first_sign(accelerator, silence, self.image.slowdown),
            },
        }
    }

    fn fill_scenario(
        &self,
        scenario: &Scenario,
        vcpus: u8,
        place: &Path,
        summary: &mut ScenarioSummary,
        progress: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<(), Failure> {
        let folder = self.shared.folder.make(place).map_err(error)?;
        let share = self.shared.folder.make(&place.join("share")).map_err(error)?;
        for part in ["rootfs", "artifacts"] {
            self.shared.folder.make(&place.join("share").join(part)).map_err(error)?;
        }
        let chosen = &self.shared.guest.chosen;
        // A recording says what it is a recording of: `nstrail check` needs nothing else.
        let path = folder.join(SCENARIO);
        fs::write(&path, serde_json::to_string_pretty(scenario).unwrap_or_default())
            .map_err(|trouble| error(format!("cannot write {}: {trouble}", path.display())))?;
        let attempt = |accelerator| {
            let accelerator = self.shared.config.guest.perturbation.accelerator(accelerator);
            let spec = self.spec(scenario, vcpus, &folder, &share, accelerator);
            let options =
                check_options(&self.image.version).with_everybody_waiting(scenario.everybody_waits());
            let sink = Lineage::new(scenario.name.clone(), titles(scenario));
            drive::drive(&spec, scenario, self.shared.config.seed, options, sink, &mut |count| {
                progress(RunEvent::Records { name: &scenario.name, count });
            })
        };
        let Carried { result: driven, refuted } = chosen.carry(attempt, Driven::mute).map_err(error)?;
        if refuted {
            progress(RunEvent::Fallback(&chosen.decision()));
        }

        summary.figures = judge::figures(&driven);
        let version = KernelVersion::of(&self.image.version);
        let known = &self.shared.config.guest.known_splats;
        summary.console = judge::console(&driven.console, known, version);
        self.decode(&mut summary.console);
        summary.loss_doubts = judge::doubts(&driven.check);
        let finished = matches!(driven.ending, GuestEnding::Finished { .. });
        if finished {
            (summary.findings, summary.findings_not_listed) = judge::findings(&driven.check);
        }
        (summary.outcome, summary.reason) = judge::judge(&driven, &summary.console);
        let canonical = driven.sink.finish();
        let path = folder.join(CANONICAL);
        fs::write(&path, canonical.as_str())
            .map_err(|trouble| error(format!("cannot write {}: {trouble}", path.display())))?;
        if summary.outcome == Outcome::Passed {
            summary.snapshot = self.compare(scenario, &canonical)?;
            summary.outcome = match summary.snapshot {
                SnapshotState::Changed { .. } | SnapshotState::Missing { .. } => Outcome::SnapshotPending,
                SnapshotState::Match { .. } | SnapshotState::NotCompared { .. } => Outcome::Passed,
            };
        } else {
            let reason = format!("a run that {} has nothing to review", summary.outcome);
            summary.snapshot = SnapshotState::NotCompared { reason };
        }
        Ok(())
    }

    /// Looks up where in the sources new splats were, each once on a kernel. What does not succeed changes no verdict.
    fn decode(&self, console: &mut [ConsoleSummary]) {
        for splat in console.iter_mut().filter(|splat| splat.counts()) {
            let key = (self.image.key.to_string(), splat.fingerprint.clone());
            let mut decoded = self.shared.guest.decoded.lock().unwrap_or_else(PoisonError::into_inner);
            if !decoded.insert(key) {
                continue;
            }
            drop(decoded);
            match kernel::decode(&self.shared.config.store, self.image, &splat.lines, DECODE_LIMIT) {
                Ok(lines) => splat.decoded = lines,
                // A line without a trace: nothing is missing.
                Err(NotDecoded::NoFrames) => {}
                Err(reason) => splat.not_decoded = Some(reason.to_string()),
            }
        }
    }

    fn compare(&self, scenario: &Scenario, canonical: &Canonical) -> Result<SnapshotState, Failure> {
        if !scenario.snapshot {
            return Ok(SnapshotState::NotCompared { reason: "the scenario has none".to_owned() });
        }
        let config = self.shared.config;
        let shelf = self.shared.shelf;
        let compared =
            shelf.compare(&scenario.name, &config.version, canonical, self.snapshots).map_err(error)?;
        let relative =
            |path: &Path| path.strip_prefix(config.project.root()).unwrap_or(path).display().to_string();
        let pending = |path: Option<PathBuf>| path.as_deref().map(relative);
        Ok(match compared {
            Comparison::NotCompared => SnapshotState::NotCompared { reason: "turned off".to_owned() },
            Comparison::Match { file } => SnapshotState::Match { file: relative(&file) },
            Comparison::Changed { file, pending: path, diff } => {
                SnapshotState::Changed { file: relative(&file), pending: pending(path), diff }
            }
            Comparison::Missing { file, pending: path } => {
                SnapshotState::Missing { file: relative(&file), pending: pending(path) }
            }
        })
    }
}

/// Titles of a scenario's outermost steps by preorder number, and of the agent's own marker.
#[must_use]
pub fn titles(scenario: &Scenario) -> Vec<Title> {
    let last = Title { step: u32::MAX, text: "after the last step: a set that shows a lost tail".to_owned() };
    let steps = numbered(&scenario.steps, 0).map(|(step, what)| Title { step, text: title(what) });
    steps.chain([last]).collect()
}

/// What the checker must know of a kernel: of its version, major and minor. The agent always asks perf.
#[must_use]
pub fn check_options(version: &str) -> CheckOptions {
    match KernelVersion::of(version) {
        Some(version) => CheckOptions::for_version(version.major, version.minor),
        None => CheckOptions::default(),
    }
    .with_perf()
}
