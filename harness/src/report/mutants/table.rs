// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants as tables for a terminal or a mail.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Class, MutantSummary, MutantsSummary};
use crate::report::escape::one_line;

/// The verdict: every mutant in a line, the score, and what to do about survivors.
#[must_use]
pub fn text(summary: &MutantsSummary) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let version = one_line(&summary.nstrail);
    let _ = writeln!(out, "nstrail {version}: {} ({:.1} s)", summary.outcome, summary.seconds);
    let accelerator = summary.accelerator.as_deref().unwrap_or("none");
    let _ = writeln!(out, "linux {}, accelerator {}", one_line(&summary.kernel), one_line(accelerator));
    if let Some(reason) = &summary.reason {
        let _ = writeln!(out, "no score: {}", one_line(reason));
    }
    if !summary.mutants.is_empty() {
        rows(&mut out, &summary.mutants);
    }
    for mutant in &summary.mutants {
        remarks(&mut out, mutant);
    }
    let _ = writeln!(out, "\n{}", score(summary));
    let _ = writeln!(out, "reproduce: {}", one_line(&summary.reproducer));
    out
}

/// Cells in columns as wide as they need.
fn columns(out: &mut String, rows: &[Vec<String>]) {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn rows(out: &mut String, mutants: &[MutantSummary]) {
    let head = ["mutant", "kind", "breaks", "verdict", "in", "disturbed", "tries", "sets", "seconds", "by"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for mutant in mutants {
        let last = mutant.runs.last();
        let of_last = |text: &dyn Fn() -> String| last.map_or_else(|| "-".to_owned(), |_| text());
        let run = |part: fn(&super::MutantRun) -> &str| {
            last.map_or_else(|| "-".to_owned(), |run| one_line(part(run)))
        };
        rows.push(vec![
            one_line(&mutant.name),
            one_line(&mutant.kind),
            one_line(&mutant.guarantees.join(" ")),
            mutant.class.word().to_owned(),
            run(|run| &run.scenario),
            run(|run| &run.perturbation),
            mutant.runs.len().to_string(),
            of_last(&|| mutant.containers.to_string()),
            of_last(&|| format!("{:.1}", mutant.guest_seconds)),
            by(mutant),
        ]);
    }
    columns(out, &rows);
}

/// The named ones first, and no more than fit in a line.
fn by(mutant: &MutantSummary) -> String {
    const SHOWN: usize = 2;
    let (named, others): (Vec<&String>, Vec<&String>) =
        mutant.by.iter().partition(|by| mutant.named.contains(by));
    let all: Vec<String> = named.into_iter().chain(others).map(|by| one_line(by)).collect();
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" +{more}"),
    };
    let other = if mutant.class == Class::Killed && !mutant.by_named { " (none that it names)" } else { "" };
    format!("{}{more}{other}", all.into_iter().take(SHOWN).collect::<Vec<_>>().join(" "))
}

fn remarks(out: &mut String, mutant: &MutantSummary) {
    let name = one_line(&mutant.name);
    match mutant.class {
        Class::Killed => {}
        Class::Survived => {
            let _ = writeln!(out, "\n{name} survived: {}", one_line(&mutant.title));
            let named = one_line(&mutant.named.join(", "));
            let _ = writeln!(
                out,
                "  {named} should have seen it, and nothing did: an invariant or a workload is missing"
            );
        }
        Class::TimedOut | Class::Unviable | Class::NotRun => {
            let reason = one_line(mutant.reason.as_deref().unwrap_or_default());
            let _ = writeln!(out, "\n{name}, {}: {reason}", mutant.class.word());
        }
    }
    if let Some(sureness) = &mutant.sureness {
        let _ = writeln!(out, "  {name}: {}", one_line(sureness));
    }
}

fn score(summary: &MutantsSummary) -> String {
    let mut counts = Vec::new();
    for class in [Class::Killed, Class::Survived, Class::TimedOut, Class::Unviable, Class::NotRun] {
        let count = summary.count(class);
        if count > 0 || matches!(class, Class::Killed | Class::Survived) {
            counts.push(format!("{count} {}", class.word().to_lowercase()));
        }
    }
    let otherwise =
        summary.mutants.iter().filter(|mutant| mutant.class == Class::Killed && !mutant.by_named).count();
    let otherwise = match otherwise {
        0 => String::new(),
        count => format!(" ({count} by none of the invariants that they name)"),
    };
    let score = match (&summary.reason, summary.score()) {
        (None, Some(score)) => format!("score {score:.1} %"),
        _ => "no score".to_owned(),
    };
    format!("{score}: {} mutants, {}{otherwise}", summary.mutants.len(), counts.join(", "))
}

/// How often each perturbation has shown each mutant: for choosing among perturbations.
#[must_use]
pub fn measured(summary: &MutantsSummary) -> String {
    let mut names: Vec<&str> = Vec::new();
    for run in summary.mutants.iter().flat_map(|mutant| &mutant.runs) {
        if !names.contains(&run.perturbation.as_str()) {
            names.push(&run.perturbation);
        }
    }
    let mut head = vec!["mutant".to_owned(), "scenario".to_owned()];
    head.extend(names.iter().map(|name| one_line(name)));
    let mut rows = vec![head];
    let mut whole: BTreeMap<&str, (u32, u32, f64)> = BTreeMap::new();
    for mutant in &summary.mutants {
        let mut row = vec![one_line(&mutant.name)];
        row.push(mutant.runs.first().map_or_else(String::new, |run| one_line(&run.scenario)));
        for name in &names {
            let runs: Vec<_> = mutant.runs.iter().filter(|run| run.perturbation == *name).collect();
            let kills = runs.iter().filter(|run| !run.by.is_empty()).count();
            row.push(format!("{kills}/{}", runs.len()));
            let entry = whole.entry(name).or_default();
            entry.0 += kills as u32;
            entry.1 += runs.len() as u32;
            entry.2 += runs.iter().map(|run| run.guest_seconds).sum::<f64>();
        }
        rows.push(row);
    }
    let of_all = |name: &&str| whole.get(name).copied().unwrap_or_default();
    let mut kills = vec!["all".to_owned(), String::new()];
    kills.extend(names.iter().map(|name| format!("{}/{}", of_all(name).0, of_all(name).1)));
    let mut seconds = vec!["seconds a run".to_owned(), String::new()];
    seconds.extend(names.iter().map(|name| {
        let (_, runs, seconds) = of_all(name);
        format!("{:.1}", seconds / f64::from(runs.max(1)))
    }));
    rows.extend([kills, seconds]);
    let mut out = String::new();
    columns(&mut out, &rows);
    out
}
