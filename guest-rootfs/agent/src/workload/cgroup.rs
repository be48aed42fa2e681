// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cgroup for one task to be born in (CLONE_INTO_CGROUP), on a mount that no path leads to.

use std::{
    ffi::{CString, c_void},
    io,
    os::fd::RawFd,
    ptr,
};

use nstrail_wire::fact::ActorId;

use super::{error::StepError, inherited};

/// A cgroup, empty until a task is made in it.
#[derive(Debug)]
pub struct Cgroup {
    mount: RawFd,
    name: CString,
    fd: RawFd,
}

const FSCONFIG_CMD_CREATE: u32 = 6;

impl Cgroup {
    /// Makes a cgroup named after the task that will live in it.
    pub fn make(maker: ActorId) -> Result<Self, StepError> {
        let mount = mount().map_err(StepError::call("mount of cgroup2"))?;
        let name = CString::new(format!("nstrail-{}", maker.0)).unwrap_or_default();
        // SAFETY: `name` is a C string.
        inherited::check(unsafe { libc::mkdirat(mount, name.as_ptr(), 0o700) }.into())
            .map_err(StepError::call("mkdir of a cgroup"))?;
        let fd = inherited::open_at(mount, &name, libc::O_RDONLY | libc::O_DIRECTORY)
            .map_err(StepError::call("open of a cgroup"))?;
        Ok(Self { mount, name, fd })
    }

    /// Its directory.
    pub const fn fd(&self) -> RawFd {
        self.fd
    }

    /// Lets no process in.
    pub fn fill(&self) -> Result<(), StepError> {
        inherited::write_at(self.mount, c"cgroup.subtree_control", b"+pids")
            .and_then(|()| inherited::write_at(self.fd, c"pids.max", b"0"))
            .map_err(StepError::call("pids.max"))
    }

    /// Removes it, when its task is gone.
    pub fn remove(self) -> Result<(), StepError> {
        inherited::close(self.fd);
        // SAFETY: `name` is a C string.
        let result = unsafe { libc::unlinkat(self.mount, self.name.as_ptr(), libc::AT_REMOVEDIR) };
        inherited::check(result.into()).map_err(StepError::call("rmdir of a cgroup"))?;
        inherited::close(self.mount);
        Ok(())
    }
}

fn mount() -> io::Result<RawFd> {
    // SAFETY: the name is a C string.
    let context = inherited::check(unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), 0) })?;
    let none = ptr::null::<c_void>();
    // SAFETY: the command takes no key and no value.
    inherited::check(unsafe {
        libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, none, none, 0)
    })?;
    // SAFETY: plain system call without pointers.
    let mount = inherited::check(unsafe { libc::syscall(libc::SYS_fsmount, context, 0, 0) })?;
    inherited::close(context as RawFd);
    Ok(mount as RawFd)
}
