// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of the guest.

use std::{
    fs::File,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

/// How long the host may take to read what is still on its way, and to hang up.
const LIMIT: Duration = Duration::from_secs(10);

/// Waits until the host has closed the control port: a restart before that could lose what the host's side of the ports
/// has not taken yet. Not longer than ten seconds.
pub fn await_hang_up(control: &File) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: control.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as libc::c_int) };
        if poll.revents & (libc::POLLHUP | libc::POLLERR) != 0 || left.is_zero() {
            return;
        }
    }
}

/// Ends the machine: QEMU runs with `-no-reboot`, and a restart needs no ACPI.
pub fn end() -> ! {
    // SAFETY: plain system call.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    // Only without CAP_SYS_BOOT. PID 1 must not return: that would be a panic, and look like one of the kernel's.
    loop {
        // SAFETY: plain system call.
        unsafe { libc::pause() };
    }
}
