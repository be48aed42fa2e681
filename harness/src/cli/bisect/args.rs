// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of `nstrail bisect`.

use std::path::PathBuf;

use clap::Args;
use nstrail::run::repeat::{Confidence, Rate};

use super::super::args::{GuestArgs, KernelArgs, OutputArgs};

pub const HELP: &str = "\
What is searched, one of:
  --series S [--on SERIES]        the first bad patch of S; --on is applied whole below each of its prefixes
  --releases GOOD..BAD            the first bad point release, the series on each of them
  --range GOOD..BAD               the first bad commit of --source GITDIR (first parents), the series on each of them
  --git-bisect                    nothing: tests HEAD of the current folder, or of --source GITDIR, for `git bisect run`
                                  (results in git-bisect/ of the cache, unless --out is given)

A run is bad if the workload fails, crashes or times out; what does not apply, build or boot is skipped, never bad.
One failure proves bad. How many clean runs prove good follows from --confidence and from how often the fault shows:
--rate, or as it is measured on the bad end (which is therefore run about fifteen times, or until so many failures).

Examples:
  nstrail bisect --on 6.12 --series topic.mbox --rate 1 smoke
  nstrail bisect --on 6.12 --series topic.mbox --expect NS-G3-DENSE --confidence 0.999 churn
  nstrail bisect --releases 6.12.90-1..6.12.117-1 smoke
  nstrail bisect --source ~/linux --range v6.12..topic --rate 1/10 smoke
  cd ~/linux; git bisect start topic v6.12; git bisect run nstrail bisect --root ~/nstrail --git-bisect smoke

Exit codes: 0 found, and verified by its removal (a release: found); 10 not conclusive: several are left, the confidence
was not reached, the removal does not confirm it, or an end is not what it was said to be; 2, 3 and 70 as everywhere.
With --git-bisect: 0 good, 1 bad, 125 cannot be tested; 128 and more, which ends git's bisection, for everything else.";

#[derive(Debug, Clone, Args)]
pub struct BisectArgs {
    /// Scenarios: names of embedded ones, or paths of TOML files [default: smoke]
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,

    #[command(flatten)]
    pub kernel: KernelArgs,

    /// A series that is applied whole below each prefix: as --series, or 6.12 for patches/auditnsid/6.12
    #[arg(long, value_name = "SERIES")]
    pub on: Option<PathBuf>,

    /// So many patches of the series are good [default: 0]
    #[arg(long, value_name = "N")]
    pub good: Option<usize>,

    /// So many patches of the series are bad [default: all]
    #[arg(long, value_name = "N")]
    pub bad: Option<usize>,

    /// Exact Debian versions of one line, older first (`nstrail kernels list --archive`)
    #[arg(long, value_name = "GOOD..BAD", value_parser = range, conflicts_with_all = ["range", "git_bisect", "kernel", "source", "on", "good", "bad"])]
    pub releases: Option<(String, String)>,

    /// Revisions of --source GITDIR, older first
    #[arg(long, value_name = "GOOD..BAD", value_parser = range, conflicts_with_all = ["git_bisect", "on", "good", "bad"])]
    pub range: Option<(String, String)>,

    /// As the command of `git bisect run`
    #[arg(long, conflicts_with_all = ["on", "good", "bad", "resume", "dry_run"])]
    pub git_bisect: bool,

    /// How sure the result shall be; with --git-bisect each verdict
    #[arg(long, value_name = "PROBABILITY", default_value = "0.99")]
    pub confidence: Confidence,

    /// How often the fault shows, per run (0.1, 1/10; 1: always) [default: measured on the bad end; with --git-bisect 1]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,

    /// No candidate gets more runs, whatever the confidence
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_runs: u32,

    /// Only a finding of this invariant, or the splat of this fingerprint, is bad; repeatable
    #[arg(long, value_name = "ID")]
    pub expect: Vec<String>,

    #[command(flatten)]
    pub guest: GuestArgs,

    #[command(flatten)]
    pub output: OutputArgs,

    /// Go on with a bisection that was interrupted; one that is finished is shown again
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,

    /// List the candidates, do nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn range(text: &str) -> Result<(String, String), String> {
    match text.split_once("..") {
        Some((good, bad)) if !good.is_empty() && !bad.is_empty() && !bad.starts_with('.') => {
            Ok((good.to_owned(), bad.to_owned()))
        }
        _ => Err(format!("`{text}` is not GOOD..BAD (hint: older first)")),
    }
}
