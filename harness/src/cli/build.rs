// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail apply` and `nstrail build`; and how arguments name a kernel.

use std::path::PathBuf;

use nstrail::{
    kernel::{self, BuildEvent, Fragments, KernelSpec, SeriesInput, SourceSpec, Store},
    outcome::Outcome,
    process::SandboxMode,
    report::escape::one_line,
    run::execute::kernel_failure,
};

use super::{
    args::{BuildArgs, KernelArgs, SandboxArg, SandboxArgs},
    context::Context,
    exit::Ending,
    progress::Progress,
    series,
};

/// The kernel unless told otherwise.
pub const DEFAULT_KERNEL: &str = "6.12";

/// A kernel as the arguments name it.
#[derive(Debug)]
pub struct NamedKernel {
    /// `6.12`: the line, for folders and look-ups.
    pub version: String,
    pub spec: KernelSpec,
    pub series_folder: Option<PathBuf>,
}

/// The line that a version belongs to: `6.12` of `6.12.117-1`.
fn line(version: &str) -> String {
    version.split(['.', '-', '~']).take(2).collect::<Vec<_>>().join(".")
}

/// Reads what the arguments name.
pub fn named_kernel(context: &Context, args: &KernelArgs) -> Result<NamedKernel, Ending> {
    let settings = &context.settings;
    let project = context.project().map_err(Ending::Usage)?;
    let version =
        args.kernel.clone().or_else(|| settings.kernel.clone()).unwrap_or_else(|| DEFAULT_KERNEL.to_owned());
    let source = match &args.source {
        Some(text) => SourceSpec::parse(text).map_err(|error| Ending::Usage(error.to_string()))?,
        None => SourceSpec::Debian(version.clone()),
    };
    let version = line(&version);
    let mut spec = KernelSpec::new(source);
    let series_folder = if args.unpatched {
        None
    } else {
        let named = args.series.clone().or_else(|| settings.series.clone());
        Some(named.unwrap_or_else(|| project.series(&version)))
    };
    if let Some(named) = &series_folder {
        let input = SeriesInput::parse(named, Some(&spec.source)).map_err(|error| match args.series {
            None => Ending::Usage(format!("{error}\n(hint: --unpatched goes without a series)")),
            Some(_) => series::failed(&error),
        })?;
        let mut series = series::read(&input, &args.picks)?;
        if args.symbol.is_some() {
            series.config.clone_from(&args.symbol);
        }
        spec.series = Some(series);
    }
    spec.fuzz = args.fuzz;
    spec.fragments = Fragments::Folder(project.configs());
    spec.flavours.clone_from(&args.flavours);
    spec.make.clone_from(&args.make);
    spec.jobs = args.jobs.or(settings.jobs).unwrap_or(0);
    spec.sandbox = sandbox(context, &args.sandbox)?;
    Ok(NamedKernel { version, spec, series_folder })
}

/// Whether what runs of the tree is confined, by flag, environment or settings.
fn sandbox(context: &Context, args: &SandboxArgs) -> Result<SandboxMode, Ending> {
    match (args.no_sandbox, args.sandbox, context.settings.sandbox.as_deref()) {
        (true, ..) | (_, Some(SandboxArg::Off), _) => Ok(SandboxMode::Off),
        (_, Some(SandboxArg::On), _) | (_, None, Some("on")) => Ok(SandboxMode::On),
        (_, Some(SandboxArg::Auto), _) | (_, None, None | Some("auto")) => Ok(SandboxMode::Auto),
        (_, None, Some(other)) => {
            // The file may lie in a folder that came with the series.
            let hint = "(hint: off is --no-sandbox, which no file can say)";
            Err(Ending::Usage(format!("nstrail.toml: sandbox is `{other}`, expected auto or on {hint}")))
        }
    }
}

/// The cache.
pub fn store(context: &Context) -> Result<Store, Ending> {
    let root = match context.named_cache() {
        Some(root) => root.to_owned(),
        None => Store::default_root().map_err(|error| Ending::Usage(error.to_string()))?,
    };
    std::fs::create_dir_all(&root).map_err(|error| {
        Ending::Failed(Outcome::Error, format!("cannot make the cache {}: {error}", root.display()))
    })?;
    Store::open(&root).map_err(|error| Ending::error(&error))
}

