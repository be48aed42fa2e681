// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series is untrusted: what would write outside of the tree is refused in every form that a series can come in.

use super::super::super::apply::{ApplyError, Reject};
use super::super::super::source;
use super::super::SeriesInput;
use super::*;

const GOOD: &str = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n";

/// Diffs, and what the error says behind the patch's name: the line within the diff, the path, what is wrong.
const HOSTILE: [(&str, usize, &str); 12] = [
    ("--- /dev/null\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n", 2, "the path `../../x` leaves the source tree"),
    (
        "--- /dev/null\n+++ /etc/cron.d/x\n@@ -0,0 +1 @@\n+x\n",
        2,
        "the path `/etc/cron.d/x` leaves the source tree",
    ),
    (
        "--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n",
        2,
        "the path `.git/hooks/x` leaves the source tree",
    ),
    (
        "diff --git a/Makefile b/x\nsimilarity index 100%\nrename from Makefile\nrename to ../Makefile\n",
        4,
        "the path `../Makefile` leaves the source tree",
    ),
    (
        "diff --git a/x b/Makefile\nsimilarity index 100%\ncopy from ../../secret\ncopy to Makefile\n",
        3,
        "the path `../../secret` leaves the source tree",
    ),
    (
        "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n",
        2,
        "`l`: a symbolic link cannot be applied",
    ),
    ("diff --git a/sub b/sub\nnew file mode 160000\n", 2, "`sub`: a submodule cannot be applied"),
    (
        "diff --git a/s b/s\nold mode 100755\nnew mode 104755\n",
        3,
        "`s`: a file mode other than those of plain files",
    ),
    (
        "diff --git a/l b/l\nindex 1..2 100644\nGIT binary patch\nliteral 3\nKc${Nk-~;\n",
        3,
        "`l`: a binary patch cannot be applied",
    ),
    ("--- /dev/null\n+++ \"b/a\\nb\"\n@@ -0,0 +1 @@\n+x\n", 2, "`\"b/a\\nb\"`: a quoted file name"),
    (
        "--- /dev/null\n+++ b/a\u{1b}[2Jb\n@@ -0,0 +1 @@\n+x\n",
        2,
        "`a\\x1b[2Jb`: a file name with control characters",
    ),
    (
        "--- /dev/null\n+++ b/o-base/vmlinux\n@@ -0,0 +1 @@\n+x\n",
        2,
        "`o-base/vmlinux`: a file in a build folder",
    ),
];

fn mail(number: usize, diff: &str) -> (String, String) {
    (format!("From: A <a@b>\nSubject: [PATCH {number}/2] x{number}\n"), format!("why\n---\n{diff}"))
}

/// Every file in every form: the series' input, what the place of the patch is called, and how many lines of the
/// message stand above the diff.
fn forms(dir: &Path, diff: &str) -> Vec<(SeriesInput, String, usize)> {
    let folder = |name: &str| {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, diff) in [(1, GOOD), (2, diff)] {
            let (header, body) = mail(number, diff);
            std::fs::write(folder.join(format!("000{number}-x.patch")), format!("{header}\n{body}")).unwrap();
        }
        folder
    };
    let (numbered, quilt, listed) = (folder("numbered"), folder("quilt"), folder("listed"));
    std::fs::write(quilt.join("series"), "0001-x.patch\n0002-x.patch -p1\n").unwrap();
    let list = "patches = [\"0001-x.patch\", \"0002-x.patch\"]\n";
    std::fs::write(listed.join("series.toml"), list).unwrap();
    let mailbox = dir.join("x.mbox");
    std::fs::write(&mailbox, mbox([mail(1, GOOD), mail(2, diff)])).unwrap();
    let encoded = dir.join("qp.mbox");
    let (header, body) = mail(2, diff);
    let header = mime(&header, "text/plain; charset=utf-8", "quoted-printable");
    std::fs::write(&encoded, mbox([mail(1, GOOD), (header, quoted_printable(&body))])).unwrap();
    let single = dir.join("single.patch");
    std::fs::write(&single, diff).unwrap();
    let file = |folder: &Path| format!("{}:", folder.join("0002-x.patch").display());
    let in_box = |path: &Path| format!("{}: message 2", path.display());
    vec![
        (SeriesInput::Folder(numbered.clone()), file(&numbered), 5),
        (SeriesInput::Folder(listed.clone()), file(&listed), 5),
        (SeriesInput::Quilt(quilt.join("series")), file(&quilt), 5),
        (SeriesInput::Box(mailbox.clone()), in_box(&mailbox), 5),
        (SeriesInput::Box(encoded.clone()), in_box(&encoded), 8),
        (SeriesInput::Box(single.clone()), format!("{}: message 1", single.display()), 0),
    ]
}

#[test]
fn a_hostile_patch_is_refused_in_every_form_with_its_place() {
    for (diff, line, expected) in HOSTILE {
        let dir = tempfile::tempdir().unwrap();
        for (input, place, above) in forms(dir.path(), diff) {
            let error = input.read().unwrap_err().to_string();
            assert!(error.starts_with(&place), "{place} is not where this begins: {error}");
            assert!(error.contains(&format!(":{}: {expected}", line + above)), "{input:?}: {error}");
            assert!(error.contains("nothing was written (hint: "), "{error}");
            assert!(!error.contains('\u{1b}') && error.lines().count() == 1, "{error}");
        }
    }
}

