// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's kernel sources, by an apt root of our own.
//!
//! The root has its own sources.list and indices, and never touches the system's. Its sites are those
//! that the host's apt is set to (a mirror, a proxy, a local cache stay in use), its suites are those
//! of versions.toml, and it is signed by Debian's archive keyring. apt checks the signature of the
//! index and the hash of the package; we check the hash again, against the index, so that a file
//! that was damaged later is found as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::Hash;
use super::event::{BuildEvent, Events};
use super::store::{StoreError, io_error, write_whole};
use super::versions::{DebianVersion, KernelLine};
use crate::process::{ChildSpec, ProcessError};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// No answer for this long ends apt.
const UPDATE_LIMIT: Duration = Duration::from_secs(600);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(3600);

/// The programs and the keyring in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AptTools {
    /// `apt-get`
    pub apt_get: PathBuf,
    /// `apt-cache`
    pub apt_cache: PathBuf,
    /// `dpkg-deb`
    pub dpkg_deb: PathBuf,
    /// Keys that the suites must be signed with.
    pub keyring: PathBuf,
}

impl Default for AptTools {
    fn default() -> Self {
        AptTools {
            apt_get: "apt-get".into(),
            apt_cache: "apt-cache".into(),
            dpkg_deb: "dpkg-deb".into(),
            keyring: KEYRING.into(),
        }
    }
}

/// Why Debian's source was not got.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// This host has no apt, or none of Debian's sites.
    #[error(
        "cannot take linux {version} from Debian: {reason} (hint: give a source with --source: a tarball, a directory, or GITDIR@REVISION)"
    )]
    NoDebian {
        /// The version that was asked for.
        version: String,
        /// What is missing.
        reason: String,
    },
    /// The line is not in versions.toml.
    #[error("unknown kernel version `{version}` (hint: known are {known}, and exact Debian versions of those)", known = known())]
    UnknownVersion {
        /// The version that was asked for.
        version: String,
    },
    /// The archive does not have that point release (any more).
    #[error("{package} {version} is not in Debian's archive (hint: it has {})", list(available))]
    NoSuchRelease {
        /// The package.
        package: String,
        /// The version that was asked for.
        version: String,
        /// What there is, newest first.
        available: Vec<DebianVersion>,
    },
    /// What came is not what the signed index promises, twice in a row.
    #[error(
        "the download of {package} {version} is broken: sha256 {got}, the signed index says {expected} (hint: try again later, or another mirror)"
    )]
    Broken {
        /// The package.
        package: String,
        /// Its version.
        version: DebianVersion,
        /// Hash in the index.
        expected: Hash,
        /// Hash of the file, or why there is none.
        got: String,
    },
    /// apt failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file of the cache.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn known() -> String {
    KernelLine::all().iter().map(|line| line.version.as_str()).collect::<Vec<_>>().join(", ")
}

