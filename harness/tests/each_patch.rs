// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each patch by itself, for real: every prefix of our series is built with its symbol y and n and booted.
//!
//! A build from nothing takes two whole kernels and sixteen partial ones, most of an hour; from the cache it takes
//! seconds. So it is behind a feature: `make each-patch`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::{expect, machine, root, summary, text};
use serde_json::Value;

fn patches(summary: &Value) -> &Vec<Value> {
    summary["kernels"][0]["patches"].as_array().unwrap()
}

#[test]
fn every_patch_of_the_series_stands_by_itself() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let args = ["run", "--kernel", "6.12", "--each-patch", "--checkpatch", "deny", "smoke"];
    let output = expect(0, out.path(), &args);
    let summary = summary(out.path());
    let patches = patches(&summary);
    let count = fs::read_dir(root().join("patches/auditnsid/6.12"))
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
            name.ends_with(".patch") && !name.starts_with("0000")
        })
        .count();
    assert_eq!(patches.len(), count);
    for patch in patches {
        assert_eq!(patch["outcome"], "passed", "{patch:#}");
        let builds = patch["builds"].as_array().unwrap();
        let symbols: Vec<&str> = builds.iter().map(|build| build["symbol"].as_str().unwrap()).collect();
        assert_eq!(symbols, ["AUDIT_NSID=y", "AUDIT_NSID=n"], "{patch:#}");
        for build in builds {
            assert_eq!(build["outcome"], "passed", "{patch:#}");
            assert!(build["image_key"].is_string() && build["boot_seconds"].is_f64(), "{patch:#}");
        }
        for empty in ["new_warnings", "checkpatch"] {
            assert_eq!(patch[empty].as_array().map(Vec::len), Some(0), "{patch:#}");
        }
    }
    // Only the KUnit tests are not built: their symbol is off here.
    let left_out: Vec<&str> =
        patches.iter().filter_map(|patch| patch["warnings_not_compared"].as_str()).collect();
    assert_eq!(left_out, ["not built here: kernel/audit_nsid_test.c"]);
    let ktap = fs::read_to_string(out.path().join("latest/report.ktap")).unwrap();
    assert!(ktap.contains("\n  ok 1 patch-0001\n"), "{ktap}");
    assert!(text(&output.stdout).contains("AUDIT_NSID=n"), "{}", text(&output.stdout));
}

#[test]
fn the_first_bad_patch_is_named_with_what_is_wrong_with_it() {
    let _machine = machine();
    let (out, series) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ours = root().join("patches/auditnsid/6.12");
    let first = "0001-audit-number-the-namespace-sets-that-clone-makes.patch";
    fs::copy(ours.join(first), series.path().join(first)).unwrap();
    let tree = text(&expect(0, out.path(), &["apply"]).stdout);
    let audit = fs::read_to_string(format!("{}/kernel/audit.c", tree.lines().last().unwrap())).unwrap();
    let lines: Vec<&str> = audit.lines().collect();
    let at = lines.iter().position(|line| *line == "#include <linux/file.h>").unwrap();
    let (before, after) = (lines[at], lines[at + 1]);
    let second = "0002-audit-fail-without-the-symbol.patch";
    // No sign-off, a warning, and an error with the symbol off.
    let patch = format!(
        "From: A <a@localhost>\nSubject: [PATCH 2/2] audit: fail without the symbol\n\nWhy not.\n---\n\
         --- a/kernel/audit.c\n+++ b/kernel/audit.c\n@@ -{},2 +{},6 @@\n {before}\n+#ifndef CONFIG_AUDIT_NSID\n\
         +#error \"planted\"\n+#endif\n+static int planted;\n {after}\n",
        at + 1,
        at + 1
    );
    fs::write(series.path().join(second), patch).unwrap();
    fs::write(
        series.path().join("series.toml"),
        format!("name = \"auditnsid\"\nconfig = \"AUDIT_NSID\"\npatches = [\"{first}\", \"{second}\"]\n"),
    )
    .unwrap();
    let args = ["run", "--each-patch", "smoke", "--series", series.path().to_str().unwrap()];
    let output = expect(4, out.path(), &args);
    let summary = summary(out.path());
    let patches = patches(&summary);
    assert_eq!(patches[0]["outcome"], "passed", "{:#}", patches[0]);
    let bad = &patches[1];
    assert_eq!(bad["outcome"], "build_failed", "{bad:#}");
    assert_eq!(bad["builds"][0]["outcome"], "passed", "{bad:#}");
    let reason = bad["reason"].as_str().unwrap();
    assert!(reason.starts_with("with AUDIT_NSID=n: ") && reason.contains("kernel/audit.c:"), "{reason}");
    assert!(reason.contains("planted"), "{reason}");
    let warning = bad["new_warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("kernel/audit.c:") && warning.contains("'planted' defined but not used"),
        "{bad:#}"
    );
    let said = bad["checkpatch"].to_string();
    assert!(said.contains("MISSING_SIGN_OFF"), "{said}");
    assert!(text(&output.stdout).contains("first bad patch: 2 audit: fail without the symbol"), "{output:?}");
}
