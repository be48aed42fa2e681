// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collector: a process of its own that is the guest's audit daemon and the ledger's reader.
//!
//! A process rather than threads of PID 1: PID 1 stays single-threaded, so that workloads may fork, unshare
//! and join from it without a lock or an arena caught in the middle; and the kernel exempts the audit
//! daemon's process from throttling and gives it no syscall records, which must not befall a workload.
//!
//! Threads: one reader for each of the two audit sockets, the writer of the audit port, the reader of the
//! ledger (which writes the control port), the reader of perf (which writes it, too), and the main thread, which
//! answers PID 1's [`command`]s.
//! All take their locks for moments; the queue of records and the pipe of facts are what bounds memory.

pub mod command;
mod comparison;
mod facts;
mod leaks;
mod pace;
mod perf;
mod port;
mod queue;
mod reader;
mod share;
mod tally;

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use nstrail_wire::{fact::AuditFact, message::GuestMessage, perf::PerfEvent};
use thiserror::Error;

use self::{
    command::{Command, Connection, Reply},
    comparison::Stream,
    facts::{LedgerProgress, LedgerReader},
    pace::{PAUSE, Pace},
    perf::PerfWatch,
    port::Port,
    queue::AuditQueue,
    reader::Reader,
    share::Share,
    tally::Tally,
};
pub use tally::LAST_FENCE;

use crate::{
    netlink::{AuditSocket, Setting},
    ports::Ports,
};

/// Room for records that a reader has not taken yet, in bytes as the kernel counts them: some 25,000 records.
const RECEIVE_BUFFER: i32 = 32 * 1024 * 1024;
/// A fence travels in milliseconds; a guest starved by its host may need longer, a broken one never gets there.
const FENCE_LIMIT: Duration = Duration::from_secs(60);
/// As [`FENCE_LIMIT`], for the way to the host, who may be busy with the records of a whole run.
const FLUSH_LIMIT: Duration = Duration::from_secs(120);

/// What the collector could not do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CollectorError {
    #[error("audit socket cannot be {action}: {reason}")]
    Socket { action: &'static str, reason: String },
    #[error(
        "kernel refused the audit daemon's place: {reason} (hint: EEXIST means that another process has it)"
    )]
    Refused { reason: String },
    #[error("kernel did not acknowledge the audit daemon within {seconds} s")]
    Unregistered { seconds: u64 },
    #[error("{stream:?} audit socket failed: {reason}")]
    Read { stream: Stream, reason: String },
    #[error("{stream:?} audit socket gave a datagram longer than any audit record")]
    Truncated { stream: Stream },
    #[error(
        "fence {number} did not come within {seconds} s: unicast is at {unicast:?}, multicast at {multicast:?} (hint: an exclude rule on USER, or audit turned off, hides fences)"
    )]
    Fence { number: u32, seconds: u64, unicast: Option<u32>, multicast: Option<u32> },
    #[error("ledger was not passed on within {seconds} s (hint: does the host read the control port?)")]
    Ledger { seconds: u64 },
    #[error("audit records were not passed on within {seconds} s (hint: does the host read the audit port?)")]
    Flush { seconds: u64 },
    #[error("{port} port is broken: {reason}")]
    Port { port: &'static str, reason: String },
    #[error("perf, the third witness, failed: {reason}")]
    Perf { reason: String },
    #[error("share: {path}: {reason}", path = path.display())]
    Share { path: std::path::PathBuf, reason: String },
    #[error("kmemleak cannot be asked: {reason}")]
    Leaks { reason: String },
    #[error("{reason}")]
    Task { reason: String },
}

/// The thread that passes the ledger on, and with it the news of any other thread's panic.
pub const LEDGER_THREAD: &str = "ledger";

/// The two audit sockets, once they are read.
#[derive(Debug)]
struct Sockets {
    unicast: Arc<AuditSocket>,
    multicast: Arc<AuditSocket>,
}

