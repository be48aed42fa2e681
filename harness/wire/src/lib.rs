// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames and messages between the guest agent and the host.
//!
//! This crate does no I/O: it turns messages into bytes and bytes into messages, and both sides of
//! the virtio-serial ports link it. Three channels leave a guest and never mix: the console (plain
//! text, not described here), *control* ([`message`]: commands in; facts and the end of the workload out)
//! and the *audit stream* ([`batch`]: netlink records as the kernel queued them). Both ports
//! carry [`frame`]s, so that a cut, doubled, swapped or damaged piece is seen and named.

pub mod batch;
pub mod errno;
pub mod fact;
pub mod frame;
pub mod message;
pub mod namespace;
pub mod perf;
pub mod rule;
pub mod scenario;
pub mod splat;
pub mod step;
pub mod version;
