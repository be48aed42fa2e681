// SPDX-License-Identifier: MIT OR Apache-2.0
//! A rule of iptables: table filter, chain INPUT or OUTPUT, UDP, target AUDIT, as iptables would hand it to the kernel
//! (`struct ipt_replace`).

use std::{io, mem::size_of_val, os::fd::AsRawFd};

use super::{super::inherited, socket};

const IPT_SO_SET_REPLACE: libc::c_int = 64;
/// `sizeof(struct ipt_entry)`.
const ENTRY: usize = 112;
/// `sizeof(struct ipt_replace)`.
const REPLACE: usize = 96;
/// A target with up to eight bytes of its own: its header is 32.
const TARGET: usize = 40;
/// `sizeof(struct xt_error_target)`, aligned.
const ERROR_TARGET: usize = 64;
pub const LOCAL_IN: usize = 1;
const FORWARD: usize = 2;
pub const LOCAL_OUT: usize = 3;
/// The verdict of a standard target: -NF_ACCEPT - 1.
const ACCEPT: i32 = -2;
/// The table as it is before anybody touches it: three policies and the error entry.
const OLD_ENTRIES: usize = 4;

/// Replaces the table, in the network namespace of the task: the rule stands at this hook.
pub fn add_rule(hook: usize) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let mut old_counters = [0_u64; 2 * OLD_ENTRIES];
    let table = table(hook, old_counters.as_mut_ptr() as u64);
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
fn table(at: usize, old_counters: u64) -> Vec<u8> {
    let audit = entry(libc::IPPROTO_UDP as u16, &target("AUDIT", &0_u64.to_ne_bytes(), TARGET));
    let policy = entry(0, &target("", &ACCEPT.to_ne_bytes(), TARGET));
    let error = entry(0, &target("ERROR", b"ERROR", ERROR_TARGET));
    let mut entries = Vec::new();
    let mut hooks = [0_u32; 5];
    let mut underflows = [0_u32; 5];
    for hook in [LOCAL_IN, FORWARD, LOCAL_OUT] {
        hooks[hook] = entries.len() as u32;
        if hook == at {
            entries.extend_from_slice(&audit);
        }
        underflows[hook] = entries.len() as u32;
        entries.extend_from_slice(&policy);
    }
    entries.extend_from_slice(&error);
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
        for hook in [LOCAL_IN, LOCAL_OUT] {
            let table = table(hook, 0);
            let word = |at: usize| u32::from_ne_bytes(table[at..at + 4].try_into().unwrap()) as usize;
            assert_eq!(table.len(), REPLACE + word(40));
            let mut at = REPLACE;
            let mut entries = Vec::new();
            while at < table.len() {
                entries.push(at - REPLACE);
                at += u16::from_ne_bytes(table[at + 90..at + 92].try_into().unwrap()) as usize;
            }
            assert_eq!((at, entries.len()), (table.len(), word(36)));
            for other in [LOCAL_IN, FORWARD, LOCAL_OUT] {
                let (begin, policy) = (word(44 + 4 * other), word(64 + 4 * other));
                assert!(entries.contains(&begin) && entries.contains(&policy));
                // The rule stands ahead of the policy, and nowhere else is one.
                assert_eq!(begin != policy, other == hook);
            }
        }
    }
}
