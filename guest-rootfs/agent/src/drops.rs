// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own count of what it could not put into a socket.

use std::{io, os::fd::RawFd};

/// Counters of `SO_MEMINFO` (include/uapi/linux/sock_diag.h), and the place of `SK_MEMINFO_DROPS` among them.
const COUNTERS: usize = 9;
const DROPS: usize = 8;

/// What was dropped for want of room, as `Drops` in `/proc/net/netlink` (socket(7), `SO_MEMINFO`). That table may leave out a socket while
/// others, those of dying network namespaces, are taken out of it.
///
/// # Errors
/// What `getsockopt` says; `InvalidData` if it gives fewer counters.
pub fn drops(socket: RawFd) -> io::Result<u64> {
    let mut counters = [0_u32; COUNTERS];
    let mut length = size_of_val(&counters) as libc::socklen_t;
    // SAFETY: `counters` is writable for `length`, which is writable, too.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counters.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < size_of_val(&counters) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(counters[DROPS].into())
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsRawFd};

    use super::*;

    #[test]
    fn what_a_full_socket_cannot_take_is_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        assert_eq!(drops(receiver.as_raw_fd()).unwrap(), 0);
        sender.send_to(&[0], to).unwrap();
        assert_eq!(drops(receiver.as_raw_fd()).unwrap(), 0);
        // A buffer holds at most some megabytes, and a datagram over loopback is there when the call returns.
        let datagram = vec![0; 32 * 1024];
        let mut sent = 0;
        while drops(receiver.as_raw_fd()).unwrap() == 0 {
            sender.send_to(&datagram, to).unwrap();
            sent += 1;
            assert!(sent < 10_000, "nothing is dropped");
        }
        assert_eq!(drops(receiver.as_raw_fd()).unwrap(), 1);
    }

    #[test]
    fn what_is_no_socket_has_no_count() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(drops(file.as_raw_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }
}
