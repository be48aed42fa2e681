// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running machine: QEMU, its channels, its limits, and its end.

use std::{
    fs, io,
    io::Write as _,
    mem,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{
            net::UnixStream,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::PathBuf,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nstrail_wire::{
    frame::FrameEncoder,
    message::{self, HostMessage},
};

use super::{
    BootFailure, Channel, ConsoleFinding, VmEvent, VmSpec, accelerator, qemu, qmp, virtiofs,
    wire::{self, Heard},
};
use crate::process::{Child, ChildSpec, Sink};

/// Frames that may wait for the checker; beyond them the guest is throttled.
const QUEUE: usize = 64;
/// Between the orderly quit and SIGKILL.
const QUIT_GRACE: Duration = Duration::from_millis(500);
/// How long QEMU may take to be gone after its channels have closed.
const EXIT_GRACE: Duration = Duration::from_secs(2);
/// How long the guest may take to read a message. A message fits into the socket's buffer unless
/// QEMU has stopped reading.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// See the module. Dropping it kills QEMU and the daemon and waits for both.
#[derive(Debug)]
pub struct RunningVm {
    qemu: Child,
    daemon: Option<virtiofs::Daemon>,
    qmp: UnixStream,
    control: UnixStream,
    encoder: FrameEncoder,
    heard: Receiver<Heard>,
    threads: Vec<JoinHandle<()>>,
    open_channels: usize,
    started: Instant,
    last_sign: Instant,
    /// How long it may be silent now.
    silence: Duration,
    spec: VmSpec,
}

/// Starts QEMU.
///
/// # Errors
/// If a file or a channel cannot be made, or a program cannot be started. That QEMU runs says
/// nothing about the guest yet.
pub fn launch(spec: &VmSpec) -> Result<RunningVm, BootFailure> {
    let tsc_khz = accelerator::tsc_khz();
    let path = spec.run_dir.join("qemu.cmd");
    fs::write(&path, qemu::by_hand(spec, tsc_khz)).map_err(|source| BootFailure::Write { path, source })?;

    let daemon =
        spec.share.as_deref().map(|share| virtiofs::Daemon::start(share, &spec.run_dir)).transpose()?;
    let pair = || UnixStream::pair().map_err(BootFailure::Channel);
    let ((console, console_end), (qmp, qmp_end)) = (pair()?, pair()?);
    let ((control, control_end), (audit, audit_end)) = (pair()?, pair()?);
    control.set_write_timeout(Some(SEND_LIMIT)).map_err(BootFailure::Channel)?;
    let ends = [console_end, qmp_end, control_end, audit_end].map(OwnedFd::from);
    let share = daemon.as_ref().map(virtiofs::Daemon::client);
    let fds = [&ends[0], &ends[1], &ends[2], &ends[3]].map(AsRawFd::as_raw_fd);
    let arguments = qemu::arguments(
        spec,
        tsc_khz,
        &qemu::Ends {
            console: qemu::inherited(fds[0]),
            qmp: qemu::inherited(fds[1]),
            control: qemu::inherited(fds[2]),
            audit: qemu::inherited(fds[3]),
            share: share.map(qemu::inherited),
        },
    );
    let cpus = spec.perturbation.pinned.then(one_cpu).transpose().map_err(BootFailure::Pin)?;
    let started = Instant::now();
    let log = spec.run_dir.join("qemu.log");
    let qemu = ChildSpec::new(&spec.qemu)
        .args(&arguments)
        .stdout(Sink::Null)
        .stderr(Sink::File(log))
        .grace(Duration::ZERO)
        .before_spawn(move |command| {
            // SAFETY: fcntl is async-signal-safe, and touches only descriptors of the child.
            unsafe { command.pre_exec(move || fds.iter().chain(&share).try_for_each(|&fd| inherit(fd))) };
            if let Some(cpus) = cpus {
                // SAFETY: a plain system call on memory of the closure's own.
                unsafe { command.pre_exec(move || set_affinity(&cpus)) };
            }
            Ok(())
        })
        .spawn()?;
    drop(ends);

    let (sender, heard) = sync_channel(QUEUE);
    let mut threads = start_threads(spec, console, &control, audit, &sender).map_err(BootFailure::Channel)?;
    let open_channels = threads.len();
    if let Some(daemon) = &daemon {
        let watch = daemon.exit().and_then(|exit| wire::await_daemon(exit, sender));
        threads.push(watch.map_err(BootFailure::Channel)?);
    }
    Ok(RunningVm {
        qemu,
        daemon,
        qmp,
        control,
        encoder: FrameEncoder::new(),
        heard,
        open_channels,
        threads,
        started,
        last_sign: started,
        silence: spec.limits.first_sign,
        spec: spec.clone(),
    })
}

fn start_threads(
    spec: &VmSpec,
    console: UnixStream,
    control: &UnixStream,
    audit: UnixStream,
    sender: &SyncSender<Heard>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let log: PathBuf = spec.run_dir.join("console.log");
    Ok(vec![
        wire::read_console(console, log, sender.clone())?,
        wire::read_port(Channel::Control, control.try_clone()?, sender.clone())?,
        wire::read_port(Channel::Audit, audit, sender.clone())?,
    ])
}

fn inherit(fd: RawFd) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor number.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// One of the CPUs that this process may use, another one each time.
fn one_cpu() -> io::Result<libc::cpu_set_t> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: all zeroes is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { mem::zeroed() };
    let size = mem::size_of::<libc::cpu_set_t>();
    // SAFETY: the kernel writes at most `size` bytes into the set.
    if unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both only look at bits of a set, by numbers that it has.
    let cpus: Vec<usize> = (0..size * 8).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &allowed) }).collect();
    let Some(cpu) = cpus.get(NEXT.fetch_add(1, Ordering::Relaxed) % cpus.len().max(1)) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    // SAFETY: as above.
    let mut one: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::CPU_SET(*cpu, &mut one) };
    Ok(one)
}

