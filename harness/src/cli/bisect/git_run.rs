// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail bisect --git-bisect`: the command of `git bisect run`.
//!
//! git takes 0 for good, 125 for "cannot be tested", every other code up to 127 for bad, and ends the bisection at 128
//! and more (git-bisect(1)). So whatever is not a verdict ends above that: an error of ours, wrong usage, even a panic
//! must not make some commit bad.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nstrail::{
    kernel::Commit,
    outcome::Outcome,
    process::Sandbox,
    report::{bisect::Verdict, escape::one_line},
    run::{
        bisect::{
            judge,
            subject::{GitSubject, Subject},
        },
        repeat::Rate,
    },
};

use super::{
    args::BisectArgs,
    configure::{config, git_kernel, repository},
    failed,
    show::Shown,
};
use crate::cli::{build, context::Context, exit::Ending, progress::Progress, series};

/// What git takes for "cannot be tested".
const SKIP: u8 = 125;
/// From here on git ends its bisection.
const ABORT: u8 = 128;

/// Whether the command line asks for it, as far as can be seen before it is parsed.
pub fn is_git_run() -> bool {
    std::env::args_os().any(|arg| arg == "--git-bisect")
}

/// The exit code for git of a code that is no verdict.
pub const fn as_git_wants(code: u8) -> u8 {
    ABORT.saturating_add(code)
}

pub fn git_run(context: &Context, args: &BisectArgs) -> Ending {
    let ended = catch_unwind(AssertUnwindSafe(|| test(context, args)));
    ended.unwrap_or_else(|_| Ending::Failed(Outcome::Error, "nstrail panicked: no verdict".to_owned()))
}

fn test(context: &Context, args: &BisectArgs) -> Ending {
    match try_test(context, args) {
        Ok(ending) | Err(ending) => ending,
    }
}

fn try_test(context: &Context, args: &BisectArgs) -> Result<Ending, Ending> {
    let rate = args.rate.unwrap_or(Rate::ALWAYS);
    let needed = rate.runs_needed(args.confidence.risk());
    if needed > args.max_runs {
        let (confidence, most) = (args.confidence, args.max_runs);
        return Err(Ending::Usage(format!(
            "a rate of {rate} takes {needed} clean runs at a confidence of {confidence}, --max-runs allows {most}"
        )));
    }
    let repository = repository(args)?;
    let of = |error| series::failed(&error);
    let head = Commit::of(&repository, "HEAD").map_err(of)?;
    // All steps of a bisection have the same first good commit: so they share a tree.
    let base = Commit::good_of_bisection(&repository).unwrap_or_else(|| head.clone());
    let named = git_kernel(context, args, &base)?;
    let kernel = named.spec.clone();
    let subject = Subject::Git(GitSubject { kernel, repository, base, commits: vec![head] });
    let mut shown = Shown::new(Progress::new(context.quiet, context.terminal));
    let store = build::store(context)?;
    let results = store.root().join("git-bisect");
    let mut config = config(context, args, store, &named, subject, &mut shown)?;
    if args.output.out.is_none() && context.settings.out.is_none() {
        // The current folder is the user's tree.
        config.run.out = results;
    }
    shown.candidates(config.subject.candidates());
    if let Err(none) = Sandbox::find() {
        shown.progress.warning(&format!("the virtiofs daemon of each guest can do all that you can: {none}"));
    }
    let judged = judge(&config, rate, &mut |event| shown.event(event));
    drop(shown);
    let (step, candidate, folder) = judged.map_err(|trouble| failed(&trouble))?;
    eprintln!("nstrail: results in {}", folder.path().display());
    let reason = step.reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let runs = if step.runs == 1 { "1 run".to_owned() } else { format!("{} runs", step.runs) };
    let text = format!("{} is {} after {runs}{reason}", candidate.id, step.verdict.word());
    println!("{}", one_line(&text));
    let code = match step.verdict {
        Verdict::Good => 0,
        Verdict::Bad => 1,
        Verdict::Skipped => SKIP,
    };
    Ok(Ending::Said(code, text))
}
