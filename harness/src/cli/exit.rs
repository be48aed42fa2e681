// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of every command: an exit code, and a last line on stderr that says what it means.

use std::{fmt::Display, process::ExitCode};

use nstrail::{
    outcome::Outcome,
    process::interrupt,
    report::escape::{lines, one_line},
};

/// How a command ended.
#[derive(Debug)]
pub enum Ending {
    /// It did what it was asked for.
    Done,
    /// A verdict.
    Verdict(Outcome),
    /// It was asked for something that cannot be (exit code 2).
    Usage(String),
    /// It failed; the outcome says whose trouble it is.
    Failed(Outcome, String),
    /// A verdict that no outcome says: an exit code, and what it means.
    Said(u8, String),
}

impl Ending {
    /// An error of our own.
    pub fn error(error: &impl Display) -> Self {
        Self::Failed(Outcome::Error, error.to_string())
    }

    /// Prints the last lines and gives the code. Messages may have words of a patch or a guest in them. A caller may have
    /// meanings of its own for codes: what is no [`Ending::Said`] goes through `code`.
    pub fn report(self, code: impl Fn(u8) -> u8) -> ExitCode {
        if interrupt::requested().is_some()
            && matches!(self, Self::Verdict(Outcome::Error) | Self::Failed(Outcome::Error, _))
        {
            let code = code(Outcome::Error.exit_code());
            if let Self::Failed(_, message) = &self {
                eprintln!("nstrail: error: {}", lines(message));
            }
            eprintln!(
                "nstrail: interrupted: what was gathered so far is kept, there is no verdict (exit code {code})"
            );
            return ExitCode::from(code);
        }
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Verdict(outcome) => {
                let code = code(outcome.exit_code());
                eprintln!("nstrail: {outcome}: {} (exit code {code})", outcome.sentence());
                ExitCode::from(code)
            }
            Self::Usage(message) => {
                let (message, code) = (lines(&message), code(2));
                eprintln!("nstrail: error: {message}\nnstrail: usage error (exit code {code})");
                ExitCode::from(code)
            }
            Self::Failed(outcome, message) => {
                let (message, code) = (lines(&message), code(outcome.exit_code()));
                eprintln!(
                    "nstrail: error: {message}\nnstrail: {outcome}: {} (exit code {code})",
                    outcome.sentence()
                );
                ExitCode::from(code)
            }
            Self::Said(code, text) => {
                eprintln!("nstrail: {} (exit code {code})", one_line(&text));
                ExitCode::from(code)
            }
        }
    }
}
