// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail check` on recorded runs: no kernel and no VM.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::Path};

use common::{expect, root, text};

fn recorded(run: &str) -> String {
    root().join("snapshots/runs").join(run).display().to_string()
}

#[test]
fn a_recorded_run_is_checked_again() {
    let out = tempfile::tempdir().unwrap();
    for run in ["5.10/smoke", "6.1/smoke", "6.12/smoke", "6.12/nest", "7.3/smoke", "7.3/quiet"] {
        let said = text(&expect(0, out.path(), &["check", &recorded(run)]).stdout);
        assert!(said.contains(" records, ") && !said.contains("NS-"), "{run}: {said}");
    }
}

#[test]
fn the_containers_that_a_packet_could_belong_to_are_those_of_its_network_namespace() {
    let out = tempfile::tempdir().unwrap();
    let said = text(&expect(0, out.path(), &["check", "--packets", &recorded("6.12/smoke")]).stdout);
    // One packet logged by iptables and one by nftables, each from inside a container of its own.
    let mut packets = 0;
    let mut lines = said.lines().peekable();
    while let Some(line) = lines.next() {
        assert!(line.starts_with("line ") && line.contains(" daddr=127."), "{said}");
        let netns = line.rsplit_once("net:").unwrap().1;
        assert!(netns.parse::<u32>().unwrap() > 4_026_531_840, "{said}");
        let mut sets = 0;
        while lines.next_if(|line| line.starts_with("  ")).is_some() {
            sets += 1;
        }
        assert_eq!(sets, 1, "{said}");
        packets += 1;
    }
    assert!(packets >= 2, "{said}");
    assert_eq!(said.matches("CLONE_NEWNET").count(), packets, "{said}");

    let missing = text(&expect(2, out.path(), &["check", "--packets", out.path().to_str().unwrap()]).stderr);
    assert!(missing.contains("audit.log") && missing.contains("hint"), "{missing}");
}

#[test]
fn a_log_that_is_none_is_named_with_its_line() {
    let out = tempfile::tempdir().unwrap();
    let copy = out.path().join("6.12/smoke");
    fs::create_dir_all(&copy).unwrap();
    for name in ["audit.log", "ledger.frames", "scenario.json"] {
        fs::copy(Path::new(&recorded("6.12/smoke")).join(name), copy.join(name)).unwrap();
    }
    let log = copy.join("audit.log");
    let mut lines: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    lines[6] = "this is no record".to_owned();
    fs::write(&log, lines.join("\n") + "\n").unwrap();
    for option in [&["check"][..], &["check", "--packets"]] {
        let said = expect(2, out.path(), &[option, &[copy.to_str().unwrap()]].concat());
        let said = text(&said.stderr);
        assert!(said.contains("audit.log line 7"), "{said}");
    }
}

/// A recording that was cut anywhere, in the log or in the ledger, is no pass, and no panic.
#[test]
fn a_recording_that_was_cut_is_no_pass() {
    let out = tempfile::tempdir().unwrap();
    for run in ["6.12/quiet", "5.10/smoke"] {
        let whole = root().join("snapshots/runs").join(run);
        for file in ["audit.log", "ledger.frames", "scenario.json"] {
            let bytes = fs::read(whole.join(file)).unwrap();
            for part in 0..12 {
                let cut = out.path().join("cut");
                fs::create_dir_all(&cut).unwrap();
                for name in ["audit.log", "ledger.frames", "scenario.json"] {
                    fs::copy(whole.join(name), cut.join(name)).unwrap();
                }
                fs::write(cut.join(file), &bytes[..bytes.len() * part / 12]).unwrap();
                let output = common::nstrail(out.path(), &["check", cut.to_str().unwrap()]);
                let code = output.status.code().unwrap();
                let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
                assert!([1, 2, 10, 70].contains(&code), "{run}/{file}, {part} of 12: {code}\n{said}");
                if file != "audit.log" {
                    assert!(said.contains("hint") || said.contains("expected"), "{run}/{file}: {said}");
                }
            }
        }
    }
}
