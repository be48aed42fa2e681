// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything but installing packages works without root: each stage, as an ordinary user, on a cache of its own.
//!
//! Whoever runs the tests as root has them run as `nobody` here, with the program, the checkout and one kernel image
//! copied to where that user can read them; anybody else is an ordinary user.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, lchown, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use common::{expect, machine, root, text};
use nstrail::{kernel::Series, vm::agent};
use serde_json::Value;

/// The kernel's overflow uid and gid, which no file of anybody has.
const NOBODY: u32 = 65534;

struct User {
    folder: tempfile::TempDir,
    is_root: bool,
    path: String,
}

impl User {
    fn new() -> Self {
        // SAFETY: it only answers with a number.
        let is_root = unsafe { libc::geteuid() } == 0;
        let folder = tempfile::Builder::new().prefix("nstrail-user-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let user = Self { folder, is_root, path: "/usr/bin:/bin".to_owned() };
        for name in ["home", "cache", "out", "tmp"] {
            fs::create_dir(user.path(name)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_nstrail"), user.path("nstrail")).unwrap();
        // As an installed one has it: no cargo is needed.
        fs::write(user.path("nstrail-agent"), agent::load(&root()).unwrap()).unwrap();
        for name in ["patches", "kernel-configs", "snapshots"] {
            copy(&root().join(name), &user.path("project").join(name));
        }
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives everything to the user.
    fn own(&self) {
        if self.is_root {
            give(self.folder.path());
        }
    }

    fn nstrail(&self, args: &[&str]) -> Output {
        let mut command = match self.is_root {
            true => {
                let mut command = Command::new("setpriv");
                let id = |name: &str| format!("--{name}={NOBODY}");
                command.args([
                    id("reuid"),
                    id("regid"),
                    "--clear-groups".into(),
                    "--bounding-set=-all".into(),
                ]);
                command.args(["--inh-caps=-all", "--no-new-privs", "--"]).arg(self.path("nstrail"));
                command
            }
            false => Command::new(self.path("nstrail")),
        };
        command
            .args(args)
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("NSTRAIL_CACHE", self.path("cache"))
            .env("NSTRAIL_ROOT", self.path("project"))
            .env("NSTRAIL_OUT", self.path("out"))
            .env("NSTRAIL_SNAPSHOTS", "deny")
            .current_dir(self.path("home"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn expect(&self, code: i32, args: &[&str]) -> Output {
        let output = self.nstrail(args);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "nstrail {args:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        );
        output
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            let _ = fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn give(path: &Path) {
    lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

/// A kernel that is built in a blink, as the tests of the kernel stage have it.
const MAKEFILE: &str = "VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 7
EXTRAVERSION =
tinyconfig:
\t@mkdir -p $(O)
\t@echo '# CONFIG_TINY is not set' > $(O)/.config
olddefconfig:
\t@true
vmlinux: kernel/a.c
\t@echo '  CC      kernel/a.o'
\t@$(CC) -c -ffreestanding -o $(O)/a.o kernel/a.c
\t@ld -e f -o $(O)/vmlinux $(O)/a.o
\t@nm $(O)/vmlinux > $(O)/System.map
\t@mkdir -p $(O)/include/config
\t@echo 6.12.7 > $(O)/include/config/kernel.release
";

fn small_kernel(tree: &Path) {
    for (path, content) in [
        ("Makefile", MAKEFILE),
        ("Kconfig", "config A\n\tbool \"a\"\n"),
        ("scripts/kconfig/merge_config.sh", "shift 3\nbase=$1\nshift\ncat \"$@\" >> \"$base\"\n"),
        ("kernel/a.c", "int f(void)\n{\n\treturn 1;\n}\n"),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

const MAIL: &str = "From: A <a@localhost>\nSubject: [PATCH] a: two\n\nWhy not.\n---\n\
    --- a/kernel/a.c\n+++ b/kernel/a.c\n@@ -1,4 +1,4 @@\n int f(void)\n {\n-\treturn 1;\n+\treturn 2;\n }\n";

#[test]
fn series_are_read_applied_and_built_without_root() {
    let user = User::new();
    small_kernel(&user.path("linux"));
    fs::write(user.path("x.mbox"), MAIL).unwrap();
    user.own();
    let doctor = text(&user.expect(0, &["doctor"]).stdout);
    assert!(doctor.contains("sandbox              bubblewrap"), "{doctor}");
    let shown = text(&user.expect(0, &["series", "show", "6.12"]).stdout);
    assert!(shown.contains("auditnsid: audit: follow namespace sets"), "{shown}");
    let (source, series) =
        (user.path("linux").display().to_string(), user.path("x.mbox").display().to_string());
    let kernel = ["--source", &source, "--series", &series];
    let applied = text(&user.expect(0, &[&["apply"], &kernel[..]].concat()).stdout);
    let tree = PathBuf::from(applied.lines().last().unwrap());
    assert!(fs::read_to_string(tree.join("kernel/a.c")).unwrap().contains("return 2;"));
    let built = user.expect(0, &[&["build", "--sandbox", "on"], &kernel[..]].concat());
    assert!(text(&built.stderr).contains("runs in a sandbox"), "{}", text(&built.stderr));
    let image = PathBuf::from(text(&built.stdout).trim());
    assert!(fs::read(&image).unwrap().starts_with(b"\x7fELF"));
    let again = user.expect(0, &[&["build"], &kernel[..]].concat());
    assert!(text(&again.stderr).contains("nothing to compile"), "{}", text(&again.stderr));
    // The user's own tree is as it was.
    assert!(fs::read_to_string(user.path("linux/kernel/a.c")).unwrap().contains("return 1;"));
}

#[test]
fn where_no_sandbox_works_it_is_said_and_one_that_is_demanded_stops() {
    let mut user = User::new();
    small_kernel(&user.path("linux"));
    fs::create_dir(user.path("bin")).unwrap();
    for entry in fs::read_dir("/usr/bin").unwrap() {
        let entry = entry.unwrap();
        if !["bwrap", "unshare"].contains(&entry.file_name().to_str().unwrap()) {
            symlink(entry.path(), user.path("bin").join(entry.file_name())).unwrap();
        }
    }
    fs::write(user.path("x.mbox"), MAIL).unwrap();
    user.own();
    user.path = user.path("bin").display().to_string();
    let (source, series) =
        (user.path("linux").display().to_string(), user.path("x.mbox").display().to_string());
    let build = |how: &[&'static str], code| {
        let args = ["--quiet", "build", "--source", &source, "--series", &series];
        text(&user.expect(code, &[&args[..], how].concat()).stderr)
    };
    let said = build(&["--sandbox", "on"], 70);
    assert!(
        said.contains("no sandbox works here: bubblewrap: ") && said.contains("bubblewrap, and allow"),
        "{said}"
    );
    let said = build(&[], 0);
    assert!(
        said.contains("warning: what runs of the tree can do all that you can: no sandbox works"),
        "{said}"
    );
    // Who says that it is not wanted is not told.
    fs::remove_dir_all(user.path("cache/images")).unwrap();
    assert_eq!(build(&["--no-sandbox"], 0), "");
}

#[test]
fn guests_are_booted_run_and_checked_without_root() {
    let _machine = machine();
    let user = User::new();
    let out = tempfile::tempdir().unwrap();
    let image = PathBuf::from(text(&expect(0, out.path(), &["build"]).stdout).trim());
    let image = image.parent().unwrap();
    let key = image.file_name().unwrap();
    let manifest: Value = serde_json::from_slice(&fs::read(image.join("manifest.json")).unwrap()).unwrap();
    // The image, and what of the source its key is made of, are what a build of this user's own would leave.
    let cache = image.parent().unwrap().parent().unwrap();
    copy(image, &user.path("cache/images").join(key));
    let source = Path::new("sources").join(manifest["source"].as_str().unwrap());
    let mut files = vec![PathBuf::from("manifest.json"), PathBuf::from("tree/Makefile")];
    for patch in Series::read(&root().join("patches/auditnsid/6.12")).unwrap().patches {
        files.extend(
            patch.files.iter().filter_map(|file| file.old.as_ref()).map(|old| Path::new("tree").join(old)),
        );
    }
    for file in files {
        let (from, to) = (cache.join(&source).join(&file), user.path("cache").join(&source).join(&file));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // A file of an earlier patch is not in the source.
        if from.exists() {
            fs::copy(from, to).unwrap();
        }
    }
    user.own();

    let booted = user.expect(0, &["boot", "--accel", "tcg"]);
    assert!(text(&booted.stdout).starts_with("6.12."), "{}", text(&booted.stdout));
    let ran = user.expect(0, &["run", "--accel", "tcg", "smoke"]);
    assert!(text(&ran.stdout).contains("nothing compiled"), "{}", text(&ran.stdout));
    let folder = user.path("out/latest/6.12/smoke");
    // The guest has written through virtiofs, and what it wrote is the user's.
    let log = fs::read_to_string(folder.join("share/artifacts/dmesg.txt")).unwrap();
    assert!(log.contains("Linux version 6.12."), "{log}");
    let checked = user.expect(0, &["check", folder.to_str().unwrap(), "--canonical"]);
    assert_eq!(text(&checked.stdout), fs::read_to_string(folder.join("canonical.txt")).unwrap());
}
