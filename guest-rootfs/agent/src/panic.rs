// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a panic, in whichever task of the guest it happens.
//!
//! The text goes to the console and, through the ledger's pipe, to the host as `GuestMessage::Failed`.
//! A workload's task then ends at once: unwinding would lead it out of its own code into that of the
//! task that it was cloned from, up to PID 1's end of the run.

use std::{
    io::{self, Write},
    panic::PanicHookInfo,
    sync::OnceLock,
};

use crate::{collector::LEDGER_THREAD, ledger::report_failure};

/// The exit status of a task that panicked, as Rust's own.
pub const STATUS: i32 = 101;

/// A page that reads as zero in every task that was forked from the one that filled it.
///
/// A PID does not tell: the first task of each pid namespace is 1 in its own eyes.
static MARK: OnceLock<usize> = OnceLock::new();

/// Makes the calling process one that outlives a panic of a thread. What it forks is not.
///
/// # Errors
/// If the page cannot be had.
pub fn survive() -> io::Result<()> {
    let size = 4096;
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the whole of the mapping just made, which nobody else knows.
    if unsafe { libc::madvise(page, size, libc::MADV_WIPEONFORK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mark = *MARK.get_or_init(|| page as usize);
    // SAFETY: `mark` is the address of a page that is mapped for good.
    unsafe { (mark as *mut u8).write_volatile(1) };
    Ok(())
}

fn survives() -> bool {
    // SAFETY: the address of a page that is mapped for good, also in every fork.
    MARK.get().is_some_and(|mark| unsafe { (*mark as *const u8).read_volatile() } == 1)
}

/// Installs the hook. To be called first, in every image.
pub fn install() {
    std::panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let text = format!("agent, process {}: {info}", std::process::id());
    // Neither can be helped if it fails.
    drop(writeln!(io::stderr(), "nstrail: {text}"));
    drop(report_failure(text.as_bytes()));
    if !survives() || thread.name() == Some(LEDGER_THREAD) {
        // SAFETY: ends the process; nothing of it is to be cleaned up.
        unsafe { libc::_exit(STATUS) };
    }
}
