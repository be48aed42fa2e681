// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `--series` names.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::super::source::SourceSpec;
use super::error::SeriesError;
use super::{Series, box_series, folder, git};

/// Where a series is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeriesInput {
    /// A folder: series.toml, or a quilt series, or `NNNN-*.patch`.
    Folder(PathBuf),
    /// A quilt series file.
    Quilt(PathBuf),
    /// A mailbox, or a single patch.
    Box(PathBuf),
    /// A mailbox from standard input.
    Stdin,
    /// A range of commits.
    Git {
        /// Work tree or bare repository.
        repository: PathBuf,
        /// The commit before the first patch.
        from: String,
        /// The last patch.
        to: String,
    },
}

impl SeriesInput {
    /// What a text names: what lies there, before `-`, before `GITDIR@BASE..TIP`, before `BASE..TIP` of the git
    /// tree that is the kernel's source, or else of the current folder. With a git tree as the source, a
    /// revision alone is everything on top of that source.
    ///
    /// # Errors
    /// [`SeriesError::NoSuchSeries`].
    pub fn parse(text: &Path, source: Option<&SourceSpec>) -> Result<SeriesInput, SeriesError> {
        if text.is_dir() {
            return Ok(SeriesInput::Folder(text.to_owned()));
        }
        if text.exists() {
            let quilt = text.file_name().is_some_and(|name| name == "series")
                || text.extension().is_some_and(|end| end == "series");
            return Ok(if quilt {
                SeriesInput::Quilt(text.to_owned())
            } else {
                SeriesInput::Box(text.to_owned())
            });
        }
        let unknown = || SeriesError::NoSuchSeries(text.display().to_string());
        let name = text.to_str().ok_or_else(unknown)?;
        if name == "-" {
            return Ok(SeriesInput::Stdin);
        }
        let source = match source {
            Some(SourceSpec::Git { repository, revision }) => Some((repository, revision)),
            _ => None,
        };
        for (at, _) in name.match_indices('@') {
            let (repository, range) = (Path::new(&name[..at]), &name[at + 1..]);
            if repository.is_dir() && !range.is_empty() {
                let base =
                    source.filter(|(of, _)| same_folder(of, repository)).map(|(_, base)| base.as_str());
                let (from, to) = range_of(range, base).ok_or_else(unknown)?;
                return Ok(SeriesInput::Git { repository: repository.to_owned(), from, to });
            }
        }
        let repository = source.map_or(Path::new("."), |(repository, _)| repository.as_path());
        let base = source.map(|(_, base)| base.as_str());
        let (from, to) = range_of(name, base).ok_or_else(unknown)?;
        Ok(SeriesInput::Git { repository: repository.to_owned(), from, to })
    }

    /// The file or folder, `-` for standard input.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            SeriesInput::Folder(path) | SeriesInput::Quilt(path) | SeriesInput::Box(path) => path,
            SeriesInput::Stdin => Path::new("-"),
            SeriesInput::Git { repository, .. } => repository,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// As [`SeriesError`].
    pub fn read(&self) -> Result<Series, SeriesError> {
        let read_error = |source| SeriesError::Read { path: self.path().to_owned(), source };
        match self {
            SeriesInput::Folder(path) => folder::read(path),
            SeriesInput::Quilt(path) => folder::quilt_series(path),
            SeriesInput::Box(path) => box_series::read(path, &std::fs::read(path).map_err(read_error)?),
            SeriesInput::Stdin => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).map_err(read_error)?;
                let mut series = box_series::read(Path::new("-"), &bytes)?;
                "stdin".clone_into(&mut series.name);
                Ok(series)
            }
            SeriesInput::Git { repository, from, to } => git::read(repository, from, to),
        }
    }
}

fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// `BASE..TIP`, `BASE..`, or `TIP` on top of a base that is known. A mistyped path (`../x`, `a/../b`) is no range.
fn range_of(text: &str, base: Option<&str>) -> Option<(String, String)> {
    let is_revision = |text: &str| !text.starts_with(['/', '-', '.']) && !text.contains("..");
    match (text.split_once(".."), base) {
        (Some((from, to)), _) if !from.is_empty() && is_revision(from) && is_revision(to) => {
            Some((from.to_owned(), if to.is_empty() { "HEAD" } else { to }.to_owned()))
        }
        (None, Some(base)) if is_revision(text) => Some((base.to_owned(), text.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_what_lies_there_or_a_range() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for file in ["x.mbox", "series", "a..b"] {
            std::fs::write(path(file), "").unwrap();
        }
        let parse = |text: &Path| SeriesInput::parse(text, None).unwrap();
        assert_eq!(parse(dir.path()), SeriesInput::Folder(dir.path().to_owned()));
        assert_eq!(parse(&path("x.mbox")), SeriesInput::Box(path("x.mbox")));
        assert_eq!(parse(&path("a..b")), SeriesInput::Box(path("a..b")));
        assert_eq!(parse(&path("series")), SeriesInput::Quilt(path("series")));
        assert_eq!(parse(Path::new("-")), SeriesInput::Stdin);
        let range = |repository: &Path, from: &str, to: &str| SeriesInput::Git {
            repository: repository.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let named = format!("{}@v6.12..topic@{{0}}", dir.path().display());
        assert_eq!(parse(Path::new(&named)), range(dir.path(), "v6.12", "topic@{0}"));
        assert_eq!(parse(Path::new("v6.12..")), range(Path::new("."), "v6.12", "HEAD"));
        let source = SourceSpec::Git { repository: dir.path().to_owned(), revision: "v6.12".into() };
        let parse = |text: &str| SeriesInput::parse(Path::new(text), Some(&source)).unwrap();
        assert_eq!(parse("topic"), range(dir.path(), "v6.12", "topic"));
        assert_eq!(parse("v6.1..topic"), range(dir.path(), "v6.1", "topic"));
    }

    #[test]
    fn what_is_not_there_is_an_error_that_says_what_could_be() {
        for text in ["nowhere", "../nowhere", "a/../nowhere", "nowhere.mbox", "..topic", "a...b"] {
            let error = SeriesInput::parse(Path::new(text), None).unwrap_err().to_string();
            assert!(error.starts_with(&format!("no series at `{text}` (hint: ")), "{error}");
        }
    }
}
