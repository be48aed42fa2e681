// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of the program share.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

/// Held by each test: one guest at a time.
static MACHINE: Mutex<()> = Mutex::new(());

pub fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub fn nstrail(out: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nstrail"))
        .args(args)
        .env("NSTRAIL_OUT", out)
        .env("NSTRAIL_SNAPSHOTS", "deny")
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and demands an exit code; the whole output is in the message if it is another one.
pub fn expect(code: i32, out: &Path, args: &[&str]) -> Output {
    let output = nstrail(out, args);
    assert_eq!(
        output.status.code(),
        Some(code),
        "nstrail {args:?}\n--- stdout\n{}\n--- stderr\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

pub fn summary(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("latest/summary.json")).unwrap()).unwrap()
}

/// Our series for 6.12 with one more patch on top, which puts `lines` behind the first line of kernel/audit.c that is
/// `anchor`, and claims that this stands `shift` lines further down than it does.
pub fn series_and(out: &Path, anchor: &str, lines: &[&str], shift: usize) -> tempfile::TempDir {
    let tree = text(&expect(0, out, &["apply"]).stdout);
    let audit = fs::read_to_string(format!("{}/kernel/audit.c", tree.lines().last().unwrap())).unwrap();
    let audit: Vec<&str> = audit.lines().collect();
    let at = audit.iter().position(|line| *line == anchor).unwrap();
    let series = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root().join("patches/auditnsid/6.12")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), series.path().join(entry.file_name())).unwrap();
    }
    let added: String = lines.iter().map(|line| format!("+{line}\n")).collect();
    let patch = format!(
        "From: A <a@localhost>\nSubject: [PATCH 10/10] audit: plant a fault\n\nWhy not.\n---\n\
         --- a/kernel/audit.c\n+++ b/kernel/audit.c\n@@ -{from},3 +{from},{to} @@\n {}\n {anchor}\n{added} {}\n",
        audit[at - 1],
        audit[at + 1],
        from = at + shift,
        to = 3 + lines.len(),
    );
    let name = "0010-audit-plant-a-fault.patch";
    fs::write(series.path().join(name), patch).unwrap();
    let list = series.path().join("series.toml");
    let listed = fs::read_to_string(&list).unwrap();
    fs::write(list, listed.replace("\n]\n", &format!("\n    \"{name}\",\n]\n"))).unwrap();
    series
}

/// A tree with kbuild's entry points and two objects to compile.
pub fn fake_kernel(tree: &Path) {
    let merge = "#!/bin/sh\nshift 3\nbase=$1\nshift\ncat \"$@\" >> \"$base\"\n";
    for (path, content) in [
        ("Makefile", include_str!("fake_kernel.mk")),
        ("Kconfig", "config BASE\n\tbool \"base\"\n"),
        ("scripts/kconfig/merge_config.sh", merge),
        ("include/common.h", "#define COMMON 1\n"),
        ("kernel/a.c", "#include \"common.h\"\nint f(void)\n{\n\treturn COMMON;\n}\n"),
        ("kernel/b.c", "#include \"common.h\"\nint g(void)\n{\n\treturn 2;\n}\n"),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}
