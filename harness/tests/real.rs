// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real thing: Debian's 6.12, our series, a real build, a real QEMU.
//!
//! The kernels are built when the cache lacks them, which takes minutes; everything else takes seconds. The
//! guests are run one after another, because they share two CPUs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{expect, machine, root, summary, text};
use nstrail::vm::Perturbation;
use serde_json::Value;

fn scenario<'a>(summary: &'a Value, name: &str) -> &'a Value {
    summary["kernels"][0]["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .find(|scenario| scenario["name"] == name)
        .unwrap_or_else(|| panic!("no scenario {name} in {summary:#}"))
}

/// What changes only when things happen changes no verdict.
#[test]
fn a_run_passes_under_every_perturbation() {
    let _machine = machine();
    for perturbation in Perturbation::ALL {
        let out = tempfile::tempdir().unwrap();
        expect(0, out.path(), &["run", "smoke", "--perturb", perturbation.name()]);
        let summary = summary(out.path());
        let smoke = scenario(&summary, "smoke");
        assert_eq!(smoke["snapshot"]["state"], "match", "{perturbation}: {smoke:#}");
        let artifacts = out.path().join("latest/6.12/smoke");
        let command = fs::read_to_string(artifacts.join("qemu.cmd")).unwrap();
        let vcpus = format!("-smp {} ", perturbation.vcpus.unwrap_or(2));
        for wanted in [Some(&*vcpus), perturbation.icount, perturbation.parameter].into_iter().flatten() {
            assert!(command.contains(wanted), "{perturbation}: no {wanted} in {command}");
        }
        // What the kernel itself says, when all that the agent sets is set.
        let ledger = expect(0, out.path(), &["check", artifacts.to_str().unwrap(), "--ledger"]);
        let backlog = if perturbation.name() == "backlog-64" { 64 } else { 8192 };
        let told = format!("\"backlog_limit\":{backlog},");
        assert_eq!(text(&ledger.stdout).matches(&told).count(), 2, "{perturbation}");
    }
}

#[test]
fn the_series_passes_every_scenario_and_nothing_is_lost() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let output = expect(0, out.path(), &["run"]);
    let summary = summary(out.path());
    assert_eq!(summary["outcome"], "passed");
    let reviewed = [
        "smoke",
        "nest",
        "quiet",
        "churn",
        "flags",
        "kept",
        "deep-tree",
        "rollover",
        "reincarnation",
        "refused",
        "filters",
        "exec",
        "siblings",
        "census",
        "veth",
    ];
    for name in
        reviewed.into_iter().chain(["join-web", "killed", "reaped", "crowd", "uring", "throttled", "rejoin"])
    {
        let scenario = scenario(&summary, name);
        assert_eq!(scenario["outcome"], "passed", "{scenario:#}");
        assert_eq!(scenario["figures"]["lost"], 0, "{scenario:#}");
        assert_eq!(scenario["console"].as_array().map(Vec::len), Some(0), "{scenario:#}");
        let compared = if reviewed.contains(&name) { "match" } else { "not_compared" };
        assert_eq!(scenario["snapshot"]["state"], compared, "{scenario:#}");
    }
    let churn = &scenario(&summary, "churn")["figures"];
    assert!(churn["containers"].as_u64().unwrap() >= 50_000, "{churn:#}");
    assert!(churn["pid_rollovers"].as_u64().unwrap() >= 20, "{churn:#}");
    assert!(churn["records"].as_u64().unwrap() > 100_000, "{churn:#}");

    // What G8 is for: the one who reads the log alone is told of both containers that share the receiver's namespace.
    let veth = out.path().join("latest/6.12/veth");
    let packets = text(&expect(0, out.path(), &["check", veth.to_str().unwrap(), "--packets"]).stdout);
    let first = packets
        .split("line ")
        .find(|packet| packet.contains("mark=0x2 ") && packet.contains(" daddr=10."))
        .unwrap();
    assert!(first.contains("  0x2 by clone") && first.contains("  0x5 by setns CLONE_NEWNET"), "{first}");

    let ktap = fs::read_to_string(out.path().join("latest/report.ktap")).unwrap();
    assert!(ktap.starts_with("KTAP version 1\n1..1\n"), "{ktap}");
    assert!(ktap.contains("\n  ok 1 smoke\n") && ktap.ends_with("ok 1 linux-6.12\n"), "{ktap}");
    let verdict = text(&output.stdout);
    assert!(verdict.contains("reproduce: nstrail run"), "{verdict}");
    let last = text(&output.stderr).lines().last().unwrap().to_owned();
    assert!(last.contains("exit code 0"), "{last}");

    let folder = out.path().join("latest/6.12/smoke");
    for file in ["console.log", "audit.log", "ledger.frames", "qemu.cmd", "canonical.txt"] {
        assert!(folder.join(file).is_file(), "{file} is missing");
    }
    let log = fs::read_to_string(folder.join("audit.log")).unwrap();
    let first_of_ours = log.lines().find(|line| line.starts_with("type=UNKNOWN[1340]")).unwrap();
    assert!(first_of_ours.contains("op=init auditnsid=0x1 "), "{first_of_ours}");

    // A recorded run replays to the same result, without a VM.
    let replay = expect(0, out.path(), &["check", folder.to_str().unwrap(), "--canonical"]);
    assert_eq!(text(&replay.stdout), fs::read_to_string(folder.join("canonical.txt")).unwrap());
    let ledger = text(&expect(0, out.path(), &["check", folder.to_str().unwrap(), "--ledger"]).stdout);
    let facts = scenario(&summary, "smoke")["figures"]["facts"].as_u64().unwrap();
    let objects: Vec<Value> = ledger.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len() as u64, facts);
}

