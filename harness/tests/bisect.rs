// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bisections from the command line to the culprit, without real kernels: a tree that is built in a second, and a fake
//! QEMU (examples/fake_qemu.rs) that plays a recorded run, unless words in the kernel say that it fails or does not boot.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use common::{machine, root, text};
use nstrail::vm::agent;
use serde_json::Value;
use tempfile::TempDir;

/// What a patch of a series does.
#[derive(Clone, Copy)]
enum Plant {
    Nothing,
    /// A word in the kernel's data, which the fake QEMU looks for.
    Word(&'static str),
    /// A line that does not compile.
    Breaks,
    /// Takes away the line of that patch.
    Mends(usize),
}

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        // Compiled by the first who needs it.
        agent::load(&root()).unwrap();
        let bench = Self { folder: tempfile::Builder::new().prefix("bisect-").tempdir().unwrap() };
        common::fake_kernel(&bench.path("linux"));
        for name in ["a", "b"] {
            let path = bench.path(&format!("linux/kernel/{name}.c"));
            let slots: String = (1..=20).map(|slot| format!("/* Slot {slot}. */\n\n")).collect();
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text + &slots).unwrap();
        }
        let program = Path::new(env!("CARGO_BIN_EXE_nstrail")).with_file_name("examples").join("fake_qemu");
        symlink(program, bench.path("plays")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A series of so many patches, each with a line more in a slot of kernel/a.c or, in turn, kernel/b.c.
    fn series(&self, count: usize, plant: impl Fn(usize) -> Plant) -> String {
        let folder = self.path("series");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let mut files = ["a", "b"].map(|name| {
            let text = fs::read_to_string(self.path(&format!("linux/kernel/{name}.c"))).unwrap();
            (name, text.lines().map(str::to_owned).collect::<Vec<_>>())
        });
        for number in 1..=count {
            let plant = plant(number);
            let slot = match plant {
                Plant::Mends(broken) => broken,
                _ => number,
            };
            let (name, lines) = &mut files[slot % 2];
            let head = format!("/* Slot {slot}. */");
            let at = lines.iter().position(|line| *line == head).unwrap() + 1;
            let hunk = match plant {
                Plant::Mends(_) => format!("@@ -{at},3 +{at},2 @@\n {head}\n-{}\n \n", lines.remove(at)),
                _ => {
                    lines.insert(at, added(number, plant));
                    format!("@@ -{at},2 +{at},3 @@\n {head}\n+{}\n \n", lines[at])
                }
            };
            let diff = format!("--- a/kernel/{name}.c\n+++ b/kernel/{name}.c\n{hunk}");
            let mail = format!(
                "From: A <a@localhost>\nSubject: [PATCH {number}/{count}] fake: step {number}\n\nWhy not.\n---\n{diff}"
            );
            fs::write(folder.join(format!("{number:04}-fake-step-{number}.patch")), mail).unwrap();
        }
        folder.to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nstrail"));
        command
            .args(arguments)
            .env("NSTRAIL_ROOT", root())
            .env("NSTRAIL_CACHE", self.path("cache"))
            .env("NSTRAIL_OUT", self.path("out"))
            .env("NSTRAIL_ACCEL", "tcg")
            .env("NSTRAIL_QEMU", self.path("plays"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Bisects the series with the fake kernel; demands an exit code.
    fn bisect(&self, code: i32, arguments: &[&str]) -> Output {
        let source = self.name("linux");
        let arguments = [&["bisect", "--source", &source], arguments].concat();
        expect(code, self.command(&arguments))
    }

    fn result(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("out/latest/bisect.json")).unwrap()).unwrap()
    }
}

fn added(number: usize, plant: Plant) -> String {
    match plant {
        Plant::Word(word) => format!("const char planted_{number}[] = \"{word}\";"),
        Plant::Breaks => "#error planted".to_owned(),
        Plant::Nothing | Plant::Mends(_) => format!("/* Step {number}. */"),
    }
}

fn expect(code: i32, mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command:?}\n--- stdout\n{}\n--- stderr\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// Purpose, candidate and verdict of each step.
fn steps(result: &Value) -> Vec<(String, u64, String)> {
    let steps = result["steps"].as_array().unwrap();
    let word = |step: &Value, name: &str| step[name].as_str().unwrap().to_owned();
    let step =
        |step: &Value| (word(step, "purpose"), step["candidate"].as_u64().unwrap(), word(step, "verdict"));
    steps.iter().map(step).collect()
}

#[test]
fn the_first_bad_patch_is_found_taken_out_and_shown_again() {
    let _machine = machine();
    let bench = Bench::new();
    let series = bench.series(12, |number| if number == 7 { Plant::Word("FAILS") } else { Plant::Nothing });
    let output = bench.bisect(0, &["--series", &series, "--rate", "1"]);
    let result = bench.result();
    let told: Vec<_> = steps(&result);
    let told: Vec<(&str, u64, &str)> =
        told.iter().map(|(purpose, at, verdict)| (purpose.as_str(), *at, verdict.as_str())).collect();
    assert_eq!(
        told,
        [
            ("bad_end", 12, "bad"),
            ("good_end", 0, "good"),
            ("search", 6, "good"),
            ("search", 9, "bad"),
            ("search", 7, "bad"),
            ("verification", 7, "good"),
        ]
    );
    assert_eq!(result["end"]["candidate"], 7, "{result:#}");
    assert_eq!(result["verification"]["state"], "yes", "{result:#}");
    let shown = text(&output.stdout);
    assert!(shown.contains("first bad patch: 7 fake: step 7\n") && shown.contains("verified: "), "{shown}");
    let last = text(&output.stderr).lines().last().unwrap().to_owned();
    assert!(last.contains("without it the fault is gone (exit code 0)"), "{last}");
    for file in ["patch-7/run-0001/smoke/console.log", "patch-7/config", "without-patch-7/build.log"] {
        assert!(bench.path("out/latest").join(file).is_file(), "{file}");
    }

    let reported = text(&expect(0, bench.command(&["report", &bench.name("out/latest")])).stdout);
    assert_eq!(reported, shown);

    // The journal gives the same again, without a guest.
    let folder = fs::canonicalize(bench.path("out/latest")).unwrap();
    let journal = fs::read(folder.join("journal.jsonl")).unwrap();
    let again = bench.bisect(0, &["--series", &series, "--rate", "1", "--resume", folder.to_str().unwrap()]);
    let table = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(table(&text(&again.stdout)), table(&shown));
    assert_eq!(fs::read(folder.join("journal.jsonl")).unwrap(), journal);
    let other = ["--series", &series, "--rate", "1/2", "--resume", folder.to_str().unwrap()];
    let refused = text(&bench.bisect(2, &other).stderr);
    assert!(refused.contains("is of another bisection"), "{refused}");
}

#[test]
fn what_does_not_build_or_boot_is_skipped_and_never_called_bad() {
    let _machine = machine();
    let bench = Bench::new();
    let series = bench.series(12, |number| match number {
        5 => Plant::Breaks,
        7 => Plant::Mends(5),
        10 => Plant::Word("FAILS"),
        _ => Plant::Nothing,
    });
    let output = bench.bisect(0, &["--series", &series, "--rate", "1"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("first bad patch: 10 fake: step 10\n"), "{shown}");
    assert!(shown.contains("skipped") && shown.contains("does not build: the build failed at"), "{shown}");

    let series = bench.series(4, |number| match number {
        2 => Plant::Word("DOES_NOT_BOOT"),
        _ => Plant::Nothing,
    });
    let output = bench.bisect(10, &["--series", &series, "--rate", "1"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("does not boot: ") && shown.contains("panic"), "{shown}");
    let last = text(&output.stderr).lines().last().unwrap().to_owned();
    assert!(last.contains("the bad end cannot be tested") && last.contains("exit code 10"), "{last}");
}

#[test]
fn a_culprit_among_skipped_ones_is_one_of_several() {
    let _machine = machine();
    let bench = Bench::new();
    let series = bench.series(6, |number| match number {
        2 => Plant::Breaks,
        3 => Plant::Word("FAILS"),
        4 => Plant::Mends(2),
        _ => Plant::Nothing,
    });
    let output = bench.bisect(10, &["--series", &series, "--rate", "1"]);
    let result = bench.result();
    assert_eq!((&result["end"]["first"], &result["end"]["last"]), (&2.into(), &4.into()), "{result:#}");
    let shown = text(&output.stdout);
    assert!(
        shown.contains("the first bad patch is one of\n  2 fake: step 2 (skipped: does not build: "),
        "{shown}"
    );
}

#[test]
fn a_rare_fault_is_run_until_it_is_known_how_rare_and_found() {
    let _machine = machine();
    let bench = Bench::new();
    let series =
        bench.series(4, |number| if number == 3 { Plant::Word("FAILS_RARELY") } else { Plant::Nothing });
    let output = bench.bisect(0, &["--series", &series, "--confidence", "0.9"]);
    let result = bench.result();
    assert_eq!(result["end"]["candidate"], 3, "{result:#}");
    let certainty = &result["certainty"];
    assert!(certainty["reached"].as_f64().unwrap() >= 0.9, "{certainty:#}");
    assert_eq!(certainty["rate"]["rate"], "measured", "{certainty:#}");
    let rate = certainty["rate"]["value"].as_f64().unwrap();
    assert!((0.05..0.34).contains(&rate), "{certainty:#}");
    for step in result["steps"].as_array().unwrap() {
        if step["verdict"] == "good" {
            assert_eq!(step["runs"], step["needed"], "{step:#}");
            assert!(step["runs"].as_u64().unwrap() >= 6, "{step:#}");
        }
    }
    assert!(text(&output.stdout).contains("0.9 was asked for"), "{}", text(&output.stdout));

    // A cap is paid with confidence, and that is told.
    let capped = bench
        .bisect(10, &["--series", &series, "--rate", "1/3", "--max-runs", "2", "--bad", "3", "--good", "2"]);
    let last = text(&capped.stderr).lines().last().unwrap().to_owned();
    assert!(
        last.contains("not with a confidence of 0.99") || last.contains("the bad end is not bad"),
        "{last}"
    );
}

#[test]
fn ends_that_are_not_what_they_were_said_to_be_end_it() {
    let _machine = machine();
    let bench = Bench::new();
    let series = bench.series(6, |number| if number == 3 { Plant::Word("FAILS") } else { Plant::Nothing });
    for (ends, words) in [
        (["--good", "3", "--bad", "6"], "the good end is bad: the fault is older"),
        (["--good", "0", "--bad", "2"], "the bad end is not bad: there is no fault to search"),
    ] {
        let output = bench.bisect(10, &[&["--series", &series, "--rate", "1"], &ends[..]].concat());
        let last = text(&output.stderr).lines().last().unwrap().to_owned();
        assert!(last.contains(words) && last.contains("exit code 10"), "{last}");
    }
    // What fails, but not as it was expected to, is not followed.
    let output = bench.bisect(10, &["--series", &series, "--rate", "1", "--expect", "NS-G3-UNIQUE"]);
    assert!(text(&output.stdout).contains("fails otherwise: smoke: crashed"), "{}", text(&output.stdout));
    for (arguments, words) in [
        (&["--series", &series, "--expect", "NS-G3"][..], "is no invariant"),
        (&["--series", &series, "--good", "6"], "are no ends of a series of 6"),
        (&["--series", &series, "--rate", "2"], "is no rate"),
        (&["--range", "a...b"], "is not GOOD..BAD"),
        (&[], "nothing is named that could be bisected"),
    ] {
        let said = text(&bench.bisect(2, arguments).stderr);
        assert!(said.contains(words), "{said}");
    }
    let listed = text(&bench.bisect(0, &["--series", &series, "--dry-run"]).stdout);
    assert!(listed.starts_with("0 none of the series\n1 fake: step 1\n"), "{listed}");
}

#[test]
fn an_interrupted_bisection_goes_on_where_it_was() {
    let _machine = machine();
    let bench = Bench::new();
    let series = bench.series(8, |number| if number == 6 { Plant::Word("FAILS") } else { Plant::Nothing });
    let source = bench.name("linux");
    let arguments = ["bisect", "--source", &source, "--series", &series, "--rate", "1/2"];
    let mut child = bench.command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    for line in lines.by_ref() {
        said.push_str(&line);
        said.push('\n');
        if line.contains("step 2: good after") {
            // SAFETY: the child is ours and not reaped yet.
            unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) };
            break;
        }
    }
    said.extend(lines.map(|line| line + "\n"));
    assert_eq!(child.wait().unwrap().code(), Some(70), "{said}");
    assert!(said.contains("interrupted (hint: what is done is kept, --resume "), "{said}");
    let folder = fs::read_dir(bench.path("out")).unwrap().next().unwrap().unwrap().path();
    let done = fs::read_to_string(folder.join("journal.jsonl")).unwrap().lines().count() - 1;
    let resume = [&arguments[..], &["--resume", folder.to_str().unwrap()]].concat();
    let resumed = text(&expect(0, bench.command(&resume)).stderr);
    assert!(done >= 2 && resumed.contains(&format!("{done} runs are done already")), "{done}\n{resumed}");
    assert_eq!(bench.result()["end"]["candidate"], 6);
}

/// A repository of the fake kernel with a commit for each patch of the bench's series.
fn repository(bench: &Bench, count: usize) -> PathBuf {
    let repository = bench.path("repository");
    fs::create_dir(&repository).unwrap();
    let copied = Command::new("cp").arg("-a").arg(bench.path("linux/.")).arg(&repository).status().unwrap();
    assert!(copied.success());
    git(&repository, &["init", "-q"]);
    git(&repository, &["add", "-A"]);
    git(&repository, &["commit", "-q", "-m", "base"]);
    for number in 1..=count {
        let patch = bench.path(&format!("series/{number:04}-fake-step-{number}.patch"));
        git(&repository, &["apply", "--unidiff-zero", patch.to_str().unwrap()]);
        git(&repository, &["add", "-A"]);
        git(&repository, &["commit", "-q", "-m", &format!("fake: step {number}")]);
    }
    repository
}

fn git(repository: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .current_dir(repository)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_first_bad_commit_of_a_range_is_found_and_taken_back() {
    let _machine = machine();
    let bench = Bench::new();
    bench.series(8, |number| if number == 6 { Plant::Word("FAILS") } else { Plant::Nothing });
    let repository = repository(&bench, 8);
    git(&repository, &["tag", "good", "HEAD~7"]);
    let arguments = [
        "bisect",
        "--source",
        repository.to_str().unwrap(),
        "--unpatched",
        "--range",
        "good..HEAD",
        "--rate",
        "1",
    ];
    let output = expect(0, bench.command(&arguments));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("fake: step 6\n")
            && shown.contains("with this commit taken back by a three-way merge is good"),
        "{shown}"
    );
    // All of them from one tree.
    let sources = fs::read_dir(bench.path("cache/sources")).unwrap().flatten();
    assert_eq!(sources.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count(), 1);
    let log = bench.name("out/latest/bisect.log");
    git(&repository, &["bisect", "replay", &log]);
    assert!(
        git(&repository, &["bisect", "log"]).contains("first bad commit: ["),
        "{}",
        fs::read_to_string(log).unwrap()
    );
}

#[test]
fn git_bisect_run_is_told_good_bad_and_skip_and_ends_at_everything_else() {
    let _machine = machine();
    let bench = Bench::new();
    bench.series(10, |number| match number {
        4 => Plant::Breaks,
        6 => Plant::Mends(4),
        9 => Plant::Word("FAILS"),
        _ => Plant::Nothing,
    });
    let repository = repository(&bench, 10);
    let run = |qemu: &str, arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args([
            "bisect",
            "run",
            env!("CARGO_BIN_EXE_nstrail"),
            "bisect",
            "--git-bisect",
            "--unpatched",
        ]);
        command.args(arguments);
        let ours = bench.command(&[]);
        for (name, value) in ours.get_envs() {
            command.env(name, value.unwrap());
        }
        command.env_remove("NSTRAIL_OUT").env("NSTRAIL_QEMU", bench.path(qemu));
        let output = command.current_dir(&repository).output().unwrap();
        (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
    };
    git(&repository, &["bisect", "start", "HEAD", "HEAD~10"]);
    let (found, said) = run("plays", &["smoke"]);
    let log = git(&repository, &["bisect", "log"]);
    assert!(
        found && log.contains("first bad commit: [") && log.contains("] fake: step 9\n"),
        "{said}\n{log}"
    );
    assert!(!repository.join("out").exists() && bench.path("cache/git-bisect/latest").exists(), "{said}");

    // Neither wrong usage nor trouble of ours makes a commit bad.
    for (qemu, arguments, code) in [
        ("plays", &["--no-such-flag"][..], "130"),
        ("plays", &["--rate", "1/100", "--max-runs", "3"], "130"),
        ("plays", &["no-such-scenario"], "130"),
        ("no-qemu", &["smoke"], "198"),
    ] {
        git(&repository, &["bisect", "reset"]);
        git(&repository, &["bisect", "start", "HEAD", "HEAD~10"]);
        let (found, said) = run(qemu, arguments);
        assert!(!found && said.contains(&format!("exit code {code}")), "{said}");
        let log = git(&repository, &["bisect", "log"]);
        assert_eq!(log.matches("git bisect bad").count(), 0, "{log}");
    }
}

#[test]
fn the_first_bad_release_is_found_beside_one_that_the_archive_does_not_have() {
    let _machine = machine();
    let bench = Bench::new();
    let versions = ["6.12.1-1", "6.12.2-1", "6.12.3-1", "6.12.4-1", "6.12.5-1", "6.12.6-1"];
    fs::create_dir_all(bench.path("pool")).unwrap();
    let mut index = String::new();
    for version in versions {
        let word = if version >= "6.12.5" { Plant::Word("FAILS") } else { Plant::Nothing };
        let deb = package(&bench, version, word);
        let (size, hash) = (deb.metadata().unwrap().len(), nstrail::kernel::Hash::of_file(&deb).unwrap());
        index += &format!("Package: linux-source-6.12\nVersion: {version}\nSize: {size}\nSHA256: {hash}\n\n");
    }
    // In the middle, where it is asked for first.
    fs::remove_file(bench.path("pool/6.12.3-1.deb")).unwrap();
    fs::write(bench.path("index"), index).unwrap();
    fs::create_dir(bench.path("bin")).unwrap();
    script(&bench, "bin/apt-cache", "#!/bin/sh\ncat ROOT/index\n");
    script(
        &bench,
        "bin/apt-get",
        "#!/bin/sh\nfor last; do :; done\ncase \"$*\" in\nindextargets*) echo 'file:/a bookworm Debian'; echo 'file:/s \
         bookworm-security Debian' ;;\n*download*) version=${last#*=}\n[ -e \"ROOT/pool/$version.deb\" ] || { echo 'E: \
         404  Not Found'; exit 100; }\ncp \"ROOT/pool/$version.deb\" \"linux-source_${version}_all.deb\" ;;\nesac\n",
    );
    let mut command =
        bench.command(&["bisect", "--releases", "6.12.1-1..6.12.6-1", "--unpatched", "--rate", "1"]);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", bench.name("bin")));
    let output = expect(0, command);
    let shown = text(&output.stdout);
    assert!(
        shown.contains("first bad release: 6.12.5-1\n") && shown.contains("last good release: 6.12.4-1\n"),
        "{shown}"
    );
    assert!(shown.contains("the archive lists it, and does not have it"), "{shown}");
    assert!(shown.contains("not verified, as no release can be"), "{shown}");
}

fn script(bench: &Bench, name: &str, script: &str) {
    let path = bench.path(name);
    fs::write(&path, script.replace("ROOT", bench.folder.path().to_str().unwrap())).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A package with the fake kernel as Debian has it: a tarball below usr/src.
fn package(bench: &Bench, version: &str, plant: Plant) -> PathBuf {
    let work = bench.path("work");
    let _ = fs::remove_dir_all(&work);
    let tree = work.join("linux-source-6.12");
    common::fake_kernel(&tree);
    fs::write(tree.join("kernel/c.c"), added(1, plant)).unwrap();
    let package = work.join("package");
    fs::create_dir_all(package.join("usr/src")).unwrap();
    fs::create_dir_all(package.join("DEBIAN")).unwrap();
    let control = format!(
        "Package: linux-source-6.12\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@localhost>\nDescription: x\n"
    );
    fs::write(package.join("DEBIAN/control"), control).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(&work).output().unwrap();
        assert!(output.status.success(), "{program}: {}", text(&output.stderr));
    };
    run("tar", &["-cJf", "package/usr/src/linux-source-6.12.tar.xz", "linux-source-6.12"]);
    let deb = bench.path(&format!("pool/{version}.deb"));
    run("dpkg-deb", &["--build", "--root-owner-group", "package", deb.to_str().unwrap()]);
    deb
}
