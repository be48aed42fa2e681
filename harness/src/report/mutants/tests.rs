// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is drawn from a mutants' summary.

use super::*;

fn run(perturbation: &str, by: &[&str]) -> MutantRun {
    MutantRun {
        scenario: "smoke".to_owned(),
        perturbation: perturbation.to_owned(),
        seed: 1,
        outcome: if by.is_empty() { Outcome::Passed } else { Outcome::Failed },
        reason: None,
        by: by.iter().map(|by| (*by).to_owned()).collect(),
        containers: 7,
        guest_seconds: 2.0,
        artifacts: String::new(),
    }
}

fn mutant(name: &str, class: Class, by: &[&str]) -> MutantSummary {
    MutantSummary {
        name: name.to_owned(),
        title: "An id comes back".to_owned(),
        kind: "race".to_owned(),
        guarantees: vec!["G3".to_owned()],
        named: vec!["NS-G3-UNIQUE".to_owned()],
        class,
        reason: (class == Class::Unviable).then(|| "it does not build\nnot ok 9 forged".to_owned()),
        by: by.iter().map(|by| (*by).to_owned()).collect(),
        by_named: by.contains(&"NS-G3-UNIQUE"),
        containers: 7,
        guest_seconds: 2.0,
        image_key: None,
        compiled: true,
        build_seconds: 8.0,
        runs: vec![run("plain", &[]), run("pinned", by)],
        sureness: None,
    }
}

fn summary() -> MutantsSummary {
    MutantsSummary {
        schema: SCHEMA,
        nstrail: "0.1.0".to_owned(),
        run_id: "r".to_owned(),
        outcome: Outcome::Survived,
        exit_code: 9,
        reason: None,
        reproducer: "nstrail mutants --kernel 6.12".to_owned(),
        kernel: "6.12".to_owned(),
        accelerator: Some("tcg".to_owned()),
        unmutated: Vec::new(),
        mutants: vec![
            mutant("01-a", Class::Killed, &["NS-G1-SET", "NS-G3-DENSE", "NS-G3-UNIQUE"]),
            mutant("02-b", Class::Killed, &["NS-G3-DENSE"]),
            mutant("03-c", Class::Survived, &[]),
            mutant("04-d", Class::Unviable, &[]),
        ],
        seconds: 60.0,
    }
}

#[test]
fn the_score_is_of_those_that_could_be_killed() {
    let summary = summary();
    assert_eq!(summary.score().map(f64::round), Some(67.0));
    let text = text(&summary);
    let last = "score 66.7 %: 4 mutants, 2 killed, 1 survived, 1 unviable (1 by none of the invariants that they name)";
    assert!(text.contains(last), "{text}");
    assert!(text.contains("NS-G3-UNIQUE NS-G1-SET +1"), "{text}");
    assert!(text.contains("NS-G3-DENSE (none that it names)"), "{text}");
    assert!(text.contains("03-c survived: An id comes back"), "{text}");
    let none = MutantsSummary { reason: Some("smoke failed".to_owned()), ..summary };
    assert!(super::text(&none).contains("no score: 4 mutants"));
}

#[test]
fn a_survivor_is_not_ok_and_nothing_forges_a_line() {
    let text = ktap(&summary());
    let results: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        results,
        [
            "KTAP version 1",
            "1..4",
            "ok 1 01-a",
            "ok 2 02-b",
            "not ok 3 03-c # survived",
            "ok 4 04-d # SKIP unviable: it does not build\\x0anot ok 9 forged",
        ]
    );
}

#[test]
fn perturbations_are_compared_by_what_they_have_shown() {
    let text = measured(&summary());
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["mutant", "scenario", "plain", "pinned"]);
    assert_eq!(lines[1], ["01-a", "smoke", "0/1", "1/1"]);
    assert_eq!(lines[5], ["all", "0/4", "2/4"]);
    assert_eq!(lines[6], ["seconds", "a", "run", "2.0", "2.0"]);
}
