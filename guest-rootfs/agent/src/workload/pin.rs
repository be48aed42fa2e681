// SPDX-License-Identifier: MIT OR Apache-2.0
//! Namespaces that outlive their members, as `ip netns` and container managers keep them: by an open file, or by a mount.

use std::{ffi::CString, io};

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

/// Does a [`Step::Pin`](nstrail_wire::step::Step::Pin).
pub fn pin(task: &mut Task, step: &Pin) -> Result<(), StepError> {
    let mut files = Vec::new();
    for r#type in &step.types {
        files.push((*r#type, moves::nsfs(task, &step.target, *r#type)?));
    }
    let kind = match step.by {
        PinBy::File => LabelKind::Pinned(files),
        PinBy::Mount => {
            for (r#type, file) in files {
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
