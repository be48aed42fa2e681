// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a kernel version and a series to an image that boots.

pub mod apply;
pub mod apt;
pub mod digest;
pub mod event;
pub mod lock;
pub mod patch;
pub mod series;
pub mod source;
pub mod store;
pub mod unpack;
pub mod versions;
