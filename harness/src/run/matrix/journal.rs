// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a matrix has done so far: the entries of its [`journal::Journal`].

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::report::summary::{BaselineScenario, ScenarioSummary};
use crate::run::journal;
pub use crate::run::journal::{JOURNAL, JournalError};

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

/// What was done before.
#[derive(Debug, Default)]
pub struct Done {
    pub cells: BTreeMap<String, ScenarioSummary>,
    pub baselines: BTreeMap<String, BaselineScenario>,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal(journal::Journal);

impl Journal {
    /// Starts one.
    ///
    /// # Errors
    /// The file.
    pub fn create(folder: &Path, plan: &[String]) -> Result<Self, JournalError> {
        let mut journal = journal::Journal::create(folder)?;
        journal.write(&Entry::Plan(plan.to_vec()))?;
        Ok(Self(journal))
    }

    /// Goes on with one.
    ///
    /// # Errors
    /// The file, or if it is of another matrix.
    pub fn resume(folder: &Path, plan: &[String]) -> Result<(Self, Done), JournalError> {
        let (journal, entries) = journal::Journal::resume(folder)?;
        let mut done = Done::default();
        let mut planned = Vec::new();
        for entry in entries {
            match entry {
                Entry::Plan(plan) => planned = plan,
                Entry::Cell { id, summary } => drop(done.cells.insert(id, *summary)),
                Entry::Baseline { id, ran } => drop(done.baselines.insert(id, ran)),
            }
        }
        let hint = "resume with the same kernels, configurations, scenarios, vCPUs and partition";
        journal.is_of(&planned, plan, "matrix", hint)?;
        Ok((Self(journal), done))
    }

    /// A cell is done.
    ///
    /// # Errors
    /// The file.
    pub fn cell(&mut self, id: &str, summary: &ScenarioSummary) -> Result<(), JournalError> {
        self.0.write(&Entry::Cell { id: id.to_owned(), summary: Box::new(summary.clone()) })
    }

    /// A scenario of a baseline is done.
    ///
    /// # Errors
    /// The file.
    pub fn baseline(&mut self, id: &str, ran: &BaselineScenario) -> Result<(), JournalError> {
        self.0.write(&Entry::Baseline { id: id.to_owned(), ran: ran.clone() })
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
