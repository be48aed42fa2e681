// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Debian store against an archive of two small packages, served by scripts in the place of apt.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::*;
use super::{Seen, fake_kernel};
use crate::process::ChildSpec;

struct Archive {
    dir: tempfile::TempDir,
    store: Store,
}

/// `indextargets`, `update` and `download PACKAGE=VERSION`. While `broken` holds a number, so many downloads
/// are cut in half.
const APT_GET: &str = r#"#!/bin/sh
cd_to=$PWD
for last; do :; done
case "$*" in
indextargets*)
    echo "file:/archive bookworm Debian"
    echo "file:/security bookworm-security Debian" ;;
*update)
    echo update >> ROOT/calls ;;
*download*)
    echo "download $last" >> ROOT/calls
    version=${last#*=}
    sleep 0.1
    left=$(cat ROOT/broken)
    if [ "$left" -gt 0 ]; then
        echo $((left - 1)) > ROOT/broken
        head -c 300 "ROOT/pool/$version.deb" > "linux-source_${version}_all.deb"
    else
        cp "ROOT/pool/$version.deb" "linux-source_${version}_all.deb"
    fi ;;
*)
    exit 99 ;;
esac
"#;

impl Archive {
    fn new() -> Archive {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("pool")).unwrap();
        let mut index = String::new();
        for version in ["6.12.7-1~deb12u1", "6.12.7-1"] {
            let deb = package(root, version);
            let (size, hash) = (deb.metadata().unwrap().len(), Hash::of_file(&deb).unwrap());
            index +=
                &format!("Package: linux-source-6.12\nVersion: {version}\nSize: {size}\nSHA256: {hash}\n\n");
        }
        std::fs::write(root.join("index"), index).unwrap();
        for (name, text) in [("broken", "0"), ("calls", ""), ("keyring", "")] {
            std::fs::write(root.join(name), text).unwrap();
        }
        let apt = AptTools {
            apt_get: script(root, "apt-get", APT_GET),
            apt_cache: script(root, "apt-cache", "#!/bin/sh\ncat ROOT/index\n"),
            dpkg_deb: "dpkg-deb".into(),
            keyring: root.join("keyring"),
        };
        let store = Store::with_apt(&root.join("cache"), apt).unwrap();
        Archive { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn try_fetch(&self, version: &str, refresh: bool) -> (Result<Source, SourceError>, Seen) {
        let mut seen = Seen::default();
        let spec = SourceSpec::Debian(version.to_owned());
        let result = self.store.source(&spec, refresh, &mut |event| seen.0.push(event));
        (result, seen)
    }

    fn fetch(&self, version: &str) -> (Source, Seen) {
        let (result, seen) = self.try_fetch(version, false);
        (result.unwrap_or_else(|error| panic!("{error}")), seen)
    }

    /// Calls of apt-get that went to the archive since the last look.
    fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.path("calls")).unwrap();
        std::fs::write(self.path("calls"), "").unwrap();
        calls.lines().map(str::to_owned).collect()
    }

    fn break_downloads(&self, count: u32) {
        std::fs::write(self.path("broken"), count.to_string()).unwrap();
    }

    fn deb(&self) -> PathBuf {
        self.store.root().join("debs/linux-source-6.12_6.12.7-1.deb")
    }
}

