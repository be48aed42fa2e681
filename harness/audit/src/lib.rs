// SPDX-License-Identifier: MIT OR Apache-2.0
//! Audit log bytes to records, records to events, events to the auditnsid model. No VM, no clock, no I/O.
//!
//! The way of the data: bytes -> [`Record`] (borrowed) -> [`EventGrouper`] -> [`Event`], and [`NsidOp`] ->
//! [`Model`]. Each stage can be used alone:
//!
//! - [`record`]: the header `audit(SEC.MS:SERIAL): ` of a netlink payload, and a raw line as auditd writes it;
//!   one parser for both. A record borrows its bytes, which need not be text.
//! - [`field`]: `key=value` on demand.
//! - [`kind`]: record type numbers and names, both directions.
//! - [`nsid`]: the three records of the auditnsid contract (CONTRACT.md, "Records"), typed and strict.
//! - [`event`]: records that share (time, serial), without assuming that they are contiguous.
//! - [`holes`]: ids that were jumped over.
//! - [`model`]: which auditnsids are live, what they came from, what was lost.
//! - [`packet`]: which of them a packet could belong to.
//!
//! Malformed input gives a typed error, never a panic.

// Numbers of a log are never cut down to fit.
#![cfg_attr(
    not(test),
    deny(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )
)]

pub mod event;
pub mod field;
pub mod holes;
pub mod kind;
pub mod model;
pub mod nsid;
pub mod packet;
pub mod record;

pub use event::{Event, EventGrouper};
pub use field::{Field, Fields, Value};
pub use holes::Holes;
pub use kind::Kind;
pub use model::{Fault, Model};
pub use nsid::{FlagNames, FormatError, Netns, NsidOp, Op, parse_nsid};
pub use packet::{Packet, PacketTracer};
pub use record::{Record, RecordError, Stamp, raw_line};
