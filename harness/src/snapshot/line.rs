// SPDX-License-Identifier: MIT OR Apache-2.0
//! A line of the canonical form: text with names in it that get their labels only when the whole is
//! written.

use std::borrow::Cow;
use std::sync::Arc;

use super::origin::{Origin, resolve};

/// A piece of a line.
#[derive(Clone, Debug)]
enum Part {
    Text(Cow<'static, str>),
    Name(Arc<Origin>),
}

/// A line.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    parts: Vec<Part>,
    /// What came into being by what the line tells, in the order in which the line names it.
    made: Vec<Arc<Origin>>,
}

/// Gives names to origins: labels for readers, or symbols for comparison.
pub(super) trait Names {
    /// Appends the name of `origin`, which is resolved.
    fn name(&mut self, origin: &Arc<Origin>, out: &mut String);
}

impl Line {
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let mut line = Self::default();
        line.text(text);
        line
    }

    pub(super) fn text(&mut self, text: impl Into<Cow<'static, str>>) -> &mut Self {
        self.parts.push(Part::Text(text.into()));
        self
    }

    /// Names what exists.
    pub(super) fn name(&mut self, origin: &Arc<Origin>) -> &mut Self {
        self.parts.push(Part::Name(Arc::clone(origin)));
        self
    }

    /// Names what the line's operation made.
    pub(super) fn make(&mut self, origin: &Arc<Origin>) -> &mut Self {
        self.made.push(Arc::clone(origin));
        self.name(origin)
    }

    /// Adds the parts of another line.
    pub(super) fn append(&mut self, other: Self) -> &mut Self {
        self.parts.extend(other.parts);
        self.made.extend(other.made);
        self
    }

    pub(super) fn made(&self) -> &[Arc<Origin>] {
        &self.made
    }

    /// The number of pieces.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn write(&self, names: &mut dyn Names, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(origin) => names.name(&resolve(origin), out),
            }
        }
    }
}
