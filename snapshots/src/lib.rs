// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds the reviewed snapshots; the tests replay recorded runs against them.
