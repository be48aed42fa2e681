// SPDX-License-Identifier: MIT OR Apache-2.0
//! A unified diff, read and applied in memory.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use nstrail::kernel::{ApplyError, FilePatch, Hunk, HunkLine, Overlay, Patch, Strip};

/// Lines ahead of a hunk, at most: a patch may say any number.
const AHEAD: usize = 64;

/// The first byte says how far the files differ from what the patch expects.
pub fn patch(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    for strip in [Strip::None, Strip::One] {
        match Patch::parse_stripped("x.patch", bytes, strip) {
            Ok(patch) => {
                patch.files.iter().for_each(inside);
                hunks_again(&patch);
                apply(&patch, usize::from(first));
            }
            Err(error) => assert!(error.to_string().starts_with("x.patch")),
        }
    }
}

/// No path leaves the tree.
fn inside(file: &FilePatch) {
    for path in file.old.iter().chain(&file.new) {
        assert!(path.components().all(|part| matches!(part, Component::Normal(part) if part != ".git")));
        assert!(path.components().next().is_some());
    }
    assert!(file.old.is_some() || file.new.is_some());
}

/// Hunks survive being written.
fn hunks_again(patch: &Patch) {
    for file in patch.files.iter().filter(|file| !file.hunks.is_empty()) {
        let mut text = b"--- a/x\n+++ b/x\n".to_vec();
        file.hunks.iter().for_each(|hunk| write(hunk, &mut text));
        let again = Patch::parse("again", &text).expect("what was read is a patch");
        assert_eq!(again.files.len(), 1);
        assert_eq!(again.files[0].hunks, file.hunks);
    }
}

fn write(hunk: &Hunk, text: &mut Vec<u8>) {
    text.extend_from_slice(hunk.header.as_bytes());
    text.push(b'\n');
    for line in &hunk.lines {
        let (sign, bytes) = match line {
            HunkLine::Context(bytes) => (b' ', bytes),
            HunkLine::Remove(bytes) => (b'-', bytes),
            HunkLine::Add(bytes) => (b'+', bytes),
        };
        text.push(sign);
        text.extend_from_slice(bytes);
        if bytes.last() != Some(&b'\n') {
            text.extend_from_slice(b"\n\\ No newline at end of file\n");
        }
    }
}

/// All of a patch or nothing of it, and with fuzz the same where it is not needed.
fn apply(patch: &Patch, difference: usize) {
    let overlay = files(patch, difference);
    let mut exact = overlay.clone();
    let strict = exact.apply(patch);
    let mut fuzzy = overlay.clone();
    let lenient = fuzzy.apply_fuzzy(patch, 2);
    match &strict {
        Ok(applied) => {
            assert!(applied.offsets.iter().all(|offset| offset.fuzz == 0));
            assert_eq!(Some(applied), lenient.as_ref().ok());
            assert_eq!(exact, fuzzy);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(exact, overlay, "a rejected patch left something behind");
        }
    }
    match &lenient {
        Ok(applied) => {
            for offset in &applied.offsets {
                assert!(!offset.to_string().is_empty());
            }
            let balance = |of: &Overlay| -> isize {
                let contents = of.files().values().flatten();
                contents.map(|file| file.content.iter().filter(|byte| **byte == b'\n').count() as isize).sum()
            };
            if patch.files.iter().all(|file| whole_lines(file) && file.old == file.new) {
                let (added, removed) = patch.stat().total();
                assert_eq!(balance(&fuzzy) - balance(&overlay), added as isize - removed as isize);
            }
        }
        Err(ApplyError::Rejected(rejected)) => assert!(!rejected.to_string().is_empty()),
        Err(ApplyError::Store(error)) => panic!("{error}"),
    }
}

fn whole_lines(file: &FilePatch) -> bool {
    let newline = |line: &HunkLine| {
        let (HunkLine::Context(bytes) | HunkLine::Remove(bytes) | HunkLine::Add(bytes)) = line;
        bytes.last() == Some(&b'\n')
    };
    file.hunks.iter().flat_map(|hunk| &hunk.lines).all(newline)
}

/// The files that the patch is made for, made by a patch that creates them: there is no tree behind.
fn files(patch: &Patch, difference: usize) -> Overlay {
    let mut overlay = Overlay::new(Path::new("/nonexistent/tree"));
    let mut contents: BTreeMap<&PathBuf, Vec<u8>> = BTreeMap::new();
    for file in &patch.files {
        let Some(old) = &file.old else { continue };
        let content = contents.entry(old).or_default();
        for hunk in &file.hunks {
            let lines = content.iter().filter(|byte| **byte == b'\n').count();
            let ahead = hunk.old_start.saturating_sub(lines + 1).min(AHEAD) + difference % 3;
            content.extend_from_slice(&b"another line\n".repeat(ahead));
            hunk.old().for_each(|line| content.extend_from_slice(line));
        }
        content.extend_from_slice(&b"the end\n".repeat(difference % 7 / 3));
    }
    for (path, content) in contents {
        let lines: Vec<HunkLine> =
            content.split_inclusive(|byte| *byte == b'\n').map(|line| HunkLine::Add(line.to_vec())).collect();
        let header = format!("@@ -0,0 +1,{} @@", lines.len());
        let hunk = Hunk { header, old_start: 0, new_start: 1, lines };
        let file = FilePatch {
            old: None,
            new: Some(path.clone()),
            executable: None,
            copy: false,
            hunks: vec![hunk],
        };
        let create = Patch {
            name: "create".to_owned(),
            subject: String::new(),
            author: String::new(),
            message: String::new(),
            files: vec![file],
            text: Vec::new(),
        };
        overlay.apply(&create).expect("a new file");
    }
    overlay
}
