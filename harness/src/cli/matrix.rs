// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail matrix`: many kernels, configurations, scenarios and vCPU counts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nstrail::{
    kernel::BuildEvent,
    outcome::Outcome,
    plan::matrix::{Cell, ConfigAxis, FILE_NAME, KernelCell, MatrixFile, Partition, cells},
    process::Sandbox,
    report::verdict,
    run::{
        execute::RunConfig,
        matrix::{MatrixConfig, MatrixEvent, MatrixTrouble, execute},
    },
};

use super::{
    args::{FlakyArg, GuestArgs, KernelArgs, MatrixArgs, PickArgs},
    boot,
    build::{self, named_kernel},
    context::Context,
    exit::Ending,
    live::Live,
    report,
    run::{add_flag, snapshots},
};

pub fn matrix(context: &Context, args: &MatrixArgs) -> Ending {
    let config = match configure(context, args) {
        Ok(config) => config,
        Err(ending) => return ending,
    };
    if args.dry_run {
        for cell in &config.cells {
            match &cell.excluded {
                Some(reason) => println!("{} # SKIP {reason}", cell.id()),
                None => println!("{}", cell.id()),
            }
        }
        return Ending::Done;
    }
    let mut live = Live::new(context.quiet, context.terminal, config.cells.len() as u64);
    if let Err(none) = Sandbox::find() {
        live.warning(&format!("the virtiofs daemon of each guest can do all that you can: {none}"));
    }
    let result = execute(&config, &mut |event| show(&mut live, &event));
    drop(live);
    match result {
        Ok((summary, folder)) => {
            print!("{}", verdict::render(&summary));
            eprintln!("nstrail: results in {}", folder.path().display());
            Ending::Verdict(summary.outcome)
        }
        Err(MatrixTrouble::Journal(error)) => Ending::Usage(error.to_string()),
        Err(error) => Ending::Failed(Outcome::Error, error.to_string()),
    }
}

fn configure(context: &Context, args: &MatrixArgs) -> Result<MatrixConfig, Ending> {
    let usage = |error: &dyn std::fmt::Display| Ending::Usage(error.to_string());
    let file = axes(context, args)?;
    let mut cells = cells(&file).map_err(|error| usage(&error))?;
    if let Some(partition) = &args.partition {
        cells = partition.parse::<Partition>().map_err(|error| usage(&error))?.of(cells);
    }
    if let Some(dir) = &args.rerun_failed {
        cells = failed_of(dir, cells)?;
    }
    if cells.is_empty() {
        return Err(Ending::Verdict(Outcome::Skipped));
    }
    let mut kernels = BTreeMap::new();
    for cell in &cells {
        if !kernels.contains_key(&cell.kernel) {
            kernels.insert(cell.kernel.clone(), kernel(context, args, &cell.kernel)?);
        }
    }
    Ok(MatrixConfig {
        cells,
        kernels,
        baseline: !args.no_baseline,
        fail_fast: args.fail_fast,
        retries: args.retries,
        flaky_fails: args.flaky_result == FlakyArg::Fail,
        out: args.output.out(&context.settings),
        resume: args.resume.clone(),
        reproducer: reproducer(args),
    })
}

/// The axes of the file, with what the flags say in their place.
fn axes(context: &Context, args: &MatrixArgs) -> Result<MatrixFile, Ending> {
    let path = match &args.file {
        Some(path) => Some(path.clone()),
        None => {
            let here = PathBuf::from(FILE_NAME);
            let project = context.project().map_err(Ending::Usage)?.root().join(FILE_NAME);
            [here, project].into_iter().find(|path| path.is_file())
        }
    };
    let mut file = match &path {
        Some(path) => MatrixFile::read(path).map_err(|error| Ending::Usage(error.to_string()))?,
        None if args.kernels.is_empty() => {
            return Err(Ending::Usage(format!(
                "no {FILE_NAME} here or in the checkout (hint: --file names one, --kernel does without)"
            )));
        }
        None => MatrixFile::default(),
    };
    if !args.kernels.is_empty() {
        file.kernels.clone_from(&args.kernels);
    }
    if !args.scenarios.is_empty() {
        file.scenarios.clone_from(&args.scenarios);
        // Who names scenarios means them for every configuration.
        file.configs.iter_mut().for_each(|config| config.scenarios = None);
    }
    if !args.vcpus.is_empty() {
        file.vcpus.clone_from(&args.vcpus);
    }
    if !args.configs.is_empty() {
        let named = |config: &ConfigAxis| match config.name.as_str() {
            "" => "plain".to_owned(),
            name => name.to_owned(),
        };
        if file.configs.is_empty() {
            file.configs.push(ConfigAxis::default());
        }
        let known: Vec<String> = file.configs.iter().map(named).collect();
        if let Some(unknown) = args.configs.iter().find(|name| !known.contains(name)) {
            let known = known.join(", ");
            return Err(Ending::Usage(format!("no configuration `{unknown}` (hint: there are {known})")));
        }
        file.configs.retain(|config| args.configs.contains(&named(config)));
        if !args.kernels.is_empty() {
            // Who names both means each of the one with each of the other.
            file.configs.iter_mut().for_each(|config| config.kernels = None);
        }
    }
    Ok(file)
}

