// SPDX-License-Identifier: MIT OR Apache-2.0
//! Booting and driving a virtual machine.
