// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the arguments say what is bisected, and how.

use std::path::PathBuf;

use nstrail::{
    check::Invariant,
    kernel::{Commit, DebianVersion, KernelLine, KernelSpec, Origin, Series, SourceSpec, Store},
    outcome::Outcome,
    plan::scenario,
    run::{
        bisect::{
            BisectConfig,
            confidence::Demand,
            subject::{GitSubject, ReleaseSubject, SeriesSubject, Subject},
        },
        execute::RunConfig,
    },
    snapshot::Mode,
    vm::console::Fingerprint,
};

use super::{args::BisectArgs, show::Shown};
use crate::cli::{
    args::PickArgs,
    boot,
    build::{self, NamedKernel, named_kernel},
    context::Context,
    exit::Ending,
    run::{add_flag, add_guest_flags, add_kernel_flags},
    series,
};

/// What runs unless scenarios are named: many times, so it is a short one.
const SCENARIO: &str = "smoke";

fn usage(error: impl ToString) -> Ending {
    Ending::Usage(error.to_string())
}

/// Everything but `--git-bisect`.
pub fn configure(context: &Context, args: &BisectArgs, shown: &mut Shown) -> Result<BisectConfig, Ending> {
    let store = build::store(context)?;
    let (named, subject) = match (&args.releases, &args.range) {
        (Some(ends), _) => releases(context, args, &store, ends, shown)?,
        (_, Some(ends)) => range(context, args, ends)?,
        (None, None) => prefixes(context, args)?,
    };
    config(context, args, store, &named, subject, shown)
}

/// The rest, once it is known what is bisected.
pub fn config(
    context: &Context,
    args: &BisectArgs,
    store: Store,
    named: &NamedKernel,
    mut subject: Subject,
    shown: &mut Shown,
) -> Result<BisectConfig, Ending> {
    for expected in &args.expect {
        let known = Invariant::ALL.iter().any(|invariant| invariant.id() == expected);
        if !known && !Fingerprint::is_id(expected) {
            return Err(usage(format!(
                "--expect: `{expected}` is no invariant and no fingerprint of a splat (hint: docs/invariants.md lists \
                 the ones; of the others the verdict of `nstrail run` shows twelve digits)"
            )));
        }
    }
    // Once, not at each of many builds.
    for series in all_series(&mut subject) {
        series.notes.drain(..).for_each(|note| shown.progress.warning(&format!("series: {note}")));
    }
    let settings = &context.settings;
    let scenarios =
        if args.scenarios.is_empty() { vec![SCENARIO.to_owned()] } else { args.scenarios.clone() };
    let scenarios = scenarios.iter().map(|name| scenario::find(name)).collect::<Result<_, _>>();
    let seed = args.output.seed(settings);
    Ok(BisectConfig {
        run: RunConfig {
            project: context.project().map_err(Ending::Usage)?,
            store,
            version: kernel_name(args, named),
            kernel: named.spec.clone(),
            scenarios: scenarios.map_err(usage)?,
            guest: boot::guest(context, &args.guest)?,
            seed,
            out: args.output.out(settings),
            snapshots: Mode::Off,
            each_patch: None,
            reproducer: reproducer(args, named, seed),
        },
        subject,
        demand: Demand { confidence: args.confidence, rate: args.rate, max_runs: args.max_runs },
        expect: args.expect.clone(),
        resume: args.resume.clone(),
    })
}

/// For reports.
fn kernel_name(args: &BisectArgs, named: &NamedKernel) -> String {
    match &args.kernel.source {
        Some(source) => source.clone(),
        None => named.version.clone(),
    }
}

fn all_series(subject: &mut Subject) -> Vec<&mut Series> {
    match subject {
        Subject::Series(subject) => {
            let SeriesSubject { below, series, .. } = subject.as_mut();
            below.iter_mut().chain(std::iter::once(series)).collect()
        }
        Subject::Releases(ReleaseSubject { kernel, .. }) | Subject::Git(GitSubject { kernel, .. }) => {
            kernel.series.iter_mut().collect()
        }
    }
}

fn prefixes(context: &Context, args: &BisectArgs) -> Result<(NamedKernel, Subject), Ending> {
    if args.kernel.series.is_none() && context.settings.series.is_none() {
        return Err(usage(
            "nothing is named that could be bisected (hint: --series, --releases, --range or --git-bisect; `nstrail help bisect`)",
        ));
    }
    let named = named_kernel(context, &args.kernel)?;
    let Some(series) = named.spec.series.clone() else {
        return Err(usage("--unpatched leaves no series to bisect"));
    };
    let below = match &args.on {
        Some(text) => Some(series::read(&series::named(context, text)?, &PickArgs::default())?),
        None => None,
    };
    if let (Some(Some(lower)), Some(upper)) = (below.as_ref().map(|below| &below.config), &series.config)
        && lower != upper
    {
        return Err(usage(format!(
            "the series is switched on by CONFIG_{upper}, the one below it by CONFIG_{lower}: only one can be (hint: leave \
             out --symbol, and name a fragment that sets it with --flavour)"
        )));
    }
    let (good, of) = (args.good.unwrap_or(0), series.patches.len());
    let bad = args.bad.unwrap_or(of);
    if bad > of || good >= bad {
        return Err(usage(format!(
            "--good {good} and --bad {bad} are no ends of a series of {of} (hint: 0 to {of}, and good before bad)"
        )));
    }
    let kernel = KernelSpec { series: None, ..named.spec.clone() };
    let subject = SeriesSubject { kernel, below, series, good, bad };
    Ok((named, Subject::Series(Box::new(subject))))
}

