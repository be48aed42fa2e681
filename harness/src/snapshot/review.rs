// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reviewed snapshots on disk: comparison, pending files, accept and reject.
//!
//! The files are insta's (`.snap`, pending: `.snap.new`), so that `cargo insta review` works on them as well. They lie
//! in the package `snapshots/`, because cargo-insta walks packages. One file a scenario; a kernel line may have its
//! own, `SCENARIO@LINE.snap`, where the contract itself differs.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use insta::Snapshot;
use similar::TextDiff;
use thiserror::Error;

use super::Canonical;

const REVIEWED: &str = "snap";
const PENDING: &str = "snap.new";

/// What to do about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Write a pending file.
    Auto,
    /// Only say so, as in CI.
    Deny,
    /// Do not compare.
    Off,
}

/// How a canonical form compares with the reviewed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    NotCompared,
    Match { file: PathBuf },
    Changed { file: PathBuf, pending: Option<PathBuf>, diff: String },
    Missing { file: PathBuf, pending: Option<PathBuf> },
}

/// A snapshot file that cannot be used.
#[derive(Debug, Error)]
pub enum ReviewError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {message} (hint: a snapshot begins with insta's front matter)", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("no pending snapshot `{name}` (hint: pending are: {})", if pending.is_empty() { "none".to_owned() } else { pending.join(", ") })]
    NotPending { name: String, pending: Vec<String> },
}

/// The folder of the reviewed snapshots. Of one run all kernels share it.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    /// Pending files of this run, by the kernel line that wrote each.
    ours: Mutex<BTreeMap<PathBuf, String>>,
}

impl Shelf {
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), ours: Mutex::default() }
    }

    /// The file for a scenario on a kernel line: the line's own if there is one.
    #[must_use]
    pub fn file(&self, scenario: &str, line: &str) -> PathBuf {
        let own = self.folder.join(format!("{scenario}@{line}.{REVIEWED}"));
        if own.is_file() { own } else { self.folder.join(format!("{scenario}.{REVIEWED}")) }
    }

    /// Compares, and in [`Mode::Auto`] writes or removes the pending file.
    ///
    /// What one kernel line of a run has left to review, another does not take away or overwrite: where two differ from
    /// the common file in different ways, the second gets a pending file of its own.
    ///
    /// # Errors
    /// If a file cannot be read, parsed or written.
    pub fn compare(
        &self,
        scenario: &str,
        line: &str,
        form: &Canonical,
        mode: Mode,
    ) -> Result<Comparison, ReviewError> {
        if mode == Mode::Off {
            return Ok(Comparison::NotCompared);
        }
        let file = self.file(scenario, line);
        let mut pending = file.with_extension(PENDING);
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        let others = ours.get(&pending).is_some_and(|writer| writer != line);
        let reviewed = if file.is_file() { Some(contents(&file)?) } else { None };
        let new = form.as_str().trim_end();
        if reviewed.as_deref() == Some(new) {
            if mode == Mode::Auto && !others {
                remove(&pending)?;
                ours.remove(&pending);
            }
            return Ok(Comparison::Match { file });
        }
        let pending = match mode {
            Mode::Auto => {
                let text = written(scenario, description(&file).as_deref(), new);
                if others && fs::read_to_string(&pending).ok().as_ref() != Some(&text) {
                    pending = self.folder.join(format!("{scenario}@{line}.{PENDING}"));
                }
                ours.entry(pending.clone()).or_insert_with(|| line.to_owned());
                fs::write(&pending, text)
                    .map_err(|source| ReviewError::Write { path: pending.clone(), source })?;
                Some(pending)
            }
            Mode::Deny | Mode::Off => None,
        };
        Ok(match reviewed {
            Some(reviewed) => Comparison::Changed { diff: diff(&reviewed, new), file, pending },
            None => Comparison::Missing { file, pending },
        })
    }

    /// Names of pending snapshots, sorted.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn pending(&self) -> Result<Vec<String>, ReviewError> {
        let read = |source| ReviewError::Read { path: self.folder.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".snap.new")) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// How a pending snapshot differs from the reviewed one.
    ///
    /// # Errors
    /// If it is not pending or a file cannot be read.
    pub fn diff(&self, name: &str) -> Result<String, ReviewError> {
        let (file, pending) = self.pair(name)?;
        let reviewed = if file.is_file() { contents(&file)? } else { String::new() };
        Ok(diff(&reviewed, &contents(&pending)?))
    }

    /// Makes a pending snapshot the reviewed one.
    ///
    /// # Errors
    /// If it is not pending, or cannot be parsed or moved.
    pub fn accept(&self, name: &str) -> Result<(), ReviewError> {
        let (file, pending) = self.pair(name)?;
        contents(&pending)?;
        fs::rename(&pending, &file).map_err(|source| ReviewError::Write { path: file, source })
    }

    /// Removes a pending snapshot.
    ///
    /// # Errors
    /// If it is not pending or cannot be removed.
    pub fn reject(&self, name: &str) -> Result<(), ReviewError> {
        remove(&self.pair(name)?.1)
    }

    fn pair(&self, name: &str) -> Result<(PathBuf, PathBuf), ReviewError> {
        let pending = self.pending()?;
        if !pending.iter().any(|known| known == name) {
            return Err(ReviewError::NotPending { name: name.to_owned(), pending });
        }
        let path = |extension: &str| self.folder.join(format!("{name}.{extension}"));
        Ok((path(REVIEWED), path(PENDING)))
    }
}

