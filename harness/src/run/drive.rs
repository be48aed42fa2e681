// SPDX-License-Identifier: MIT OR Apache-2.0
//! One scenario on one kernel image: boot, start, capture, check as it comes, end the machine.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use nstrail_wire::{
    batch,
    message::{GuestMessage, HostMessage, PROTOCOL},
    scenario::Scenario,
};
use thiserror::Error;

use super::capture::{Capture, CaptureError};
use crate::{
    check::{CheckOptions, CheckResult, Checker, JoinedSink},
    outcome::Outcome,
    process::interrupt,
    vm::{self, BootFailure, ConsoleFinding, RunningVm, VmEvent, VmSpec},
};

/// What a guest told, and how it ended.
#[derive(Debug)]
pub struct Driven<S> {
    pub ending: GuestEnding,
    pub check: CheckResult,
    /// Took what the checker joined.
    pub sink: S,
    pub console: Vec<ConsoleFinding>,
    pub kernel_release: Option<String>,
    /// From QEMU's start to the agent's first message.
    pub boot: Duration,
    /// From QEMU's start to its end.
    pub vm: Duration,
    /// What the checker still had to do when the guest was done.
    pub check_tail: Duration,
}

impl<S> Driven<S> {
    /// Why the agent was never heard, if it was not.
    #[must_use]
    pub fn mute(&self) -> Option<String> {
        if self.kernel_release.is_some() { None } else { self.ending.mute() }
    }
}

/// Why the guest's part is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEnding {
    /// Every step ran.
    Finished { workload_ns: u64, containers: u64, pid_rollovers: u64 },
    /// The agent gave up: trouble of ours.
    AgentFailed { step: Option<u32>, reason: String },
    /// The machine ended without a last message.
    Died { reason: String },
    /// QEMU or the daemon of the share failed: trouble of this host.
    Broken { reason: String },
    /// A limit was reached.
    TimedOut { reason: String },
    /// A channel's stream is faulty: nothing after it proves anything.
    StreamFault { reason: String },
    /// Somebody asked us to stop.
    Interrupted,
}

impl GuestEnding {
    /// The outcome that this ending allows at best.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Finished { .. } => Outcome::Passed,
            Self::AgentFailed { .. } | Self::Broken { .. } | Self::Interrupted => Outcome::Error,
            Self::Died { .. } => Outcome::Crashed,
            Self::TimedOut { .. } => Outcome::TimedOut,
            Self::StreamFault { .. } => Outcome::Inconclusive,
        }
    }

    /// In words, if it says that nothing was heard from a guest's agent, which never spoke: what can be its accelerator's
    /// fault.
    fn mute(&self) -> Option<String> {
        match self {
            // The hints are about limits, and the limit of a first sign of life is ours.
            Self::Died { reason } | Self::Broken { reason } | Self::TimedOut { reason } => {
                Some(reason.split(" (hint:").next().unwrap_or_default().to_owned())
            }
            Self::Finished { .. }
            | Self::AgentFailed { .. }
            | Self::StreamFault { .. }
            | Self::Interrupted => None,
        }
    }

    /// In words, unless it finished.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Finished { .. } => None,
            Self::AgentFailed { step: Some(step), reason } => {
                Some(format!("the guest agent failed in step {step}: {reason}"))
            }
            Self::AgentFailed { step: None, reason } => Some(format!("the guest agent failed: {reason}")),
            Self::Died { reason }
            | Self::Broken { reason }
            | Self::TimedOut { reason }
            | Self::StreamFault { reason } => Some(reason.clone()),
            Self::Interrupted => Some("interrupted".to_owned()),
        }
    }
}

