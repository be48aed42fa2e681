// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running child: waited for by pidfd, its lines read by a thread, its group killed in the end.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::interrupt::{self, groups, kill_group};
use super::{ChildSpec, Finished, ProcessError, Sink, TAIL_LINES, spawner, tail_of_file};

/// How long we still read the pipes of a child that has exited. Its group is dead by then: only a
/// process that left the group (a daemon) can hold them open.
const DRAIN: Duration = Duration::from_secs(2);

/// How long the processes of a sandbox may take to die, all of them with SIGKILL.
const SANDBOX_END: Duration = Duration::from_secs(5);

/// How long we wait for an orphan of a sandbox to be reaped.
const ORPHAN_END: Duration = Duration::from_millis(500);

/// Between two looks at the child while lines are awaited.
const POLL: Duration = Duration::from_millis(50);

/// A process group of ours. Dropping it kills the group and reaps its leader.
pub struct Child {
    spec: ChildSpec,
    handle: duct::Handle,
    pid: i32,
    pidfd: OwnedFd,
    /// Of a confined child: hung up once nothing lives in the sandbox any more.
    life: Option<PipeReader>,
    started: Instant,
    status: Option<ExitStatus>,
    lines: Receiver<String>,
    capture: Receiver<Vec<u8>>,
    tail: VecDeque<String>,
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child")
            .field("argv", self.spec.argv())
            .field("pid", &self.pid)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Child {
    pub(super) fn spawn(spec: &ChildSpec) -> Result<Child, ProcessError> {
        if interrupt::requested().is_some() {
            return Err(ProcessError::Interrupted { argv: spec.argv.clone() });
        }
        let start_error = |source| ProcessError::Start { argv: spec.argv.clone(), source };
        let (mut expression, line_pipe, capture_pipe) = expression(spec)?;
        let mut life = None;
        if spec.is_confined() {
            let (reader, writer) = io::pipe().map_err(start_error)?;
            expression = expression.before_spawn(move |command| inherit(command, writer.as_raw_fd()));
            life = Some(reader);
        }
        let handle = spawner::start(expression, spec.is_confined()).map_err(start_error)?;
        let pid = handle.pids().first().copied().unwrap_or_default() as i32;
        // Registered before anything else can fail: from here on an interrupt finds the group. If
        // one came in between, it did not: the wait looks at the flag again.
        groups().insert(pid, spec.grace);
        let pidfd = match pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            Err(source) => {
                kill_group(pid, libc::SIGKILL);
                groups().remove(&pid);
                let _ = handle.wait();
                return Err(start_error(source));
            }
        };
        let (line_sender, lines) = channel();
        let (capture_sender, capture) = channel();
        let child = Child {
            spec: spec.clone(),
            handle,
            pid,
            pidfd,
            life,
            started: Instant::now(),
            status: None,
            lines,
            capture,
            tail: VecDeque::new(),
        };
        // From here on the drop of `child` cleans up.
        if let Some(pipe) = line_pipe {
            let log = spec.log.as_deref().map(|path| open_log(spec, path)).transpose()?;
            reader("lines", move || read_lines(pipe, log, &line_sender)).map_err(start_error)?;
        }
        if let Some(mut pipe) = capture_pipe {
            reader("capture", move || {
                let mut bytes = Vec::new();
                // An error of a pipe read is the end of what can be had from it.
                let _ = pipe.read_to_end(&mut bytes);
                let _ = capture_sender.send(bytes);
            })
            .map_err(start_error)?;
        }
        Ok(child)
    }

