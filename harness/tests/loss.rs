// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss provoked on purpose, in real guests: such a run never passes, and its verdict names the cause.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::{expect, machine, summary, text};

/// Containers before and after somebody meddles with audit.
fn scenario(meddle: &str) -> String {
    let spawn = "[[step]]\nspawn = { call = \"clone3\", flags = [\"uts\"], inside = [{ probe = \"user_message\" }] }\n";
    format!(
        "name = \"meddle\"\ndescription = \"somebody meddles with audit\"\nvcpus = 2\nmemory_mib = 512\nwall_seconds = 120\n\
         silence_seconds = 60\nsnapshot = false\n\n{spawn}[[step]]\nmeddle = \"{meddle}\"\n{spawn}[[step]]\nfence = {{}}\n"
    )
}

#[test]
fn each_kind_of_loss_is_inconclusive_and_named() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("meddle.toml");
    for (meddle, cause) in [
        ("backlog", "backlog_wait_time=0"),
        ("rate_limit", "a rate limit of 100"),
        ("exclude", "1 exclude rules stood after the last step"),
        ("exclude_briefly", "rules of the lists exclude and task were changed"),
        ("disable", "audit was disabled 1 times by the log and 0 times by the agent"),
        ("daemon", "took the audit daemon's place"),
        ("stop_reader", "drops on the multicast socket"),
    ] {
        fs::write(&path, scenario(meddle)).unwrap();
        let output = expect(10, out.path(), &["run", path.to_str().unwrap()]);
        let summary = summary(out.path());
        let ran = &summary["kernels"][0]["scenarios"][0];
        assert_eq!(ran["outcome"], "inconclusive", "{meddle}: {ran:#}");
        let doubts = ran["loss_doubts"].to_string();
        assert!(doubts.contains(cause), "{meddle}: expected `{cause}` among {doubts}");
        // Nor does the reader of the verdict have to look for it elsewhere.
        let verdict = text(&output.stdout);
        assert!(verdict.contains(cause), "{meddle}: expected `{cause}` in\n{verdict}");
        if matches!(meddle, "backlog" | "rate_limit") {
            assert!(ran["figures"]["lost"].as_u64().unwrap() > 0, "{meddle}: {ran:#}");
        }
    }
}
