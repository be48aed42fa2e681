// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds mutants one after the other, and tries those that are there meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::super::execute::{Guest, error, kernel_failure};
use super::super::folder::RunFolder;
use super::green::{Green, UNMUTATED};
use super::history::History;
use super::plan::{Try, tries};
use super::sureness::sureness;
use super::trial::Bench;
use super::verdict::Said;
use super::{MutantsConfig, MutantsEvent};
use crate::kernel::{self, BuildEvent, KernelImage, KernelSpec, Patch, Series};
use crate::outcome::Outcome;
use crate::plan::mutant::Mutant;
use crate::process::interrupt;
use crate::report::mutants::{Class, MutantRun, MutantSummary, MutantsSummary};
use crate::report::summary::Failure;
use crate::snapshot::Shelf;
use crate::vm::Perturbation;

/// What threads tell.
enum Told {
    Build { name: String, event: BuildEvent },
    Started { name: String, one: Try },
    Records { name: String, count: u64 },
    Ended { name: String, run: MutantRun },
    Mutant(Box<MutantSummary>),
}

/// A mutant whose kernel was built, or was not.
struct Built<'a> {
    mutant: &'a Mutant,
    image: Result<Arc<KernelImage>, Failure>,
    seconds: f64,
}

/// What the threads share.
struct Yard<'a> {
    config: &'a MutantsConfig,
    bench: Bench<'a>,
    green: Green<'a>,
    history: Mutex<History>,
    /// The first trouble that ends it all.
    failure: Mutex<Option<Failure>>,
    stopped: AtomicBool,
}

