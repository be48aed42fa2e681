// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants on a real kernel: one that is killed, one that nothing can see, one that does not build; and that the mutants of the
//! checkout are whole.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use common::{expect, machine, root, text};
use nstrail::{
    kernel::Patch,
    plan::mutant::{FaultKind, Mutant},
};
use serde_json::Value;

const LINES: [&str; 5] = ["5.10", "6.1", "6.12", "7.2", "7.3"];

/// A mutant of 6.12: replaces a line of kernel/audit_nsid.c as the series leaves it.
fn plant(folder: &Path, name: &str, old: &str, new: &str) {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    let table = "title = \"t\"\nkind = \"always\"\nguarantees = [\"G3\"]\ninvariants = [\"NS-G3-DENSE\"]\n\
                 scenarios = [\"smoke\"]\nmissed = \"m\"\n";
    fs::write(folder.join("mutant.toml"), table).unwrap();
    let patch = format!(
        "Subject: [PATCH] t\n\n---\n--- a/kernel/audit_nsid.c\n+++ b/kernel/audit_nsid.c\n@@ -223,3 +223,3 @@\n \
         {{\n-{old}\n+{new}\n }}\n"
    );
    fs::write(folder.join("fault.patch"), patch).unwrap();
}

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("latest/mutants.json")).unwrap()).unwrap()
}

fn classes(summary: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mutants = summary["mutants"].as_array().unwrap();
    mutants.iter().map(|mutant| (text(&mutant["name"]), text(&mutant["class"]))).collect()
}

const NUMBER: &str = "\tnsid->id = atomic64_inc_return(last);";

#[test]
fn a_fault_is_killed_survives_or_is_not_viable() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("mutants");
    plant(&folder, "01-every-other-number", NUMBER, "\tnsid->id = atomic64_add_return(2, last);");
    plant(&folder, "02-the-same-otherwise", NUMBER, "\tnsid->id = atomic64_add_return(1, last);");
    let dir = folder.display().to_string();
    let args = |more: &[&str]| -> Vec<String> {
        let common = ["mutants", "--kernel", "6.12", "--scenario", "smoke", "--dir", &dir];
        common.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let run = |code: i32, more: &[&str]| {
        let args = args(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        text(&expect(code, out.path(), &args).stdout)
    };

    let said = run(9, &[]);
    let found = summary(out.path());
    let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, class)| ((*name).to_owned(), (*class).to_owned())).collect()
    };
    let both = of(&[("01-every-other-number", "killed"), ("02-the-same-otherwise", "survived")]);
    assert_eq!(classes(&found), both, "{said}");
    assert_eq!(found["exit_code"], 9);
    let killed = &found["mutants"][0];
    assert_eq!(killed["by_named"], true, "{killed:#}");
    assert!(killed["by"].as_array().unwrap().contains(&"NS-G3-DENSE".into()), "{killed:#}");
    assert!(killed["containers"].as_u64().unwrap() > 0, "{killed:#}");
    assert!(said.contains("score 50.0 %: 2 mutants, 1 killed, 1 survived"), "{said}");
    let ktap = fs::read_to_string(out.path().join("latest/report.ktap")).unwrap();
    let not_ok = "\nnot ok 2 02-the-same-otherwise # survived\n";
    assert!(ktap.contains("\nok 1 01-every-other-number\n") && ktap.contains(not_ok), "{ktap}");

    // Parts, and what a diff touches.
    let second = run(9, &["--partition", "slice:2/2"]);
    assert!(second.contains("score 0.0 %: 1 mutants"), "{second}");
    let diff = |line: usize| {
        let path = out.path().join("change.diff");
        let hunk =
            format!("--- a/kernel/audit_nsid.c\n+++ b/kernel/audit_nsid.c\n@@ -{line},0 +{line},1 @@\n+x\n");
        fs::write(&path, hunk).unwrap();
        path.display().to_string()
    };
    let listed = run(0, &["--list", "--in-diff", &diff(226)]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    run(8, &["--list", "--in-diff", &diff(20)]);

    // One that does not build is a fault of its own, and is told in the words of the compiler.
    plant(&folder, "03-no-such-function", NUMBER, "\tnsid->id = atomic63_inc_return(last);");
    let said = run(4, &["03"]);
    assert!(said.contains("03-no-such-function, unviable") && said.contains("atomic63_inc_return"), "{said}");
    plant(&folder, "03-no-such-function", "\tno such line", NUMBER);
    let said = run(4, &["03"]);
    assert!(said.contains("03-no-such-function, unviable") && said.contains("does not apply"), "{said}");
}

