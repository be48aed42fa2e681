// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every run of a bisection, as it ended: what `--resume` takes in the place of running it again. As the search depends
//! on nothing else, a journal also replays: one that is whole gives the same result without a kernel or a guest.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::engine::{Probe, Ran};
use crate::run::journal::{self, JournalError};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// The first one: what is bisected. Another bisection does not go on here.
    Plan(Vec<String>),
    Run {
        probe: Probe,
        attempt: u32,
        ran: Ran,
        seconds: f64,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    file: journal::Journal,
    done: Vec<(Probe, u32, Ran, f64)>,
}

impl Journal {
    /// Starts one.
    ///
    /// # Errors
    /// The file.
    pub fn create(folder: &Path, plan: &[String]) -> Result<Self, JournalError> {
        let mut file = journal::Journal::create(folder)?;
        file.write(&Entry::Plan(plan.to_vec()))?;
        Ok(Self { file, done: Vec::new() })
    }

    /// Goes on with one.
    ///
    /// # Errors
    /// The file, or if it is of another bisection.
    pub fn resume(folder: &Path, plan: &[String]) -> Result<Self, JournalError> {
        let (file, entries) = journal::Journal::resume(folder)?;
        let (mut planned, mut done) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::Plan(plan) => planned = plan,
                Entry::Run { probe, attempt, ran, seconds } => done.push((probe, attempt, ran, seconds)),
            }
        }
        let hint = "resume with the same kernel, series, ends, scenarios, seed and confidence";
        file.is_of(&planned, plan, "bisection", hint)?;
        Ok(Self { file, done })
    }

    /// How many runs are done already.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.done.len()
    }

    /// How a run ended, if it is done already.
    #[must_use]
    pub fn done(&self, probe: Probe, attempt: u32) -> Option<(Ran, f64)> {
        let same = |done: &&(Probe, u32, Ran, f64)| (done.0, done.1) == (probe, attempt);
        self.done.iter().find(same).map(|(_, _, ran, seconds)| (ran.clone(), *seconds))
    }

    /// A run is done.
    ///
    /// # Errors
    /// The file.
    pub fn write(&mut self, probe: Probe, attempt: u32, ran: &Ran, seconds: f64) -> Result<(), JournalError> {
        self.file.write(&Entry::Run { probe, attempt, ran: ran.clone(), seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_run_is_there_again_and_another_bisection_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let plan = ["a".to_owned(), "b".to_owned()];
        let mut journal = Journal::create(folder.path(), &plan).unwrap();
        journal.write(Probe::Candidate(3), 1, &Ran::Clean, 1.5).unwrap();
        journal.write(Probe::Without(3), 1, &Ran::Failed("why".to_owned()), 2.5).unwrap();
        let journal = Journal::resume(folder.path(), &plan).unwrap();
        assert_eq!(journal.runs(), 2);
        assert_eq!(journal.done(Probe::Candidate(3), 1), Some((Ran::Clean, 1.5)));
        assert_eq!(journal.done(Probe::Candidate(3), 2), None);
        assert_eq!(journal.done(Probe::Without(3), 1), Some((Ran::Failed("why".to_owned()), 2.5)));
        let error = Journal::resume(folder.path(), &plan[..1]).unwrap_err().to_string();
        assert!(error.contains("is of another bisection"), "{error}");
    }
}
