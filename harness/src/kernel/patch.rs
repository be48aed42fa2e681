// SPDX-License-Identifier: MIT OR Apache-2.0
//! One patch: its mail header, and the hunks of each file.
//!
//! What is read is what git format-patch writes, and plain unified diffs with one leading path component
//! (`-p1`). Contents are bytes: a kernel file need not be UTF-8.
//!
//! A patch is untrusted. What could end outside of the tree, or be another file than it looks like, is refused here, for
//! every form of a series: paths that are absolute, lead upwards, into git's own folder or into a build folder, names
//! that git would quote or that a terminal acts on, every mode but those of plain files (so no links, no submodules, no
//! setuid), and binary patches.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::tree::is_build_folder;
use crate::report::escape::{is_active, one_line};

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
    #[must_use]
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
    #[must_use]
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
    #[error("{}: no diff in it (hint: is it a cover letter? those are called 0000-*)", one_line(patch))]
    Empty {
        /// File name.
        patch: String,
    },
    /// A path that is absolute, leads out of the tree or into git's own folder.
    #[error(
        "{}:{line}: the path `{}` leaves the source tree; nothing was written (hint: paths are a/FILE and b/FILE, from \
         the top of the tree down; make the patch with git format-patch there)",
        one_line(patch),
        one_line(path)
    )]
    Leaves {
        /// File name.
        patch: String,
        /// Line of the patch.
        line: usize,
        /// The path.
        path: String,
    },
    /// Something that is not applied at all.
    #[error(
        "{}:{line}: `{}`: {} cannot be applied; nothing was written (hint: {})",
        one_line(patch), one_line(path), what, what.hint()
    )]
    Unsupported {
        /// File name.
        patch: String,
        /// Line of the patch.
        line: usize,
        /// The file.
        path: String,
        /// What it is.
        what: Unsupported,
    },
    /// It is damaged, as by a mail program.
    #[error("{}:{line}: {what} (hint: was the patch wrapped or cut by a mail program?)", one_line(patch))]
    Malformed {
        /// File name.
        patch: String,
        /// Line of the patch.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// What no patch may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// Mode 120000, before or after.
    Link,
    /// Mode 160000.
    Submodule,
    /// Any other mode but 100644 and 100755: setuid, a device.
    Mode,
    /// `GIT binary patch`, `Binary files differ`.
    Binary,
    /// A name in quotes, as git writes it if there are control characters, quotes or other than ASCII in it.
    Quoted,
    /// The same, without quotes.
    Active,
    /// A file where nstrail builds.
    BuildFolder,
}

