// SPDX-License-Identifier: MIT OR Apache-2.0
//! KTAP version 1 (Documentation/dev-tools/ktap.rst): one test a kernel, its patches (with --each-patch) and scenarios as subtests.
//!
//! Anything but `passed` is `not ok`, except `skipped`, which KTAP writes as `ok ... # SKIP`. Text that comes
//! from a guest or a patch goes into diagnostic lines with control characters escaped, so that it
//! can never be read as a result line.

use std::fmt::Write as _;

use super::{
    escape::one_line,
    summary::{KernelSummary, PatchSummary, RunSummary, ScenarioSummary},
    verdict,
};
use crate::outcome::Outcome;

/// The whole document.
#[must_use]
pub fn render(summary: &RunSummary) -> String {
    let mut out = format!("KTAP version 1\n1..{}\n", summary.kernels.len());
    for (index, kernel) in summary.kernels.iter().enumerate() {
        render_kernel(&mut out, index + 1, kernel);
    }
    for expired in &summary.expired_splats {
        let _ = writeln!(out, "# {}", one_line(expired));
    }
    out
}

fn render_kernel(out: &mut String, number: usize, kernel: &KernelSummary) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "  KTAP version 1\n  1..{}", kernel.patches.len() + kernel.scenarios.len());
    for (index, patch) in kernel.patches.iter().enumerate() {
        render_patch(out, index + 1, patch);
    }
    for (index, scenario) in kernel.scenarios.iter().enumerate() {
        render_scenario(out, kernel.patches.len() + index + 1, scenario);
    }
    let outcome = RunSummary::judge(std::slice::from_ref(kernel));
    if let Some(failure) = &kernel.failure {
        for line in failure.message.lines() {
            let _ = writeln!(out, "# {}", one_line(line));
        }
    }
    let _ = writeln!(out, "{}", result_line(number, &format!("linux-{}", kernel.title()), outcome));
}

fn render_patch(out: &mut String, number: usize, patch: &PatchSummary) {
    let mut diagnostic = |text: &str| {
        for line in text.lines() {
            let _ = writeln!(out, "  # {}", one_line(line));
        }
    };
    diagnostic(&patch.subject);
    if let Some(reason) = &patch.reason {
        diagnostic(reason);
    }
    for warning in &patch.new_warnings {
        diagnostic(&format!("new warning: {warning}"));
    }
    for line in &patch.checkpatch {
        diagnostic(&format!("checkpatch: {line}"));
    }
    let _ = writeln!(out, "  {}", result_line(number, &format!("patch-{:04}", patch.number), patch.outcome));
}

fn render_scenario(out: &mut String, number: usize, scenario: &ScenarioSummary) {
    let mut diagnostic = |text: &str| {
        for line in text.lines() {
            let _ = writeln!(out, "  # {}", one_line(line));
        }
    };
    if let Some(reason) = &scenario.reason {
        diagnostic(reason);
    }
    for outcome in &scenario.attempts {
        diagnostic(&format!("an earlier attempt: {outcome}"));
    }
    for finding in &scenario.findings {
        diagnostic(&format!("{}: expected {}, found {}", finding.invariant, finding.expected, finding.found));
        for record in &finding.records {
            diagnostic(&format!("  {record}"));
        }
    }
    for doubt in &scenario.loss_doubts {
        diagnostic(&format!("not proven lossless: {doubt}"));
    }
    for splat in &scenario.console {
        diagnostic(&format!("console: {}", verdict::splat_line(splat)));
    }
    let _ = writeln!(out, "  {}", result_line(number, &scenario.name, scenario.outcome));
}

fn result_line(number: usize, name: &str, outcome: Outcome) -> String {
    // What follows a `#` is a directive.
    let name = one_line(name).replace('#', "\\x23");
    match outcome {
        Outcome::Passed => format!("ok {number} {name}"),
        Outcome::Skipped => format!("ok {number} {name} # SKIP"),
        other => format!("not ok {number} {name} # {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_adds_no_line_and_no_directive() {
        let kernel = KernelSummary {
            version: "6.12\nok 2 forged".to_owned(),
            scenarios: vec![ScenarioSummary::new("smoke # SKIP", 1, 2, Outcome::Failed, "")],
            ..KernelSummary::default()
        };
        let summary =
            RunSummary::new("r", Outcome::Failed, String::new(), vec![kernel], std::time::Duration::ZERO);
        let text = render(&summary);
        assert!(text.contains("\n  not ok 1 smoke \\x23 SKIP # failed\n"), "{text}");
        assert!(text.ends_with("\nnot ok 1 linux-6.12\\x0aok 2 forged # failed\n"), "{text}");
    }
}
