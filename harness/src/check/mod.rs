// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ledger and log joined, invariants, findings.

pub mod joined;
