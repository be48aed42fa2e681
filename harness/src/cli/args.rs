// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments. Precedence: flag, environment, `nstrail.toml`, default.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use nstrail::kernel::Picks;
use nstrail::plan::settings::Settings;
use nstrail::vm::Perturbation;

/// Seed of the workloads' choices unless told otherwise: reviewed snapshots are made with it.
const DEFAULT_SEED: u64 = 1;

/// Kernel test harness and patch validator for audit and namespaces.
///
/// Applies a patch series to a kernel, builds it, boots it under QEMU, runs workloads that spawn, nest
/// and reap containers, captures the audit log, and checks it against the auditnsid contract,
/// against what really happened in the guest, and against reviewed snapshots.
#[derive(Debug, Parser)]
#[command(name = "nstrail", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub global: Global,
}

const EXIT_CODES: &str = "\
Exit codes: 0 passed; 1 a finding; 2 usage; 3 a patch does not apply; 4 build failed; 5 boot failed,
crash or splat; 6 timed out; 7 snapshot changed, review pending; 8 nothing ran; 9 a mutant survived;
10 inconclusive; 70 error of nstrail's own. The last line on stderr says in words what the code means.";

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Folder with patches/, kernel-configs/ and snapshots/ [default: the enclosing checkout]
    #[arg(long, global = true, env = "NSTRAIL_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Kernel sources, build trees and images [default: $XDG_CACHE_HOME/nstrail]
    #[arg(long, global = true, env = "NSTRAIL_CACHE", value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// No progress on stderr
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Apply, build, boot, run scenarios, check, compare: the whole way
    Run(RunArgs),
    /// Run many kernels, configurations, scenarios and vCPU counts; one verdict table
    Matrix(MatrixArgs),
    /// Plant faults in the series, one at a time, and say which of them nothing sees
    #[command(after_help = super::mutants::HELP)]
    Mutants(Box<super::mutants::MutantsArgs>),
    /// Find the first bad patch of a series, point release or commit
    #[command(after_help = super::bisect::HELP)]
    Bisect(Box<super::bisect::BisectArgs>),
    /// Make one summary of the parts of a partitioned matrix
    Merge(MergeArgs),
    /// Apply the series to a private tree, strictly, and say what happened
    Apply(BuildArgs),
    /// Build the kernel image, or find it in the cache
    Build(BuildArgs),
    /// Boot the kernel to the agent's first message and end it
    Boot(BootArgs),
    /// Check a recorded run again, without a VM
    Check(CheckArgs),
    /// List, show, accept or reject pending snapshots
    Review(ReviewArgs),
    /// List or fetch kernel sources
    Kernels(KernelsArgs),
    /// Show a series, or compare two
    #[command(after_help = SERIES_HELP)]
    Series(SeriesArgs),
    /// List, show or check scenarios
    Scenarios(ScenariosArgs),
    /// Draw a report from a run's summary.json
    Report(ReportArgs),
    /// Say what this machine has and what nstrail will use
    Doctor(DoctorArgs),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// The virtiofs daemon of one guest, as a child of nstrail
    #[command(hide = true)]
    Virtiofsd {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// Which kernel, with which patches, configured and built how.
#[derive(Debug, Clone, Args)]
pub struct KernelArgs {
    /// Kernel version: the newest point release of Debian's source, or an exact Debian version
    #[arg(long, short, env = "NSTRAIL_KERNEL", value_name = "VERSION")]
    pub kernel: Option<String>,

    /// Kernel source instead of Debian's: a tarball, a directory, or GITDIR@REVISION
    #[arg(long, value_name = "PATH")]
    pub source: Option<String>,

    /// Series: a directory, mailbox, .patch or quilt series, `-`, or [GITDIR@]BASE..TIP (`nstrail help series`)
    /// [default: patches/auditnsid/VERSION]
    #[arg(long, short, env = "NSTRAIL_SERIES", value_name = "SERIES", conflicts_with = "unpatched")]
    pub series: Option<PathBuf>,

    #[command(flatten)]
    pub picks: PickArgs,

    /// Lines of context at the ends of a hunk that need not stand there; each such hunk is reported
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub fuzz: usize,

    /// No series: the kernel as it comes
    #[arg(long)]
    pub unpatched: bool,

    /// Kconfig symbol that switches on what the series adds, where no series.toml says so
    #[arg(long, value_name = "SYMBOL", conflicts_with = "unpatched", value_parser = symbol)]
    pub symbol: Option<String>,

    /// Additional fragment of kernel-configs/ (without .config); repeatable
    #[arg(long = "flavour", value_name = "NAME")]
    pub flavours: Vec<String>,

    /// Jobs for make [default: number of CPUs]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<usize>,

    /// Variable for make, as KEY=VALUE (LLVM=1, W=1); repeatable
    #[arg(long = "make", value_name = "KEY=VALUE", value_parser = make_variable)]
    pub make: Vec<(String, String)>,

    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

/// What runs of the tree, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct SandboxArgs {
    /// Sandbox for what runs of the tree (make, its scripts): auto uses one if one works here, on demands it
    #[arg(long, value_enum, env = "NSTRAIL_SANDBOX", value_name = "MODE", overrides_with = "no_sandbox")]
    pub sandbox: Option<SandboxArg>,

    /// As --sandbox off: a build of the series can do what you can
    #[arg(long, overrides_with = "sandbox")]
    pub no_sandbox: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SandboxArg {
    Auto,
    On,
    Off,
}

/// Which patches of a series.
#[derive(Debug, Clone, Default, Args)]
pub struct PickArgs {
    /// Only these patches of the series, by number: 1,3-5 or 7-
    #[arg(short = 'P', long, value_name = "LIST", value_parser = picks)]
    pub cherry_pick: Option<(String, Picks)>,
}

/// A kernel, and variables as one gives them to make.
#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub kernel: KernelArgs,

    /// Variables for make: LLVM=1, W=1
    #[arg(value_name = "KEY=VALUE", value_parser = make_variable)]
    pub variables: Vec<(String, String)>,
}

impl BuildArgs {
    /// The kernel with all variables.
    pub fn kernel(&self) -> KernelArgs {
        let mut kernel = self.kernel.clone();
        kernel.make.extend(self.variables.iter().cloned());
        kernel
    }
}

/// How guests are run.
#[derive(Debug, Clone, Args)]
pub struct GuestArgs {
    /// Accelerator; auto boots a probe to find out whether KVM works
    #[arg(long, value_enum, env = "NSTRAIL_ACCEL", value_name = "ACCEL")]
    pub accel: Option<AccelArg>,

    /// vCPUs [default: the scenario's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub vcpus: Option<u8>,

    /// Wall clock limit of a guest in seconds [default: the scenario's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub wall: Option<u32>,

    /// Limit in seconds without any sign of life [default: the scenario's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub silence: Option<u32>,

    /// Disturbs the guest's timing, so that races show sooner (docs/mutants.md)
    #[arg(long, value_name = "NAME", value_parser = perturbation())]
    pub perturb: Option<Perturbation>,

    /// Additional kernel command line parameter; repeatable
    #[arg(long = "append", value_name = "PARAMETER")]
    pub append: Vec<String>,

    #[command(flatten)]
    pub splats: SplatArgs,
}

/// A perturbation by its name.
pub fn perturbation() -> impl TypedValueParser<Value = Perturbation> {
    let known = Perturbation::ALL.map(|one| PossibleValue::new(one.name()).help(one.what));
    PossibleValuesParser::new(known).try_map(|name| Perturbation::find(&name))
}

/// What runs of every kind have: choices, and somewhere to put what comes of them.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Seed of the workloads' choices
    #[arg(long, env = "NSTRAIL_SEED", value_name = "N")]
    pub seed: Option<u64>,

    /// Folder for results
    #[arg(long, short, env = "NSTRAIL_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl OutputArgs {
    /// The seed: of the command line, of nstrail.toml, or the usual one.
    pub fn seed(&self, settings: &Settings) -> u64 {
        self.seed.or(settings.seed).unwrap_or(DEFAULT_SEED)
    }

    /// The folder for results, likewise.
    pub fn out(&self, settings: &Settings) -> PathBuf {
        self.out.clone().or_else(|| settings.out.clone()).unwrap_or_else(|| "out".into())
    }
}

