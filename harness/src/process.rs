// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one wrapper for child processes: process group, deadline, log file. Built on duct.
