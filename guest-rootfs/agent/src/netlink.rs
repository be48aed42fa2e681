// SPDX-License-Identifier: MIT OR Apache-2.0
//! A netlink socket of the audit family, and requests on it.
//!
//! Of our own, because audit's netlink is not quite netlink: a record's `nlmsg_len` leaves out the
//! header (`kernel/audit.c:audit_log_end()`, kept for auditd's sake), replies come from a kernel thread
//! after the acknowledgement, and a record's payload is bytes, not text.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nstrail_wire::fact::AuditStatus;

use crate::drops::drops;

/// `NLMSG_ERROR`: an acknowledgement, or a refusal.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a reply of several messages.
const DONE: u16 = 3;
const AUDIT_GET: u16 = 1000;
const AUDIT_SET: u16 = 1001;
/// `AUDIT_USER`, a message of userspace; also the type of its record.
pub const AUDIT_USER: u16 = 1005;
/// One type of each range that programs may send (`AUDIT_FIRST_USER_MSG`, `AUDIT_FIRST_USER_MSG2`).
pub const AUDIT_USER_LOGIN: u16 = 1112;
pub const AUDIT_ANOM_LOGIN_FAILURES: u16 = 2100;
const AUDIT_LOGIN: u16 = 1006;
const AUDIT_ADD_RULE: u16 = 1011;
const AUDIT_DEL_RULE: u16 = 1012;
const AUDIT_LIST_RULES: u16 = 1013;
const AUDIT_FIRST_USER_MSG: u16 = 1100;
const AUDIT_REPLACE: u16 = 1329;
/// `AUDIT_NLGRP_READLOG`, as the bit of a bind.
pub const READLOG: u32 = 1;

/// Length of `struct nlmsghdr`.
pub const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// A kernel that does not answer for so long is broken: an answer needs no more than a kernel thread's start.
const ANSWER: Duration = Duration::from_secs(20);

/// What `AUDIT_SET` changes, by the bit in the status' mask (`AUDIT_STATUS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Enabled(bool),
    /// Enabled, and nobody can change anything from then on (`AUDIT_LOCKED`).
    Locked,
    /// 1: a lost record is told by printk.
    Failure(u32),
    /// Makes the *sending socket* the one that the log goes to. Must be the sender's own process.
    Pid(u32),
    BacklogLimit(u32),
    /// Records a second; 0: no limit.
    RateLimit(u32),
    /// In jiffies; 0: no wait, the record is lost.
    BacklogWaitTime(u32),
}

/// Whether a message of this type is a record of the log, rather than netlink's own or audit's control.
#[must_use]
pub const fn is_record(message_type: u16) -> bool {
    matches!(message_type, AUDIT_USER | AUDIT_LOGIN | AUDIT_FIRST_USER_MSG..) && message_type != AUDIT_REPLACE
}

/// A netlink message as it came: its type and payload.
///
/// The payload ends where the datagram does, whatever `nlmsg_len` says: the kernel sends one message in each. One NUL
/// at the end of a record is left out.
#[must_use]
pub fn parse(datagram: &[u8]) -> Option<(u16, &[u8])> {
    let (header, payload) = datagram.split_first_chunk::<HEADER>()?;
    let message_type = u16::from_ne_bytes([header[4], header[5]]);
    match payload {
        [record @ .., 0] if is_record(message_type) => Some((message_type, record)),
        _ => Some((message_type, payload)),
    }
}

