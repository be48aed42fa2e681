// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a task reads about itself: its numbers in the initial pid namespace, and its ten namespaces.

use std::{ffi::CStr, io, os::fd::RawFd};

use nstrail_wire::namespace::{NamespaceEntry, NamespaceIds, NamespaceSet};

use super::inherited::{self, PROC};

/// `_IOR(0xb7, 13, __u64)` of include/uapi/linux/nsfs.h.
const NS_GET_ID: libc::Ioctl = 0x8008_b70d_u32 as libc::Ioctl;

/// Numbers of a task in the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub pid: u32,
    pub tid: u32,
}

impl Numbers {
    /// Of a task in the initial pid namespace.
    pub fn own() -> Self {
        // SAFETY: plain system calls.
        let (pid, tid) = unsafe { (libc::getpid(), libc::gettid()) };
        Self { pid: pid as u32, tid: tid as u32 }
    }
}

const fn file_name(entry: NamespaceEntry) -> &'static CStr {
    match entry {
        NamespaceEntry::Cgroup => c"cgroup",
        NamespaceEntry::Ipc => c"ipc",
        NamespaceEntry::Mnt => c"mnt",
        NamespaceEntry::Net => c"net",
        NamespaceEntry::Pid => c"pid",
        NamespaceEntry::PidForChildren => c"pid_for_children",
        NamespaceEntry::Time => c"time",
        NamespaceEntry::TimeForChildren => c"time_for_children",
        NamespaceEntry::User => c"user",
        NamespaceEntry::Uts => c"uts",
    }
}

/// The calling thread's numbers: the initial proc's `thread-self` is `PID/task/TID` as its pid namespace counts.
pub fn numbers() -> io::Result<Numbers> {
    let mut room = [0; 64];
    let link = read_link(PROC, c"thread-self", &mut room)?;
    let mut parts = link.split(|byte| *byte == b'/');
    let pid = parts.next().and_then(decimal);
    let tid = parts.nth(1).and_then(decimal);
    match (pid, tid) {
        (Some(pid), Some(tid)) => Ok(Numbers { pid, tid }),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The namespaces of the calling thread, which has these numbers.
pub fn namespaces_of(numbers: Numbers) -> io::Result<NamespaceSet> {
    // Each new task has inodes of its own in /proc: two folders less is a tenth of what a container costs here.
    if numbers.pid == numbers.tid { namespaces_in(c"self/ns") } else { namespaces() }
}

/// The calling thread's namespaces.
pub fn namespaces() -> io::Result<NamespaceSet> {
    namespaces_in(c"thread-self/ns")
}

/// The namespaces in a folder of the initial proc, as `thread-self/ns`.
pub fn namespaces_in(path: &CStr) -> io::Result<NamespaceSet> {
    // One walk to the folder instead of ten: it is the dear part.
    let directory = inherited::open_at(PROC, path, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)?;
    let mut set = NamespaceSet::default();
    let mut result = Ok(());
    for entry in NamespaceEntry::ALL {
        match inum(directory, file_name(entry)) {
            Ok(inum) => set.set(entry, inum),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    inherited::close(directory);
    result.map(|()| set)
}

/// The ids of the calling thread's namespaces; `None` on a kernel without such ids.
pub fn ids() -> io::Result<Option<NamespaceIds>> {
    ids_in(PROC, c"thread-self/ns")
}

/// The ids of the namespaces in a folder as `/proc/thread-self/ns`.
pub fn ids_in(at: RawFd, path: &CStr) -> io::Result<Option<NamespaceIds>> {
    let directory = inherited::open_at(at, path, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)?;
    let mut ids = NamespaceIds::default();
    let mut result = Ok(Some(()));
    for (entry, place) in NamespaceEntry::ALL.into_iter().zip(&mut ids.0) {
        match id(directory, file_name(entry)) {
            Ok(Some(id)) => *place = id,
            Ok(None) => {
                result = Ok(None);
                break;
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    inherited::close(directory);
    result.map(|some| some.map(|()| ids))
}

/// The id of one namespace; 0 if there is none to ask for.
fn id(directory: RawFd, name: &CStr) -> io::Result<Option<u64>> {
    let file = match inherited::open_at(directory, name, libc::O_RDONLY | libc::O_CLOEXEC) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
        Err(error) => return Err(error),
    };
    let mut id = 0_u64;
    // SAFETY: `id` is writable for the eight bytes that the number of the call says.
    let result = inherited::check(unsafe { libc::ioctl(file, NS_GET_ID, &raw mut id) }.into());
    inherited::close(file);
    match result {
        Ok(_) => Ok(Some(id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The inode number of an open file of nsfs.
pub fn inum_of(file: RawFd) -> io::Result<u32> {
    // SAFETY: all-zero is a valid `stat`, and the call fills it.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is writable.
    inherited::check(unsafe { libc::fstat(file, &raw mut stat) }.into())?;
    u32::try_from(stat.st_ino).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The number in a link `TYPE:[NUMBER]`; 0 if there is none to read.
fn inum(directory: RawFd, name: &CStr) -> io::Result<u32> {
    let mut room = [0; 64];
    let link = match read_link(directory, name, &mut room) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    link.split(|byte| *byte == b'[')
        .nth(1)
        .and_then(|rest| rest.strip_suffix(b"]"))
        .and_then(decimal)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn read_link<'a>(directory: RawFd, path: &CStr, room: &'a mut [u8; 64]) -> io::Result<&'a [u8]> {
    // SAFETY: `path` is a C string and `room` is writable for its length.
    let length = unsafe { libc::readlinkat(directory, path.as_ptr(), room.as_mut_ptr().cast(), room.len()) };
    inherited::check(length as libc::c_long).map(|length| &room[..length as usize])
}

fn decimal(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
