// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real children: a shell that does what each rule needs.

use super::*;
use std::time::Instant;

fn sh(script: &str) -> ChildSpec {
    ChildSpec::new("sh").args(["-c", script])
}

fn alive(pid: i32) -> bool {
    // A zombie that nobody has reaped yet is dead for our purpose.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

fn gone(pid: i32) -> bool {
    let start = Instant::now();
    while alive(pid) && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    !alive(pid)
}

#[test]
fn a_failed_child_shows_argv_status_last_lines_and_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("child.log");
    let error = sh("for i in $(seq 1 30); do echo line $i; done; exit 3").log(&log).run().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.status().unwrap().code(), Some(3));
    assert_eq!(error.tail().len(), TAIL_LINES);
    assert!(text.starts_with("`sh -c 'for i in"), "{text}");
    assert!(text.contains("line 30\n(hint: the whole output is in "), "{text}");
    assert!(!text.contains("line 10\n"), "{text}");
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 30);
}

#[test]
fn lines_come_in_order_and_stdout_can_be_captured() {
    let mut lines = Vec::new();
    sh("echo a; echo b >&2; printf c").run_lines(|line| lines.push(line.to_owned())).unwrap();
    assert_eq!(lines, ["a", "b", "c"]);
    assert_eq!(sh("echo out; echo err >&2").read().unwrap(), "out\n");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = ChildSpec::new("nstrail-no-such-program").run().unwrap_err();
    assert!(error.to_string().contains("(hint: is nstrail-no-such-program installed"), "{error}");
}

#[test]
fn the_limit_kills_the_whole_group() {
    let mut grandchild = 0;
    let start = Instant::now();
    let error = sh("sleep 1000 & echo $!; wait")
        .limit(Duration::from_millis(300))
        .run_lines(|line| grandchild = line.parse().unwrap())
        .unwrap_err();
    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(gone(grandchild));
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_after_the_grace() {
    let start = Instant::now();
    let error = sh("trap '' TERM; echo up; sleep 1000 & wait; sleep 1000")
        .limit(Duration::from_millis(200))
        .grace(Duration::from_millis(200))
        .run()
        .unwrap_err();
    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_a_child_leaves_behind_dies_when_it_exits() {
    let mut grandchild = 0;
    sh("sleep 1000 & echo $!").run_lines(|line| grandchild = line.parse().unwrap()).unwrap();
    assert!(gone(grandchild));
}

#[test]
fn a_dropped_child_is_dead_and_reaped() {
    let child = sh("sleep 1000").spawn().unwrap();
    let pid = child.pid() as i32;
    drop(child);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!interrupt::groups().contains_key(&pid));
}

#[test]
fn the_end_of_the_starting_thread_does_not_end_the_child() {
    let mut child = std::thread::spawn(|| sh("sleep 0.3; exit 7").spawn().unwrap()).join().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    let status = child.wait_until(Instant::now() + Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!(status.code(), Some(7));
}

#[test]
fn cpu_time_is_that_of_the_work_and_not_of_the_life() {
    let busy = sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; kill -STOP $$").spawn().unwrap();
    while !busy.is_stopped() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let used = busy.cpu_time().unwrap();
    assert!(used > Duration::ZERO && used <= busy.elapsed() + Duration::from_millis(20), "{used:?}");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(busy.cpu_time().unwrap(), used, "stopped, and still at work");
}

#[test]
fn files_get_the_output_and_feed_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let spec = sh("echo to out; echo to err >&2; exit 1")
        .stdout(Sink::File(out.clone()))
        .stderr(Sink::File(err.clone()));
    let error = spec.run().unwrap_err();
    assert_eq!(error.tail(), ["to err"]);
    assert_eq!(std::fs::read_to_string(out).unwrap(), "to out\n");
}