/// What is known of splats.
#[derive(Debug, Clone, Args)]
pub struct SplatArgs {
    /// Splats that do not count, each with a reason, a link and an expiry date [default: kernel-configs/known-splats.toml]
    #[arg(long, env = "NSTRAIL_KNOWN_SPLATS", value_name = "FILE")]
    pub known_splats: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AccelArg {
    Auto,
    Kvm,
    Tcg,
}

#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Scenarios: names of embedded ones (`nstrail scenarios list`), or paths of TOML files [default: all embedded
    /// ones but no-memory, storm and churn-short]; and variables for make, as KEY=VALUE
    #[arg(value_name = "SCENARIO|KEY=VALUE")]
    pub scenarios: Vec<String>,

    #[command(flatten)]
    pub kernel: KernelArgs,

    #[command(flatten)]
    pub guest: GuestArgs,

    #[command(flatten)]
    pub output: OutputArgs,

    /// Compare with the reviewed snapshots: auto writes pending files, deny only fails, off does not compare
    #[arg(long, value_enum, env = "NSTRAIL_SNAPSHOTS", value_name = "MODE")]
    pub snapshots: Option<SnapshotsArg>,

    /// Also validate each patch on top of those before it: builds with the series' symbol y and n, boots,
    /// has no new compiler or sparse warnings in the files that it touches
    #[arg(long, conflicts_with = "unpatched")]
    pub each_patch: bool,

