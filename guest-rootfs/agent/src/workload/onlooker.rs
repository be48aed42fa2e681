// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one task sees of all others: their places in the initial /proc, and the namespaces that listns(2) lists.
//!
//! A task that sleeps tells nothing, and does not notice what becomes of its set meanwhile. An onlooker does.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::RawFd,
    sync::atomic::Ordering,
};

use nstrail_wire::{fact::Act, namespace::NamespaceIds};

use super::{
    census,
    error::StepError,
    inherited::{self, PROC},
    task::Task,
};
use crate::ledger::Ledger;

/// `PF_KTHREAD` of include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;
/// Of include/uapi/asm-generic/unistd.h, since 6.19.
const SYS_LISTNS: libc::c_long = 470;
/// Ids asked for at a time.
const PAGE: usize = 256;

/// `struct ns_id_req` of include/uapi/linux/nsfs.h.
#[derive(Debug)]
#[repr(C)]
struct NsIdReq {
    size: u32,
    spare: u32,
    ns_id: u64,
    ns_type: u32,
    spare2: u32,
    user_ns_id: u64,
}

/// Does a [`Step::Census`](nstrail_wire::step::Step::Census).
pub fn step(task: &mut Task) -> Result<(), StepError> {
    if task.stage.ledger.is_off() {
        return Ok(());
    }
    let others =
        Others { own: task.numbers.tid, collector: task.stage.shared.collector.load(Ordering::Relaxed) };
    others.look(&mut |act| task.tell(act))
}

/// As the agent's main task sees the guest at a fence, when none of a workload should be left.
pub fn at_fence(ledger: &Ledger, collector: u32) -> Result<(), StepError> {
    if ledger.is_off() {
        return Ok(());
    }
    Others { own: 1, collector }.look(&mut |act| ledger.write_main(act).map_err(StepError::call("ledger")))
}

/// Tells a fact.
type Tell<'a> = &'a mut dyn FnMut(Act) -> Result<(), StepError>;

/// All tasks but the one that looks, and the agent's own: those have told their set, and do nothing of a workload.
struct Others {
    /// The tid of the one that looks.
    own: u32,
    collector: u32,
}

impl Others {
    fn look(&self, tell: Tell<'_>) -> Result<(), StepError> {
        let listed = list().map_err(StepError::call("listns"))?;
        let mut tasks = 0;
        for pid in numbers(c".").map_err(StepError::call("census of /proc"))? {
            if pid == 1 || pid == self.collector {
                continue;
            }
            let Some(threads) = there(numbers(&path(&format!("{pid}/task"))))? else { continue };
            for tid in threads {
                if tid == self.own {
                    continue;
                }
                if let Some(act) = see(pid, tid, listed.as_deref())? {
                    tell(act)?;
                    tasks += 1;
                }
            }
        }
        tell(Act::Census { tasks })
    }
}

/// One task; `None` if it is none of user space, or has ended.
fn see(pid: u32, tid: u32, listed: Option<&[u64]>) -> Result<Option<Act>, StepError> {
    if !there(lives(&path(&format!("{pid}/task/{tid}/stat"))))?.unwrap_or(false) {
        return Ok(None);
    }
    let folder = path(&format!("{pid}/task/{tid}/ns"));
    let (Some(set), Some(ids)) =
        (there(census::namespaces_in(&folder))?, there(census::ids_in(PROC, &folder))?)
    else {
        return Ok(None);
    };
    let missing = |id: u64| listed.is_some_and(|listed| !listed.contains(&id));
    let unlisted = ids.map_or(NamespaceIds::default(), |ids| {
        NamespaceIds(ids.0.map(|id| if id != 0 && missing(id) { id } else { 0 }))
    });
    Ok(Some(Act::Seen { of: tid, set, ids, unlisted }))
}

/// `None` if the task has gone.
fn there<T>(found: io::Result<T>) -> Result<Option<T>, StepError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(error) => Err(StepError::Call { what: "census of /proc", source: error }),
    }
}

/// Whether the task of this `stat` is one of user space that has not ended (proc_pid_stat(5)).
fn lives(stat: &CStr) -> io::Result<bool> {
    let mut room = [0; 512];
    let text = inherited::read_proc(stat, &mut room)?;
    // The name may hold anything, also `)`.
    let after = text.iter().rposition(|byte| *byte == b')').map(|at| &text[at + 1..]);
    let fields = after.and_then(|after| std::str::from_utf8(after).ok()).unwrap_or_default();
    let mut fields = fields.split_ascii_whitespace();
    let (state, flags) = (fields.next(), fields.nth(5).and_then(|flags| flags.parse::<u32>().ok()));
    match (state, flags) {
        (Some(state), Some(flags)) => Ok(!matches!(state, "Z" | "X") && flags & PF_KTHREAD == 0),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The names in a folder of the initial proc that are numbers.
pub(super) fn numbers(folder: &CStr) -> io::Result<Vec<u32>> {
    let file = inherited::open_at(PROC, folder, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)?;
    let mut numbers = Vec::new();
    let result = read_numbers(file, &mut numbers);
    inherited::close(file);
    result.map(|()| numbers)
}

/// As the kernel gives them: `struct linux_dirent64` is inode u64, offset i64, length u16, type u8, name.
fn read_numbers(folder: RawFd, numbers: &mut Vec<u32>) -> io::Result<()> {
    let mut room = [0_u8; 4096];
    loop {
        // SAFETY: `room` is writable for its length.
        let result = unsafe { libc::syscall(libc::SYS_getdents64, folder, room.as_mut_ptr(), room.len()) };
        let mut entries = &room[..inherited::check(result)? as usize];
        if entries.is_empty() {
            return Ok(());
        }
        while let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, ..] = entries {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            let name = entries.get(19..length).ok_or(io::ErrorKind::InvalidData)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            numbers.extend(std::str::from_utf8(name).ok().and_then(|name| name.parse::<u32>().ok()));
            entries = &entries[length..];
        }
    }
}

fn path(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// The ids of all namespaces of the system that are in use; `None` on a kernel without that call.
fn list() -> io::Result<Option<Vec<u64>>> {
    let mut all: Vec<u64> = Vec::new();
    loop {
        let request = NsIdReq {
            size: size_of::<NsIdReq>() as u32,
            spare: 0,
            ns_id: all.last().copied().unwrap_or(0),
            ns_type: 0,
            spare2: 0,
            user_ns_id: 0,
        };
        let mut page = [0_u64; PAGE];
        // SAFETY: the request is readable for the size that it says, and `page` writable for its length.
        let result =
            unsafe { libc::syscall(SYS_LISTNS, &raw const request, page.as_mut_ptr(), page.len(), 0) };
        match inherited::check(result) {
            Ok(0) => return Ok(Some(all)),
            Ok(number) => all.extend(&page[..number as usize]),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(None),
            // Nothing behind the last one.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && !all.is_empty() => {
                return Ok(Some(all));
            }
            Err(error) => return Err(error),
        }
    }
}
