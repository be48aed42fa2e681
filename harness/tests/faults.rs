// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of this machine under the program as a user runs it: each has its exit code and its words, the verdict comes soon, and nothing is left
//! behind. `cargo test --test faults -- --nocapture` prints the table.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows its table"
)]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{machine, root, text};
use nstrail::vm::agent;
use tempfile::TempDir;

/// What a fault came to.
struct Row {
    fault: String,
    expected: i32,
    got: Option<i32>,
    seconds: f64,
    left: Vec<String>,
    output: String,
}

/// Rows of a table, judged when all have been made.
#[derive(Default)]
struct Table(Vec<(Row, Vec<&'static str>, f64)>);

impl Table {
    fn add(&mut self, row: Row, words: &[&'static str], within: f64) {
        self.0.push((row, words.to_vec(), within));
    }

    fn judge(self) {
        println!("{:<44} {:>8} {:>5} {:>8}  left behind", "fault", "expected", "got", "seconds");
        for (row, _, _) in &self.0 {
            let got = row.got.map_or_else(|| "-".to_owned(), |code| code.to_string());
            let left = if row.left.is_empty() { "nothing".to_owned() } else { row.left.join("; ") };
            println!("{:<44} {:>8} {:>5} {:>8.2}  {left}", row.fault, row.expected, got, row.seconds);
        }
        for (row, words, within) in &self.0 {
            assert_eq!(row.got, Some(row.expected), "{}:\n{}", row.fault, row.output);
            assert!(row.left.is_empty(), "{}: {:?}", row.fault, row.left);
            assert!(row.seconds < *within, "{}: {} s\n{}", row.fault, row.seconds, row.output);
            for word in words {
                assert!(row.output.contains(word), "{}: expected `{word}` in\n{}", row.fault, row.output);
            }
        }
    }
}

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        // Compiled by the first who needs it, which is no part of what is timed here.
        agent::load(&root()).unwrap();
        let folder = tempfile::Builder::new().prefix("faults-").tempdir().unwrap();
        for name in ["out", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The fake QEMU under the name of what it shall do.
    fn fake(&self, behaviour: &str) -> PathBuf {
        let program = Path::new(env!("CARGO_BIN_EXE_nstrail")).with_file_name("examples").join("fake_qemu");
        let link = self.path(behaviour);
        symlink(program, &link).unwrap();
        link
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nstrail"));
        command.args(arguments);
        self.surround(&mut command);
        command
    }

    fn surround(&self, command: &mut Command) {
        command
            .env("NSTRAIL_OUT", self.path("out"))
            .env("NSTRAIL_SNAPSHOTS", "deny")
            .env("TMPDIR", self.path("tmp"))
            .current_dir(root())
            .stdin(Stdio::null());
    }

    fn finish(&self, fault: &str, expected: i32, mut command: Command) -> Row {
        let start = Instant::now();
        let output = command.output().unwrap();
        let seconds = start.elapsed().as_secs_f64();
        Row {
            fault: fault.to_owned(),
            expected,
            got: output.status.code(),
            seconds,
            left: self.left(),
            output: format!("{}{}", text(&output.stdout), text(&output.stderr)),
        }
    }

    /// Processes that name the bench's folder, temporary files, and mounts.
    fn left(&self) -> Vec<String> {
        let needle = self.folder.path().to_str().unwrap();
        let commands = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            entry.file_name().to_str()?.parse::<u32>().ok()?;
            fs::read(entry.path().join("cmdline")).ok()
        });
        let commands = commands.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
        let mut left: Vec<String> = commands.filter(|command| command.contains(needle)).collect();
        let files = fs::read_dir(self.path("tmp")).unwrap().flatten();
        left.extend(files.map(|entry| entry.path().display().to_string()));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(needle)).map(str::to_owned));
        left
    }

    /// Runs nstrail where `place` is a small tmpfs, in a mount namespace of its own.
    fn cramped(&self, place: &str, bytes: u64, arguments: &[&str]) -> Command {
        let place = self.path(place);
        fs::create_dir_all(&place).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "--user", "sh", "-c"]);
        command.arg("mount -t tmpfs -o size=$1 none \"$2\" && shift 2 && exec \"$@\"");
        command
            .args(["sh", &bytes.to_string()])
            .arg(place)
            .arg(env!("CARGO_BIN_EXE_nstrail"))
            .args(arguments);
        self.surround(&mut command);
        command
    }
}

