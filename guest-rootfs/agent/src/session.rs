// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run, from the host's `Start` to the last message: what PID 1 does once it can talk.

use std::{
    fs::{self, File},
    io::{self, Read},
    time::Duration,
};

use nstrail_wire::{
    fact::{Act, AuditFact, Call, When},
    frame::FrameDecoder,
    message::{self, GuestMessage, HostMessage, PROTOCOL},
    namespace::NamespaceSet,
};
use thiserror::Error;

use crate::{
    census::own_set,
    collector::{LAST_FENCE, command::Command},
    control::{AuditControl, AuditController},
    exposed::exposed,
    ledger::Ledger,
    marker,
    mounts::{self, MountError},
    orphans::{self, OrphanError},
    workload::{self, WorkloadError},
};

/// The fence before the first step.
const FIRST_FENCE: u32 = 0;
/// The fence after which audit's state is read: its queue is empty then.
const STATE_FENCE: u32 = LAST_FENCE - 1;

const PRINTK: &str = "/proc/sys/kernel/printk";
/// What the console shows is below it: KERN_INFO and graver.
const LOGLEVEL: &str = "7";

/// Why a run came to no end.
#[derive(Debug, Error)]
pub enum SessionError {
    #[error("{step}: {source}")]
    Step { step: &'static str, source: io::Error },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("the host sent no Start: {0}")]
    Start(String),
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(transparent)]
    Orphans(#[from] OrphanError),
}

impl SessionError {
    /// As the host is told.
    #[must_use]
    pub fn into_message(self) -> GuestMessage {
        match self {
            Self::Workload(WorkloadError { step, reason }) => GuestMessage::Failed { step, reason },
            other => GuestMessage::Failed { step: None, reason: other.to_string() },
        }
    }
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> SessionError {
    move |source| SessionError::Step { step, source }
}

/// What a run needs.
#[derive(Debug)]
pub struct Session<'a> {
    pub control: &'a AuditController,
    pub ledger: Ledger,
    /// The control port, for reading.
    pub port: &'a File,
    pub collector: libc::pid_t,
}

impl Session<'_> {
    /// Says hello, waits for the host's word, runs the scenario, and proves what it can about the log.
    ///
    /// # Errors
    /// The first thing that failed. The host has not been told yet.
    pub fn run(&self) -> Result<(), SessionError> {
        self.control.send(hello().map_err(step("hello"))?).map_err(step("hello"))?;
        mounts::mount_late()?;
        let command_line = fs::read_to_string("/proc/cmdline").map_err(step("kernel command line"))?;
        let asked = |parameter| command_line.split_ascii_whitespace().any(|word| word == parameter);
        if asked("nstrail.ledger=off") {
            self.ledger.turn_off();
        }
        if asked("nstrail.share=1") {
            self.control.command(&Command::Share).map_err(step("share"))?;
        }
        self.control.command(&Command::Listen).map_err(step("audit daemon"))?;
        let HostMessage::Start { scenario, seed } = self.await_start()?;
        // A boot is quiet because a console is slow. From here on the whole trace of a splat is wanted, of which some kinds
        // tell a part as KERN_INFO (kernel/sched/core.c:sched_show_task).
        fs::write(PRINTK, LOGLEVEL).map_err(step("kernel.printk"))?;

        let set = own_set();
        let parent_set = NamespaceSet::default();
        self.ledger
            .write_main(Act::Start { parent: None, call: Call::Boot, flags: 0, parent_set, set })
            .map_err(step("ledger"))?;
        for path in exposed().map_err(step("names in /proc"))? {
            self.ledger.write_main(Act::Audit(AuditFact::Exposed { path })).map_err(step("ledger"))?;
        }
        self.control.tell_state(When::Before).map_err(step("state of audit"))?;
        self.control.fence(FIRST_FENCE).map_err(step("first fence"))?;

        let end = workload::run(&scenario, seed, self.collector as u32, &self.ledger, self.control)?;

        marker::make_set(&self.ledger).map_err(step("last set"))?;
        orphans::reap(self.collector)?;
        workload::last_census(&self.ledger, self.collector as u32)?;
        self.control.fence(STATE_FENCE).map_err(step("fence before the last"))?;
        self.control.tell_state(When::After).map_err(step("state of audit"))?;
        self.control.fence(LAST_FENCE).map_err(step("last fence"))?;
        self.control.tell_collected().map_err(step("collector's totals"))?;
        self.control.drain_ledger().map_err(step("ledger"))?;
        let finished = GuestMessage::Finished {
            workload_ns: end.workload_ns,
            // The marker's set is one of them.
            containers: end.containers + 1,
            pid_rollovers: end.pid_rollovers,
        };
        self.control.command(&Command::Finish(finished)).map_err(step("last message"))
    }

    /// The port is connected: the host has read hello, or the write would not have come back.
    fn await_start(&self) -> Result<HostMessage, SessionError> {
        let mut decoder = FrameDecoder::new();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let frame = decoder.next_frame().map_err(|error| SessionError::Start(error.to_string()))?;
            if let Some(payload) = frame {
                return message::decode(payload).map_err(|error| SessionError::Start(error.to_string()));
            }
            let mut port = self.port;
            match port.read(&mut bytes) {
                Ok(0) => return Err(SessionError::Start("it closed the control port".into())),
                Ok(length) => decoder.extend(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SessionError::Start(error.to_string())),
            }
        }
    }
}

fn hello() -> io::Result<GuestMessage> {
    // SAFETY: all-zero is a valid time, and the call fills it.
    let mut booted: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `booted` is writable.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut booted) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let booted_ns = Duration::new(booted.tv_sec as u64, booted.tv_nsec as u32).as_nanos() as u64;
    // SAFETY: plain library call.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    Ok(GuestMessage::Hello {
        protocol: PROTOCOL,
        kernel_release: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim_end().to_owned(),
        cpus: u32::try_from(cpus).unwrap_or(0),
        booted_ns,
    })
}