impl Unsupported {
    fn of_mode(mode: &str) -> Unsupported {
        match mode {
            "120000" => Unsupported::Link,
            "160000" => Unsupported::Submodule,
            _ => Unsupported::Mode,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Unsupported::Link => "a link can lead out of the tree; leave the file out of the series",
            Unsupported::Submodule => "kernel trees have none; leave it out of the series",
            Unsupported::Mode => "files are 100644 or, executable, 100755",
            Unsupported::Binary => "leave the file out of the series; kernel trees have no binaries",
            Unsupported::Quoted | Unsupported::Active => "rename it to printable ASCII without quotes",
            Unsupported::BuildFolder => "folders called o-* at the top of the tree are nstrail's own",
        }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsupported::Link => "a symbolic link",
            Unsupported::Submodule => "a submodule",
            Unsupported::Mode => "a file mode other than those of plain files",
            Unsupported::Binary => "a binary patch",
            Unsupported::Quoted => "a quoted file name",
            Unsupported::Active => "a file name with control characters",
            Unsupported::BuildFolder => "a file in a build folder",
        })
    }
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
        // Words of a commit message are no diff; without a `---` line there is none.
        let mut in_diff = !lines.iter().any(|line| line.trim_ascii_end() == b"---");
        while reader.at < lines.len() {
            in_diff = in_diff || !files.is_empty() || reader.line().trim_ascii_end() == b"---";
            if in_diff && reader.starts("Binary files ") && reader.text().ends_with(" differ") {
                // As diff -r says it, without a header.
                let names = reader.text();
                let names = names.trim_start_matches("Binary files ").trim_end_matches(" differ");
                return Err(reader.unsupported(Unsupported::Binary, names));
            }
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

    fn unsupported(&self, what: Unsupported, path: &str) -> PatchError {
        let (patch, path) = (self.name.to_owned(), path.to_owned());
        PatchError::Unsupported { patch, line: self.at + 1, path, what }
    }

    /// Whether a file is executable. Anything but a plain file is refused.
    fn mode(&self, mode: &str, both: &str) -> Result<bool, PatchError> {
        match mode.trim() {
            "100755" => Ok(true),
            "100644" => Ok(false),
            other => {
                let name =
                    self.same_name(both).map_or_else(|_| both.to_owned(), |name| name.display().to_string());
                Err(self.unsupported(Unsupported::of_mode(other), &name))
            }
        }
    }

    /// From `diff --git` on. Names of that line are ambiguous if they have spaces, so they are only used where
    /// no other line has them: a change of mode alone.
    fn git_file(&mut self) -> Result<FilePatch, PatchError> {
        let mut file = FilePatch { old: None, new: None, executable: None, copy: false, hunks: vec![] };
        let both = self.text()["diff --git ".len()..].to_owned();
        if both.starts_with('"') || both.ends_with('"') {
            return Err(self.unsupported(Unsupported::Quoted, &both));
        }
        let (mut created, mut deleted, mut renamed) = (false, false, false);
        self.at += 1;
        while self.at < self.lines.len() {
            let text = self.text();
            if let Some(mode) = text.strip_prefix("new file mode ") {
                file.executable = Some(self.mode(mode, &both)?);
                created = true;
            } else if let Some(mode) = text.strip_prefix("new mode ") {
                file.executable = Some(self.mode(mode, &both)?);
            } else if let Some(mode) = text.strip_prefix("old mode ") {
                self.mode(mode, &both)?;
            } else if let Some(mode) = text.strip_prefix("deleted file mode ") {
                self.mode(mode, &both)?;
                deleted = true;
            } else if let Some(index) = text.strip_prefix("index ") {
                // `OLD..NEW MODE`, if the mode stays as it is.
                if let Some((_, mode)) = index.split_once(' ') {
                    self.mode(mode, &both)?;
                }
            } else if let Some(from) = text.strip_prefix("rename from ").or(text.strip_prefix("copy from ")) {
                file.copy = text.starts_with("copy");
                file.old = Some(self.path(from)?);
                renamed = true;
            } else if let Some(to) = text.strip_prefix("rename to ").or(text.strip_prefix("copy to ")) {
                file.new = Some(self.path(to)?);
            } else if text.starts_with("GIT binary patch") || text.starts_with("Binary files ") {
                let name = self.same_name(&both).map_or(both, |name| name.display().to_string());
                return Err(self.unsupported(Unsupported::Binary, &name));
            } else if text.starts_with("--- ") {
                self.names(&mut file)?;
                break;
            } else if !["similarity index ", "dissimilarity index "]
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
            return Err(self.unsupported(Unsupported::Quoted, name));
        }
        match name.split_once('/') {
            _ if self.strip == Strip::None => self.path(name).map(Some),
            Some((first, rest)) if !first.is_empty() => self.path(rest).map(Some),
            _ => Err(self.leaves(name)),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, PatchError> {
        if name.starts_with('"') {
            return Err(self.unsupported(Unsupported::Quoted, name));
        }
        // U+FFFD: it was no UTF-8.
        if name.contains(|c| is_active(c) || c == '\u{fffd}') {
            return Err(self.unsupported(Unsupported::Active, name));
        }
        let path = Path::new(name);
        let inside = path
            .components()
            .all(|part| matches!(part, Component::Normal(part) if !part.eq_ignore_ascii_case(".git")));
        if !inside || name.is_empty() {
            return Err(self.leaves(name));
        }
        let path: PathBuf = path.components().collect();
        if path.iter().next().is_some_and(is_build_folder) {
            return Err(self.unsupported(Unsupported::BuildFolder, name));
        }
        Ok(path)
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
        let names = [
            "b/../../etc/passwd",
            "/etc/passwd",
            "b//etc/passwd",
            "b/a/./../x",
            "b/.git/config",
            "b/a/.GIT/hooks/x",
            "b/..",
            "passwd",
        ];
        for name in names {
            let text = format!("--- a/x\n+++ {name}\n@@ -1 +1 @@\n-a\n+b\n");
            let error = Patch::parse("p", text.as_bytes()).unwrap_err();
            assert!(matches!(&error, PatchError::Leaves { line: 2, .. }), "{name}: {error}");
        }
        for both in ["rename", "copy"] {
            let text = format!("diff --git a/x b/y\nsimilarity index 100%\n{both} from x\n{both} to ../y\n");
            assert!(matches!(Patch::parse("p", text.as_bytes()), Err(PatchError::Leaves { line: 4, .. })));
            let text =
                format!("diff --git a/x b/y\nsimilarity index 100%\n{both} from /etc/shadow\n{both} to y\n");
            assert!(matches!(Patch::parse("p", text.as_bytes()), Err(PatchError::Leaves { line: 3, .. })));
        }
    }

    fn refused(text: &str) -> (usize, String, Unsupported) {
        match Patch::parse("p", text.as_bytes()).unwrap_err() {
            PatchError::Unsupported { line, path, what, .. } => (line, path, what),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_mode_but_those_of_plain_files_is_refused() {
        let git = |lines: &str| format!("diff --git a/l b/l\n{lines}");
        for (lines, line, what) in [
            ("new file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n", 2, Unsupported::Link),
            ("old mode 100644\nnew mode 120000\n", 3, Unsupported::Link),
            ("old mode 120000\nnew mode 100644\n", 2, Unsupported::Link),
            ("deleted file mode 120000\n", 2, Unsupported::Link),
            (
                "index 1111111..2222222 120000\n--- a/l\n+++ b/l\n@@ -1 +1 @@\n-x\n+/etc\n",
                2,
                Unsupported::Link,
            ),
            ("new file mode 160000\nindex 0..1\n", 2, Unsupported::Submodule),
            ("index 1111111..2222222 160000\n", 2, Unsupported::Submodule),
            ("old mode 100755\nnew mode 104755\n", 3, Unsupported::Mode),
            ("new file mode 102755\n", 2, Unsupported::Mode),
            ("new file mode 020666\n", 2, Unsupported::Mode),
        ] {
            assert_eq!(refused(&git(lines)), (line, "l".to_owned(), what), "{lines}");
        }
    }

    #[test]
    fn binaries_are_refused_however_diff_says_it() {
        let text = "diff --git a/l b/l\nindex 1..2 100644\nGIT binary patch\nliteral 3\n";
        assert_eq!(refused(text), (3, "l".to_owned(), Unsupported::Binary));
        let text = "diff --git a/l b/l\nindex 1..2 100644\nBinary files a/l and b/l differ\n";
        assert_eq!(refused(text).2, Unsupported::Binary);
        let text = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\nBinary files a/l and b/l differ\n";
        assert_eq!(refused(text), (6, "a/l and b/l".to_owned(), Unsupported::Binary));
        // In words it is allowed.
        let text = "Subject: x\n\nBinary files a and b differ\n---\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
        assert_eq!(Patch::parse("p", text.as_bytes()).unwrap().files.len(), 1);
    }

    #[test]
    fn names_that_are_not_what_they_look_like_are_refused() {
        let plain = |name: &str| format!("--- /dev/null\n+++ {name}\n@@ -0,0 +1 @@\n+x\n");
        for (text, what) in [
            (plain("\"b/a\\nb\""), Unsupported::Quoted),
            ("diff --git \"a/\\001\" \"b/\\001\"\nnew file mode 100644\n".into(), Unsupported::Quoted),
            ("diff --git a/x b/y\nrename from x\nrename to \"..\\057y\"\n".into(), Unsupported::Quoted),
            (plain("b/\u{1b}[2Jx"), Unsupported::Active),
            (plain("b/a\rb"), Unsupported::Active),
            (plain("b/c.\u{202e}txt"), Unsupported::Active),
            (plain("b/o-base-audit/vmlinux"), Unsupported::BuildFolder),
        ] {
            assert_eq!(refused(&text).2, what, "{text}");
        }
        let error = Patch::parse("p\u{1b}", plain("b/\u{1b}[2J\u{202e}").as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with("p\\x1b:2: `\\x1b[2J\\u{202e}`: a file name with control characters"),
            "{error}"
        );
        let mut bytes = plain("b/x").into_bytes();
        bytes[21] = 0xff;
        assert!(matches!(
            Patch::parse("p", &bytes),
            Err(PatchError::Unsupported { what: Unsupported::Active, .. })
        ));
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
        /// Whatever the names are made of: what is parsed stays below the top of the tree.
        #[test]
        fn no_path_that_is_parsed_leaves_the_tree(
            parts in proptest::collection::vec(
                proptest::sample::select(vec!["..", ".", "", "a", ".git", "~", "a b", "-x", "\u{1b}", "o-x", "\\", "b"]),
                1..5,
            ),
            form in 0usize..4,
        ) {
            let name = parts.join("/");
            let text = match form {
                0 => format!("--- /dev/null\n+++ {name}\n@@ -0,0 +1 @@\n+x\n"),
                1 => format!("diff --git a/x b/y\nrename from x\nrename to {name}\n"),
                2 => format!("diff --git a/x b/y\ncopy from {name}\ncopy to y\n"),
                _ => format!("diff --git a/{name} b/{name}\nold mode 100644\nnew mode 100755\n"),
            };
            if let Ok(patch) = Patch::parse("p", text.as_bytes()) {
                for path in patch.files.iter().flat_map(|file| file.old.iter().chain(&file.new)) {
                    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
                    proptest::prop_assert!(inside && path.is_relative() && !path.starts_with("o-x"), "{:?}", path);
                    proptest::prop_assert!(!path.iter().any(|part| part == ".git"), "{:?}", path);
                }
            }
        }

        #[test]
        fn the_parser_never_panics(cut in 0usize..700, flip in 0usize..700, byte: u8) {
            let mut bytes = MAIL.as_bytes().to_vec();
            let len = bytes.len();
            bytes[flip % len] = byte;
            let _ = Patch::parse("p", &bytes[..cut.min(len)]);
        }
    }
}
