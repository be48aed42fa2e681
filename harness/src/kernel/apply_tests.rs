// SPDX-License-Identifier: MIT OR Apache-2.0
//! Application against small trees, and against `git apply` as an oracle.

use super::*;
use crate::process::ChildSpec;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

fn patch(text: &str) -> Patch {
    Patch::parse("0001-x.patch", text.as_bytes()).unwrap()
}

fn rejected(overlay: &mut Overlay, text: &str) -> RejectedHunk {
    match overlay.apply(&patch(text)).unwrap_err() {
        ApplyError::Rejected(rejected) => *rejected,
        other => panic!("{other}"),
    }
}

fn content(overlay: &Overlay, path: &str) -> Option<String> {
    let file = overlay.files().get(Path::new(path)).unwrap().as_ref()?;
    Some(String::from_utf8(file.content.clone()).unwrap())
}

const TEN: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";
const FIVE_TO_FIFTH: &str = "--- a/f\n+++ b/f\n@@ -4,3 +4,3 @@\n 4\n-5\n+fifth\n 6\n";

#[test]
fn a_hunk_applies_where_it_says_without_an_offset() {
    let dir = tree(&[("f", TEN)]);
    let mut overlay = Overlay::new(dir.path());
    let applied = overlay.apply(&patch(FIVE_TO_FIFTH)).unwrap();
    assert_eq!(applied.offsets, []);
    assert_eq!(content(&overlay, "f").unwrap(), TEN.replace('5', "fifth"));
    assert_eq!(std::fs::read_to_string(dir.path().join("f")).unwrap(), TEN);
}

#[test]
fn an_offset_of_each_hunk_is_reported() {
    let dir = tree(&[("f", &format!("a\nb\n{TEN}"))]);
    let mut overlay = Overlay::new(dir.path());
    let text = format!("{FIVE_TO_FIFTH}@@ -7,3 +7,3 @@\n 7\n-8\n+eighth\n 9\n");
    let offset = |hunk| HunkOffset { file: "f".into(), hunk, lines: 2, fuzz: 0 };
    assert_eq!(overlay.apply(&patch(&text)).unwrap().offsets, [offset(1), offset(2)]);
}

#[test]
fn fuzz_is_refused_and_the_reject_shows_both_sides() {
    let dir = tree(&[("f", &TEN.replace('6', "six"))]);
    let mut overlay = Overlay::new(dir.path());
    let reject = rejected(&mut overlay, FIVE_TO_FIFTH);
    assert_eq!((reject.hunk, reject.hunks, reject.reject), (1, 1, Reject::Mismatch));
    let text = reject.to_string();
    let expected = "0001-x.patch does not apply: f, hunk 1 of 1: its context is not in the file
@@ -4,3 +4,3 @@
 4
-5
+fifth
 6
what stands there:
     4  4
     5  5
     6  six";
    assert_eq!(text, expected);
}

#[test]
fn a_rejected_patch_leaves_nothing_behind() {
    let dir = tree(&[("f", TEN), ("g", "x\n")]);
    let mut overlay = Overlay::new(dir.path());
    let before = overlay.clone();
    let reject = rejected(&mut overlay, &format!("{FIVE_TO_FIFTH}--- a/g\n+++ b/g\n@@ -1 +1 @@\n-y\n+z\n"));
    assert_eq!(reject.file, Path::new("g"));
    assert_eq!(overlay, before);
}

#[test]
fn files_are_made_moved_and_deleted() {
    let dir = tree(&[("old", "a\n"), ("gone", "b\n")]);
    let mut overlay = Overlay::new(dir.path());
    let text = "\
diff --git a/old b/sub/new
similarity index 50%
rename from old
rename to sub/new
--- a/old
+++ b/sub/new
@@ -1 +1,2 @@
 a
+c
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-b
diff --git a/x.sh b/x.sh
new file mode 100755
--- /dev/null
+++ b/x.sh
@@ -0,0 +1 @@
+x
";
    overlay.apply(&patch(text)).unwrap();
    assert_eq!(content(&overlay, "old"), None);
    assert_eq!(content(&overlay, "gone"), None);
    assert_eq!(content(&overlay, "sub/new").unwrap(), "a\nc\n");
    assert!(overlay.files()[Path::new("x.sh")].as_ref().unwrap().executable);
    // A second patch sees what the first one left.
    assert_eq!(rejected(&mut overlay, "--- a/old\n+++ b/old\n@@ -1 +1 @@\n-a\n+b\n").reject, Reject::Missing);
    let again = "--- /dev/null\n+++ b/x.sh\n@@ -0,0 +1 @@\n+x\n";
    assert_eq!(rejected(&mut overlay, again).reject, Reject::Exists);
}

#[test]
fn a_path_through_a_link_is_refused() {
    let dir = tree(&[("real/f", "a\n")]);
    std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
    let mut overlay = Overlay::new(dir.path());
    let text = "--- /dev/null\n+++ b/link/tmp/x\n@@ -0,0 +1 @@\n+x\n";
    assert_eq!(rejected(&mut overlay, text).reject, Reject::Link);
}

#[test]
fn the_hash_is_of_the_result() {
    let dir = tree(&[("f", TEN)]);
    let hash = |texts: &[&str]| {
        let mut overlay = Overlay::new(dir.path());
        texts.iter().for_each(|text| drop(overlay.apply(&patch(text)).unwrap()));
        overlay.hash()
    };
    let described = format!("Subject: other words\n\n{FIVE_TO_FIFTH}");
    assert_eq!(hash(&[FIVE_TO_FIFTH]), hash(&[&described]));
    assert_ne!(hash(&[FIVE_TO_FIFTH]), hash(&[]));
}

