// SPDX-License-Identifier: MIT OR Apache-2.0
//! A patch the other way round: what takes its changes back.

use super::patch::{FilePatch, Hunk, HunkLine, Patch};

impl Patch {
    /// The patch that takes this one's changes back, as `git apply -R` does; its files in the opposite order. `None` if
    /// it copies a file: the copy may be empty only after changes that came later.
    pub fn reversed(&self) -> Option<Patch> {
        let files: Option<Vec<FilePatch>> = self.files.iter().rev().map(reversed).collect();
        let subject = format!("Revert \"{}\"", self.subject);
        Some(Patch { name: format!("revert-{}", self.name), subject, files: files?, ..self.clone() })
    }
}

fn reversed(file: &FilePatch) -> Option<FilePatch> {
    if file.copy {
        return None;
    }
    // A mode is only told where it changes: it was the other one before. A file that comes back was a plain one,
    // as far as a patch tells.
    let executable = match (&file.old, file.executable) {
        (Some(_), Some(executable)) => Some(!executable),
        _ => None,
    };
    let hunks = file.hunks.iter().map(|hunk| Hunk {
        header: hunk.header.clone(),
        old_start: hunk.new_start,
        new_start: hunk.old_start,
        lines: hunk.lines.iter().cloned().map(turned).collect(),
    });
    let (old, new) = (file.new.clone(), file.old.clone());
    Some(FilePatch { old, new, executable, copy: false, hunks: hunks.collect() })
}

fn turned(line: HunkLine) -> HunkLine {
    match line {
        HunkLine::Context(bytes) => HunkLine::Context(bytes),
        HunkLine::Remove(bytes) => HunkLine::Add(bytes),
        HunkLine::Add(bytes) => HunkLine::Remove(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::super::apply::Overlay;
    use super::*;

    const CHANGES: &str = "\
diff --git a/a.c b/a.c
--- a/a.c
+++ b/a.c
@@ -1,3 +1,4 @@
 one
-two
+zwei
+drei
 three
diff --git a/new.sh b/new.sh
new file mode 100755
--- /dev/null
+++ b/new.sh
@@ -0,0 +1 @@
+echo
diff --git a/gone.c b/gone.c
deleted file mode 100644
--- a/gone.c
+++ /dev/null
@@ -1 +0,0 @@
-gone
diff --git a/old.c b/moved.c
similarity index 50%
rename from old.c
rename to moved.c
--- a/old.c
+++ b/moved.c
@@ -1,2 +1,2 @@
 stays
-before
+after
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
";

    #[test]
    fn a_patch_and_its_reverse_leave_the_tree_as_it_was() {
        let tree = tempfile::tempdir().unwrap();
        let files = [
            ("a.c", "one\ntwo\nthree\n"),
            ("gone.c", "gone\n"),
            ("old.c", "stays\nbefore\n"),
            ("run.sh", ""),
        ];
        for (name, text) in files {
            std::fs::write(tree.path().join(name), text).unwrap();
        }
        let patch = Patch::parse("0001-x.patch", CHANGES.as_bytes()).unwrap();
        let mut overlay = Overlay::new(tree.path());
        overlay.apply_fuzzy(&patch, 0).unwrap();
        assert_eq!(overlay.files().len(), 6);
        let back = patch.reversed().unwrap();
        assert_eq!(back.name, "revert-0001-x.patch");
        overlay.apply_fuzzy(&back, 0).unwrap();
        for (path, file) in overlay.files() {
            let now =
                file.as_ref().map(|file| (String::from_utf8(file.content.clone()).unwrap(), file.executable));
            let before = std::fs::read_to_string(tree.path().join(path)).ok().map(|text| (text, false));
            assert_eq!(now, before, "{}", path.display());
        }
    }

    #[test]
    fn a_copy_is_not_taken_back() {
        let text = "diff --git a/a.c b/b.c\nsimilarity index 100%\ncopy from a.c\ncopy to b.c\n";
        assert_eq!(Patch::parse("x", text.as_bytes()).unwrap().reversed(), None);
    }
}
