// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo insta` finds, accepts, rejects and reviews what a run leaves pending.
//!
//! A throw-away package outside of the checkout gets the layout of this one (snapshots in the package's root) and a
//! pending file written by the same code as a run's; then the real program works on it.
#![expect(clippy::unwrap_used, reason = "a test's set-up may panic as the test itself may")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nstrail::snapshot::{Canonical, Comparison, Mode, Shelf};

/// Where set-up installs it (`.ci/setup --dev`), or anywhere in `PATH`.
fn program() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("NSTRAIL_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("nstrail")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/nstrail")));
    let installed = cache.map(|cache| cache.join("tools/bin/cargo-insta"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join("cargo-insta"));
    installed
        .into_iter()
        .chain(found)
        .find(|program| program.is_file())
        .expect("cargo-insta is not installed (hint: make setup-dev)")
}

/// The throw-away package.
struct Package {
    folder: tempfile::TempDir,
}

impl Package {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manifest = "[package]\nname = \"nstrail-snapshots\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
        fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/lib.rs"), "").unwrap();
        // As in the checkout, where pending files must not be hidden by it.
        let ignore = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.gitignore");
        fs::copy(ignore, folder.path().join(".gitignore")).unwrap();
        Self { folder }
    }

    fn shelf(&self) -> Shelf {
        Shelf::new(self.folder.path())
    }

    /// Leaves `text` pending for a scenario whose reviewed form is the one of this package.
    fn pending(&self, scenario: &str, text: &str) -> Comparison {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{scenario}.snap"));
        fs::copy(own, self.snap(scenario)).unwrap();
        self.shelf().compare(scenario, "6.12", &form(text), Mode::Auto).unwrap()
    }

    fn snap(&self, scenario: &str) -> PathBuf {
        self.folder.path().join(format!("{scenario}.snap"))
    }

    fn text(&self, scenario: &str) -> String {
        fs::read_to_string(self.snap(scenario)).unwrap()
    }

    fn is_pending(&self, scenario: &str) -> bool {
        self.folder.path().join(format!("{scenario}.snap.new")).exists()
    }

    fn matches(&self, scenario: &str, text: &str) -> bool {
        let compared = self.shelf().compare(scenario, "6.12", &form(text), Mode::Deny).unwrap();
        matches!(compared, Comparison::Match { .. })
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env("CARGO_NET_OFFLINE", "true").env("TERM", "dumb");
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("INSTA_") {
                command.env_remove(name);
            }
        }
        command
    }

    fn insta(&self, args: &[&str]) -> Output {
        let output = self.command(program()).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "cargo-insta {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

fn form(text: &str) -> Canonical {
    Canonical::from(text.to_owned())
}

const CHANGED: &str = "lineage of smoke (form 1)\n\n#1 boot: uts:n1\n  fork\n";

#[test]
fn a_pending_snapshot_is_found() {
    let package = Package::new();
    assert!(matches!(package.pending("smoke", CHANGED), Comparison::Changed { .. }));
    let listed = package.insta(&["pending-snapshots"]).stdout;
    assert!(String::from_utf8(listed).unwrap().contains("smoke.snap"));
}

#[test]
fn an_accepted_one_is_the_reviewed_one() {
    let package = Package::new();
    package.pending("smoke", CHANGED);
    let before = package.text("smoke");
    package.insta(&["accept"]);
    assert_ne!(package.text("smoke"), before);
    assert!(package.text("smoke").ends_with(&format!("---\n{CHANGED}")));
    assert!(!package.is_pending("smoke") && package.matches("smoke", CHANGED));
}

#[test]
fn a_rejected_one_is_gone_and_the_reviewed_one_stays() {
    let package = Package::new();
    package.pending("smoke", CHANGED);
    let before = package.text("smoke");
    package.insta(&["reject"]);
    assert_eq!(package.text("smoke"), before);
    assert!(!package.is_pending("smoke"));
}

#[test]
fn a_first_one_is_accepted_too_and_a_kernel_line_has_its_own() {
    let package = Package::new();
    for scenario in ["new", "smoke@7.3"] {
        let compared = package.shelf().compare(scenario, "6.12", &form(CHANGED), Mode::Auto).unwrap();
        assert!(matches!(compared, Comparison::Missing { pending: Some(_), .. }));
    }
    package.insta(&["accept"]);
    assert!(package.matches("new", CHANGED));
    let own = package.shelf().compare("smoke", "7.3", &form(CHANGED), Mode::Deny).unwrap();
    assert_eq!(own, Comparison::Match { file: package.snap("smoke@7.3") });
}

#[test]
fn the_dialogue_of_review_accepts_what_a_human_accepts() {
    let package = Package::new();
    package.pending("smoke", CHANGED);
    let before = package.text("smoke");
    // The dialogue reads keys from a terminal; script(1), which every Debian has, gives it one.
    let review = format!("'{}' review", program().display());
    let mut dialogue = package
        .command("script")
        .args(["--quiet", "--return", "--command", &review, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(dialogue.stdin.as_mut().unwrap(), b"a").unwrap();
    let output = dialogue.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("smoke.snap"), "{shown}");
    assert_ne!(package.text("smoke"), before, "{shown}");
    assert!(package.matches("smoke", CHANGED));
}

#[test]
fn what_a_run_writes_is_what_insta_writes() {
    let package = Package::new();
    package.shelf().compare("new", "6.12", &form(CHANGED), Mode::Auto).unwrap();
    let pending = package.folder.path().join("new.snap.new");
    let ours = fs::read_to_string(&pending).unwrap();
    // Accepting reads the file and writes it again, by insta's own code.
    package.insta(&["accept"]);
    assert_eq!(package.text("new"), ours);
    package.shelf().compare("new", "6.12", &form("other\n"), Mode::Auto).unwrap();
    package.shelf().accept("new").unwrap();
    assert!(package.matches("new", "other\n"));
}
