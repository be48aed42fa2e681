// SPDX-License-Identifier: MIT OR Apache-2.0
//! One io_uring operation, by hand.
//!
//! A mkdirat, which io_uring always leaves to a worker thread: its event is one of its own, because a worker is in no system call
//! (kernel/auditsc.c:__audit_uring_entry). Or an openat of what is in the cache, which is done at once: in the system call that submits it,
//! or by the thread that polls the ring.

use std::{
    ffi::{CStr, CString, c_void},
    io,
    os::fd::RawFd,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use nstrail_wire::fact::ProbeKind;

use super::{error::StepError, inherited, onlooker};

const IORING_OP_OPENAT: u8 = 18;
const IORING_OP_MKDIRAT: u8 = 37;
const IORING_SETUP_SQPOLL: u32 = 2;
const IORING_OFF_SQES: libc::off_t = 0x1000_0000;
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_ENTER_SQ_WAKEUP: u32 = 2;
/// It is on every mount of devtmpfs, and in the cache once it was looked up.
const CACHED: &CStr = c"/dev/null";

/// Whether a thread of the kernel's polls the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    No,
    Yes,
}

/// `struct io_uring_params` (include/uapi/linux/io_uring.h).
#[derive(Default)]
#[repr(C)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    resv: [u32; 3],
    sq: Offsets,
    cq: Offsets,
}

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`: the same size, other names.
#[derive(Default)]
#[repr(C)]
struct Offsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    /// SQ: flags; CQ: overflow.
    word4: u32,
    /// SQ: dropped; CQ: cqes.
    word5: u32,
    /// SQ: array; CQ: flags.
    word6: u32,
    resv: u32,
    user_addr: u64,
}

/// `struct io_uring_sqe`, as far as these operations use it.
#[repr(C)]
struct Submission {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    rest: [u32; 9],
}

/// A mapping that ends with its owner.
struct Mapping {
    base: *mut c_void,
    length: usize,
}

impl Mapping {
    fn new(fd: RawFd, length: usize, offset: libc::off_t) -> io::Result<Self> {
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                offset,
            )
        };
        if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { base, length }) }
    }

    /// A word of the ring that the kernel reads or writes at the same time.
    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel gave the offset: inside the mapping, aligned to a word.
        unsafe { &*self.base.byte_add(offset as usize).cast::<AtomicU32>() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours.
        unsafe { libc::munmap(self.base, self.length) };
    }
}

/// Makes the directory `/nstrail-token-TOKEN` by io_uring, and removes it by an ordinary call. Gives what is known of the worker that did it.
pub fn make_directory(token: u64) -> Result<ProbeKind, StepError> {
    let path = CString::new(format!("/nstrail-token-{token}")).unwrap_or_default();
    let before = Threads::now().map_err(StepError::call("list of threads"))?;
    let result = submit(Poll::No, IORING_OP_MKDIRAT, &path, 0o700).map_err(StepError::call("io_uring"))?;
    let after = Threads::now().map_err(StepError::call("list of threads"))?;
    refused("mkdirat by io_uring", result)?;
    // SAFETY: `path` is a C string.
    let result = unsafe { libc::rmdir(path.as_ptr()) };
    inherited::check(result.into()).map_err(StepError::call("rmdir"))?;
    // A worker has its name when it has run, but can be there before: a new thread of any name might be one.
    let reused = before.has_worker && before.numbers == after.numbers;
    Ok(if reused { ProbeKind::IoUringReused } else { ProbeKind::IoUring })
}

/// Opens a file that needs no worker, and closes it.
pub fn open_file(poll: Poll) -> Result<(), StepError> {
    // Afterwards it is in the cache.
    let known = inherited::open_at(libc::AT_FDCWD, CACHED, libc::O_RDONLY | libc::O_CLOEXEC)
        .map_err(StepError::call("open of /dev/null"))?;
    inherited::close(known);
    let result = submit(poll, IORING_OP_OPENAT, CACHED, 0).map_err(StepError::call("io_uring"))?;
    refused("openat by io_uring", result)?;
    inherited::close(result);
    Ok(())
}

fn refused(what: &'static str, result: i32) -> Result<(), StepError> {
    if result < 0 {
        return Err(StepError::Call { what, source: io::Error::from_raw_os_error(-result) });
    }
    Ok(())
}

/// The threads of this process.
struct Threads {
    numbers: Vec<u32>,
    /// One of them is a worker of io_uring (io_uring/io-wq.c names them).
    has_worker: bool,
}

impl Threads {
    fn now() -> io::Result<Self> {
        let mut numbers = onlooker::numbers(c"self/task")?;
        numbers.sort_unstable();
        let is_worker = |tid: &u32| {
            let path = CString::new(format!("self/task/{tid}/comm")).unwrap_or_default();
            let mut room = [0; 32];
            // One that is gone by now is none.
            inherited::read_proc(&path, &mut room).is_ok_and(|name| name.starts_with(b"iou-wrk-"))
        };
        let has_worker = numbers.iter().any(is_worker);
        Ok(Self { numbers, has_worker })
    }
}

/// `length` is what the operation has in that field: the mode of a new directory.
fn submit(poll: Poll, operation: u8, path: &CStr, length: u32) -> io::Result<i32> {
    let mut params = Params::default();
    if poll == Poll::Yes {
        params.flags = IORING_SETUP_SQPOLL;
    }
    // SAFETY: `params` is writable and as the kernel has it.
    let ring =
        inherited::check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) })? as RawFd;
    let entry = Submission {
        opcode: operation,
        flags: 0,
        priority: 0,
        fd: libc::AT_FDCWD,
        offset: 0,
        address: path.as_ptr() as u64,
        length,
        rest: [0; 9],
    };
    let result = submit_to(ring, &params, entry);
    inherited::close(ring);
    result
}

fn submit_to(ring: RawFd, params: &Params, entry: Submission) -> io::Result<i32> {
    // From 5.4 on both rings lie in one mapping (IORING_FEAT_SINGLE_MMAP).
    let submissions = params.sq.word6 as usize + params.sq_entries as usize * 4;
    let completions = params.cq.word5 as usize + params.cq_entries as usize * 16;
    let rings = Mapping::new(ring, submissions.max(completions), 0)?;
    let entries = Mapping::new(ring, params.sq_entries as usize * size_of::<Submission>(), IORING_OFF_SQES)?;
    // SAFETY: the mapping has room for one entry at least, and the kernel reads it only after the tail has moved.
    unsafe { entries.base.cast::<Submission>().write(entry) };
    rings.word(params.sq.word6).store(0, Ordering::Relaxed);
    rings.word(params.sq.tail).store(1, Ordering::Release);
    let none = ptr::null::<c_void>();
    let polled = params.flags & IORING_SETUP_SQPOLL != 0;
    let flags = IORING_ENTER_GETEVENTS | if polled { IORING_ENTER_SQ_WAKEUP } else { 0 };
    // SAFETY: no signal mask; the path lives until the completion is there.
    let entered = unsafe { libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, flags, none, 0) };
    inherited::check(entered)?;
    if rings.word(params.cq.tail).load(Ordering::Acquire) == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    // A completion is its user data u64, its result i32 and flags.
    Ok(rings.word(params.cq.word5 + 8).load(Ordering::Relaxed) as i32)
}
