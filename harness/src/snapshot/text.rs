// SPDX-License-Identifier: MIT OR Apache-2.0
//! The canonical form itself: text, the same bytes for the same behaviour.

use std::fmt;

use super::shape::Forest;

/// Version of the form; a change of it makes every snapshot pending.
const VERSION: u32 = 1;

/// What a reader is told that a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title {
    /// Preorder number of the step.
    pub step: u32,
    pub text: String,
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            // What the agent does by itself after the last step has no number that means anything to a reader.
            u32::MAX => f.write_str(&self.text),
            step => write!(f, "step {step}: {}", self.text),
        }
    }
}

/// The canonical form of a run. Ends with a newline and has no space at the end of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    text: String,
}

impl Canonical {
    pub(super) fn write(scenario: &str, forest: &Forest) -> Self {
        let mut text = format!("lineage of {scenario} (form {VERSION})\n\n");
        forest.write(&mut text);
        Self { text }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// For text that is canonical already: what a recorded snapshot holds.
impl From<String> for Canonical {
    fn from(text: String) -> Self {
        Self { text }
    }
}
