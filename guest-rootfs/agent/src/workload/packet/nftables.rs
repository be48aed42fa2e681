// SPDX-License-Identifier: MIT OR Apache-2.0
//! A rule of nftables: `table ip nstrail { chain input { type filter hook input priority 0; log level audit } }`,
//! as one batch of nfnetlink messages (include/uapi/linux/netfilter/nf_tables.h).

use std::{io, os::fd::AsRawFd};

use super::{super::inherited, socket};
use crate::netlink::{self, HEADER};

const BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const NEW_TABLE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWTABLE as u16;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWCHAIN as u16;
const NEW_RULE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWRULE as u16;
const NESTED: u16 = libc::NLA_F_NESTED as u16;
const FAMILY: u8 = libc::NFPROTO_IPV4 as u8;
const INPUT: u32 = libc::NF_INET_LOCAL_IN as u32;
/// NFT_LOGLEVEL_AUDIT.
const LEVEL_AUDIT: u32 = 8;
/// Table, chain and rule are acknowledged, one by one.
const ACKNOWLEDGED: usize = 3;
const NAME: &[u8] = b"nstrail\0";
const CHAIN: &[u8] = b"input\0";

/// Adds table, chain and rule, in the network namespace of the task.
pub fn add_rule() -> io::Result<()> {
    let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)?;
    let batch = batch();
    // SAFETY: `batch` is readable for its length; without an address the kernel is the peer.
    let sent = unsafe { libc::send(socket.as_raw_fd(), batch.as_ptr().cast(), batch.len(), 0) };
    inherited::check(sent as libc::c_long)?;
    let mut buffer = [0; 4096];
    for _ in 0..ACKNOWLEDGED {
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

fn batch() -> Vec<u8> {
    let hook = nested(4, &[attribute(1, &INPUT.to_be_bytes()), attribute(2, &0_u32.to_be_bytes())]);
    let level = nested(2, &[attribute(5, &LEVEL_AUDIT.to_be_bytes())]);
    let expressions = nested(4, &[nested(1, &[attribute(1, b"log\0"), level])]);
    let chain = [attribute(1, NAME), attribute(3, CHAIN), hook, attribute(7, b"filter\0")];
    let rule = [attribute(1, NAME), attribute(2, CHAIN), expressions];
    let create = (libc::NLM_F_CREATE | libc::NLM_F_ACK) as u16;
    [
        message(BATCH_BEGIN, 0, 0, SUBSYSTEM, &[]),
        message(NEW_TABLE, create, FAMILY, 0, &attribute(1, NAME)),
        message(NEW_CHAIN, create, FAMILY, 0, &chain.concat()),
        message(NEW_RULE, create, FAMILY, 0, &rule.concat()),
        message(BATCH_END, 0, 0, SUBSYSTEM, &[]),
    ]
    .concat()
}

/// `struct nlmsghdr`, `struct nfgenmsg` and the attributes.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + 4];
    bytes[..4].copy_from_slice(&((HEADER + 4 + attributes.len()) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16 | flags).to_ne_bytes());
    bytes[HEADER] = family;
    bytes[HEADER + 2..].copy_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(attributes);
    bytes
}

fn nested(kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &inner.concat())
}

/// `struct nlattr` and its payload, filled up to four bytes.
fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend_from_slice(&(length as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types of a run of attributes, with those inside.
    fn types(mut bytes: &[u8], found: &mut Vec<u16>) {
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

    #[test]
    fn a_batch_has_the_lengths_that_it_claims() {
        let batch = batch();
        let mut rest = &batch[..];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            let mut found = Vec::new();
            types(&rest[HEADER + 4..length], &mut found);
            messages.push((u16::from_ne_bytes([rest[4], rest[5]]), found));
            rest = &rest[length..];
        }
        assert_eq!(
            messages,
            [
                (BATCH_BEGIN, vec![]),
                (NEW_TABLE, vec![1]),
                (NEW_CHAIN, vec![1, 3, 4, 1, 2, 7]),
                (NEW_RULE, vec![1, 2, 4, 1, 1, 2, 5]),
                (BATCH_END, vec![]),
            ]
        );
    }
}
