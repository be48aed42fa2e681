// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one patch of many has brought, taken back from all of them: a three-way merge of each file, as `git revert`
//! does it. It gets through where the patches after it would not apply without it, because their context has
//! changed but not what they change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::apply::{ApplyError, Overlay, OverlayFile};
use super::build::KernelError;
use super::patch::{FilePatch, Hunk, HunkLine, Patch};
use super::series::Series;
use super::store::io_error;
use crate::process::{ChildSpec, ProcessError, Sink};

/// The patch that, on top of `whole`, takes back what lies between `before` and `with`; or in words why there is none. All
/// three are on top of the pristine `tree`.
///
/// # Errors
/// A series does not apply, the tree cannot be read, git is not there.
pub fn revert(
    name: &str,
    tree: &Path,
    before: Option<&Series>,
    with: Option<&Series>,
    whole: Option<&Series>,
    fuzz: usize,
) -> Result<Result<Patch, String>, KernelError> {
    let overlay = |series: Option<&Series>| match series {
        Some(series) => Ok::<_, ApplyError>(series.apply_fuzzy(tree, fuzz, &mut |_| {})?.0),
        None => Ok(Overlay::new(tree)),
    };
    let (before, with, whole) = (overlay(before)?, overlay(with)?, overlay(whole)?);
    let paths: BTreeSet<&PathBuf> = before.files().keys().chain(with.files().keys()).collect();
    let mut files = Vec::new();
    for path in paths {
        let (old, new, now) = (before.read(path)?, with.read(path)?, whole.read(path)?);
        if old == new {
            continue;
        }
        let Some(back) = merge(now.as_ref(), new.as_ref(), old.as_ref())? else {
            return Ok(Err(format!("{}: what came later stands on what it has brought", path.display())));
        };
        if back != now {
            files.push(change(path, now, back));
        }
    }
    let message = format!("This takes back {name}.\n");
    let subject = format!("revert {name}");
    Ok(Ok(Patch {
        name: subject.clone(),
        subject,
        author: String::new(),
        text: message.clone().into(),
        message,
        files,
    }))
}

/// What `ours` is without the change from `theirs` to `base`; nothing if there is no saying.
fn merge(
    ours: Option<&OverlayFile>,
    base: Option<&OverlayFile>,
    theirs: Option<&OverlayFile>,
) -> Result<Option<Option<OverlayFile>>, KernelError> {
    if ours == base {
        return Ok(Some(theirs.cloned()));
    }
    let (Some(ours), Some(base), Some(theirs)) = (ours, base, theirs) else { return Ok(None) };
    let folder = tempfile::tempdir().map_err(io_error("create a folder in", &std::env::temp_dir()))?;
    let mut merge = ChildSpec::new("git").args(["merge-file", "--quiet", "--stdout"]);
    for (name, file) in [("ours", ours), ("base", base), ("theirs", theirs)] {
        let path = folder.path().join(name);
        std::fs::write(&path, &file.content).map_err(io_error("write", &path))?;
        merge = merge.arg(path);
    }
    match merge.stdout(Sink::Capture).run() {
        Ok(merged) => {
            let executable = if ours.executable == base.executable { theirs } else { ours }.executable;
            Ok(Some(Some(OverlayFile { content: merged.stdout, executable })))
        }
        // The number of conflicts.
        Err(ProcessError::Failed { status, .. }) if status.code().is_some_and(|code| code < 128) => Ok(None),
        Err(trouble) => Err(trouble.into()),
    }
}

/// The change from one content of a file to another, as one hunk.
fn change(path: &Path, from: Option<OverlayFile>, to: Option<OverlayFile>) -> FilePatch {
    let lines = |file: &Option<OverlayFile>, line: fn(Vec<u8>) -> HunkLine| -> Vec<HunkLine> {
        let content = file.as_ref().map_or(&[][..], |file| &file.content);
        content.split_inclusive(|byte| *byte == b'\n').map(|bytes| line(bytes.to_vec())).collect()
    };
    let (old, new) = (lines(&from, HunkLine::Remove), lines(&to, HunkLine::Add));
    let hunk = Hunk {
        header: format!("@@ -1,{} +1,{} @@", old.len(), new.len()),
        old_start: usize::from(!old.is_empty()),
        new_start: usize::from(!new.is_empty()),
        lines: [old, new].concat(),
    };
    FilePatch {
        old: from.is_some().then(|| path.to_owned()),
        executable: to.as_ref().map(|to| to.executable),
        new: to.map(|_| path.to_owned()),
        copy: false,
        hunks: if hunk.lines.is_empty() { Vec::new() } else { vec![hunk] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "\
--- a/a.c
+++ b/a.c
@@ -1,4 +1,4 @@
 one
-two
+zwei
 three
 four
--- a/gone.c
+++ /dev/null
@@ -1 +0,0 @@
-gone
--- /dev/null
+++ b/new.c
@@ -0,0 +1 @@
+new
";
    /// Its context has what the first one brings, its change has not.
    const TWO: &str = "\
--- a/a.c
+++ b/a.c
@@ -1,4 +1,5 @@
 one
 zwei
 three
 four
+five
";

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("a.c"), "one\ntwo\nthree\nfour\n").unwrap();
        std::fs::write(tree.path().join("gone.c"), "gone\n").unwrap();
        tree
    }

    fn series(texts: &[&str]) -> Series {
        let patches = texts.iter().map(|text| Patch::parse("x.patch", text.as_bytes()).unwrap());
        Series::of("x", patches.collect())
    }

    fn files(tree: &Path, series: &Series) -> Vec<(String, Option<String>)> {
        let (overlay, _) = series.apply(tree, &mut |_| {}).unwrap();
        let text = |file: &OverlayFile| String::from_utf8(file.content.clone()).unwrap();
        let files = overlay.files().iter();
        files.map(|(path, file)| (path.display().to_string(), file.as_ref().map(text))).collect()
    }

    #[test]
    fn a_patch_is_taken_back_where_the_next_would_not_apply_without_it() {
        let tree = tree();
        let whole = series(&[ONE, TWO]);
        assert!(whole.without(0).apply(tree.path(), &mut |_| {}).is_err());
        let back = revert("ONE", tree.path(), None, Some(&series(&[ONE])), Some(&whole), 0).unwrap().unwrap();
        let expected = [
            ("a.c".to_owned(), Some("one\ntwo\nthree\nfour\nfive\n".to_owned())),
            ("gone.c".to_owned(), Some("gone\n".to_owned())),
            ("new.c".to_owned(), None),
        ];
        assert_eq!(files(tree.path(), &whole.and(back)), expected);
    }

    #[test]
    fn what_stands_on_it_keeps_it() {
        let tree = tree();
        let change = TWO.replace(" zwei\n", "-zwei\n+dos\n");
        let whole = series(&[ONE, &change]);
        let why =
            revert("ONE", tree.path(), None, Some(&series(&[ONE])), Some(&whole), 0).unwrap().unwrap_err();
        assert_eq!(why, "a.c: what came later stands on what it has brought");
        let more = "--- a/new.c\n+++ b/new.c\n@@ -1 +1,2 @@\n new\n+newer\n";
        let whole = series(&[ONE, more]);
        let why =
            revert("ONE", tree.path(), None, Some(&series(&[ONE])), Some(&whole), 0).unwrap().unwrap_err();
        assert!(why.starts_with("new.c: "), "{why}");
    }
}
