// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the program says of a series whose names, mails and files are made to be mistaken for something else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{nstrail, root, text};
use nstrail::report::escape::is_active;

/// A source, a cache and a place for series.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(bench.path("linux/kernel")).unwrap();
        let makefile = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION =\n";
        fs::write(bench.path("linux/Makefile"), makefile).unwrap();
        fs::write(bench.path("linux/kernel/a.c"), "1\n2\n3\n").unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, command: &[&str], series: &Path) -> Output {
        let (source, cache) = (self.path("linux"), self.path("cache"));
        let mut args = command.to_vec();
        args.extend([series.to_str().unwrap(), "--cache", cache.to_str().unwrap()]);
        if command[0] != "series" || command[1] == "diff" {
            args.extend(["--source", source.to_str().unwrap()]);
        }
        nstrail(&self.path("out"), &args)
    }
}

/// Neither stream has anything that a terminal, a CI runner or a reader of the last line takes for something else.
fn assert_inert(output: &Output) -> String {
    let mut said = String::new();
    for stream in [&output.stdout, &output.stderr] {
        let stream = text(stream);
        for line in stream.split('\n') {
            assert!(!line.contains(|c| is_active(c) && c != '\t'), "{line:?}");
            assert!(!line.trim_start().starts_with("::") && !line.contains("##["), "{line:?}");
            assert!(!line.starts_with("ok ") && !line.starts_with("not ok "), "{line:?}");
        }
        said.push_str(&stream);
    }
    assert_eq!(said.matches("exit code 0").count(), said.matches("forged: exit code 0").count(), "{said}");
    said
}

/// In a header, where RFC 2047 lets a mail say any byte.
fn encoded(words: &str) -> String {
    let bytes: String = words.bytes().map(|byte| format!("={byte:02X}")).collect();
    format!("=?utf-8?q?{bytes}?=")
}

const FORGED: &str =
    "x\nnstrail: passed (forged: exit code 0)\r\n::error ::x\nok 1 y\u{1b}[2J\u{9b}1A\u{202e}##[error]z";

fn mail(diff: &str) -> String {
    let forged = encoded(FORGED);
    format!(
        "From: {forged} <a@b>\nSubject: [PATCH 1/1] {forged}\nMessage-Id: <a\u{1b}[2J@b>\n\nwhy {FORGED}\n---\n{diff}"
    )
}

const DIFF: &str = "--- a/kernel/a.c\n+++ b/kernel/a.c\n@@ -1,3 +1,8 @@\n 1\n-2\n+a\n+b\n+::error ::\u{1b}[2J##[error]\u{202e}\n+d\n+e\n+f\n 3\n";

#[test]
fn a_mail_says_nothing_but_what_it_is() {
    let bench = Bench::new();
    let series = bench.path("x.mbox");
    fs::write(&series, mail(DIFF)).unwrap();
    for command in [&["series", "show"][..], &["apply", "--series"], &["run", "--dry-run", "--series"]] {
        let output = bench.run(command, &series);
        let said = assert_inert(&output);
        assert!(output.status.success() && (said.contains("\\x1b[2J") || command[0] != "series"), "{said}");
    }
    let other = bench.path("y.mbox");
    fs::write(&other, mail(DIFF).replace("+::error", "+::warning").replace("why", "reason")).unwrap();
    let output = bench.run(&["series", "diff", series.to_str().unwrap()], &other);
    let said = assert_inert(&output);
    assert!(output.status.success() && said.contains("::warning ::") && said.contains("\\x1b[2J"), "{said}");
}

#[test]
fn nor_does_one_that_is_refused_or_does_not_apply() {
    let bench = Bench::new();
    let series = bench.path("x.mbox");
    for (diff, code) in [
        ("--- /dev/null\n+++ b/../\u{1b}[2Jx\n@@ -0,0 +1 @@\n+x\n", 2),
        ("diff --git a/::error b/::error\nnew file mode 120000\n", 2),
        ("--- a/kernel/a.c\n+++ b/kernel/a.c\n@@ -1,3 +1,3 @@\n 1\n-::error \u{1b}[2J\n+x\n 3\n", 3),
    ] {
        fs::write(&series, mail(diff)).unwrap();
        let output = bench.run(&["apply", "--series"], &series);
        let said = assert_inert(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(!bench.path("cache/trees").exists(), "{said}");
    }
}

#[test]
fn nor_do_the_names_of_files() {
    let bench = Bench::new();
    let folder = bench.path("series\n::error ::\u{1b}[2J");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("0001-\u{1b}[2J\n::error ::x.patch");
    for (text, code) in
        [(DIFF, 0), (&DIFF.replace("-2", "-4"), 3), ("--- /dev/null\n+++ /x\n@@ -0,0 +1 @@\n+x\n", 2)]
    {
        fs::write(&file, text).unwrap();
        for command in [&["series", "show"][..], &["apply", "--series"]] {
            let output = bench.run(command, &folder);
            let said = assert_inert(&output);
            let expected = if command[0] == "series" && code == 3 { 0 } else { code };
            assert_eq!(output.status.code(), Some(expected), "{said}");
        }
    }
    // And two of them with one number.
    fs::write(folder.join("0001-\n::error ::y.patch"), DIFF).unwrap();
    assert_inert(&bench.run(&["series", "show"], &folder));
}

/// A build that never ends, with a child in a session of its own, which no signal to a group reaches.
const ENDLESS: &str = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION =\n\
    tinyconfig:\n\t@mkdir -p $(O)\n\t@echo > $(O)/.config\nolddefconfig:\n\t@true\n\
    vmlinux:\n\t@setsid sleep MARK & sleep MARK\n";

/// Processes that have a word in their command line.
fn marked(mark: &str) -> usize {
    let lines = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())).count()
}

#[test]
fn whatever_ends_us_ends_a_build_and_all_that_it_has_started() {
    for (number, signal) in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL].into_iter().enumerate() {
        let bench = Bench::new();
        let mark = format!("77{number}.{}", std::process::id());
        fs::write(bench.path("linux/Makefile"), ENDLESS.replace("MARK", &mark)).unwrap();
        let script = "shift 3\nbase=$1\nshift\ncat \"$@\" >> \"$base\"\n";
        fs::create_dir_all(bench.path("linux/scripts/kconfig")).unwrap();
        fs::write(bench.path("linux/scripts/kconfig/merge_config.sh"), script).unwrap();
        let mut ours = Command::new(env!("CARGO_BIN_EXE_nstrail"))
            .args(["build", "--unpatched", "--sandbox", "on", "--source"])
            .arg(bench.path("linux"))
            .arg("--cache")
            .arg(bench.path("cache"))
            .current_dir(root())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let wait = |count: usize| {
            while marked(&mark) != count && start.elapsed() < Duration::from_secs(30) {
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(marked(&mark), count, "signal {signal}");
        };
        wait(2);
        // SAFETY: a signal to our own child, which is not reaped yet.
        unsafe { libc::kill(i32::try_from(ours.id()).unwrap(), signal) };
        ours.wait().unwrap();
        wait(0);
    }
}
