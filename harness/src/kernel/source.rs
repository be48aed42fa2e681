// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel sources: what can be asked for, and the pristine tree that comes of it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::apt::{AptError, AptRoot, DebianRelease};
use super::digest::{Hash, KeyHasher, TreeDepth, hash_tree};
use super::event::{BuildEvent, Events};
use super::store::{Store, StoreError, io_error, read_json, write_json};
use super::unpack::{self, UnpackError};
use super::versions::{DebianVersion, KernelLine};
use crate::process::{ChildSpec, ProcessError};

/// Version of the manifests' form. A manifest of another one is as good as none.
const SCHEMA: u32 = 1;

/// A kernel source as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// Debian's package: a line (`6.12`), or an exact version.
    Debian(String),
    /// A tarball, by content.
    Tarball(PathBuf),
    /// A folder, by content.
    Directory(PathBuf),
    /// A git tree at a revision, by commit.
    Git {
        /// Work tree or bare repository.
        repository: PathBuf,
        /// Anything that `git rev-parse` understands.
        revision: String,
    },
}

impl SourceSpec {
    /// What `--source TEXT` means: a file is a tarball, a folder a tree, `FOLDER@REVISION` a git tree.
    ///
    /// # Errors
    /// [`SourceError::NoSuchPath`].
    pub fn parse(text: &str) -> Result<SourceSpec, SourceError> {
        let path = Path::new(text);
        if path.is_file() {
            return Ok(SourceSpec::Tarball(path.to_owned()));
        }
        if path.is_dir() {
            return Ok(SourceSpec::Directory(path.to_owned()));
        }
        // The first `@` that follows a folder: a revision may have one itself (`v6.12@{0}`).
        for (at, _) in text.match_indices('@') {
            let (repository, revision) = (Path::new(&text[..at]), &text[at + 1..]);
            if repository.is_dir() && !revision.is_empty() {
                return Ok(SourceSpec::Git {
                    repository: repository.to_owned(),
                    revision: revision.to_owned(),
                });
            }
        }
        Err(SourceError::NoSuchPath(text.to_owned()))
    }
}

/// Names a source and its content; also the name of its folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceKey(pub(super) String);

impl SourceKey {
    /// The key itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a tree came from, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Origin {
    /// Debian's package.
    Debian {
        /// `linux-source-6.12`
        package: String,
        /// The point release that was used.
        version: DebianVersion,
        /// Of the package file, as in the signed index.
        sha256: Hash,
        /// Of the package file, in bytes.
        size: u64,
    },
    /// A tarball.
    Tarball {
        /// As it was named.
        path: PathBuf,
        /// Of its content.
        sha256: Hash,
    },
    /// A folder.
    Directory {
        /// As it was named.
        path: PathBuf,
        /// Of its content.
        sha256: Hash,
    },
    /// A git tree.
    Git {
        /// As it was named.
        repository: PathBuf,
        /// The commit that the revision stood for.
        commit: String,
    },
}

/// For a report: `linux-source-6.12 6.12.117-1`, `tarball linux.tar.xz`, ...
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Debian { package, version, .. } => write!(f, "{package} {version}"),
            Origin::Tarball { path, .. } => write!(f, "tarball {}", path.display()),
            Origin::Directory { path, .. } => write!(f, "folder {}", path.display()),
            Origin::Git { repository, commit } => write!(f, "git {} {commit}", repository.display()),
        }
    }
}

/// A pristine source tree in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Names it.
    pub key: SourceKey,
    /// The tree. Nothing may be written there.
    pub tree: PathBuf,
    /// `6.12.117`, of its Makefile.
    pub version: String,
    /// Where it came from.
    pub origin: Origin,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    key: SourceKey,
    version: String,
    origin: Origin,
    /// Sizes and times of every file when it was unpacked ([`TreeDepth::Stat`]).
    stat: Hash,
}

/// Why there is no source tree.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// `--source` names nothing.
    #[error("no kernel source at `{0}` (hint: a tarball, a directory, or GITDIR@REVISION)")]
    NoSuchPath(String),
    /// The folder was built in: kbuild refuses to build elsewhere from it.
    #[error("{} holds build results, no clean source (hint: run `make mrproper` there)", .0.display())]
    NotClean(PathBuf),
    /// Debian's package was not got.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// Something was not unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// git failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file of the cache.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the store has of a kernel line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRow {
    /// The line of versions.toml.
    pub line: &'static KernelLine,
    /// Its releases in the store, newest first.
    pub fetched: Vec<Source>,
}