/// Shows what the kernel stage tells.
pub fn show(progress: &mut Progress, event: &BuildEvent) {
    match event {
        BuildEvent::Step { .. } => progress.state(|| words(event).unwrap_or_default()),
        BuildEvent::Applied(patch) => {
            for offset in &patch.offsets {
                progress.warning(&format!("{}: {offset}", patch.name));
            }
        }
        BuildEvent::Note(note) => progress.warning(&format!("series: {note}")),
        BuildEvent::Base(check) if check.is_warning() => progress.warning(&format!("series: {check}")),
        BuildEvent::Unconfined(_) => {
            progress.warning(&words(event).unwrap_or_default());
        }
        _ => {
            if let Some(text) = words(event) {
                progress.line(&text);
            }
        }
    }
}

/// One line about an event that needs no more.
pub fn words(event: &BuildEvent) -> Option<String> {
    Some(match event {
        BuildEvent::Waiting { lock } => format!("waiting for another nstrail (lock {})", lock.display()),
        BuildEvent::Indexing { suites } => format!("reading the package indices of {}", suites.join(", ")),
        BuildEvent::Fetching { package, version, bytes } => {
            format!("fetching {package} {version} ({} MiB)", bytes / (1024 * 1024))
        }
        BuildEvent::Damaged { path, reason } => {
            format!("{} is damaged ({reason}), making it again", path.display())
        }
        BuildEvent::Unpacking { source } => format!("unpacking {source}"),
        BuildEvent::Note(note) => format!("series: {note}"),
        BuildEvent::Base(check) => format!("series: {check}"),
        BuildEvent::Seeding { tree } => format!("making the private tree {}", tree.display()),
        BuildEvent::Synced { changed } => format!("private tree: {changed} files changed"),
        BuildEvent::Confined(sandbox) => format!("what runs of the tree runs in a sandbox ({sandbox})"),
        BuildEvent::Unconfined(none) => format!("what runs of the tree can do all that you can: {none}"),
        BuildEvent::Configuring => "configuring".to_owned(),
        BuildEvent::Building { jobs, log } => {
            format!("building with {jobs} jobs, log in {}", log.display())
        }
        BuildEvent::Step { done, total, tool, target } => match total {
            Some(total) => format!("building: {done} of {total}: {tool} {target}"),
            None => format!("building: {done}: {tool} {target}"),
        },
        BuildEvent::Warnings { objects } => format!("compiling {objects} objects again for their warnings"),
        BuildEvent::Built { steps, elapsed } => {
            format!("built: {steps} steps in {:.1} s", elapsed.as_secs_f64())
        }
        BuildEvent::Cached { key } => format!("kernel {key} is in the cache, nothing to compile"),
        _ => return None,
    })
}

fn failed(error: &kernel::KernelError) -> Ending {
    let failure = kernel_failure(error);
    Ending::Failed(failure.outcome, failure.message)
}

pub fn build(context: &Context, args: &BuildArgs) -> Ending {
    let (named, store) = match (named_kernel(context, &args.kernel()), store(context)) {
        (Ok(named), Ok(store)) => (named, store),
        (Err(ending), _) | (_, Err(ending)) => return ending,
    };
    let mut progress = Progress::new(context.quiet, context.terminal);
    match kernel::build(&store, &named.spec, &mut |event| show(&mut progress, &event)) {
        Ok(image) => {
            drop(progress);
            println!("{}", image.vmlinux.display());
            Ending::Done
        }
        Err(error) => {
            drop(progress);
            failed(&error)
        }
    }
}

pub fn apply(context: &Context, args: &BuildArgs) -> Ending {
    let (named, store) = match (named_kernel(context, &args.kernel()), store(context)) {
        (Ok(named), Ok(store)) => (named, store),
        (Err(ending), _) | (_, Err(ending)) => return ending,
    };
    let mut progress = Progress::new(context.quiet, context.terminal);
    match kernel::apply(&store, &named.spec, &mut |event| show(&mut progress, &event)) {
        Ok(tree) => {
            drop(progress);
            for patch in &tree.patches {
                println!("{}", one_line(&patch.name));
                for offset in &patch.offsets {
                    println!("    {offset}");
                }
            }
            println!("{}", tree.src.display());
            Ending::Done
        }
        Err(error) => {
            drop(progress);
            failed(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_line_of_a_version_is_its_first_two_numbers() {
        for (version, expected) in
            [("6.12", "6.12"), ("6.12.117-1", "6.12"), ("6.12.115-2~deb12u1", "6.12"), ("7.3~rc1", "7.3")]
        {
            assert_eq!(line(version), expected);
        }
    }
}
