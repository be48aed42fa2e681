// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commits of a git tree in a row, and what lies between two of them as one patch.

use std::path::Path;

use super::super::patch::{Patch, PatchError};
use super::super::source::git;
use super::error::SeriesError;
use super::git::{NEUTRAL, commit};
use crate::process::Sink;

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// All forty digits.
    pub id: String,
    pub subject: String,
}

impl Commit {
    /// Enough of the id for a reader.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// What a revision stands for.
    ///
    /// # Errors
    /// [`SeriesError::Range`] if it is no commit.
    pub fn of(repository: &Path, revision: &str) -> Result<Commit, SeriesError> {
        let id = commit(repository, revision, revision)?;
        let subject = git(repository)
            .args(["-c", "log.showSignature=false", "log", "-1", "--format=%s", &id, "--"])
            .read()?;
        Ok(Commit { id, subject: subject.trim_end().to_owned() })
    }

    /// `good` and every commit from there to `bad`, oldest first. Of a merge only the first parent is followed: the
    /// merge stands for all that it brings.
    ///
    /// # Errors
    /// [`SeriesError::Range`] if `bad` does not come after `good`.
    pub fn line(repository: &Path, good: &str, bad: &str) -> Result<Vec<Commit>, SeriesError> {
        let range = format!("{good}..{bad}");
        let first = commit(repository, good, &range)?;
        let last = commit(repository, bad, &range)?;
        let error = |what: &str| {
            let (repository, what) = (repository.to_owned(), what.to_owned());
            Err(SeriesError::Range { repository, range: range.clone(), what })
        };
        let base = git(repository).args(["merge-base", &first, &last]).read().unwrap_or_default();
        if base.trim() != first {
            return error("the second does not come after the first (hint: GOOD..BAD, older first)");
        }
        let listed = git(repository)
            .args([
                "-c",
                "log.showSignature=false",
                "log",
                "--first-parent",
                "--reverse",
                "--format=%H %s",
                &format!("{first}..{last}"),
                "--",
            ])
            .read()?;
        let mut commits = vec![Commit::of(repository, &first)?];
        commits.extend(listed.lines().map(|line| {
            let (id, subject) = line.split_once(' ').unwrap_or((line, ""));
            Commit { id: id.to_owned(), subject: subject.to_owned() }
        }));
        if commits.len() < 2 {
            return error("there is no commit in it (hint: GOOD..BAD, older first)");
        }
        Ok(commits)
    }

    /// The first commit that is marked good in the bisection which goes on in a repository, if one does.
    #[must_use]
    pub fn good_of_bisection(repository: &Path) -> Option<Commit> {
        // `git bisect start BAD GOOD`, or `git bisect good GOOD`: git notes both in this form.
        let log = git(repository).args(["bisect", "log"]).read().ok()?;
        let good = log.lines().find_map(|line| line.strip_prefix("# good: [")?.split(']').next())?;
        Commit::of(repository, good).ok()
    }

    /// What makes `to` of `from`; nothing if both have the same files.
    ///
    /// # Errors
    /// [`SeriesError::Patch`] if no patch can say it (a binary file, a link), or if git fails.
    pub fn difference(repository: &Path, from: &Commit, to: &Commit) -> Result<Option<Patch>, SeriesError> {
        let diff = NEUTRAL
            .into_iter()
            .fold(git(repository), |git, setting| git.args(["-c", setting]))
            .args(["diff", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--no-ext-diff"])
            .args(["--no-textconv", "--no-color", "--no-renames", "--full-index", &from.id, &to.id, "--"])
            .stdout(Sink::Capture)
            .run()?
            .stdout;
        // Else a removed line of two dashes would be taken for the end of a commit message.
        let text = [b"---\n", diff.as_slice()].concat();
        match Patch::parse(&format!("{}.patch", to.short()), &text) {
            Ok(patch) => Ok(Some(Patch { subject: to.subject.clone(), ..patch })),
            Err(PatchError::Empty { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Its first parent.
    ///
    /// # Errors
    /// [`SeriesError::Range`] if it has none.
    pub fn parent(&self, repository: &Path) -> Result<Commit, SeriesError> {
        Commit::of(repository, &format!("{}^1", self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ChildSpec;

    fn run(repository: &Path, args: &[&str]) -> String {
        let identity = ["-c", "user.name=A", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"];
        let spec = ChildSpec::new("git").arg("-C").arg(repository).args(identity).args(args.iter().copied());
        spec.read().unwrap().trim().to_owned()
    }

    fn commit_file(repository: &Path, text: &str) -> String {
        std::fs::write(repository.join("a.c"), text).unwrap();
        run(repository, &["add", "a.c"]);
        run(repository, &["commit", "-q", "-m", &format!("set {}", text.trim())]);
        run(repository, &["rev-parse", "HEAD"])
    }

    #[test]
    fn a_line_of_commits_and_what_lies_between() {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path();
        run(repository, &["init", "-q"]);
        let first = commit_file(repository, "--\none\n");
        let second = commit_file(repository, "two\n");
        let third = commit_file(repository, "three\n");
        let line = Commit::line(repository, &first, "HEAD").unwrap();
        let ids: Vec<&str> = line.iter().map(|commit| commit.id.as_str()).collect();
        assert_eq!(ids, [&first, &second, &third]);
        assert_eq!(line[1].subject, "set two");
        let patch = Commit::difference(repository, &line[0], &line[2]).unwrap().unwrap();
        assert_eq!((patch.files.len(), patch.files[0].hunks.len()), (1, 1));
        assert_eq!(patch.subject, "set three");
        assert_eq!(Commit::difference(repository, &line[1], &line[1]).unwrap(), None);
        assert_eq!(line[1].parent(repository).unwrap(), line[0]);
        assert!(line[0].parent(repository).is_err());
        for range in [(third.as_str(), first.as_str()), (&first, &first), (&first, "nowhere")] {
            let error = Commit::line(repository, range.0, range.1).unwrap_err().to_string();
            assert!(error.contains("hint"), "{error}");
        }
    }

    #[test]
    fn a_bisection_that_goes_on_says_what_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path();
        run(repository, &["init", "-q"]);
        let first = commit_file(repository, "one\n");
        commit_file(repository, "two\n");
        commit_file(repository, "three\n");
        assert_eq!(Commit::good_of_bisection(repository), None);
        run(repository, &["bisect", "start", "HEAD", &first]);
        assert_eq!(Commit::good_of_bisection(repository).unwrap().id, first);
    }
}