/// `git apply` on the same file: the bytes that it leaves, or `None` if it rejects.
fn git_apply(base: &str, diff: &str) -> Option<String> {
    let dir = tree(&[("f", base), ("p", diff)]);
    let run = ChildSpec::new("git")
        .args(["apply", "p"])
        .dir(dir.path())
        .env("GIT_CEILING_DIRECTORIES", dir.path().parent().unwrap())
        .env_remove("GIT_DIR")
        .run();
    run.ok().map(|_| std::fs::read_to_string(dir.path().join("f")).unwrap())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    /// A diff between two texts of few different lines, applied to a third one: where we apply, git leaves the
    /// same bytes, and where git rejects, so do we.
    #[test]
    fn git_apply_agrees(
        old in proptest::collection::vec(0u8..4, 1..14),
        edit in proptest::collection::vec((0usize..14, 0u8..6), 1..4),
        shift in 0usize..3,
        spoil in proptest::option::of(0usize..14),
    ) {
        let text = |lines: &[u8]| lines.iter().map(|line| format!("l{line}\n")).collect::<String>();
        let mut new = old.clone();
        for (at, line) in edit {
            let at = at % new.len();
            if line == 5 { new.insert(at, 9) } else { new[at] = line }
        }
        let dir = tree(&[("a/f", &text(&old)), ("b/f", &text(&new))]);
        let diff = ChildSpec::new("diff").args(["-u", "a/f", "b/f"]).dir(dir.path())
            .stdout(crate::process::Sink::Capture).run_unchecked(|_| ()).unwrap();
        let diff = String::from_utf8(diff.stdout).unwrap();
        if !diff.is_empty() {
            let mut base = vec![7; shift];
            base.extend(&old);
            if let Some(at) = spoil { let at = at % base.len(); base[at] = 8 }
            let base = text(&base);
            let target = tree(&[("f", &base)]);
            let mut overlay = Overlay::new(target.path());
            let ours = overlay.apply(&Patch::parse("p", diff.as_bytes()).unwrap());
            let ours = ours.ok().map(|_| content(&overlay, "f").unwrap());
            proptest::prop_assert_eq!(ours, git_apply(&base, &diff), "{}\non\n{}", diff, base);
        }
    }
}

/// GNU patch on the same file: the bytes that it leaves, or `None` if it rejects.
fn gnu_patch(base: &str, diff: &str, fuzz: usize) -> Option<String> {
    let dir = tree(&[("f", base), ("p", diff)]);
    let run = ChildSpec::new("patch")
        .args(["--batch", "--forward", "--silent", "--no-backup-if-mismatch", "-p1", "-i", "p"])
        .arg(format!("--fuzz={fuzz}"))
        .dir(dir.path())
        .run();
    run.ok().map(|_| std::fs::read_to_string(dir.path().join("f")).unwrap())
}

#[test]
fn fuzz_is_applied_when_it_is_asked_for_and_reported() {
    let base = format!("0\n{}", TEN.replace('2', "two").replace('8', "eight"));
    let diff = "--- a/f\n+++ b/f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+fifth\n 6\n 7\n 8\n";
    let dir = tree(&[("f", &base)]);
    let mut overlay = Overlay::new(dir.path());
    assert_eq!(rejected(&mut overlay, diff).reject, Reject::Mismatch);
    let applied = overlay.apply_fuzzy(&patch(diff), 2).unwrap();
    assert_eq!(applied.offsets, [HunkOffset { file: "f".into(), hunk: 1, lines: 1, fuzz: 1 }]);
    assert_eq!(applied.offsets[0].to_string(), "f hunk 1 applies with fuzz 1 and an offset of 1 line");
    assert_eq!(content(&overlay, "f").unwrap(), base.replace('5', "fifth"));
    assert_eq!(gnu_patch(&base, diff, 2).unwrap(), base.replace('5', "fifth"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    /// Where we apply with fuzz, GNU patch leaves the same bytes. It may apply more: hunks of line 1 elsewhere, and
    /// those of which no line is left to stand anywhere.
    #[test]
    fn gnu_patch_agrees_about_fuzz(
        spoil in proptest::collection::vec(0usize..40, 1..4),
        edit in 0usize..40,
        fuzz in 0usize..3,
    ) {
        let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let old: Vec<String> = (0..40).map(|n| format!("l{n}")).collect();
        let mut new = old.clone();
        new[edit] = "edited".into();
        let dir = tree(&[("a/f", &text(&old)), ("b/f", &text(&new))]);
        let diff = ChildSpec::new("diff").args(["-u", "a/f", "b/f"]).dir(dir.path())
            .stdout(crate::process::Sink::Capture).run_unchecked(|_| ()).unwrap();
        let diff = String::from_utf8(diff.stdout).unwrap();
        let mut base = old.clone();
        spoil.iter().for_each(|at| base[*at] = format!("spoilt {at}"));
        let base = text(&base);
        let target = tree(&[("f", &base)]);
        let mut overlay = Overlay::new(target.path());
        let ours = overlay.apply_fuzzy(&Patch::parse("p", diff.as_bytes()).unwrap(), fuzz).ok();
        if ours.is_some() {
            let ours = content(&overlay, "f");
            proptest::prop_assert_eq!(ours, gnu_patch(&base, &diff, fuzz), "{}\non\n{}", diff, base);
        }
    }
}
