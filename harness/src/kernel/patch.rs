// SPDX-License-Identifier: MIT OR Apache-2.0
//! One patch: its mail header, and the hunks of each file.
//!
//! What is read is what git format-patch writes, and plain unified diffs with one leading path component
//! (`-p1`). Contents are bytes: a kernel file need not be UTF-8.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// A patch of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// File name.
    pub name: String,
    /// Of the mail header, without `[PATCH n/m]`; empty if there is none.
    pub subject: String,
    /// `Name <address>`; empty if nothing says so.
    pub author: String,
    /// What a commit of it would say below the subject.
    pub message: String,
    /// Files that it changes, in its order.
    pub files: Vec<FilePatch>,
    /// All of it, as it was read.
    pub text: Vec<u8>,
}

/// What a patch does to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePatch {
    /// Path before; `None` makes a new file.
    pub old: Option<PathBuf>,
    /// Path after; `None` deletes it.
    pub new: Option<PathBuf>,
    /// Whether the file shall be executable, if the patch says so.
    pub executable: Option<bool>,
    /// Whether `old` stays (a git copy).
    pub copy: bool,
    /// Changes, in the order of lines.
    pub hunks: Vec<Hunk>,
}

impl FilePatch {
    /// The path that messages name.
    pub fn path(&self) -> &Path {
        self.new.as_deref().or(self.old.as_deref()).unwrap_or(Path::new(""))
    }
}

/// One `@@` part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// The `@@` line.
    pub header: String,
    /// First line in the old file, from 1; 0 if it has none.
    pub old_start: usize,
    /// First line in the new file, from 1; 0 if it has none.
    pub new_start: usize,
    /// Lines, each with its newline if it has one.
    pub lines: Vec<HunkLine>,
}

/// A line of a hunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HunkLine {
    /// In both files.
    Context(Vec<u8>),
    /// Only in the old one.
    Remove(Vec<u8>),
    /// Only in the new one.
    Add(Vec<u8>),
}

impl HunkLine {
    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            HunkLine::Context(bytes) | HunkLine::Remove(bytes) | HunkLine::Add(bytes) => bytes,
        }
    }
}

impl Hunk {
    /// Lines that must stand in the file.
    pub fn old(&self) -> impl Iterator<Item = &[u8]> {
        old_lines(&self.lines)
    }

    /// How many lines of context it begins and ends with. One that ends with none must stand at the end of the file.
    pub fn context(&self) -> (usize, usize) {
        let is_context = |line: &&HunkLine| matches!(line, HunkLine::Context(_));
        let leading = self.lines.iter().take_while(is_context).count();
        (leading, self.lines.iter().rev().take_while(is_context).count())
    }
}

/// Those that stand in the old file.
pub(super) fn old_lines(lines: &[HunkLine]) -> impl Iterator<Item = &[u8]> {
    lines.iter().filter_map(|line| match line {
        HunkLine::Context(bytes) | HunkLine::Remove(bytes) => Some(bytes.as_slice()),
        HunkLine::Add(_) => None,
    })
}

/// Those that stand in the new file.
pub(super) fn new_lines(lines: &[HunkLine]) -> impl Iterator<Item = &[u8]> {
    lines.iter().filter_map(|line| match line {
        HunkLine::Context(bytes) | HunkLine::Add(bytes) => Some(bytes.as_slice()),
        HunkLine::Remove(_) => None,
    })
}

/// As in the patch.
impl fmt::Display for Hunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.header)?;
        for line in &self.lines {
            let (sign, bytes) = match line {
                HunkLine::Context(bytes) => (' ', bytes),
                HunkLine::Remove(bytes) => ('-', bytes),
                HunkLine::Add(bytes) => ('+', bytes),
            };
            let text = String::from_utf8_lossy(bytes);
            writeln!(f, "{sign}{}", text.trim_end_matches('\n'))?;
        }
        Ok(())
    }
}

