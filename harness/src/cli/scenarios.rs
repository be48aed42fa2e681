// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail scenarios`: what can be run.

use nstrail::plan::scenario;

use super::{args::ScenariosAction, exit::Ending};

pub fn scenarios(action: &ScenariosAction) -> Ending {
    match action {
        ScenariosAction::List => {
            for (name, text) in scenario::EMBEDDED {
                match scenario::parse(text, std::path::Path::new(name)) {
                    Ok(scenario) => println!("{name:<10} {}", scenario.description),
                    Err(error) => return Ending::error(&error),
                }
            }
            Ending::Done
        }
        ScenariosAction::Show { name } => match scenario::embedded(name) {
            Some(text) => {
                print!("{text}");
                Ending::Done
            }
            None => Ending::Usage(format!("no scenario `{name}` (hint: {})", scenario::names().join(", "))),
        },
        ScenariosAction::Check { files } => {
            let mut faults = Vec::new();
            for file in files {
                match scenario::read(file) {
                    Ok(scenario) => println!("{}: {} steps", file.display(), scenario.preorder().len()),
                    Err(error) => faults.push(error.to_string()),
                }
            }
            if faults.is_empty() { Ending::Done } else { Ending::Usage(faults.join("\n")) }
        }
    }
}
