// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail report`: a report from a run's summary.json.

use std::path::Path;

use nstrail::report::{escape, ktap, summary::RunSummary, verdict};

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
