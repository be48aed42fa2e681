// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verdict as text: short enough to paste into a mail, whole enough to act on.

use std::fmt::Write as _;

use super::{
    escape::one_line,
    summary::{
        ConsoleSummary, Figures, FindingSummary, KernelSummary, KnownSummary, PatchSummary, RunSummary,
        ScenarioSummary, SnapshotState, SplatSummary,
    },
};
use crate::outcome::Outcome;

/// Findings written out in full for each scenario; the rest is in summary.json.
const FINDINGS_SHOWN: usize = 5;

/// Lines of a splat, and places where it was seen, that are written out.
const SPLAT_LINES_SHOWN: usize = 40;
const PLACES_SHOWN: usize = 8;

/// The whole verdict, plain text, no colour, lines below 100 characters where the content allows.
#[must_use]
pub fn render(summary: &RunSummary) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let version = one_line(&summary.nstrail);
    let _ = writeln!(out, "nstrail {version}: {} ({:.1} s)", summary.outcome, summary.seconds);
    for kernel in &summary.kernels {
        render_kernel(&mut out, kernel);
    }
    if summary.kernels.len() > 1 {
        render_table(&mut out, &summary.kernels);
    }
    for splat in &summary.splats {
        render_splat(&mut out, splat);
    }
    for expired in &summary.expired_splats {
        let _ = writeln!(out, "\n{}", one_line(expired));
    }
    let _ = writeln!(out, "\nreproduce: {}", one_line(&summary.reproducer));
    out
}

/// A splat in one line: its kind, its fingerprint, what it says, and what is known of it.
#[must_use]
pub fn splat_line(splat: &ConsoleSummary) -> String {
    let mut line = format!("{} {}", splat.kind, splat.fingerprint);
    if splat.times > 1 {
        let _ = write!(line, " ({} times)", splat.times);
    }
    let _ = write!(line, ": {}", splat.lines.first().map_or("", String::as_str));
    if let Some(known) = &splat.known {
        let _ = write!(line, " [{}]", known_words(known));
    }
    line
}

fn known_words(known: &KnownSummary) -> String {
    let until = if known.expired { "was known until" } else { "known until" };
    format!("{until} {}: {} ({})", known.expires, known.reason, known.link)
}

