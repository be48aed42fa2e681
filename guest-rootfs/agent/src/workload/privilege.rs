// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a task may do: its capabilities, its user namespace's mapping and limits, sysctls.

use std::ffi::CString;

use nstrail_wire::namespace::NamespaceType;

use super::{error::StepError, inherited};

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;

/// Gives up all capabilities of the calling thread.
pub fn drop_capabilities() -> Result<(), StepError> {
    let header = [VERSION, 0];
    let none = [0_u32; 6];
    // SAFETY: a header and two data structures of three words, as version 3 has them.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    inherited::check(result).map(drop).map_err(StepError::call("capset"))
}

/// Becomes another user, and loses all capabilities with that. A raw call: threads of other tasks are none of its business.
pub fn become_user(uid: u32) -> Result<(), StepError> {
    // SAFETY: plain system call without pointers.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    inherited::check(result).map(drop).map_err(StepError::call("setresuid"))
}

/// RLIMIT_NPROC of the calling process.
pub fn limit_processes(max: u32) -> Result<(), StepError> {
    let limit = libc::rlimit64 { rlim_cur: max.into(), rlim_max: max.into() };
    // SAFETY: `limit` is readable.
    let result = unsafe { libc::syscall(libc::SYS_setrlimit, libc::RLIMIT_NPROC, &raw const limit) };
    inherited::check(result).map(drop).map_err(StepError::call("setrlimit"))
}

/// Maps root to the root outside, in the user namespace that the calling process has just made.
///
/// Without a mapping it could not make further user namespaces below (kernel/user_namespace.c:create_user_ns).
pub fn map_root() -> Result<(), StepError> {
    inherited::write_proc(c"self/setgroups", b"deny").map_err(StepError::call("setgroups"))?;
    inherited::write_proc(c"self/uid_map", b"0 0 1").map_err(StepError::call("uid_map"))?;
    inherited::write_proc(c"self/gid_map", b"0 0 1").map_err(StepError::call("gid_map"))
}

/// Limits how many namespaces of a type can be made below the task's user namespace.
pub fn limit(r#type: NamespaceType, max: u32) -> Result<(), StepError> {
    let path = CString::new(format!("sys/user/max_{}_namespaces", r#type.entry())).unwrap_or_default();
    inherited::write_proc(&path, max.to_string().as_bytes()).map_err(StepError::call("user.max_*_namespaces"))
}

/// Writes a sysctl by its dotted name.
pub fn sysctl(name: &str, value: u32) -> Result<(), StepError> {
    let path = CString::new(format!("sys/{}", name.replace('.', "/"))).unwrap_or_default();
    inherited::write_proc(&path, value.to_string().as_bytes()).map_err(StepError::call("sysctl"))
}
