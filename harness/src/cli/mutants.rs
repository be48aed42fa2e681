// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail mutants`: is each planted fault seen?

use std::path::PathBuf;

use clap::Args;
use nstrail::{
    kernel::{Events, Store},
    outcome::Outcome,
    plan::{
        matrix::Partition,
        mutant::{Mutant, select},
        scenario,
    },
    process::Sandbox,
    report::{
        escape::{lines, one_line},
        mutants::{Class, MutantSummary, measured, text},
    },
    run::{
        execute::RunConfig,
        mutants::{MutantsConfig, MutantsEvent, Tried, execute, in_diff, plant},
    },
    snapshot::Mode,
    vm::Perturbation,
};

use super::{
    args::{GuestArgs, KernelArgs, OutputArgs, perturbation},
    boot,
    build::{self, NamedKernel, named_kernel},
    context::Context,
    exit::Ending,
    live::Live,
    run::{add_flag, add_guest_flags, add_kernel_flags},
};

pub const HELP: &str = "\
A mutant is a folder NN-name of patches/mutants with mutant.toml and a patch on top of the series.
The series without a fault has to pass first, or there is no score. Exit code 9: a mutant survived.

Examples:
  nstrail mutants                               every mutant, on 6.12
  nstrail mutants --kernel 5.10 01 07-flags-as-passed
  nstrail mutants --list
  nstrail mutants --in-diff 0004-release.patch  only those near what this patch changes
  nstrail mutants --partition slice:1/4
  nstrail mutants --measure 10 27 28            how often each perturbation shows them";

/// Perturbations for mutants with several tries, unless others are named: docs/mutants.md says why these.
const PERTURBATIONS: [&str; 4] = ["plain", "pinned", "vcpus-4", "backlog-64"];

#[derive(Debug, Clone, Args)]
#[command(mut_arg("jobs", |arg| arg.help("Mutants whose guests run at the same time [default: 1]")))]
pub struct MutantsArgs {
    /// Mutants, by name or number [default: all]
    #[arg(value_name = "MUTANT")]
    pub mutants: Vec<String>,

    /// Folder of the mutants [default: patches/mutants]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Scenarios beside those that a mutant names; repeatable [default: those of `nstrail run`]
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<String>,

    /// Only mutants near a line that this diff changes; its new side is the tree with the series
    #[arg(long, value_name = "FILE")]
    pub in_diff: Option<PathBuf>,

    /// Only a part of the mutants: slice:1/4 is the first of four
    #[arg(long, value_name = "slice:PART/OF")]
    pub partition: Option<String>,

    /// Instead of a score: run each mutant so many times under each perturbation, in the first scenario that it names
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub measure: Option<u32>,

    /// Perturbations for mutants with several tries, in turns; repeatable [default: plain, pinned, vcpus-4, backlog-64]
    #[arg(long = "perturbation", value_name = "NAME", value_delimiter = ',', value_parser = perturbation())]
    pub perturbations: Vec<Perturbation>,

    /// List the mutants, do nothing
    #[arg(long)]
    pub list: bool,

    /// Apply each mutant to the series and say whether it does; build and run nothing
    #[arg(long, conflicts_with = "list")]
    pub dry_run: bool,

    #[command(flatten)]
    pub kernel: KernelArgs,

    #[command(flatten)]
    pub guest: GuestArgs,

    #[command(flatten)]
    pub output: OutputArgs,
}

