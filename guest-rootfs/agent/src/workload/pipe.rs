// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a maker and its child wait for each other: by a pipe, or by a word if they share memory.

use std::{
    ffi::c_void,
    os::fd::RawFd,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{error::StepError, inherited};

/// A pipe between a maker and its child. Both ends are open in both until one closes them.
#[derive(Clone, Copy, Debug)]
pub struct Pipe {
    pub read: RawFd,
    pub write: RawFd,
}

impl Pipe {
    pub fn new() -> Result<Self, StepError> {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two descriptors.
        inherited::check(unsafe { libc::pipe(ends.as_mut_ptr()) }.into()).map_err(StepError::call("pipe"))?;
        Ok(Self { read: ends[0], write: ends[1] })
    }

    /// Waits for the byte of a child that has done its steps, or finds that it died before.
    pub fn await_byte(self) -> Result<(), StepError> {
        inherited::close(self.write);
        let done = read_byte(self.read)?;
        inherited::close(self.read);
        if done { Ok(()) } else { Err(StepError::Scenario("a task inside ended too early")) }
    }

    /// Waits until nobody else holds the writing end.
    pub fn await_end(self) -> Result<(), StepError> {
        inherited::close(self.write);
        read_byte(self.read)?;
        inherited::close(self.read);
        Ok(())
    }
}

/// How a stage has the main task do what only that may do, and waits for it.
#[derive(Clone, Copy, Debug)]
pub struct ControlLine {
    question: Pipe,
    answer: Pipe,
}

impl ControlLine {
    pub fn new() -> Result<Self, StepError> {
        Ok(Self { question: Pipe::new()?, answer: Pipe::new()? })
    }

    /// The stage is at such a step. Returns when it is done.
    pub fn ask(self) -> Result<(), StepError> {
        write_byte(self.question.write)?;
        match read_byte(self.answer.read)? {
            true => Ok(()),
            false => Err(StepError::Scenario("main task is gone")),
        }
    }

    /// Waits for the stage to ask. False if it is over instead: others may hold the pipe still, so its pidfd says so.
    pub fn is_asked(self, stage: RawFd) -> Result<bool, StepError> {
        let wanted = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [wanted(self.question.read), wanted(stage)];
        // SAFETY: `fds` is writable for its length.
        let result = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        inherited::check(result.into()).map_err(StepError::call("poll"))?;
        if fds[0].revents & libc::POLLIN == 0 {
            return Ok(false);
        }
        read_byte(self.question.read)
    }

    /// It is done.
    pub fn answer(self) -> Result<(), StepError> {
        write_byte(self.answer.write)
    }

    pub fn close(self) {
        for fd in [self.question.read, self.question.write, self.answer.read, self.answer.write] {
            inherited::close(fd);
        }
    }
}

/// Writes one byte.
pub fn write_byte(fd: RawFd) -> Result<(), StepError> {
    // SAFETY: one byte of a constant.
    let result = unsafe { libc::write(fd, b"!".as_ptr().cast(), 1) };
    inherited::check(result as libc::c_long).map(drop).map_err(StepError::call("write to a pipe"))
}

/// Reads one byte. False at the end of the pipe.
pub fn read_byte(fd: RawFd) -> Result<bool, StepError> {
    let mut byte = 0_u8;
    // SAFETY: `byte` is writable.
    let result = unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
    inherited::check(result as libc::c_long).map(|n| n == 1).map_err(StepError::call("read from a pipe"))
}

/// Waits until a word has changed.
pub fn await_change(word: &AtomicU32, from: u32) {
    while word.load(Ordering::Acquire) == from {
        // SAFETY: the word outlives the call; a wake-up without a change is caught by the loop.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, from, ptr::null::<c_void>())
        };
    }
}

/// Wakes who waits for a change of a word.
pub fn wake(word: &AtomicU32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
