// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages on the control port, each the payload of one frame, encoded by postcard.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{fact::Fact, perf::PerfEvent, scenario::Scenario};

/// Version of this protocol. The agent is built from the same tree as the host, so a difference
/// means a stale initramfs.
pub const PROTOCOL: u32 = 7;

/// Name of the virtio-serial port for control.
pub const CONTROL_PORT: &str = "nstrail.control";
/// Name of the virtio-serial port for the audit stream.
pub const AUDIT_PORT: &str = "nstrail.audit";
/// Tag of the virtiofs share: `rootfs/` (read by the guest) and `artifacts/` (written by it).
pub const SHARE_TAG: &str = "nstrail";

/// Host to guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HostMessage {
    /// Run this scenario, once.
    Start { scenario: Scenario, seed: u64 },
}

/// Guest to host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GuestMessage {
    /// First message: the agent runs.
    Hello {
        protocol: u32,
        /// `uname -r`.
        kernel_release: String,
        /// Online CPUs.
        cpus: u32,
        /// CLOCK_BOOTTIME at this moment, nanoseconds.
        booted_ns: u64,
    },
    /// Entries of the ledger, in order.
    Facts(Vec<Fact>),
    /// Last message: every step ran to its end, the last fence stands, nothing is left to send.
    Finished {
        /// Nanoseconds from `Start` to the end of the last step, without set-up and fences.
        workload_ns: u64,
        /// Namespace sets made (successful operations with a namespace type and implicit moves as the agent counts its calls).
        containers: u64,
        /// Times that the PID counter was seen to wrap around.
        pid_rollovers: u64,
    },
    /// Last message: the agent could not do what it was told to. Trouble of ours, not a finding.
    Failed {
        /// Preorder number of the step, if one was running.
        step: Option<u32>,
        /// What failed, in words, with the errno's name.
        reason: String,
    },
    /// What perf saw, in order.
    Perf(Vec<PerfEvent>),
}

/// A payload that is no message.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("message cannot be decoded: {0} (hint: agent and host were built from different trees)")]
pub struct MessageError(pub String);

/// Encodes a message as the payload of a frame.
///
/// # Errors
/// Only if serialization itself fails, which none of the types here does.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    postcard::to_stdvec(message).map_err(|error| MessageError(error.to_string()))
}

/// Decodes the payload of a frame.
///
/// # Errors
/// If the bytes are no message of this type, or go on behind one.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(MessageError(format!("{} bytes follow it", rest.len()))),
        Err(error) => Err(MessageError(error.to_string())),
    }
}