pub fn mutants(context: &Context, args: &MutantsArgs) -> Ending {
    let config = match configure(context, args) {
        Ok(config) => config,
        Err(ending) => return ending,
    };
    if args.list {
        for mutant in &config.mutants {
            let invariants: Vec<&str> = mutant.invariants.iter().map(|invariant| invariant.id()).collect();
            let (name, title) = (one_line(&mutant.name), one_line(&mutant.title));
            println!("{name:<36} {:<6} {}: {title}", mutant.kind.word(), invariants.join(" "));
        }
        return Ending::Done;
    }
    if args.dry_run {
        return dry_run(&config);
    }
    let mut live = Live::new(context.quiet, context.terminal, config.mutants.len() as u64);
    if let Err(none) = Sandbox::find() {
        live.warning(&format!("the virtiofs daemon of each guest can do all that you can: {none}"));
    }
    let result = execute(&config, &mut |event| show(&mut live, &event));
    drop(live);
    match result {
        Ok(Tried { summary, folder, unwritten }) => {
            print!("{}", text(&summary));
            if config.measure.is_some() {
                print!("\nkills of runs\n{}", measured(&summary));
            }
            if let Some(error) = unwritten {
                return Ending::Failed(Outcome::Error, error.to_string());
            }
            eprintln!("nstrail: results in {}", folder.path().display());
            match summary.outcome {
                Outcome::Passed if args.measure.is_some() => {
                    Ending::Said(0, "passed: all runs were made".to_owned())
                }
                Outcome::Passed => {
                    let idle = summary.mutants.iter().filter(|mutant| mutant.class == Class::NotRun).count();
                    let rest = if idle > 0 { format!(" ({idle} not run)") } else { String::new() };
                    Ending::Said(0, format!("passed: every mutant that was tried was killed{rest}"))
                }
                outcome => Ending::Verdict(outcome),
            }
        }
        Err(error) => Ending::Failed(Outcome::Error, error.to_string()),
    }
}

/// Whether the faults can be planted.
fn dry_run(config: &MutantsConfig) -> Ending {
    let base = &config.base;
    let quiet: Events<'_> = &mut |_| {};
    let source = match base.store.source(&base.kernel.source, base.kernel.refresh, quiet) {
        Ok(source) => source,
        Err(error) => return Ending::error(&error),
    };
    let Some(series) = &base.kernel.series else { return Ending::Verdict(Outcome::Skipped) };
    let mut rejected = None;
    for mutant in &config.mutants {
        let name = one_line(&mutant.name);
        if !mutant.is_for(&base.version) {
            println!("{name}: not for {}", base.version);
            continue;
        }
        let planted = plant(series, mutant, &base.version);
        match planted
            .and_then(|series| series.apply(&source.tree, &mut |_| {}).map_err(|error| error.to_string()))
        {
            Ok(_) => println!("{name} applies"),
            Err(reason) => {
                println!("{name}: {}", lines(&reason));
                rejected.get_or_insert(Ending::Failed(Outcome::PatchRejected, format!("{name}: {reason}")));
            }
        }
    }
    rejected.unwrap_or(Ending::Done)
}

fn configure(context: &Context, args: &MutantsArgs) -> Result<MutantsConfig, Ending> {
    let usage = |error: &dyn std::fmt::Display| Ending::Usage(error.to_string());
    let settings = &context.settings;
    let project = context.project().map_err(Ending::Usage)?;
    if args.kernel.unpatched {
        return Err(Ending::Usage("a mutant is a fault in a series: --unpatched has none".to_owned()));
    }
    if args.guest.perturb.is_some() {
        return Err(Ending::Usage(
            "mutants have perturbations in turns: --perturbation names them".to_owned(),
        ));
    }
    let folder = args.dir.clone().unwrap_or_else(|| project.mutants());
    let mutants = Mutant::read_all(&folder).map_err(|error| usage(&error))?;
    let mut mutants = select(mutants, &args.mutants).map_err(|error| usage(&error))?;
    let named = named_kernel(context, &args.kernel)?;
    let store = build::store(context)?;
    if let Some(diff) = &args.in_diff {
        mutants = near(&store, &named, mutants, diff)?;
    }
    if let Some(partition) = &args.partition {
        mutants = partition.parse::<Partition>().map_err(|error| usage(&error))?.of(mutants);
    }
    if mutants.is_empty() {
        return Err(Ending::Verdict(Outcome::Skipped));
    }
    let scenarios: Vec<String> = match args.scenarios.as_slice() {
        [] => scenario::defaults().into_iter().map(str::to_owned).collect(),
        named => named.to_vec(),
    };
    let scenarios: Result<_, _> = scenarios.iter().map(|name| scenario::find(name)).collect();
    let perturbations: Result<Vec<_>, _> = match args.perturbations.as_slice() {
        [] if args.measure.is_some() => Ok(Perturbation::ALL.to_vec()),
        [] => PERTURBATIONS.into_iter().map(Perturbation::find).collect(),
        named => Ok(named.to_vec()),
    };
    let seed = args.output.seed(settings);
    let reproducer = reproducer(args, &named, seed);
    let mut kernel = named.spec;
    // --jobs is about guests here.
    let jobs = args.kernel.jobs.unwrap_or(1).max(1);
    kernel.jobs = 0;
    Ok(MutantsConfig {
        base: RunConfig {
            reproducer,
            project,
            store,
            version: named.version,
            kernel,
            scenarios: scenarios.map_err(|error| usage(&error))?,
            guest: boot::guest(context, &args.guest)?,
            seed,
            out: args.output.out(settings),
            snapshots: Mode::Off,
            each_patch: None,
        },
        mutants,
        perturbations: perturbations.map_err(|error| usage(&error))?,
        jobs,
        measure: args.measure,
    })
}

