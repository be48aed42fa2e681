// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to be run: the project's folders, settings, scenarios, and the splats that are known.

pub mod date;
pub mod every;
pub mod known_splats;
pub mod line;
pub mod matrix;
pub mod mutant;
pub mod objection;
pub mod project;
pub mod scenario;
pub mod settings;
pub mod title;
