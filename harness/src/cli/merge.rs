// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail merge`: the parts of a partitioned matrix as one run.

use nstrail::{
    report::{merge, verdict},
    run::{execute::write_reports, folder::RunFolder},
};

use super::{args::MergeArgs, context::Context, exit::Ending, report};

pub fn merge(context: &Context, args: &MergeArgs) -> Ending {
    let mut parts = Vec::with_capacity(args.dirs.len());
    for dir in &args.dirs {
        match report::read(dir) {
            Ok((summary, _)) => parts.push(summary),
            Err(ending) => return ending,
        }
    }
    let out = args.out.clone().or_else(|| context.settings.out.clone()).unwrap_or_else(|| "out".into());
    // First whether they can be one: what is refused leaves no folder behind.
    let merged = match merge::merge(parts, "") {
        Ok(merged) => merged,
        Err(error) => return Ending::Usage(error.to_string()),
    };
    let folder = match RunFolder::create(&out) {
        Ok(folder) => folder,
        Err(error) => return Ending::error(&error),
    };
    let mut summary = merged;
    folder.id().clone_into(&mut summary.run_id);
    if let Err(error) = write_reports(&folder, &summary) {
        return Ending::error(&error);
    }
    print!("{}", verdict::render(&summary));
    eprintln!("nstrail: results in {}", folder.path().display());
    Ending::Verdict(summary.outcome)
}
