// SPDX-License-Identifier: MIT OR Apache-2.0
//! A patch series, from wherever a maintainer has it: a folder, a quilt series, a mailbox, a git range.
//!
//! [`SeriesInput`] says what a text on the command line names and reads it; every kind ends as the same
//! [`Series`], whose patches leave the same files however they came.

mod base;
mod box_series;
mod commits;
mod compose;
mod diff;
mod error;
mod folder;
mod git;
mod input;
mod mail;
mod mbox;
mod note;
mod pick;
mod quilt;
mod stat;
mod tag;
mod thread;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::base::{BaseCheck, BaseVerdict};
pub use self::commits::Commit;
pub use self::diff::{DiffError, Side, range_diff};
pub use self::error::{MailError, MessagePlace, Place, SeriesError};
pub use self::input::SeriesInput;
pub use self::note::SeriesNote;
pub use self::pick::{PickError, Picks};
pub use self::stat::{DiffStat, FileStat};
pub use super::apply::AppliedPatch;
use super::apply::{ApplyError, Overlay};
use super::digest::{Hash, KeyHasher};
use super::event::{BuildEvent, Events};
use super::patch::Patch;

/// A series, read and parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Of series.toml, or the name of the folder or file.
    pub name: String,
    /// The folder or file that it was read from; `-` for standard input.
    pub folder: PathBuf,
    /// Of the cover letter, without prefixes.
    pub title: Option<String>,
    /// As its subjects or file names say.
    pub version: u32,
    /// In their order, without the cover letter.
    pub patches: Vec<Patch>,
    /// Kconfig symbol that switches on what the series adds, without `CONFIG_`.
    pub config: Option<String>,
    /// The kernel line that it was made for.
    pub base: Option<String>,
    /// The commit that it was made on, as its `base-commit:` says, or of the range.
    pub base_commit: Option<String>,
    /// Types of checkpatch that its cover letter argues away.
    pub checkpatch_ignore: Vec<String>,
    /// What a reader of the result should know of how it was read.
    pub notes: Vec<SeriesNote>,
    /// Over the patches' names and bytes.
    pub hash: Hash,
}

impl Series {
    /// Reads a folder: series.toml gives the order, then a quilt series file, then the names.
    ///
    /// # Errors
    /// As [`SeriesError`].
    pub fn read(folder: &Path) -> Result<Series, SeriesError> {
        folder::read(folder)
    }

    /// Reads the bytes of a mailbox, or of a single mail; `path` names them.
    ///
    /// # Errors
    /// As [`SeriesError`].
    pub fn from_mailbox(path: &Path, bytes: &[u8]) -> Result<Series, SeriesError> {
        box_series::read(path, bytes)
    }

    fn empty(path: &Path) -> Series {
        Series {
            name: path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            folder: path.to_owned(),
            title: None,
            version: 1,
            patches: Vec::new(),
            config: None,
            base: None,
            base_commit: None,
            checkpatch_ignore: Vec::new(),
            notes: Vec::new(),
            hash: Hash::of(b""),
        }
    }

    fn take_cover(&mut self, cover: &mail::Mail) {
        self.title = Some(cover.tag.title.clone());
        self.trailers(cover);
    }

    /// The cover letter comes first: it is right where a patch says otherwise.
    fn trailers(&mut self, mail: &mail::Mail) {
        if self.base_commit.is_none() {
            self.base_commit.clone_from(&mail.base_commit);
        }
        if mail.prerequisites > 0 {
            self.notes.push(SeriesNote::Prerequisites(mail.prerequisites));
        }
        if let Some(charset) = &mail.recoded {
            let (message, charset) = (mail.place.clone(), charset.clone());
            self.notes.push(SeriesNote::Recoded { message, charset });
        }
    }

    /// Says which new symbols of the series would stay off.
    fn note_symbols(&mut self) {
        let symbols = stat::new_symbols(&self.patches);
        if self.config.is_none() && !symbols.is_empty() {
            self.notes.push(SeriesNote::Symbols(symbols));
        }
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

    /// The series with one patch more, behind its last one.
    #[must_use]
    pub fn with(&self, patch: Patch) -> Series {
        let mut hasher = KeyHasher::new("with");
        hasher.part("series", self.hash.as_str());
        hasher.part(&patch.name, &patch.text);
        let mut series = Series { hash: hasher.finish(), ..self.clone() };
        series.patches.push(patch);
        series
    }

    /// Applies every patch to a pristine tree, which itself stays as it is.
    ///
    /// # Errors
    /// [`ApplyError::Rejected`] with the first hunk that does not apply.
    pub fn apply(&self, tree: &Path, events: Events<'_>) -> Result<(Overlay, Vec<AppliedPatch>), ApplyError> {
        self.apply_fuzzy(tree, 0, events)
    }

    /// As [`Series::apply`], with up to `fuzz` lines of context at the ends of a hunk that need not stand there.
    ///
    /// # Errors
    /// As [`Series::apply`].
    pub fn apply_fuzzy(
        &self,
        tree: &Path,
        fuzz: usize,
        events: Events<'_>,
    ) -> Result<(Overlay, Vec<AppliedPatch>), ApplyError> {
        let mut overlay = Overlay::new(tree);
        let mut applied = Vec::with_capacity(self.patches.len());
        for patch in &self.patches {
            let done = overlay.apply_fuzzy(patch, fuzz)?;
            events(BuildEvent::Applied(done.clone()));
            applied.push(done);
        }
        Ok((overlay, applied))
    }
}
