// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program with series as maintainers have them: standard input, parts, range-diff. Sources only, no kernel is built.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use common::{expect, machine, root, text};

/// The patches of our series, in their order, without the cover letter.
fn patches() -> Vec<PathBuf> {
    let mut patches: Vec<PathBuf> = fs::read_dir(root().join("patches/auditnsid/6.12"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(".patch") && !name.starts_with("0000")
        })
        .collect();
    patches.sort();
    patches
}

/// A mailbox of some patches, the last one first.
fn mailbox(patches: &[PathBuf]) -> Vec<u8> {
    patches.iter().rev().flat_map(|path| fs::read(path).unwrap()).collect()
}

fn with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nstrail"))
        .args(args)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_mailbox_on_standard_input_leaves_the_same_tree_as_the_folder() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let folder = text(&expect(0, out.path(), &["apply", "--kernel", "6.12"]).stdout);
    let output = with_input(&["apply", "--kernel", "6.12", "--series", "-"], &mailbox(&patches()));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("private tree: 0 files changed"), "{said}");
    assert_eq!(text(&output.stdout).lines().last(), folder.lines().last());
    // It does not say which symbol switches it on, and that is told.
    assert!(said.contains("CONFIG_AUDIT_NSID") && said.contains("--symbol"), "{said}");
}

#[test]
fn a_mailbox_with_holes_is_refused_by_name() {
    let mut some = patches();
    some.remove(3);
    let output = with_input(&["series", "show", "-"], &mailbox(&some));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("missing of 9 patches: 4"), "{said}");
    let out = tempfile::tempdir().unwrap();
    let said = text(&expect(2, out.path(), &["apply", "--kernel", "6.12", "-P", "2-3,12"]).stderr);
    assert!(said.contains("patch 12 is not in the series, which has 1-9"), "{said}");
}

#[test]
fn a_part_of_a_series_is_taken_alone() {
    let out = tempfile::tempdir().unwrap();
    // Not applied: the tree that all builds share would change under their feet.
    let said = text(&expect(0, out.path(), &["run", "--dry-run", "-P", "1-2,5", "smoke"]).stdout);
    assert!(said.contains("auditnsid (3 patches)"), "{said}");
}

#[test]
fn a_range_diff_shows_what_differs_and_only_that() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let same = text(&expect(0, out.path(), &["series", "diff", "6.12", "6.12"]).stdout);
    assert_eq!(same.lines().count(), 9, "{same}");
    assert!(same.lines().all(|line| line.contains(" = ")), "{same}");

    let other = out.path().join("v2.mbox");
    let changed = String::from_utf8(mailbox(&patches()))
        .unwrap()
        .replace("it works for moves later", "it works for moves");
    fs::write(&other, changed).unwrap();
    let args = ["series", "diff", "6.12", other.to_str().unwrap(), "--kernel", "6.12"];
    let diff = text(&expect(0, out.path(), &args).stdout);
    let heads: Vec<&str> =
        diff.lines().filter(|line| line.starts_with(' ') && line.contains(":  ")).collect();
    let differ = heads.iter().filter(|line| line.contains(" ! ")).count();
    assert!(differ == 1 && heads[8].contains(" ! "), "{diff}");
    assert!(diff.contains("it works for moves."), "{diff}");
}

#[test]
fn a_series_is_shown_with_its_numbers_titles_and_files() {
    let out = tempfile::tempdir().unwrap();
    let shown = text(&expect(0, out.path(), &["series", "show", "6.12"]).stdout);
    for part in [
        "auditnsid: audit: follow namespace sets through the audit log",
        "   9  Documentation: admin-guide: describe namespace sets in the audit log",
        "kernel/audit_nsid.c",
    ] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
}
