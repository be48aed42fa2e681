// SPDX-License-Identifier: MIT OR Apache-2.0
//! A range of commits as a series: what git format-patch makes of it, read as a mailbox.

use std::path::Path;

use super::super::source::git;
use super::error::SeriesError;
use super::{Series, box_series};
use crate::process::{ChildSpec, ProcessError, Sink};

/// Settings of the user's that would make the same commits other patches.
pub(super) const NEUTRAL: [&str; 3] =
    ["diff.noprefix=false", "diff.mnemonicPrefix=false", "i18n.logOutputEncoding=UTF-8"];

/// The commit that a revision stands for; `range` is what messages say was asked for.
pub(super) fn commit(repository: &Path, revision: &str, range: &str) -> Result<String, SeriesError> {
    match git(repository)
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")])
        .read()
    {
        Ok(commit) => Ok(commit.trim().to_owned()),
        Err(ProcessError::Failed { tail, .. }) => {
            let tail = tail.first().map(|line| format!(": {line}")).unwrap_or_default();
            let what = format!("`{revision}` is no commit there{tail} (hint: git rev-parse {revision})");
            Err(SeriesError::Range { repository: repository.to_owned(), range: range.to_owned(), what })
        }
        Err(other) => Err(other.into()),
    }
}

/// Reads `from..to` of a repository.
pub fn read(repository: &Path, from: &str, to: &str) -> Result<Series, SeriesError> {
    let range = format!("{from}..{to}");
    let error =
        |what: String| SeriesError::Range { repository: repository.to_owned(), range: range.clone(), what };
    let (base, tip) = (commit(repository, from, &range)?, commit(repository, to, &range)?);
    let commits = format!("{base}..{tip}");
    let merges = git(repository).args(["rev-list", "--merges", "--abbrev-commit", &commits]).read()?;
    if !merges.trim().is_empty() {
        let merges = merges.split_whitespace().collect::<Vec<_>>().join(", ");
        let what =
            format!("it has merges, which no patch can be made of: {merges} (hint: rebase the series)");
        return Err(error(what));
    }
    let mail = format_patch(repository, &commits).stdout(Sink::Capture).run()?.stdout;
    if mail.is_empty() {
        return Err(error("there is no commit in it (hint: BASE..TIP, older first)".to_owned()));
    }
    let mut series = box_series::read(repository, &mail)?;
    to.clone_into(&mut series.name);
    series.base_commit = Some(base);
    Ok(series)
}

/// The same mails whatever the user's configuration says.
fn format_patch(repository: &Path, commits: &str) -> ChildSpec {
    NEUTRAL
        .into_iter()
        .fold(git(repository), |git, setting| git.args(["-c", setting]))
        .args(["format-patch", "--stdout", "--pretty=mboxrd", "--numbered", "--subject-prefix=PATCH"])
        .args(["--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--no-ext-diff", "--no-textconv"])
        .args(["--no-color", "--no-attach", "--no-cover-letter", "--no-base", "--no-notes", "--full-index"])
        .arg(commits)
}