pub(super) fn run(
    config: &MutantsConfig,
    folder: &RunFolder,
    guest: &Guest,
    summary: &mut MutantsSummary,
    progress: &mut dyn FnMut(MutantsEvent<'_>),
) -> Result<(), Failure> {
    let base = &config.base;
    let image = kernel::build(&base.store, &base.kernel, &mut |event| {
        progress(MutantsEvent::Build { name: UNMUTATED, event: &event });
    })
    .map_err(|trouble| kernel_failure(&trouble))?;
    let shelf = Shelf::new(base.project.snapshots());
    let yard = Yard {
        config,
        bench: Bench { config: base, folder, guest, shelf: &shelf },
        green: Green { image: &image, runs: Mutex::default() },
        history: Mutex::new(History::load(&base.store, &base.version)),
        failure: Mutex::default(),
        stopped: AtomicBool::new(false),
    };
    let (teller, told) = channel();
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(config.jobs);
        let receiver = Arc::new(Mutex::new(receiver));
        let (yard, told_by_builder) = (&yard, teller.clone());
        scope.spawn(move || {
            if yard.unmutated(&told_by_builder) {
                yard.build_all(&sender, &told_by_builder);
            }
        });
        for _ in 0..config.jobs {
            let (receiver, teller) = (Arc::clone(&receiver), teller.clone());
            scope.spawn(move || yard.try_built(&receiver, &teller));
        }
        drop(teller);
        for told in told {
            show(&told, progress);
            if let Told::Mutant(mutant) = told {
                summary.mutants.push(*mutant);
            }
        }
    });
    summary.unmutated = yard.green.runs.into_inner().unwrap_or_else(PoisonError::into_inner);
    let history = yard.history.into_inner().unwrap_or_else(PoisonError::into_inner);
    history.save(&base.store, &base.version);
    if interrupt::requested().is_some() {
        return Err(error("interrupted"));
    }
    yard.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn show(told: &Told, progress: &mut dyn FnMut(MutantsEvent<'_>)) {
    progress(match told {
        Told::Build { name, event } => MutantsEvent::Build { name, event },
        Told::Started { name, one } => MutantsEvent::Started {
            name,
            scenario: &one.scenario,
            perturbation: one.perturbation,
            seed: one.seed,
        },
        Told::Records { name, count } => MutantsEvent::Records { name, count: *count },
        Told::Ended { name, run } => MutantsEvent::Ended { name, run },
        Told::Mutant(mutant) => MutantsEvent::Mutant(mutant),
    });
}

impl Yard<'_> {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || interrupt::requested().is_some()
    }

    fn stop(&self, failure: Failure) {
        self.stopped.store(true, Ordering::Relaxed);
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }

    /// Whether the series passes where mutants are tried first. What is only tried later is asked for then.
    fn unmutated(&self, told: &Sender<Told>) -> bool {
        let mut first: Vec<&str> = Vec::new();
        let due = self.config.mutants.iter().filter(|mutant| self.cannot_be(mutant).is_none());
        for name in due.flat_map(|mutant| &mutant.scenarios) {
            if !first.contains(&name.as_str()) {
                first.push(name);
            }
        }
        first.into_iter().all(|name| self.ask(name, Perturbation::default(), told))
    }

    fn ask(&self, scenario: &str, perturbation: Perturbation, told: &Sender<Told>) -> bool {
        if self.is_stopped() {
            return false;
        }
        match self.green.ask(&self.bench, scenario, perturbation) {
            Ok(None) => true,
            Ok(Some(run)) => {
                let _ = told.send(Told::Ended { name: UNMUTATED.to_owned(), run });
                true
            }
            Err(failure) => {
                self.stop(failure);
                false
            }
        }
    }

    fn spec(&self, mutant: &Mutant) -> Result<KernelSpec, Failure> {
        let base = &self.config.base;
        let planted = base.kernel.series.as_ref().map(|series| plant(series, mutant, &base.version));
        let series =
            planted.transpose().map_err(|message| Failure { outcome: Outcome::PatchRejected, message })?;
        Ok(KernelSpec { series, ..base.kernel.clone() })
    }

    /// In words, why a mutant is not for this kernel.
    fn cannot_be(&self, mutant: &Mutant) -> Option<String> {
        let base = &self.config.base;
        if !mutant.is_for(&base.version) {
            return Some(format!("the fault cannot be in {}", base.version));
        }
        let lacking = mutant.flavours.iter().find(|flavour| !base.kernel.flavours.contains(flavour));
        lacking.map(|flavour| format!("it shows only with --flavour {flavour}"))
    }

    fn build_all<'m>(&'m self, built: &SyncSender<Built<'m>>, told: &Sender<Told>) {
        for mutant in &self.config.mutants {
            if self.is_stopped() {
                return;
            }
            if let Some(reason) = self.cannot_be(mutant) {
                let summary = MutantSummary { reason: Some(reason), ..blank(mutant) };
                let _ = told.send(Told::Mutant(Box::new(summary)));
                continue;
            }
            let start = Instant::now();
            let image = self.spec(mutant).and_then(|spec| {
                let event = |event| drop(told.send(Told::Build { name: mutant.name.clone(), event }));
                let image = kernel::build(&self.config.base.store, &spec, &mut { event });
                image.map(Arc::new).map_err(|trouble| kernel_failure(&trouble))
            });
            let seconds = start.elapsed().as_secs_f64();
            if built.send(Built { mutant, image, seconds }).is_err() {
                return;
            }
        }
    }

    fn try_built(&self, built: &Mutex<Receiver<Built<'_>>>, told: &Sender<Told>) {
        loop {
            let next = built.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(next) = next else { return };
            if self.is_stopped() {
                continue;
            }
            if let Some(summary) = self.try_one(&next, told) {
                let _ = told.send(Told::Mutant(Box::new(summary)));
            }
        }
    }

    /// `None` if it was not tried to its end.
    fn try_one(&self, built: &Built<'_>, told: &Sender<Told>) -> Option<MutantSummary> {
        let mutant = built.mutant;
        let mut summary = MutantSummary { build_seconds: built.seconds, ..blank(mutant) };
        let image = match &built.image {
            Ok(image) => image,
            Err(failure) if failure.outcome == Outcome::Error => {
                self.stop(failure.clone());
                return None;
            }
            Err(failure) => {
                summary.class = Class::Unviable;
                summary.reason = Some(failure.message.clone());
                return Some(summary);
            }
        };
        summary.image_key = Some(image.key.to_string());
        summary.compiled = !image.cached;
        for one in self.tries(mutant) {
            let named = mutant.scenarios.contains(&one.scenario);
            // Another invariant has seen it: where none of the named ones is to be expected, there is nothing more to learn.
            if summary.class == Class::Killed && !named && self.config.measure.is_none() {
                break;
            }
            if !self.ask(&one.scenario, one.perturbation, told) {
                return None;
            }
            let name = &mutant.name;
            let _ = told.send(Told::Started { name: name.clone(), one: one.clone() });
            let (run, said) = self.bench.run(name, image, &one, &mut |count| {
                let _ = told.send(Told::Records { name: name.clone(), count });
            });
            let _ = told.send(Told::Ended { name: name.clone(), run: run.clone() });
            if self.is_stopped() {
                return None;
            }
            if !matches!(said, Said::Error | Said::Nothing | Said::NoBoot) {
                let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
                let killed = matches!(said, Said::Killed { .. });
                history.note(name, &one.scenario, one.perturbation, killed);
            }
            if let Said::Error = said {
                let reason = run.reason.clone().unwrap_or_default();
                self.stop(error(format!("{name} in {}: {reason}", one.scenario)));
                return None;
            }
            if take(&mut summary, run, &said) && self.config.measure.is_none() {
                break;
            }
        }
        if summary.class == Class::NotRun {
            let (class, reason) = if summary.runs.iter().any(|run| run.outcome == Outcome::Passed) {
                (Class::Survived, None)
            } else {
                (Class::NotRun, Some("no scenario could say anything".to_owned()))
            };
            (summary.class, summary.reason) = (class, reason);
        }
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        summary.sureness = sureness(&summary, &history);
        Some(summary)
    }

    fn tries(&self, mutant: &Mutant) -> Vec<Try> {
        if let Some(runs) = self.config.measure {
            let scenario = mutant.scenarios.first().cloned().unwrap_or_default();
            let each = |perturbation: &Perturbation| {
                let (scenario, perturbation) = (scenario.clone(), *perturbation);
                (0..u64::from(runs)).map(move |seed| Try { scenario: scenario.clone(), perturbation, seed })
            };
            return self.config.perturbations.iter().flat_map(each).collect();
        }
        let scenarios: Vec<String> =
            self.config.base.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        tries(mutant, &scenarios, &self.config.perturbations, &history)
    }
}