/// A snapshot file as insta writes it.
fn written(scenario: &str, description: Option<&str>, contents: &str) -> String {
    // A JSON string is one of YAML too, whatever is in it.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let description = description.map_or_else(String::new, |text| format!("description: {}\n", quoted(text)));
    format!("---\nsource: snapshots/tests/replay.rs\n{description}expression: {scenario}\n---\n{contents}\n")
}

/// What a snapshot file says of itself: one that a kernel line has of its own says why.
fn description(path: &Path) -> Option<String> {
    Snapshot::from_file(path).ok()?.metadata().description().map(str::to_owned)
}

/// The text of a snapshot file, read by insta itself.
fn contents(path: &Path) -> Result<String, ReviewError> {
    let parse = |message: String| ReviewError::Parse { path: path.to_owned(), message };
    let text =
        fs::read_to_string(path).map_err(|source| ReviewError::Read { path: path.to_owned(), source })?;
    // insta would take it for a file of its earliest versions, and say so on stderr.
    if text.lines().next().map(str::trim_end) != Some("---") {
        return Err(parse("its first line is not `---`".to_owned()));
    }
    let snapshot = Snapshot::from_file(path).map_err(|error| parse(error.to_string()))?;
    match snapshot.contents() {
        insta::internals::SnapshotContents::Text(text) => Ok(text.to_string().trim_end().to_owned()),
        insta::internals::SnapshotContents::Binary(_) => Err(parse("it is a binary snapshot".to_owned())),
    }
}

fn diff(reviewed: &str, new: &str) -> String {
    let (reviewed, new) = (format!("{reviewed}\n"), format!("{new}\n"));
    TextDiff::from_lines(&reviewed, &new)
        .unified_diff()
        .context_radius(3)
        .header("reviewed", "this run")
        .to_string()
}