/// Trouble that leaves no verdict about the guest.
#[derive(Debug, Error)]
pub enum DriveError {
    #[error(transparent)]
    Boot(#[from] BootFailure),
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

/// Runs one scenario to its end. `sink` takes what the checker joins, `progress` the number of records so far.
///
/// Everything gathered so far is on disk and in the result, however the guest ends.
///
/// # Errors
/// If the machine cannot be started or a file cannot be written; a guest that fails is no error.
pub fn drive<S: JoinedSink>(
    spec: &VmSpec,
    scenario: &Scenario,
    seed: u64,
    options: CheckOptions,
    sink: S,
    progress: &mut dyn FnMut(u64),
) -> Result<Driven<S>, DriveError> {
    let mut session = Session {
        capture: Capture::create(&spec.run_dir)?,
        checker: Checker::with_sink(options, sink),
        console: Vec::new(),
        kernel_release: None,
        boot: Duration::ZERO,
    };
    let mut machine = vm::launch(spec)?;
    let started = machine.started();
    let ending = session.follow(&mut machine, scenario, seed, progress)?;
    session.console.extend(machine.shutdown());
    let vm = started.elapsed();
    session.capture.finish()?;
    let tail = Instant::now();
    let (check, sink) = session.checker.finish_with_sink();
    Ok(Driven {
        ending,
        check,
        sink,
        console: session.console,
        kernel_release: session.kernel_release,
        boot: session.boot,
        vm,
        check_tail: tail.elapsed(),
    })
}

/// A guest that was booted and ended.
#[derive(Debug)]
pub struct Booted {
    /// The kernel's release, or why the agent never spoke.
    pub result: Result<String, GuestEnding>,
    pub console: Vec<ConsoleFinding>,
    /// From QEMU's start to the agent's first message.
    pub boot: Duration,
}

impl Booted {
    /// Why the agent was never heard, if it was not.
    #[must_use]
    pub fn mute(&self) -> Option<String> {
        self.result.as_ref().err().and_then(GuestEnding::mute)
    }
}

/// Boots to the agent's first message and ends the machine: the kernel's release, or why there was none.
///
/// # Errors
/// If the machine cannot be started.
pub fn boot(spec: &VmSpec) -> Result<Booted, BootFailure> {
    let mut machine = vm::launch(spec)?;
    let mut console = Vec::new();
    let result = loop {
        match machine.next_event() {
            VmEvent::Control { message: GuestMessage::Hello { kernel_release, .. }, .. } => {
                break Ok(kernel_release);
            }
            VmEvent::Control { message: GuestMessage::Failed { step, reason }, .. } => {
                break Err(GuestEnding::AgentFailed { step, reason });
            }
            VmEvent::Control { .. } | VmEvent::Audit(_) => {}
            VmEvent::Console(finding) => console.push(finding),
            end => break Err(ending_of(end, &machine)),
        }
    };
    let boot = machine.started().elapsed();
    console.extend(machine.shutdown());
    Ok(Booted { result, console, boot })
}

/// How an event that is no message ends a guest.
fn ending_of(event: VmEvent, machine: &RunningVm) -> GuestEnding {
    if interrupt::requested().is_some() {
        return GuestEnding::Interrupted;
    }
    match event {
        VmEvent::Exited { status } => {
            GuestEnding::Died { reason: format!("the guest ended without a last message (QEMU: {status})") }
        }
        VmEvent::Broken { reason } => GuestEnding::Broken { reason },
        VmEvent::WallLimit(limit) => {
            let given = machine.cpu_time().map(|time| format!(", with {} s of CPU time", time.as_secs()));
            GuestEnding::TimedOut {
                reason: format!(
                    "still running after the wall clock limit of {} s{} (hint: --wall)",
                    limit.as_secs(),
                    given.unwrap_or_default()
                ),
            }
        }
        VmEvent::SilenceLimit(limit) => {
            let why = machine.stopped().map(|who| format!(": {who}")).unwrap_or_default();
            let reason = format!("no sign of life for {} s{why} (hint: --silence)", limit.as_secs());
            GuestEnding::TimedOut { reason }
        }
        VmEvent::Fault { channel, fault } => {
            GuestEnding::StreamFault { reason: format!("the {channel} is faulty: {fault}") }
        }
        VmEvent::Control { .. } | VmEvent::Audit(_) | VmEvent::Console(_) => {
            GuestEnding::Died { reason: "the guest ended".to_owned() }
        }
    }
}

struct Session<S> {
    capture: Capture,
    checker: Checker<S>,
    console: Vec<ConsoleFinding>,
    kernel_release: Option<String>,
    boot: Duration,
}

impl<S: JoinedSink> Session<S> {
    /// Takes events until the guest's part is over.
    fn follow(
        &mut self,
        machine: &mut RunningVm,
        scenario: &Scenario,
        seed: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<GuestEnding, CaptureError> {
        loop {
            let ending = match machine.next_event() {
                VmEvent::Audit(payload) => {
                    let fault = self.batch(&payload)?;
                    progress(self.capture.records());
                    fault
                }
                VmEvent::Control { message, frame } => {
                    self.capture.frame(&frame)?;
                    self.message(machine, message, scenario, seed)
                }
                VmEvent::Console(finding) => {
                    let fatal = finding.kind.is_fatal();
                    self.console.push(finding);
                    fatal.then(|| GuestEnding::Died { reason: "the kernel panicked".to_owned() })
                }
                end => Some(ending_of(end, machine)),
            };
            match ending {
                // The audit stream's rest is in the queue: the guest has flushed both ports before its last message,
                // but the two are read by two threads.
                Some(ending @ GuestEnding::Finished { .. }) => return self.drain(machine, ending),
                Some(ending) => return Ok(ending),
                None => {}
            }
        }
    }

    /// Takes what is still on its way after the last message, up to the log's last fence.
    fn drain(&mut self, machine: &mut RunningVm, ending: GuestEnding) -> Result<GuestEnding, CaptureError> {
        while !self.checker.complete() {
            match machine.next_event() {
                VmEvent::Audit(payload) => {
                    if let Some(fault) = self.batch(&payload)? {
                        return Ok(fault);
                    }
                }
                VmEvent::Console(finding) => self.console.push(finding),
                VmEvent::Control { frame, .. } => self.capture.frame(&frame)?,
                // The checker says what is missing.
                _ => break,
            }
        }
        Ok(ending)
    }

    fn batch(&mut self, payload: &[u8]) -> Result<Option<GuestEnding>, CaptureError> {
        for record in batch::records(payload) {
            match record {
                Ok((kind, bytes)) => {
                    self.capture.record(kind, bytes)?;
                    self.checker.record(kind, bytes);
                }
                Err(fault) => {
                    let reason = format!("the audit stream is faulty: {fault}");
                    return Ok(Some(GuestEnding::StreamFault { reason }));
                }
            }
        }
        Ok(None)
    }

    fn message(
        &mut self,
        machine: &mut RunningVm,
        message: GuestMessage,
        scenario: &Scenario,
        seed: u64,
    ) -> Option<GuestEnding> {
        match message {
            GuestMessage::Hello { protocol, kernel_release, .. } => {
                self.boot = machine.started().elapsed();
                self.kernel_release = Some(kernel_release);
                if protocol != PROTOCOL {
                    let reason = format!("the agent speaks protocol {protocol}, expected {PROTOCOL}");
                    return Some(GuestEnding::AgentFailed { step: None, reason });
                }
                let start = HostMessage::Start { scenario: scenario.clone(), seed };
                match machine.send(&start) {
                    // QEMU is gone: how it ended comes next.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
                    {
                        None
                    }
                    Err(error) => {
                        Some(GuestEnding::Died { reason: format!("the guest takes no message: {error}") })
                    }
                    Ok(()) => None,
                }
            }
            GuestMessage::Facts(facts) => {
                for fact in facts {
                    self.checker.fact(fact);
                }
                None
            }
            GuestMessage::Perf(events) => {
                for event in events {
                    self.checker.perf(event);
                }
                None
            }
            GuestMessage::Finished { workload_ns, containers, pid_rollovers } => {
                Some(GuestEnding::Finished { workload_ns, containers, pid_rollovers })
            }
            GuestMessage::Failed { step, reason } => Some(GuestEnding::AgentFailed { step, reason }),
        }
    }
}