/// Those that `--in-diff` leaves.
fn near(
    store: &Store,
    named: &NamedKernel,
    mutants: Vec<Mutant>,
    diff: &std::path::Path,
) -> Result<Vec<Mutant>, Ending> {
    let quiet: Events<'_> = &mut |_| {};
    let source = store.source(&named.spec.source, named.spec.refresh, quiet);
    let source = source.map_err(|error| Ending::error(&error))?;
    let Some(series) = &named.spec.series else { return Ok(mutants) };
    in_diff(mutants, &named.version, series, &source.tree, diff)
        .map_err(|error| Ending::Usage(error.to_string()))
}

/// The command line that runs the same.
fn reproducer(args: &MutantsArgs, named: &NamedKernel, seed: u64) -> String {
    let kernel = args.kernel.kernel.as_deref().unwrap_or(&named.version);
    let mut line = format!("nstrail mutants --kernel {kernel} --seed {seed}");
    add_kernel_flags(&mut line, &args.kernel, named);
    add_guest_flags(&mut line, &args.guest);
    let mut flag = |name: &str, value: &str| add_flag(&mut line, name, value);
    for (name, path) in [("dir", args.dir.as_ref()), ("in-diff", args.in_diff.as_ref())] {
        if let Some(path) = path {
            flag(name, &path.display().to_string());
        }
    }
    for scenario in &args.scenarios {
        flag("scenario", scenario);
    }
    if let Some(partition) = &args.partition {
        flag("partition", partition);
    }
    if !args.perturbations.is_empty() {
        flag(
            "perturbation",
            &args.perturbations.iter().map(Perturbation::name).collect::<Vec<_>>().join(","),
        );
    }
    if let Some(runs) = args.measure {
        flag("measure", &runs.to_string());
    }
    for mutant in &args.mutants {
        line.push(' ');
        line.push_str(mutant);
    }
    line
}

fn show(live: &mut Live, event: &MutantsEvent<'_>) {
    match event {
        MutantsEvent::Accelerator(decision) => {
            live.line(&format!("accelerator {}: {}", decision.accelerator.word(), decision.reason));
        }
        MutantsEvent::Build { name, event } => {
            if let Some(words) = build::words(event) {
                live.state(name, || words);
            }
        }
        MutantsEvent::Started { name, scenario, perturbation, seed } => {
            live.start(name, &format!("{scenario} ({perturbation}, try {})", seed + 1));
        }
        MutantsEvent::Records { name, count } => live.state(name, || format!("{count} records")),
        MutantsEvent::Ended { name, run } => {
            let by = if run.by.is_empty() { String::new() } else { format!(" by {}", run.by.join(", ")) };
            let (outcome, seconds) = (run.outcome, run.guest_seconds);
            let (scenario, perturbation) = (&run.scenario, &run.perturbation);
            live.end(name, &format!("{scenario} ({perturbation}) {outcome}{by} in {seconds:.1} s"), false);
        }
        MutantsEvent::Mutant(mutant) => live.end(&mutant.name, &verdict(mutant), true),
    }
}

fn verdict(mutant: &MutantSummary) -> String {
    let reason = mutant.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", one_line(reason)));
    format!("{}{reason}", mutant.class.word())
}
