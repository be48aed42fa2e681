// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each patch on top of those before it: does it build with the series' symbol on and off, does that boot, does it
//! warn of more than before, and what does checkpatch say?
//!
//! All prefixes share one build folder for each state of the symbol, so that a patch costs what it touches.
//! What a half-applied series logs is not judged: only the whole series promises anything.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::baseline::{SCENARIO, got_through};
use super::execute::{Base, EachPatch, RunEvent, Shared, error, kernel_failure};
use crate::{
    kernel::{self, KernelError, KernelImage, KernelSpec, Patch, Series, SeriesSymbol, Source, Warnings},
    outcome::Outcome,
    plan::scenario,
    process::interrupt,
    report::summary::{Failure, PatchSummary, PrefixBuild},
    snapshot::Mode,
};

type Progress<'a> = &'a mut dyn FnMut(RunEvent<'_>);

/// Validates every patch, and puts down what comes of each. Only a patch that does not apply ends it early.
///
/// # Errors
/// Trouble that is not the series'.
pub(super) fn validate(
    shared: &Shared<'_>,
    how: EachPatch,
    series: &Series,
    patches: &mut Vec<PatchSummary>,
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let config = shared.config;
    let source = config
        .store
        .source(&config.kernel.source, config.kernel.refresh, &mut |event| {
            progress(RunEvent::Kernel(event));
        })
        .map_err(|trouble| kernel_failure(&trouble.into()))?;
    // Once and whole: a patch that does not apply is told before anything is compiled.
    series
        .apply_fuzzy(&source.tree, config.kernel.fuzz, &mut |_| {})
        .map_err(|trouble| kernel_failure(&trouble.into()))?;
    let mut before = Some(KernelSpec { series: None, ..config.kernel.clone() });
    for (index, patch) in series.patches.iter().enumerate() {
        if interrupt::requested().is_some() {
            return Err(error("interrupted"));
        }
        let prefix = Prefix { shared, how, series, source: &source, number: index + 1, patch };
        let (summary, after) = prefix.validate(before.as_ref(), progress)?;
        progress(RunEvent::PatchEnded(&summary));
        patches.push(summary);
        before = after;
    }
    Ok(())
}

/// The series up to one patch.
struct Prefix<'a> {
    shared: &'a Shared<'a>,
    how: EachPatch,
    series: &'a Series,
    source: &'a Source,
    /// From 1.
    number: usize,
    patch: &'a Patch,
}

