// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread that empties one audit socket.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
};

use nstrail_wire::batch;

use super::{
    CollectorError,
    comparison::{Stream, hash},
    pace::{PAUSE, Pace},
    queue::AuditQueue,
    tally::{LAST_FENCE, Read, Tally, fence_number},
};
use crate::netlink;

/// Datagrams taken by one system call.
const DATAGRAMS: usize = 128;
/// Above the kernel's longest record: `MAX_AUDIT_MESSAGE_LENGTH` 8970, and the header.
const DATAGRAM: usize = 9216;

/// Where datagrams land, so that one system call takes many.
struct Inbox {
    bytes: Vec<u8>,
    parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl Inbox {
    fn new() -> Self {
        let mut bytes = vec![0; DATAGRAMS * DATAGRAM];
        let mut parts: Vec<libc::iovec> = bytes
            .chunks_exact_mut(DATAGRAM)
            .map(|room| libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: DATAGRAM })
            .collect();
        let messages = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: all-zero is a valid header: no name, no control data.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        Self { bytes, parts, messages }
    }

    /// Waits for one datagram and takes all that are there. Gives their number.
    fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        debug_assert_eq!(self.parts.len(), self.messages.len());
        // SAFETY: the headers point to `parts`, those to `bytes`; both vectors are as long as when the pointers were
        // made, are never moved out of or grown, and live as long as `self`.
        let count = unsafe {
            libc::recvmmsg(
                socket,
                self.messages.as_mut_ptr(),
                DATAGRAMS as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// A received datagram; `None` if it did not fit.
    fn datagram(&self, index: usize) -> Option<&[u8]> {
        let message = &self.messages[index];
        let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        whole.then(|| &self.bytes[index * DATAGRAM..][..message.msg_len as usize])
    }
}

/// What a reader shares with the rest of the collector.
#[derive(Debug)]
pub struct Reader {
    pub stream: Stream,
    pub tally: Arc<Tally>,
    pub pace: Arc<Pace>,
    /// Where records go on to. The multicast reader only counts and compares.
    pub queue: Option<Arc<AuditQueue>>,
}

impl Reader {
    /// Reads until the socket fails, which ends in [`Tally::fail`].
    pub fn run(&self, socket: &impl AsRawFd) {
        if let Err(error) = self.read(socket.as_raw_fd()) {
            self.tally.fail(error);
        }
    }

    fn read(&self, socket: RawFd) -> Result<(), CollectorError> {
        let mut inbox = Inbox::new();
        let mut read = Read { hashes: Vec::with_capacity(DATAGRAMS), ..Read::default() };
        let mut records = Vec::new();
        let mut ended = false;
        loop {
            let count = match inbox.receive(socket) {
                Ok(count) => count,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    read.overruns += 1;
                    0
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => {
                    return Err(CollectorError::Read { stream: self.stream, reason: error.to_string() });
                }
            };
            for index in 0..count {
                let datagram =
                    inbox.datagram(index).ok_or(CollectorError::Truncated { stream: self.stream })?;
                let Some((message_type, payload)) = netlink::parse(datagram) else { continue };
                if message_type == netlink::ERROR {
                    netlink::acknowledgement(payload)
                        .map_err(|error| CollectorError::Refused { reason: error.to_string() })?;
                    read.registered = true;
                } else if netlink::is_record(message_type) && !ended {
                    read.hashes.push(hash(message_type, payload));
                    if self.queue.is_some() {
                        batch::push(&mut records, message_type, payload);
                    }
                    if let Some(number) = fence_number(message_type, payload) {
                        read.fence = Some(number);
                        // The socket is still emptied, so that the kernel need not wait for us.
                        ended = number == LAST_FENCE;
                    }
                }
            }
            if let Some(queue) = &self.queue
                && !records.is_empty()
            {
                // Before the tally: who has seen a fence there finds its record in the queue.
                queue.push(&records);
                records.clear();
            }
            self.tally.add(self.stream, &mut read);
            if count < DATAGRAMS {
                self.pace.linger(PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use nstrail_wire::batch::records;

    use super::*;

    fn datagram(message_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; netlink::HEADER];
        bytes[4..6].copy_from_slice(&message_type.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn records_come_out_in_order_and_none_after_the_last_fence() {
        let (kernel, socket) = UnixDatagram::pair().unwrap();
        let queue = Arc::new(AuditQueue::default());
        let tally = Arc::new(Tally::default());
        let reader = Reader {
            stream: Stream::Unicast,
            tally: Arc::clone(&tally),
            pace: Arc::default(),
            queue: Some(Arc::clone(&queue)),
        };
        let last = format!("audit(1.2:3): pid=1 msg='nstrail-fence={LAST_FENCE}'");
        std::thread::scope(|scope| {
            scope.spawn(|| reader.run(&socket));
            kernel.send(&datagram(netlink::ERROR, &[0; 20])).unwrap();
            kernel.send(&datagram(1329, b"replace")).unwrap();
            kernel.send(&datagram(1340, b"audit(1.2:3): op=init\0")).unwrap();
            kernel.send(&datagram(1005, last.as_bytes())).unwrap();
            kernel.send(&datagram(1300, b"audit(1.2:4): too late")).unwrap();
            tally.await_registration(std::time::Duration::from_secs(20)).unwrap();
            while tally.totals().unicast < 2 {
                std::thread::yield_now();
            }
            kernel.send(&[0; DATAGRAM + 1]).unwrap();
        });
        let mut found = Vec::new();
        while let Some(batch) = queue.take() {
            found.extend(records(&batch).map(|r| r.map(|(t, b)| (t, b.to_vec())).unwrap()));
        }
        assert_eq!(found, [(1340, b"audit(1.2:3): op=init".to_vec()), (1005, last.into_bytes())]);
        assert_eq!(tally.totals().unicast, 2);
    }
}