#[test]
fn every_fault_of_a_machine_has_its_verdict() {
    let _machine = machine();
    let mut table = Table::default();
    for (behaviour, expected, words, within) in [
        (
            "exits-at-once",
            70,
            &["QEMU failed", "cannot set up guest memory", "hint: QEMU 7.2 or newer"][..],
            10.0,
        ),
        ("is-killed", 70, &["QEMU failed", "SIGKILL", "dmesg tells"], 10.0),
        ("is-stopped", 6, &["no sign of life for 2 s", "QEMU is stopped by a signal"], 12.0),
        ("hangs", 6, &["no sign of life for 2 s"], 12.0),
        ("speaks-once-on-the-console", 6, &["no sign of life for 2 s"], 12.0),
        ("ignores-quit", 6, &["no sign of life for 2 s"], 12.0),
        ("hangs-at-power-off", 10, &["not proven"], 12.0),
        ("chatters", 6, &["wall clock limit of 5 s, with ", " s of CPU time"], 15.0),
        ("panics-and-hangs", 5, &["the kernel panicked"], 10.0),
        ("panics-without-end", 5, &["the kernel panicked"], 10.0),
        ("exits-in-the-middle", 5, &["ended without a last message"], 10.0),
        ("closes-its-channels", 70, &["still runs"], 15.0),
        ("sends-garbage", 10, &["the control port is faulty", "magic"], 10.0),
        ("flips-a-bit", 10, &["the audit stream is faulty", "checksum"], 10.0),
        ("cuts-a-frame", 10, &["the audit stream is faulty", "missing"], 10.0),
        ("doubles-a-frame", 10, &["the audit stream is faulty", "doubled or swapped"], 10.0),
        ("swaps-frames", 10, &["the audit stream is faulty"], 10.0),
        ("claims-an-absurd-length", 10, &["the audit stream is faulty", "over the limit"], 10.0),
        ("talks-nonsense", 10, &["the control port is faulty"], 10.0),
    ] {
        let bench = Bench::new();
        let mut command = bench.command(&[
            "run",
            "--kernel",
            "6.12",
            "smoke",
            "--accel",
            "tcg",
            "--silence",
            "2",
            "--wall",
            "5",
        ]);
        command.env("NSTRAIL_QEMU", bench.fake(behaviour));
        table.add(bench.finish(behaviour, expected, command), words, within);
        // Everything gathered so far is kept.
        assert!(bench.path("out/latest/summary.json").is_file(), "{behaviour}");
        assert!(bench.path("out/latest/6.12/smoke/console.log").is_file(), "{behaviour}");
    }
    let bench = Bench::new();
    let mut command = bench.command(&["run", "--kernel", "6.12", "smoke", "--accel", "tcg"]);
    command.env("NSTRAIL_QEMU", bench.path("no-qemu"));
    table.add(bench.finish("QEMU is missing", 70, command), &["no-qemu installed"], 10.0);

    let bench = Bench::new();
    let small = bench.path("small.toml");
    let smoke = text(&bench.command(&["scenarios", "show", "smoke"]).output().unwrap().stdout);
    assert!(smoke.contains("memory_mib = 512"), "{smoke}");
    fs::write(&small, smoke.replace("memory_mib = 512", "memory_mib = 16")).unwrap();
    let command = bench.command(&["run", "--kernel", "6.12", small.to_str().unwrap()]);
    table.add(bench.finish("memory too small for the guest", 2, command), &["expected 128 to 16384"], 10.0);
    table.judge();
}

