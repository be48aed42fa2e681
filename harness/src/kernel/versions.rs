// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel lines of kernel-configs/versions.toml, and Debian's order of version strings.

use std::cmp::Ordering;
use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

static LINES: LazyLock<Vec<KernelLine>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        line: Vec<KernelLine>,
    }
    let text = include_str!("../../../kernel-configs/versions.toml");
    let table = toml::from_str::<Table>(text).unwrap_or_else(|error| {
        // The file is embedded: a test parses it, so this is never seen by a user.
        panic!("kernel-configs/versions.toml: {error}")
    });
    table.line
});

/// A line of kernel releases, and where Debian has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelLine {
    /// As in `linux-source-6.12`.
    pub version: String,
    /// Suites that carry it.
    pub suites: Vec<String>,
    /// Steps that make takes for our configuration: what progress is shown against until a build was counted.
    pub steps: Option<u32>,
    /// Configuration fragments that this line has in addition, after the common ones.
    #[serde(default)]
    pub fragments: Vec<String>,
}

impl KernelLine {
    /// Every line that nstrail knows, oldest first.
    #[must_use]
    pub fn all() -> &'static [KernelLine] {
        &LINES
    }

    /// The line that a version (`6.12`, or exact: `6.12.115-2~deb12u1`) belongs to.
    #[must_use]
    pub fn of(version: &str) -> Option<&'static KernelLine> {
        KernelLine::all().iter().find(|line| {
            version
                .strip_prefix(line.version.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Debian's package of its source.
    #[must_use]
    pub fn package(&self) -> String {
        format!("linux-source-{}", self.version)
    }
}

/// A version of a Debian package, ordered as dpkg orders it (deb-version(7)).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DebianVersion(pub String);

impl fmt::Display for DebianVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DebianVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialOrd for DebianVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DebianVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let (epoch, upstream, revision) = self.parts();
        let (other_epoch, other_upstream, other_revision) = other.parts();
        epoch
            .cmp(&other_epoch)
            .then_with(|| compare_part(upstream, other_upstream))
            .then_with(|| compare_part(revision, other_revision))
    }
}

impl DebianVersion {
    fn parts(&self) -> (u64, &str, &str) {
        let (epoch, rest) = match self.0.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
            None => (0, self.0.as_str()),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
}

/// dpkg's lib/dpkg/version.c:verrevcmp: runs of non-digits by character, where `~` comes before
/// the end and letters before the rest; runs of digits as numbers.
fn compare_part(a: &str, b: &str) -> Ordering {
    let weight = |c: Option<&u8>| match c {
        Some(b'~') => -1,
        None | Some(b'0'..=b'9') => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let alpha = |text: &[u8]| text.first().is_some_and(|c| !c.is_ascii_digit());
        while alpha(a) || alpha(b) {
            match weight(a.first()).cmp(&weight(b.first())) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (number_a, rest_a) = a.split_at(digits(a));
        let (number_b, rest_b) = b.split_at(digits(b));
        let trim = |number: &[u8]| number.iter().skip_while(|c| **c == b'0').copied().collect::<Vec<u8>>();
        let (number_a, number_b) = (trim(number_a), trim(number_b));
        match number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(&number_b)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_version_finds_its_line_and_a_longer_number_does_not() {
        assert_eq!(KernelLine::of("6.12").unwrap().package(), "linux-source-6.12");
        assert_eq!(KernelLine::of("6.12.115-2~deb12u1").unwrap().version, "6.12");
        assert_eq!(KernelLine::of("6.1.190-1").unwrap().version, "6.1");
        assert_eq!(KernelLine::of("6.120"), None);
        assert_eq!(KernelLine::of(""), None);
    }

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ascending = [
            "5.10.9-1",
            "5.10.251-5",
            "6.1.180-1~deb11u1",
            "6.1.180-1",
            "6.12.107-1~deb12u1",
            "6.12.107-1",
            "6.12.117-1~deb12u1",
            "6.12.117-1",
            "6.12.117-1+b1",
            "7.2~rc1-1",
            "7.2.9-1~bpo13+1",
            "7.2.12-1",
            "1:1.0-1",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                let ordering = DebianVersion((*a).into()).cmp(&DebianVersion((*b).into()));
                assert_eq!(ordering, i.cmp(&j), "{a} {b}");
            }
        }
    }
}
