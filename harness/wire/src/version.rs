// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel's version as far as its abilities depend on it: `6.12`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelVersion {
    pub major: u32,
    pub minor: u32,
}

impl KernelVersion {
    /// The first two numbers of a longer version: `6.12` of `6.12.117-1`.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-', '~']).map(|part| part.parse().ok());
        Some(Self { major: numbers.next()??, minor: numbers.next()?? })
    }
}

impl FromStr for KernelVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version = Self::of(text).filter(|version| version.to_string() == text);
        version.ok_or_else(|| format!("`{text}` is no kernel version (hint: \"6.12\")"))
    }
}

impl TryFrom<String> for KernelVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<KernelVersion> for String {
    fn from(version: KernelVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let version = |text: &str| text.parse::<KernelVersion>().unwrap();
        assert!(version("5.10") < version("6.1") && version("6.1") < version("6.12"));
        assert!(version("6.3") < version("6.12"));
    }

    #[test]
    fn two_numbers_and_nothing_else_are_a_version() {
        for text in ["6", "6.x", "6.12.1", "v6.12", "6.012", ""] {
            assert!(text.parse::<KernelVersion>().is_err(), "{text}");
        }
        assert_eq!(KernelVersion::of("6.12.117-1"), "6.12".parse().ok());
        assert_eq!(KernelVersion::of("7.3~rc1"), "7.3".parse().ok());
        assert_eq!(KernelVersion::of("next"), None);
    }
}