    /// The process id, which is the id of its group too.
    pub fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// What another thread can wait for the exit with.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn exit(&self) -> io::Result<ExitFd> {
        self.pidfd.try_clone().map(ExitFd)
    }

    /// CPU time that it has used so far, as far as the kernel can still tell. Of one that is confined, that of what confines it.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = after_name(self.pid)?;
        // utime and stime, the fourteenth and fifteenth field of /proc/PID/stat (proc_pid_stat(5)); after the name comes the third.
        let ticks = stat.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>().ok()?;
        // SAFETY: plain call without pointers.
        let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
        Some(Duration::from_millis(1000 * ticks / per_second.max(1)))
    }

    /// Whether a signal has stopped it: it lives, and does nothing (`T` in /proc/PID/stat, proc(5)). If it is confined,
    /// it is a child of what confines it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let mut processes = vec![self.pid];
        while let Some(pid) = processes.pop() {
            let read =
                |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            if after_name(pid).is_some_and(|stat| stat.starts_with(['T', 't'])) {
                return true;
            }
            if self.spec.is_confined() {
                let children = read(&format!("task/{pid}/children"));
                processes.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
            }
        }
        false
    }

    /// How long ago it was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether it has exited. What is left of its group is killed then.
    ///
    /// # Errors
    /// [`ProcessError::Wait`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.wait_for(Duration::ZERO)
    }

    /// Waits for the exit until `deadline`; `None` if it still runs then. The spec's own limit is
    /// kept by [`Child::finish`], not here.
    ///
    /// # Errors
    /// [`ProcessError::Wait`].
    pub fn wait_until(&mut self, deadline: Instant) -> Result<Option<ExitStatus>, ProcessError> {
        self.wait_for(deadline.saturating_duration_since(Instant::now()))
    }

    fn wait_for(&mut self, time: Duration) -> Result<Option<ExitStatus>, ProcessError> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        let wait_error = |source| ProcessError::Wait { argv: self.spec.argv.clone(), source };
        if !poll_exit(&self.pidfd, time).map_err(wait_error)? {
            return Ok(None);
        }
        // The leader is a zombie: it pins the group id, so the rest of the group can be killed
        // safely; and nobody may signal the id once it is reaped.
        let mut groups = groups();
        kill_group(self.pid, libc::SIGKILL);
        groups.remove(&self.pid);
        let mut status = self.handle.wait().map_err(wait_error)?.status;
        drop(groups);
        if let Some(life) = &self.life {
            // The pid namespace dies with the process that we have reaped, but a moment later.
            poll(life.as_raw_fd(), 0, SANDBOX_END).map_err(wait_error)?;
            // Nor has bubblewrap's own first process that descriptor. A host whose init reaps nobody keeps its zombie.
            let start = Instant::now();
            while status.signal().is_some() && is_group(self.pid) && start.elapsed() < ORPHAN_END {
                thread::sleep(Duration::from_millis(1));
            }
            // As a shell does, it tells of the signal that has ended its child by a code.
            if let Some(signal @ 1..=64) = status.code().map(|code| code - 128) {
                status = ExitStatus::from_raw(signal);
            }
        }
        self.status = Some(status);
        Ok(self.status)
    }

    /// Sends a signal to the whole group; nothing if it has exited.
    pub fn signal(&self, signal: i32) {
        if self.status.is_none() {
            kill_group(self.pid, signal);
        }
    }

    /// Ends the group: SIGTERM, the spec's grace, SIGKILL.
    ///
    /// # Errors
    /// [`ProcessError::Wait`].
    pub fn terminate(&mut self) -> Result<ExitStatus, ProcessError> {
        if !self.spec.grace.is_zero() {
            self.signal(libc::SIGTERM);
            if let Some(status) = self.wait_for(self.spec.grace)? {
                return Ok(status);
            }
        }
        self.kill()
    }

    /// Ends the group with SIGKILL.
    ///
    /// # Errors
    /// [`ProcessError::Wait`].
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(libc::SIGKILL);
        loop {
            if let Some(status) = self.wait_for(Duration::from_secs(3600))? {
                return Ok(status);
            }
        }
    }

    /// The last lines of its output so far.
    pub fn tail(&mut self) -> Vec<String> {
        while let Ok(line) = self.lines.try_recv() {
            self.remember(line);
        }
        if !self.tail.is_empty() {
            return self.tail.iter().cloned().collect();
        }
        let files = [&self.spec.stderr, &self.spec.stdout];
        let tails = files.into_iter().filter_map(|sink| match sink {
            Sink::File(path) => Some(tail_of_file(path)),
            _ => None,
        });
        tails.into_iter().find(|tail| !tail.is_empty()).unwrap_or_default()
    }

    /// Runs it to its end under the spec's limit, showing each line to `on_line`.
    ///
    /// # Errors
    /// Every variant but `Start`, `File` and `Failed`.
    pub fn finish(mut self, mut on_line: impl FnMut(&str)) -> Result<Finished, ProcessError> {
        let deadline = self.spec.limit.map(|limit| self.started + limit);
        let mut lines_open = true;
        let status = loop {
            if interrupt::requested().is_some() {
                self.terminate()?;
                return Err(ProcessError::Interrupted { argv: self.spec.argv.clone() });
            }
            let left = deadline.map_or(POLL, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                self.terminate()?;
                return Err(ProcessError::TimedOut {
                    argv: self.spec.argv.clone(),
                    limit: self.spec.limit.unwrap_or_default(),
                    tail: self.tail(),
                    log: self.spec.evidence(),
                });
            }
            let slice = left.min(POLL);
            if lines_open {
                match self.lines.recv_timeout(slice) {
                    Ok(line) => {
                        on_line(&line);
                        self.remember(line);
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => lines_open = false,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
            let slice = if lines_open { Duration::ZERO } else { slice };
            if let Some(status) = self.wait_for(slice)? {
                break status;
            }
        };
        let elapsed = self.started.elapsed();
        let drained = Instant::now() + DRAIN;
        while let Ok(line) = self.lines.recv_timeout(drained.saturating_duration_since(Instant::now())) {
            on_line(&line);
            self.remember(line);
        }
        let stdout = match self.spec.stdout {
            Sink::Capture => self
                .capture
                .recv_timeout(drained.saturating_duration_since(Instant::now()))
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        if interrupt::requested().is_some() {
            return Err(ProcessError::Interrupted { argv: self.spec.argv.clone() });
        }
        Ok(Finished { status, stdout, tail: self.tail(), elapsed })
    }

    fn remember(&mut self, line: String) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Nobody is left to be told; the group is dead or was not ours to wait for.
            let _ = self.terminate();
        }
    }
}

type Started = (duct::Expression, Option<PipeReader>, Option<PipeReader>);

fn expression(spec: &ChildSpec) -> Result<Started, ProcessError> {
    let start_error = |source| ProcessError::Start { argv: spec.argv.clone(), source };
    let file_error =
        |path: &Path, source| ProcessError::File { argv: spec.argv.clone(), path: path.to_owned(), source };
    let words: Vec<&OsString> = spec.wrapper.iter().chain(&spec.argv.0).collect();
    let mut expression = duct::cmd(words[0], &words[1..]).unchecked();
    expression = match &spec.stdin {
        None => expression.stdin_null(),
        Some(path) => expression.stdin_file(File::open(path).map_err(|source| file_error(path, source))?),
    };
    let mut line_pipe = None;
    if spec.stdout == Sink::Lines || spec.stderr == Sink::Lines {
        let (reader, writer) = io::pipe().map_err(start_error)?;
        line_pipe = Some(reader);
        if spec.stdout == Sink::Lines {
            expression = expression.stdout_file(writer.try_clone().map_err(start_error)?);
        }
        if spec.stderr == Sink::Lines {
            expression = expression.stderr_file(writer);
        }
    }
    let mut capture_pipe = None;
    if spec.stdout == Sink::Capture {
        let (reader, writer) = io::pipe().map_err(start_error)?;
        capture_pipe = Some(reader);
        expression = expression.stdout_file(writer);
    }
    if let Sink::File(path) = &spec.stdout {
        expression = expression.stdout_file(File::create(path).map_err(|source| file_error(path, source))?);
    }
    if let Sink::File(path) = &spec.stderr {
        expression = expression.stderr_file(File::create(path).map_err(|source| file_error(path, source))?);
    }
    if spec.stdout == Sink::Null {
        expression = expression.stdout_null();
    }
    if matches!(spec.stderr, Sink::Null | Sink::Capture) {
        expression = expression.stderr_null();
    }
    if let Some(dir) = &spec.dir {
        expression = expression.dir(dir);
    }
    if spec.is_confined() {
        expression = expression.full_env(spec.confined_environment());
    } else {
        for (name, value) in &spec.env {
            expression = match value {
                Some(value) => expression.env(name, value),
                None => expression.env_remove(name),
            };
        }
    }
    for hook in &spec.hooks {
        let hook = hook.clone();
        expression = expression.before_spawn(move |command| hook(command));
    }
    Ok((expression, line_pipe, capture_pipe))
}

fn open_log(spec: &ChildSpec, path: &Path) -> Result<File, ProcessError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|source| ProcessError::File {
        argv: spec.argv.clone(),
        path: path.to_owned(),
        source,
    })
}

