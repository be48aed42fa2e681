// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix on a real kernel: budget, partitions, merging, going on after an interruption, a bad baseline.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use common::{expect, machine, root, summary, text};
use serde_json::Value;

/// Name, vCPUs and outcome of each cell of the first kernel.
fn cells(summary: &Value) -> Vec<(String, u64, String)> {
    summary["kernels"][0]["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ran| {
            let text = |name: &str| ran[name].as_str().unwrap().to_owned();
            (text("name"), ran["vcpus"].as_u64().unwrap(), text("outcome"))
        })
        .collect()
}

fn passed(cells: &[(&str, u64)]) -> Vec<(String, u64, String)> {
    cells.iter().map(|(name, vcpus)| ((*name).to_owned(), *vcpus, "passed".to_owned())).collect()
}

const CELLS: [&str; 6] = ["matrix", "--kernel", "6.12", "--config", "plain", "--vcpus=1,2"];

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    CELLS.iter().copied().chain(["smoke", "nest"]).chain(more.iter().copied()).collect()
}

fn run_folder(out: &Path) -> String {
    out.join(fs::read_link(out.join("latest")).unwrap()).display().to_string()
}

#[test]
fn the_matrix_of_the_checkout_has_every_kernel_and_debug_options_for_two() {
    let out = tempfile::tempdir().unwrap();
    let listed = |args: &[&str]| {
        let args: Vec<&str> =
            ["matrix", "--dry-run", "smoke"].into_iter().chain(args.iter().copied()).collect();
        text(&expect(0, out.path(), &args).stdout)
    };
    let all = listed(&[]);
    let mut lines = all.lines().filter(|line| !line.contains('+'));
    let kernels = ["5.10", "6.1", "6.12", "7.2", "7.3"];
    assert!(kernels.iter().all(|kernel| lines.next() == Some(&format!("{kernel}/smoke/2"))), "{all}");
    assert_eq!(lines.next(), None, "{all}");
    for config in ["lockdep", "kasan", "kcsan", "kmemleak"] {
        let with = |kernel: &str| all.contains(&format!("{kernel}+{config}/smoke/2\n"));
        assert_eq!(kernels.map(with), [false, false, true, false, true], "{config} in\n{all}");
    }
    // Who names a kernel and a configuration has their own way.
    assert_eq!(listed(&["--kernel", "6.1", "--config", "lockdep"]), "6.1+lockdep/smoke/2\n");
    assert_eq!(listed(&["--kernel", "6.1"]), "6.1/smoke/2\n");
}

#[test]
fn the_parts_of_a_matrix_merge_into_the_whole() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let listed = text(&expect(0, out.path(), &args(&["--dry-run"])).stdout);
    assert_eq!(listed, "6.12/smoke/1\n6.12/smoke/2\n6.12/nest/1\n6.12/nest/2\n");

    expect(0, out.path(), &args(&["--partition", "slice:1/2"]));
    let first = run_folder(out.path());
    let part = summary(out.path());
    assert_eq!(cells(&part), passed(&[("smoke", 1), ("smoke", 2)]));
    // The kernel without the series ran beside it.
    let beside = &part["kernels"][0]["baseline"];
    assert_eq!(beside["scenarios"][0]["name"], "smoke", "{beside:#}");
    assert_eq!(beside["scenarios"][0]["outcome"], "passed", "{beside:#}");

    expect(0, out.path(), &args(&["--partition", "slice:2/2"]));
    let second = run_folder(out.path());
    let merged = expect(0, out.path(), &["merge", &first, &second]);
    let whole = summary(out.path());
    assert_eq!(cells(&whole), passed(&[("smoke", 1), ("smoke", 2), ("nest", 1), ("nest", 2)]));
    assert!(text(&merged.stdout).contains("nstrail 0.1.0: passed"), "{}", text(&merged.stdout));
    let artifacts = whole["kernels"][0]["scenarios"][3]["artifacts"].as_str().unwrap();
    assert!(out.path().join("latest").join(artifacts).join("audit.log").is_file(), "{artifacts}");

    // Twice the same part is no whole.
    let refused = text(&expect(2, out.path(), &["merge", &first, &first]).stderr);
    assert!(refused.contains("6.12/smoke/1 is in two of them"), "{refused}");
}

