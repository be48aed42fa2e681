// SPDX-License-Identifier: MIT OR Apache-2.0
//! Strict application of patches, in memory.
//!
//! A hunk applies where all of its context and removed lines stand, nowhere else, unless fuzz is asked for. If they
//! stand at another line than the hunk says, that offset is reported. The result is an overlay: the
//! files that differ from the pristine tree, which itself is only read. The rules for where a hunk may
//! stand are those of git's apply.c:find_pos (a hunk of line 1 at the start, one without trailing context at
//! the end of the file). Fuzz is GNU patch's: a level more leaves out a line of context at each end, and each level
//! is tried at every line before the next one; it is reported for each hunk.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::digest::{Hash, KeyHasher};
use super::patch::{FilePatch, Hunk, HunkLine, Patch, new_lines, old_lines};
use super::store::{StoreError, io_error};
use crate::report::escape::{lines, one_line};

/// A patch that applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedPatch {
    /// File name.
    pub name: String,
    /// Of its mail header.
    pub subject: String,
    /// Hunks that stood at another line than they said, or whose context did not stand there whole.
    pub offsets: Vec<HunkOffset>,
}

/// A hunk that did not stand exactly where and as it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HunkOffset {
    /// The file.
    pub file: PathBuf,
    /// Number of the hunk in that file, from 1.
    pub hunk: usize,
    /// Lines further down (or, negative, up).
    pub lines: isize,
    /// How many lines of context at an end were left out; 0 unless asked for.
    pub fuzz: usize,
}

/// For a report: `an offset of 2 lines`, `fuzz 1`.
impl fmt::Display for HunkOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hunk {} applies with ", self.file.display(), self.hunk)?;
        let plural = if self.lines.abs() == 1 { "" } else { "s" };
        match (self.lines, self.fuzz) {
            (lines, 0) => write!(f, "an offset of {lines} line{plural}"),
            (0, fuzz) => write!(f, "fuzz {fuzz}"),
            (lines, fuzz) => write!(f, "fuzz {fuzz} and an offset of {lines} line{plural}"),
        }
    }
}

/// Why a hunk, or the whole change of a file, was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Its lines do not stand there, nor anywhere below the hunk before it.
    #[error("its context is not in the file")]
    Mismatch,
    /// The file to change is not there.
    #[error("the file does not exist")]
    Missing,
    /// The file to make is there already.
    #[error("the file exists already")]
    Exists,
    /// The path goes through a symbolic link, or is one.
    #[error(
        "the path is or goes through a symbolic link of the tree, which may lead out of it; nothing was written (hint: leave the file out of the series)"
    )]
    Link,
    /// A folder stands where the file shall be, or a file where the folder shall be.
    #[error(
        "a folder stands where the patch wants a file, or a file where it wants a folder; nothing was written"
    )]
    Folder,
    /// The file to delete has more in it than the patch removes.
    #[error("the file to delete is not empty afterwards")]
    LeftOver,
}

/// The first hunk of a series that does not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedHunk {
    /// File name of the patch.
    pub patch: String,
    /// Its subject.
    pub subject: String,
    /// The file to change.
    pub file: PathBuf,
    /// Number of the hunk in that file, from 1; 0 if no single hunk is to blame.
    pub hunk: usize,
    /// Hunks in that file.
    pub hunks: usize,
    /// Why.
    pub reject: Reject,
    /// The hunk, as in the patch.
    pub text: String,
    /// Line at which the hunk was expected, from 1.
    pub line: usize,
    /// The lines that stand there.
    pub found: Vec<String>,
}

impl std::error::Error for RejectedHunk {}

impl fmt::Display for RejectedHunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (patch, file) = (one_line(&self.patch), one_line(&self.file.display().to_string()));
        if self.hunk == 0 {
            return write!(f, "{patch} does not apply: {file}: {}", self.reject);
        }
        let (hunk, hunks) = (self.hunk, self.hunks);
        writeln!(f, "{patch} does not apply: {file}, hunk {hunk} of {hunks}: {}", self.reject)?;
        write!(f, "{}", lines(&self.text))?;
        if self.found.is_empty() {
            return write!(f, "(the file ends before line {})", self.line);
        }
        write!(f, "what stands there:")?;
        for (i, line) in self.found.iter().enumerate() {
            write!(f, "\n{:6}  {}", self.line + i, lines(line))?;
        }
        Ok(())
    }
}

/// Why a patch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It does not apply.
    #[error(transparent)]
    Rejected(#[from] Box<RejectedHunk>),
    /// The pristine tree cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file as the series leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayFile {
    /// Its content.
    pub content: Vec<u8>,
    /// Whether it is executable.
    pub executable: bool,
}

/// What differs from a pristine tree: files with other content, and (`None`) files that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    tree: PathBuf,
    files: BTreeMap<PathBuf, Option<OverlayFile>>,
}