fn reader(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(body).map(|_| ())
}

fn read_lines(pipe: PipeReader, mut log: Option<File>, lines: &Sender<String>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match pipe.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // A full disk must not stop the child: then the log ends early, and the lines still come.
        if log.as_mut().is_some_and(|log| log.write_all(&line).is_err()) {
            log = None;
        }
        let text = String::from_utf8_lossy(&line);
        if lines.send(text.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
            // Nobody listens any more, but the child must not block on a full pipe.
            let _ = io::copy(&mut pipe, &mut io::sink());
            return;
        }
    }
}

/// What /proc/PID/stat says behind the name, which may hold anything, brackets too.
fn after_name(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

/// Lets a child have a descriptor of ours.
fn inherit(command: &mut Command, fd: RawFd) -> io::Result<()> {
    let keep = move || {
        // SAFETY: fcntl is async-signal-safe, and touches only a descriptor of the child.
        match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec it makes one system call: no allocation, no lock.
    unsafe { command.pre_exec(keep) };
    Ok(())
}

/// The exit of a child, to be waited for without the child at hand.
#[derive(Debug)]
pub struct ExitFd(OwnedFd);

impl ExitFd {
    /// Returns when the child has exited. It is not reaped by that.
    pub fn wait(&self) {
        while !poll_exit(&self.0, Duration::from_secs(3600)).unwrap_or(true) {}
    }
}

/// Whether anybody is left in a group.
fn is_group(group: i32) -> bool {
    // SAFETY: kill takes two integers and touches no memory; signal 0 does nothing.
    unsafe { libc::kill(-group, 0) == 0 }
}

fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers; it answers with a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, open, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether the process of `pidfd` exits within `time`. It is not reaped by that.
fn poll_exit(pidfd: &OwnedFd, time: Duration) -> io::Result<bool> {
    poll(pidfd.as_raw_fd(), libc::POLLIN, time)
}

/// Whether there is one of `events`, or a hang-up, within `time`.
fn poll(fd: RawFd, events: libc::c_short, time: Duration) -> io::Result<bool> {
    let end = Instant::now() + time;
    loop {
        // Rounded up: a wait of less than 1 ms must not spin.
        let left = end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        let millis = i32::try_from(left).unwrap_or(i32::MAX);
        let mut poll = libc::pollfd { fd, events, revents: 0 };
        // SAFETY: one pollfd is passed, and it lives through the call.
        match unsafe { libc::poll(&raw mut poll, 1, millis) } {
            0 => return Ok(false),
            1.. => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
