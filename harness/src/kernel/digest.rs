// SPDX-License-Identifier: MIT OR Apache-2.0
//! SHA-256 of files, of trees, and of what a cache key is made of.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256, in lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(String);

impl Hash {
    /// From 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Hash> {
        let text = text.trim().to_ascii_lowercase();
        (text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit())).then_some(Hash(text))
    }

    /// Of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Hash {
        Hash::finish(Sha256::new_with_prefix(bytes))
    }

    /// Of a file's content.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Hash> {
        let mut file = File::open(path)?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Hash::finish(digest)),
                n => digest.update(&buffer[..n]),
            }
        }
    }

    fn finish(digest: Sha256) -> Hash {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in digest.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Hash(text)
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: enough to tell the entries of one cache apart by eye.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// A hash over named parts. Each part goes in with its name and both lengths, so that no two lists
/// of parts are the same bytes.
#[derive(Debug, Clone)]
pub struct KeyHasher(Sha256);

impl KeyHasher {
    /// An empty list of parts, for keys of one kind.
    pub fn new(kind: &str) -> KeyHasher {
        let mut hasher = KeyHasher(Sha256::new());
        hasher.part("kind", kind);
        hasher
    }

    /// Adds a part.
    pub fn part(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name);
        self.0.update((value.len() as u64).to_le_bytes());
        self.0.update(value);
    }

    /// The hash of all parts.
    pub fn finish(self) -> Hash {
        Hash::finish(self.0)
    }
}

/// What of a file goes into the hash of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeDepth {
    /// Sizes and modification times: half a second for a kernel; sees every accident.
    Stat,
    /// Contents and executable bits, no times: the same for each copy of a tree.
    Content,
}

/// The hash of all files and links under `root`, except those under top-level entries that `skip`
/// picks.
///
/// # Errors
/// A directory or a file cannot be read.
pub fn hash_tree(root: &Path, depth: TreeDepth, skip: impl Fn(&OsStr) -> bool) -> io::Result<Hash> {
    let mut hasher = KeyHasher::new("tree");
    for path in walk(root, &skip)? {
        let full = root.join(&path);
        let meta = full.symlink_metadata()?;
        let name = path.as_os_str().as_bytes();
        if meta.is_symlink() {
            hasher.part("link", name);
            hasher.part("to", full.read_link()?.as_os_str().as_bytes());
            continue;
        }
        hasher.part("file", name);
        match depth {
            TreeDepth::Stat => {
                let stat = format!("{} {}.{}", meta.len(), meta.mtime(), meta.mtime_nsec());
                hasher.part("stat", stat);
            }
            TreeDepth::Content => {
                hasher.part("mode", if meta.permissions().mode() & 0o111 == 0 { "-" } else { "x" });
                hasher.part("content", std::fs::read(&full)?);
            }
        }
    }
    Ok(hasher.finish())
}

/// Every file and link under `root`, in the order of bytes.
pub(crate) fn walk(root: &Path, skip: &impl Fn(&OsStr) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            if folder.as_os_str().is_empty() && skip(&entry.file_name()) {
                continue;
            }
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Hash::of(b"").as_str(), empty);
        assert_eq!(Hash::parse(&empty.to_uppercase()), Some(Hash::of(b"")));
        assert_eq!(Hash::parse("abc"), None);
    }

    #[test]
    fn parts_cannot_flow_into_each_other() {
        let key = |parts: &[(&str, &str)]| {
            let mut hasher = KeyHasher::new("test");
            parts.iter().for_each(|(name, value)| hasher.part(name, value));
            hasher.finish()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "")]), key(&[("a", "bc")]));
        assert_eq!(key(&[("a", "b")]), key(&[("a", "b")]));
    }

    #[test]
    fn a_tree_is_its_contents_and_nothing_under_skipped_entries() {
        let dir = tempfile::tempdir().unwrap();
        let hash = || hash_tree(dir.path(), TreeDepth::Content, |name| name == "o").unwrap();
        std::fs::create_dir_all(dir.path().join("a/o")).unwrap();
        std::fs::create_dir_all(dir.path().join("o")).unwrap();
        std::fs::write(dir.path().join("a/o/file"), "one").unwrap();
        let before = hash();
        std::fs::write(dir.path().join("o/file"), "built").unwrap();
        assert_eq!(hash(), before);
        std::fs::write(dir.path().join("a/o/file"), "two").unwrap();
        assert_ne!(hash(), before);
    }
}