impl Overlay {
    /// No difference yet.
    #[must_use]
    pub fn new(tree: &Path) -> Overlay {
        Overlay { tree: tree.to_owned(), files: BTreeMap::new() }
    }

    /// The files that were touched.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<PathBuf, Option<OverlayFile>> {
        &self.files
    }

    /// Leaves out the files that `keep` does not pick.
    pub(super) fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.files.retain(|path, _| keep(path));
    }

    /// Names the difference: paths, contents, modes. Two series that leave the same files have the same.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hasher = KeyHasher::new("overlay");
        for (path, file) in &self.files {
            hasher.part("path", path.as_os_str().as_encoded_bytes());
            match file {
                None => hasher.part("gone", ""),
                Some(file) => hasher.part(if file.executable { "x" } else { "-" }, &file.content),
            }
        }
        hasher.finish()
    }

    /// Applies a patch: all of it, or nothing.
    ///
    /// # Errors
    /// [`ApplyError::Rejected`] with the first hunk that does not apply.
    pub fn apply(&mut self, patch: &Patch) -> Result<AppliedPatch, ApplyError> {
        self.apply_fuzzy(patch, 0)
    }

    /// As [`Overlay::apply`], with up to `fuzz` lines of context at the ends of a hunk that need not stand there.
    ///
    /// # Errors
    /// As [`Overlay::apply`].
    pub fn apply_fuzzy(&mut self, patch: &Patch, fuzz: usize) -> Result<AppliedPatch, ApplyError> {
        let before = self.files.clone();
        let mut offsets = Vec::new();
        for file in &patch.files {
            if let Err(error) = self.apply_file(patch, file, fuzz, &mut offsets) {
                self.files = before;
                return Err(error);
            }
        }
        Ok(AppliedPatch { name: patch.name.clone(), subject: patch.subject.clone(), offsets })
    }

    fn apply_file(
        &mut self,
        patch: &Patch,
        change: &FilePatch,
        fuzz: usize,
        offsets: &mut Vec<HunkOffset>,
    ) -> Result<(), ApplyError> {
        let whole = |reject| whole_file(patch, change, reject);
        for path in change.old.iter().chain(&change.new) {
            if self.through_link(path) {
                return Err(whole(Reject::Link));
            }
        }
        if change.new.as_deref().is_some_and(|path| self.in_the_way(path)) {
            return Err(whole(Reject::Folder));
        }
        let old = match &change.old {
            Some(path) => Some(self.read(path)?.ok_or_else(|| whole(Reject::Missing))?),
            None => None,
        };
        if let Some(new) = &change.new
            && change.old.as_ref() != Some(new)
            && self.read(new)?.is_some()
        {
            return Err(whole(Reject::Exists));
        }
        let (content, was_executable) =
            old.map_or((Vec::new(), false), |file| (file.content, file.executable));
        let content = apply_hunks(patch, change, &content, fuzz, offsets)?;
        match (&change.old, &change.new) {
            (_, Some(new)) => {
                let executable = change.executable.unwrap_or(was_executable);
                if let Some(old) = &change.old
                    && old != new
                    && !change.copy
                {
                    self.files.insert(old.clone(), None);
                }
                self.files.insert(new.clone(), Some(OverlayFile { content, executable }));
            }
            (Some(_), None) if !content.is_empty() => return Err(whole(Reject::LeftOver)),
            (Some(old), None) => {
                self.files.insert(old.clone(), None);
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// A file as it is now; `None` if it is not there or no regular file.
    pub(super) fn read(&self, path: &Path) -> Result<Option<OverlayFile>, StoreError> {
        if let Some(file) = self.files.get(path) {
            return Ok(file.clone());
        }
        let full = self.tree.join(path);
        let Ok(meta) = full.symlink_metadata() else { return Ok(None) };
        if !meta.is_file() {
            return Ok(None);
        }
        let content = std::fs::read(&full).map_err(io_error("read", &full))?;
        Ok(Some(OverlayFile { content, executable: meta.permissions().mode() & 0o111 != 0 }))
    }

    /// Whether a folder has this path, or a file one of the folders above it. A folder of the pristine tree counts also
    /// when nothing is left in it: the private tree keeps it.
    fn in_the_way(&self, path: &Path) -> bool {
        let below = |(found, file): (&PathBuf, &Option<OverlayFile>)| {
            file.is_some() && found.as_path() != path && found.starts_with(path)
        };
        let is_file = |folder: &Path| match self.files.get(folder) {
            Some(file) => file.is_some(),
            None => self.tree.join(folder).is_file(),
        };
        self.tree.join(path).is_dir()
            || self.files.iter().any(below)
            || path.ancestors().skip(1).filter(|folder| *folder != Path::new("")).any(is_file)
    }

    fn through_link(&self, path: &Path) -> bool {
        let mut full = self.tree.clone();
        path.components().any(|part| {
            full.push(part);
            full.is_symlink()
        })
    }
}

fn whole_file(patch: &Patch, change: &FilePatch, reject: Reject) -> ApplyError {
    Box::new(RejectedHunk {
        patch: patch.name.clone(),
        subject: patch.subject.clone(),
        file: change.path().to_owned(),
        hunk: 0,
        hunks: change.hunks.len(),
        reject,
        text: String::new(),
        line: 0,
        found: Vec::new(),
    })
    .into()
}

fn apply_hunks(
    patch: &Patch,
    change: &FilePatch,
    content: &[u8],
    fuzz: usize,
    offsets: &mut Vec<HunkOffset>,
) -> Result<Vec<u8>, ApplyError> {
    let old: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
    let mut new = Vec::with_capacity(content.len() + 4096);
    // Lines of `old` that are behind us; hunks come in the order of lines.
    let mut done = 0;
    for (i, hunk) in change.hunks.iter().enumerate() {
        let said = hunk.old_start.saturating_sub(usize::from(hunk.old().next().is_some()));
        let Some(Stand { at, fuzz, dropped, lines }) = find(&old, done, said, hunk, fuzz) else {
            return Err(Box::new(RejectedHunk {
                patch: patch.name.clone(),
                subject: patch.subject.clone(),
                file: change.path().to_owned(),
                hunk: i + 1,
                hunks: change.hunks.len(),
                reject: Reject::Mismatch,
                text: hunk.to_string(),
                line: said + 1,
                found: lines_at(&old, said, hunk.old().count()),
            })
            .into());
        };
        let shift = at as isize - (said + dropped) as isize;
        if shift != 0 || fuzz != 0 {
            offsets.push(HunkOffset { file: change.path().to_owned(), hunk: i + 1, lines: shift, fuzz });
        }
        old[done..at].iter().for_each(|line| new.extend_from_slice(line));
        new_lines(lines).for_each(|line| new.extend_from_slice(line));
        done = at + old_lines(lines).count();
    }
    old[done..].iter().for_each(|line| new.extend_from_slice(line));
    Ok(new)
}

/// Where a hunk stands.
struct Stand<'a> {
    /// Index of the first line of `lines`.
    at: usize,
    fuzz: usize,
    /// Lines of context that were left out before it.
    dropped: usize,
    /// Of the hunk, without the context that was left out.
    lines: &'a [HunkLine],
}

/// Where the hunk stands: with as little fuzz as possible, then where it says, or the nearest place.
fn find<'a>(old: &[&[u8]], done: usize, said: usize, hunk: &'a Hunk, fuzz: usize) -> Option<Stand<'a>> {
    let (leading, trailing) = hunk.context();
    let context = leading.max(trailing);
    (0..=fuzz.min(context)).find_map(|fuzz| {
        // The end with less context is taken for one that lies at an end of the file, until fuzz has used up
        // the difference: patch.c and inp.c of GNU patch count the same.
        let (first, last) =
            ((fuzz + leading).saturating_sub(context), (fuzz + trailing).saturating_sub(context));
        let lines = hunk.lines.get(first..hunk.lines.len().checked_sub(last)?)?;
        // Nothing that could stand anywhere stands nowhere in particular.
        if fuzz > 0 && old_lines(lines).next().is_none() {
            return None;
        }
        let at_start = hunk.old_start <= 1 && (fuzz == 0 || fuzz + leading < context);
        let at_end = if fuzz == 0 { trailing == 0 } else { fuzz + trailing < context };
        let at = find_lines(old, done, said + first, lines, at_start, at_end)?;
        Some(Stand { at, fuzz, dropped: first, lines })
    })
}

fn find_lines(
    old: &[&[u8]],
    done: usize,
    said: usize,
    lines: &[HunkLine],
    at_start: bool,
    at_end: bool,
) -> Option<usize> {
    let wanted: Vec<&[u8]> = old_lines(lines).collect();
    let last = old.len().checked_sub(wanted.len())?;
    let fits = |at: usize| at >= done && at <= last && old[at..at + wanted.len()] == wanted[..];
    if at_start {
        let whole = !at_end || last == 0;
        return (whole && fits(0)).then_some(0);
    }
    if at_end {
        return fits(last).then_some(last);
    }
    let start = said.min(last);
    (0..=last.max(start)).find_map(|distance| {
        // git looks downwards first.
        let down = Some(start + distance).filter(|at| fits(*at));
        down.or_else(|| start.checked_sub(distance).filter(|at| fits(*at)))
    })
}

fn lines_at(old: &[&[u8]], at: usize, count: usize) -> Vec<String> {
    let lines = old.iter().skip(at).take(count.max(1));
    lines.map(|line| String::from_utf8_lossy(line).trim_end_matches('\n').to_owned()).collect()
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
