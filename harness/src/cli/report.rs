// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail report`: a report from a run's summary.json.

use std::path::Path;

use nstrail::report::{
    bisect::{self, BisectSummary},
    bisect_text, escape, ktap,
    summary::RunSummary,
    verdict,
};

use super::{
    args::{ReportArgs, ReportFormat},
    exit::Ending,
};

/// The summary of a run's folder, and its text.
pub fn read(dir: &Path) -> Result<(RunSummary, String), Ending> {
    let path = dir.join("summary.json");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Ending::Usage(format!(
            "cannot read {}: {error} (hint: name the folder of a run, out/RUN-ID)",
            path.display()
        ))
    })?;
    let summary =
        RunSummary::parse(&text).map_err(|error| Ending::Usage(format!("{}: {error}", path.display())))?;
    Ok((summary, text))
}

pub fn report(args: &ReportArgs) -> Ending {
    if let Ok(text) = std::fs::read_to_string(args.dir.join(bisect::FILE_NAME)) {
        return bisection(args, &text);
    }
    let (summary, text) = match read(&args.dir) {
        Ok(read) => read,
        Err(ending) => return ending,
    };
    match args.format {
        ReportFormat::Text => print!("{}", verdict::render(&summary)),
        ReportFormat::Ktap => print!("{}", ktap::render(&summary)),
        ReportFormat::Json => print!("{}", escape::json(&text)),
    }
    Ending::Done
}

/// The same of a bisection, which has no tests that KTAP could list.
fn bisection(args: &ReportArgs, text: &str) -> Ending {
    let summary = match BisectSummary::parse(text) {
        Ok(summary) => summary,
        Err(error) => {
            let path = args.dir.join(bisect::FILE_NAME);
            return Ending::Usage(format!("{}: {error}", path.display()));
        }
    };
    match args.format {
        ReportFormat::Text => print!("{}", bisect_text::render(&summary)),
        ReportFormat::Json => print!("{}", escape::json(text)),
        ReportFormat::Ktap => {
            return Ending::Usage("a bisection has no KTAP (hint: --format text or json)".to_owned());
        }
    }
    Ending::Done
}
