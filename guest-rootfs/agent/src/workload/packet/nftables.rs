// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules of nftables: `table ip NAME { chain packets { type filter hook HOOK priority 0; meta mark set MARK; log level
//! audit } }`, as one batch of nfnetlink messages (include/uapi/linux/netfilter/nf_tables.h).

use std::io;

use super::request::{CREATE, attribute, exchange, message, nested};

const BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const NEW_TABLE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWTABLE as u16;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_DELTABLE as u16;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWCHAIN as u16;
const NEW_RULE: u16 = SUBSYSTEM << 8 | libc::NFT_MSG_NEWRULE as u16;
const FAMILY: u8 = libc::NFPROTO_IPV4 as u8;
/// NFT_LOGLEVEL_AUDIT.
const LEVEL_AUDIT: u32 = 8;
/// NFT_META_MARK.
const META_MARK: u32 = 3;
/// NFT_REG_1.
const REGISTER: u32 = 1;
const CHAIN: &[u8] = b"packets\0";

/// A table with one chain of one rule, which logs every packet that passes its hook.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Ends with a NUL.
    name: &'static [u8],
    hook: libc::c_int,
    /// What packets are marked with: it stands in their records.
    mark: Option<u32>,
}

/// Packets to the task's own addresses.
pub const INPUT: Table = Table { name: b"nstrail\0", hook: libc::NF_INET_LOCAL_IN, mark: None };
/// Packets on their way out.
pub const SENT: Table = Table { name: b"nstrail-sent\0", hook: libc::NF_INET_LOCAL_OUT, mark: Some(1) };
/// Packets that a device has received.
pub const RECEIVED: Table =
    Table { name: b"nstrail-received\0", hook: libc::NF_INET_PRE_ROUTING, mark: Some(2) };

/// Adds table, chain and rule, in the network namespace of the task.
pub fn add(table: Table) -> io::Result<()> {
    exchange(libc::NETLINK_NETFILTER, &additions(table), 3)
}

/// Removes the table with all that is in it.
pub fn remove(table: Table) -> io::Result<()> {
    let removal = own(DELETE_TABLE, libc::NLM_F_ACK as u16, FAMILY, 0, &attribute(1, table.name));
    exchange(libc::NETLINK_NETFILTER, &batch(&removal), 1)
}

fn additions(table: Table) -> Vec<u8> {
    let hook =
        nested(4, &[attribute(1, &(table.hook as u32).to_be_bytes()), attribute(2, &0_u32.to_be_bytes())]);
    let mut expressions = Vec::new();
    if let Some(mark) = table.mark {
        let value = nested(2, &[attribute(1, &mark.to_ne_bytes())]);
        let load = [attribute(1, &REGISTER.to_be_bytes()), value];
        let store = [attribute(2, &META_MARK.to_be_bytes()), attribute(3, &REGISTER.to_be_bytes())];
        expressions.push(expression(b"immediate\0", &load));
        expressions.push(expression(b"meta\0", &store));
    }
    expressions.push(expression(b"log\0", &[attribute(5, &LEVEL_AUDIT.to_be_bytes())]));
    let chain = [attribute(1, table.name), attribute(3, CHAIN), hook, attribute(7, b"filter\0")];
    let rule = [attribute(1, table.name), attribute(2, CHAIN), nested(4, &expressions)];
    let messages = [
        own(NEW_TABLE, CREATE, FAMILY, 0, &attribute(1, table.name)),
        own(NEW_CHAIN, CREATE, FAMILY, 0, &chain.concat()),
        own(NEW_RULE, CREATE, FAMILY, 0, &rule.concat()),
    ];
    batch(&messages.concat())
}

fn batch(messages: &[u8]) -> Vec<u8> {
    let (begin, end) = (own(BATCH_BEGIN, 0, 0, SUBSYSTEM, &[]), own(BATCH_END, 0, 0, SUBSYSTEM, &[]));
    [&begin[..], messages, &end].concat()
}

fn expression(name: &[u8], data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[attribute(1, name), nested(2, data)])
}

/// A message with its `struct nfgenmsg`.
fn own(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    message(kind, flags, &[family, 0, high, low], attributes)
}

#[cfg(test)]
mod tests {
    use super::{super::request::tests::messages, *};

    #[test]
    fn a_batch_has_the_lengths_that_it_claims() {
        let log = [1, 1, 2, 5];
        let mark = [1, 1, 2, 1, 2, 1, 1, 1, 2, 2, 3];
        for (table, expressions) in [(INPUT, log.to_vec()), (SENT, [&mark[..], &log].concat())] {
            let rule = [&[1, 2, 4][..], &expressions].concat();
            assert_eq!(
                messages(&additions(table), 4),
                [
                    (BATCH_BEGIN, vec![]),
                    (NEW_TABLE, vec![1]),
                    (NEW_CHAIN, vec![1, 3, 4, 1, 2, 7]),
                    (NEW_RULE, rule),
                    (BATCH_END, vec![]),
                ]
            );
        }
    }

    #[test]
    fn names_of_tables_end_with_a_nul() {
        for table in [INPUT, SENT, RECEIVED] {
            assert_eq!(table.name.iter().position(|byte| *byte == 0), Some(table.name.len() - 1));
        }
    }
}
