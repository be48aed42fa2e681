// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail report`: a report from a run's summary.json.

use nstrail::report::{ktap, summary::RunSummary, verdict};

use super::{
    args::{ReportArgs, ReportFormat},
    exit::Ending,
};

pub fn report(args: &ReportArgs) -> Ending {
    let path = args.dir.join("summary.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            return Ending::Usage(format!(
                "cannot read {}: {error} (hint: name the folder of a run, out/RUN-ID)",
                path.display()
            ));
        }
    };
    let summary: RunSummary = match serde_json::from_str(&text) {
        Ok(summary) => summary,
        Err(error) => return Ending::Usage(format!("{}: {error}", path.display())),
    };
    if summary.schema != nstrail::report::summary::SCHEMA {
        return Ending::Usage(format!(
            "{} has schema {}, this nstrail reads {}",
            path.display(),
            summary.schema,
            nstrail::report::summary::SCHEMA
        ));
    }
    match args.format {
        ReportFormat::Text => print!("{}", verdict::render(&summary)),
        ReportFormat::Ktap => print!("{}", ktap::render(&summary)),
        ReportFormat::Json => print!("{text}"),
    }
    Ending::Done
}
