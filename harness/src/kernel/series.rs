// SPDX-License-Identifier: MIT OR Apache-2.0
//! A patch series: a folder of `NNNN-*.patch`, with an optional series.toml.

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use super::apply::AppliedPatch;
use super::apply::{ApplyError, Overlay};
use super::digest::{Hash, KeyHasher};
use super::event::{BuildEvent, Events};
use super::patch::{Patch, PatchError};

/// A series, read and parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Of series.toml, or the folder's name.
    pub name: String,
    /// Where it lies.
    pub folder: PathBuf,
    /// In their order, without the cover letter.
    pub patches: Vec<Patch>,
    /// Kconfig symbol that switches on what the series adds, without `CONFIG_`.
    pub config: Option<String>,
    /// The kernel line that it was made for.
    pub base: Option<String>,
    /// Types of checkpatch that its cover letter argues away.
    pub checkpatch_ignore: Vec<String>,
    /// Over the patches' names and bytes.
    pub hash: Hash,
}

/// Why there is no series.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// The folder or a file in it cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Folder or file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// series.toml cannot be understood.
    #[error("{path}: {message}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// With line and column.
        message: String,
    },
    /// No patch in the folder.
    #[error("no patches in {} (hint: they are called NNNN-*.patch; 0000-* is the cover letter)", .0.display())]
    NoPatches(PathBuf),
    /// A patch lies there that series.toml does not list: most likely it was forgotten.
    #[error("{patch} is not in the list of {}", list.display())]
    Unlisted {
        /// series.toml.
        list: PathBuf,
        /// File name of the patch.
        patch: String,
    },
    /// A patch cannot be parsed.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

#[derive(Debug, Default, Deserialize)]
struct Table {
    name: Option<String>,
    base: Option<String>,
    config: Option<String>,
    #[serde(default)]
    checkpatch_ignore: Vec<String>,
    patches: Option<Vec<String>>,
}

impl Series {
    /// Reads a folder. series.toml gives the order; without it, the names do.
    ///
    /// # Errors
    /// As [`SeriesError`].
    pub fn read(folder: &Path) -> Result<Series, SeriesError> {
        let read_error = |path: &Path| {
            let path = path.to_owned();
            move |source| SeriesError::Read { path, source }
        };
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .map_err(read_error(folder))?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_numbered(name))
            .collect();
        found.sort_unstable();
        let list = folder.join("series.toml");
        let table = match std::fs::read_to_string(&list) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| SeriesError::Toml { path: list.clone(), message: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::default(),
            Err(source) => return Err(SeriesError::Read { path: list, source }),
        };
        let names = match table.patches {
            Some(names) => {
                if let Some(patch) = found.into_iter().find(|name| !names.contains(name)) {
                    return Err(SeriesError::Unlisted { list, patch });
                }
                names
            }
            None => found,
        };
        if names.is_empty() {
            return Err(SeriesError::NoPatches(folder.to_owned()));
        }
        let mut hasher = KeyHasher::new("series");
        let mut patches = Vec::with_capacity(names.len());
        for name in names {
            let path = folder.join(&name);
            let bytes = std::fs::read(&path).map_err(read_error(&path))?;
            hasher.part("name", &name);
            hasher.part("bytes", &bytes);
            patches.push(Patch::parse(&name, &bytes)?);
        }
        let folder_name = || folder.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Series {
            name: table.name.or_else(folder_name).unwrap_or_default(),
            folder: folder.to_owned(),
            patches,
            config: table.config,
            base: table.base,
            checkpatch_ignore: table.checkpatch_ignore,
            hash: hasher.finish(),
        })
    }

    /// The series up to its first `count` patches.
    #[must_use]
    pub fn prefix(&self, count: usize) -> Series {
        let mut hasher = KeyHasher::new("prefix");
        hasher.part("series", self.hash.as_str());
        hasher.part("count", count.to_string());
        let patches = self.patches.iter().take(count).cloned().collect();
        Series { patches, hash: hasher.finish(), ..self.clone() }
    }

    /// Applies every patch to a pristine tree, which itself stays as it is.
    ///
    /// # Errors
    /// [`ApplyError::Rejected`] with the first hunk that does not apply.
    pub fn apply(&self, tree: &Path, events: Events<'_>) -> Result<(Overlay, Vec<AppliedPatch>), ApplyError> {
        let mut overlay = Overlay::new(tree);
        let mut applied = Vec::with_capacity(self.patches.len());
        for patch in &self.patches {
            let done = overlay.apply(patch)?;
            events(BuildEvent::Applied(done.clone()));
            applied.push(done);
        }
        Ok((overlay, applied))
    }
}

/// `NNNN-*.patch`, but not the cover letter.
fn is_numbered(name: &str) -> bool {
    let number = name.split('-').next().unwrap_or_default();
    name.ends_with(".patch")
        && number.len() < name.len()
        && number.len() == 4
        && number.bytes().all(|c| c.is_ascii_digit())
        && number != "0000"
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "Subject: [PATCH] x\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    #[test]
    fn names_give_the_order_and_the_cover_is_ignored() {
        let second = PATCH.replace("-a\n+b", "-b\n+c");
        let dir = folder(&[
            ("0002-b.patch", second.as_str()),
            ("0001-a.patch", PATCH),
            ("0000-cover-letter.patch", "Subject: cover\n"),
            ("notes.patch", "not numbered"),
        ]);
        let series = Series::read(dir.path()).unwrap();
        let names: Vec<&str> = series.patches.iter().map(|patch| patch.name.as_str()).collect();
        assert_eq!(names, ["0001-a.patch", "0002-b.patch"]);
        let tree = folder(&[("f", "a\n")]);
        let (overlay, applied) = series.apply(tree.path(), &mut |_| ()).unwrap();
        assert_eq!(overlay.files()[Path::new("f")].as_ref().unwrap().content, b"c\n");
        assert_eq!(applied.len(), 2);
    }

    #[test]
    fn the_list_gives_order_name_and_symbol() {
        let list = "name = \"auditnsid\"\nconfig = \"AUDIT_NSID\"\npatches = [\"0001-a.patch\"]\nother = 1\n";
        let dir = folder(&[("0001-a.patch", PATCH), ("series.toml", list)]);
        let series = Series::read(dir.path()).unwrap();
        assert_eq!((series.name.as_str(), series.config.as_deref()), ("auditnsid", Some("AUDIT_NSID")));
        std::fs::write(dir.path().join("0002-b.patch"), PATCH).unwrap();
        let error = Series::read(dir.path()).unwrap_err();
        assert!(error.to_string().starts_with("0002-b.patch is not in the list of "), "{error}");
    }

    #[test]
    fn the_hash_changes_with_every_byte() {
        let hash = |text: &str| Series::read(folder(&[("0001-a.patch", text)]).path()).unwrap().hash;
        assert_eq!(hash(PATCH), hash(PATCH));
        assert_ne!(hash(PATCH), hash(&PATCH.replace("[PATCH] x", "[PATCH] y")));
    }

    #[test]
    fn an_empty_folder_and_a_listed_patch_that_is_not_there_are_errors() {
        assert!(matches!(Series::read(folder(&[]).path()), Err(SeriesError::NoPatches(_))));
        let dir = folder(&[("series.toml", "patches = [\"0001-a.patch\"]\n")]);
        assert!(matches!(Series::read(dir.path()), Err(SeriesError::Read { .. })));
    }
}
