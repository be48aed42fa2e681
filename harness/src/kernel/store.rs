// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cache folder: what lies where, and how a file gets there whole.
//!
//! ```text
//! apt/LINE/            an apt root of our own: sources.list, indices
//! debs/                source packages as downloaded, each with its .json
//! sources/KEY/         manifest.json and tree/: pristine, never built in
//! trees/KEY/LABEL/     src/: the private tree (source + series), src/o-*: build folders in it
//! images/KEY/          vmlinux, config, manifest.json
//! ccache/ locks/ logs/
//! ```
//!
//! Everything is made under a temporary name and renamed, under a lock of its own.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::apt::AptTools;
use super::event::Events;
use super::lock::{Lock, LockError};

/// Trouble with the cache itself.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither NSTRAIL_CACHE nor XDG_CACHE_HOME nor HOME is set.
    #[error("no cache folder (hint: set NSTRAIL_CACHE)")]
    NoFolder,
    /// An operation on a file failed.
    #[error("cannot {action} {path}: {source}{}", disk_hint(source), path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A lock was not got.
    #[error(transparent)]
    Lock(#[from] LockError),
}

fn disk_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => {
            " (hint: a kernel takes about 3 GB; free some, or set NSTRAIL_CACHE to another disk)"
        }
        _ => "",
    }
}

/// For `map_err`: a [`StoreError::Io`] of an action on a path.
pub(crate) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    pub(crate) apt: AptTools,
}

impl Store {
    /// The store in `root`. Nothing is made before it is needed.
    ///
    /// # Errors
    /// The current folder is gone and `root` is relative.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        // Child processes run in other folders: every path must be absolute.
        let root = std::path::absolute(root).map_err(io_error("find", root))?;
        Ok(Store { root, apt: AptTools::default() })
    }

    /// As [`Store::open`], with other programs in the place of apt's.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with_apt(root: &Path, apt: AptTools) -> Result<Store, StoreError> {
        Ok(Store { apt, ..Store::open(root)? })
    }

    /// Where the store is unless told otherwise: `NSTRAIL_CACHE`, `XDG_CACHE_HOME/nstrail`,
    /// `HOME/.cache/nstrail`.
    ///
    /// # Errors
    /// None of the three is set.
    pub fn default_root() -> Result<PathBuf, StoreError> {
        default_root(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, parts: impl AsRef<Path>) -> PathBuf {
        self.root.join(parts)
    }

    pub(crate) fn lock(&self, name: &str, events: Events<'_>) -> Result<Lock, StoreError> {
        Ok(Lock::take(&self.path("locks").join(format!("{name}.lock")), events)?)
    }

    /// A temporary folder beside the entries of `shelf`, so that a rename suffices in the end. It
    /// is removed when dropped; leftovers of killed processes are removed by the next one that holds
    /// the same lock, which is the only one that may use `prefix`.
    pub(crate) fn temp(&self, shelf: &str, prefix: &str) -> Result<tempfile::TempDir, StoreError> {
        let shelf = self.path(shelf);
        std::fs::create_dir_all(&shelf).map_err(io_error("create", &shelf))?;
        let prefix = format!(".{prefix}.tmp-");
        for entry in std::fs::read_dir(&shelf).map_err(io_error("read", &shelf))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove_tree(&entry.path())?;
            }
        }
        tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&shelf)
            .map_err(io_error("create a folder in", &shelf))
    }
}

fn default_root(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, StoreError> {
    if let Some(root) = variable("NSTRAIL_CACHE") {
        return Ok(root.into());
    }
    // The XDG specification tells to ignore a relative path.
    if let Some(cache) = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(cache.join("nstrail"));
    }
    let home = variable("HOME").ok_or(StoreError::NoFolder)?;
    Ok(Path::new(&home).join(".cache/nstrail"))
}

/// Writes a file so that a reader sees the old or the new content, never a part.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    use std::io::Write as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    // As any other file, under the umask; a temporary one is for its owner alone by default.
    let mode = std::fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new()
        .permissions(mode)
        .tempfile_in(folder)
        .map_err(io_error("create a file in", folder))?;
    file.write_all(bytes).map_err(io_error("write", path))?;
    file.persist(path).map_err(|error| error.error).map_err(io_error("write", path))?;
    Ok(())
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(io::Error::from).map_err(io_error("write", path))?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// A manifest, if it is there and can be understood. One that cannot is as good as none: what it
/// describes is made again.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Removes a file or a whole folder, if it is there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    let result = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let root = |pairs: &'static [(&str, &str)]| {
            default_root(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        let all = &[("NSTRAIL_CACHE", "/n"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(root(all).unwrap(), Path::new("/n"));
        assert_eq!(root(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap(), Path::new("/x/nstrail"));
        assert_eq!(root(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]).unwrap(), Path::new("/h/.cache/nstrail"));
        assert!(root(&[]).unwrap_err().to_string().contains("NSTRAIL_CACHE"));
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let left = store.temp("sources", "a").unwrap().keep();
        let other = store.temp("sources", "b").unwrap();
        let new = store.temp("sources", "a").unwrap();
        assert!(!left.exists() && other.path().exists() && new.path().exists());
    }
}
