// SPDX-License-Identifier: MIT OR Apache-2.0
//! What PID 1 asks of the collector, over a pair of connected sockets, in the frames of the ports.
//!
//! One command at a time, each with one reply.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

use nstrail_wire::{
    fact::AuditFact,
    frame::{FrameDecoder, FrameEncoder},
    message::{self, GuestMessage},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// PID 1 to collector.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Pass a message on to the host.
    Send(GuestMessage),
    /// Take the audit stream: be the audit daemon from now on.
    Listen,
    /// Mount the share, and write what is to be kept into it at the end.
    Share,
    /// Answer when both streams have come to this fence.
    AwaitFence { number: u32 },
    /// Tell behind all that perf has seen so far that audit is about to be turned off, or is on again.
    Audit { enabled: bool },
    /// Stop being the audit daemon, or be it again.
    Daemon { on: bool },
    /// Answer when the ledger has been passed on up to this sync.
    AwaitLedger { sync: u64 },
    /// Answer with what was collected.
    Collected,
    /// Write out everything, then this last message.
    Finish(GuestMessage),
}

/// Collector to PID 1.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Collected(AuditFact),
    Failed { reason: String },
}

/// One end of the connection.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
}

impl Connection {
    /// Both ends.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = UnixStream::pair()?;
        Ok((Self::new(left), Self::new(right)))
    }

    const fn new(socket: UnixStream) -> Self {
        Self { socket, encoder: FrameEncoder::new(), decoder: FrameDecoder::new() }
    }

    /// Sends one command or reply.
    ///
    /// # Errors
    /// If the other end is gone.
    pub fn send<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let payload = message::encode(value).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        self.encoder.encode(&payload, &mut bytes).map_err(io::Error::other)?;
        self.socket.write_all(&bytes)
    }

    /// Waits for one command or reply; `None` if the other end is gone.
    ///
    /// # Errors
    /// If the connection breaks, or what came is no such value.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(payload) = self.decoder.next_frame().map_err(io::Error::other)? {
                return message::decode(payload).map(Some).map_err(io::Error::other);
            }
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(length) => self.decoder.extend(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_replies_cross_and_an_end_is_seen() {
        let (mut pid1, mut collector) = Connection::pair().unwrap();
        pid1.send(&Command::AwaitFence { number: 7 }).unwrap();
        pid1.send(&Command::Collected).unwrap();
        assert_eq!(collector.receive().unwrap(), Some(Command::AwaitFence { number: 7 }));
        assert_eq!(collector.receive().unwrap(), Some(Command::Collected));
        collector.send(&Reply::Failed { reason: "no".into() }).unwrap();
        drop(collector);
        assert_eq!(pid1.receive().unwrap(), Some(Reply::Failed { reason: "no".into() }));
        assert_eq!(pid1.receive::<Reply>().unwrap(), None);
    }
}