/// Why a file is no patch that we apply. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It changes nothing.
    #[error("{patch}: no diff in it (hint: is it a cover letter? those are called 0000-*)")]
    Empty {
        /// File name.
        patch: String,
    },
    /// A path that is absolute, leads out of the tree or into git's own folder.
    #[error("{patch}:{line}: the path `{path}` leaves the source tree")]
    Leaves {
        /// File name.
        patch: String,
        /// Line of the patch.
        line: usize,
        /// The path.
        path: String,
    },
    /// Something that is not applied at all.
    #[error("{patch}:{line}: {what} cannot be applied")]
    Unsupported {
        /// File name.
        patch: String,
        /// Line of the patch.
        line: usize,
        /// What it is.
        what: &'static str,
    },
    /// It is damaged, as by a mail program.
    #[error("{patch}:{line}: {what} (hint: was the patch wrapped or cut by a mail program?)")]
    Malformed {
        /// File name.
        patch: String,
        /// Line of the patch.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// How many leading components the paths of a patch have that are none of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strip {
    /// `-p0`
    None,
    /// `-p1`, as git writes them.
    One,
}

impl Patch {
    /// Reads a patch.
    ///
    /// # Errors
    /// As [`PatchError`]; the first thing that is wrong.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Patch, PatchError> {
        Patch::parse_stripped(name, bytes, Strip::One)
    }

    /// As [`Patch::parse`], of a patch whose paths may have no leading component.
    ///
    /// # Errors
    /// As [`PatchError`]; the first thing that is wrong.
    pub fn parse_stripped(name: &str, bytes: &[u8], strip: Strip) -> Result<Patch, PatchError> {
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let mut reader = Reader { name, lines: &lines, at: 0, strip };
        let mut files = Vec::new();
        while reader.at < lines.len() {
            if reader.starts("diff --git ") {
                files.push(reader.git_file()?);
            } else if reader.starts("--- ") && reader.next_starts("+++ ") {
                let mut file =
                    FilePatch { old: None, new: None, executable: None, copy: false, hunks: vec![] };
                reader.names(&mut file)?;
                reader.hunks(&mut file)?;
                files.push(file);
            } else {
                reader.at += 1;
            }
        }
        if files.is_empty() {
            return Err(PatchError::Empty { patch: name.to_owned() });
        }
        let (author, message, text) = (String::new(), String::new(), bytes.to_vec());
        Ok(Patch { name: name.to_owned(), subject: subject(&lines), author, message, files, text })
    }
}

struct Reader<'a> {
    name: &'a str,
    lines: &'a [&'a [u8]],
    at: usize,
    strip: Strip,
}