/// What the series itself does not pass says nothing about a fault.
#[test]
fn there_is_no_score_for_a_series_that_does_not_pass() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("mutants");
    plant(&folder, "01-t", NUMBER, "\tnsid->id = atomic64_add_return(1, last);");
    let series = common::series_and(out.path(), "\tid = audit_nsid_current();", &["\tid++;"], 0);
    let (dir, series) = (folder.display().to_string(), series.path().display().to_string());
    let args = ["mutants", "--kernel", "6.12", "--scenario", "smoke", "--dir", &dir, "--series", &series];
    let said = text(&expect(1, out.path(), &args).stdout);
    assert!(
        said.contains("no score: the series without any fault is failed in smoke (plain) by NS-"),
        "{said}"
    );
    assert!(classes(&summary(out.path())).is_empty(), "{said}");
}

#[test]
fn what_cannot_be_is_told_before_anything_is_built() {
    let out = tempfile::tempdir().unwrap();
    for (args, words) in [
        (&["mutants", "nine"][..], &["no mutant `nine`", "01-"][..]),
        (&["mutants", "--unpatched"], &["--unpatched"]),
        (&["mutants", "--perturb", "pinned"], &["--perturbation"]),
        (&["mutants", "--partition", "slice:3/2"], &["slice:3/2"]),
        (&["mutants", "--perturbation", "loud"], &["invalid value 'loud'", "pinned"]),
        (&["mutants", "--scenario", "smok"], &["no scenario `smok`"]),
        (&["mutants", "--dir", "/nonexistent"], &["/nonexistent"]),
        (&["run", "--perturb", "loud"], &["invalid value 'loud'", "pinned"]),
    ] {
        let said = text(&expect(2, out.path(), args).stderr);
        assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
    }
}

fn all() -> Vec<Mutant> {
    Mutant::read_all(&root().join("patches/mutants")).unwrap()
}

/// As many as the contract has guarantees to break, in every way that there is.
#[test]
fn every_guarantee_is_broken_three_times_and_in_four_ways() {
    let mutants = all();
    assert!(mutants.len() >= 40, "{}", mutants.len());
    for guarantee in ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9"] {
        let breaks = |mutant: &&Mutant| mutant.guarantees.iter().any(|broken| broken == guarantee);
        let count = mutants.iter().filter(breaks).count();
        assert!(count >= 3, "{guarantee} is broken by {count}");
    }
    for kind in [FaultKind::Always, FaultKind::Limit, FaultKind::Race, FaultKind::Silent] {
        assert!(mutants.iter().filter(|mutant| mutant.kind == kind).count() >= 3, "{kind}");
    }
    let mut numbers: Vec<&str> =
        mutants.iter().map(|mutant| mutant.name.split('-').next().unwrap()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), mutants.len(), "two have the same number");
}

#[test]
fn every_mutant_has_a_patch_for_each_of_its_kernels() {
    for mutant in all() {
        for line in LINES.iter().filter(|line| mutant.is_for(line)) {
            let path: PathBuf = mutant.patch(line);
            let bytes = fs::read(&path).unwrap();
            let patch = Patch::parse(&mutant.name, &bytes).unwrap();
            assert!(!patch.subject.is_empty(), "{} has no subject", path.display());
            let header = String::from_utf8_lossy(&bytes);
            assert!(header.contains("Signed-off-by: "), "{}", path.display());
        }
    }
}

/// A fault that does not apply is none. These kernels are in the cache of whoever runs the tests.
#[test]
fn every_mutant_applies_to_the_series() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    for line in ["5.10", "6.12", "7.3"] {
        let said = text(&expect(0, out.path(), &["mutants", "--dry-run", "--kernel", line]).stdout);
        let applied = said.lines().filter(|line| line.ends_with(" applies")).count();
        assert_eq!(applied, all().iter().filter(|mutant| mutant.is_for(line)).count(), "{said}");
    }
}
