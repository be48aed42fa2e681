// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a reader of the result should know of how a series was read.

use std::fmt;

use super::error::MessagePlace;
use super::tag::ranges;

/// One thing that was left out or changed, or that is for the user to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeriesNote {
    /// An answer is no patch.
    Reply {
        /// Which.
        message: MessagePlace,
        /// Whether a diff was in it.
        has_diff: bool,
    },
    /// A message without a diff.
    NoDiff {
        /// Which.
        message: MessagePlace,
    },
    /// The same patch again.
    Twice {
        /// Which.
        message: MessagePlace,
        /// Of the patch.
        number: u32,
    },
    /// Older versions are there, too.
    Version {
        /// The one that is used.
        taken: u32,
        /// The others.
        older: Vec<u32>,
    },
    /// A message was in another charset.
    Recoded {
        /// Which.
        message: MessagePlace,
        /// Its charset.
        charset: String,
    },
    /// The series wants other patches below it.
    Prerequisites(usize),
    /// The series adds symbols that nothing switches on.
    Symbols(Vec<String>),
    /// Only some patches are applied.
    Picked {
        /// In the series' own numbers.
        numbers: Vec<u32>,
        /// How many the series has.
        of: usize,
    },
}

impl fmt::Display for SeriesNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeriesNote::Reply { message, has_diff: false } => write!(f, "{message} is a reply, not used"),
            SeriesNote::Reply { message, has_diff: true } => {
                write!(f, "{message} is a reply with a diff in it, not used")
            }
            SeriesNote::NoDiff { message } => write!(f, "{message} has no diff, not used"),
            SeriesNote::Twice { message, number } => {
                write!(f, "{message} is patch {number} once more, with the same diff")
            }
            SeriesNote::Version { taken, older } => {
                let older = older.iter().map(|version| format!("v{version}")).collect::<Vec<_>>().join(", ");
                write!(f, "v{taken} is the newest version there, {older} is not used")
            }
            SeriesNote::Recoded { message, charset } => {
                write!(f, "{message} was recoded from {charset} to UTF-8")
            }
            SeriesNote::Prerequisites(count) => {
                write!(f, "the series names {count} prerequisite patches, which are not applied")
            }
            SeriesNote::Symbols(symbols) => write!(
                f,
                "the series adds {}, which stays off unless a fragment sets it (hint: --symbol NAME, or config in \
                 series.toml)",
                symbols.iter().map(|symbol| format!("CONFIG_{symbol}")).collect::<Vec<_>>().join(", ")
            ),
            SeriesNote::Picked { numbers, of } => {
                write!(f, "only patch {} of {of} is applied", ranges(numbers.iter().copied()))
            }
        }
    }
}
