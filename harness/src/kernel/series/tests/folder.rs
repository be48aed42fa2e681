// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folders and quilt series.

use std::path::Path;

use super::super::*;
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

fn names(series: &Series) -> Vec<&str> {
    series.patches.iter().map(|patch| patch.name.as_str()).collect()
}

#[test]
fn the_newest_version_of_a_folder_is_taken_and_that_is_said() {
    let second = PATCH.replace("-a\n+b", "-b\n+c");
    let dir = folder(&[
        ("0001-a.patch", PATCH),
        (
            "v2-0000-cover-letter.patch",
            "Subject: [PATCH v2 0/2] all of it\n\nbase-commit: 0123456789abcdef\n",
        ),
        ("v2-0001-a.patch", PATCH),
        ("v2-0002-b.patch", second.as_str()),
    ]);
    let series = Series::read(dir.path()).unwrap();
    assert_eq!(names(&series), ["v2-0001-a.patch", "v2-0002-b.patch"]);
    assert_eq!((series.version, series.title.as_deref()), (2, Some("all of it")));
    assert_eq!(series.base_commit.as_deref(), Some("0123456789abcdef"));
    assert_eq!(series.notes, [SeriesNote::Version { taken: 2, older: vec![1] }]);
}

#[test]
fn two_files_with_one_number_and_missing_numbers_are_errors() {
    let error = |files: &[(&str, &str)]| Series::read(folder(files).path()).unwrap_err().to_string();
    let text = error(&[("0001-a.patch", PATCH), ("0001-b.patch", PATCH)]);
    assert!(text.contains("0001-a.patch and 0001-b.patch have the same number (hint: "), "{text}");
    let numbered = |n: u32| PATCH.replace("[PATCH]", &format!("[PATCH v3 {n}/4]"));
    let text = error(&[("0001-a.patch", &numbered(1)), ("0004-b.patch", &numbered(4))]);
    assert!(text.contains("missing of 4 patches: 2-3 in v3 (hint: "), "{text}");
}

#[test]
fn a_quilt_series_is_read_from_its_folder_or_its_file() {
    let second = "text\n--- f.orig\n+++ f\n@@ -1 +1 @@\n-b\n+c\n".replace("f.orig", "f");
    let dir =
        folder(&[("series", "# order\nz.patch\na.patch -p0\n"), ("z.patch", PATCH), ("a.patch", &second)]);
    for path in [dir.path().to_owned(), dir.path().join("series")] {
        let series = SeriesInput::parse(&path, None).unwrap().read().unwrap();
        assert_eq!(names(&series), ["z.patch", "a.patch"]);
        let tree = folder(&[("f", "a\n")]);
        let (overlay, _) = series.apply(tree.path(), &mut |_| ()).unwrap();
        assert_eq!(overlay.files()[Path::new("f")].as_ref().unwrap().content, b"c\n");
    }
    std::fs::remove_file(dir.path().join("a.patch")).unwrap();
    let error = Series::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("series:3: a.patch is not there (hint: "), "{error}");
}

#[test]
fn paths_out_of_the_tree_are_refused_whatever_is_stripped() {
    for (option, path) in
        [("", "a/../../etc/x"), ("-p0", "../etc/x"), ("-p0", "/etc/x"), ("-p0", ".git/config")]
    {
        let patch = format!("--- /dev/null\n+++ {path}\n@@ -0,0 +1 @@\n+x\n");
        let dir = folder(&[("series", &format!("a.patch {option}\n")), ("a.patch", &patch)]);
        let error = Series::read(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("a.patch:2: the path `") && error.contains("leaves the source tree"),
            "{error}"
        );
    }
}

#[test]
fn some_patches_are_picked_in_the_order_of_the_series() {
    let patch = |n: u32| format!("--- a/f{n}\n+++ b/f{n}\n@@ -1 +1 @@\n-a\n+b\n");
    let texts: Vec<(String, String)> = (1..=5).map(|n| (format!("000{n}-x.patch"), patch(n))).collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let dir = folder(&files);
    let series = Series::read(dir.path()).unwrap();
    let pick = |list: &str| series.clone().pick(&Picks::parse(list).unwrap());
    let picked = pick("4-,1").unwrap();
    assert_eq!(names(&picked), ["0001-x.patch", "0004-x.patch", "0005-x.patch"]);
    assert_eq!(picked.notes[0].to_string(), "only patch 1, 4-5 of 5 is applied");
    assert_ne!(picked.hash, series.hash);
    assert_eq!(pick("1-5").unwrap(), series);
    for (list, range) in [("6", "6"), ("1,4-6", "4-6"), ("7-", "7-")] {
        let error = pick(list).unwrap_err().to_string();
        assert_eq!(error, format!("patch {range} is not in the series, which has 1-5"));
    }
}

#[test]
fn symbols_that_stay_off_are_named() {
    let kconfig =
        "--- a/init/Kconfig\n+++ b/init/Kconfig\n@@ -1 +1,4 @@\n x\n+config NEW\n+\tbool \"new\"\n+\thelp\n";
    let dir = folder(&[("0001-a.patch", kconfig)]);
    let series = Series::read(dir.path()).unwrap();
    assert_eq!(series.notes, [SeriesNote::Symbols(vec!["NEW".into()])]);
    std::fs::write(dir.path().join("series.toml"), "config = \"NEW\"\n").unwrap();
    assert_eq!(Series::read(dir.path()).unwrap().notes, []);
}
