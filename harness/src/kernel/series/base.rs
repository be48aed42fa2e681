// SPDX-License-Identifier: MIT OR Apache-2.0
//! `base-commit:` against the tree that is really used.

use std::fmt;

use super::super::source::{Origin, Source, git};
use super::Series;
use crate::process::{ProcessError, Sink};

/// What became of a series' base commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCheck {
    /// As the series says.
    pub commit: String,
    /// What the tree is.
    pub verdict: BaseVerdict,
}

/// See [`BaseCheck`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseVerdict {
    /// The tree is at the base.
    Same,
    /// The tree is at a later commit on top of the base.
    Later(String),
    /// The tree is at a commit that does not have the base below it.
    Other(String),
    /// The tree is at a commit of a repository that does not have the base.
    Unknown(String),
    /// The source is no git tree.
    Unchecked,
}

impl BaseCheck {
    /// Whether a result may not be what the series' author meant.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        !matches!(self.verdict, BaseVerdict::Same | BaseVerdict::Unchecked)
    }

    /// Compares; `None` if the series names no base.
    ///
    /// # Errors
    /// git cannot be run.
    pub fn of(series: &Series, source: &Source) -> Result<Option<BaseCheck>, ProcessError> {
        let Some(base) = series.base_commit.clone() else { return Ok(None) };
        let Origin::Git { repository, commit } = &source.origin else {
            return Ok(Some(BaseCheck { commit: base, verdict: BaseVerdict::Unchecked }));
        };
        if commit.starts_with(&base) {
            return Ok(Some(BaseCheck { commit: base, verdict: BaseVerdict::Same }));
        }
        let asked = git(repository)
            .args(["merge-base", "--is-ancestor", &base, commit])
            .stdout(Sink::Null)
            .run_unchecked(|_| ())?;
        let commit = commit.clone();
        let verdict = match asked.status.code() {
            Some(0) => BaseVerdict::Later(commit),
            Some(1) => BaseVerdict::Other(commit),
            _ => BaseVerdict::Unknown(commit),
        };
        Ok(Some(BaseCheck { commit: base, verdict }))
    }
}

impl fmt::Display for BaseCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |commit: &str| commit.get(..12).unwrap_or(commit).to_owned();
        write!(f, "base-commit {}", short(&self.commit))?;
        match &self.verdict {
            BaseVerdict::Same => f.write_str(" is the tree's"),
            BaseVerdict::Later(commit) => write!(f, ", but the tree is at {}, which is later", short(commit)),
            BaseVerdict::Other(commit) => {
                write!(f, ", but the tree is at {}, which does not have it", short(commit))
            }
            BaseVerdict::Unknown(commit) => {
                write!(f, " is not in the repository, whose tree is at {}", short(commit))
            }
            BaseVerdict::Unchecked => f.write_str(" (not checked: source is not a git tree)"),
        }
    }
}
