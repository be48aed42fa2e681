// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one wrapper for child processes: process group, deadline, log file. Built on duct.
//!
//! Every program that nstrail starts goes through [`ChildSpec`]. A child leads a process group of
//! its own, so that what it started ends with it: when it exits, at its deadline, when its
//! [`Child`] is dropped (an error or a panic of ours), at SIGINT or SIGTERM ([`interrupt`]). It
//! also asks the kernel for SIGKILL when we die ourselves (`spawner`). No zombie is reaped before
//! its group is dead, so that a signal can never hit a group id that somebody else was given.

mod child;
pub mod interrupt;
pub mod sandbox;
mod spawner;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

pub use child::{Child, ExitFd};
pub use sandbox::{NoSandbox, Sandbox, SandboxMode, View};

use crate::report::escape::one_line;

/// How many of the last lines an error carries.
pub const TAIL_LINES: usize = 20;

/// Time that a group has between SIGTERM and SIGKILL, unless its spec says otherwise. make needs
/// it to remove the targets that it has half written.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(2);

/// Why a child did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started at all.
    #[error("cannot start `{argv}`: {source}{}", start_hint(source, argv))]
    Start {
        /// The command line.
        argv: Argv,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ran, and exited with something else than 0.
    #[error("`{argv}` failed: {status}{}", Evidence(tail, log))]
    Failed {
        /// The command line.
        argv: Argv,
        /// Exit code or signal.
        status: ExitStatus,
        /// The last lines of its output ([`TAIL_LINES`] at most).
        tail: Vec<String>,
        /// Where the whole output lies.
        log: Option<PathBuf>,
    },
    /// It ran longer than its limit and was killed.
    #[error("`{argv}` was killed after its limit of {:.1} s{}", limit.as_secs_f64(), Evidence(tail, log))]
    TimedOut {
        /// The command line.
        argv: Argv,
        /// The limit of its spec.
        limit: Duration,
        /// The last lines of its output.
        tail: Vec<String>,
        /// Where the whole output lies.
        log: Option<PathBuf>,
    },
    /// SIGINT, SIGTERM or SIGHUP arrived: the group was killed, or not started.
    #[error("`{argv}` was interrupted")]
    Interrupted {
        /// The command line.
        argv: Argv,
    },
    /// A log, output or input file of the child could not be opened.
    #[error("cannot open {path} for `{argv}`: {source}", path = path.display())]
    File {
        /// The command line.
        argv: Argv,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The child could not be waited for.
    #[error("cannot wait for `{argv}`: {source}")]
    Wait {
        /// The command line.
        argv: Argv,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ProcessError {
    /// The exit status, if the child got as far as that.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        match self {
            ProcessError::Failed { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it came to its own end, with an exit code.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.status().is_some_and(|status| status.code().is_some())
    }

    /// The last lines of the child's output.
    #[must_use]
    pub fn tail(&self) -> &[String] {
        match self {
            ProcessError::Failed { tail, .. } | ProcessError::TimedOut { tail, .. } => tail,
            _ => &[],
        }
    }
}

fn start_hint(source: &io::Error, argv: &Argv) -> String {
    match (source.kind(), argv.0.first()) {
        (io::ErrorKind::NotFound, Some(program)) => {
            format!(" (hint: is {} installed, and the working directory there?)", program.display())
        }
        _ => String::new(),
    }
}

struct Evidence<'a>(&'a [String], &'a Option<PathBuf>);

impl std::fmt::Display for Evidence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in self.0 {
            write!(f, "\n    {}", one_line(line))?;
        }
        match self.1 {
            Some(log) => write!(f, "\n(hint: the whole output is in {})", log.display()),
            None => Ok(()),
        }
    }
}

/// A command line, shown so that it can be pasted into a shell.
#[derive(Clone, PartialEq, Eq)]
pub struct Argv(pub Vec<OsString>);

impl std::fmt::Display for Argv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, arg) in self.0.iter().enumerate() {
            let arg = arg.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
            let space = if i == 0 { "" } else { " " };
            if !arg.is_empty() && arg.chars().all(plain) {
                write!(f, "{space}{arg}")?;
            } else {
                write!(f, "{space}'{}'", arg.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Argv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Where a stream of the child goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// To us, line by line: to the log file, the tail and the line callback.
    Lines,
    /// To us, whole, in memory ([`Finished::stdout`]). Only for stdout.
    Capture,
    /// Straight to a file that is made or cut first. It needs no thread, and survives our death.
    File(PathBuf),
    /// To /dev/null.
    Null,
}

pub(crate) type SpawnHook = Arc<dyn Fn(&mut std::process::Command) -> io::Result<()> + Send + Sync>;

/// A child process before it is started: everything about it, as data.
#[derive(Clone)]
pub struct ChildSpec {
    argv: Argv,
    dir: Option<PathBuf>,
    env: Vec<(OsString, Option<OsString>)>,
    stdin: Option<PathBuf>,
    stdout: Sink,
    stderr: Sink,
    log: Option<PathBuf>,
    limit: Option<Duration>,
    grace: Duration,
    hooks: Vec<SpawnHook>,
    /// Stands before `argv`, if the child is confined.
    wrapper: Vec<OsString>,
}

impl std::fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChildSpec")
            .field("argv", &self.argv)
            .field("dir", &self.dir)
            .field("env", &self.env)
            .field("log", &self.log)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl ChildSpec {
    /// A program (found in `PATH`, or a path) with our environment, no stdin, and its output taken
    /// line by line.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        ChildSpec {
            argv: Argv(vec![program.as_ref().to_owned()]),
            dir: None,
            env: Vec::new(),
            stdin: None,
            stdout: Sink::Lines,
            stderr: Sink::Lines,
            log: None,
            limit: None,
            grace: DEFAULT_GRACE,
            hooks: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.0.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv.0.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs it in `dir`.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Takes a variable out of its environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Gives it a file as stdin.
    #[must_use]
    pub fn stdin(mut self, path: impl Into<PathBuf>) -> Self {
        self.stdin = Some(path.into());
        self
    }

    /// Where its stdout goes.
    #[must_use]
    pub fn stdout(mut self, sink: Sink) -> Self {
        self.stdout = sink;
        self
    }

    /// Where its stderr goes.
    #[must_use]
    pub fn stderr(mut self, sink: Sink) -> Self {
        self.stderr = sink;
        self
    }

    /// The file that its [`Sink::Lines`] streams are appended to.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// How long it may run before its group is killed.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Time between SIGTERM and SIGKILL; zero kills at once.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// A change to the `std::process::Command` just before the fork, for what has no setting here
    /// (an inherited descriptor, a `pre_exec`). It runs in a thread of its own.
    #[must_use]
    pub fn before_spawn<F>(mut self, hook: F) -> Self
    where
        F: Fn(&mut std::process::Command) -> io::Result<()> + Send + Sync + 'static,
    {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// The command line.
    #[must_use]
    pub fn argv(&self) -> &Argv {
        &self.argv
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`ProcessError::Start`], [`ProcessError::File`], [`ProcessError::Interrupted`].
    pub fn spawn(&self) -> Result<Child, ProcessError> {
        Child::spawn(self)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Every variant: also an exit status other than 0 is one.
    pub fn run(&self) -> Result<Finished, ProcessError> {
        self.run_lines(|_| ())
    }

    /// Runs it to its end, and shows each line of its [`Sink::Lines`] streams to `on_line`, in
    /// the thread of the caller.
    ///
    /// # Errors
    /// As [`ChildSpec::run`].
    pub fn run_lines(&self, on_line: impl FnMut(&str)) -> Result<Finished, ProcessError> {
        let finished = self.run_unchecked(on_line)?;
        if finished.status.success() {
            return Ok(finished);
        }
        Err(ProcessError::Failed {
            argv: self.argv.clone(),
            status: finished.status,
            tail: finished.tail,
            log: self.evidence(),
        })
    }

    /// As [`ChildSpec::run_lines`], for a program whose exit status is an answer.
    ///
    /// # Errors
    /// Every variant but [`ProcessError::Failed`].
    pub fn run_unchecked(&self, on_line: impl FnMut(&str)) -> Result<Finished, ProcessError> {
        self.spawn()?.finish(on_line)
    }

    /// Runs it and gives its stdout; stderr is kept for the error.
    ///
    /// # Errors
    /// As [`ChildSpec::run`].
    pub fn read(self) -> Result<String, ProcessError> {
        let finished = self.stdout(Sink::Capture).run()?;
        Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
    }

    /// The file that a reader of an error should open.
    fn evidence(&self) -> Option<PathBuf> {
        let file = |sink: &Sink| match sink {
            Sink::File(path) => Some(path.clone()),
            _ => None,
        };
        self.log.clone().or_else(|| file(&self.stderr)).or_else(|| file(&self.stdout))
    }
}

/// A child that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Its stdout, if the sink was [`Sink::Capture`].
    pub stdout: Vec<u8>,
    /// The last lines of its [`Sink::Lines`] streams, or else of its stderr or stdout file.
    pub tail: Vec<String>,
    /// From the start to the end.
    pub elapsed: Duration,
}

/// The last lines of a file, without reading more than 16 KiB of it.
pub(crate) fn tail_of_file(path: &Path) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        let start = file.metadata()?.len().saturating_sub(16 << 10);
        file.seek(SeekFrom::Start(start))?;
        file.read_to_end(&mut text)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
