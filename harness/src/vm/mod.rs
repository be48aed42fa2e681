// SPDX-License-Identifier: MIT OR Apache-2.0
//! Booting and driving a virtual machine.
//!
//! Nothing outside this folder knows QEMU's flags. A [`VmSpec`] says what is wanted; [`launch`] starts QEMU (and a
//! virtiofs daemon if there is a share) and gives a [`RunningVm`], whose events come in one bounded
//! channel: frames of both ports, findings of the console watch, the end. Dropping it ends everything.

pub mod accelerator;
pub mod agent;
pub mod console;
pub mod fallback;
pub mod initramfs;
mod machine;
pub mod perturbation;
mod qemu;
mod qmp;
pub mod virtiofs;
mod wire;

use std::{path::PathBuf, time::Duration};

pub use accelerator::Accelerator;
pub use console::ConsoleFinding;
pub use machine::{RunningVm, launch};
use nstrail_wire::{frame::FrameError, message::GuestMessage};
pub use perturbation::Perturbation;
use thiserror::Error;

use crate::process::ProcessError;

/// A virtual machine before it is started: everything about it, as data.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// QEMU's program.
    pub qemu: PathBuf,
    /// PVH `vmlinux`.
    pub kernel: PathBuf,
    /// Initramfs with the agent as `/init`.
    pub initrd: PathBuf,
    pub vcpus: u8,
    pub memory_mib: u32,
    pub accelerator: Accelerator,
    /// How its timing is disturbed.
    pub perturbation: Perturbation,
    /// Kernel parameters beside those that the machine itself needs.
    pub cmdline: Vec<String>,
    /// Where console.log, qemu.log and qemu.cmd go. Must exist.
    pub run_dir: PathBuf,
    /// Folder shared with the guest by virtiofs; its `artifacts/` is written by the guest.
    pub share: Option<PathBuf>,
    pub limits: Limits,
}

/// Time limits of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the start of QEMU.
    pub wall: Duration,
    /// Without any frame or console line.
    pub silence: Duration,
    /// As `silence`, before the first one.
    pub first_sign: Duration,
}

/// What a running machine tells.
#[derive(Debug)]
pub enum VmEvent {
    /// A message on the control port, and the frame that it came in.
    Control { message: GuestMessage, frame: Vec<u8> },
    /// Records of the audit stream: the payload of one frame (see [`nstrail_wire::batch`]).
    Audit(Vec<u8>),
    /// The console shows a splat; more of its lines may follow in the last event of its kind.
    Console(ConsoleFinding),
    /// A stream is faulty; nothing more comes from that port.
    Fault { channel: Channel, fault: StreamFault },
    /// QEMU has ended, because the guest did.
    Exited { status: String },
    /// QEMU, or the daemon of the share, has ended otherwise: trouble of this host.
    Broken { reason: String },
    /// The wall clock limit was reached. The machine still runs.
    WallLimit(Duration),
    /// Nothing was heard for so long. The machine still runs.
    SilenceLimit(Duration),
}

/// One of the guest's ways out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Control,
    Audit,
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Control => "control port",
            Self::Audit => "audit stream",
        })
    }
}

/// What is wrong with a stream.
#[derive(Debug, Error)]
pub enum StreamFault {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Message(#[from] nstrail_wire::message::MessageError),
    #[error("cannot read: {0}")]
    Read(#[from] std::io::Error),
}

/// A machine that could not be started.
#[derive(Debug, Error)]
pub enum BootFailure {
    #[error("cannot make a channel to the guest: {0}")]
    Channel(#[source] std::io::Error),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("cannot keep QEMU to one CPU: {0}")]
    Pin(#[source] std::io::Error),
    #[error("cannot find our own program for the virtiofs daemon: {0}")]
    OwnProgram(#[source] std::io::Error),
}
