// SPDX-License-Identifier: MIT OR Apache-2.0
//! A task moves itself: unshare and setns.

use std::{ffi::CString, os::fd::RawFd};

use nstrail_wire::{
    fact::{Call, Outcome},
    namespace::{NamespaceType, UNSHARE_EMPTY_MNTNS},
    step::{JoinBy, Setns, Unshare},
};

use super::{
    error::StepError,
    inherited::{self, MAIN, PROC},
    pin, privilege,
    spawn::{LabelKind, bits, pidfd_open},
    task::{Task, hold},
};

/// Above any descriptor that is ever open.
const CLOSED: RawFd = 999_999;

fn outcome(result: libc::c_long) -> (Outcome, Option<i32>) {
    match inherited::check(result) {
        Ok(_) => (Outcome::Done, None),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            (Outcome::Failed { errno }, Some(errno))
        }
    }
}

/// Does a [`Step::Unshare`](nstrail_wire::step::Step::Unshare).
pub fn unshare(task: &mut Task, step: &Unshare) -> Result<(), StepError> {
    let flags = bits(&step.flags) | u64::from(step.unknown);
    let passed =
        if step.empty_mntns { flags & !NamespaceType::Mnt.flag() | UNSHARE_EMPTY_MNTNS } else { flags };
    // SAFETY: plain system call without pointers.
    let (outcome, errno) = outcome(unsafe { libc::syscall(libc::SYS_unshare, passed) });
    task.tell_operation(Call::Unshare, flags, passed, outcome)?;
    if errno.is_none() && step.flags.contains(&NamespaceType::User) {
        privilege::map_root()?;
    }
    hold(&format!("unshare {flags:#x}"), errno, step.expect)
}

/// Does a [`Step::Setns`](nstrail_wire::step::Step::Setns).
pub fn setns(task: &mut Task, step: &Setns) -> Result<(), StepError> {
    match step.by {
        JoinBy::Nsfs => {
            for r#type in &step.types {
                let file = nsfs(task, &step.target, *r#type)?;
                let passed = step.passed.as_ref().map_or(r#type.flag(), |types| bits(types));
                let result = join(task, file, r#type.flag(), passed, step);
                inherited::close(file);
                result?;
            }
            Ok(())
        }
        JoinBy::Pidfd | JoinBy::OrdinaryFile | JoinBy::ClosedFile => {
            let flags = bits(&step.types);
            let passed = step.passed.as_ref().map_or(flags, |types| bits(types));
            let (file, own) = match (step.by, step.target.as_str()) {
                (JoinBy::OrdinaryFile, _) => (inherited::open_at(PROC, c"stat", libc::O_RDONLY), true),
                (JoinBy::ClosedFile, _) => (Ok(CLOSED), false),
                // SAFETY: plain system call.
                (_, "self") => (Ok(pidfd_open(unsafe { libc::getpid() })?), true),
                (_, "init") => (Ok(MAIN), false),
                (_, label) => match find(task, label)? {
                    LabelKind::Task { pidfd, .. } => (Ok(*pidfd), false),
                    _ => return Err(StepError::Scenario("what is pinned has no pidfd")),
                },
            };
            let file = file.map_err(StepError::call("open of an ordinary file"))?;
            let result = join(task, file, flags, passed, step);
            if own {
                inherited::close(file);
            }
            result
        }
    }
}

fn join(task: &mut Task, file: RawFd, flags: u64, passed: u64, step: &Setns) -> Result<(), StepError> {
    // SAFETY: plain system call without pointers.
    let (outcome, errno) = outcome(unsafe { libc::syscall(libc::SYS_setns, file, passed) });
    task.tell_operation(Call::Setns, flags, passed, outcome)?;
    hold(&format!("setns {flags:#x} (passed {passed:#x})"), errno, step.expect)
}

/// Opens a file of nsfs.
pub fn nsfs(task: &Task, target: &str, r#type: NamespaceType) -> Result<RawFd, StepError> {
    let (directory, path) = match target {
        "self" => (PROC, format!("thread-self/ns/{}", r#type.entry())),
        "init" => (PROC, format!("1/ns/{}", r#type.entry())),
        label => match find(task, label)? {
            LabelKind::Task { tid, .. } => (PROC, format!("{tid}/ns/{}", r#type.entry())),
            LabelKind::Mounted(_) => (libc::AT_FDCWD, pin::mount_point(label, r#type)),
            LabelKind::Pinned(files) => {
                let held = files.iter().find(|(held, _)| *held == r#type);
                let (_, file) = held.ok_or_else(|| StepError::Label(label.to_owned()))?;
                // SAFETY: plain system call on a descriptor that is open.
                let copy = inherited::check(unsafe { libc::dup(*file) }.into());
                return copy.map(|fd| fd as RawFd).map_err(StepError::call("dup"));
            }
        },
    };
    let path = CString::new(path).map_err(|_| StepError::Scenario("label holds a NUL"))?;
    inherited::open_at(directory, &path, libc::O_RDONLY).map_err(StepError::call("open of a namespace file"))
}

/// What a label stands for.
pub fn find<'a>(task: &'a Task, label: &str) -> Result<&'a LabelKind, StepError> {
    let found = task.labels.iter().rev().find(|known| known.name == label);
    found.map(|known| &known.kind).ok_or_else(|| StepError::Label(label.to_owned()))
}
