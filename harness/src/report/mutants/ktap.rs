// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants as KTAP: a mutant that is killed is `ok`, one that is not viable or was not run is skipped.

use std::fmt::Write as _;

use super::{Class, MutantSummary, MutantsSummary};
use crate::report::escape::one_line;

/// The whole document.
#[must_use]
pub fn ktap(summary: &MutantsSummary) -> String {
    let mut out = format!("KTAP version 1\n1..{}\n", summary.mutants.len());
    // Writing to a String cannot fail, here and below.
    if let Some(reason) = &summary.reason {
        for line in reason.lines() {
            let _ = writeln!(out, "# {}", one_line(line));
        }
    }
    for (index, mutant) in summary.mutants.iter().enumerate() {
        render(&mut out, index + 1, mutant);
    }
    out
}

fn render(out: &mut String, number: usize, mutant: &MutantSummary) {
    let mut diagnostic = |text: &str| {
        for line in text.lines() {
            let _ = writeln!(out, "# {}", one_line(line));
        }
    };
    diagnostic(&mutant.title);
    for run in &mutant.runs {
        diagnostic(&format!("{} {} seed {}: {}", run.scenario, run.perturbation, run.seed, run.outcome));
    }
    if !mutant.by.is_empty() {
        diagnostic(&format!("killed by {}", mutant.by.join(", ")));
    }
    if let Some(text) = &mutant.sureness {
        diagnostic(text);
    }
    // What follows a `#` is a directive.
    let name = one_line(&mutant.name).replace('#', "\\x23");
    let reason = one_line(mutant.reason.as_deref().unwrap_or_default());
    let _ = match mutant.class {
        Class::Killed => writeln!(out, "ok {number} {name}"),
        Class::Survived | Class::TimedOut => {
            writeln!(out, "not ok {number} {name} # {}", mutant.class.word().to_lowercase())
        }
        Class::Unviable | Class::NotRun => {
            writeln!(out, "ok {number} {name} # SKIP {}: {reason}", mutant.class.word())
        }
    };
}