fn releases(
    context: &Context,
    args: &BisectArgs,
    store: &Store,
    (good, bad): &(String, String),
    shown: &mut Shown,
) -> Result<(NamedKernel, Subject), Ending> {
    let unknown = |version: &str| {
        usage(format!(
            "--releases: `{version}` is no exact version of a line that is known (hint: nstrail kernels list --archive)"
        ))
    };
    let line = KernelLine::of(good).filter(|line| line.version != *good).ok_or_else(|| unknown(good))?;
    if KernelLine::of(bad).is_none_or(|of| of.version != line.version || of.version == *bad) {
        return Err(unknown(bad));
    }
    let mut kernel_args = args.kernel.clone();
    kernel_args.kernel = Some(line.version.clone());
    let named = named_kernel(context, &kernel_args)?;
    let archive = store.archive(line, &mut |event| shown.build(&event));
    let mut releases = archive.map_err(|error| Ending::Failed(Outcome::Error, error.to_string()))?;
    // The archive forgets what the cache may still have.
    let rows = store.kernels().into_iter().filter(|row| row.line.version == line.version);
    releases.extend(rows.flat_map(|row| row.fetched).filter_map(|source| match source.origin {
        Origin::Debian { version, .. } => Some(version),
        _ => None,
    }));
    releases.sort();
    releases.dedup();
    let place = |version: &str| {
        let missing = || {
            let there: Vec<String> = releases.iter().map(ToString::to_string).collect();
            usage(format!("--releases: {version} is not there (hint: there are {})", there.join(", ")))
        };
        releases.iter().position(|release| release.0 == *version).ok_or_else(missing)
    };
    let (first, last) = (place(good)?, place(bad)?);
    if first >= last {
        return Err(usage(format!(
            "--releases: {good} is not older than {bad} (hint: GOOD..BAD, older first)"
        )));
    }
    let releases: Vec<DebianVersion> = releases[first..=last].to_vec();
    let kernel = named.spec.clone();
    Ok((named, Subject::Releases(ReleaseSubject { kernel, releases })))
}

/// The git tree that is meant: `--source GITDIR`, or the current folder.
pub fn repository(args: &BisectArgs) -> Result<PathBuf, Ending> {
    let text = args.kernel.source.as_deref().unwrap_or(".");
    let path = PathBuf::from(text);
    if path.is_dir() {
        return Ok(path);
    }
    Err(usage(format!("--source: no folder `{text}` (hint: the git tree itself, without @REVISION)")))
}

/// The kernel of a git subject: `--source` names the tree, and not what it is now.
pub fn git_kernel(context: &Context, args: &BisectArgs, base: &Commit) -> Result<NamedKernel, Ending> {
    let mut kernel_args = args.kernel.clone();
    kernel_args.source = None;
    let mut named = named_kernel(context, &kernel_args)?;
    named.spec.source = SourceSpec::Git { repository: repository(args)?, revision: base.id.clone() };
    Ok(named)
}

fn range(
    context: &Context,
    args: &BisectArgs,
    (good, bad): &(String, String),
) -> Result<(NamedKernel, Subject), Ending> {
    let repository = repository(args)?;
    let commits = Commit::line(&repository, good, bad).map_err(|error| series::failed(&error))?;
    let Some(base) = commits.first().cloned() else { return Err(usage("--range: no commit is in it")) };
    let named = git_kernel(context, args, &base)?;
    let kernel = named.spec.clone();
    Ok((named, Subject::Git(GitSubject { kernel, repository, base, commits })))
}

/// The command line that does the same again, without scenarios.
fn reproducer(args: &BisectArgs, named: &NamedKernel, seed: u64) -> String {
    let mut line = "nstrail bisect".to_owned();
    if let Some((good, bad)) = &args.releases {
        add_flag(&mut line, "releases", &format!("{good}..{bad}"));
    } else {
        let kernel = args.kernel.kernel.as_deref().unwrap_or(&named.version);
        add_flag(&mut line, "kernel", kernel);
    }
    add_flag(&mut line, "seed", &seed.to_string());
    add_kernel_flags(&mut line, &args.kernel, named);
    if let Some((good, bad)) = &args.range {
        add_flag(&mut line, "range", &format!("{good}..{bad}"));
    }
    if let Some(on) = &args.on {
        add_flag(&mut line, "on", &on.display().to_string());
    }
    for (name, end) in [("good", args.good), ("bad", args.bad)] {
        if let Some(end) = end {
            add_flag(&mut line, name, &end.to_string());
        }
    }
    add_flag(&mut line, "confidence", &args.confidence.to_string());
    if let Some(rate) = args.rate {
        add_flag(&mut line, "rate", &rate.to_string());
    }
    add_flag(&mut line, "max-runs", &args.max_runs.to_string());
    for expected in &args.expect {
        add_flag(&mut line, "expect", expected);
    }
    add_guest_flags(&mut line, &args.guest);
    line
}
