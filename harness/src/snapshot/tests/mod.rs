// SPDX-License-Identifier: MIT OR Apache-2.0
//! The canonical form under test: what it reads like, what it must not depend on, and what it must show.

mod change;
mod fold;
mod order;
mod world;
