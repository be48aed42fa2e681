// SPDX-License-Identifier: MIT OR Apache-2.0
//! Audit log bytes to records, records to events, events to the auditnsid model. No VM, no clock, no I/O.
