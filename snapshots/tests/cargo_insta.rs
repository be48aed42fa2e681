// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo insta` finds, shows, accepts and rejects our pending snapshots: shown with the real program in a
//! throw-away package laid out as this one. `make setup-dev` installs the program into the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nstrail::snapshot::{Canonical, Mode, Shelf};

fn cargo_insta() -> PathBuf {
    let cache = std::env::var_os("NSTRAIL_CACHE").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME");
            let base = std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| Path::new(&home).join(".cache"), PathBuf::from);
            base.join("nstrail")
        },
        PathBuf::from,
    );
    let program = cache.join("tools/bin/cargo-insta");
    assert!(program.is_file(), "{} is missing (hint: make setup-dev installs it)", program.display());
    program
}

fn insta(package: &Path, action: &str) -> Output {
    let output = Command::new(cargo_insta())
        .args(["insta", action, "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("INSTA_UPDATE")
        .output()
        .unwrap();
    assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A package with a reviewed `smoke` of other content, and a pending one.
fn package() -> (tempfile::TempDir, Shelf, String, String) {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let manifest = "[package]\nname = \"throw-away\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    let reviewed = fs::read_to_string(ours.join("smoke.snap")).unwrap();
    fs::write(folder.path().join("smoke.snap"), &reviewed).unwrap();
    let shelf = Shelf::new(folder.path());
    let (_, text) = reviewed.strip_prefix("---\n").unwrap().split_once("---\n").unwrap();
    let changed = text.replacen("released by exit", "released by move", 1);
    assert_ne!(changed, text);
    shelf.compare("smoke", "6.12", &Canonical::from(changed.clone()), Mode::Auto).unwrap();
    (folder, shelf, reviewed, changed)
}

#[test]
fn cargo_insta_lists_and_accepts_what_is_pending() {
    let (folder, shelf, _, changed) = package();
    let listed = insta(folder.path(), "pending-snapshots");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("smoke.snap"), "{listed}");
    insta(folder.path(), "accept");
    assert_eq!(shelf.pending().unwrap(), [""; 0]);
    let accepted = fs::read_to_string(folder.path().join("smoke.snap")).unwrap();
    assert!(accepted.starts_with("---\nsource:") && accepted.contains(changed.trim()), "{accepted}");
    let compared = shelf.compare("smoke", "6.12", &Canonical::from(changed), Mode::Deny).unwrap();
    assert!(matches!(compared, nstrail::snapshot::Comparison::Match { .. }), "{compared:?}");
}

#[test]
fn cargo_insta_rejects_what_is_pending() {
    let (folder, shelf, reviewed, _) = package();
    insta(folder.path(), "reject");
    assert_eq!(shelf.pending().unwrap(), [""; 0]);
    assert_eq!(fs::read_to_string(folder.path().join("smoke.snap")).unwrap(), reviewed);
}
