// SPDX-License-Identifier: MIT OR Apache-2.0
//! A real SIGINT to this very process. One test, because the flag is the process's own.

use std::time::{Duration, Instant};

use nstrail::process::{ChildSpec, ProcessError, interrupt};

#[test]
fn sigint_ends_every_group_and_refuses_new_children() {
    interrupt::install().unwrap();
    let mut background = ChildSpec::new("sleep").arg("1000").spawn().unwrap();
    let mut grandchild = 0;
    let start = Instant::now();
    let error = ChildSpec::new("sh")
        .args(["-c", "sleep 1000 & echo $!; wait"])
        .run_lines(|line| {
            grandchild = line.parse().unwrap();
            // SAFETY: a signal to ourselves, which `install` has hooked.
            unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
        })
        .unwrap_err();
    assert!(matches!(error, ProcessError::Interrupted { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(interrupt::requested(), Some(libc::SIGINT));
    assert!(background.wait_until(Instant::now() + Duration::from_secs(5)).unwrap().is_some());
    // Its parent is dead, so init reaps it; that takes a moment.
    let gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    while !gone() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(gone());
    let refused = ChildSpec::new("true").run().unwrap_err();
    assert!(matches!(refused, ProcessError::Interrupted { .. }), "{refused}");
}
