// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users read: terminal, KTAP, JSON.