#[test]
fn an_interrupted_matrix_goes_on_where_it_was() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nstrail"))
        .args(args(&["--no-baseline"]))
        .env("NSTRAIL_OUT", out.path())
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // As soon as one cell is done.
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    for line in lines.by_ref() {
        said.push_str(&line);
        said.push('\n');
        if line.contains("passed in") {
            let pid = i32::try_from(child.id()).unwrap();
            // SAFETY: the child is ours and not reaped yet.
            unsafe { libc::kill(pid, libc::SIGINT) };
            break;
        }
    }
    said.extend(lines.map(|line| line + "\n"));
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(said.contains("interrupted (hint: what is done is kept, --resume "), "{said}");
    let folder = fs::read_dir(out.path()).unwrap().next().unwrap().unwrap().path();
    let journal = fs::read_to_string(folder.join("journal.jsonl")).unwrap();
    let done = journal.lines().count() - 1;
    assert!((1..4).contains(&done), "{done} of 4 cells were done\n{said}");

    let other = ["matrix", "--kernel", "6.12", "--vcpus=1", "smoke", "--resume", folder.to_str().unwrap()];
    let refused = text(&expect(2, out.path(), &other).stderr);
    assert!(refused.contains("another matrix"), "{refused}");

    let resumed = expect(0, out.path(), &args(&["--no-baseline", "--resume", folder.to_str().unwrap()]));
    let said = text(&resumed.stderr);
    assert!(said.contains(&format!("{done} cells are done already")), "{said}");
    assert_eq!(said.matches("passed in").count(), 4 - done, "{said}");
    assert_eq!(cells(&summary(out.path())), passed(&[("smoke", 1), ("smoke", 2), ("nest", 1), ("nest", 2)]));
}

#[test]
fn what_fails_without_the_series_too_is_no_verdict_about_it() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let scenario = out.path().join("short.toml");
    let churn = text(&expect(0, out.path(), &["scenarios", "show", "churn"]).stdout);
    // 50,000 containers in a second: no kernel gets so far.
    let mut lines: Vec<String> = churn.lines().map(str::to_owned).collect();
    for line in &mut lines {
        if line.starts_with("name = ") {
            "name = \"short\"".clone_into(line);
        } else if line.starts_with("wall_seconds") {
            "wall_seconds = 1".clone_into(line);
        }
    }
    assert!(lines.iter().any(|line| line == "wall_seconds = 1"));
    fs::write(&scenario, lines.join("\n")).unwrap();
    let scenario = scenario.to_str().unwrap();
    let run = ["matrix", "--kernel", "6.12", "--config", "plain", "--retries", "1", "smoke", scenario];
    let output = expect(10, out.path(), &run);
    let summary = summary(out.path());
    let ran = &summary["kernels"][0]["scenarios"];
    assert_eq!(ran[0]["outcome"], "passed", "{ran:#}");
    assert_eq!(ran[1]["outcome"], "inconclusive", "{ran:#}");
    assert_eq!(ran[1]["baseline"], "fails_before_and_after", "{ran:#}");
    assert_eq!(ran[1]["attempts"], serde_json::json!(["timed_out"]), "{ran:#}");
    assert!(text(&output.stdout).contains("fails before and after"), "{}", text(&output.stdout));

    // Only what was not passed runs again.
    let folder = run_folder(out.path());
    let again = expect(10, out.path(), &[&run[..], &["--rerun-failed", &folder]].concat());
    let said = text(&again.stderr);
    assert!(said.contains("6.12/short/2") && !said.contains("6.12/smoke/2: "), "{said}");

    // A configuration may ask the kernel without the series only then.
    let file = out.path().join("matrix.toml");
    fs::write(&file, "kernels = [\"6.12\"]\n[[config]]\nbaseline = \"on-failure\"\n").unwrap();
    let lazy = ["matrix", "--file", file.to_str().unwrap(), "smoke"];
    expect(0, out.path(), &lazy);
    assert_eq!(beside(out.path()), Vec::<String>::new());
    let failing = [&lazy[..], &[scenario]].concat();
    expect(10, out.path(), &failing);
    assert_eq!(beside(out.path()), ["smoke", "short"]);
    let folder = run_folder(out.path());
    expect(10, out.path(), &[&failing[..], &["--resume", &folder]].concat());
    assert_eq!(beside(out.path()), ["smoke", "short"]);
}

/// What ran without the series.
fn beside(out: &Path) -> Vec<String> {
    let summary = summary(out);
    let ran = summary["kernels"][0]["baseline"]["scenarios"].as_array();
    ran.into_iter().flatten().map(|ran| ran["name"].as_str().unwrap().to_owned()).collect()
}
