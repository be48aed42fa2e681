// SPDX-License-Identifier: MIT OR Apache-2.0
//! summary.json, and every report that is drawn from it.

use nstrail::report::{
    ktap, merge,
    summary::{KernelSummary, RunSummary},
    verdict,
};

/// A file.
pub fn summary(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let summary = match RunSummary::parse(text) {
        Ok(summary) => summary,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    results(&summary);
    assert!(verdict::render(&summary).starts_with("nstrail "));
    let written = serde_json::to_string(&summary).expect("JSON");
    let again = RunSummary::parse(&written).expect("the same summary");
    assert_eq!(ktap::render(&again), ktap::render(&summary));
    parts(summary);
}

/// Whatever names and texts are in it, there is one result line for each kernel, patch and scenario.
fn results(summary: &RunSummary) {
    let text = ktap::render(summary);
    assert!(text.starts_with("KTAP version 1\n1.."));
    let lines = |indent: &str| {
        text.lines()
            .filter_map(|line| line.strip_prefix(indent))
            .filter(|line| line.starts_with("ok ") || line.starts_with("not ok "))
            .count()
    };
    let inner = |kernel: &KernelSummary| kernel.patches.len() + kernel.scenarios.len();
    assert_eq!(lines(""), summary.kernels.len(), "{text}");
    assert_eq!(lines("  "), summary.kernels.iter().map(inner).sum::<usize>(), "{text}");
    let known = |line: &str| {
        let line = line.trim_start_matches(' ');
        ["KTAP version 1", "1..", "ok ", "not ok ", "#"].iter().any(|word| line.starts_with(word))
    };
    assert!(text.lines().all(known), "{text}");
}

/// A run cut into its kernels and merged again has the same results, unless it is none.
fn parts(summary: RunSummary) {
    let part = |kernel: KernelSummary| RunSummary { kernels: vec![kernel], ..summary.clone() };
    let parts: Vec<RunSummary> = summary.kernels.iter().cloned().map(part).collect();
    match merge::merge(parts, "merged") {
        Ok(merged) => {
            assert_eq!(merged.outcome, RunSummary::judge(&merged.kernels));
            results(&merged);
            let count = |summary: &RunSummary| -> usize {
                summary.kernels.iter().map(|kernel| kernel.scenarios.len()).sum()
            };
            assert_eq!(count(&merged), count(&summary));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
