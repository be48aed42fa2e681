// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every task of a workload holds at fixed file descriptors, whatever namespaces it is in.
//!
//! The ledger has 100 and 101. None of them closes on exec: an image that comes through exec finds all it needs.

use std::{ffi::CStr, io, os::fd::RawFd};

/// The memory that tasks share ([`super::shared`]).
pub const SHARED: RawFd = 102;
/// The proc file system of the initial pid namespace: its numbers and links are what the ledger is made of,
/// and a path through this descriptor depends on no mount namespace and no root directory.
pub const PROC: RawFd = 103;
/// The agent's own executable.
pub const EXECUTABLE: RawFd = 104;
/// A pidfd of the agent's main task.
pub const MAIN: RawFd = 105;
/// The socket of a task that listens for datagrams; others borrow it by this number.
pub const RECEIVER: RawFd = 106;

/// Opens [`PROC`], [`EXECUTABLE`] and [`MAIN`].
pub fn open() -> io::Result<()> {
    for (path, flags, to) in
        [(c"/proc", libc::O_PATH | libc::O_DIRECTORY, PROC), (c"/proc/self/exe", libc::O_PATH, EXECUTABLE)]
    {
        move_to(open_at(libc::AT_FDCWD, path, flags)?, to)?;
    }
    // SAFETY: plain system call without pointers.
    let main = check(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })?;
    move_to(main as RawFd, MAIN)
}

/// Moves a descriptor to a fixed place, where it survives exec.
pub fn move_to(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: plain system calls; `to` is ours by the convention above.
    check(unsafe { libc::dup2(from, to) }.into())?;
    close(from);
    Ok(())
}

/// `openat(2)` without CLOEXEC.
pub fn open_at(directory: RawFd, path: &CStr, flags: libc::c_int) -> io::Result<RawFd> {
    // SAFETY: `path` is a C string.
    check(unsafe { libc::openat(directory, path.as_ptr(), flags, 0o600) }.into()).map(|fd| fd as RawFd)
}

/// Writes `text` to a file under the initial proc, in one write.
pub fn write_proc(path: &CStr, text: &[u8]) -> io::Result<()> {
    write_at(PROC, path, text)
}

/// Writes `text` to a file that is there, in one write.
pub fn write_at(directory: RawFd, path: &CStr, text: &[u8]) -> io::Result<()> {
    let file = open_at(directory, path, libc::O_WRONLY)?;
    // SAFETY: `text` is readable for its length.
    let result = check(unsafe { libc::write(file, text.as_ptr().cast(), text.len()) } as libc::c_long);
    close(file);
    result.map(drop)
}

/// Reads up to `room.len()` bytes of a file under the initial proc.
pub fn read_proc<'a>(path: &CStr, room: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let file = open_at(PROC, path, libc::O_RDONLY)?;
    // SAFETY: `room` is writable for its length.
    let result = check(unsafe { libc::read(file, room.as_mut_ptr().cast(), room.len()) } as libc::c_long);
    close(file);
    result.map(|length| &room[..length as usize])
}

/// Closes a descriptor of this task.
pub fn close(fd: RawFd) {
    // SAFETY: callers own `fd` and do not use it again.
    unsafe { libc::close(fd) };
}

/// The result of a raw call, or its errno.
pub fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
