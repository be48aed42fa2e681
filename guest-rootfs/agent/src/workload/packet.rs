// SPDX-License-Identifier: MIT OR Apache-2.0
//! One packet through netfilter's AUDIT target, in the network namespace of the task (which must be a new one).
//!
//! The rule is written as iptables would hand it to the kernel (`struct ipt_replace`): table filter, chain INPUT, UDP, target AUDIT.
//! In INPUT because a packet is received in a softirq, on behalf of no task: what CONTRACT.md G8 is about.

use std::{
    io,
    mem::size_of_val,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use super::{error::StepError, inherited};

const IPT_SO_SET_REPLACE: libc::c_int = 64;
/// `sizeof(struct ipt_entry)`.
const ENTRY: usize = 112;
/// `sizeof(struct ipt_replace)`.
const REPLACE: usize = 96;
/// A target with up to eight bytes of its own: its header is 32.
const TARGET: usize = 40;
/// `sizeof(struct xt_error_target)`, aligned.
const ERROR_TARGET: usize = 64;
const LOCAL_IN: usize = 1;
const FORWARD: usize = 2;
const LOCAL_OUT: usize = 3;
/// The verdict of a standard target: -NF_ACCEPT - 1.
const ACCEPT: i32 = -2;
/// The table as it is before anybody touches it: three policies and the error entry.
const OLD_ENTRIES: usize = 4;

/// Sends a datagram to 127.B.C.D, the token's low 24 bits, and waits until it has come in.
pub fn send(token: u64) -> Result<(), StepError> {
    bring_loopback_up().map_err(StepError::call("loopback"))?;
    replace_table().map_err(StepError::call("IPT_SO_SET_REPLACE"))?;
    let [_, _, _, _, _, b, c, d] = token.to_be_bytes();
    exchange(Ipv4Addr::new(127, b, c, d)).map_err(StepError::call("datagram"))
}

fn exchange(address: Ipv4Addr) -> io::Result<()> {
    let receiver = UdpSocket::bind(SocketAddrV4::new(address, 0))?;
    receiver.set_read_timeout(Some(Duration::from_secs(10)))?;
    let sender = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    sender.send_to(b"nstrail", receiver.local_addr()?)?;
    receiver.recv(&mut [0; 16]).map(drop)
}

fn socket(kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is new and nobody else owns it.
    let fd = inherited::check(unsafe { libc::socket(libc::AF_INET, kind, protocol) }.into())?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn bring_loopback_up() -> io::Result<()> {
    let socket = socket(libc::SOCK_DGRAM, 0)?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is what the call takes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    inherited::check(result.into()).map(drop)
}

fn replace_table() -> io::Result<()> {
    let socket = socket(libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let mut old_counters = [0_u64; 2 * OLD_ENTRIES];
    let table = table(old_counters.as_mut_ptr() as u64);
    debug_assert_eq!(size_of_val(&old_counters), 16 * OLD_ENTRIES);
    // SAFETY: `table` is readable for its length, and the counters that it points to are writable.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            IPT_SO_SET_REPLACE,
            table.as_ptr().cast(),
            table.len() as libc::socklen_t,
        )
    };
    inherited::check(result.into()).map(drop)
}

/// `struct ipt_replace` with its entries.
fn table(old_counters: u64) -> Vec<u8> {
    let audit = entry(libc::IPPROTO_UDP as u16, &target("AUDIT", &0_u64.to_ne_bytes(), TARGET));
    let policy = entry(0, &target("", &ACCEPT.to_ne_bytes(), TARGET));
    let error = entry(0, &target("ERROR", b"ERROR", ERROR_TARGET));
    let entries = [&audit[..], &policy, &policy, &policy, &error].concat();
    let (input, forward, output) = (0, audit.len() + policy.len(), audit.len() + 2 * policy.len());
    let mut hooks = [0_u32; 5];
    let mut underflows = [0_u32; 5];
    for (hook, at, policy_at) in
        [(LOCAL_IN, input, audit.len()), (FORWARD, forward, forward), (LOCAL_OUT, output, output)]
    {
        hooks[hook] = at as u32;
        underflows[hook] = policy_at as u32;
    }
    let mut bytes = vec![0; 32];
    bytes[..6].copy_from_slice(b"filter");
    let valid = 1_u32 << LOCAL_IN | 1 << FORWARD | 1 << LOCAL_OUT;
    let words = [valid, 5, entries.len() as u32].into_iter().chain(hooks).chain(underflows);
    for word in words.chain([OLD_ENTRIES as u32]) {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(&old_counters.to_ne_bytes());
    debug_assert_eq!(bytes.len(), REPLACE);
    bytes.extend_from_slice(&entries);
    bytes
}

/// `struct ipt_entry` for a protocol (0: any), and its target.
fn entry(protocol: u16, target: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ENTRY];
    bytes[80..82].copy_from_slice(&protocol.to_ne_bytes());
    bytes[88..90].copy_from_slice(&(ENTRY as u16).to_ne_bytes());
    bytes[90..92].copy_from_slice(&((ENTRY + target.len()) as u16).to_ne_bytes());
    bytes.extend_from_slice(target);
    bytes
}

/// `struct xt_entry_target` and what follows it.
fn target(name: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[..2].copy_from_slice(&(size as u16).to_ne_bytes());
    bytes[2..2 + name.len()].copy_from_slice(name.as_bytes());
    bytes[32..32 + body.len()].copy_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_the_lengths_that_it_claims() {
        let table = table(0);
        let word = |at: usize| u32::from_ne_bytes(table[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(table.len(), REPLACE + word(40));
        let mut at = REPLACE;
        let mut entries = Vec::new();
        while at < table.len() {
            entries.push(at - REPLACE);
            at += u16::from_ne_bytes(table[at + 90..at + 92].try_into().unwrap()) as usize;
        }
        assert_eq!((at, entries.len()), (table.len(), word(36)));
        for hook in [LOCAL_IN, FORWARD, LOCAL_OUT] {
            assert!(entries.contains(&word(44 + 4 * hook)));
            assert!(entries.contains(&word(64 + 4 * hook)));
        }
    }
}