    /// With --each-patch: whether a patch fails for what checkpatch.pl --strict says of it
    #[arg(long, value_enum, value_name = "MODE", default_value = "advisory", requires = "each_patch")]
    pub checkpatch: CheckpatchArg,

    /// Say what would be done, do nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckpatchArg {
    Advisory,
    Deny,
}

#[derive(Debug, Clone, Args)]
pub struct MatrixArgs {
    /// Scenarios [default: those of the matrix file]
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,

    /// The matrix [default: matrix.toml of the current folder or of the checkout]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Kernel versions instead of the file's, separated by commas; repeatable
    #[arg(long = "kernel", short, value_name = "VERSION", value_delimiter = ',')]
    pub kernels: Vec<String>,

    /// Only these of the file's configurations (`plain` is the one without a name); repeatable
    #[arg(long = "config", value_name = "NAME", value_delimiter = ',')]
    pub configs: Vec<String>,

    /// Numbers of vCPUs instead of the file's, separated by commas
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=8))]
    pub vcpus: Vec<u8>,

    /// Series for every kernel [default: patches/auditnsid/VERSION]
    #[arg(long, short, env = "NSTRAIL_SERIES", value_name = "DIR", conflicts_with = "unpatched")]
    pub series: Option<PathBuf>,

    /// Kconfig symbol that switches on what the series adds, where no series.toml says so
    #[arg(long, value_name = "SYMBOL", conflicts_with = "unpatched", value_parser = symbol)]
    pub symbol: Option<String>,

    /// No series: the kernels as they come
    #[arg(long)]
    pub unpatched: bool,

    /// Do not run the kernels without the series beside those with it
    #[arg(long)]
    pub no_baseline: bool,

    /// Start nothing more after the first cell that is not passed, not even the kernel without the series
    #[arg(long)]
    pub fail_fast: bool,

    /// Try a cell that is not passed so many times again; every try is shown
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub retries: u32,

    /// What becomes of a cell that passes only when tried again
    #[arg(long, value_enum, value_name = "RESULT", default_value = "pass")]
    pub flaky_result: FlakyArg,

    /// Only a part of the cells: slice:1/4 is the first of four; `nstrail merge` makes the parts one
    #[arg(long, value_name = "slice:PART/OF")]
    pub partition: Option<String>,

    /// Only the cells that were not passed in an earlier run
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "out/latest")]
    pub rerun_failed: Option<PathBuf>,

    /// Go on with a run that was interrupted
    #[arg(long, value_name = "DIR", conflicts_with = "rerun_failed")]
    pub resume: Option<PathBuf>,

    /// Jobs for make [default: number of CPUs]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<usize>,

    /// Variable for make, as KEY=VALUE; repeatable
    #[arg(long = "make", value_name = "KEY=VALUE", value_parser = make_variable)]
    pub make: Vec<(String, String)>,

    #[command(flatten)]
    pub sandbox: SandboxArgs,

    /// Accelerator; auto boots a probe to find out whether KVM works
    #[arg(long, value_enum, env = "NSTRAIL_ACCEL", value_name = "ACCEL")]
    pub accel: Option<AccelArg>,

    #[command(flatten)]
    pub splats: SplatArgs,

    #[command(flatten)]
    pub output: OutputArgs,

    /// Compare with the reviewed snapshots: auto writes pending files, deny only fails, off does not compare
    #[arg(long, value_enum, env = "NSTRAIL_SNAPSHOTS", value_name = "MODE")]
    pub snapshots: Option<SnapshotsArg>,

    /// List the cells, do nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FlakyArg {
    Pass,
    Fail,
}

#[derive(Debug, Clone, Args)]
pub struct MergeArgs {
    /// Folders of runs
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,

    /// Folder for results
    #[arg(long, short, env = "NSTRAIL_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SnapshotsArg {
    Auto,
    Deny,
    Off,
}

#[derive(Debug, Clone, Args)]
pub struct BootArgs {
    #[command(flatten)]
    pub kernel: KernelArgs,
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Print what the console showed
    #[arg(long)]
    pub console: bool,
}

