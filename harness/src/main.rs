// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `nstrail` command.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