impl Reader<'_> {
    fn line(&self) -> &[u8] {
        self.lines.get(self.at).copied().unwrap_or_default()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.line()).trim_end_matches(['\n', '\r']).to_owned()
    }

    fn starts(&self, with: &str) -> bool {
        self.line().starts_with(with.as_bytes())
    }

    fn next_starts(&self, with: &str) -> bool {
        self.lines.get(self.at + 1).is_some_and(|line| line.starts_with(with.as_bytes()))
    }

    fn malformed(&self, what: &'static str) -> PatchError {
        PatchError::Malformed { patch: self.name.to_owned(), line: self.at + 1, what }
    }

    fn unsupported(&self, what: &'static str) -> PatchError {
        PatchError::Unsupported { patch: self.name.to_owned(), line: self.at + 1, what }
    }

    /// From `diff --git` on. Names of that line are ambiguous if they have spaces, so they are only used where
    /// no other line has them: a change of mode alone.
    fn git_file(&mut self) -> Result<FilePatch, PatchError> {
        let mut file = FilePatch { old: None, new: None, executable: None, copy: false, hunks: vec![] };
        let both = self.text()["diff --git ".len()..].to_owned();
        let (mut created, mut deleted, mut renamed) = (false, false, false);
        self.at += 1;
        while self.at < self.lines.len() {
            let text = self.text();
            let mode = |mode: &str| match mode.trim() {
                "100755" => Ok(true),
                "100644" => Ok(false),
                _ => Err(self.unsupported("a symbolic link or a submodule")),
            };
            if let Some(rest) = text.strip_prefix("new file mode ") {
                file.executable = Some(mode(rest)?);
                created = true;
            } else if let Some(rest) = text.strip_prefix("new mode ") {
                file.executable = Some(mode(rest)?);
            } else if text.starts_with("deleted file mode ") {
                deleted = true;
            } else if let Some(from) = text.strip_prefix("rename from ").or(text.strip_prefix("copy from ")) {
                file.copy = text.starts_with("copy");
                file.old = Some(self.path(from)?);
                renamed = true;
            } else if let Some(to) = text.strip_prefix("rename to ").or(text.strip_prefix("copy to ")) {
                file.new = Some(self.path(to)?);
            } else if text.starts_with("GIT binary patch") || text.starts_with("Binary files ") {
                return Err(self.unsupported("a binary patch"));
            } else if text.starts_with("--- ") {
                self.names(&mut file)?;
                break;
            } else if !["index ", "old mode ", "similarity index ", "dissimilarity index "]
                .iter()
                .any(|known| text.starts_with(known))
            {
                break;
            }
            self.at += 1;
        }
        if file.old.is_none() && file.new.is_none() {
            if created && deleted {
                return Err(self.malformed("a file that is both new and deleted"));
            }
            let name = self.same_name(&both)?;
            file.old = (!created).then(|| name.clone());
            file.new = (!deleted).then_some(name);
        }
        if renamed && (file.old.is_none() || file.new.is_none()) {
            return Err(self.malformed("a rename or copy with one name"));
        }
        self.hunks(&mut file)?;
        Ok(file)
    }

    /// `a/NAME b/NAME`
    fn same_name(&self, both: &str) -> Result<PathBuf, PatchError> {
        let half = both.len() / 2;
        let names = (both.get(..half), both.get(half..).and_then(|rest| rest.strip_prefix(' ')));
        match names {
            (Some(a), Some(b)) if self.strip == Strip::None && a == b => self.path(a),
            (Some(a), Some(b)) if a.strip_prefix("a/").is_some() && a.get(2..) == b.strip_prefix("b/") => {
                self.path(&a[2..])
            }
            _ => Err(self.malformed("a diff that names no file")),
        }
    }

    /// The lines `--- a/NAME` and `+++ b/NAME`.
    fn names(&mut self, file: &mut FilePatch) -> Result<(), PatchError> {
        file.old = self.name("--- ")?;
        self.at += 1;
        if !self.starts("+++ ") {
            return Err(self.malformed("`---` without `+++`"));
        }
        file.new = self.name("+++ ")?;
        self.at += 1;
        if file.old.is_none() && file.new.is_none() {
            return Err(self.malformed("/dev/null on both sides"));
        }
        Ok(())
    }

    fn name(&self, sign: &str) -> Result<Option<PathBuf>, PatchError> {
        let text = self.text();
        // diff -u adds a tab and the time; git adds a tab if the name has a space.
        let name = text[sign.len()..].split('\t').next().unwrap_or_default();
        if name == "/dev/null" {
            return Ok(None);
        }
        if name.starts_with('"') {
            return Err(self.unsupported("a quoted file name"));
        }
        match name.split_once('/') {
            _ if self.strip == Strip::None => self.path(name).map(Some),
            Some((first, rest)) if !first.is_empty() => self.path(rest).map(Some),
            _ => Err(self.leaves(name)),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, PatchError> {
        let path = Path::new(name);
        let inside = path.components().all(|part| matches!(part, Component::Normal(part) if part != ".git"));
        if inside && !name.is_empty() { Ok(path.components().collect()) } else { Err(self.leaves(name)) }
    }

    fn leaves(&self, path: &str) -> PatchError {
        PatchError::Leaves { patch: self.name.to_owned(), line: self.at + 1, path: path.to_owned() }
    }

    fn hunks(&mut self, file: &mut FilePatch) -> Result<(), PatchError> {
        while self.starts("@@ -") {
            let hunk = self.hunk()?;
            file.hunks.push(hunk);
        }
        Ok(())
    }

    fn hunk(&mut self) -> Result<Hunk, PatchError> {
        let header = self.text();
        let ranges = parse_ranges(&header).ok_or_else(|| self.malformed("a hunk header without ranges"))?;
        let [(old_start, mut old_left), (new_start, mut new_left)] = ranges;
        let mut lines: Vec<HunkLine> = Vec::new();
        self.at += 1;
        while old_left > 0 || new_left > 0 {
            let line = self.line();
            let content = line.get(1..).unwrap_or_default().to_vec();
            let (parsed, old, new) = match line.first() {
                Some(b' ') => (HunkLine::Context(content), 1, 1),
                Some(b'-') => (HunkLine::Remove(content), 1, 0),
                Some(b'+') => (HunkLine::Add(content), 0, 1),
                // Mail programs drop the space of an empty line of context; git apply allows it, too.
                Some(b'\n') => (HunkLine::Context(line.to_vec()), 1, 1),
                Some(b'\\') if !lines.is_empty() => {
                    self.no_newline(&mut lines);
                    continue;
                }
                Some(_) => return Err(self.malformed("a line that belongs to no hunk")),
                None => return Err(self.malformed("the patch ends within a hunk")),
            };
            if old > old_left || new > new_left {
                return Err(self.malformed("a hunk with more lines than its header says"));
            }
            old_left -= old;
            new_left -= new;
            lines.push(parsed);
            self.at += 1;
        }
        if self.starts("\\") {
            self.no_newline(&mut lines);
        }
        Ok(Hunk { header, old_start, new_start, lines })
    }

    /// `\ No newline at end of file`: about the line before it.
    fn no_newline(&mut self, lines: &mut [HunkLine]) {
        if let Some(line) = lines.last_mut()
            && line.bytes().last() == Some(&b'\n')
        {
            line.bytes().pop();
        }
        self.at += 1;
    }
}

/// `@@ -START[,COUNT] +START[,COUNT] @@`
fn parse_ranges(header: &str) -> Option<[(usize, usize); 2]> {
    let (ranges, _) = header.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    // No file has more lines, and sums of such numbers do not overflow.
    let number = |text: &str| text.parse::<u32>().ok().map(|number| number as usize);
    let range = |text: &str| match text.split_once(',') {
        Some((start, count)) => Some((number(start)?, number(count)?)),
        None => Some((number(text)?, 1)),
    };
    Some([range(old)?, range(new)?])
}

/// The subject of the mail header: unfolded, without the bracket.
fn subject(lines: &[&[u8]]) -> String {
    let header: Vec<String> = lines
        .iter()
        .map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
        .take_while(|line| !line.is_empty())
        .collect();
    let Some(at) = header.iter().position(|line| line.starts_with("Subject:")) else { return String::new() };
    let mut subject = header[at]["Subject:".len()..].trim().to_owned();
    for more in header[at + 1..].iter().take_while(|line| line.starts_with([' ', '\t'])) {
        subject.push(' ');
        subject.push_str(more.trim());
    }
    match subject.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, rest)) => rest.trim().to_owned(),
        None => subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
