// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has been done so far, a JSON object a line, on the disk before anything else goes on: after a crash of the tool
//! or of the machine, `--resume` goes on from there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Name of the file in the run's folder.
pub const JOURNAL: &str = "journal.jsonl";

/// A journal that cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{}:{line}: {message} (hint: the file is damaged; start a new run without --resume)", path.display())]
    Line { path: PathBuf, line: usize, message: String },
    #[error("{} is of another {of}: {difference} (hint: {hint})", path.display())]
    OtherPlan { path: PathBuf, of: &'static str, difference: String, hint: &'static str },
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Starts one.
    ///
    /// # Errors
    /// The file.
    pub fn create(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(JOURNAL);
        let file = File::create_new(&path).map_err(|source| JournalError::File {
            what: "create",
            path: path.clone(),
            source,
        })?;
        Ok(Self { path, file })
    }

    /// Goes on with one; gives the entries. A last line that was cut off is taken for not written.
    ///
    /// # Errors
    /// The file, or a line that is none of its entries.
    pub fn resume<T: DeserializeOwned>(folder: &Path) -> Result<(Self, Vec<T>), JournalError> {
        let path = folder.join(JOURNAL);
        let failed = |what| {
            let path = path.clone();
            move |source| JournalError::File { what, path, source }
        };
        let text = std::fs::read_to_string(&path).map_err(failed("read"))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut entries = Vec::new();
        for (number, line) in text[..whole].lines().enumerate() {
            entries.push(serde_json::from_str(line).map_err(|error| JournalError::Line {
                path: path.clone(),
                line: number + 1,
                message: error.to_string(),
            })?);
        }
        let mut file = OpenOptions::new().write(true).open(&path).map_err(failed("write"))?;
        file.set_len(whole as u64).map_err(failed("write"))?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed("write"))?;
        Ok((Self { path, file }, entries))
    }

    /// Whether the plan that a journal was begun with is this one; if not, where they first differ. `of` and `hint` are
    /// for the message.
    ///
    /// # Errors
    /// [`JournalError::OtherPlan`].
    pub fn is_of(
        &self,
        planned: &[String],
        plan: &[String],
        of: &'static str,
        hint: &'static str,
    ) -> Result<(), JournalError> {
        if planned == plan {
            return Ok(());
        }
        let difference = match planned.iter().zip(plan).find(|(old, new)| old != new) {
            Some((old, new)) => format!("it has {old} where this one has {new}"),
            None => format!("it has {} entries, this one {}", planned.len(), plan.len()),
        };
        Err(JournalError::OtherPlan { path: self.path.clone(), of, difference, hint })
    }

    /// Something is done.
    ///
    /// # Errors
    /// The file.
    pub fn write<T: Serialize>(&mut self, entry: &T) -> Result<(), JournalError> {
        let failed = |source| JournalError::File { what: "write", path: self.path.clone(), source };
        let mut line = serde_json::to_string(entry).map_err(|error| failed(error.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()).map_err(failed)
    }
}
