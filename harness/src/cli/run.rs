// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail run`: the whole way.

use nstrail::{
    outcome::Outcome,
    plan::scenario::{self, ScenarioError},
    process::Sandbox,
    report::{escape::one_line, verdict},
    run::execute::{EachPatch, Executed, RunConfig, RunEvent, execute},
    snapshot::Mode,
};
use nstrail_wire::scenario::Scenario;

use super::{
    args::{CheckpatchArg, GuestArgs, KernelArgs, RunArgs, SnapshotsArg, make_variable},
    boot,
    build::{self, NamedKernel, named_kernel},
    context::Context,
    exit::Ending,
    progress::Progress,
};

pub fn run(context: &Context, args: &RunArgs) -> Ending {
    let args = match with_variables(args) {
        Ok(args) => args,
        Err(message) => return Ending::Usage(message),
    };
    let config = match configure(context, &args) {
        Ok(config) => config,
        Err(ending) => return ending,
    };
    if args.dry_run {
        return dry_run(&config);
    }
    let mut progress = Progress::new(context.quiet, context.terminal);
    if let Err(none) = Sandbox::find() {
        progress.warning(&format!("the virtiofs daemon of each guest can do all that you can: {none}"));
    }
    let result = execute(&config, &mut |event| show(&mut progress, event));
    drop(progress);
    match result {
        Ok(Executed { summary, folder, unwritten }) => {
            print!("{}", verdict::render(&summary));
            if let Some(error) = unwritten {
                return Ending::Failed(Outcome::Error, error.to_string());
            }
            eprintln!("nstrail: results in {}", folder.path().display());
            Ending::Verdict(summary.outcome)
        }
        Err(error) => Ending::Failed(Outcome::Error, error.to_string()),
    }
}

/// `KEY=VALUE` among the scenarios is meant for make; a path may have a `=`, too.
fn with_variables(args: &RunArgs) -> Result<RunArgs, String> {
    let mut args = args.clone();
    let is_variable = |word: &String| {
        let key = word.split_once('=').map_or("", |(key, _)| key);
        !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !word.ends_with(".toml")
    };
    let (variables, scenarios) = args.scenarios.into_iter().partition(is_variable);
    let variables: Vec<String> = variables;
    args.scenarios = scenarios;
    for variable in &variables {
        args.kernel.make.push(make_variable(variable)?);
    }
    Ok(args)
}

fn configure(context: &Context, args: &RunArgs) -> Result<RunConfig, Ending> {
    let settings = &context.settings;
    let named = named_kernel(context, &args.kernel)?;
    let seed = args.output.seed(settings);
    let snapshots = snapshots(context, args.snapshots)?;
    let reproducer = reproducer(args, &named, seed);
    Ok(RunConfig {
        project: context.project().map_err(Ending::Usage)?,
        store: build::store(context)?,
        version: named.version,
        kernel: named.spec,
        scenarios: scenarios(args, settings.scenarios.as_deref())
            .map_err(|error| Ending::Usage(error.to_string()))?,
        guest: boot::guest(context, &args.guest)?,
        seed,
        out: args.output.out(settings),
        snapshots,
        each_patch: args
            .each_patch
            .then_some(EachPatch { deny_checkpatch: args.checkpatch == CheckpatchArg::Deny }),
        reproducer,
    })
}

/// What is done about snapshots, by flag, environment or settings.
pub fn snapshots(context: &Context, named: Option<SnapshotsArg>) -> Result<Mode, Ending> {
    match (named, context.settings.snapshots.as_deref()) {
        (Some(SnapshotsArg::Auto), _) | (None, None | Some("auto")) => Ok(Mode::Auto),
        (Some(SnapshotsArg::Deny), _) | (None, Some("deny")) => Ok(Mode::Deny),
        (Some(SnapshotsArg::Off), _) | (None, Some("off")) => Ok(Mode::Off),
        (None, Some(other)) => {
            Err(Ending::Usage(format!("nstrail.toml: snapshots is `{other}`, expected auto, deny or off")))
        }
    }
}

fn scenarios(args: &RunArgs, settings: Option<&[String]>) -> Result<Vec<Scenario>, ScenarioError> {
    let named: Vec<String> = if !args.scenarios.is_empty() {
        args.scenarios.clone()
    } else if let Some(settings) = settings {
        settings.to_vec()
    } else {
        scenario::defaults().into_iter().map(str::to_owned).collect()
    };
    named.iter().map(|name| scenario::find(name)).collect()
}

/// The command line that runs the same, without scenarios.
fn reproducer(args: &RunArgs, named: &NamedKernel, seed: u64) -> String {
    let kernel = args.kernel.kernel.as_deref().unwrap_or(&named.version);
    let mut line = format!("nstrail run --kernel {kernel} --seed {seed}");
    add_kernel_flags(&mut line, &args.kernel, named);
    if args.each_patch {
        add_flag(&mut line, "each-patch", "");
        if args.checkpatch == CheckpatchArg::Deny {
            add_flag(&mut line, "checkpatch", "deny");
        }
    }
    add_guest_flags(&mut line, &args.guest);
    line
}