Subject: [PATCH 1/2] audit: a subject
 that is folded

--- a/not-a-diff is text
---
 a | 2 +-

diff --git a/kernel/a.c b/kernel/a.c
index 1cf22c9..799bd92 100644
--- a/kernel/a.c
+++ b/kernel/a.c
@@ -1,3 +1,3 @@ int f(void)
 one
-two
+TWO
 three
diff --git a/new.sh b/new.sh
new file mode 100755
index 0000000..a6fddbb
--- /dev/null
+++ b/new.sh
@@ -0,0 +1 @@
+only
\\ No newline at end of file
-- 
2.39.5
";

    #[test]
    fn a_mail_of_git_is_read() {
        let patch = Patch::parse("0001-a.patch", MAIL.as_bytes()).unwrap();
        assert_eq!(patch.subject, "audit: a subject that is folded");
        assert_eq!(patch.files.len(), 2);
        assert_eq!(patch.files[0].path(), Path::new("kernel/a.c"));
        assert_eq!(
            patch.files[0].hunks[0].old().collect::<Vec<_>>(),
            [b"one\n".as_slice(), b"two\n", b"three\n"]
        );
        let new = &patch.files[1];
        assert_eq!((new.old.as_ref(), new.executable), (None, Some(true)));
        assert_eq!(new.hunks[0].lines, [HunkLine::Add(b"only".to_vec())]);
        assert_eq!(
            patch.files[0].hunks[0].to_string(),
            "@@ -1,3 +1,3 @@ int f(void)\n one\n-two\n+TWO\n three\n"
        );
    }

    #[test]
    fn paths_out_of_the_tree_are_refused() {
        let names =
            ["b/../../etc/passwd", "/etc/passwd", "b//etc/passwd", "b/a/./../x", "b/.git/config", "passwd"];
        for name in names {
            let text = format!("--- a/x\n+++ {name}\n@@ -1 +1 @@\n-a\n+b\n");
            let error = Patch::parse("p", text.as_bytes()).unwrap_err();
            assert!(matches!(&error, PatchError::Leaves { line: 2, .. }), "{name}: {error}");
        }
        let rename = "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to ../y\n";
        assert!(matches!(Patch::parse("p", rename.as_bytes()), Err(PatchError::Leaves { line: 4, .. })));
    }

    #[test]
    fn links_and_binaries_are_refused() {
        for text in [
            "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n",
            "diff --git a/l b/l\nindex 1..2 100644\nGIT binary patch\nliteral 3\n",
        ] {
            let error = Patch::parse("p", text.as_bytes()).unwrap_err();
            assert!(matches!(error, PatchError::Unsupported { .. }), "{error}");
        }
    }

    #[test]
    fn renames_copies_and_modes_without_hunks_are_read() {
        let text = "\
diff --git a/old name b/new name
similarity index 100%
rename from old name
rename to new name
diff --git a/s.sh b/s.sh
old mode 100644
new mode 100755
diff --git a/empty b/empty
new file mode 100644
index 0000000..e69de29
";
        let patch = Patch::parse("p", text.as_bytes()).unwrap();
        assert_eq!(patch.files[0].old.as_deref(), Some(Path::new("old name")));
        assert_eq!(patch.files[0].new.as_deref(), Some(Path::new("new name")));
        assert_eq!((patch.files[1].executable, patch.files[1].old.is_some()), (Some(true), true));
        assert_eq!((patch.files[2].old.is_some(), patch.files[2].new.is_some()), (false, true));
    }

    #[test]
    fn a_damaged_patch_says_where() {
        let wrapped = MAIL.replace("-two\n", "-a line that the mail\nprogram wrapped\n");
        let error = Patch::parse("0001-a.patch", wrapped.as_bytes()).unwrap_err();
        assert!(matches!(&error, PatchError::Malformed { line: 16, .. }), "{error}");
        let cut = &MAIL[..MAIL.find("+TWO").unwrap()];
        assert!(Patch::parse("p", cut.as_bytes()).unwrap_err().to_string().contains("ends within a hunk"));
        assert!(matches!(Patch::parse("p", b"Subject: cover\n\ntext\n"), Err(PatchError::Empty { .. })));
    }

    #[test]
    fn a_file_is_not_new_and_deleted_at_once() {
        let text = "diff --git a/x b/x\nnew file mode 100644\ndeleted file mode 100644\nindex 0..0\n";
        let error = Patch::parse("p", text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("p:5: a file that is both new and deleted"), "{error}");
    }

    #[test]
    fn a_line_number_that_no_file_has_is_no_hunk_header() {
        for ranges in ["-18446744073709551615 +1", "-1,4294967296 +1", "-9223372036854775808,2 +1,2"] {
            let text = format!("--- a/x\n+++ b/x\n@@ {ranges} @@\n-a\n+b\n");
            let error = Patch::parse("p", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("p:3: a hunk header without ranges"), "{error}");
        }
        let largest = "--- a/x\n+++ b/x\n@@ -4294967295,2 +4294967295 @@\n a\n-b\n";
        assert_eq!(Patch::parse("p", largest.as_bytes()).unwrap().files[0].hunks[0].old_start, 4_294_967_295);
    }

    proptest::proptest! {
        #[test]
        fn the_parser_never_panics(cut in 0usize..700, flip in 0usize..700, byte: u8) {
            let mut bytes = MAIL.as_bytes().to_vec();
            let len = bytes.len();
            bytes[flip % len] = byte;
            let _ = Patch::parse("p", &bytes[..cut.min(len)]);
        }
    }
}