#[test]
fn a_link_and_a_patch_that_writes_through_it_are_refused_at_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let link = "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/tmp\n\\ No newline at end of file\n";
    let through = "--- /dev/null\n+++ b/l/x\n@@ -0,0 +1 @@\n+x\n";
    let mailbox = dir.path().join("x.mbox");
    std::fs::write(&mailbox, mbox([mail(1, link), mail(2, through)])).unwrap();
    let error = SeriesInput::Box(mailbox).read().unwrap_err().to_string();
    assert!(
        error.contains("message 1 ") && error.contains("0001-x1.patch:7: `l`: a symbolic link"),
        "{error}"
    );
}

/// What git itself can be brought to say: links, submodules, binaries, odd names, and trees that no git would make.
#[test]
fn a_hostile_range_of_commits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str], input: Option<&[u8]>| {
        let who = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgSign=false"];
        let mut git = source::git(dir.path()).args(who).args(args);
        if let Some(input) = input {
            let path = dir.path().join(".git/input");
            std::fs::write(&path, input).unwrap();
            git = git.stdin(path);
        }
        git.read().unwrap().trim().to_owned()
    };
    git(&["init", "-q", "-b", "main"], None);
    let base_tree = git(&["mktree"], Some(b""));
    let base = git(&["commit-tree", "-m", "base", &base_tree], None);
    let blob = git(&["hash-object", "-w", "--stdin"], Some(b"/etc\n"));
    let binary = git(&["hash-object", "-w", "--stdin"], Some(b"a\0b"));
    let inner = git(&["mktree"], Some(format!("100644 blob {blob}\tx\n").as_bytes()));
    for (entry, expected) in [
        (format!("120000 blob {blob}\tl\0"), "`l`: a symbolic link"),
        (format!("160000 commit {base}\tsub\0"), "`sub`: a submodule"),
        (format!("100644 blob {binary}\tbin\0"), "`bin`: a binary patch"),
        (format!("100644 blob {blob}\ta\nb\0"), "a quoted file name"),
        (format!("100644 blob {blob}\t\u{1b}[2J\0"), "a quoted file name"),
        (format!("040000 tree {inner}\t..\0"), "the path `../x` leaves the source tree"),
        (format!("040000 tree {inner}\t.git\0"), "the path `.git/x` leaves the source tree"),
        (format!("040000 tree {inner}\to-base\0"), "`o-base/x`: a file in a build folder"),
    ] {
        let tree = git(&["mktree", "-z", "--missing"], Some(entry.as_bytes()));
        let commit = git(&["commit-tree", "-p", &base, "-m", "odd", &tree], None);
        let input = SeriesInput::Git { repository: dir.path().to_owned(), from: base.clone(), to: commit };
        let error = input.read().unwrap_err().to_string();
        assert!(error.contains("0001-odd.patch:") && error.contains(expected), "{entry:?}: {error}");
    }
}

#[test]
fn links_and_folders_of_the_tree_are_not_written_through_with_fuzz_or_without() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    std::fs::create_dir_all(tree.join("folder")).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(tree.join("folder/f"), "a\n").unwrap();
    std::fs::write(outside.join("f"), "a\n").unwrap();
    std::os::unix::fs::symlink(&outside, tree.join("to-folder")).unwrap();
    std::os::unix::fs::symlink(outside.join("f"), tree.join("to-file")).unwrap();
    let emptied = "diff --git a/folder/f b/folder/f\ndeleted file mode 100644\n--- a/folder/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n";
    for (diff, path, reject) in [
        (
            "--- a/to-folder/f\n+++ b/to-folder/f\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
            "to-folder/f",
            Reject::Link,
        ),
        ("--- /dev/null\n+++ b/to-folder/new\n@@ -0,0 +1 @@\n+b\n".to_owned(), "to-folder/new", Reject::Link),
        ("--- a/to-file\n+++ b/to-file\n@@ -1 +1 @@\n-a\n+b\n".to_owned(), "to-file", Reject::Link),
        ("diff --git a/to-file b/x\nrename from to-file\nrename to x\n".to_owned(), "x", Reject::Link),
        ("--- /dev/null\n+++ b/folder\n@@ -0,0 +1 @@\n+b\n".to_owned(), "folder", Reject::Folder),
        (format!("{emptied}--- /dev/null\n+++ b/folder\n@@ -0,0 +1 @@\n+b\n"), "folder", Reject::Folder),
        ("--- /dev/null\n+++ b/folder/f/x\n@@ -0,0 +1 @@\n+b\n".to_owned(), "folder/f/x", Reject::Folder),
        (
            "--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+b\n--- /dev/null\n+++ b/new/x\n@@ -0,0 +1 @@\n+b\n"
                .to_owned(),
            "new/x",
            Reject::Folder,
        ),
        (
            "--- /dev/null\n+++ b/new/x\n@@ -0,0 +1 @@\n+b\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+b\n"
                .to_owned(),
            "new",
            Reject::Folder,
        ),
    ] {
        let series = read(&diff).unwrap();
        for fuzz in [0, 2] {
            let Err(ApplyError::Rejected(rejected)) = series.apply_fuzzy(&tree, fuzz, &mut |_| ()) else {
                panic!("{diff}");
            };
            assert_eq!((rejected.file.as_path(), rejected.reject), (Path::new(path), reject), "{diff}");
            assert!(rejected.to_string().contains("nothing was written"), "{rejected}");
        }
    }
    assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "a\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}