#[test]
fn a_second_run_compiles_nothing_and_says_so() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    expect(0, out.path(), &["build"]);
    let output = expect(0, out.path(), &["run", "smoke"]);
    assert_eq!(summary(out.path())["kernels"][0]["compiled"], false);
    assert!(text(&output.stdout).contains("nothing compiled"), "{}", text(&output.stdout));
}

#[test]
fn a_scenario_whose_kernel_lacks_a_symbol_is_skipped_and_says_which() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let output = expect(8, out.path(), &["run", "no-memory"]);
    let summary = summary(out.path());
    let skipped = scenario(&summary, "no-memory");
    assert_eq!(skipped["outcome"], "skipped");
    let reason = "the kernel is built without CONFIG_FAILSLAB=y, CONFIG_FAULT_INJECTION_DEBUG_FS=y";
    assert_eq!(skipped["reason"], reason);
    assert!(text(&output.stdout).contains(reason), "{}", text(&output.stdout));
}

#[test]
fn the_unpatched_kernel_fails_because_it_logs_no_auditnsid() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    expect(1, out.path(), &["run", "smoke", "--unpatched"]);
    let summary = summary(out.path());
    let smoke = scenario(&summary, "smoke");
    assert_eq!(smoke["outcome"], "failed");
    let findings = smoke["findings"].as_array().unwrap();
    assert!(
        findings.iter().any(|finding| finding["found"].as_str().unwrap().contains("no auditnsid records")),
        "{smoke:#}"
    );
}

#[test]
fn one_and_two_vcpus_and_ten_runs_give_the_same_canonical_form() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let mut forms = Vec::new();
    for run in 0..10 {
        let vcpus = if run % 2 == 0 { "1" } else { "2" };
        expect(0, out.path(), &["run", "smoke", "nest", "--vcpus", vcpus]);
        forms.push(["smoke", "nest"].map(|name| {
            fs::read_to_string(out.path().join("latest/6.12").join(name).join("canonical.txt")).unwrap()
        }));
    }
    for (run, form) in forms.iter().enumerate() {
        assert_eq!(form, &forms[0], "run {run}");
    }
}

#[test]
fn churn_on_one_vcpu_has_the_same_snapshot() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    expect(0, out.path(), &["run", "churn", "--vcpus", "1"]);
    assert_eq!(scenario(&summary(out.path()), "churn")["snapshot"]["state"], "match");
}

#[test]
fn the_kunit_tests_of_the_series_pass() {
    for line in ["5.10", "6.12", "7.3"] {
        kunit(line);
    }
}

fn kunit(line: &str) {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let output = expect(0, out.path(), &["boot", "--kernel", line, "--flavour", "kunit", "--console"]);
    let console = text(&output.stdout);
    assert!(!console.contains("not ok"), "{console}");
    let suite = console
        .lines()
        .find(|line| line.contains("ok ") && line.ends_with(" audit_nsid"))
        .unwrap_or_else(|| panic!("no KUnit suite audit_nsid on the console\n{console}"));
    assert!(suite.trim_start().contains("ok "), "{suite}");
}