impl Store {
    /// Every line that nstrail knows, with what of it is in the store.
    #[must_use]
    pub fn kernels(&self) -> Vec<KernelRow> {
        KernelLine::all().iter().map(|line| KernelRow { line, fetched: self.releases_of(line) }).collect()
    }

    /// The tree of a source, fetched or copied if it is not in the store yet. What is there is used without
    /// any network; `refresh` looks for a newer point release first.
    ///
    /// # Errors
    /// As [`SourceError`].
    pub fn source(
        &self,
        spec: &SourceSpec,
        refresh: bool,
        events: Events<'_>,
    ) -> Result<Source, SourceError> {
        match spec {
            SourceSpec::Debian(version) => self.debian(version, refresh, events),
            SourceSpec::Tarball(path) => {
                let sha256 = Hash::of_file(path).map_err(io_error("read", path))?;
                let key = SourceKey(format!("tar-{}", sha256.short()));
                let path = std::path::absolute(path).map_err(io_error("find", path))?;
                let origin = Origin::Tarball { path: path.clone(), sha256 };
                self.ensure(key, origin, events, |temp| Ok(unpack::tarball(&path, temp)?))
            }
            SourceSpec::Directory(path) => self.directory(path, events),
            SourceSpec::Git { repository, revision } => {
                let wanted = format!("{revision}^{{commit}}");
                let commit =
                    git(repository).args(["rev-parse", "--verify", &wanted]).read()?.trim().to_owned();
                let key = SourceKey(format!("git-{}", commit.get(..12).unwrap_or(&commit)));
                let origin = Origin::Git { repository: repository.clone(), commit: commit.clone() };
                self.ensure(key, origin, events, |temp| {
                    let archive = temp.join("archive.tar");
                    git(repository)
                        .args(["archive", "--format=tar", "--prefix=linux/", "-o"])
                        .arg(&archive)
                        .arg(&commit)
                        .run()?;
                    let tree = unpack::tarball(&archive, temp)?;
                    std::fs::remove_file(&archive).map_err(io_error("remove", &archive))?;
                    Ok(tree)
                })
            }
        }
    }

