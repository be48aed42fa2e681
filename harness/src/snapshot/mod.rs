// SPDX-License-Identifier: MIT OR Apache-2.0
//! Canonical form of a run, and its comparison with the reviewed one.

mod actor;
mod line;
mod lineage;
mod membership;
mod origin;
mod review;
mod shape;
mod text;
mod words;

pub use lineage::Lineage;
pub use review::{Comparison, Mode, ReviewError, Shelf};
pub use text::{Canonical, Title};

#[cfg(test)]
mod tests;