fn list(versions: &[DebianVersion]) -> String {
    match versions {
        [] => "none of that line".into(),
        versions => versions.iter().map(|version| version.0.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// A source package as the signed index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianRelease {
    /// `linux-source-6.12`
    pub package: String,
    /// Exact version.
    pub version: DebianVersion,
    /// Of the package file.
    pub sha256: Hash,
    /// Of the package file, in bytes.
    pub size: u64,
}

/// The apt root of one kernel line.
#[derive(Debug)]
pub struct AptRoot<'a> {
    tools: &'a AptTools,
    line: &'static KernelLine,
    root: PathBuf,
    log: PathBuf,
}

impl<'a> AptRoot<'a> {
    /// Writes the root's sources.list. The caller holds the lock of `root`.
    ///
    /// # Errors
    /// [`AptError::NoDebian`] if the host cannot serve.
    pub fn create(
        tools: &'a AptTools,
        line: &'static KernelLine,
        root: PathBuf,
        log: PathBuf,
    ) -> Result<AptRoot<'a>, AptError> {
        let no_debian = |reason: String| AptError::NoDebian { version: line.version.clone(), reason };
        if !tools.keyring.exists() {
            return Err(no_debian(format!("{} is not there", tools.keyring.display())));
        }
        let format = "$(SITE) $(RELEASE) $(ORIGIN)";
        let targets = ChildSpec::new(&tools.apt_get).args(["indextargets", "--format", format]).read();
        let targets = match targets {
            Err(ProcessError::Start { .. }) => return Err(no_debian("apt is not there".into())),
            other => other?,
        };
        let sources = sources_list(line, &targets, &tools.keyring).map_err(no_debian)?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = root.join(folder);
            std::fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        }
        for (name, content) in [("sources.list", sources.as_str()), ("status", "")] {
            write_whole(&root.join(name), content.as_bytes())?;
        }
        Ok(AptRoot { tools, line, root, log })
    }

    fn apt(&self, program: &Path) -> ChildSpec {
        let path = |name: &str| self.root.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=-".into(),
            "Dir::Etc::Preferences=-".into(),
            "Dir::Etc::PreferencesParts=-".into(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".into(),
            "Acquire::Retries=3".into(),
            // Without it a suite that could not be reached is only a warning, and an old index stays.
            "APT::Update::Error-Mode=any".into(),
        ];
        let options = options.iter().flat_map(|option| ["-o", option]);
        ChildSpec::new(program).args(options).env("LC_ALL", "C.UTF-8").log(&self.log)
    }

    /// Brings the indices up to date.
    ///
    /// # Errors
    /// A suite cannot be reached, or its signature is wrong.
    pub fn update(&self, events: Events<'_>) -> Result<(), AptError> {
        events(BuildEvent::Indexing { suites: self.line.suites.clone() });
        self.apt(&self.tools.apt_get).args(["-q", "update"]).limit(UPDATE_LIMIT).run()?;
        Ok(())
    }

    /// The releases that the indices have, newest first.
    ///
    /// # Errors
    /// apt-cache fails.
    pub fn releases(&self) -> Result<Vec<DebianRelease>, AptError> {
        let package = self.line.package();
        let shown = self.apt(&self.tools.apt_cache).args(["show", &package]).read();
        match shown {
            Ok(text) => Ok(parse_releases(&package, &text)),
            // apt-cache knows no such package.
            Err(ProcessError::Failed { status, .. }) if status.code() == Some(100) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Downloads a release into `folder`, and checks what came.
    ///
    /// # Errors
    /// [`AptError::Broken`] after the second broken download.
    pub fn download(
        &self,
        release: &DebianRelease,
        folder: &Path,
        events: Events<'_>,
    ) -> Result<PathBuf, AptError> {
        let mut got = String::new();
        for _attempt in 0..2 {
            events(BuildEvent::Fetching {
                package: release.package.clone(),
                version: release.version.0.clone(),
                bytes: release.size,
            });
            let wanted = format!("{}={}", release.package, release.version);
            let run = self
                .apt(&self.tools.apt_get)
                .args(["-q", "download", &wanted])
                .dir(folder)
                .limit(DOWNLOAD_LIMIT)
                .run();
            match (downloaded(folder)?, run) {
                (Some(file), Ok(_)) => {
                    let hash = Hash::of_file(&file).map_err(io_error("read", &file))?;
                    if hash == release.sha256 {
                        return Ok(file);
                    }
                    got = hash.to_string();
                    events(BuildEvent::Damaged { path: file.clone(), reason: format!("sha256 is {hash}") });
                    std::fs::remove_file(&file).map_err(io_error("remove", &file))?;
                }
                (None, Ok(_)) => got = "of no file".into(),
                (_, Err(error)) => return Err(error.into()),
            }
        }
        Err(AptError::Broken {
            package: release.package.clone(),
            version: release.version.clone(),
            expected: release.sha256.clone(),
            got,
        })
    }
}

fn downloaded(folder: &Path) -> Result<Option<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(folder).map_err(io_error("read", folder))?;
    Ok(entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "deb")))
}

