// SPDX-License-Identifier: MIT OR Apache-2.0
//! Canonical form of a run, and its comparison with the reviewed one.
