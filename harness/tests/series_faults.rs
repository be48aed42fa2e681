// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our series with one more patch that has a fault, for real: each must end in its own verdict, and name the place.
//! One object is compiled and the kernel linked again, once; the image comes from the cache afterwards.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{expect, machine, series_and, summary, text};

#[test]
fn a_patch_that_applies_elsewhere_is_told_with_its_offset() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let series = series_and(out.path(), "#include <linux/file.h>", &["/* planted */"], 7);
    let output = expect(0, out.path(), &["--quiet", "apply", "--series", series.path().to_str().unwrap()]);
    let said = text(&output.stderr);
    assert!(
        said.contains("0010-audit-plant-a-fault.patch: ") && said.contains("offset of -7 lines"),
        "{said}"
    );
}

#[test]
fn a_patch_that_does_not_compile_is_named_by_file_and_line() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let series = series_and(out.path(), "#include <linux/file.h>", &["#error planted"], 0);
    let output = expect(4, out.path(), &["run", "--series", series.path().to_str().unwrap(), "smoke"]);
    let summary = summary(out.path());
    assert_eq!(summary["outcome"], "build_failed");
    let failure = &summary["kernels"][0]["failure"];
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("kernel/audit.c:") && message.contains("#error planted"), "{message}");
    let said = text(&output.stderr);
    assert!(said.contains("a kernel does not build (exit code 4)"), "{said}");
}

#[test]
fn a_patch_that_does_not_boot_is_told_by_its_panic() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let anchor = "\taudit_buffer_cache = KMEM_CACHE(audit_buffer, SLAB_PANIC);";
    let series = series_and(out.path(), anchor, &["\tpanic(\"planted\");"], 0);
    let output = expect(5, out.path(), &["run", "--series", series.path().to_str().unwrap(), "smoke"]);
    let summary = summary(out.path());
    let ran = &summary["kernels"][0]["scenarios"][0];
    assert_eq!(ran["outcome"], "crashed", "{ran:#}");
    assert!(ran["reason"].as_str().unwrap().contains("panic"), "{ran:#}");
    assert!(ran["console"].to_string().contains("planted"), "{ran:#}");
    assert!(text(&output.stdout).contains("crashed"), "{}", text(&output.stdout));
}