/// Keeps the calling process, and what it starts, to these CPUs.
fn set_affinity(cpus: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the kernel reads one set.
    match unsafe { libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), cpus) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl RunningVm {
    /// When QEMU was started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Sends a message to the agent.
    ///
    /// # Errors
    /// If QEMU does not take it.
    pub fn send(&mut self, message: &HostMessage) -> io::Result<()> {
        let payload = message::encode(message).map_err(io::Error::other)?;
        let mut frame = Vec::new();
        self.encoder.encode(&payload, &mut frame).map_err(io::Error::other)?;
        self.control.write_all(&frame)
    }

    /// Waits for the next event. After [`VmEvent::Exited`] nothing comes any more.
    pub fn next_event(&mut self) -> VmEvent {
        loop {
            if self.open_channels == 0 {
                return self.await_exit();
            }
            let wall = (self.started + self.spec.limits.wall).saturating_duration_since(Instant::now());
            let silence = (self.last_sign + self.silence).saturating_duration_since(Instant::now());
            // A guest that never falls silent has always something to be received.
            if wall.is_zero() {
                return VmEvent::WallLimit(self.spec.limits.wall);
            }
            match self.heard.recv_timeout(wall.min(silence)) {
                Ok(Heard::DaemonGone) => {
                    if let Some(reason) = self.lost_daemon() {
                        return VmEvent::Broken { reason };
                    }
                }
                Ok(heard) => {
                    self.last_sign = Instant::now();
                    self.silence = self.spec.limits.silence;
                    match heard {
                        Heard::Event(event) => return event,
                        Heard::Line | Heard::DaemonGone => {}
                        Heard::Closed => self.open_channels -= 1,
                    }
                }
                Err(RecvTimeoutError::Timeout) if wall <= silence => {
                    return VmEvent::WallLimit(self.spec.limits.wall);
                }
                Err(RecvTimeoutError::Timeout) => return VmEvent::SilenceLimit(self.silence),
                Err(RecvTimeoutError::Disconnected) => self.open_channels = 0,
            }
        }
    }

    /// The end of QEMU, which has closed its channels. It exits with 0 when the guest resets, whatever made it do so.
    fn await_exit(&mut self) -> VmEvent {
        match self.qemu.wait_until(Instant::now() + EXIT_GRACE) {
            Ok(Some(status)) => {
                let tail = self.qemu.tail();
                let words = if tail.is_empty() {
                    status.to_string()
                } else {
                    format!("{status}: {}", tail.join(" / "))
                };
                if status.success() {
                    return VmEvent::Exited { status: words };
                }
                let hint = match status.signal() {
                    Some(libc::SIGKILL) => "did the kernel kill it for want of memory? dmesg tells",
                    _ => "QEMU 7.2 or newer, and memory for the guest; `nstrail doctor` shows what is here",
                };
                VmEvent::Broken { reason: format!("QEMU failed: {words} (hint: {hint})") }
            }
            Ok(None) => VmEvent::Broken { reason: "QEMU has closed its channels but still runs".to_owned() },
            Err(error) => VmEvent::Broken { reason: error.to_string() },
        }
    }

    /// How the daemon of the share ended, if it did so while QEMU lives.
    fn lost_daemon(&mut self) -> Option<String> {
        let status = self.daemon.as_mut()?.exited()?;
        // A QEMU that ends hangs up on the daemon first, maybe.
        let ended = matches!(self.qemu.wait_until(Instant::now() + EXIT_GRACE / 4), Ok(Some(_)));
        (!ended).then(|| {
            format!("the virtiofs daemon of the share ended before the guest: {status} (hint: virtiofsd.log)")
        })
    }

    /// Which of the host's processes of this machine are stopped by a signal, in words: they are why nothing is heard.
    #[must_use]
    pub fn stopped(&self) -> Option<&'static str> {
        if self.qemu.is_stopped() {
            return Some("QEMU is stopped by a signal");
        }
        let daemon = self.daemon.as_ref().is_some_and(virtiofs::Daemon::is_stopped);
        daemon.then_some("the virtiofs daemon is stopped by a signal")
    }

    /// CPU time that QEMU has used so far: much less than its vCPUs had time for says that the host was busy with something else.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        self.qemu.cpu_time()
    }

    /// Ends the machine: an orderly quit, then SIGKILL of what is left. Gives the splats that nobody
    /// has taken yet: one printed just before the end must not stay unseen. Frames that still come
    /// are dropped.
    pub fn shutdown(mut self) -> Vec<ConsoleFinding> {
        let mut console = Vec::new();
        if qmp::quit(&self.qmp).is_ok() {
            self.drain(&mut console, QUIT_GRACE);
        }
        if self.open_channels > 0 {
            // An error can only say that it is gone already.
            let _ = self.qemu.kill();
            self.drain(&mut console, EXIT_GRACE);
        }
        console
    }

    /// Receives until every channel has ended, or until `limit`; keeps the console's findings.
    fn drain(&mut self, console: &mut Vec<ConsoleFinding>, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.open_channels > 0 {
            match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Heard::Event(VmEvent::Console(finding))) => console.push(finding),
                Ok(Heard::Event(_) | Heard::Line | Heard::DaemonGone) if Instant::now() < deadline => {}
                Ok(Heard::Closed) => self.open_channels -= 1,
                Err(RecvTimeoutError::Disconnected) => self.open_channels = 0,
                Ok(_) | Err(RecvTimeoutError::Timeout) => return,
            }
        }
    }

    /// The reading threads stop waiting for us, so that QEMU is never stuck in a write.
    fn unblock(&mut self) {
        let (_, nothing) = sync_channel(0);
        self.heard = nothing;
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        // Errors here can only say that it is gone already.
        let _ = self.qemu.kill();
        self.daemon.take();
        self.unblock();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