/// The sources.list for a line, from the host's index targets (`SITE RELEASE ORIGIN` each).
fn sources_list(line: &KernelLine, targets: &str, keyring: &Path) -> Result<String, String> {
    let mut sites: BTreeMap<bool, &str> = BTreeMap::new();
    for target in targets.lines() {
        let mut words = target.split_whitespace();
        let (Some(site), Some(release)) = (words.next(), words.next()) else { continue };
        // The origin stands there only once the host has run `apt-get update`. Without it any site may be
        // Debian's; one that is not fails on its signature.
        if words.next().is_some_and(|origin| origin != "Debian" && !origin.starts_with('$')) {
            continue;
        }
        sites.entry(release.ends_with("-security")).or_insert(site);
    }
    let mut text = String::new();
    for suite in &line.suites {
        let security = suite.ends_with("-security");
        let Some(site) = sites.get(&security) else {
            let kind = if security { "security " } else { "" };
            return Err(format!("the host's apt has no Debian {kind}site for {suite}"));
        };
        text += &format!("deb [signed-by={}] {site} {suite} main\n", keyring.display());
    }
    Ok(text)
}

/// The stanzas of `apt-cache show`, newest first, each version once.
fn parse_releases(package: &str, text: &str) -> Vec<DebianRelease> {
    let release = |stanza: &str| {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        if field("Package")? != package {
            return None;
        }
        Some(DebianRelease {
            package: package.to_owned(),
            version: DebianVersion(field("Version")?.to_owned()),
            sha256: Hash::parse(field("SHA256")?)?,
            size: field("Size")?.parse().ok()?,
        })
    };
    let mut releases: Vec<DebianRelease> = text.split("\n\n").filter_map(release).collect();
    releases.sort_by(|a, b| b.version.cmp(&a.version));
    releases.dedup_by(|a, b| a.version == b.version);
    releases
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
http://mirror.invalid/debian bookworm Debian
http://mirror.invalid/debian bookworm-updates Debian
http://security.invalid/debian-security bookworm-security Debian
https://third.invalid/node nodistro somebody
";

    #[test]
    fn suites_go_to_the_hosts_sites_of_their_kind() {
        let line = KernelLine::of("6.12").unwrap();
        let list = sources_list(line, TARGETS, Path::new("/k.gpg")).unwrap();
        assert_eq!(
            list,
            "deb [signed-by=/k.gpg] http://mirror.invalid/debian trixie main\n\
             deb [signed-by=/k.gpg] http://security.invalid/debian-security bookworm-security main\n"
        );
    }

    #[test]
    fn a_host_without_a_security_site_is_told_so() {
        let line = KernelLine::of("6.1").unwrap();
        let third_party_first =
            "https://third.invalid/x x-security Vendor\nhttp://m.invalid/debian trixie Debian\n";
        let reason = sources_list(line, third_party_first, Path::new("/k.gpg")).unwrap_err();
        assert_eq!(reason, "the host's apt has no Debian security site for bookworm-security");
    }

    #[test]
    fn releases_are_sorted_and_other_packages_left_out() {
        let stanza = |package: &str, version: &str| {
            let hash = Hash::of(version.as_bytes());
            format!(
                "Package: {package}\nVersion: {version}\nSize: 5\nSHA256: {hash}\nDescription: x\n more\n"
            )
        };
        let text = [
            stanza("linux-source-6.12", "6.12.107-1"),
            stanza("linux-source-6.12", "6.12.117-1~deb12u1"),
            stanza("linux-source-6.1", "6.1.1-1"),
            stanza("linux-source-6.12", "6.12.117-1"),
            stanza("linux-source-6.12", "6.12.107-1"),
        ]
        .join("\n");
        let releases = parse_releases("linux-source-6.12", &text);
        let versions: Vec<&str> = releases.iter().map(|release| release.version.0.as_str()).collect();
        assert_eq!(versions, ["6.12.117-1", "6.12.117-1~deb12u1", "6.12.107-1"]);
    }
}
