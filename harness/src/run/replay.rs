// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recorded scenario again: the same checks on the same bytes, without a VM and without a clock.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use nstrail_audit::{
    Model, Packet, PacketTracer, Record,
    record::{RecordError, split_line},
};
use nstrail_wire::{
    fact::Fact,
    frame::{FrameDecoder, FrameError},
    message::{self, GuestMessage, MessageError},
    scenario::Scenario,
};
use thiserror::Error;

use super::capture::{AUDIT_LOG, LEDGER, SCENARIO};
use crate::check::{CheckOptions, CheckResult, Checker, JoinedSink};

/// A recording that cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    #[error("cannot read {}: {source} (hint: name the folder of one scenario, out/RUN-ID/VERSION/SCENARIO)", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {message} (hint: the recording was cut or changed, or is another version's: run the scenario again)", path.display())]
    Scenario { path: PathBuf, message: String },
    #[error("{} line {line}: {source} (hint: the recording was cut or changed, or is another version's: run the scenario again)", path.display())]
    Line { path: PathBuf, line: u64, source: RecordError },
    #[error("{}: {source} (hint: the recording was cut or changed, or is another version's: run the scenario again)", path.display())]
    Frame { path: PathBuf, source: FrameError },
    #[error("{}: {source} (hint: the recording was cut or changed, or is another version's: run the scenario again)", path.display())]
    Message { path: PathBuf, source: MessageError },
}

/// The scenario of the recording in `folder`.
///
/// # Errors
/// If its file cannot be read or is none.
pub fn scenario(folder: &Path) -> Result<Scenario, ReplayError> {
    let path = folder.join(SCENARIO);
    let text =
        fs::read_to_string(&path).map_err(|source| ReplayError::Read { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|error| ReplayError::Scenario { path, message: error.to_string() })
}

/// Gives every packet of the recording in `folder`, with what the log has told of sets up to it.
///
/// # Errors
/// If its log cannot be read or is none.
pub fn packets(folder: &Path, give: &mut dyn FnMut(&Packet, &Model)) -> Result<(), ReplayError> {
    let path = folder.join(AUDIT_LOG);
    let read = |source| ReplayError::Read { path: path.clone(), source };
    let (file, _) = open(&path).map_err(read)?;
    let mut reader = BufReader::with_capacity(1024 * 1024, file);
    let mut tracer = PacketTracer::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(read)? == 0 {
            break;
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let wrong = |source| ReplayError::Line { path: path.clone(), line, source };
        let record = Record::parse_line(text).map_err(wrong)?;
        // A malformed record of the contract is a finding of the check.
        if let Ok(Some(packet)) = tracer.push(&record) {
            give(&packet, tracer.model());
        }
    }
    Ok(())
}

/// Gives every fact of the recording in `folder`, in order.
///
/// # Errors
/// If its ledger cannot be read or is none.
pub fn facts(folder: &Path, give: &mut dyn FnMut(Fact)) -> Result<(), ReplayError> {
    let mut ledger = Ledger::open(folder.join(LEDGER))?;
    let mut give = |message| {
        if let GuestMessage::Facts(facts) = message {
            facts.into_iter().for_each(&mut *give);
        }
    };
    while ledger.advance(&mut give)? {}
    ledger.finish()
}

/// What the guest told on the control port, to the checker.
fn give<S: JoinedSink>(checker: &mut Checker<S>, message: GuestMessage) {
    match message {
        GuestMessage::Facts(facts) => facts.into_iter().for_each(|fact| checker.fact(fact)),
        GuestMessage::Perf(events) => events.into_iter().for_each(|event| checker.perf(event)),
        _ => {}
    }
}

/// Checks the recording in `folder`.
///
/// # Errors
/// If a file cannot be read or is not what was written by a capture.
pub fn replay<S: JoinedSink>(
    folder: &Path,
    options: CheckOptions,
    sink: S,
) -> Result<(CheckResult, S), ReplayError> {
    let mut checker = Checker::with_sink(options, sink);
    let path = folder.join(AUDIT_LOG);
    let read = |source| ReplayError::Read { path: path.clone(), source };
    let (file, size) = open(&path).map_err(read)?;
    let mut reader = BufReader::with_capacity(1024 * 1024, file);
    let mut ledger = Ledger::open(folder.join(LEDGER))?;
    let (mut bytes, mut position) = (Vec::new(), 0);
    for line in 1.. {
        bytes.clear();
        let length = reader.read_until(b'\n', &mut bytes).map_err(read)?;
        if length == 0 {
            break;
        }
        position += length as u64;
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let (kind, record) =
            split_line(text).map_err(|source| ReplayError::Line { path: path.clone(), line, source })?;
        checker.record(kind.0, record);
        // Both files at the same pace, so that neither has to wait long for the other.
        while ledger.is_behind(position, size)
            && ledger.advance(&mut |message| give(&mut checker, message))?
        {}
    }
    while ledger.advance(&mut |message| give(&mut checker, message))? {}
    ledger.finish()?;
    Ok(checker.finish_with_sink())
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// How much of a ledger is read at a time.
const CHUNK: usize = 16 * 1024;

struct Ledger {
    path: PathBuf,
    file: File,
    size: u64,
    position: u64,
    decoder: FrameDecoder,
}

impl Ledger {
    fn open(path: PathBuf) -> Result<Self, ReplayError> {
        let (file, size) = open(&path).map_err(|source| ReplayError::Read { path: path.clone(), source })?;
        Ok(Self { path, file, size, position: 0, decoder: FrameDecoder::new() })
    }

    /// Whether less of it was given than of the log, of which `position` bytes out of `size` were.
    fn is_behind(&self, position: u64, size: u64) -> bool {
        u128::from(self.position) * u128::from(size) < u128::from(position) * u128::from(self.size)
    }

    /// Gives the messages of the next frames; false at the end.
    fn advance(&mut self, give: &mut dyn FnMut(GuestMessage)) -> Result<bool, ReplayError> {
        let mut chunk = [0; CHUNK];
        let length = self
            .file
            .read(&mut chunk)
            .map_err(|source| ReplayError::Read { path: self.path.clone(), source })?;
        self.position += length as u64;
        self.decoder.extend(&chunk[..length]);
        let broken = |source| ReplayError::Frame { path: self.path.clone(), source };
        while let Some(payload) = self.decoder.next_frame().map_err(broken)? {
            let message: GuestMessage = message::decode(payload)
                .map_err(|source| ReplayError::Message { path: self.path.clone(), source })?;
            give(message);
        }
        Ok(length > 0)
    }

    fn finish(&self) -> Result<(), ReplayError> {
        self.decoder.finish().map_err(|source| ReplayError::Frame { path: self.path.clone(), source })
    }
}
