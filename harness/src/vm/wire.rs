// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's ends of the guest's channels: one thread each, into one bounded channel.
//!
//! When the checker is slower than the guest, the channel is full, the thread stops reading, the port
//! fills up, and the guest is throttled by the kernel's backlog wait: nothing is dropped on the way.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::mpsc::SyncSender,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nstrail_wire::{
    frame::{FrameDecoder, FrameEncoder, FrameError},
    message::{self, GuestMessage},
};

use crate::process::ExitFd;

use super::{
    Channel, StreamFault, VmEvent,
    console::{ConsoleWatch, Seen},
};

/// What the reading threads send.
#[derive(Debug)]
pub enum Heard {
    Event(VmEvent),
    /// A console line without an event of its own: a sign of life.
    Line,
    /// A channel has ended.
    Closed,
    /// The daemon of the share has ended.
    DaemonGone,
}

const CHUNK: usize = 256 * 1024;
/// A splat is over when the console has been silent for so long.
const SPLAT_SILENCE: Duration = Duration::from_secs(1);
/// The same for a panic, after which the machine is of no use any more.
const PANIC_SILENCE: Duration = Duration::from_millis(300);
/// A panic is told so long after its first line at the latest, however much it still prints.
const PANIC_LIMIT: Duration = Duration::from_secs(1);

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Reads frames of a port until its end, its first fault, or until nobody listens any more.
pub fn read_port(
    channel: Channel,
    mut stream: UnixStream,
    heard: SyncSender<Heard>,
) -> io::Result<JoinHandle<()>> {
    thread(if channel == Channel::Audit { "audit" } else { "control" }, move || {
        let mut decoder = FrameDecoder::new();
        let mut chunk = vec![0; CHUNK];
        let ended = loop {
            match stream.read(&mut chunk) {
                Ok(0) => break decoder.finish().map_err(StreamFault::from),
                Ok(length) => decoder.extend(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // QEMU was killed: what it had not sent yet is gone, as at an end of file.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    break decoder.finish().map_err(StreamFault::from);
                }
                Err(error) => break Err(error.into()),
            }
            match forward(channel, &mut decoder, &heard) {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => break Err(fault),
            }
        };
        if let Err(fault) = ended {
            // If nobody listens any more, nobody is left to be told.
            let _ = heard.send(Heard::Event(VmEvent::Fault { channel, fault }));
        }
        let _ = heard.send(Heard::Closed);
    })
}

/// Sends every whole frame; false if nobody listens any more.
fn forward(
    channel: Channel,
    decoder: &mut FrameDecoder,
    heard: &SyncSender<Heard>,
) -> Result<bool, StreamFault> {
    loop {
        let sequence = decoder.frames();
        let Some(payload) = decoder.next_frame()? else { return Ok(true) };
        let event = match channel {
            Channel::Audit => VmEvent::Audit(payload.to_vec()),
            Channel::Control => {
                let message: GuestMessage = message::decode(payload)?;
                VmEvent::Control { message, frame: frame_again(sequence, payload)? }
            }
        };
        if heard.send(Heard::Event(event)).is_err() {
            return Ok(false);
        }
    }
}

/// The frame's bytes as they came: a frame is determined by its sequence and payload.
fn frame_again(sequence: u64, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut frame = Vec::new();
    FrameEncoder::starting_at(sequence).encode(payload, &mut frame)?;
    Ok(frame)
}

/// Waits for the end of the daemon of the share.
pub fn await_daemon(exit: ExitFd, heard: SyncSender<Heard>) -> io::Result<JoinHandle<()>> {
    thread("share", move || {
        exit.wait();
        // If nobody listens any more, the machine is being ended.
        let _ = heard.send(Heard::DaemonGone);
    })
}

/// Reads the console to its end: every byte into `log`, every line past the watch.
pub fn read_console(
    mut stream: UnixStream,
    log: PathBuf,
    heard: SyncSender<Heard>,
) -> io::Result<JoinHandle<()>> {
    let mut file = File::create(&log)?;
    thread("console", move || {
        let mut watch = ConsoleWatch::new();
        let mut panic_since = None;
        let mut pending = Vec::new();
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let patience = watch.open_kind().map(|kind| match kind.is_fatal() {
                true => {
                    let seen = *panic_since.get_or_insert_with(Instant::now);
                    PANIC_LIMIT.saturating_sub(seen.elapsed()).min(PANIC_SILENCE)
                }
                false => SPLAT_SILENCE,
            });
            let over = patience.is_some_and(|patience| patience.is_zero());
            // A socket that takes no timeout has ended.
            let length = match (over, stream.set_read_timeout(patience.filter(|_| !over))) {
                (true, _) => Err(io::ErrorKind::WouldBlock.into()),
                (false, Err(error)) => Err(error),
                (false, Ok(())) => stream.read(&mut chunk),
            };
            let length = match length {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some(finding) = watch.take() else { continue };
                    if heard.send(Heard::Event(VmEvent::Console(finding))).is_err() {
                        return;
                    }
                    continue;
                }
                Err(_) => break,
            };
            // A full disk must not stop the watch; the capture's own files report it.
            let _ = file.write_all(&chunk[..length]);
            pending.extend_from_slice(&chunk[..length]);
            while let Some(end) = memchr::memchr(b'\n', &pending) {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                let seen = watch.line(text.trim_end_matches(['\n', '\r']));
                let sent = match seen {
                    Seen::Nothing => heard.send(Heard::Line),
                    Seen::Whole(finding) => heard.send(Heard::Event(VmEvent::Console(finding))),
                };
                if sent.is_err() {
                    return;
                }
            }
        }
        if !pending.is_empty()
            && let Seen::Whole(finding) = watch.line(&String::from_utf8_lossy(&pending))
        {
            let _ = heard.send(Heard::Event(VmEvent::Console(finding)));
        }
        if let Some(finding) = watch.take() {
            let _ = heard.send(Heard::Event(VmEvent::Console(finding)));
        }
        let _ = heard.send(Heard::Closed);
    })
}
