// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail doctor`: what this machine has, and what nstrail will use.

use std::path::Path;

use nstrail::{
    process::{ChildSpec, NoSandbox, Sandbox},
    report::escape::one_line,
    vm::{
        accelerator::{self, AcceleratorChoice},
        agent,
    },
};

use super::{args::DoctorArgs, build, context::Context, exit::Ending};

/// Programs, and the first line of what they say of themselves.
const TOOLS: [(&str, &str); 9] = [
    ("qemu-system-x86_64", "--version"),
    ("gcc", "--version"),
    ("make", "--version"),
    ("flex", "--version"),
    ("bison", "--version"),
    ("bc", "--version"),
    ("ccache", "--version"),
    ("xz", "--version"),
    ("cargo", "--version"),
];

pub fn doctor(context: &Context, args: &DoctorArgs) -> Ending {
    // An installed nstrail has its agent beside it; in a checkout cargo makes it.
    let makes_agent = context.project().is_ok_and(|project| agent::is_made_of(project.root()));
    let mut missing = Vec::new();
    for (tool, flag) in TOOLS {
        match ChildSpec::new(tool).arg(flag).read() {
            Ok(text) => println!("{tool:<20} {}", text.lines().next().unwrap_or_default()),
            Err(_) if tool == "cargo" && !makes_agent => println!("{tool:<20} missing, not needed"),
            Err(_) => {
                println!("{tool:<20} missing");
                missing.push(tool);
            }
        }
    }
    let store = match build::store(context) {
        Ok(store) => store,
        Err(ending) => return ending,
    };
    println!("{:<20} {}", "cache", store.root().display());
    match Sandbox::find() {
        Ok(sandbox) => println!("{:<20} {sandbox}", "sandbox"),
        Err(NoSandbox(reason)) => println!("{:<20} none ({})", "sandbox", one_line(&reason)),
    }
    if args.probe
        && let Err(error) = accelerator::forget(store.root())
    {
        return Ending::error(&format!("cannot forget the accelerator: {error}"));
    }
    match accelerator::decide(AcceleratorChoice::Auto, Path::new("qemu-system-x86_64"), store.root()) {
        Ok(decision) => {
            println!("{:<20} {} ({})", "accelerator", decision.accelerator.word(), decision.reason);
        }
        Err(error) => return Ending::error(&error),
    }
    if missing.is_empty() {
        Ending::Done
    } else {
        Ending::Usage(format!("missing: {} (hint: make setup)", missing.join(", ")))
    }
}