/// A splat once, with where it was seen and its trace.
fn render_splat(out: &mut String, splat: &SplatSummary) {
    let times = if splat.times == 1 { "once".to_owned() } else { format!("{} times", splat.times) };
    let _ = writeln!(out, "\nsplat {} ({}), {times}", one_line(&splat.fingerprint), one_line(&splat.kind));
    let shown: Vec<&str> = splat.seen.iter().take(PLACES_SHOWN).map(String::as_str).collect();
    let more = match splat.seen.len().saturating_sub(PLACES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let _ = writeln!(out, "  seen in: {}{more}", one_line(&shown.join(", ")));
    if let Some(known) = &splat.known {
        let _ = writeln!(out, "  {}", one_line(&known_words(known)));
    }
    for line in splat.lines.iter().take(SPLAT_LINES_SHOWN) {
        let _ = writeln!(out, "    {}", one_line(line));
    }
    if splat.lines.len() > SPLAT_LINES_SHOWN {
        let more = splat.lines.len() - SPLAT_LINES_SHOWN;
        let _ =
            writeln!(out, "    and {more} more lines (hint: summary.json, or console.log of the scenario)");
    }
    if let Some(reason) = &splat.not_decoded {
        let _ = writeln!(out, "  not decoded: {}", one_line(reason));
    }
}

/// One row a scenario and number of vCPUs, of which there are many, and one column a kernel.
fn render_table(out: &mut String, kernels: &[KernelSummary]) {
    let row_of = |scenario: &ScenarioSummary| format!("{}/{}", one_line(&scenario.name), scenario.vcpus);
    let mut rows: Vec<String> = Vec::new();
    for scenario in kernels.iter().flat_map(|kernel| &kernel.scenarios) {
        let row = row_of(scenario);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    let mut columns = vec![[vec!["scenario".to_owned()], rows.clone()].concat()];
    for kernel in kernels {
        let mut column = vec![one_line(&kernel.title())];
        for row in &rows {
            let ran = kernel.scenarios.iter().find(|scenario| row_of(scenario) == *row);
            column.push(match (ran, &kernel.failure) {
                (Some(ran), _) if ran.attempts.is_empty() => ran.outcome.word().to_owned(),
                (Some(ran), _) => format!("{} (try {})", ran.outcome.word(), ran.attempts.len() + 1),
                (None, Some(failure)) => failure.outcome.word().to_owned(),
                (None, None) => "-".to_owned(),
            });
        }
        columns.push(column);
    }
    let widths: Vec<usize> =
        columns.iter().map(|column| column.iter().map(String::len).max().unwrap_or(0)).collect();
    let _ = writeln!(out);
    for line in 0..=rows.len() {
        let cells = columns.iter().zip(&widths).map(|(column, width)| format!("{:<width$}", column[line]));
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn render_baseline(out: &mut String, kernel: &KernelSummary) {
    let Some(baseline) = &kernel.baseline else { return };
    if let Some(failure) = &baseline.failure {
        let _ = writeln!(out, "  without the series: {}", failure.outcome);
    }
    if !baseline.scenarios.is_empty() {
        let ran = baseline.scenarios.iter().map(|ran| match &ran.reason {
            Some(reason) => format!("{} {} ({})", one_line(&ran.name), ran.outcome, one_line(reason)),
            None => format!("{} gets through", one_line(&ran.name)),
        });
        let _ = writeln!(out, "  without the series: {}", ran.collect::<Vec<_>>().join(", "));
    }
}

fn render_kernel(out: &mut String, kernel: &KernelSummary) {
    let series = kernel.series.as_ref().map_or_else(
        || "unpatched".to_owned(),
        |series| format!("{} ({} patches)", one_line(&series.name), series.patches),
    );
    let (title, source) = (one_line(&kernel.title()), one_line(&kernel.source));
    let _ = writeln!(out, "\nlinux {title} ({source}), {series}");
    if let Some(accelerator) = &kernel.accelerator {
        let reason = one_line(&short(kernel.accelerator_reason.as_deref().unwrap_or("")));
        let accelerator = one_line(accelerator);
        let compiled =
            if kernel.compiled { "compiled in this run" } else { "from the cache, nothing compiled" };
        let _ = writeln!(
            out,
            "  kernel {compiled}; accelerator {accelerator}{}",
            if reason.is_empty() { String::new() } else { format!(" ({reason})") }
        );
    }
    if !kernel.stages.is_empty() {
        let stages: Vec<String> = kernel
            .stages
            .iter()
            .map(|stage| format!("{} {:.1}", one_line(&stage.name), stage.seconds))
            .collect();
        let _ = writeln!(out, "  seconds: {}", stages.join(", "));
    }
    if let Some(failure) = &kernel.failure {
        let _ = writeln!(out, "  {}:", failure.outcome);
        for line in failure.message.lines() {
            let _ = writeln!(out, "    {}", one_line(line));
        }
    }
    render_baseline(out, kernel);
    render_patches(out, &kernel.patches);
    if kernel.scenarios.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "  {:<13} {:<16} {:>10} {:>10} {:>8} {:>4} {:>8} {:>5} {:>5} {:>5} {:>7}",
        "scenario",
        "outcome",
        "operations",
        "containers",
        "records",
        "lost",
        "findings",
        "wraps",
        "per s",
        "vcpus",
        "seconds"
    );
    for scenario in &kernel.scenarios {
        let figures = &scenario.figures;
        let lost = figures.lost.map_or_else(|| "?".to_owned(), |lost| lost.to_string());
        let _ = writeln!(
            out,
            "  {:<13} {:<16} {:>10} {:>10} {:>8} {:>4} {:>8} {:>5} {:>5} {:>5} {:>7.2}",
            one_line(&scenario.name),
            scenario.outcome.word(),
            figures.operations,
            figures.containers,
            figures.records,
            lost,
            (scenario.findings.len() as u64).saturating_add(scenario.findings_not_listed),
            figures.pid_rollovers,
            rate(figures),
            scenario.vcpus,
            figures.vm_seconds,
        );
    }
    for scenario in &kernel.scenarios {
        render_scenario(out, scenario);
    }
}

/// A line a patch, then the first bad one, and what is worth to know of the others.
fn render_patches(out: &mut String, patches: &[PatchSummary]) {
    let Some(first) = patches.first() else { return };
    let symbols: Vec<String> = first.builds.iter().map(|build| one_line(&build.symbol)).collect();
    let _ = write!(out, "  {:<5} {:<12}", "patch", "outcome");
    for symbol in &symbols {
        let _ = write!(out, " {:<14}", if symbol.is_empty() { "build, boot" } else { symbol });
    }
    let _ = writeln!(out, " {:>8} {:>10}", "warnings", "checkpatch");
    for patch in patches {
        let _ = write!(out, "  {:<5} {:<12}", patch.number, patch.outcome.word());
        for build in &patch.builds {
            let _ = write!(out, " {:<14}", build.outcome.word());
        }
        // Whether they were compared at all is told below.
        let _ = writeln!(out, " {:>8} {:>10}", patch.new_warnings.len(), patch.checkpatch.len());
    }
    let bad = |patch: &&PatchSummary| !matches!(patch.outcome, Outcome::Passed | Outcome::Skipped);
    if let Some(patch) = patches.iter().find(bad) {
        let _ = writeln!(out, "\n  first bad patch: {} {}", patch.number, one_line(&patch.subject));
        for line in patch.reason.as_deref().unwrap_or_default().lines() {
            let _ = writeln!(out, "    {}", one_line(line));
        }
    }
    for patch in patches {
        let told = patch.new_warnings.iter().map(|line| ("new warning", line));
        let told = told.chain(patch.warnings_not_compared.iter().map(|line| ("warnings", line)));
        for (what, line) in told.chain(patch.checkpatch.iter().map(|line| ("checkpatch", line))) {
            let _ = writeln!(out, "    patch {}: {what}: {}", patch.number, one_line(line));
        }
    }
    let _ = writeln!(out);
}

/// Containers a second of the workload's own time; nothing if it has not come to its end.
fn rate(figures: &Figures) -> String {
    if figures.workload_seconds > 0.0 {
        format!("{:.0}", figures.containers as f64 / figures.workload_seconds)
    } else {
        "-".to_owned()
    }
}

/// The first words of a reason; summary.json has the whole.
fn short(reason: &str) -> String {
    const LENGTH: usize = 60;
    match reason.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}...", &reason[..at]),
        None => reason.to_owned(),
    }
}

fn render_scenario(out: &mut String, scenario: &ScenarioSummary) {
    let name = one_line(&scenario.name);
    for adapted in &scenario.adapted {
        let _ = writeln!(out, "  {name}: {}", one_line(adapted));
    }
    if let Some(reason) = &scenario.reason {
        let _ = writeln!(out, "\n  {name}: {}: {}", scenario.outcome, one_line(reason));
    }
    if !scenario.attempts.is_empty() {
        let before: Vec<&str> = scenario.attempts.iter().map(|outcome| outcome.word()).collect();
        let _ = writeln!(out, "    {name}: earlier attempts: {}", before.join(", "));
    }
    for splat in &scenario.console {
        let _ = writeln!(out, "    console: {}", one_line(&splat_line(splat)));
    }
    out.push_str(&findings(&scenario.findings, scenario.findings_not_listed, &scenario.loss_doubts));
    match &scenario.snapshot {
        SnapshotState::Changed { diff, pending, .. } => {
            for line in diff.lines() {
                let _ = writeln!(out, "    {}", one_line(line));
            }
            render_pending(out, pending.as_deref());
        }
        SnapshotState::Missing { file, pending } => {
            let _ = writeln!(out, "    no reviewed snapshot {}", one_line(file));
            render_pending(out, pending.as_deref());
        }
        SnapshotState::NotCompared { .. } | SnapshotState::Match { .. } => {}
    }
}

/// Findings and doubts as text.
#[must_use]
pub fn findings(findings: &[FindingSummary], not_listed: u64, doubts: &[String]) -> String {
    let mut out = String::new();
    for finding in findings.iter().take(FINDINGS_SHOWN) {
        render_finding(&mut out, finding);
    }
    let unseen = (findings.len().saturating_sub(FINDINGS_SHOWN) as u64).saturating_add(not_listed);
    if unseen > 0 {
        let _ = writeln!(
            out,
            "    and {unseen} more (hint: summary.json, or `nstrail check` on the scenario's folder)"
        );
    }
    for doubt in doubts {
        let _ = writeln!(out, "    not proven lossless: {}", one_line(doubt));
    }
    out
}

fn render_pending(out: &mut String, pending: Option<&str>) {
    if let Some(pending) = pending {
        let pending = one_line(pending);
        let _ = writeln!(out, "    pending: {pending} (hint: `nstrail review` or `cargo insta review`)");
    }
}

fn render_finding(out: &mut String, finding: &FindingSummary) {
    let _ = writeln!(out, "    {}", one_line(&finding.invariant));
    let _ = writeln!(out, "      expected: {}", one_line(&finding.expected));
    let _ = writeln!(out, "      found:    {}", one_line(&finding.found));
    for (title, lines) in
        [("log", &finding.records), ("ledger", &finding.ledger), ("lineage", &finding.lineage)]
    {
        for line in lines {
            let _ = writeln!(out, "      {title}: {}", one_line(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::Failure;

    #[test]
    fn any_number_of_findings_is_told() {
        let finding = FindingSummary {
            invariant: "NS-G2-LIST".to_owned(),
            expected: String::new(),
            found: String::new(),
            records: Vec::new(),
            ledger: Vec::new(),
            lineage: Vec::new(),
        };
        let scenario = ScenarioSummary {
            findings: vec![finding; FINDINGS_SHOWN + 1],
            findings_not_listed: u64::MAX,
            ..ScenarioSummary::new("smoke", 1, 2, Outcome::Failed, "")
        };
        let mut out = String::new();
        render_kernel(&mut out, &KernelSummary { scenarios: vec![scenario], ..KernelSummary::default() });
        assert!(out.contains("and 18446744073709551615 more"), "{out}");
    }

    #[test]
    fn the_table_has_a_row_for_each_scenario_and_a_column_for_each_kernel() {
        let kernel = |version: &str, config: &str, scenarios| KernelSummary {
            version: version.to_owned(),
            config: config.to_owned(),
            scenarios,
            ..KernelSummary::default()
        };
        let mut second_try = ScenarioSummary::new("churn", 1, 4, Outcome::Passed, "");
        second_try.attempts.push(Outcome::Crashed);
        let smoke = ScenarioSummary::new("smoke", 1, 2, Outcome::SnapshotPending, "");
        let mut broken = kernel("7.3", "", Vec::new());
        broken.failure = Some(Failure { outcome: Outcome::BuildFailed, message: String::new() });
        let kernels = [
            kernel("5.10", "", vec![smoke.clone(), second_try]),
            kernel("6.12", "lockdep", vec![smoke]),
            broken,
        ];
        let mut out = String::new();
        render_table(&mut out, &kernels);
        assert_eq!(
            out,
            "
scenario  5.10              6.12+lockdep      7.3
smoke/2   snapshot pending  snapshot pending  build failed
churn/4   passed (try 2)    -                 build failed
"
        );
    }
}
