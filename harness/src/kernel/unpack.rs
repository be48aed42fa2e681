// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a package, a tarball or a folder to a tree of our own.

use std::path::{Path, PathBuf};

use super::store::{StoreError, io_error};
use crate::process::{ChildSpec, ProcessError};

/// Why no tree came of it.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The end of the name says no compression that we know.
    #[error("cannot tell how {} is packed (hint: .tar, or .tar.xz, .tar.zst, .tar.gz, .tar.bz2, .tar.lz4)", .0.display())]
    UnknownFormat(PathBuf),
    /// There is no kernel in it.
    #[error("no kernel source in {}: {reason}", path.display())]
    NoKernel {
        /// The folder it was unpacked to.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// tar, dpkg-deb or cp failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file of the cache.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The tarball in Debian's source package, unpacked to a folder in `temp`.
pub(super) fn debian_source(dpkg_deb: &Path, deb: &Path, temp: &Path) -> Result<PathBuf, UnpackError> {
    let package = temp.join("package");
    ChildSpec::new(dpkg_deb).arg("-x").arg(deb).arg(&package).run()?;
    let folder = package.join("usr/src");
    let entries = std::fs::read_dir(&folder).map_err(io_error("read", &folder))?;
    let found = entries.flatten().map(|entry| entry.path()).find(|path| decompressor(path).is_some());
    let file = found.ok_or(UnpackError::NoKernel { path: folder, reason: "the package holds no tarball" })?;
    let tree = tarball(&file, temp)?;
    std::fs::remove_dir_all(&package).map_err(io_error("remove", &package))?;
    Ok(tree)
}

/// A tarball, unpacked to a folder in `temp`.
pub(super) fn tarball(file: &Path, temp: &Path) -> Result<PathBuf, UnpackError> {
    let decompressor = decompressor(file).ok_or_else(|| UnpackError::UnknownFormat(file.to_owned()))?;
    let folder = temp.join("unpacked");
    std::fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
    let mut tar = ChildSpec::new("tar").args(["--no-same-owner", "--no-same-permissions"]);
    if !decompressor.is_empty() {
        tar = tar.arg("--use-compress-program").arg(decompressor);
    }
    tar.arg("-xf").arg(file).arg("-C").arg(&folder).run()?;
    top(&folder)
}

/// A folder, copied to one in `temp`, without its `.git`.
pub(super) fn copy(from: &Path, temp: &Path) -> Result<PathBuf, UnpackError> {
    let tree = temp.join("copied");
    ChildSpec::new("cp").args(["-a", "--reflink=auto", "--"]).arg(from).arg(&tree).run()?;
    super::store::remove_tree(&tree.join(".git"))?;
    Ok(tree)
}

/// How tar should read a file: `xz -T0` decompresses the blocks of Debian's tarballs in parallel.
fn decompressor(file: &Path) -> Option<&'static str> {
    let name = file.file_name()?.to_str()?;
    let formats = [("xz", "xz -T0"), ("zst", "zstd -T0"), ("gz", "gzip"), ("bz2", "bzip2"), ("lz4", "lz4")];
    if name.ends_with(".tar") {
        return Some("");
    }
    if name.ends_with(".tgz") {
        return Some("gzip");
    }
    formats.into_iter().find(|(end, _)| name.ends_with(&format!(".tar.{end}"))).map(|(_, program)| program)
}

/// The folder that holds the tree: tarballs have one at the top.
fn top(folder: &Path) -> Result<PathBuf, UnpackError> {
    if folder.join("Makefile").is_file() {
        return Ok(folder.to_owned());
    }
    let entries = std::fs::read_dir(folder).map_err(io_error("read", folder))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("Makefile").is_file())
        .ok_or_else(|| UnpackError::NoKernel { path: folder.to_owned(), reason: "no Makefile" })
}

/// `6.12.117`, of a tree's Makefile.
pub(super) fn kernel_version(tree: &Path) -> Result<String, UnpackError> {
    let path = tree.join("Makefile");
    let text = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let variable = |name: &str| {
        text.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?;
            Some(value.trim().to_owned())
        })
    };
    let numbers = ["VERSION", "PATCHLEVEL", "SUBLEVEL"].map(variable);
    let [Some(version), Some(patchlevel), Some(sublevel)] = numbers else {
        let reason = "its Makefile sets no VERSION, PATCHLEVEL and SUBLEVEL";
        return Err(UnpackError::NoKernel { path: tree.to_owned(), reason });
    };
    Ok(format!("{version}.{patchlevel}.{sublevel}{}", variable("EXTRAVERSION").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_makefile() {
        let dir = tempfile::tempdir().unwrap();
        let makefile = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION = -rc1\nNAME = x\n";
        std::fs::write(dir.path().join("Makefile"), makefile).unwrap();
        assert_eq!(kernel_version(dir.path()).unwrap(), "6.12.117-rc1");
        std::fs::write(dir.path().join("Makefile"), "all:\n").unwrap();
        assert!(kernel_version(dir.path()).unwrap_err().to_string().contains("PATCHLEVEL"));
    }

    #[test]
    fn each_format_has_its_program() {
        assert_eq!(decompressor(Path::new("a/linux-6.12.tar.xz")), Some("xz -T0"));
        assert_eq!(decompressor(Path::new("linux.tgz")), Some("gzip"));
        assert_eq!(decompressor(Path::new("linux.tar")), Some(""));
        assert_eq!(decompressor(Path::new("linux.zip")), None);
    }
}
