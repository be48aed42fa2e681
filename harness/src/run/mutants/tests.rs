// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tests of several files need, and the outcome of a whole.

use super::*;
use crate::report::mutants::MutantRun;

/// A mutant as a folder describes it.
pub(super) fn mutant(name: &str, scenarios: &[&str], tries: u32) -> Mutant {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(name);
    fs::create_dir(&folder).unwrap();
    let kind = if tries > 1 { "race" } else { "always" };
    let text = format!(
        "title = \"t\"\nkind = \"{kind}\"\nguarantees = [\"G3\"]\ninvariants = [\"NS-G3-UNIQUE\"]\n\
         scenarios = {scenarios:?}\nmissed = \"m\"\ntries = {tries}\n"
    );
    fs::write(folder.join("mutant.toml"), text).unwrap();
    fs::write(folder.join("fault.patch"), "").unwrap();
    Mutant::read(&folder).unwrap()
}

/// A run in a scenario, which has shown the fault or has not.
pub(super) fn run(scenario: &str, killed: bool) -> MutantRun {
    MutantRun {
        scenario: scenario.to_owned(),
        perturbation: "plain".to_owned(),
        seed: 1,
        outcome: if killed { Outcome::Failed } else { Outcome::Passed },
        reason: None,
        by: if killed { vec!["NS-G3-UNIQUE".to_owned()] } else { Vec::new() },
        containers: 1,
        guest_seconds: 1.0,
        artifacts: String::new(),
    }
}

/// What became of `01-a`.
pub(super) fn summary(kind: &str, class: Class) -> MutantSummary {
    MutantSummary { kind: kind.to_owned(), class, ..runner::blank(&mutant("01-a", &["smoke"], 1)) }
}

#[test]
fn a_survivor_decides_unless_there_is_no_score() {
    let of = |classes: &[Class]| {
        let mutants: Vec<MutantSummary> = classes.iter().map(|class| summary("always", *class)).collect();
        judge(&mutants, None)
    };
    use Class::{Killed, NotRun, Survived, TimedOut, Unviable};
    assert_eq!(of(&[Killed, Killed, NotRun]), Outcome::Passed);
    assert_eq!(of(&[Killed, TimedOut]), Outcome::TimedOut);
    assert_eq!(of(&[Killed, TimedOut, Unviable]), Outcome::BuildFailed);
    assert_eq!(of(&[Killed, Unviable, Survived]), Outcome::Survived);
    assert_eq!(of(&[NotRun]), Outcome::Skipped);
    let mut unclear = summary("always", NotRun);
    unclear.runs.push(run("smoke", false));
    assert_eq!(judge(&[summary("always", Killed), unclear], None), Outcome::Inconclusive);
    let failure = Failure { outcome: Outcome::Failed, message: String::new() };
    assert_eq!(judge(&[summary("always", Killed)], Some(&failure)), Outcome::Failed);
}
