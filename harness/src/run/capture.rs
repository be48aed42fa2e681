// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest sends, written down as it comes.
//!
//! Three files a scenario: `audit.log` (auditd's raw format, every record in the order of the queue),
//! `ledger.frames` (the control port's frames as they came) and, by the VM stage, `console.log`. The
//! first two replay: [`crate::run::replay`] reads nothing else.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Name of the audit log in a scenario's folder.
pub const AUDIT_LOG: &str = "audit.log";
/// Name of the ledger in a scenario's folder.
pub const LEDGER: &str = "ledger.frames";
/// Name of the canonical form in a scenario's folder.
pub const CANONICAL: &str = "canonical.txt";

/// A file that could not be written.
#[derive(Debug, Error)]
#[error("cannot write {}: {source} (hint: is the disk full?)", path.display())]
pub struct CaptureError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Name of the scenario in its folder.
pub const SCENARIO: &str = "scenario.json";

/// The open files of one scenario.
#[derive(Debug)]
pub struct Capture {
    audit: Sink,
    ledger: Sink,
    line: Vec<u8>,
    records: u64,
}

#[derive(Debug)]
struct Sink {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Sink {
    fn create(path: PathBuf) -> Result<Self, CaptureError> {
        match File::create(&path) {
            Ok(file) => Ok(Self { path, file: BufWriter::with_capacity(256 * 1024, file) }),
            Err(source) => Err(CaptureError { path, source }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.file.write_all(bytes).map_err(|source| CaptureError { path: self.path.clone(), source })
    }

    fn finish(mut self) -> Result<(), CaptureError> {
        self.file.flush().map_err(|source| CaptureError { path: self.path, source })
    }
}

impl Capture {
    /// Opens the files in `folder`, which must exist.
    ///
    /// # Errors
    /// If a file cannot be made.
    pub fn create(folder: &Path) -> Result<Self, CaptureError> {
        Ok(Self {
            audit: Sink::create(folder.join(AUDIT_LOG))?,
            ledger: Sink::create(folder.join(LEDGER))?,
            line: Vec::with_capacity(1024),
            records: 0,
        })
    }

    /// Appends one record as auditd would write it in raw format.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn record(&mut self, record_type: u16, record: &[u8]) -> Result<(), CaptureError> {
        self.line.clear();
        nstrail_audit::record::raw_line(record_type, record, &mut self.line);
        self.records += 1;
        self.audit.write(&self.line)
    }

    /// Appends one frame of the control port as it came.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn frame(&mut self, frame: &[u8]) -> Result<(), CaptureError> {
        self.ledger.write(frame)
    }

    /// Records written so far.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Flushes both files.
    ///
    /// # Errors
    /// If the disk does not take the rest.
    pub fn finish(self) -> Result<(), CaptureError> {
        self.audit.finish()?;
        self.ledger.finish()
    }
}