/// Under some nested hypervisors a few instructions run and a kernel does not: the first guest must find that out.
#[test]
fn a_kvm_that_carries_the_probe_but_no_kernel_is_left_for_tcg() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let qemu = folder.path().join("qemu");
    let script = "#!/bin/sh\ncase \"$*\" in\n*'-accel kvm'*/probe-*) exit 33 ;;\n*'-accel kvm'*) exec sleep 600 ;;\n\
                  esac\nexec qemu-system-x86_64 \"$@\"\n";
    fs::write(&qemu, script).unwrap();
    fs::set_permissions(&qemu, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let boot = || {
        let output = Command::new(env!("CARGO_BIN_EXE_nstrail"))
            .args(["boot", "--accel", "auto"])
            .env("NSTRAIL_QEMU", &qemu)
            .current_dir(root())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(text(&output.stdout).starts_with("6.12."), "{}", text(&output.stdout));
        told
    };
    let (first, second) = (boot(), boot());
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_ok() {
        let found = "accelerator tcg: KVM does not work: a guest got through under TCG only, and under KVM: no sign of life for 5 s";
        assert!(first.contains("accelerator kvm: a probe booted") && first.contains(found), "{first}");
        assert!(second.contains(found) && !second.contains("accelerator kvm"), "{second}");
    } else {
        assert!(
            first.contains("accelerator tcg: KVM does not work: ") && second.contains("/dev/kvm"),
            "{first}"
        );
    }
    assert_eq!(processes_of(folder.path()), [""; 0]);
}

/// Processes whose command line names `folder`.
fn processes_of(folder: &Path) -> Vec<String> {
    let needle = folder.to_str().unwrap().as_bytes();
    let commands = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    commands
        .filter(|command| command.windows(needle.len()).any(|window| window == needle))
        .map(|command| text(&command).replace('\0', " "))
        .collect()
}

#[test]
fn an_interrupt_ends_the_guest_and_leaves_nothing_behind() {
    let _machine = machine();
    let out = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nstrail"))
        .args(["run", "churn", "--snapshots", "off"])
        .env("NSTRAIL_OUT", out.path())
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("churn: booting")), "it never booted");
    // The guest runs when its console has been written to.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !processes_of(out.path()).iter().any(|command| command.contains("qemu-system")) {
        assert!(Instant::now() < deadline, "QEMU never ran");
        std::thread::yield_now();
    }
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: a signal to our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(70), "{rest:?}");
    assert!(rest.last().unwrap().contains("exit code 70"), "{rest:?}");
    assert_eq!(processes_of(out.path()), [""; 0]);
    // What was gathered so far is kept.
    let summary = summary(out.path());
    assert_eq!(scenario(&summary, "churn")["reason"], "interrupted");
    assert!(out.path().join("latest/6.12/churn/audit.log").is_file());
}

#[test]
fn a_patch_that_does_not_apply_is_shown_with_what_stands_there() {
    let out = tempfile::tempdir().unwrap();
    let series = out.path().join("series");
    fs::create_dir(&series).unwrap();
    fs::write(
        series.join("0001-wrong.patch"),
        "From: A <a@localhost>\nSubject: [PATCH] wrong\n\n---\n--- a/kernel/audit.h\n+++ b/kernel/audit.h\n@@ -1,3 +1,3 @@\n no such line\n-nor this\n+at all\n or that\n",
    )
    .unwrap();
    let output = expect(3, out.path(), &["apply", "--series", series.to_str().unwrap()]);
    let message = text(&output.stderr);
    for part in ["0001-wrong.patch", "kernel/audit.h", "hunk 1", "no such line", "exit code 3"] {
        assert!(message.contains(part), "{part} is missing in\n{message}");
    }
}

#[test]
fn every_patch_is_clean_by_the_kernels_own_checkpatch() {
    for line in fs::read_dir(root().join("patches/auditnsid")).unwrap() {
        let line = line.unwrap().file_name().into_string().unwrap();
        checkpatch(&line);
    }
}

fn checkpatch(line: &str) {
    let out = tempfile::tempdir().unwrap();
    let applied = text(&expect(0, out.path(), &["apply", "--kernel", line]).stdout);
    let tree = PathBuf::from(applied.lines().last().unwrap());
    let mut patches: Vec<PathBuf> = fs::read_dir(root().join("patches/auditnsid").join(line))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with("0000"))
        .collect();
    patches.sort();
    assert!(patches.len() >= 6, "{patches:?}");
    for patch in patches {
        // FILE_PATH_CHANGES asks for a MAINTAINERS entry, which `kernel/audit*` is already: the cover letter argues it.
        let output = Command::new(tree.join("scripts/checkpatch.pl"))
            .args(["--strict", "--no-summary", "--terse", "--ignore", "FILE_PATH_CHANGES"])
            .arg(&patch)
            .current_dir(&tree)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}\n{}", patch.display(), text(&output.stdout));
    }
}
