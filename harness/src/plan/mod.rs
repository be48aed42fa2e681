// SPDX-License-Identifier: MIT OR Apache-2.0
//! Run configuration to a list of runs.
