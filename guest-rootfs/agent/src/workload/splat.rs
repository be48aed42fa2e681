// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel that is broken on purpose, by lkdtm (Documentation/fault-injection/provoke-crashes.rst) or by the patch of
//! patches/splats, so that it complains on its console.
//!
//! The task that asks for it may not survive: it is a plain fork that does nothing else and that nobody is told of.

use std::{ffi::CString, io, path::Path};

use nstrail_wire::splat::Splat;

use super::{error::StepError, inherited};
use crate::mounts::{DEBUGFS, mount_debugfs};

/// Does a [`Step::Splat`](nstrail_wire::step::Step::Splat).
pub fn step(splat: Splat) -> Result<(), StepError> {
    let (breaker, fault) = splat.fault();
    let path = Path::new(DEBUGFS).join(breaker.file());
    if !path.exists() {
        mount_debugfs().map_err(StepError::call("debugfs"))?;
    }
    let path = CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| StepError::Scenario("the fault's file has a name with a zero in it"))?;
    // SAFETY: the child makes plain system calls with what was allocated before.
    let pid = inherited::check(unsafe { libc::fork() }.into()).map_err(StepError::call("fork"))? as i32;
    if pid == 0 {
        let written = inherited::write_at(libc::AT_FDCWD, &path, fault.as_bytes());
        let errno = written.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        // SAFETY: ends this process, whatever state it is in.
        unsafe { libc::_exit(errno) };
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    inherited::check(unsafe { libc::waitpid(pid, &raw mut status, 0) }.into())
        .map_err(StepError::call("wait for the fork that breaks the kernel"))?;
    match libc::WEXITSTATUS(status) {
        // A signal is the kernel's own: it ends a task that it has oopsed for.
        errno if libc::WIFEXITED(status) && errno != 0 => Err(StepError::Call {
            what: "the fault (was the kernel built with kernel-configs/lkdtm.config and patches/splats?)",
            source: io::Error::from_raw_os_error(errno),
        }),
        _ => Ok(()),
    }
}
