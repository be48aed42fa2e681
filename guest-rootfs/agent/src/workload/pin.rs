// SPDX-License-Identifier: MIT OR Apache-2.0
//! Namespaces that outlive their members, as `ip netns` and container managers keep them: by an open file, or by a mount.

use std::{ffi::CString, io, os::fd::RawFd, ptr};

use nstrail_wire::{
    namespace::NamespaceType,
    step::{Pin, PinBy},
};

use super::{
    error::StepError,
    inherited, moves,
    spawn::{Label, LabelKind},
    task::Task,
};
use crate::mounts;

/// Values of include/uapi/linux/mount.h.
const OPEN_TREE_NAMESPACE: libc::c_uint = 1 << 1;
const FSMOUNT_NAMESPACE: libc::c_uint = 2;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// Does a [`Step::Pin`](nstrail_wire::step::Step::Pin).
pub fn pin(task: &mut Task, step: &Pin) -> Result<(), StepError> {
    let files = || -> Result<Vec<_>, StepError> {
        let file = |r#type: &NamespaceType| Ok((*r#type, moves::nsfs(task, &step.target, *r#type)?));
        step.types.iter().map(file).collect()
    };
    let new = |file: io::Result<RawFd>, call| {
        Ok::<_, StepError>(LabelKind::Pinned(vec![(
            NamespaceType::Mnt,
            file.map_err(StepError::call(call))?,
        )]))
    };
    let kind = match step.by {
        PinBy::File => LabelKind::Pinned(files()?),
        PinBy::OpenTree => new(open_tree(), "open_tree(OPEN_TREE_NAMESPACE)")?,
        PinBy::Fsmount => new(fsmount(), "fsmount(FSMOUNT_NAMESPACE)")?,
        PinBy::Mount => {
            for (r#type, file) in files()? {
                let result = mount(file, &mount_point(&step.name, r#type));
                inherited::close(file);
                result.map_err(StepError::call("mount of a namespace file"))?;
            }
            LabelKind::Mounted(step.types.clone())
        }
    };
    task.labels.push(Label { name: step.name.clone(), kind });
    Ok(())
}

/// Does a [`Step::Unpin`](nstrail_wire::step::Step::Unpin).
pub fn unpin(task: &mut Task, name: &str) -> Result<(), StepError> {
    let at = task.labels.iter().rposition(|label| label.name == name);
    match task.labels.remove(at.ok_or_else(|| StepError::Label(name.to_owned()))?).kind {
        LabelKind::Pinned(files) => files.iter().for_each(|(_, file)| inherited::close(*file)),
        LabelKind::Mounted(types) => {
            for r#type in types {
                unmount(&mount_point(name, r#type)).map_err(StepError::call("umount2"))?;
            }
        }
        LabelKind::Task { .. } => return Err(StepError::Label(name.to_owned())),
    }
    Ok(())
}

/// Where a namespace of a pin is mounted.
pub fn mount_point(name: &str, r#type: NamespaceType) -> String {
    format!("/run/nstrail-{name}-{}", r#type.entry())
}

fn mount(file: i32, target: &str) -> io::Result<()> {
    std::fs::write(target, b"")?;
    let source = CString::new(format!("/proc/thread-self/fd/{file}"))?;
    mounts::mount(&source, target, c"", libc::MS_BIND, None)
}

fn unmount(target: &str) -> io::Result<()> {
    let path = CString::new(target)?;
    // SAFETY: a C string.
    inherited::check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }.into())?;
    std::fs::remove_file(target)
}

/// A mount namespace with a copy of all that is mounted in the task's own: its file of nsfs, which does not close on exec.
fn open_tree() -> io::Result<RawFd> {
    let flags = OPEN_TREE_NAMESPACE | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: a C string.
    let file = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/".as_ptr(), flags) };
    inherited::check(file).map(|file| file as RawFd)
}

/// A mount namespace with a new tmpfs as its root.
fn fsmount() -> io::Result<RawFd> {
    // SAFETY: a C string.
    let context = inherited::check(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0) })?;
    let made = (|| {
        let none = ptr::null::<libc::c_char>();
        // SAFETY: the command takes neither key nor value.
        let created =
            unsafe { libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, none, none, 0) };
        inherited::check(created)?;
        // SAFETY: plain system call without pointers.
        inherited::check(unsafe { libc::syscall(libc::SYS_fsmount, context, FSMOUNT_NAMESPACE, 0) })
    })();
    inherited::close(context as RawFd);
    made.map(|file| file as RawFd)
}