/// The result that an [`ERROR`] message carries: its errno, or success.
///
/// # Errors
/// The errno; `UnexpectedEof` for a payload that is too short.
pub fn acknowledgement(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn header(message_type: u16, length: usize, sequence: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&((HEADER + length) as u32).to_ne_bytes());
    header[4..6].copy_from_slice(&message_type.to_ne_bytes());
    header[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    header[8..12].copy_from_slice(&sequence.to_ne_bytes());
    header
}

/// `struct audit_status`, ten words of it: 5.10 and later accept a shorter one.
fn status_payload(setting: Setting) -> [u8; 40] {
    // mask, enabled, failure, pid, rate_limit, backlog_limit, lost, backlog, feature_bitmap, backlog_wait_time
    let (mask, index, value) = match setting {
        Setting::Enabled(on) => (0x01_u32, 1, u32::from(on)),
        Setting::Locked => (0x01, 1, 2),
        Setting::Failure(action) => (0x02, 2, action),
        Setting::Pid(pid) => (0x04, 3, pid),
        Setting::BacklogLimit(limit) => (0x10, 5, limit),
        Setting::RateLimit(limit) => (0x08, 4, limit),
        Setting::BacklogWaitTime(jiffies) => (0x20, 9, jiffies),
    };
    let mut payload = [0; 40];
    payload[..4].copy_from_slice(&mask.to_ne_bytes());
    payload[4 * index..4 * index + 4].copy_from_slice(&value.to_ne_bytes());
    payload
}

/// Reads `struct audit_status`. Words that an older kernel does not have are 0.
fn parse_status(payload: &[u8]) -> AuditStatus {
    let word = |index: usize| -> u32 {
        payload.get(4 * index..4 * index + 4).map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
    };
    AuditStatus {
        enabled: word(1),
        failure: word(2),
        pid: word(3),
        rate_limit: word(4),
        backlog_limit: word(5),
        lost: word(6),
        backlog: word(7),
        backlog_wait_time: word(9),
        backlog_wait_time_actual: word(10),
    }
}

/// A socket of the audit family.
#[derive(Debug)]
pub struct AuditSocket {
    fd: OwnedFd,
    sequence: AtomicU32,
}

impl AuditSocket {
    /// Opens a socket for requests. Needs the initial user namespace and `CAP_AUDIT_CONTROL` (or `_WRITE`).
    ///
    /// # Errors
    /// If the kernel refuses it: `EPROTONOSUPPORT` means that it has no audit.
    pub fn open() -> io::Result<Self> {
        Self::bind(0)
    }

    /// Opens a socket that gets a copy of the log ([`READLOG`]). Needs `CAP_AUDIT_READ`.
    ///
    /// # Errors
    /// As [`AuditSocket::open`].
    pub fn listen() -> io::Result<Self> {
        Self::bind(READLOG)
    }

    fn bind(groups: u32) -> io::Result<Self> {
        // SAFETY: plain system call.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_AUDIT)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all-zero is a valid address.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        // SAFETY: `address` is a valid address of the length given.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, sequence: AtomicU32::new(0) })
    }

    /// Makes room for so many bytes of records, above the system's limit (the kernel doubles the number for its own
    /// overhead, which a record has about as much of as of text).
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`.
    pub fn set_receive_buffer(&self, bytes: libc::c_int) -> io::Result<()> {
        self.set_option(libc::SO_RCVBUFFORCE, &bytes)
    }

    fn set_option<T>(&self, name: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is readable for its size, and the options used here take such a type.
        let set = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends a request and does not wait for its acknowledgement, for a socket whose messages somebody else reads.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn send(&self, message_type: u16, payload: &[u8]) -> io::Result<u32> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut header = header(message_type, payload.len(), sequence);
        let mut parts = [
            libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER },
            libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() },
        ];
        // SAFETY: all-zero is a valid message header: no name (the kernel is the default peer), no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        loop {
            // SAFETY: `message` points to parts that live until the call returns and are only read.
            let sent = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const message, 0) };
            if sent >= 0 {
                return Ok(sequence);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Sends a request, waits for its acknowledgement, and then for messages until `each` says that it has seen enough.
    fn exchange(
        &self,
        message_type: u16,
        payload: &[u8],
        mut each: impl FnMut(u16, &[u8]) -> bool,
        mut complete: bool,
    ) -> io::Result<()> {
        let sequence = self.send(message_type, payload)?;
        let mut acknowledged = false;
        // AUDIT_LIST_RULES gives whole rules: 1040 bytes and up to a few paths or keys.
        let mut buffer = [0; 16 * 1024];
        while !acknowledged || !complete {
            let length = self.receive(&mut buffer)?;
            let datagram = &buffer[..length];
            let Some((found, payload)) = parse(datagram) else { continue };
            if datagram[8..12] != sequence.to_ne_bytes() {
                // Left over from a request that was given up.
                continue;
            }
            if found == ERROR {
                acknowledgement(payload)?;
                acknowledged = true;
            } else if each(found, payload) {
                complete = true;
            }
        }
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        if unsafe { libc::poll(&raw mut poll, 1, ANSWER.as_millis() as libc::c_int) } == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // SAFETY: `buffer` is writable for its length.
        let length = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match usize::try_from(length) {
            Ok(length) => Ok(length),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// `AUDIT_SET` of one setting. (Two in one message are handled in the kernel's order, not in ours: enabling comes
    /// before the pid, and `op=init` would go to printk.)
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set(&self, setting: Setting) -> io::Result<()> {
        self.exchange(AUDIT_SET, &status_payload(setting), |_, _| false, true)
    }

    /// As [`AuditSocket::set`], for a socket whose acknowledgements somebody else reads.
    ///
    /// # Errors
    /// If the request cannot be sent.
    pub fn send_setting(&self, setting: Setting) -> io::Result<u32> {
        self.send(AUDIT_SET, &status_payload(setting))
    }

    /// `AUDIT_GET`. Never resets a counter.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn status(&self) -> io::Result<AuditStatus> {
        let mut status = AuditStatus::default();
        self.exchange(
            AUDIT_GET,
            &[],
            |found, payload| {
                let complete = found == AUDIT_GET;
                if complete {
                    status = parse_status(payload);
                }
                complete
            },
            false,
        )?;
        Ok(status)
    }

    /// Receives and throws away, until it fails.
    ///
    /// # Errors
    /// The end of it.
    pub fn discard(&self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.receive(&mut buffer) {
                Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
                _ => {}
            }
        }
    }

    /// `AUDIT_LIST_RULES`: gives each rule's bytes to `each`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn rules(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.exchange(
            AUDIT_LIST_RULES,
            &[],
            |found, payload| {
                if found == AUDIT_LIST_RULES {
                    each(payload);
                }
                found == DONE
            },
            false,
        )
    }

    /// `AUDIT_ADD_RULE` of an encoded rule.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add_rule(&self, rule: &[u8]) -> io::Result<()> {
        self.exchange(AUDIT_ADD_RULE, rule, |_, _| false, true)
    }

    /// `AUDIT_DEL_RULE` of an encoded rule.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn delete_rule(&self, rule: &[u8]) -> io::Result<()> {
        self.exchange(AUDIT_DEL_RULE, rule, |_, _| false, true)
    }

    /// Sends an `AUDIT_USER` message, which becomes `msg='TEXT'` in the log, and waits for the acknowledgement. Does
    /// not allocate.
    ///
    /// The log is silent about it while audit is off.
    ///
    /// # Errors
    /// `InvalidInput` for text that is longer than 1,000 bytes; what the kernel answers: `EPERM` without
    /// `CAP_AUDIT_WRITE`, `ECONNREFUSED` outside the initial user namespace.
    pub fn user_message(&self, text: &[u8]) -> io::Result<()> {
        self.user_message_of(AUDIT_USER, text)
    }

    /// The same by a message of another type that programs may send, which is the type of its record.
    ///
    /// # Errors
    /// As [`Self::user_message`].
    pub fn user_message_of(&self, message_type: u16, text: &[u8]) -> io::Result<()> {
        // The kernel overwrites the payload's last byte with a NUL (audit_receive_msg).
        let mut payload = [0; 1001];
        let room = payload.get_mut(..text.len()).ok_or(io::ErrorKind::InvalidInput)?;
        room.copy_from_slice(text);
        self.exchange(message_type, &payload[..=text.len()], |_, _| false, true)
    }

    /// What the kernel could not put into the socket.
    ///
    /// # Errors
    /// As [`drops`].
    pub fn drops(&self) -> io::Result<u64> {
        drops(self.fd.as_raw_fd())
    }
}

impl AsRawFd for AuditSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as the kernel sends it: `nlmsg_len` is 16 short.
    fn record(message_type: u16, text: &[u8]) -> Vec<u8> {
        let mut bytes = header(message_type, text.len(), 0).to_vec();
        bytes[..4].copy_from_slice(&(text.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(text);
        bytes
    }

    #[test]
    fn a_records_length_is_the_datagrams() {
        let text = b"audit(1700000000.123:7): op=init auditnsid=0x1";
        assert_eq!(parse(&record(1340, text)), Some((1340, &text[..])));
    }

    #[test]
    fn one_trailing_nul_of_a_record_is_left_out() {
        assert_eq!(parse(&record(1300, b"audit(1:2): a\0")), Some((1300, &b"audit(1:2): a"[..])));
        assert_eq!(parse(&record(1300, b"a\0\0")), Some((1300, &b"a\0"[..])));
        assert_eq!(parse(&record(1300, b"")), Some((1300, &b""[..])));
        assert_eq!(parse(&record(ERROR, &[0, 0, 0, 0])), Some((ERROR, &[0, 0, 0, 0][..])));
    }

    #[test]
    fn a_datagram_without_a_header_is_none() {
        assert_eq!(parse(&[0; HEADER - 1]), None);
        assert_eq!(parse(&[0; HEADER]), Some((0, &[][..])));
    }

    #[test]
    fn control_messages_are_no_records() {
        for other in [ERROR, DONE, AUDIT_GET, AUDIT_LIST_RULES, AUDIT_REPLACE, 1016] {
            assert!(!is_record(other), "{other}");
        }
        for record in [AUDIT_USER, AUDIT_LOGIN, 1100, 1300, 1320, 1340, 1341, 1342, 1701] {
            assert!(is_record(record), "{record}");
        }
    }

    #[test]
    fn acknowledgements_carry_an_errno() {
        assert!(acknowledgement(&0_i32.to_ne_bytes()).is_ok());
        let refused = acknowledgement(&(-libc::EPERM).to_ne_bytes()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert!(acknowledgement(&[0]).is_err());
    }

    #[test]
    fn a_request_says_its_own_length() {
        let bytes = header(AUDIT_SET, 40, 9);
        assert_eq!(bytes[..4], 56_u32.to_ne_bytes());
        assert_eq!(bytes[4..6], AUDIT_SET.to_ne_bytes());
        assert_eq!(bytes[6..8], 5_u16.to_ne_bytes());
        assert_eq!(bytes[8..12], 9_u32.to_ne_bytes());
    }

    #[test]
    fn a_status_names_one_setting() {
        let payload = status_payload(Setting::BacklogLimit(9));
        assert_eq!(payload[..4], 0x10_u32.to_ne_bytes());
        assert_eq!(parse_status(&payload), AuditStatus { backlog_limit: 9, ..AuditStatus::default() });
        let payload = status_payload(Setting::Pid(77));
        assert_eq!(parse_status(&payload).pid, 77);
    }

    #[test]
    fn a_status_of_an_older_kernel_is_shorter() {
        let words: Vec<u8> = (0..11_u32).flat_map(u32::to_ne_bytes).collect();
        assert_eq!(parse_status(&words).backlog_wait_time_actual, 10);
        assert_eq!(parse_status(&words[..40]).backlog_wait_time_actual, 0);
        assert_eq!(parse_status(&words[..40]).backlog_wait_time, 9);
    }
}