impl Prefix<'_> {
    fn spec(&self, symbol: SeriesSymbol) -> KernelSpec {
        let series = Some(self.series.prefix(self.number));
        KernelSpec { series, symbol, ..self.shared.config.kernel.clone() }
    }

    /// Also gives the kernel that the next patch's warnings are compared with, if there is one.
    fn validate(
        &self,
        before: Option<&KernelSpec>,
        progress: Progress<'_>,
    ) -> Result<(PatchSummary, Option<KernelSpec>), Failure> {
        let mut summary = PatchSummary {
            number: self.number,
            name: self.patch.name.clone(),
            subject: self.patch.subject.clone(),
            outcome: Outcome::Crashed,
            reason: None,
            builds: Vec::new(),
            new_warnings: Vec::new(),
            warnings_not_compared: None,
            checkpatch: Vec::new(),
        };
        let store = &self.shared.config.store;
        summary.checkpatch = kernel::checkpatch(
            store,
            self.source,
            self.series,
            self.patch,
            self.shared.config.kernel.sandbox,
        )
        .map_err(error)?;
        let symbols: &[SeriesSymbol] = match self.series.config {
            Some(_) => &[SeriesSymbol::On, SeriesSymbol::Off],
            None => &[SeriesSymbol::On],
        };
        let mut after = None;
        for symbol in symbols {
            let spec = self.spec(*symbol);
            let build = self.build(&spec, progress)?;
            let built = build.image_key.is_some();
            summary.builds.push(build);
            // With the symbol on there is more to warn of.
            if built && after.is_none() {
                self.warnings(&spec, before, &mut summary, progress)?;
                after = Some(spec);
            }
        }
        (summary.outcome, summary.reason) = self.judge(&summary);
        Ok((summary, after))
    }

    fn symbol(&self, symbol: SeriesSymbol) -> String {
        match (&self.series.config, symbol) {
            (None, _) => String::new(),
            (Some(name), SeriesSymbol::On) => format!("{name}=y"),
            (Some(name), SeriesSymbol::Off) => format!("{name}=n"),
        }
    }

    fn build(&self, spec: &KernelSpec, progress: Progress<'_>) -> Result<PrefixBuild, Failure> {
        let symbol = self.symbol(spec.symbol);
        let name = &self.patch.name;
        progress(RunEvent::Patch {
            number: self.number,
            of: self.series.patches.len(),
            name,
            symbol: &symbol,
        });
        let start = Instant::now();
        let built = kernel::build(&self.shared.config.store, spec, &mut |event| {
            progress(RunEvent::Kernel(event));
        });
        let mut build = PrefixBuild {
            symbol,
            outcome: Outcome::Crashed,
            reason: None,
            image_key: None,
            compiled: false,
            build_seconds: start.elapsed().as_secs_f64(),
            boot_seconds: None,
            console: Vec::new(),
        };
        match built {
            Ok(image) => {
                build.image_key = Some(image.key.to_string());
                build.compiled = !image.cached;
                self.boot(&image, spec.symbol, &mut build, progress)?;
            }
            Err(trouble)
                if self.series.config.as_ref().is_some_and(|symbol| trouble.lacks_symbol(symbol)) =>
            {
                build.outcome = Outcome::Skipped;
                build.reason = Some("a later patch defines the symbol".to_owned());
            }
            Err(trouble) => {
                let failure = kernel_failure(&trouble);
                if failure.outcome != Outcome::BuildFailed {
                    return Err(failure);
                }
                build.outcome = failure.outcome;
                build.reason = Some(failure.message);
            }
        }
        Ok(build)
    }

    /// Whether a guest gets to the end of its work. A finding of the checker's is no news here.
    fn boot(
        &self,
        image: &KernelImage,
        symbol: SeriesSymbol,
        build: &mut PrefixBuild,
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let letter = match symbol {
            SeriesSymbol::On => "y",
            SeriesSymbol::Off => "n",
        };
        let place = PathBuf::from(&self.shared.config.version)
            .join("patches")
            .join(format!("{:04}-{letter}", self.number));
        let scenario = scenario::find(SCENARIO).map_err(error)?;
        let base = Base { shared: self.shared, image, snapshots: Mode::Off };
        let vcpus = self.shared.config.guest.vcpus(&scenario);
        let ran = base.scenario(&scenario, vcpus, &place, progress);
        build.boot_seconds = Some(ran.figures.boot_seconds);
        (build.outcome, build.reason) = got_through(&ran);
        build.console = ran.console;
        if build.outcome == Outcome::Error {
            return Err(Failure {
                outcome: Outcome::Error,
                message: build.reason.take().unwrap_or_default(),
            });
        }
        Ok(())
    }

    fn warnings(
        &self,
        spec: &KernelSpec,
        before: Option<&KernelSpec>,
        summary: &mut PatchSummary,
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let store = &self.shared.config.store;
        let mut warned = |spec: &KernelSpec, files: &[PathBuf]| -> Result<Warnings, KernelError> {
            kernel::warnings(store, spec, files, &mut |event| progress(RunEvent::Kernel(event)))
        };
        let files = touched(self.patch);
        let after = match warned(spec, &files) {
            Ok(after) => after,
            Err(trouble) if trouble.is_interrupted() => return Err(kernel_failure(&trouble)),
            Err(trouble) => {
                summary.warnings_not_compared = Some(trouble.to_string());
                return Ok(());
            }
        };
        match before {
            Some(spec) => match warned(spec, &files) {
                Ok(before) => summary.new_warnings = after.new_since(&before, &files),
                Err(trouble) if trouble.is_interrupted() => return Err(kernel_failure(&trouble)),
                Err(trouble) => summary.warnings_not_compared = Some(trouble.to_string()),
            },
            None => {
                summary.warnings_not_compared =
                    Some("the kernel without this patch was not built".to_owned());
            }
        }
        if !after.not_built.is_empty() && summary.warnings_not_compared.is_none() {
            let names: Vec<String> = after.not_built.iter().map(|file| file.display().to_string()).collect();
            summary.warnings_not_compared = Some(format!("not built here: {}", names.join(", ")));
        }
        // While the tree is at this patch: what the next one is compared with.
        if let Some(next) = self.series.patches.get(self.number) {
            // What goes wrong here goes wrong there again, and is told there.
            let _ = warned(spec, &touched(next));
        }
        Ok(())
    }

    fn judge(&self, summary: &PatchSummary) -> (Outcome, Option<String>) {
        let mut parts: Vec<(Outcome, Option<String>)> = summary
            .builds
            .iter()
            .map(|build| {
                let reason = build.reason.as_ref().map(|reason| {
                    if build.symbol.is_empty() {
                        reason.clone()
                    } else {
                        format!("with {}: {reason}", build.symbol)
                    }
                });
                (build.outcome, reason)
            })
            .collect();
        if let Some(first) = summary.new_warnings.first() {
            let count = summary.new_warnings.len();
            parts.push((Outcome::Failed, Some(format!("{count} new warnings, the first: {first}"))));
        }
        if let (true, Some(first)) = (self.how.deny_checkpatch, summary.checkpatch.first()) {
            let count = summary.checkpatch.len();
            parts.push((Outcome::Failed, Some(format!("{count} from checkpatch, the first: {first}"))));
        }
        let worst = Outcome::of_parts(parts.iter().map(|(outcome, _)| *outcome)).unwrap_or(Outcome::Crashed);
        if worst == Outcome::Passed {
            return (worst, None);
        }
        let reason = parts.into_iter().find(|(outcome, _)| *outcome == worst).and_then(|(_, reason)| reason);
        (worst, reason)
    }
}

/// Files that a patch leaves behind.
fn touched(patch: &Patch) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        patch.files.iter().filter_map(|file| file.new.as_deref()).map(Path::to_owned).collect();
    files.sort_unstable();
    files.dedup();
    files
}
