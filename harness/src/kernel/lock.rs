// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks between processes: flock on a file that stays. The kernel lets go of it when we die.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::event::{BuildEvent, Events};
use crate::process::interrupt;

/// Why a lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be opened or locked.
    #[error("cannot lock {path}: {source}", path = path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A signal came while another nstrail held it.
    #[error("interrupted while another nstrail held {path}", path = path.display())]
    Interrupted {
        /// The lock file.
        path: PathBuf,
    },
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of `path`, and says so with an event if another process holds it.
    ///
    /// # Errors
    /// As [`LockError`].
    pub fn take(path: &Path, events: Events<'_>) -> Result<Lock, LockError> {
        let error = |source| LockError::File { path: path.to_owned(), source };
        let file = open(path).map_err(error)?;
        let mut tries = 0_u64;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { file }),
                Err(TryLockError::Error(source)) => return Err(error(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            if interrupt::requested().is_some() {
                return Err(LockError::Interrupted { path: path.to_owned() });
            }
            // Not at once: a child that another thread is making has our descriptors, locks and all, until it executes.
            if tries == 1 {
                events(BuildEvent::Waiting { lock: path.to_owned() });
            }
            // Polled, because a blocking flock is not ended by a signal that a thread handles.
            std::thread::sleep(Duration::from_millis(50));
            tries += 1;
        }
    }

    /// Takes the lock of `path`, unless another process holds it.
    ///
    /// # Errors
    /// [`LockError::File`].
    pub fn try_take(path: &Path) -> Result<Option<Lock>, LockError> {
        let error = |source| LockError::File { path: path.to_owned(), source };
        let file = open(path).map_err(error)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(error(source)),
        }
    }
}

impl Drop for Lock {
    /// Closing the file would not do: a child that another thread is just making holds it open, too, until it executes.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_is_free_whoever_still_has_its_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::try_take(&path).unwrap().unwrap();
        let copy = lock.file.try_clone().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(lock);
        assert!(Lock::try_take(&path).unwrap().is_some());
        drop(copy);
    }
}
