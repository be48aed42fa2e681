// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recorded runs, checked again and compared with the reviewed snapshots: no VM, no kernel, no clock.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use nstrail::{
    check::{NoSink, Outcome},
    run::{
        capture,
        execute::{check_options, titles},
        replay,
    },
    snapshot::{Comparison, Lineage, Mode, Shelf},
};

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `runs/LINE/SCENARIO`: folders as a run leaves them.
fn runs() -> Vec<(String, PathBuf)> {
    let mut runs = Vec::new();
    for line in fs::read_dir(package().join("runs")).expect("recorded runs").map(Result::unwrap) {
        for run in fs::read_dir(line.path()).unwrap().map(Result::unwrap) {
            runs.push((line.file_name().into_string().unwrap(), run.path()));
        }
    }
    runs.sort();
    assert!(runs.len() >= 3, "recorded runs are missing: {runs:?}");
    runs
}

#[test]
fn every_recorded_run_passes_and_matches_its_snapshot() {
    for (line, run) in runs() {
        let scenario = replay::scenario(&run).unwrap();
        let sink = Lineage::new(scenario.name.clone(), titles(&scenario));
        let (check, sink) = replay::replay(&run, check_options(&line), sink).unwrap();
        assert_eq!(
            check.outcome(),
            Outcome::Passed,
            "{}: {:#?} {:?}",
            run.display(),
            check.findings,
            check.loss
        );
        let shelf = Shelf::new(package());
        let compared = shelf.compare(&scenario.name, &line, &sink.finish(), Mode::Deny).unwrap();
        assert!(matches!(compared, Comparison::Match { .. }), "{}: {compared:#?}", run.display());
    }
}

/// A copy of a run with its audit log changed.
fn changed(run: &Path, change: impl Fn(Vec<&str>) -> Vec<String>) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in [capture::LEDGER, capture::SCENARIO] {
        fs::copy(run.join(name), copy.path().join(name)).unwrap();
    }
    let log = fs::read_to_string(run.join(capture::AUDIT_LOG)).unwrap();
    let lines = change(log.lines().collect());
    fs::write(copy.path().join(capture::AUDIT_LOG), lines.join("\n") + "\n").unwrap();
    copy
}

fn outcome_of(run: &Path, line: &str) -> Outcome {
    replay::replay(run, check_options(line), NoSink).unwrap().0.outcome()
}

#[test]
fn a_recorded_run_without_one_of_its_records_never_passes() {
    for (line, run) in runs() {
        let count = fs::read_to_string(run.join(capture::AUDIT_LOG)).unwrap().lines().count();
        // Every record in turn would take minutes; a stride that is prime to the events' lengths meets all types.
        for missing in (0..count).step_by(7) {
            let copy = changed(&run, |lines| {
                let kept = lines.iter().enumerate().filter(|(index, _)| *index != missing);
                kept.map(|(_, line)| (*line).to_owned()).collect()
            });
            assert_ne!(
                outcome_of(copy.path(), &line),
                Outcome::Passed,
                "{} without line {}",
                run.display(),
                missing + 1
            );
        }
    }
}

#[test]
fn a_recorded_run_with_an_inode_number_changed_fails() {
    for (line, run) in runs() {
        let copy = changed(&run, |lines| {
            let last = lines.iter().rposition(|line| line.contains("op=clone")).unwrap();
            let change = |(index, line): (usize, &&str)| {
                if index == last { line.replacen(",uts:", ",uts:9", 1) } else { (*line).to_owned() }
            };
            lines.iter().enumerate().map(change).collect()
        });
        assert_eq!(outcome_of(copy.path(), &line), Outcome::Failed, "{}", run.display());
    }
}

#[test]
fn a_recorded_run_with_a_namespace_id_changed_fails() {
    let with_ids = runs().into_iter().filter(|(line, _)| check_options(line).ns_ids == Some(true));
    let mut tried = 0;
    for (line, run) in with_ids {
        // That of a new namespace: nothing but the kernel's own word, in the ledger, says what it must be.
        let copy = changed(&run, |lines| {
            let last = lines.iter().rposition(|line| line.contains("op=clone")).unwrap();
            assert!(lines[last].contains("flags=CLONE_NEWUTS "), "the marker's set: {}", lines[last]);
            let change = |(index, line): (usize, &&str)| {
                let at = line.rfind(",uts:").filter(|_| index == last);
                at.map_or_else(|| (*line).to_owned(), |at| line[..at].to_owned() + ",uts:4711 res=1")
            };
            lines.iter().enumerate().map(change).collect()
        });
        assert_eq!(outcome_of(copy.path(), &line), Outcome::Failed, "{}", run.display());
        tried += 1;
    }
    assert!(tried > 0);
}
