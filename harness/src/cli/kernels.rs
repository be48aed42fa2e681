// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail kernels`: what is known, what is in the cache, and how it gets there.

use nstrail::{
    kernel::{KernelLine, SourceSpec},
    outcome::Outcome,
};

use super::{args::KernelsAction, build, context::Context, exit::Ending, progress::Progress};

pub fn kernels(context: &Context, action: &KernelsAction) -> Ending {
    let store = match build::store(context) {
        Ok(store) => store,
        Err(ending) => return ending,
    };
    match action {
        KernelsAction::List { archive: true } => {
            let mut progress = Progress::new(context.quiet, context.terminal);
            for line in KernelLine::all() {
                match store.archive(line, &mut |event| build::show(&mut progress, &event)) {
                    Ok(releases) => {
                        releases.iter().for_each(|release| println!("{:<6} {release}", line.version));
                    }
                    Err(error) => return Ending::Failed(Outcome::Error, error.to_string()),
                }
            }
            Ending::Done
        }
        KernelsAction::List { archive: false } => {
            println!("{:<6} {:<34} in the cache", "line", "suites");
            for row in store.kernels() {
                let fetched: Vec<String> =
                    row.fetched.iter().map(|source| source.origin.to_string()).collect();
                let fetched = if fetched.is_empty() { "-".to_owned() } else { fetched.join(", ") };
                println!("{:<6} {:<34} {fetched}", row.line.version, row.line.suites.join(" "));
            }
            Ending::Done
        }
        KernelsAction::Fetch { version } => {
            let mut progress = Progress::new(context.quiet, context.terminal);
            let spec = SourceSpec::Debian(version.clone());
            let fetched = store.source(&spec, true, &mut |event| build::show(&mut progress, &event));
            drop(progress);
            match fetched {
                Ok(source) => {
                    println!("{} {}", source.origin, source.tree.display());
                    Ending::Done
                }
                Err(error) => Ending::Failed(Outcome::Error, error.to_string()),
            }
        }
    }
}
