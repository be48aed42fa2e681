// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file systems that PID 1 mounts.

use std::{
    ffi::{CStr, CString},
    fs, io,
};

use thiserror::Error;

/// A file system that cannot be mounted.
#[derive(Debug, Error)]
#[error(
    "{kind} cannot be mounted on {target}: {source} (hint: was the kernel built with all of kernel-configs/?)"
)]
pub struct MountError {
    kind: &'static str,
    target: &'static str,
    source: io::Error,
}

struct Mount {
    kind: &'static CStr,
    target: &'static str,
    flags: libc::c_ulong,
    options: Option<&'static CStr>,
}

const SAFE: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;

/// What finding the ports takes.
const EARLY: [Mount; 3] = [
    Mount { kind: c"proc", target: "/proc", flags: SAFE | libc::MS_NOEXEC, options: None },
    Mount { kind: c"sysfs", target: "/sys", flags: SAFE | libc::MS_NOEXEC, options: None },
    Mount { kind: c"devtmpfs", target: "/dev", flags: libc::MS_NOSUID, options: Some(c"mode=0755") },
];

/// What workloads may need besides.
const LATE: [Mount; 3] = [
    Mount { kind: c"tmpfs", target: "/run", flags: SAFE, options: Some(c"mode=0755") },
    Mount { kind: c"tmpfs", target: "/tmp", flags: SAFE, options: Some(c"mode=1777") },
    Mount { kind: c"cgroup2", target: "/sys/fs/cgroup", flags: SAFE | libc::MS_NOEXEC, options: None },
];

/// Mounts `/proc`, `/sys` and `/dev`.
///
/// # Errors
/// The first that fails.
pub fn mount_early() -> Result<(), MountError> {
    EARLY.iter().try_for_each(Mount::mount)
}

/// Mounts `/run`, `/tmp` and the cgroup hierarchy.
///
/// # Errors
/// The first that fails.
pub fn mount_late() -> Result<(), MountError> {
    LATE.iter().try_for_each(Mount::mount)
}

impl Mount {
    fn mount(&self) -> Result<(), MountError> {
        let kind = self.kind.to_str().unwrap_or("file system");
        let failed = |source| MountError { kind, target: self.target, source };
        match fs::create_dir(self.target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        mount(self.kind, self.target, self.kind, self.flags, self.options).map_err(failed)
    }
}

/// Where [`mount_debugfs`] mounts.
pub const DEBUGFS: &str = "/sys/kernel/debug";

/// Mounts debugfs, unless it is mounted already.
///
/// # Errors
/// What the kernel says: it may be built without it.
pub fn mount_debugfs() -> io::Result<()> {
    match mount(c"none", DEBUGFS, c"debugfs", 0, None) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        result => result,
    }
}

/// `mount(2)`.
///
/// # Errors
/// What the kernel says.
pub fn mount(
    source: &CStr,
    target: &str,
    kind: &CStr,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> io::Result<()> {
    let target = CString::new(target).map_err(io::Error::other)?;
    let options = options.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: all pointers are C strings that live until the call returns, or null for no options.
    let result =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.cast()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
