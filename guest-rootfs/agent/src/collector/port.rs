// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writing end of a virtio-serial port: frames, whole ones, from any thread.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

use nstrail_wire::{
    frame::FrameEncoder,
    message::{self, GuestMessage},
};

#[derive(Debug)]
struct Writer {
    file: File,
    encoder: FrameEncoder,
    bytes: Vec<u8>,
    /// The last message has been sent; what comes after it is dropped.
    ended: bool,
}

/// A port. One frame is written after the other.
#[derive(Debug)]
pub struct Port(Mutex<Writer>);

impl Port {
    #[must_use]
    pub fn new(file: File) -> Self {
        Self(Mutex::new(Writer { file, encoder: FrameEncoder::new(), bytes: Vec::new(), ended: false }))
    }

    /// Writes one frame. Waits while the host does not read.
    ///
    /// # Errors
    /// If the port is broken, or the payload is longer than a frame can be.
    pub fn write(&self, payload: &[u8]) -> io::Result<()> {
        self.write_frame(payload, false)
    }

    /// Writes a message; [`GuestMessage::Finished`] and [`GuestMessage::Failed`] are the last ones.
    ///
    /// # Errors
    /// As [`Port::write`].
    pub fn send(&self, message: &GuestMessage) -> io::Result<()> {
        let last = matches!(message, GuestMessage::Finished { .. } | GuestMessage::Failed { .. });
        let payload = message::encode(message).map_err(io::Error::other)?;
        self.write_frame(&payload, last)
    }

    fn write_frame(&self, payload: &[u8], last: bool) -> io::Result<()> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { file, encoder, bytes, ended } = &mut *writer;
        if *ended {
            return Ok(());
        }
        *ended = last;
        bytes.clear();
        encoder.encode(payload, bytes).map_err(io::Error::other)?;
        file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use nstrail_wire::frame::FrameDecoder;

    use super::*;

    #[test]
    fn nothing_follows_the_last_message() {
        let path = std::env::temp_dir().join(format!("nstrail-port-{}", std::process::id()));
        let mut file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let port = Port::new(file.try_clone().unwrap());
        let failed = GuestMessage::Failed { step: Some(3), reason: "no".into() };
        port.write(b"first").unwrap();
        port.send(&failed).unwrap();
        port.write(b"late").unwrap();
        port.send(&GuestMessage::Finished { workload_ns: 1, containers: 2, pid_rollovers: 3 }).unwrap();

        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let mut decoder = FrameDecoder::new();
        decoder.extend(&bytes);
        assert_eq!(decoder.next_frame().unwrap(), Some(&b"first"[..]));
        let payload = decoder.next_frame().unwrap().unwrap();
        assert_eq!(message::decode::<GuestMessage>(payload).unwrap(), failed);
        assert_eq!(decoder.next_frame().unwrap(), None);
    }
}