fn script(root: &Path, name: &str, text: &str) -> PathBuf {
    let path = root.join(name);
    std::fs::write(&path, text.replace("ROOT", &root.display().to_string())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn package(root: &Path, version: &str) -> PathBuf {
    let work = root.join("work");
    let _ = std::fs::remove_dir_all(&work);
    fake_kernel(&work.join("linux-source-6.12"));
    std::fs::write(work.join("linux-source-6.12/RELEASE"), version).unwrap();
    std::fs::create_dir_all(work.join("deb/usr/src")).unwrap();
    std::fs::create_dir_all(work.join("deb/DEBIAN")).unwrap();
    let control = format!(
        "Package: linux-source-6.12\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\n"
    );
    std::fs::write(work.join("deb/DEBIAN/control"), control).unwrap();
    let run = |spec: ChildSpec| spec.dir(&work).run().unwrap();
    run(ChildSpec::new("tar").args(["-cJf", "deb/usr/src/linux-source-6.12.tar.xz", "linux-source-6.12"]));
    let deb = root.join(format!("pool/{version}.deb"));
    run(ChildSpec::new("dpkg-deb").args(["--build", "--root-owner-group", "deb"]).arg(&deb));
    deb
}

fn release(source: &Source) -> String {
    std::fs::read_to_string(source.tree.join("RELEASE")).unwrap()
}

#[test]
fn a_line_is_its_newest_release_and_then_needs_no_network() {
    let archive = Archive::new();
    let (source, _) = archive.fetch("6.12");
    assert_eq!((release(&source).as_str(), source.version.as_str()), ("6.12.7-1", "6.12.7"));
    assert_eq!(archive.calls(), ["update", "download linux-source-6.12=6.12.7-1"]);
    let (again, seen) = archive.fetch("6.12");
    assert_eq!((again, seen.0), (source.clone(), vec![]));
    assert_eq!(archive.calls(), Vec::<String>::new());
    // A refresh asks the archive, and finds that nothing is newer.
    assert_eq!(archive.try_fetch("6.12", true).0.unwrap(), source);
    assert_eq!(archive.calls(), ["update"]);
    let row = archive.store.kernels().into_iter().find(|row| row.line.version == "6.12").unwrap();
    assert_eq!(row.fetched, [source]);
}

#[test]
fn an_exact_release_can_be_asked_for() {
    let archive = Archive::new();
    let (source, _) = archive.fetch("6.12.7-1~deb12u1");
    assert_eq!(release(&source), "6.12.7-1~deb12u1");
    let error = archive.try_fetch("6.12.9-1", false).0.unwrap_err().to_string();
    assert!(error.contains("(hint: it has 6.12.7-1, 6.12.7-1~deb12u1)"), "{error}");
    let error = archive.try_fetch("4.19", false).0.unwrap_err().to_string();
    assert!(error.contains("known are 5.10, 6.1, 6.12"), "{error}");
}

#[test]
fn a_broken_download_is_fetched_again() {
    let archive = Archive::new();
    archive.break_downloads(1);
    let (source, seen) = archive.fetch("6.12");
    assert_eq!((release(&source).as_str(), seen.damaged()), ("6.12.7-1", 1));
    assert_eq!(archive.calls().len(), 3);
}

#[test]
fn a_download_that_stays_broken_is_an_error_and_leaves_nothing() {
    let archive = Archive::new();
    archive.break_downloads(2);
    let error = archive.try_fetch("6.12", false).0.unwrap_err();
    assert!(matches!(error, SourceError::Apt(AptError::Broken { .. })), "{error}");
    assert!(!archive.deb().exists());
    assert_eq!(std::fs::read_dir(archive.store.root().join("debs")).unwrap().count(), 0);
    archive.fetch("6.12");
}

#[test]
fn a_tree_that_is_gone_comes_from_the_package_without_network() {
    let archive = Archive::new();
    let (source, _) = archive.fetch("6.12");
    archive.calls();
    std::fs::remove_dir_all(&source.tree).unwrap();
    assert_eq!(archive.fetch("6.12").0, source);
    assert_eq!(archive.calls(), Vec::<String>::new());
}

#[test]
fn a_package_that_was_damaged_is_fetched_again() {
    let archive = Archive::new();
    let (source, _) = archive.fetch("6.12");
    let whole = std::fs::read(archive.deb()).unwrap();
    std::fs::write(archive.deb(), &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_dir_all(&source.tree).unwrap();
    archive.calls();
    let (again, seen) = archive.fetch("6.12");
    assert_eq!((again, seen.damaged()), (source, 1));
    assert_eq!(archive.calls(), ["update", "download linux-source-6.12=6.12.7-1"]);
    assert_eq!(std::fs::read(archive.deb()).unwrap(), whole);
}

#[test]
fn two_that_fetch_at_once_download_once() {
    let archive = Archive::new();
    let sources = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| archive.fetch("6.12").0)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(sources.iter().all(|source| *source == sources[0] && release(source) == "6.12.7-1"));
    assert_eq!(archive.calls(), ["update", "download linux-source-6.12=6.12.7-1"]);
}

#[test]
fn a_host_without_apt_is_told_the_alternative() {
    let dir = tempfile::tempdir().unwrap();
    let apt = AptTools {
        apt_get: "/nonexistent/apt-get".into(),
        keyring: dir.path().to_owned(),
        ..AptTools::default()
    };
    let store = Store::with_apt(&dir.path().join("cache"), apt).unwrap();
    let error = store.source(&SourceSpec::Debian("6.12".into()), false, &mut |_| ()).unwrap_err().to_string();
    assert!(error.starts_with("cannot take linux 6.12 from Debian: apt is not there (hint: "), "{error}");
    assert!(error.contains("tarball"), "{error}");
}