/// Adds what says which kernel it is, but for its version.
pub fn add_kernel_flags(line: &mut String, args: &KernelArgs, named: &NamedKernel) {
    let mut flag = |name: &str, value: &str| add_flag(line, name, value);
    if let Some(source) = &args.source {
        flag("source", source);
    }
    if args.unpatched {
        flag("unpatched", "");
    } else if let (Some(_), Some(folder)) = (&args.series, &named.series_folder) {
        flag("series", &folder.display().to_string());
    }
    if let Some((picks, _)) = &args.picks.cherry_pick {
        flag("cherry-pick", picks);
    }
    if args.fuzz > 0 {
        flag("fuzz", &args.fuzz.to_string());
    }
    if let Some(symbol) = &args.symbol {
        flag("symbol", symbol);
    }
    for flavour in &args.flavours {
        flag("flavour", flavour);
    }
    for (key, value) in &args.make {
        flag("make", &format!("{key}={value}"));
    }
    if args.sandbox.no_sandbox {
        flag("no-sandbox", "");
    }
}

/// Adds what says how guests are run.
pub fn add_guest_flags(line: &mut String, args: &GuestArgs) {
    let mut flag = |name: &str, value: &str| add_flag(line, name, value);
    if let Some(vcpus) = args.vcpus {
        flag("vcpus", &vcpus.to_string());
    }
    if let Some(perturbation) = &args.perturb {
        flag("perturb", perturbation.name());
    }
    for (name, limit) in [("wall", args.wall), ("silence", args.silence)] {
        if let Some(seconds) = limit {
            flag(name, &seconds.to_string());
        }
    }
    for parameter in &args.append {
        flag("append", parameter);
    }
    if let Some(file) = &args.splats.known_splats {
        flag("known-splats", &file.display().to_string());
    }
}

/// Adds a flag to a command line that a shell will read.
pub fn add_flag(line: &mut String, name: &str, value: &str) {
    line.push_str(&format!(" --{name}"));
    if !value.is_empty() {
        let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,@+".contains(&byte));
        let quoted = if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) };
        line.push_str(&format!(" {quoted}"));
    }
}

fn dry_run(config: &RunConfig) -> Ending {
    let series = config.kernel.series.as_ref().map_or_else(
        || "no series".to_owned(),
        |series| format!("{} ({} patches)", one_line(&series.name), series.patches.len()),
    );
    println!("kernel {} with {series}, from {:?}", config.version, config.kernel.source);
    if let (Some(_), Some(series)) = (config.each_patch, &config.kernel.series) {
        for (number, patch) in series.patches.iter().enumerate() {
            println!("patch {}/{}: {}", number + 1, series.patches.len(), one_line(&patch.name));
        }
    }
    for scenario in &config.scenarios {
        let vcpus = config.guest.vcpus(scenario);
        println!(
            "scenario {}: {vcpus} vCPUs, {} MiB: {}",
            scenario.name, scenario.memory_mib, scenario.description
        );
    }
    Ending::Done
}

/// Shows what a run tells.
pub fn show(progress: &mut Progress, event: RunEvent<'_>) {
    match event {
        RunEvent::Kernel(event) => build::show(progress, &event),
        RunEvent::Accelerator(decision) => {
            progress.line(&format!("accelerator {}: {}", decision.accelerator.word(), decision.reason));
        }
        RunEvent::Fallback(decision) => {
            let text = format!("accelerator {}: {}", decision.accelerator.word(), decision.reason);
            progress.warning(&text);
        }
        RunEvent::Patch { number, of, name, symbol } => {
            progress.line(&format!("patch {number}/{of} {name} {symbol}"));
        }
        RunEvent::PatchEnded(patch) => {
            progress.line(&format!("patch {} {}", patch.number, patch.outcome));
        }
        RunEvent::Scenario { name, vcpus } => progress.line(&format!("{name}: booting with {vcpus} vCPUs")),
        RunEvent::Records { name, count } => progress.state(|| format!("{name}: {count} records")),
        RunEvent::Ended { name, outcome, seconds } => {
            progress.line(&format!("{name}: {outcome} in {seconds:.2} s"));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::{Cli, Command};
    use super::*;

    #[test]
    fn variables_among_the_scenarios_go_to_make() {
        let words = ["nstrail", "run", "smoke", "LLVM=1", "./a=b.toml", "c=d.toml", "--make", "W=1"];
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!("run") };
        let args = with_variables(&args).unwrap();
        assert_eq!(args.scenarios, ["smoke", "./a=b.toml", "c=d.toml"]);
        let make: Vec<String> =
            args.kernel.make.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(make, ["W=1", "LLVM=1"]);
        let Command::Run(args) = Cli::try_parse_from(["nstrail", "run", "O=/x"]).unwrap().command else {
            panic!("run")
        };
        assert!(with_variables(&args).unwrap_err().contains("nstrail's own"));
    }
}
