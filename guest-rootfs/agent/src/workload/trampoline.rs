// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls that make tasks, raw: libc's wrappers hide flags, cannot do clone3, and must not be used for vfork.
//!
//! The child never returns into its maker's frames. It calls its entry function at once, on a stack of its own if it shares
//! memory with its maker, and otherwise on its copy of the maker's.

use std::{arch::asm, cell::Cell, ffi::c_void, io, ptr};

/// Arguments of clone3 (include/uapi/linux/sched.h, CLONE_ARGS_SIZE_VER2).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// A system call that makes a task, with its first three arguments (the others are 0).
#[derive(Clone, Copy, Debug)]
pub struct RawCall {
    pub number: libc::c_long,
    pub arguments: [u64; 3],
}

/// A stack for a task that shares memory with its maker.
#[derive(Debug)]
pub struct Stack {
    base: *mut c_void,
}

const STACK_SIZE: usize = 512 * 1024;

thread_local! {
    /// A stack that nobody needs at the moment: whoever makes one container after the other maps one stack.
    static SPARE: Cell<*mut c_void> = const { Cell::new(ptr::null_mut()) };
}

impl Stack {
    /// A stack, below which lies a page that may not be touched.
    pub fn take() -> io::Result<Self> {
        let spare = SPARE.replace(ptr::null_mut());
        if spare.is_null() { Self::map() } else { Ok(Self { base: spare }) }
    }

    fn map() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(ptr::null_mut(), STACK_SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the first page of the mapping just made.
        unsafe { libc::mprotect(base, 4096, libc::PROT_NONE) };
        Ok(Self { base })
    }

    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping, which is 16-aligned.
        unsafe { self.base.byte_add(STACK_SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let other = SPARE.replace(self.base);
        if other.is_null() {
            return;
        }
        SPARE.set(other);
        // SAFETY: the mapping is ours, and its task is gone: owners drop it after that.
        unsafe { libc::munmap(self.base, STACK_SIZE) };
    }
}

/// Makes the call. In the child, calls `entry(argument)`, which does not return.
///
/// Gives the raw result: a number in the caller's pid namespace, or minus the errno.
///
/// # Safety
/// `argument` must be what `entry` takes. If the call shares memory (CLONE_VM, vfork), `stack` must be given and
/// live as long as the child, and the caller and the child must take turns: they share libc's state, errno included.
pub unsafe fn make_task(
    call: RawCall,
    stack: Option<&Stack>,
    entry: unsafe extern "C" fn(*const c_void) -> !,
    argument: *const c_void,
) -> i64 {
    let top = stack.map_or(ptr::null_mut(), Stack::top);
    let result: i64;
    // SAFETY: the parent's side only makes a system call. The child's side leaves for `entry`: on `top`, or on this very
    // stack, which is then its own copy. The stack pointer is 16-aligned here, as a call needs it.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 3f",
            "test r12, r12",
            "jz 2f",
            "mov rsp, r12",
            "2:",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r14",
            "ud2",
            "3:",
            inlateout("rax") call.number => result,
            in("rdi") call.arguments[0],
            in("rsi") call.arguments[1],
            in("rdx") call.arguments[2],
            in("r10") 0_u64,
            in("r8") 0_u64,
            in("r9") 0_u64,
            in("r12") top,
            in("r13") argument,
            in("r14") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}
