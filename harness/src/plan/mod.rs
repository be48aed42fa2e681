// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to be run: the project's folders, settings, scenarios.

pub mod every;
pub mod line;
pub mod matrix;
pub mod objection;
pub mod project;
pub mod scenario;
pub mod settings;
pub mod title;