#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Folder of one scenario of a run: has audit.log and ledger.frames
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print the canonical form instead of the findings
    #[arg(long)]
    pub canonical: bool,
    /// Print the ledger instead, one JSON object a line
    #[arg(long, conflicts_with = "canonical")]
    pub ledger: bool,
    /// Print which containers each logged packet could belong to instead, as a reader of audit.log alone can tell
    #[arg(long, conflicts_with_all = ["canonical", "ledger"])]
    pub packets: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ReviewArgs {
    #[command(subcommand)]
    pub action: Option<ReviewAction>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ReviewAction {
    /// Names of pending snapshots (what `review` alone does)
    List,
    /// Show how pending snapshots differ from the reviewed ones
    Diff,
    /// Make pending snapshots the reviewed ones
    Accept {
        /// Which; all if none is named
        names: Vec<String>,
    },
    /// Remove pending snapshots
    Reject {
        /// Which; all if none is named
        names: Vec<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub struct KernelsArgs {
    #[command(subcommand)]
    pub action: KernelsAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum KernelsAction {
    /// Versions known, and what is in the cache
    List {
        /// The releases that the archive has now instead, one to a line, newest first
        #[arg(long)]
        archive: bool,
    },
    /// Download and unpack Debian's source of a version
    Fetch {
        /// `6.12`, or an exact Debian version
        version: String,
    },
}

const SERIES_HELP: &str = "\
A series, here and for --series, is one of:
  DIR                a directory of [vN-]NNNN-*.patch; series.toml or a quilt `series` in it gives the order
  DIR/series         a quilt series file (-p1 and -p0)
  FILE               a mailbox (mboxrd, mboxo), or a single .patch file
  -                  a mailbox from standard input
  [GITDIR@]BASE..TIP commits, of the current folder's repository or of --source GITDIR@REVISION
  TIP                with --source GITDIR@REVISION: everything between the two
  6.12               here: patches/auditnsid/6.12

Examples:
  nstrail series show 6.12
  b4 am -o - MESSAGE-ID | nstrail series show -
  b4 am -o - MESSAGE-ID | nstrail apply --kernel 6.12 --series -
  nstrail apply --source ~/linux@v6.12 --series v6.12..topic -P 1,3-5
  nstrail series diff 6.1 7.3
  nstrail series diff v1.mbox v2.mbox --kernel 6.12";

#[derive(Debug, Clone, Args)]
pub struct SeriesArgs {
    #[command(subcommand)]
    pub action: SeriesAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum SeriesAction {
    /// Number, title, author, files and size of each patch; version and base of the series
    #[command(after_help = SERIES_HELP)]
    Show {
        /// Which
        series: PathBuf,
        #[command(flatten)]
        picks: PickArgs,
    },
    /// Compare two series patch by patch, as git range-diff does
    #[command(after_help = SERIES_HELP)]
    Diff {
        /// The older one
        a: PathBuf,
        /// The newer one
        b: PathBuf,
        /// Kernel version that the series apply to, for both or (given twice) for each [default: what the
        /// series are for]
        #[arg(long, short, value_name = "VERSION")]
        kernel: Vec<String>,
        /// Kernel source that the series apply to, for both or (given twice) for each
        #[arg(long, value_name = "PATH", conflicts_with = "kernel")]
        source: Vec<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub struct ScenariosArgs {
    #[command(subcommand)]
    pub action: ScenariosAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ScenariosAction {
    /// Embedded scenarios
    List,
    /// The TOML of one
    Show { name: String },
    /// Read scenario files and report what is wrong with them
    Check {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Folder of a run
    #[arg(value_name = "DIR", default_value = "out/latest")]
    pub dir: PathBuf,
    /// Which form
    #[arg(long, value_enum, default_value = "text")]
    pub format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Text,
    Ktap,
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Forget what is remembered about accelerators and probe again
    #[arg(long)]
    pub probe: bool,
}

fn picks(text: &str) -> Result<(String, Picks), String> {
    Picks::parse(text).map(|picks| (text.to_owned(), picks)).map_err(|error| error.to_string())
}

fn symbol(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("CONFIG_").unwrap_or(text);
    match !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        true => Ok(name.to_owned()),
        false => Err(format!("`{text}` is no Kconfig symbol (hint: for example AUDIT_NSID)")),
    }
}

/// `KEY=VALUE` for make.
pub fn make_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key @ ("O" | "M" | "KBUILD_OUTPUT" | "KBUILD_EXTMOD"), _)) => {
            Err(format!("{key}= is not taken: build folders are nstrail's own (hint: they lie in the cache)"))
        }
        Some((key, value))
            if !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
        {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("`{text}` is not KEY=VALUE (hint: for example LLVM=1)")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn variables_for_make_are_told_from_what_is_not() {
        assert_eq!(make_variable("LLVM=-14"), Ok(("LLVM".to_owned(), "-14".to_owned())));
        assert_eq!(make_variable("KCFLAGS=-O2 -g=1"), Ok(("KCFLAGS".to_owned(), "-O2 -g=1".to_owned())));
        for wrong in ["LLVM", "=1", "a b=1", "./x=1.toml", "O=/tmp/x", "M=drivers"] {
            assert!(make_variable(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
