// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which containers could this packet belong to? What CONTRACT.md G8 is for, answered as a log reader would: from the
//! records alone, in the order of the queue.
//!
//! A packet in a softirq belongs to no task, so a `NETFILTER_PKT` event names a network namespace. The definitions list
//! the namespaces of each set; so the sets that live at that place of the log and list this one are the candidates. There are
//! several where containers share a network namespace, and none where the last of them has gone before its packet.

use nstrail_wire::namespace::NamespaceEntry;

use crate::{FormatError, Kind, Model, Netns, NsidOp, Record, Stamp};

/// Packets whose second record has not come yet. The kernel queues the two one behind the other, but so do all CPUs.
const PENDING: usize = 1024;

/// A `NETFILTER_PKT` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Position of its main record in the log, from 0.
    pub position: u64,
    pub stamp: Stamp,
    /// The main record: `mark=... saddr=... daddr=... proto=...`.
    pub body: Vec<u8>,
    /// nsfs inode number of its network namespace; `None` for a kernel without them (`?`).
    pub netns: Option<u32>,
    /// Ids of the sets that it may belong to, the lowest first.
    pub sets: Vec<u64>,
}

/// Follows a log and resolves its packets. Memory grows with live sets.
#[derive(Debug, Default)]
pub struct PacketTracer {
    model: Model,
    position: u64,
    pending: Vec<(u64, Stamp, Vec<u8>)>,
}

impl PacketTracer {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record; gives the packet that is complete with it.
    ///
    /// # Errors
    /// If a record of the contract is malformed. The next one can be taken all the same.
    pub fn push(&mut self, record: &Record<'_>) -> Result<Option<Packet>, FormatError> {
        let position = self.position;
        self.position += 1;
        match record.kind {
            Kind::NSID_OP => {
                let op = NsidOp::parse(record.body)?;
                // What the log says against itself is the checker's part.
                let _ = self.model.apply(&op, position);
            }
            Kind::NETFILTER_PKT => {
                if self.pending.len() == PENDING {
                    self.pending.remove(0);
                }
                self.pending.push((position, record.stamp, record.body.to_vec()));
            }
            Kind::NETNS => {
                let Netns(netns) = Netns::parse(record.body)?;
                let of = self.pending.iter().position(|(_, stamp, _)| *stamp == record.stamp);
                if let Some(of) = of {
                    let (position, stamp, body) = self.pending.remove(of);
                    let sets =
                        netns.map_or_else(Vec::new, |inum| self.model.holding(NamespaceEntry::Net, inum));
                    return Ok(Some(Packet { position, stamp, body, netns, sets }));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// The sets, as the log tells of them so far.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        "cgroup:1,ipc:2,mnt:3,net:N,pid:5,pid_for_children:5,time:6,time_for_children:6,user:7,uts:8";

    fn sets_of(records: &[(u16, u32, String)]) -> Vec<Vec<u64>> {
        let mut tracer = PacketTracer::new();
        let mut found = Vec::new();
        for (kind, serial, body) in records {
            let stamp = Stamp { seconds: 1, millis: 0, serial: *serial };
            let record = Record { kind: Kind(*kind), stamp, body: body.as_bytes() };
            found.extend(tracer.push(&record).unwrap().map(|packet| packet.sets));
        }
        found
    }

    fn define(serial: u32, old: u64, id: u64, net: u32) -> (u16, u32, String) {
        let list = LIST.replace('N', &net.to_string());
        let body = if id == 1 {
            format!("op=init auditnsid=0x1 ns={list} res=1")
        } else {
            format!(
                "op=clone pid=1 tid=1 opid=9 flags=CLONE_NEWNET old-auditnsid={old:#x} auditnsid={id:#x} ns={list} res=1"
            )
        };
        (1340, serial, body)
    }

    fn packet(serial: u32, net: u32) -> [(u16, u32, String); 2] {
        [
            (1324, serial, "mark=0x0 saddr=127.0.0.1 daddr=127.0.0.2 proto=17".to_owned()),
            (1342, serial, format!("netns=net:{net}")),
        ]
    }

    #[test]
    fn a_packet_belongs_to_the_sets_that_live_and_list_its_namespace() {
        let mut log =
            vec![define(1, 0, 1, 40), define(2, 1, 2, 50), define(3, 2, 3, 50), define(4, 1, 4, 60)];
        log.extend(packet(5, 50));
        log.extend(packet(6, 40));
        log.push((1340, 7, "op=release pid=9 tid=9 auditnsid=0x2 res=1".to_owned()));
        // Two packets whose records come between each other's.
        let ([one, other], [first, second]) = (packet(8, 50), packet(9, 60));
        log.extend([one, first, second, other]);
        log.push((1340, 10, "op=release pid=9 tid=9 auditnsid=0x3 res=1".to_owned()));
        log.extend(packet(11, 50));
        // The number again, for another container.
        log.push(define(12, 1, 5, 50));
        log.extend(packet(13, 50));
        log.push((1324, 14, "mark=0x0".to_owned()));
        log.push((1342, 14, "netns=net:?".to_owned()));
        let expected: [&[u64]; 7] = [&[2, 3], &[1], &[4], &[3], &[], &[5], &[]];
        assert_eq!(sets_of(&log), expected);
    }
}
