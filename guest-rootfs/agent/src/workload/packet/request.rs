// SPDX-License-Identifier: MIT OR Apache-2.0
//! Netlink for the families that the audit socket does not speak: messages of attributes, and the kernel's word on them.

use std::{io, os::fd::AsRawFd};

use super::{super::inherited, socket};
use crate::netlink::{self, HEADER};

const NESTED: u16 = libc::NLA_F_NESTED as u16;
/// Make it, or take it if it is there.
pub const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_ACK) as u16;

/// Sends messages, and waits for the `acknowledged` answers that they ask for, in the network namespace of the task.
///
/// # Errors
/// The first refusal.
pub fn exchange(family: libc::c_int, messages: &[u8], acknowledged: usize) -> io::Result<()> {
    let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, family)?;
    // SAFETY: `messages` is readable for its length; without an address the kernel is the peer.
    let sent = unsafe { libc::send(socket.as_raw_fd(), messages.as_ptr().cast(), messages.len(), 0) };
    inherited::check(sent as libc::c_long)?;
    let mut buffer = [0; 4096];
    for _ in 0..acknowledged {
        // SAFETY: `buffer` is writable for its length. The kernel has answered before send(2) returned.
        let length = unsafe {
            libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        let length = inherited::check(length as libc::c_long)? as usize;
        match netlink::parse(&buffer[..length]) {
            Some((netlink::ERROR, payload)) => netlink::acknowledgement(payload)?,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

/// `struct nlmsghdr`, the family's own header, and the attributes.
pub fn message(kind: u16, flags: u16, own: &[u8], attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..4].copy_from_slice(&((HEADER + own.len() + attributes.len()) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
    bytes.extend_from_slice(own);
    bytes.extend_from_slice(attributes);
    bytes
}

/// An attribute that holds others.
pub fn nested(kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &inner.concat())
}

/// `struct nlattr` and its payload, filled up to four bytes.
pub fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend_from_slice(&(length as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Types of a run of attributes, with those inside. Panics where a length claims more than there is.
    pub fn types(mut bytes: &[u8], found: &mut Vec<u16>) {
        while !bytes.is_empty() {
            let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
            let (length, kind) = (usize::from(word(0)), word(2));
            found.push(kind & !NESTED);
            if kind & NESTED != 0 {
                types(&bytes[4..length], found);
            }
            bytes = &bytes[length.next_multiple_of(4)..];
        }
    }

    /// Message types of a batch with the types of their attributes, which stand behind `own` bytes.
    pub fn messages(batch: &[u8], own: usize) -> Vec<(u16, Vec<u16>)> {
        let mut rest = batch;
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            let mut found = Vec::new();
            types(&rest[HEADER + own..length], &mut found);
            messages.push((u16::from_ne_bytes([rest[4], rest[5]]), found));
            rest = &rest[length..];
        }
        messages
    }
}
