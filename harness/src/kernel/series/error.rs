// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why there is no series: which file, which line or message, what was expected, what to do.

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::patch::PatchError;
use crate::process::ProcessError;
use crate::report::escape::{lines, one_line};

/// Where a series comes from, as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub PathBuf);

impl Place {
    /// Standard input.
    #[must_use]
    pub fn stdin() -> Place {
        Place(PathBuf::from("-"))
    }

    pub(super) fn of(path: &Path) -> Place {
        Place(path.to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_os_str().as_encoded_bytes() {
            b"-" => f.write_str("standard input"),
            _ => f.write_str(&shown(&self.0)),
        }
    }
}

/// A message of a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessagePlace {
    /// In the box, from 1.
    pub number: usize,
    /// Its first line in the box, from 1.
    pub line: usize,
    /// Decoded; empty if it has none.
    pub subject: String,
    /// Message-Id without brackets; empty if it has none.
    pub id: String,
}

impl fmt::Display for MessagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} (line {}", self.number, self.line)?;
        if !self.subject.is_empty() {
            write!(f, ", \"{}\"", one_line(&self.subject))?;
        }
        if !self.id.is_empty() {
            write!(f, ", <{}>", one_line(&self.id))?;
        }
        f.write_str(")")
    }
}

/// Why a message gives no patch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// Its transfer encoding is damaged.
    #[error("its {0} body is damaged (hint: was the message cut? get it again as raw text)")]
    Encoding(&'static str),
    /// There is nothing that can be read.
    #[error("it is no mail (hint: a mail header, a blank line, the text)")]
    NoMail,
    /// The patch in it cannot be parsed.
    #[error("{0} (lines count within the message)")]
    Patch(Box<PatchError>),
}

/// Why there is no series.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// What was named is nothing that we know.
    #[error(
        "no series at `{0}` (hint: a directory of NNNN-*.patch, a quilt directory or its series file, a mailbox or \
         .patch file, - for standard input, or [GITDIR@]BASE..TIP)"
    )]
    NoSuchSeries(String),
    /// The folder or a file in it cannot be read.
    #[error("cannot read {path}: {source}", path = shown(path))]
    Read {
        /// Folder or file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Compressed input.
    #[error("{place} is compressed (hint: zcat FILE | nstrail ... --series -)")]
    Compressed {
        /// The file.
        place: Place,
    },
    /// series.toml cannot be understood.
    #[error("{path}: {message}", path = shown(path), message = lines(message))]
    Toml {
        /// The file.
        path: PathBuf,
        /// With line and column.
        message: String,
    },
    /// A line of a quilt series file cannot be used.
    #[error("{path}:{line}: {what}", path = shown(path), what = one_line(what))]
    Quilt {
        /// The series file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and a hint.
        what: String,
    },
    /// No patch there.
    #[error("no patches in {} (hint: they are called NNNN-*.patch; 0000-* is the cover letter)", shown(.0))]
    NoPatches(PathBuf),
    /// No message of a box has a patch.
    #[error(
        "{place}: no patch in it, of {messages} messages (hint: expected mails with a diff, as git format-patch or b4 am -o - write them)"
    )]
    NoPatchMails {
        /// The box.
        place: Place,
        /// How many it has.
        messages: usize,
    },
    /// A patch lies there that series.toml does not list: most likely it was forgotten.
    #[error("{} is not in the list of {}", one_line(patch), shown(list))]
    Unlisted {
        /// series.toml.
        list: PathBuf,
        /// File name of the patch.
        patch: String,
    },
    /// Two files of a folder have the same number.
    #[error(
        "{}: {} and {} have the same number (hint: remove the one that is left over from before, or \
             give the order in series.toml)",
        shown(folder),
        one_line(first),
        one_line(second)
    )]
    SameNumber {
        /// The folder.
        folder: PathBuf,
        /// A file name.
        first: String,
        /// Another.
        second: String,
    },
    /// A message of a box.
    #[error("{place}: {message}: {source}")]
    Mail {
        /// The box.
        place: Place,
        /// Which.
        message: Box<MessagePlace>,
        /// What is wrong with it.
        source: MailError,
    },
    /// Patches of the series are not there.
    #[error("{place}: missing of {total} patches: {missing}{version} (hint: complete it, for example with b4 am -o - MESSAGE-ID)",
            version = version_words(*version))]
    Missing {
        /// The box or folder.
        place: Place,
        /// `4/9, 6-7/9`
        missing: String,
        /// How many the series says that it has.
        total: u32,
        /// Version of the series.
        version: u32,
    },
    /// Two different patches have the same number.
    #[error(
        "{place}: two different patches are {number}/{total}: {first} and {second} (hint: remove one of them)"
    )]
    Duplicate {
        /// The box.
        place: Place,
        /// Of both.
        number: u32,
        /// Patches of the series.
        total: u32,
        /// One.
        first: Box<MessagePlace>,
        /// The other one.
        second: Box<MessagePlace>,
    },
    /// A number that cannot be.
    #[error("{place}: {message}: number {number} of {total} cannot be")]
    Counter {
        /// The box.
        place: Place,
        /// Which.
        message: Box<MessagePlace>,
        /// Of the patch.
        number: u32,
        /// Patches that its series has.
        total: u32,
    },
    /// More than one series is in the box, and nothing says which is meant.
    #[error(
        "{place} holds more than one series:{}\n(hint: split it, or get one by itself with b4 am -o - MESSAGE-ID)",
        list(found)
    )]
    Ambiguous {
        /// The box.
        place: Place,
        /// Each in words.
        found: Vec<String>,
    },
    /// A git range that gives no series.
    #[error("git {repository}: {range}: {what}", repository = shown(repository), what = one_line(what))]
    Range {
        /// The repository.
        repository: PathBuf,
        /// As it was named.
        range: String,
        /// What is wrong, and a hint.
        what: String,
    },
    /// git failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A patch cannot be parsed.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

fn version_words(version: u32) -> String {
    if version == 1 { String::new() } else { format!(" in v{version}") }
}

fn list(found: &[String]) -> String {
    found.iter().map(|line| format!("\n    {}", one_line(line))).collect()
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}