fn remove(path: &Path) -> Result<(), ReviewError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ReviewError::Write { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path());
        (folder, shelf)
    }

    fn form(text: &str) -> Canonical {
        Canonical::from(text.to_owned())
    }

    #[test]
    fn a_line_with_a_snapshot_of_its_own_says_why_and_stays_to_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path());
        let path = folder.path().join("smoke@5.10.snap");
        fs::write(&path, written("smoke", Some("It has no \"exec\"."), "old")).unwrap();
        assert!(matches!(
            shelf.compare("smoke", "5.10", &form("new\n"), Mode::Auto).unwrap(),
            Comparison::Changed { .. }
        ));
        shelf.accept("smoke@5.10").unwrap();
        assert_eq!(description(&path).as_deref(), Some("It has no \"exec\"."));
        assert_eq!(contents(&path).unwrap(), "new");
        // And so do ours.
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("snapshots");
        for entry in fs::read_dir(ours).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains('@') && path.extension().is_some_and(|end| end == "snap") {
                assert!(description(&path).is_some_and(|text| text.len() > 20), "{}", path.display());
            }
        }
    }

    #[test]
    fn whatever_a_snapshot_says_of_itself_can_be_read_again() {
        let (folder, shelf) = shelf();
        let path = folder.path().join("smoke.snap");
        for text in [
            "it's \u{1b}[1mbold\u{1b}[0m\u{301}",
            "two\nlines: \\ \"x\"",
            "# no comment",
            "- \u{7f}\u{1f600}",
        ] {
            fs::write(&path, written("smoke", Some(text), "old")).unwrap();
            assert_eq!(description(&path).as_deref(), Some(text));
            shelf.compare("smoke", "6.12", &form("new\n"), Mode::Auto).unwrap();
            shelf.accept("smoke").unwrap();
            assert_eq!(description(&path).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_file_without_front_matter_is_no_snapshot() {
        let (folder, shelf) = shelf();
        for text in ["", "Expression: smoke\n\na\n", "----\n---\na\n"] {
            fs::write(folder.path().join("smoke.snap"), text).unwrap();
            let error = shelf.compare("smoke", "6.12", &form("a\n"), Mode::Auto).unwrap_err().to_string();
            assert!(error.contains("smoke.snap: its first line is not `---`"), "{error}");
        }
        assert_eq!(shelf.pending().unwrap(), [""; 0]);
    }

    #[test]
    fn what_two_kernel_lines_change_is_there_to_review_for_both() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path());
        fs::write(folder.path().join("smoke.snap"), written("smoke", None, "all")).unwrap();
        let compare = |line, text| shelf.compare("smoke", line, &form(text), Mode::Auto).unwrap();
        assert!(matches!(compare("5.10", "old\n"), Comparison::Changed { .. }));
        // One that matches, one that changes alike, one that changes otherwise.
        assert!(matches!(compare("6.12", "all\n"), Comparison::Match { .. }));
        assert!(matches!(compare("6.1", "old\n"), Comparison::Changed { .. }));
        assert_eq!(shelf.pending().unwrap(), ["smoke"]);
        assert!(matches!(compare("7.3", "new\n"), Comparison::Changed { .. }));
        assert_eq!(shelf.pending().unwrap(), ["smoke", "smoke@7.3"]);
        assert!(shelf.diff("smoke").unwrap().contains("old"));
        // The line that wrote it finds the reviewed one again.
        assert!(matches!(compare("5.10", "all\n"), Comparison::Match { .. }));
        assert_eq!(shelf.pending().unwrap(), ["smoke@7.3"]);
    }

    #[test]
    fn a_missing_one_becomes_pending_and_accepted_it_matches() {
        let (folder, shelf) = shelf();
        let missing = shelf.compare("smoke", "6.12", &form("a\nb\n"), Mode::Auto).unwrap();
        assert!(matches!(missing, Comparison::Missing { pending: Some(_), .. }), "{missing:?}");
        assert_eq!(shelf.pending().unwrap(), ["smoke"]);
        shelf.accept("smoke").unwrap();
        let again = shelf.compare("smoke", "6.12", &form("a\nb\n"), Mode::Deny).unwrap();
        assert_eq!(again, Comparison::Match { file: folder.path().join("smoke.snap") });
    }

    #[test]
    fn a_changed_one_has_a_diff_and_a_later_match_removes_the_pending_file() {
        let (_folder, shelf) = shelf();
        shelf.compare("smoke", "6.12", &form("a\nb\nc\n"), Mode::Auto).unwrap();
        shelf.accept("smoke").unwrap();
        match shelf.compare("smoke", "6.12", &form("a\nX\nc\n"), Mode::Auto).unwrap() {
            Comparison::Changed { diff, .. } => assert!(diff.contains("-b\n+X\n"), "{diff}"),
            other => panic!("{other:?}"),
        }
        assert!(shelf.diff("smoke").unwrap().contains("+X"));
        shelf.compare("smoke", "6.12", &form("a\nb\nc\n"), Mode::Auto).unwrap();
        assert_eq!(shelf.pending().unwrap(), [""; 0]);
    }

    #[test]
    fn deny_writes_nothing() {
        let (folder, shelf) = shelf();
        shelf.compare("smoke", "6.12", &form("a\n"), Mode::Deny).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_kernel_line_may_have_its_own() {
        let (folder, shelf) = shelf();
        fs::write(folder.path().join("smoke@7.3.snap"), written("smoke", None, "seven")).unwrap();
        fs::write(folder.path().join("smoke.snap"), written("smoke", None, "all")).unwrap();
        let compare = |line, text| shelf.compare("smoke", line, &form(text), Mode::Deny).unwrap();
        assert!(matches!(compare("7.3", "seven\n"), Comparison::Match { .. }));
        assert!(matches!(compare("6.12", "all\n"), Comparison::Match { .. }));
        assert!(matches!(compare("6.12", "seven\n"), Comparison::Changed { .. }));
    }

    #[test]
    fn a_name_that_is_not_pending_is_refused_with_those_that_are() {
        let (_folder, shelf) = shelf();
        shelf.compare("nest", "6.12", &form("a\n"), Mode::Auto).unwrap();
        let message = shelf.accept("smoke").unwrap_err().to_string();
        assert!(message.contains("`smoke`") && message.contains("nest"), "{message}");
    }
}
