// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection of a long series for real: thirty patches on top of ours, of which one makes the id counter go by two.
//!
//! Each step compiles three objects and links the kernel, the first time; then the images are in the cache.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::Path};

use common::{expect, machine, text};
use serde_json::Value;
use tempfile::TempDir;

const FAULT: usize = 17;

/// Thirty patches that change nothing, but for one.
fn series(tree: &Path) -> TempDir {
    let mut files = ["kernel/audit.c", "kernel/auditsc.c", "kernel/audit_nsid.c"].map(|name| {
        let text = fs::read_to_string(tree.join(name)).unwrap();
        (name, text.lines().map(str::to_owned).collect::<Vec<_>>())
    });
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=30 {
        let (name, lines) = &mut files[if number == FAULT { 2 } else { number % 3 }];
        let (at, removed, added) = if number == FAULT {
            let counts = "\tnsid->id = atomic64_inc_return(last);";
            let at = lines.iter().position(|line| line == counts).unwrap();
            (at, 1, vec!["\tnsid->id = atomic64_add_return(2, last);".to_owned()])
        } else {
            let at = lines.iter().rposition(|line| line.starts_with("#include <linux/")).unwrap() + 1;
            let added = if number % 2 == 0 {
                let function = format!("static int __maybe_unused audit_step_{number}(int x)");
                vec![
                    String::new(),
                    function,
                    "{".to_owned(),
                    format!("\treturn x + {number};"),
                    "}".to_owned(),
                ]
            } else {
                vec![format!("/* Remark number {number}. */")]
            };
            (at, 0, added)
        };
        let part = |sign: char, lines: &[String]| -> String {
            lines.iter().map(|line| format!("{sign}{line}\n")).collect()
        };
        let mail = format!(
            "From: A <a@localhost>\nSubject: [PATCH {number}/30] audit: step {number}\n\nWhy not.\n---\n--- a/{name}\n+++ \
             b/{name}\n@@ -{from},{old} +{from},{new} @@\n{}{}{}{}",
            part(' ', &lines[at - 3..at]),
            part('-', &lines[at..at + removed]),
            part('+', &added),
            part(' ', &lines[at + removed..at + removed + 3]),
            from = at - 2,
            old = 6 + removed,
            new = 6 + added.len(),
        );
        fs::write(folder.path().join(format!("{number:04}-audit-step-{number}.patch")), mail).unwrap();
        lines.splice(at..at + removed, added);
    }
    folder
}

#[test]
fn one_bad_patch_of_thirty_is_found_in_five_steps_and_taken_out() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let tree = text(&expect(0, out.path(), &["apply", "--kernel", "6.12"]).stdout);
    let series = series(Path::new(tree.lines().last().unwrap()));
    let arguments = [
        "bisect",
        "--kernel",
        "6.12",
        "--on",
        "6.12",
        "--series",
        series.path().to_str().unwrap(),
        "--rate",
        "1",
    ];
    let more = ["--expect", "NS-G3-DENSE", "smoke"];
    let output = expect(0, out.path(), &[&arguments[..], &more[..]].concat());
    let result: Value =
        serde_json::from_slice(&fs::read(out.path().join("latest/bisect.json")).unwrap()).unwrap();
    assert_eq!(result["end"]["candidate"], FAULT, "{result:#}");
    assert_eq!(result["verification"]["state"], "yes", "{result:#}");
    let steps = result["steps"].as_array().unwrap();
    let searched = steps.iter().filter(|step| step["purpose"] == "search").count();
    assert!(searched <= 5 && steps.len() == searched + 3, "{result:#}");
    let shown = text(&output.stdout);
    assert!(shown.contains("first bad patch: 17 audit: step 17\n"), "{shown}");
    assert!(shown.contains("verified: the series without this patch is good"), "{shown}");
}
