// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail bisect`: the first bad patch, release or commit.

mod args;
mod configure;
mod git_run;
mod show;

pub use args::{BisectArgs, HELP};
pub use git_run::{as_git_wants, git_run, is_git_run};

use nstrail::{
    outcome::Outcome,
    process::Sandbox,
    report::{bisect_text, escape::one_line},
    run::bisect::{BisectConfig, BisectTrouble, execute},
};

use self::show::Shown;
use super::{context::Context, exit::Ending, progress::Progress};

pub fn bisect(context: &Context, args: &BisectArgs) -> Ending {
    let mut shown = Shown::new(Progress::new(context.quiet, context.terminal));
    let config = match configure::configure(context, args, &mut shown) {
        Ok(config) => config,
        Err(ending) => return ending,
    };
    if args.dry_run {
        return dry_run(&config);
    }
    shown.candidates(config.subject.candidates());
    if let Err(none) = Sandbox::find() {
        shown.progress.warning(&format!("the virtiofs daemon of each guest can do all that you can: {none}"));
    }
    let result = execute(&config, &mut |event| shown.event(event));
    drop(shown);
    match result {
        Ok((summary, folder)) => {
            print!("{}", bisect_text::render(&summary));
            eprintln!("nstrail: results in {}", folder.path().display());
            Ending::Said(summary.exit_code, summary.sentence)
        }
        Err(trouble) => failed(&trouble),
    }
}

/// Whose trouble it is.
fn failed(trouble: &BisectTrouble) -> Ending {
    match trouble {
        BisectTrouble::Journal(error) => Ending::Usage(error.to_string()),
        BisectTrouble::Failure(failure) => Ending::Failed(failure.outcome, failure.message.clone()),
        BisectTrouble::Folder(_) | BisectTrouble::Interrupted(_) => {
            Ending::Failed(Outcome::Error, trouble.to_string())
        }
    }
}

fn dry_run(config: &BisectConfig) -> Ending {
    for candidate in config.subject.candidates() {
        println!("{}", one_line(format!("{} {}", candidate.id, candidate.title).trim_end()));
    }
    Ending::Done
}
