// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tasks that lost their parent and became PID 1's children.
//!
//! Only after the workload: before, PID 1's children may be ones that the workload waits for itself.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use thiserror::Error;

/// A killed task needs milliseconds; one that hangs in the kernel is a finding for the console watch.
const LIMIT: Duration = Duration::from_secs(10);

/// Not all of the workload has ended.
#[derive(Debug, Error)]
pub enum OrphanError {
    #[error("tasks {tasks:?} still run {seconds} s after the workload's end (hint: a step left them behind)")]
    Left { tasks: Vec<libc::pid_t>, seconds: u64 },
    #[error("the collector ended with wait status {status:#x}")]
    Collector { status: i32 },
    #[error("children cannot be waited for: {0}")]
    Wait(io::Error),
}

/// Reaps until the collector is the only child.
///
/// # Errors
/// If there are others after ten seconds, or the collector has ended.
pub fn reap(collector: libc::pid_t) -> Result<(), OrphanError> {
    // SAFETY: all-zero is a valid set, and both calls only write to it.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `signals` is writable.
    unsafe {
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGCHLD);
        // Blocked before the first wait, so that no death is missed between a wait and the pause after it.
        libc::sigprocmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
    }
    let result = reap_until_alone(collector, &signals);
    // SAFETY: as above.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const signals, std::ptr::null_mut()) };
    result
}

fn reap_until_alone(collector: libc::pid_t, signals: &libc::sigset_t) -> Result<(), OrphanError> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        if pid == collector {
            return Err(OrphanError::Collector { status });
        }
        if pid < 0 {
            return Err(OrphanError::Wait(io::Error::last_os_error()));
        }
        if pid > 0 {
            continue;
        }
        let tasks = children_of_init(collector).map_err(OrphanError::Wait)?;
        if tasks.is_empty() {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(OrphanError::Left { tasks, seconds: LIMIT.as_secs() });
        }
        let limit = libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(left.subsec_nanos()),
        };
        // SAFETY: both are readable, and no signal's details are asked for.
        unsafe { libc::sigtimedwait(signals, std::ptr::null_mut(), &raw const limit) };
    }
}

/// The children of PID 1 but for the collector. (`/proc/1/task/1/children` needs a symbol of its own.)
fn children_of_init(collector: libc::pid_t) -> io::Result<Vec<libc::pid_t>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A task that has gone meanwhile has no file any more.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if pid != collector && parent_in(&stat) == Some(1) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The parent's pid in `/proc/PID/stat`: the second field behind the name, which may hold blanks and parentheses.
fn parent_in(stat: &str) -> Option<libc::pid_t> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_in("57 (a) b (c)) S 1 57 57 0 -1 4194560"), Some(1));
        assert_eq!(parent_in("2 (kthreadd) S 0 0 0 0 -1"), Some(0));
        assert_eq!(parent_in("garbage"), None);
    }
}
