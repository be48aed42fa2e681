// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a patch changes, in numbers; and the Kconfig symbols that a series adds.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::patch::{HunkLine, Patch};

/// Of a patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffStat {
    /// In the patch's order.
    pub files: Vec<FileStat>,
}

/// Of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// After the patch, or before it if it is gone.
    pub path: PathBuf,
    /// Lines added.
    pub added: usize,
    /// Lines removed.
    pub removed: usize,
}

impl DiffStat {
    /// Lines added and removed in all files.
    #[must_use]
    pub fn total(&self) -> (usize, usize) {
        self.files.iter().fold((0, 0), |(added, removed), file| (added + file.added, removed + file.removed))
    }
}

impl Patch {
    /// Counts what it changes.
    #[must_use]
    pub fn stat(&self) -> DiffStat {
        let files = self.files.iter().map(|file| {
            let lines = || file.hunks.iter().flat_map(|hunk| &hunk.lines);
            FileStat {
                path: file.path().to_owned(),
                added: lines().filter(|line| matches!(line, HunkLine::Add(_))).count(),
                removed: lines().filter(|line| matches!(line, HunkLine::Remove(_))).count(),
            }
        });
        DiffStat { files: files.collect() }
    }
}

/// Symbols that a user could switch on: `config X` in a Kconfig file, with a prompt.
pub(super) fn new_symbols(patches: &[Patch]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for file in patches.iter().flat_map(|patch| &patch.files) {
        let kconfig =
            file.path().file_name().is_some_and(|name| name.to_string_lossy().starts_with("Kconfig"));
        if !kconfig {
            continue;
        }
        for hunk in &file.hunks {
            let mut symbol = None;
            for line in &hunk.lines {
                let HunkLine::Add(bytes) = line else { continue };
                let text = String::from_utf8_lossy(bytes);
                if let Some(name) = text.strip_prefix("config ") {
                    symbol = Some(name.trim().to_owned());
                }
                let text = text.trim_start();
                let prompt = ["bool \"", "tristate \""].iter().any(|prompt| text.starts_with(prompt));
                if prompt && let Some(symbol) = symbol.take() {
                    found.insert(symbol);
                }
            }
        }
    }
    found.into_iter().collect()
}
