// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `nstrail` command.

fn main() {}
