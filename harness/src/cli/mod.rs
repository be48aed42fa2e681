// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: one file a command. The only place that prints: data on stdout, progress on stderr.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the place that prints")]

mod args;
mod bisect;
mod boot;
mod build;
mod check;
mod context;
mod doctor;
mod exit;
mod kernels;
mod live;
mod matrix;
mod merge;
mod mutants;
mod progress;
mod report;
mod review;
mod run;
mod scenarios;
mod series;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory as _, Parser as _};
use context::Context;
use exit::Ending;
use nstrail::process::interrupt;

/// Parses the arguments, runs the command, says how it ended.
pub fn main() -> ExitCode {
    // git takes most codes for "bad": what is no verdict must not be one of those.
    let git = bisect::is_git_run();
    let report = |ending: Ending| ending.report(|code| if git { bisect::as_git_wants(code) } else { code });
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, everything else to stderr with 2: clap's own rule.
            let _ = error.print();
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return ExitCode::from(if code > 0 && git { bisect::as_git_wants(code) } else { code });
        }
    };
    // The daemon is a child of ours: it must not install our signal handling, its parent ends it.
    if let Command::Virtiofsd { args } = cli.command {
        return nstrail::vm::virtiofs::daemon_main(&args);
    }
    if let Err(error) = interrupt::install() {
        return report(Ending::error(&format!("cannot install signal handlers: {error}")));
    }
    let context = match Context::new(&cli.global) {
        Ok(context) => context,
        Err(message) => return report(Ending::Usage(message)),
    };
    let ending = match cli.command {
        Command::Run(args) => run::run(&context, &args),
        Command::Matrix(args) => matrix::matrix(&context, &args),
        Command::Mutants(args) => mutants::mutants(&context, &args),
        Command::Bisect(args) if args.git_bisect => bisect::git_run(&context, &args),
        Command::Bisect(args) => bisect::bisect(&context, &args),
        Command::Merge(args) => merge::merge(&context, &args),
        Command::Apply(args) => build::apply(&context, &args),
        Command::Build(args) => build::build(&context, &args),
        Command::Boot(args) => boot::boot(&context, &args),
        Command::Check(args) => check::check(&args),
        Command::Review(args) => review::review(&context, args.action),
        Command::Kernels(args) => kernels::kernels(&context, &args.action),
        Command::Series(args) => series::series(&context, &args.action),
        Command::Scenarios(args) => scenarios::scenarios(&args.action),
        Command::Report(args) => report::report(&args),
        Command::Doctor(args) => doctor::doctor(&context, &args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "nstrail", &mut std::io::stdout());
            Ending::Done
        }
        Command::Virtiofsd { .. } => Ending::Done,
    };
    report(ending)
}
