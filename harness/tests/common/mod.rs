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
