// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail check`: a recorded scenario again, without a VM.

use std::path::Path;

use nstrail::{
    check::Outcome as Checked,
    outcome::Outcome,
    report::verdict,
    run::{
        execute::{check_options, titles},
        judge, replay,
    },
    snapshot::Lineage,
};

use super::{args::CheckArgs, exit::Ending};

pub fn check(args: &CheckArgs) -> Ending {
    let folder = match args.dir.canonicalize() {
        Ok(folder) => folder,
        Err(error) => return Ending::Usage(format!("{}: {error}", args.dir.display())),
    };
    // out/RUN-ID/VERSION/SCENARIO
    let version = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let version = version.unwrap_or_default();
    let scenario = match replay::scenario(&folder) {
        Ok(scenario) => scenario,
        Err(error) => return Ending::Usage(error.to_string()),
    };
    let sink = Lineage::new(scenario.name.clone(), titles(&scenario));
    let (check, sink) = match replay::replay(&folder, check_options(&version), sink) {
        Ok(replayed) => replayed,
        Err(error) => return Ending::Usage(error.to_string()),
    };
    if args.canonical {
        print!("{}", sink.finish().as_str());
        return Ending::Done;
    }
    let (findings, unlisted) = judge::findings(&check);
    print!("{}", verdict::findings(&findings, unlisted, &judge::doubts(&check)));
    println!("{} records, {} facts", check.figures.records, check.figures.facts);
    Ending::Verdict(match check.outcome() {
        Checked::Passed => Outcome::Passed,
        Checked::Failed => Outcome::Failed,
        Checked::Inconclusive => Outcome::Inconclusive,
    })
}
