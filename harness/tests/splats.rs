// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every kind of splat, for real: kernels that are broken on purpose (kernel-configs/lkdtm.config, patches/splats) must
//! say what the recorded traces (src/vm/console/traces) say.
//!
//! Three kernels with debug options are built for it, so it is behind a feature: `make splats`. With NSTRAIL_RECORD=1 the
//! traces are recorded anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and takes its time")]

mod common;

use std::{fs, path::Path, process::Output, time::Instant};

use common::{machine, nstrail, root, summary, text};
use nstrail::vm::console::{ConsoleWatch, Fingerprint, Seen, SplatKind};

/// A guest in which a kernel is broken.
struct Break {
    kind: SplatKind,
    /// Beside lkdtm.
    flavour: &'static str,
    vcpus: u8,
    /// Kernel parameters.
    append: &'static [&'static str],
}

/// An oops is a panic unless this says otherwise: the machines of nstrail have `oops=panic`.
const OOPS: &str = "sysctl.kernel.panic_on_oops=0";

const fn plain(kind: SplatKind) -> Break {
    Break { kind, flavour: "kmemleak", vcpus: 1, append: &[OOPS] }
}

const BREAKS: [Break; 19] = [
    plain(SplatKind::Panic),
    plain(SplatKind::Oops),
    plain(SplatKind::Bug),
    plain(SplatKind::Warning),
    Break { flavour: "kasan", ..plain(SplatKind::Kasan) },
    Break { flavour: "kcsan", vcpus: 2, ..plain(SplatKind::Kcsan) },
    plain(SplatKind::Ubsan),
    plain(SplatKind::Lockdep),
    // Somebody else must begin the grace period, and see that a task hangs.
    Break { vcpus: 2, ..plain(SplatKind::RcuStall) },
    Break { vcpus: 2, ..plain(SplatKind::HungTask) },
    Break { append: &[OOPS, "watchdog_thresh=3"], ..plain(SplatKind::SoftLockup) },
    plain(SplatKind::SleepingInAtomic),
    plain(SplatKind::Refcount),
    plain(SplatKind::SlabCorruption),
    plain(SplatKind::ListCorruption),
    plain(SplatKind::Kmemleak),
    plain(SplatKind::NetdeviceLeak),
    Break { append: &[OOPS, "audit_backlog_limit=64"], ..plain(SplatKind::AuditBacklog) },
    // At boot, where there is no daemon yet.
    Break {
        append: &[OOPS, "audit_backlog_limit=64", "nstrail_splat=audit_hold_queue"],
        ..plain(SplatKind::AuditHoldQueue)
    },
];

#[test]
fn every_kind_of_splat_is_what_was_recorded() {
    let _machine = machine();
    let named = std::env::var("NSTRAIL_SPLATS").unwrap_or_default();
    let is_named = |kind: SplatKind| named.is_empty() || named.split(',').any(|name| name == kind.name());
    let mut wrong = Vec::new();
    for broken in BREAKS.iter().filter(|broken| is_named(broken.kind)) {
        match run(broken) {
            Ok(fingerprint) => eprintln!("{}: {fingerprint}", broken.kind.name()),
            Err(message) => {
                eprintln!("{}: {message}", broken.kind.name());
                wrong.push(format!("{}: {message}", broken.kind.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A vCPU that spins with interrupts off says nothing and answers nothing, and QEMU goes on as if all were well.
#[test]
fn a_guest_that_spins_with_interrupts_off_is_ended_by_its_silence() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let broken = Break { kind: SplatKind::SoftLockup, flavour: "kmemleak", vcpus: 1, append: &[] };
    let (output, seconds) = breaking(folder.path(), &broken, "splat = \"hard_lockup\"", &["--silence", "10"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{}\n{told}", text(&output.stdout));
    let found = summary(&out)["kernels"][0]["scenarios"][0].clone();
    let reason = found["reason"].as_str().unwrap();
    assert!(reason.contains("no sign of life"), "{reason}");
    assert_eq!(found["console"].as_array().map(Vec::len), Some(0), "{found:#?}");
    eprintln!("hard lockup: {reason}; {seconds:.1} s");
}

/// Runs a scenario of one step.
fn breaking(folder: &Path, broken: &Break, step: &str, more: &[&str]) -> (Output, f64) {
    let scenario = folder.join("splat.toml");
    let head = "name = \"splat\"\ndescription = \"a kernel that is broken on purpose\"\nvcpus = 1\nmemory_mib = 768\n\
                wall_seconds = 120\nsilence_seconds = 60\nsnapshot = false\nneeds = [\"NSTRAIL_SPLAT\", \"LKDTM\"]\n";
    fs::write(&scenario, format!("{head}\n[[step]]\n{step}\n")).unwrap();
    let vcpus = broken.vcpus.to_string();
    let mut args = vec!["run", "--kernel", "6.12", "--series", "patches/splats/6.12", "--quiet"];
    args.extend(["--flavour", "lkdtm", "--flavour", broken.flavour, "--vcpus", &vcpus]);
    broken.append.iter().for_each(|parameter| args.extend(["--append", parameter]));
    args.extend(more);
    args.push(scenario.to_str().unwrap());
    let started = Instant::now();
    let output = nstrail(&folder.join("out"), &args);
    (output, started.elapsed().as_secs_f64())
}

fn run(broken: &Break) -> Result<String, String> {
    let name = broken.kind.name();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let step = match broken.kind {
        SplatKind::AuditHoldQueue => "fence = {}".to_owned(),
        _ => format!("splat = \"{name}\""),
    };
    let (output, _) = breaking(folder.path(), broken, &step, &[]);
    let console = out.join("latest/6.12/splat/console.log");
    let console = fs::read(&console).map_err(|error| {
        format!("{}: {error}\n{}\n{}", console.display(), text(&output.stdout), text(&output.stderr))
    })?;
    let console = text(&console);
    if let Some(folder) = std::env::var_os("NSTRAIL_CONSOLES") {
        fs::write(Path::new(&folder).join(format!("{name}.log")), &console).unwrap();
    }

    let found = summary(&out)["kernels"][0]["scenarios"][0]["console"].clone();
    let found = found.as_array().unwrap();
    let fingerprint = found
        .iter()
        .find(|splat| splat["kind"] == broken.kind.word())
        .map(|splat| splat["fingerprint"].as_str().unwrap().to_owned())
        .ok_or_else(|| format!("the summary has no such splat: {found:#?}\n{}", text(&output.stdout)))?;

    let path = root().join("harness/src/vm/console/traces").join(format!("{name}.txt"));
    if std::env::var_os("NSTRAIL_RECORD").is_some() {
        fs::write(&path, console.replace('\r', "")).unwrap();
    }
    let recorded = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let recorded = fingerprint_of(&recorded, broken.kind).ok_or("the recorded trace has no such splat")?;
    if recorded != fingerprint {
        return Err(format!("fingerprint {fingerprint}, recorded {recorded}: {found:#?}"));
    }
    Ok(fingerprint)
}

fn fingerprint_of(console: &str, kind: SplatKind) -> Option<String> {
    let mut watch = ConsoleWatch::new();
    let mut findings = Vec::new();
    for line in console.lines() {
        if let Seen::Whole(finding) = watch.line(line) {
            findings.push(finding);
        }
    }
    findings.extend(watch.take());
    let found = findings.iter().find(|finding| finding.kind == kind)?;
    Some(Fingerprint::of(found).id().to_owned())
}
