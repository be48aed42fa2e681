// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a matrix has done so far, a JSON object a line, on the disk before anything else goes on: after a crash of
//! the tool or of the machine, `--resume` goes on from there.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::report::summary::{BaselineScenario, ScenarioSummary};

/// Name of the file in the run's folder.
pub const JOURNAL: &str = "journal.jsonl";

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// The first one: which cells there are. Another matrix does not go on here.
    Plan(Vec<String>),
    Cell {
        id: String,
        summary: Box<ScenarioSummary>,
    },
    Baseline {
        id: String,
        ran: BaselineScenario,
    },
}

/// A journal that cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{}:{line}: {message} (hint: the file is damaged; start a new run without --resume)", path.display())]
    Line { path: PathBuf, line: usize, message: String },
    #[error(
        "{} is of another matrix: {difference} (hint: resume with the same kernels, configurations, scenarios, \
         vCPUs and partition)",
        path.display()
    )]
    OtherPlan { path: PathBuf, difference: String },
}

/// What was done before.
#[derive(Debug, Default)]
pub struct Done {
    pub cells: BTreeMap<String, ScenarioSummary>,
    pub baselines: BTreeMap<String, BaselineScenario>,
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
    pub fn create(folder: &Path, plan: &[String]) -> Result<Self, JournalError> {
        let path = folder.join(JOURNAL);
        let file = File::create_new(&path).map_err(|source| JournalError::File {
            what: "create",
            path: path.clone(),
            source,
        })?;
        let mut journal = Self { path, file };
        journal.write(&Entry::Plan(plan.to_vec()))?;
        Ok(journal)
    }

    /// Goes on with one. A last line that was cut off is taken for not written.
    ///
    /// # Errors
    /// The file, or if it is of another matrix.
    pub fn resume(folder: &Path, plan: &[String]) -> Result<(Self, Done), JournalError> {
        let path = folder.join(JOURNAL);
        let failed = |what| {
            let path = path.clone();
            move |source| JournalError::File { what, path, source }
        };
        let text = std::fs::read_to_string(&path).map_err(failed("read"))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut done = Done::default();
        let mut planned = None;
        for (number, line) in text[..whole].lines().enumerate() {
            let entry = serde_json::from_str(line).map_err(|error| JournalError::Line {
                path: path.clone(),
                line: number + 1,
                message: error.to_string(),
            })?;
            match entry {
                Entry::Plan(plan) => planned = Some(plan),
                Entry::Cell { id, summary } => drop(done.cells.insert(id, *summary)),
                Entry::Baseline { id, ran } => drop(done.baselines.insert(id, ran)),
            }
        }
        if planned.as_deref() != Some(plan) {
            let planned = planned.unwrap_or_default();
            let difference = match planned.iter().zip(plan).find(|(old, new)| old != new) {
                Some((old, new)) => format!("it has {old} where this one has {new}"),
                None => format!("it has {} cells, this one {}", planned.len(), plan.len()),
            };
            return Err(JournalError::OtherPlan { path, difference });
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(failed("write"))?;
        file.set_len(whole as u64).map_err(failed("write"))?;
        let mut file = file;
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed("write"))?;
        Ok((Self { path, file }, done))
    }

    /// A cell is done.
    ///
    /// # Errors
    /// The file.
    pub fn cell(&mut self, id: &str, summary: &ScenarioSummary) -> Result<(), JournalError> {
        self.write(&Entry::Cell { id: id.to_owned(), summary: Box::new(summary.clone()) })
    }

    /// A scenario of a baseline is done.
    ///
    /// # Errors
    /// The file.
    pub fn baseline(&mut self, id: &str, ran: &BaselineScenario) -> Result<(), JournalError> {
        self.write(&Entry::Baseline { id: id.to_owned(), ran: ran.clone() })
    }

    fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let failed = |source| JournalError::File { what: "write", path: self.path.clone(), source };
        let mut line = serde_json::to_string(entry).map_err(|error| failed(error.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    fn ran(name: &str) -> BaselineScenario {
        BaselineScenario {
            name: name.to_owned(),
            vcpus: 1,
            outcome: Outcome::Passed,
            reason: None,
            workload_seconds: 0.5,
            console: Vec::new(),
        }
    }

    #[test]
    fn what_was_done_is_there_again_and_a_cut_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let plan = ["a".to_owned(), "b".to_owned()];
        let mut journal = Journal::create(folder.path(), &plan).unwrap();
        journal.baseline("a", &ran("smoke")).unwrap();
        journal.baseline("b", &ran("nest")).unwrap();
        let path = folder.path().join(JOURNAL);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let (mut journal, done) = Journal::resume(folder.path(), &plan).unwrap();
        assert_eq!(done.baselines.keys().collect::<Vec<_>>(), ["a"]);
        journal.baseline("b", &ran("nest")).unwrap();
        drop(journal);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn another_matrix_and_a_damaged_line_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        Journal::create(folder.path(), &["a".to_owned()]).unwrap();
        let error = Journal::resume(folder.path(), &["b".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("it has a where this one has b"), "{error}");
        std::fs::write(folder.path().join(JOURNAL), "{\"plan\":[\"a\"]}\n{\"odd\":1}\n").unwrap();
        let error = Journal::resume(folder.path(), &["a".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("journal.jsonl:2:"), "{error}");
    }
}