/// The process.
#[derive(Debug)]
pub struct Collector {
    control: Arc<Port>,
    tally: Arc<Tally>,
    pace: Arc<Pace>,
    queue: Arc<AuditQueue>,
    progress: Arc<LedgerProgress>,
    sockets: Option<Sockets>,
    perf: Option<Arc<PerfWatch>>,
    share: Option<Share>,
}

impl Collector {
    /// Starts the threads that need no audit socket: the ledger's, and the audit port's.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn start(ports: Ports, ledger: fs::File) -> io::Result<Self> {
        let collector = Self {
            control: Arc::new(Port::new(ports.control)),
            tally: Arc::default(),
            pace: Arc::default(),
            queue: Arc::default(),
            progress: Arc::default(),
            sockets: None,
            perf: None,
            share: None,
        };
        let reader = LedgerReader {
            pipe: ledger,
            port: Arc::clone(&collector.control),
            queue: Arc::clone(&collector.queue),
            pace: Arc::clone(&collector.pace),
            tally: Arc::clone(&collector.tally),
            progress: Arc::clone(&collector.progress),
        };
        spawn(LEDGER_THREAD, move || reader.run())?;
        let (queue, pace, tally) =
            (Arc::clone(&collector.queue), Arc::clone(&collector.pace), Arc::clone(&collector.tally));
        spawn("audit-port", move || {
            if let Err(error) = write_records(&queue, &pace, &Port::new(ports.audit)) {
                tally.fail(CollectorError::Port { port: "audit", reason: error.to_string() });
            }
        })?;
        Ok(collector)
    }

    /// Answers commands until PID 1 is gone.
    ///
    /// # Errors
    /// If the connection to PID 1 breaks.
    pub fn serve(mut self, connection: &mut Connection) -> io::Result<()> {
        while let Some(command) = connection.receive()? {
            // After a panic the process lives on: its hook has told the host through the ledger, which is still read,
            // and PID 1 can wait for that to arrive.
            let reply = match catch_unwind(AssertUnwindSafe(|| self.answer(command))) {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) => Reply::Failed { reason: error.to_string() },
                Err(_) => Reply::Failed { reason: "the collector panicked".to_owned() },
            };
            connection.send(&reply)?;
        }
        Ok(())
    }

    fn answer(&mut self, command: Command) -> Result<Reply, CollectorError> {
        match command {
            Command::Send(message) => self.send(&message)?,
            Command::Listen => self.listen()?,
            Command::Share => self.share = Some(Share::mount()),
            Command::AwaitFence { number } => {
                let _hurry = self.pace.hurry();
                self.tally.await_fence(number, FENCE_LIMIT)?;
                self.mark(PerfEvent::Fence { number })?;
            }
            Command::Audit { enabled } => self.mark(PerfEvent::Audit { enabled })?,
            Command::Daemon { on } => self.be_daemon(on)?,
            Command::AwaitLedger { sync } => {
                let _hurry = self.pace.hurry();
                self.progress.wait(sync, FLUSH_LIMIT)?;
            }
            Command::Collected => return Ok(Reply::Collected(self.collected()?)),
            Command::Finish(message) => self.finish(&message)?,
        }
        Ok(Reply::Done)
    }

    /// Has perf speak to this point.
    fn mark(&self, mark: PerfEvent) -> Result<(), CollectorError> {
        let Some(perf) = &self.perf else { return Ok(()) };
        perf.mark(mark).map_err(|error| CollectorError::Perf { reason: error.to_string() })
    }

    fn send(&self, message: &GuestMessage) -> Result<(), CollectorError> {
        self.control
            .send(message)
            .map_err(|error| CollectorError::Port { port: "control", reason: error.to_string() })
    }

    /// Has perf look from now on.
    fn watch(&mut self) -> io::Result<()> {
        let perf = Arc::new(PerfWatch::open(Arc::clone(&self.control))?);
        let (reader, tally) = (Arc::clone(&perf), Arc::clone(&self.tally));
        spawn("perf", move || {
            if let Err(error) = reader.run() {
                tally.fail(CollectorError::Perf { reason: error.to_string() });
            }
        })?;
        self.perf = Some(perf);
        Ok(())
    }

    /// Takes the audit daemon's place.
    ///
    /// The multicast socket comes first, so that the unicast stream has all that it has. The kernel was booted with
    /// `audit=1` and has kept the records since then (its hold queue): they come first.
    fn listen(&mut self) -> Result<(), CollectorError> {
        let failed =
            |action| move |error: io::Error| CollectorError::Socket { action, reason: error.to_string() };
        self.watch().map_err(|error| CollectorError::Perf { reason: error.to_string() })?;
        let multicast = Arc::new(AuditSocket::listen().map_err(failed("opened for multicast"))?);
        let unicast = Arc::new(AuditSocket::open().map_err(failed("opened"))?);
        for socket in [&multicast, &unicast] {
            socket.set_receive_buffer(RECEIVE_BUFFER).map_err(failed("given a large buffer"))?;
        }
        for (name, stream, socket, queue) in [
            ("multicast", Stream::Multicast, &multicast, None),
            ("unicast", Stream::Unicast, &unicast, Some(Arc::clone(&self.queue))),
        ] {
            let reader =
                Reader { stream, tally: Arc::clone(&self.tally), pace: Arc::clone(&self.pace), queue };
            let socket = Arc::clone(socket);
            spawn(name, move || reader.run(&*socket)).map_err(failed("read"))?;
        }
        let _hurry = self.pace.hurry();
        unicast.send_setting(Setting::Pid(std::process::id())).map_err(failed("made the audit daemon's"))?;
        self.tally.await_registration(FENCE_LIMIT)?;
        let control = AuditSocket::open().map_err(failed("opened"))?;
        // How many records may wait is the boot parameter's to say.
        for setting in [Setting::Enabled(true), Setting::Failure(1)] {
            control.set(setting).map_err(failed("used to set audit up"))?;
        }
        self.sockets = Some(Sockets { unicast, multicast });
        Ok(())
    }

    /// Takes the audit daemon's place, or gives it up.
    fn be_daemon(&self, on: bool) -> Result<(), CollectorError> {
        let failed = |action, reason: String| CollectorError::Socket { action, reason };
        let action = if on { "made the audit daemon's again" } else { "released from the log" };
        let sockets = self.sockets.as_ref().ok_or_else(|| failed(action, "it is not open".into()))?;
        let pid = if on { std::process::id() } else { 0 };
        // The acknowledgement goes to the reader; a refusal ends it.
        sockets
            .unicast
            .send_setting(Setting::Pid(pid))
            .map(drop)
            .map_err(|error| failed(action, error.to_string()))
    }

    fn collected(&self) -> Result<AuditFact, CollectorError> {
        let unopened = || CollectorError::Socket { action: "counted", reason: "it is not open".into() };
        let sockets = self.sockets.as_ref().ok_or_else(unopened)?;
        let failed =
            |error: io::Error| CollectorError::Socket { action: "counted", reason: error.to_string() };
        let totals = self.tally.totals();
        Ok(AuditFact::Collected {
            unicast: totals.unicast,
            multicast: totals.multicast,
            before_multicast: totals.before_multicast,
            first_difference: totals.first_difference,
            overruns: totals.overruns,
            unicast_drops: sockets.unicast.drops().map_err(failed)?,
            multicast_drops: sockets.multicast.drops().map_err(failed)?,
        })
    }

    fn finish(&mut self, message: &GuestMessage) -> Result<(), CollectorError> {
        leaks::tell().map_err(|error| CollectorError::Leaks { reason: error.to_string() })?;
        let hurry = self.pace.hurry();
        if let Some(share) = self.share.take() {
            share.keep()?;
        }
        if !self.queue.wait_until_empty(FLUSH_LIMIT) {
            return Err(CollectorError::Flush { seconds: FLUSH_LIMIT.as_secs() });
        }
        drop(hurry);
        self.send(message)
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// The thread that writes the audit port.
fn write_records(queue: &AuditQueue, pace: &Pace, port: &Port) -> io::Result<()> {
    loop {
        queue.wait_for_records();
        pace.linger(PAUSE);
        while let Some(batch) = queue.take() {
            port.write(&batch)?;
            queue.written(batch.len());
        }
    }
}
