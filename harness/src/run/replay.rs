// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recorded scenario again: the same checks on the same bytes, without a VM and without a clock.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use nstrail_audit::record::{RecordError, split_line};
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
    #[error("{}: {message}", path.display())]
    Scenario { path: PathBuf, message: String },
    #[error("{} line {line}: {source}", path.display())]
    Line { path: PathBuf, line: u64, source: RecordError },
    #[error("{}: {source}", path.display())]
    Frame { path: PathBuf, source: FrameError },
    #[error("{}: {source}", path.display())]
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

/// Gives every fact of the recording in `folder`, in order.
///
/// # Errors
/// If its ledger cannot be read or is none.
pub fn facts(folder: &Path, give: &mut dyn FnMut(Fact)) -> Result<(), ReplayError> {
    let mut ledger = Ledger::open(folder.join(LEDGER))?;
    while ledger.next(give)? {}
    ledger.finish()
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
    let file = File::open(&path).map_err(|source| ReplayError::Read { path: path.clone(), source })?;
    let mut reader = BufReader::with_capacity(1024 * 1024, file);
    let mut facts = Ledger::open(folder.join(LEDGER))?;
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let length = reader
            .read_until(b'\n', &mut bytes)
            .map_err(|source| ReplayError::Read { path: path.clone(), source })?;
        if length == 0 {
            break;
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let (kind, record) =
            split_line(text).map_err(|source| ReplayError::Line { path: path.clone(), line, source })?;
        checker.record(kind.0, record);
        // Both streams at about the same pace, so that neither has to wait long for the other.
        facts.give(&mut checker, 1)?;
    }
    facts.give(&mut checker, u64::MAX)?;
    facts.finish()?;
    Ok(checker.finish_with_sink())
}

struct Ledger {
    path: PathBuf,
    decoder: FrameDecoder,
}

impl Ledger {
    fn open(path: PathBuf) -> Result<Self, ReplayError> {
        let bytes = fs::read(&path).map_err(|source| ReplayError::Read { path: path.clone(), source })?;
        let mut decoder = FrameDecoder::new();
        decoder.extend(&bytes);
        Ok(Self { path, decoder })
    }

    /// Gives the facts of the next frames to the checker.
    fn give<S: JoinedSink>(&mut self, checker: &mut Checker<S>, frames: u64) -> Result<(), ReplayError> {
        for _ in 0..frames {
            if !self.next(&mut |fact| checker.fact(fact))? {
                break;
            }
        }
        Ok(())
    }

    /// Gives the facts of the next frame; false if there is none.
    fn next(&mut self, give: &mut dyn FnMut(Fact)) -> Result<bool, ReplayError> {
        let payload = self
            .decoder
            .next_frame()
            .map_err(|source| ReplayError::Frame { path: self.path.clone(), source })?;
        let Some(payload) = payload else { return Ok(false) };
        let message: GuestMessage = message::decode(payload)
            .map_err(|source| ReplayError::Message { path: self.path.clone(), source })?;
        if let GuestMessage::Facts(facts) = message {
            facts.into_iter().for_each(give);
        }
        Ok(true)
    }

    fn finish(&self) -> Result<(), ReplayError> {
        self.decoder.finish().map_err(|source| ReplayError::Frame { path: self.path.clone(), source })
    }
}