    /// Whether the pristine tree is still what was unpacked. Half a second.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn intact(&self, source: &Source) -> Result<bool, StoreError> {
        let Some(manifest) = read_json::<Manifest>(&self.source_folder(&source.key).join("manifest.json"))
        else {
            return Ok(false);
        };
        let stat =
            hash_tree(&source.tree, TreeDepth::Stat, |_| false).map_err(io_error("read", &source.tree))?;
        Ok(stat == manifest.stat)
    }

    /// Makes a pristine tree again that is not [`Store::intact`] any more.
    ///
    /// # Errors
    /// As [`Store::source`].
    pub fn restore(&self, source: &Source, events: Events<'_>) -> Result<Source, SourceError> {
        let lock = self.lock(&format!("source-{}", source.key), events)?;
        super::store::remove_tree(&self.source_folder(&source.key))?;
        drop(lock);
        let spec = match &source.origin {
            Origin::Debian { version, .. } => SourceSpec::Debian(version.0.clone()),
            Origin::Tarball { path, .. } => SourceSpec::Tarball(path.clone()),
            Origin::Directory { path, .. } => SourceSpec::Directory(path.clone()),
            Origin::Git { repository, commit } => {
                SourceSpec::Git { repository: repository.clone(), revision: commit.clone() }
            }
        };
        self.source(&spec, false, events)
    }

    fn debian(&self, version: &str, refresh: bool, events: Events<'_>) -> Result<Source, SourceError> {
        let unknown = || AptError::UnknownVersion { version: version.to_owned() };
        let line = KernelLine::of(version).ok_or_else(unknown)?;
        let exact = version != line.version;
        let _lock = self.lock(&format!("debian-{}", line.version), events)?;
        let wanted = |found: &DebianVersion| !exact || found.0 == version;
        if !refresh || exact {
            let mut there = self.releases_of(line).into_iter();
            if let Some(source) = there.find(|source| debian_version(source).is_some_and(wanted)) {
                return Ok(source);
            }
            // The tree is gone or damaged, but its package is there.
            if let Some(release) = self.packages_of(line).into_iter().find(|release| wanted(&release.version))
            {
                return self.unpack_release(&release, None, events);
            }
        }
        let apt = self.apt_root(line, events)?;
        let releases = apt.releases()?;
        let Some(release) = releases.iter().find(|release| wanted(&release.version)) else {
            return Err(AptError::NoSuchRelease {
                package: line.package(),
                version: version.to_owned(),
                available: releases.into_iter().map(|release| release.version).collect(),
            }
            .into());
        };
        self.unpack_release(release, Some(&apt), events)
    }

    /// The releases of a line that the archive has now, newest first. Asks the archive.
    ///
    /// # Errors
    /// As [`SourceError`].
    pub fn archive(
        &self,
        line: &'static KernelLine,
        events: Events<'_>,
    ) -> Result<Vec<DebianVersion>, SourceError> {
        let _lock = self.lock(&format!("debian-{}", line.version), events)?;
        let releases = self.apt_root(line, events)?.releases()?;
        Ok(releases.into_iter().map(|release| release.version).collect())
    }

    /// An apt of the line's own, up to date.
    fn apt_root(&self, line: &'static KernelLine, events: Events<'_>) -> Result<AptRoot<'_>, SourceError> {
        let log = self.path("logs").join(format!("apt-{}.log", line.version));
        super::store::write_whole(&log, b"")?;
        let root = self.path("apt").join(&line.version);
        let apt = AptRoot::create(&self.apt, line, root, log)?;
        apt.update(events)?;
        Ok(apt)
    }

    /// The tree of a release: unpacked before, or from its package, which is downloaded if it is not there or
    /// not whole.
    fn unpack_release(
        &self,
        release: &DebianRelease,
        apt: Option<&AptRoot<'_>>,
        events: Events<'_>,
    ) -> Result<Source, SourceError> {
        let deb = self.deb(release);
        if deb.exists() && Hash::of_file(&deb).map_err(io_error("read", &deb))? != release.sha256 {
            let reason = "it is not what was downloaded".to_owned();
            events(BuildEvent::Damaged { path: deb.clone(), reason });
            std::fs::remove_file(&deb).map_err(io_error("remove", &deb))?;
        }
        if !deb.exists() {
            let Some(apt) = apt else {
                // Not offline after all: look whether the archive still has this release.
                let manifest = self.deb_manifest(release);
                super::store::remove_tree(&manifest)?;
                let line = KernelLine::of(&release.version.0);
                let line =
                    line.ok_or_else(|| AptError::UnknownVersion { version: release.version.0.clone() })?;
                let apt = self.apt_root(line, events)?;
                let releases = apt.releases()?;
                let Some(release) = releases.iter().find(|found| found.version == release.version) else {
                    return Err(AptError::NoSuchRelease {
                        package: release.package.clone(),
                        version: release.version.0.clone(),
                        available: releases.into_iter().map(|release| release.version).collect(),
                    }
                    .into());
                };
                return self.unpack_release(release, Some(&apt), events);
            };
            let temp = self.temp("debs", &release.package)?;
            let file = apt.download(release, temp.path(), events)?;
            std::fs::rename(&file, &deb).map_err(io_error("rename", &file))?;
            write_json(&self.deb_manifest(release), &origin(release))?;
        }
        let key = SourceKey(format!("debian-{}-{}", release.version, release.sha256.short()));
        self.ensure(key, origin(release), events, |temp| {
            Ok(unpack::debian_source(&self.apt.dpkg_deb, &deb, temp)?)
        })
    }

    fn directory(&self, path: &Path, events: Events<'_>) -> Result<Source, SourceError> {
        let path = std::path::absolute(path).map_err(io_error("find", path))?;
        if path.join(".config").exists() || path.join("include/config").exists() {
            return Err(SourceError::NotClean(path));
        }
        let skip = |name: &std::ffi::OsStr| name == ".git";
        let stat = hash_tree(&path, TreeDepth::Stat, skip).map_err(io_error("read", &path))?;
        // Reading 1.5 GB takes seconds: what was read is remembered by sizes and times, as git's index does.
        let mut memo = KeyHasher::new("directory");
        memo.part("path", path.as_os_str().as_encoded_bytes());
        memo.part("stat", stat.as_str());
        let memo = self.path("sources").join(format!(".directory-{}.json", memo.finish().short()));
        let sha256 = match read_json::<Hash>(&memo) {
            Some(hash) => hash,
            None => {
                let hash = hash_tree(&path, TreeDepth::Content, skip).map_err(io_error("read", &path))?;
                write_json(&memo, &hash)?;
                hash
            }
        };
        let key = SourceKey(format!("dir-{}", sha256.short()));
        let origin = Origin::Directory { path: path.clone(), sha256 };
        self.ensure(key, origin, events, |temp| Ok(unpack::copy(&path, temp)?))
    }

    /// The tree of `key`, made by `unpack` (which gets a temporary folder and says where the tree in it is) if
    /// the store does not have it.
    fn ensure(
        &self,
        key: SourceKey,
        origin: Origin,
        events: Events<'_>,
        unpack: impl FnOnce(&Path) -> Result<PathBuf, SourceError>,
    ) -> Result<Source, SourceError> {
        let _lock = self.lock(&format!("source-{key}"), events)?;
        if let Some(source) = self.stored(&key) {
            return Ok(source);
        }
        let folder = self.source_folder(&key);
        super::store::remove_tree(&folder)?;
        events(BuildEvent::Unpacking { source: key.to_string() });
        let temp = self.temp("sources", key.as_str())?;
        let unpacked = unpack(temp.path())?;
        let tree = temp.path().join("tree");
        std::fs::rename(&unpacked, &tree).map_err(io_error("rename", &unpacked))?;
        let version = unpack::kernel_version(&tree)?;
        let stat = hash_tree(&tree, TreeDepth::Stat, |_| false).map_err(io_error("read", &tree))?;
        let manifest = Manifest { schema: SCHEMA, key: key.clone(), version: version.clone(), origin, stat };
        write_json(&temp.path().join("manifest.json"), &manifest)?;
        let temp = temp.keep();
        std::fs::rename(&temp, &folder).map_err(io_error("rename", &temp))?;
        Ok(Source { key, tree: folder.join("tree"), version, origin: manifest.origin })
    }

    fn stored(&self, key: &SourceKey) -> Option<Source> {
        let folder = self.source_folder(key);
        let manifest: Manifest = read_json(&folder.join("manifest.json"))?;
        let tree = folder.join("tree");
        let usable = manifest.schema == SCHEMA && manifest.key == *key && tree.join("Makefile").is_file();
        usable.then_some(Source {
            key: manifest.key,
            tree,
            version: manifest.version,
            origin: manifest.origin,
        })
    }

    fn releases_of(&self, line: &KernelLine) -> Vec<Source> {
        let entries = std::fs::read_dir(self.path("sources")).into_iter().flatten().flatten();
        let stored = entries.filter_map(|entry| {
            let key = SourceKey(entry.file_name().into_string().ok()?);
            key.0.starts_with("debian-").then(|| self.stored(&key))?
        });
        let package = line.package();
        let mut sources: Vec<Source> = stored
            .filter(|source| matches!(&source.origin, Origin::Debian { package: of, .. } if *of == package))
            .collect();
        sources.sort_by(|a, b| debian_version(b).cmp(&debian_version(a)));
        sources
    }

    fn packages_of(&self, line: &KernelLine) -> Vec<DebianRelease> {
        let entries = std::fs::read_dir(self.path("debs")).into_iter().flatten().flatten();
        let mut releases: Vec<DebianRelease> = entries
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "json"))
            .filter_map(|entry| match read_json(&entry.path())? {
                Origin::Debian { package, version, sha256, size } if package == line.package() => {
                    Some(DebianRelease { package, version, sha256, size })
                }
                _ => None,
            })
            .collect();
        releases.sort_by(|a, b| b.version.cmp(&a.version));
        releases
    }

    fn source_folder(&self, key: &SourceKey) -> PathBuf {
        self.path("sources").join(key.as_str())
    }

    fn deb(&self, release: &DebianRelease) -> PathBuf {
        self.path("debs").join(format!("{}_{}.deb", release.package, release.version))
    }

    fn deb_manifest(&self, release: &DebianRelease) -> PathBuf {
        self.path("debs").join(format!("{}_{}.json", release.package, release.version))
    }
}

fn origin(release: &DebianRelease) -> Origin {
    let DebianRelease { package, version, sha256, size } = release.clone();
    Origin::Debian { package, version, sha256, size }
}

fn debian_version(source: &Source) -> Option<&DebianVersion> {
    match &source.origin {
        Origin::Debian { version, .. } => Some(version),
        _ => None,
    }
}

/// git on a repository, whatever our caller's environment says.
pub(super) fn git(repository: &Path) -> ChildSpec {
    // A caller's GIT_DIR (a hook, a rebase --exec) would win over -C.
    let git =
        ChildSpec::new("git").env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE");
    git.arg("-C").arg(repository)
}