/// The series for a kernel version with a mutant's patch on top.
///
/// # Errors
/// In words, if the patch cannot be read.
pub fn plant(series: &Series, mutant: &Mutant, version: &str) -> Result<Series, String> {
    let path = mutant.patch(version);
    let unreadable = |trouble: &dyn std::fmt::Display| format!("{}: {trouble}", path.display());
    let bytes = std::fs::read(&path).map_err(|trouble| unreadable(&trouble))?;
    let name = format!("{}/{}", mutant.name, path.file_name().unwrap_or_default().to_string_lossy());
    Ok(series.with(Patch::parse(&name, &bytes).map_err(|trouble| unreadable(&trouble))?))
}

/// Puts a run down. Whether nothing more is to be learnt.
fn take(summary: &mut MutantSummary, run: MutantRun, said: &Said) -> bool {
    let mut done = false;
    match said {
        Said::Killed { by } => {
            let by_named = by.iter().any(|by| summary.named.contains(by));
            if summary.class != Class::Killed || by_named && !summary.by_named {
                summary.by.clone_from(by);
                summary.by_named = by_named;
                summary.containers = run.containers;
                summary.class = Class::Killed;
            }
            done = by_named;
        }
        Said::TimedOut if summary.class != Class::Killed => {
            summary.class = Class::TimedOut;
            summary.reason.clone_from(&run.reason);
            done = true;
        }
        Said::NoBoot if summary.runs.is_empty() => {
            summary.class = Class::Unviable;
            let reason = run.reason.as_deref().unwrap_or_default();
            summary.reason = Some(format!("it does not boot: {reason}"));
            done = true;
        }
        _ => {}
    }
    summary.guest_seconds += run.guest_seconds;
    summary.runs.push(run);
    done
}

/// Nothing has become of it yet.
pub(super) fn blank(mutant: &Mutant) -> MutantSummary {
    MutantSummary {
        name: mutant.name.clone(),
        title: mutant.title.clone(),
        kind: mutant.kind.to_string(),
        guarantees: mutant.guarantees.clone(),
        named: mutant.invariants.iter().map(|invariant| invariant.id().to_owned()).collect(),
        class: Class::NotRun,
        reason: None,
        by: Vec::new(),
        by_named: false,
        containers: 0,
        guest_seconds: 0.0,
        image_key: None,
        compiled: false,
        build_seconds: 0.0,
        runs: Vec::new(),
        sureness: None,
    }
}
