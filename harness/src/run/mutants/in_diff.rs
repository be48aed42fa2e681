// SPDX-License-Identifier: MIT OR Apache-2.0
//! Only the mutants whose fault lies in what a diff changes.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::kernel::{ApplyError, FilePatch, Hunk, HunkLine, Patch, PatchError, Series};
use crate::plan::mutant::Mutant;

/// Lines around a change that count as changed: what a fault beside it would be missed for.
const NEAR: usize = 3;

/// A diff, or a mutant, that cannot be used.
#[derive(Debug, Error)]
pub enum InDiffError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Patch(#[from] PatchError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The mutants with a change in a line that the diff changes too, or near one.
///
/// The diff's new side is the tree with the series (the last patch of a series is such a diff, or `git diff` of two versions of
/// it). A mutant that does not apply stays in: that it does not is worth to be told.
///
/// # Errors
/// If the diff or a mutant cannot be read, or the series does not apply to the tree.
pub fn in_diff(
    mutants: Vec<Mutant>,
    version: &str,
    series: &Series,
    tree: &Path,
    diff: &Path,
) -> Result<Vec<Mutant>, InDiffError> {
    let read = |path: &Path| {
        let bytes =
            std::fs::read(path).map_err(|source| InDiffError::Read { path: path.to_owned(), source })?;
        Patch::parse(&path.display().to_string(), &bytes).map_err(InDiffError::from)
    };
    let diff = read(diff)?;
    let (overlay, _) = series.apply(tree, &mut |_| {})?;
    let mut kept = Vec::new();
    for mutant in mutants {
        if !mutant.is_for(version) {
            continue;
        }
        let mut patch = read(&mutant.patch(version))?;
        match overlay.clone().apply(&patch) {
            // Where its hunks really stand.
            Ok(applied) => {
                for offset in applied.offsets {
                    let files = patch.files.iter_mut().filter(|file| file.path() == offset.file);
                    for hunk in files.filter_map(|file| file.hunks.get_mut(offset.hunk - 1)) {
                        hunk.old_start = hunk.old_start.saturating_add_signed(offset.lines);
                    }
                }
                if patch.files.iter().any(|file| touches(file, &diff)) {
                    kept.push(mutant);
                }
            }
            Err(ApplyError::Rejected(_)) => kept.push(mutant),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(kept)
}

fn touches(file: &FilePatch, diff: &Patch) -> bool {
    let Some(old) = &file.old else { return false };
    let ours: Vec<_> = file.hunks.iter().flat_map(changed_old).collect();
    let theirs = diff.files.iter().filter(|other| other.new.as_ref() == Some(old));
    theirs.flat_map(|other| &other.hunks).flat_map(changed_new).any(|range| {
        let (from, to) = (range.start().saturating_sub(NEAR), range.end() + NEAR);
        ours.iter().any(|own| *own.start() <= to && *own.end() >= from)
    })
}

/// Lines of the old file that a hunk removes, or stand where it adds.
fn changed_old(hunk: &Hunk) -> Vec<RangeInclusive<usize>> {
    changed(hunk, hunk.old_start, |line| !matches!(line, HunkLine::Add(_)))
}

/// Lines of the new file that a hunk adds, or stand where it removes.
fn changed_new(hunk: &Hunk) -> Vec<RangeInclusive<usize>> {
    changed(hunk, hunk.new_start, |line| !matches!(line, HunkLine::Remove(_)))
}

fn changed(hunk: &Hunk, start: usize, counts: impl Fn(&HunkLine) -> bool) -> Vec<RangeInclusive<usize>> {
    let mut at = start;
    let mut ranges = Vec::new();
    for line in &hunk.lines {
        if !matches!(line, HunkLine::Context(_)) {
            ranges.push(at..=at);
        }
        at += usize::from(counts(line));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(start: usize, text: &str) -> Patch {
        let count = |of: &[char]| text.lines().filter(|line| line.starts_with(of)).count();
        let (old, new) = (count(&[' ', '-']), count(&[' ', '+']));
        let text = format!("--- a/f\n+++ b/f\n@@ -{start},{old} +{start},{new} @@\n{text}");
        Patch::parse("p", text.as_bytes()).unwrap()
    }

    fn hit(ours: &Patch, theirs: &Patch) -> bool {
        touches(&ours.files[0], theirs)
    }

    #[test]
    fn a_fault_counts_if_it_is_at_a_changed_line_or_near_one() {
        let diff = patch(10, " a\n b\n c\n+new\n d\n e\n f\n");
        assert!(hit(&patch(11, " b\n c\n-new\n+old\n d\n"), &diff), "the line itself");
        assert!(hit(&patch(14, " d\n e\n-f\n+g\n"), &diff), "three lines below");
        assert!(!hit(&patch(15, " e\n f\n-g\n+h\n"), &diff), "four lines below");
        assert!(!hit(&patch(1, " a\n-b\n"), &diff), "far above");
        let mut other = patch(11, " b\n c\n-new\n+old\n d\n");
        other.files[0].old = Some("g".into());
        assert!(!hit(&other, &diff), "another file");
    }
}
