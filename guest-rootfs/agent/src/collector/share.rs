// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtiofs share: mounted while the workload runs, and what is kept of the guest in `artifacts/`.

use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use nstrail_wire::message::SHARE_TAG;

use super::CollectorError;
use crate::mounts::mount;

/// Where the share is mounted.
const TARGET: &str = "/run/nstrail";
/// `SYSLOG_ACTION_READ_ALL`.
const READ_ALL: libc::c_int = 3;
/// `SYSLOG_ACTION_SIZE_BUFFER`.
const SIZE_BUFFER: libc::c_int = 10;

/// A mount on its way: FUSE's first exchange takes its time under TCG, and nobody needs it before the end.
#[derive(Debug)]
pub struct Share(JoinHandle<io::Result<()>>);

impl Share {
    /// Starts to mount it.
    #[must_use]
    pub fn mount() -> Self {
        Self(std::thread::spawn(|| {
            fs::create_dir_all(TARGET)?;
            let tag = CString::new(SHARE_TAG).map_err(io::Error::other)?;
            mount(&tag, TARGET, c"virtiofs", 0, None)
        }))
    }

    /// Waits for the mount, and writes the kernel's log, its configuration (if it has it) and the state of memory.
    ///
    /// # Errors
    /// If the share cannot be mounted or written to.
    pub fn keep(self) -> Result<(), CollectorError> {
        let mounted = self.0.join().unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")));
        mounted.map_err(|error| CollectorError::Share { path: TARGET.into(), reason: error.to_string() })?;
        let folder = Path::new(TARGET).join("artifacts");
        let told =
            |path: PathBuf| move |error: io::Error| CollectorError::Share { path, reason: error.to_string() };
        fs::create_dir_all(&folder).map_err(told(folder.clone()))?;
        let log = folder.join("dmesg.txt");
        kernel_log().and_then(|text| fs::write(&log, text)).map_err(told(log))?;
        for (from, name) in [("/proc/meminfo", "meminfo.txt"), ("/proc/config.gz", "config.gz")] {
            let to = folder.join(name);
            match fs::read(from) {
                Ok(bytes) => fs::write(&to, bytes).map_err(told(to))?,
                // CONFIG_IKCONFIG_PROC is not among what every kernel is built with.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(told(from.into())(error)),
            }
        }
        Ok(())
    }
}

/// The kernel's ring buffer, as `dmesg` prints it.
fn kernel_log() -> io::Result<Vec<u8>> {
    // SAFETY: this action takes no buffer.
    let size = unsafe { libc::klogctl(SIZE_BUFFER, std::ptr::null_mut(), 0) };
    let mut text = vec![0; usize::try_from(size).map_err(|_| io::Error::last_os_error())?];
    // SAFETY: `text` is writable for `size` bytes.
    let length = unsafe { libc::klogctl(READ_ALL, text.as_mut_ptr().cast(), size) };
    text.truncate(usize::try_from(length).map_err(|_| io::Error::last_os_error())?);
    Ok(text)
}
