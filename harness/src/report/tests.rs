// SPDX-License-Identifier: MIT OR Apache-2.0
//! No word of a patch, a guest or a compiler makes a line of its own, in any report, or does anything to its reader.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::{
    escape::{self, is_active},
    ktap,
    summary::{
        ConsoleSummary, Failure, FindingSummary, KernelSummary, KnownSummary, PatchSummary, RunSummary,
        ScenarioSummary, SeriesSummary, SnapshotState,
    },
    verdict,
};
use crate::outcome::Outcome;

/// What mails, guests and compilers have tried on somebody.
const PIECES: [&str; 24] = [
    "\u{1b}[2J",
    "\u{1b}]0;title\u{7}",
    "\r",
    "\n",
    "\r\n",
    "\u{7}",
    "\u{8}",
    "\u{9b}1A",
    "\u{85}",
    "\u{202e}",
    "\u{2066}",
    "\u{2028}",
    "\u{feff}",
    "\0",
    "not ok 1 forged",
    "ok 1 forged",
    "1..0 # SKIP",
    "Bail out!",
    "# SKIP",
    "::error ::x",
    "##[error]x",
    "<script>alert(1)</script>",
    "]]>",
    " a ",
];

fn foreign() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 1..6)
        .prop_map(|pieces| pieces.concat())
}

/// A run with something in every place that text comes to from somewhere else.
fn summary(mut text: impl FnMut() -> String) -> RunSummary {
    let finding = FindingSummary {
        invariant: text(),
        expected: text(),
        found: text(),
        records: vec![text(), text()],
        ledger: vec![text()],
        lineage: vec![text()],
    };
    let known = KnownSummary { reason: text(), link: text(), expires: text(), expired: true };
    let splat = ConsoleSummary {
        kind: text(),
        fingerprint: text(),
        frames: vec![text()],
        times: 2,
        lines: vec![text(), text()],
        decoded: vec![text(), text()],
        not_decoded: Some(text()),
        known: Some(known),
    };
    let scenario = ScenarioSummary {
        reason: Some(text()),
        adapted: vec![text()],
        findings: vec![finding],
        loss_doubts: vec![text()],
        console: vec![splat],
        snapshot: SnapshotState::Changed { file: text(), pending: Some(text()), diff: text() },
        artifacts: text(),
        reproducer: text(),
        ..ScenarioSummary::new(&text(), 1, 2, Outcome::Failed, "")
    };
    let missing = ScenarioSummary {
        snapshot: SnapshotState::Missing { file: text(), pending: None },
        ..ScenarioSummary::new(&text(), 1, 2, Outcome::SnapshotPending, "")
    };
    let patch = PatchSummary {
        number: 1,
        name: text(),
        subject: text(),
        outcome: Outcome::Failed,
        reason: Some(text()),
        builds: Vec::new(),
        new_warnings: vec![text()],
        warnings_not_compared: Some(text()),
        checkpatch: vec![text()],
    };
    let kernels = vec![
        kernel(vec![scenario, missing], vec![patch], &mut text),
        kernel(Vec::new(), Vec::new(), &mut text),
    ];
    RunSummary::new("id", Outcome::Failed, text(), kernels, Duration::ZERO).with_expired_splats(vec![text()])
}

fn kernel(
    scenarios: Vec<ScenarioSummary>,
    patches: Vec<PatchSummary>,
    text: &mut dyn FnMut() -> String,
) -> KernelSummary {
    KernelSummary {
        version: text(),
        config: text(),
        source: text(),
        accelerator: Some(text()),
        accelerator_reason: Some(text()),
        failure: Some(Failure { outcome: Outcome::BuildFailed, message: text() }),
        series: Some(SeriesSummary { name: text(), patches: 1, key: text(), base_commit: None }),
        scenarios,
        patches,
        ..KernelSummary::default()
    }
}

/// Lines that a KTAP parser takes for results, plans or directives; the names in them are the user's.
fn results(report: &str) -> Vec<(usize, String)> {
    let is_result = |line: &&str| {
        let line = line.trim_start();
        ["ok ", "not ok ", "1..", "Bail out!", "KTAP version", "TAP version"]
            .iter()
            .any(|word| line.starts_with(word))
    };
    let words = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let head: Vec<&str> = line.split_whitespace().take(3).collect();
        let directive = line.split_once('#').map_or("", |(_, directive)| directive);
        let number = if head.first() == Some(&"not") { 3 } else { 2 };
        (indent, format!("{} #{directive}", head[..number.min(head.len())].join(" ")))
    };
    report.lines().filter(is_result).map(words).collect()
}

fn inert(report: &str) -> Result<(), TestCaseError> {
    for line in report.split('\n') {
        prop_assert!(!line.contains(is_active), "{line:?}");
        prop_assert!(!line.trim_start().starts_with("::") && !line.contains("##["), "{line:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn foreign_text_makes_no_result_and_no_command(texts in proptest::collection::vec(foreign(), 8..40)) {
        let mut next = texts.iter().cycle();
        let forged = summary(|| next.next().unwrap().clone());
        let plain = summary(|| "x".to_owned());

        let report = ktap::render(&forged);
        inert(&report)?;
        prop_assert_eq!(results(&report), results(&ktap::render(&plain)), "{}", report);

        let report = verdict::render(&forged);
        inert(&report)?;
        // What has one line, has one line: the first, and the last, which a reader pastes into a shell.
        let (first, last) = (report.lines().next().unwrap(), report.lines().last().unwrap());
        prop_assert!(first.starts_with("nstrail ") && last.starts_with("reproduce: "), "{}", report);

        let pretty = serde_json::to_string_pretty(&forged).unwrap();
        let report = escape::json(&pretty);
        inert(&report)?;
        prop_assert_eq!(report.lines().count(), serde_json::to_string_pretty(&plain).unwrap().lines().count());
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        prop_assert_eq!(value(&report), value(&pretty));
    }

    #[test]
    fn a_line_of_foreign_text_is_one_line(text in ".*", piece in foreign()) {
        let text = format!("{piece}{text}{piece}");
        inert(&escape::one_line(&text))?;
        prop_assert_eq!(escape::one_line(&text).lines().count().max(1), 1);
        let lines = escape::lines(&text);
        prop_assert_eq!(lines.split('\n').count(), text.split('\n').count());
        for line in lines.split('\n') {
            inert(&line.replace('\t', " "))?;
        }
        // Colours are all that is left of escapes.
        let coloured = escape::coloured(&text.replace('\n', ""));
        let rest = coloured.split('\u{1b}').skip(1).all(|rest| rest.starts_with('[') && rest.contains('m'));
        prop_assert!(rest, "{coloured:?}");
    }
}