fn failed_of(dir: &std::path::Path, cells: Vec<Cell>) -> Result<Vec<Cell>, Ending> {
    let (summary, _) = report::read(dir)?;
    let passed = |cell: &Cell| {
        summary.kernels.iter().any(|kernel| {
            kernel.title() == cell.kernel.to_string()
                && kernel.scenarios.iter().any(|ran| {
                    ran.name == cell.scenario.name
                        && ran.vcpus == cell.vcpus
                        && matches!(ran.outcome, Outcome::Passed)
                })
        })
    };
    Ok(cells.into_iter().filter(|cell| !passed(cell)).collect())
}

fn kernel(context: &Context, args: &MatrixArgs, cell: &KernelCell) -> Result<RunConfig, Ending> {
    let kernel_args = KernelArgs {
        kernel: Some(cell.kernel.clone()),
        source: None,
        series: args.series.clone(),
        picks: PickArgs { cherry_pick: None },
        fuzz: 0,
        symbol: args.symbol.clone(),
        unpatched: args.unpatched,
        flavours: cell.config.flavours.clone(),
        jobs: args.jobs,
        make: args.make.clone(),
        sandbox: args.sandbox.clone(),
    };
    let guest = GuestArgs {
        accel: args.accel,
        vcpus: None,
        wall: None,
        silence: None,
        perturb: None,
        append: Vec::new(),
        splats: args.splats.clone(),
    };
    let named = named_kernel(context, &kernel_args)?;
    let seed = args.output.seed(&context.settings);
    let mut reproducer = format!("nstrail run --kernel {} --seed {seed}", cell.kernel);
    if args.unpatched {
        add_flag(&mut reproducer, "unpatched", "");
    } else if let Some(series) = &args.series {
        add_flag(&mut reproducer, "series", &series.display().to_string());
    }
    for flavour in &cell.config.flavours {
        add_flag(&mut reproducer, "flavour", flavour);
    }
    for (key, value) in &args.make {
        add_flag(&mut reproducer, "make", &format!("{key}={value}"));
    }
    Ok(RunConfig {
        project: context.project().map_err(Ending::Usage)?,
        store: build::store(context)?,
        version: named.version,
        kernel: named.spec,
        scenarios: Vec::new(),
        guest: boot::guest(context, &guest)?,
        seed,
        out: PathBuf::new(),
        snapshots: snapshots(context, args.snapshots)?,
        each_patch: None,
        reproducer,
    })
}

/// The command line that runs the same cells again.
fn reproducer(args: &MatrixArgs) -> String {
    let mut line = "nstrail matrix".to_owned();
    let mut list = |name: &str, values: &[String]| {
        if !values.is_empty() {
            add_flag(&mut line, name, &values.join(","));
        }
    };
    list("file", &args.file.iter().map(|path| path.display().to_string()).collect::<Vec<_>>());
    list("kernel", &args.kernels);
    list("config", &args.configs);
    list("vcpus", &args.vcpus.iter().map(u8::to_string).collect::<Vec<_>>());
    list("series", &args.series.iter().map(|path| path.display().to_string()).collect::<Vec<_>>());
    list("symbol", args.symbol.as_slice());
    list("partition", args.partition.as_slice());
    list("seed", &args.output.seed.iter().map(u64::to_string).collect::<Vec<_>>());
    let known = &args.splats.known_splats;
    list("known-splats", &known.iter().map(|path| path.display().to_string()).collect::<Vec<_>>());
    let flags = [
        (args.unpatched, "unpatched"),
        (args.no_baseline, "no-baseline"),
        (args.sandbox.no_sandbox, "no-sandbox"),
    ];
    for (set, name) in flags {
        if set {
            add_flag(&mut line, name, "");
        }
    }
    for (key, value) in &args.make {
        add_flag(&mut line, "make", &format!("{key}={value}"));
    }
    for scenario in &args.scenarios {
        line.push(' ');
        line.push_str(scenario);
    }
    line
}

fn show(live: &mut Live, event: &MatrixEvent<'_>) {
    match event {
        MatrixEvent::Accelerator(decision) => {
            live.line(&format!("accelerator {}: {}", decision.accelerator.word(), decision.reason));
        }
        MatrixEvent::Resumed { cells } => live.line(&format!("{cells} cells are done already")),
        MatrixEvent::BuildStarted { kernel } => live.start(&format!("kernel {kernel}"), "building"),
        MatrixEvent::Build { event: event @ BuildEvent::Unconfined(_), .. } => {
            live.warning(&build::words(event).unwrap_or_default());
        }
        MatrixEvent::Build { kernel, event } => {
            if let Some(text) = build::words(event) {
                live.state(&format!("kernel {kernel}"), || text);
            }
        }
        MatrixEvent::BuildEnded { kernel, seconds, failure } => {
            let text = match failure {
                Some(failure) => format!("{}: {}", failure.outcome, failure.message),
                None => format!("ready after {seconds:.1} s"),
            };
            live.end(&format!("kernel {kernel}"), &text, false);
        }
        MatrixEvent::Started { id } => live.start(id, "booting"),
        MatrixEvent::Records { id, count } => live.state(id, || format!("{count} records")),
        MatrixEvent::Retry { id, outcome } => live.end(id, &format!("{outcome}, trying again"), false),
        MatrixEvent::Ended { id, outcome, seconds } => {
            live.end(id, &format!("{outcome} in {seconds:.1} s"), !id.ends_with(" unpatched"));
        }
    }
}
