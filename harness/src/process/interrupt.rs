// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGINT, SIGTERM and SIGHUP: no group outlives them.
//!
//! Children lead groups of their own, so the terminal's Ctrl-C reaches only us. [`install`] starts
//! a thread that takes the signals, sets a flag that the stages look at ([`requested`]), and ends
//! every registered group: SIGTERM, then SIGKILL for those that stay. The stages then fall out of
//! their waits with [`super::ProcessError::Interrupted`] and clean up on the usual way. A second
//! signal kills everything and exits at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The signal that asked us to stop; 0 for none yet.
static REQUESTED: AtomicI32 = AtomicI32::new(0);

/// The groups that are alive, with their grace. A group is taken out before its leader is reaped,
/// under this lock: so an id in here is never one that was handed out again.
static GROUPS: Mutex<BTreeMap<i32, Duration>> = Mutex::new(BTreeMap::new());

/// Starts the signal thread, once for the process.
///
/// # Errors
/// The signals could not be hooked or the thread not be started.
pub fn install() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = start_thread());
    result
}

fn start_thread() -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if REQUESTED.swap(signal, Ordering::SeqCst) != 0 {
                signal_all(libc::SIGKILL, |_| true);
                std::process::exit(128 + signal);
            }
            // The grace runs in a thread of its own: this one must hear the second signal.
            let ending = thread::Builder::new().name("interrupt".into()).spawn(end_all);
            if ending.is_err() {
                signal_all(libc::SIGKILL, |_| true);
            }
        }
    })?;
    Ok(())
}

/// Asks everything to stop, as SIGINT would.
pub fn request() {
    REQUESTED.store(libc::SIGINT, Ordering::SeqCst);
    end_all();
}

/// The signal that asked us to stop, if one has.
pub fn requested() -> Option<i32> {
    match REQUESTED.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(signal),
    }
}

fn end_all() {
    signal_all(libc::SIGTERM, |_| true);
    let start = Instant::now();
    while !groups().is_empty() {
        signal_all(libc::SIGKILL, |grace| start.elapsed() >= grace);
        thread::sleep(Duration::from_millis(20));
    }
}

fn signal_all(signal: i32, which: impl Fn(Duration) -> bool) {
    for (&group, &grace) in groups().iter() {
        if which(grace) {
            kill_group(group, signal);
        }
    }
}

pub(super) fn groups() -> MutexGuard<'static, BTreeMap<i32, Duration>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a signal to a group whose leader is not reaped yet. An error can only say that nobody is
/// left to be signalled.
pub(super) fn kill_group(group: i32, signal: i32) {
    // SAFETY: kill takes two integers and touches no memory.
    unsafe {
        libc::kill(-group, signal);
    }
}
