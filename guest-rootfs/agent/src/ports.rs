// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two virtio-serial ports, found by name.
//!
//! The host tells a port's name in a control message after the port is made, so it may not be there yet
//! when PID 1 starts; each name comes with a uevent. We subscribe first and look afterwards: whatever
//! comes between the two is not missed.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use nstrail_wire::message::{AUDIT_PORT, CONTROL_PORT};
use thiserror::Error;

/// The driver needs milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
const CLASS: &str = "/sys/class/virtio-ports";
/// Device numbers and names of the kernel's, from which every uevent comes: group 1.
const KERNEL_EVENTS: u32 = 1;

/// No way to the host.
#[derive(Debug, Error)]
pub enum PortsError {
    #[error("uevents cannot be had: {0}")]
    Uevents(io::Error),
    #[error(
        "no virtio-serial port is named \"{name}\" after {seconds} s (hint: the machine needs `-device virtserialport,name={name}`)"
    )]
    Missing { name: &'static str, seconds: u64 },
    #[error("{path}: {source}")]
    Open { path: String, source: io::Error },
}

/// The ports, open for reading and writing. The kernel lets only one opener in at a time: share by duplicating.
#[derive(Debug)]
pub struct Ports {
    pub control: File,
    pub audit: File,
}

impl Ports {
    /// Waits for both ports and opens them.
    ///
    /// # Errors
    /// If one is not there after 20 seconds, or cannot be opened.
    pub fn open() -> Result<Self, PortsError> {
        let uevents = subscribe().map_err(PortsError::Uevents)?;
        let deadline = Instant::now() + LIMIT;
        let control = await_port(&uevents, CONTROL_PORT, deadline)?;
        let audit = await_port(&uevents, AUDIT_PORT, deadline)?;
        Ok(Self { control, audit })
    }
}

fn await_port(uevents: &OwnedFd, name: &'static str, deadline: Instant) -> Result<File, PortsError> {
    loop {
        if let Some(device) = find(Path::new(CLASS), name) {
            let path = format!("/dev/{device}");
            return File::options()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|source| PortsError::Open { path, source });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PortsError::Missing { name, seconds: LIMIT.as_secs() });
        }
        await_uevent(uevents, left).map_err(PortsError::Uevents)?;
    }
}

/// The device whose `name` file says so.
fn find(class: &Path, name: &str) -> Option<String> {
    // The class is made with the first port.
    fs::read_dir(class).ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("name")).ok()?;
        (found.trim_end() == name).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

fn subscribe() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain system call.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = KERNEL_EVENTS;
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: `address` is a valid address of this length.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Waits for any uevent, and takes all that are there: what they say is read from sysfs.
fn await_uevent(uevents: &OwnedFd, limit: Duration) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: uevents.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: one valid entry.
    if unsafe { libc::poll(&raw mut poll, 1, milliseconds) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
    }
    let mut event = [0_u8; 4096];
    loop {
        // SAFETY: `event` is writable for its length.
        let length = unsafe { libc::recv(uevents.as_raw_fd(), event.as_mut_ptr().cast(), event.len(), 0) };
        // Too many events at once (ENOBUFS) are as good as one: sysfs is read again either way.
        if length < 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_the_name_in_its_file() {
        let class = std::env::temp_dir().join(format!("nstrail-ports-{}", std::process::id()));
        for (device, name) in [
            ("vport0p0", None),
            ("vport0p1", Some("nstrail.audit\n")),
            ("vport0p2", Some("nstrail.control\n")),
        ] {
            fs::create_dir_all(class.join(device)).unwrap();
            if let Some(name) = name {
                fs::write(class.join(device).join("name"), name).unwrap();
            }
        }
        assert_eq!(find(&class, CONTROL_PORT).as_deref(), Some("vport0p2"));
        assert_eq!(find(&class, AUDIT_PORT).as_deref(), Some("vport0p1"));
        assert_eq!(find(&class, "nstrail"), None);
        fs::remove_dir_all(&class).unwrap();
        assert_eq!(find(&class, AUDIT_PORT), None);
    }
}