#[test]
fn a_full_disk_is_no_verdict_about_the_kernel() {
    let _machine = machine();
    let mut table = Table::default();
    let full = "No space left on device";

    let bench = Bench::new();
    let command = bench.cramped("out", 64 << 10, &["run", "--kernel", "6.12", "smoke"]);
    table.add(bench.finish("out/ is full", 70, command), &[full, "initrd.cpio"], 10.0);

    // Room for the guest's initramfs, and for the log of a part of churn.
    let bench = Bench::new();
    let command = bench.cramped("out", 4 << 20, &["run", "--kernel", "6.12", "churn", "--accel", "tcg"]);
    table.add(bench.finish("out/ gets full in the middle of a log", 70, command), &[full, "audit.log"], 90.0);

    let bench = Bench::new();
    let tree = bench.path("linux");
    common::fake_kernel(&tree);
    let command = || {
        let mut command =
            bench.cramped("cache", 300 << 10, &["build", "--unpatched", "--source", tree.to_str().unwrap()]);
        command.env("NSTRAIL_CACHE", bench.path("cache"));
        command
    };
    fs::write(tree.join("big"), vec![b'x'; 400 << 10]).unwrap();
    table.add(bench.finish("the cache is full: source", 70, command()), &[full], 20.0);
    fs::remove_file(tree.join("big")).unwrap();
    // The linker of this kernel writes more than there is room for.
    let makefile = fs::read_to_string(tree.join("Makefile")).unwrap();
    let greedy = makefile.replace("\t@ld -e f -o $@ $(objects)", "\thead -c 1M /dev/zero > $@");
    assert_ne!(greedy, makefile);
    fs::write(tree.join("Makefile"), greedy).unwrap();
    table.add(bench.finish("the cache is full: build", 70, command()), &[full, "hint: make room"], 30.0);
    table.judge();
}

#[test]
fn an_interrupt_ends_every_stage() {
    let mut table = Table::default();
    for (stage, target) in [("configure", "tinyconfig:\n"), ("build", "vmlinux: $(O)/vmlinux\n")] {
        let bench = Bench::new();
        let tree = bench.path("linux");
        common::fake_kernel(&tree);
        let makefile = fs::read_to_string(tree.join("Makefile")).unwrap();
        // A build writes nothing but its own folder.
        let slow = format!("{target}\t@mkdir -p $(O); touch $(O)/begun; sleep 1000\n");
        let slow = match stage {
            "configure" => makefile.replacen(target, &slow, 1),
            _ => makefile.replacen("\t@ld -e f -o $@ $(objects)\n", slow.split_once('\n').unwrap().1, 1),
        };
        assert_ne!(slow, makefile);
        fs::write(tree.join("Makefile"), slow).unwrap();
        let mut command = bench.command(&["build", "--unpatched", "--source", tree.to_str().unwrap()]);
        command.env("NSTRAIL_CACHE", bench.path("cache"));
        let row = interrupt(&bench, stage, command, |bench| holds(&bench.path("cache"), "begun"));
        table.add(row, &["nstrail: interrupted:", "exit code 70"], 5.0);
    }
    for (stage, behaviour) in [("boot", "hangs"), ("workload", "ignores-quit")] {
        let _machine = machine();
        let bench = Bench::new();
        let mut command = bench.command(&["run", "--kernel", "6.12", "smoke", "--accel", "tcg"]);
        command.env("NSTRAIL_QEMU", bench.fake(behaviour));
        let begun = |bench: &Bench| bench.left().iter().any(|command| command.contains("-chardev"));
        let row = interrupt(&bench, stage, command, begun);
        table.add(row, &["nstrail: interrupted:", "exit code 70"], 5.0);
        assert!(bench.path("out/latest/summary.json").is_file(), "{stage}");
    }
    table.judge();
}

/// Whether there is a file of this name in a folder.
fn holds(folder: &Path, name: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries = entries.map(|entry| (entry.file_name(), entry.path()));
    entries.any(|(file, path)| file == name || !path.is_symlink() && path.is_dir() && holds(&path, name))
}

/// Sends SIGINT when it has begun; the seconds are those from there.
fn interrupt(bench: &Bench, stage: &str, mut command: Command, begun: impl Fn(&Bench) -> bool) -> Row {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !begun(bench) {
        assert!(Instant::now() < deadline, "{stage} never began");
        assert!(child.try_wait().unwrap().is_none(), "{stage}: it is over already");
        std::thread::sleep(Duration::from_millis(20));
    }
    let start = Instant::now();
    // SAFETY: a signal to our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) }, 0);
    let lines: Vec<String> =
        BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    Row {
        fault: format!("Ctrl-C: {stage}"),
        expected: 70,
        got: status.code(),
        seconds: start.elapsed().as_secs_f64(),
        left: bench.left(),
        output: lines.join("\n"),
    }
}
