// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splats that are known and put up with, for a time: `known-splats.toml`.
//!
//! Each entry says why, where that is written down, and until when. A known splat is shown and does not count; once
//! its day has passed, the entry itself makes a run fail, whether or not the splat is seen: what nobody
//! renews must not stay. A kernel that panicked is never put up with.

use std::path::{Path, PathBuf};

use nstrail_wire::version::KernelVersion;
use regex::Regex;
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use super::date::Date;
use crate::vm::{
    ConsoleFinding,
    console::{Fingerprint, SplatKind},
};

/// Name of the file in kernel-configs/.
pub const FILE_NAME: &str = "known-splats.toml";

/// The file, as of a day.
#[derive(Debug, Clone)]
pub struct KnownSplats {
    path: PathBuf,
    today: Date,
    entries: Vec<KnownSplat>,
}

/// One entry.
#[derive(Debug, Clone)]
pub struct KnownSplat {
    which: Which,
    /// Empty: all.
    kernels: Vec<KernelVersion>,
    pub reason: String,
    pub link: String,
    /// The last day on which it counts.
    pub expires: Date,
    /// In the file, from 1.
    pub line: usize,
}

#[derive(Debug, Clone)]
enum Which {
    Fingerprint(String),
    /// Of a kind, with a line that matches.
    Kind(SplatKind, Regex),
}

/// What the file says about a splat.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    No,
    Yes(&'a KnownSplat),
    /// It did, until some day.
    Expired(&'a KnownSplat),
}

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum KnownSplatsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The parser's message has line and column.
    #[error("{}: {message}", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("{}:{line}: {field}: {message}", path.display())]
    Field { path: PathBuf, line: usize, field: &'static str, message: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    splat: Vec<Spanned<Entry>>,
}

/// All optional, so that what is missing is told by us, with a hint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    fingerprint: Option<Spanned<String>>,
    kind: Option<Spanned<String>>,
    pattern: Option<Spanned<String>>,
    kernels: Option<Spanned<Vec<String>>>,
    reason: Option<Spanned<String>>,
    link: Option<Spanned<String>>,
    expires: Option<Spanned<toml::Value>>,
}

impl KnownSplats {
    /// Nothing is known.
    #[must_use]
    pub fn none(today: Date) -> Self {
        Self { path: PathBuf::new(), today, entries: Vec::new() }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`KnownSplatsError`].
    pub fn read(path: &Path, today: Date) -> Result<Self, KnownSplatsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KnownSplatsError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, today)
    }

    fn parse(text: &str, path: &Path, today: Date) -> Result<Self, KnownSplatsError> {
        let file: File = toml::from_str(text).map_err(|error| KnownSplatsError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let source = Text { text, path };
        let entries = file.splat.iter().map(|entry| source.entry(entry)).collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), today, entries })
    }

    /// What is known of a splat on a kernel of that version. An entry that stands goes before one that has expired.
    #[must_use]
    pub fn look_up(&self, splat: &ConsoleFinding, id: &str, kernel: Option<KernelVersion>) -> Known<'_> {
        if splat.kind.is_fatal() {
            return Known::No;
        }
        let mut expired = None;
        for entry in self.entries.iter().filter(|entry| entry.is_of(splat, id, kernel)) {
            if entry.expires >= self.today {
                return Known::Yes(entry);
            }
            expired = expired.or(Some(entry));
        }
        expired.map_or(Known::No, Known::Expired)
    }

    /// Entries whose day has passed, in words.
    #[must_use]
    pub fn expired(&self) -> Vec<String> {
        let expired = self.entries.iter().filter(|entry| entry.expires < self.today);
        expired.map(|entry| self.words(entry)).collect()
    }

    /// An entry that has expired.
    #[must_use]
    pub fn words(&self, entry: &KnownSplat) -> String {
        let which = match &entry.which {
            Which::Fingerprint(id) => id.clone(),
            Which::Kind(kind, pattern) => format!("{} `{pattern}`", kind.word()),
        };
        format!(
            "{}:{}: the known splat {which} expired on {}: {} ({}) (hint: find out whether it is mended, then remove or renew \
             the entry)",
            self.path.display(),
            entry.line,
            entry.expires,
            entry.reason,
            entry.link
        )
    }
}

impl KnownSplat {
    fn is_of(&self, splat: &ConsoleFinding, id: &str, kernel: Option<KernelVersion>) -> bool {
        let here = self.kernels.is_empty() || kernel.is_some_and(|kernel| self.kernels.contains(&kernel));
        here && match &self.which {
            Which::Fingerprint(known) => known == id,
            Which::Kind(kind, pattern) => {
                *kind == splat.kind && splat.lines.iter().any(|line| pattern.is_match(line))
            }
        }
    }
}

/// A file's text, to tell where in it something is wrong.
struct Text<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Text<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    fn wrong(&self, at: usize, field: &'static str, message: impl Into<String>) -> KnownSplatsError {
        KnownSplatsError::Field {
            path: self.path.to_owned(),
            line: self.line(at),
            field,
            message: message.into(),
        }
    }

    fn entry(&self, spanned: &Spanned<Entry>) -> Result<KnownSplat, KnownSplatsError> {
        let start = spanned.span().start;
        let entry = spanned.as_ref();
        let which = self.which(entry, start)?;
        let reason = self.filled(entry.reason.as_ref(), start, "reason", "why it does not count")?;
        let link = self.filled(entry.link.as_ref(), start, "link", "where that is written down")?;
        let address =
            link.as_ref().strip_prefix("https://").or_else(|| link.as_ref().strip_prefix("http://"));
        let has_host = |rest: &str| {
            let host = rest.split('/').next().unwrap_or_default();
            !host.is_empty() && !rest.contains(char::is_whitespace)
        };
        if !address.is_some_and(has_host) {
            let message = format!("`{}` is no address (hint: https://...)", link.as_ref());
            return Err(self.wrong(link.span().start, "link", message));
        }
        let mut kernels = Vec::new();
        if let Some(listed) = &entry.kernels {
            if listed.as_ref().is_empty() {
                return Err(self.wrong(
                    listed.span().start,
                    "kernels",
                    "is empty (hint: leave it out for all kernels)",
                ));
            }
            for version in listed.as_ref() {
                let version = version.parse();
                kernels.push(
                    version.map_err(|message: String| self.wrong(listed.span().start, "kernels", message))?,
                );
            }
        }
        Ok(KnownSplat {
            which,
            kernels,
            reason: reason.as_ref().trim().to_owned(),
            link: link.as_ref().clone(),
            expires: self.expires(entry, start)?,
            line: self.line(start),
        })
    }

    fn filled<'e>(
        &self,
        value: Option<&'e Spanned<String>>,
        start: usize,
        field: &'static str,
        meaning: &str,
    ) -> Result<&'e Spanned<String>, KnownSplatsError> {
        match value {
            Some(value) if !value.as_ref().trim().is_empty() => Ok(value),
            Some(value) => {
                Err(self.wrong(value.span().start, field, format!("is empty, expected {meaning}")))
            }
            None => Err(self.wrong(start, field, format!("is missing, expected {meaning}"))),
        }
    }

    fn which(&self, entry: &Entry, start: usize) -> Result<Which, KnownSplatsError> {
        match (&entry.fingerprint, &entry.kind, &entry.pattern) {
            (Some(id), None, None) if Fingerprint::is_id(id.as_ref()) => {
                Ok(Which::Fingerprint(id.as_ref().clone()))
            }
            (Some(id), None, None) => {
                let message =
                    format!("`{}` is none (hint: twelve hex digits, as the verdict shows them)", id.as_ref());
                Err(self.wrong(id.span().start, "fingerprint", message))
            }
            (None, Some(kind), Some(pattern)) => {
                let known = SplatKind::named(kind.as_ref()).ok_or_else(|| {
                    let known: Vec<&str> = SplatKind::ALL.into_iter().map(SplatKind::name).collect();
                    let message =
                        format!("`{}` is none (hint: there are {})", kind.as_ref(), known.join(", "));
                    self.wrong(kind.span().start, "kind", message)
                })?;
                if known.is_fatal() {
                    return Err(self.wrong(kind.span().start, "kind", "a panic is never put up with"));
                }
                let at = pattern.span().start;
                if pattern.as_ref().trim().is_empty() {
                    return Err(self.wrong(
                        at,
                        "pattern",
                        "is empty: it would match every splat of the kind",
                    ));
                }
                let regex = Regex::new(pattern.as_ref());
                Ok(Which::Kind(known, regex.map_err(|error| self.wrong(at, "pattern", error.to_string()))?))
            }
            (Some(_), ..) => Err(self.wrong(
                start,
                "fingerprint",
                "stands beside kind or pattern (hint: either the one or the others)",
            )),
            (None, Some(_), None) => Err(self.wrong(start, "pattern", "is missing beside kind")),
            (None, None, Some(_)) => Err(self.wrong(start, "kind", "is missing beside pattern")),
            (None, None, None) => {
                Err(self.wrong(start, "fingerprint", "is missing (hint: fingerprint, or kind and pattern)"))
            }
        }
    }

    fn expires(&self, entry: &Entry, start: usize) -> Result<Date, KnownSplatsError> {
        let Some(value) = &entry.expires else {
            return Err(self.wrong(start, "expires", "is missing, expected the last day on which it counts"));
        };
        let text = match value.as_ref() {
            toml::Value::Datetime(date) => date.to_string(),
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text.parse().map_err(|message: String| self.wrong(value.span().start, "expires", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\n[[splat]]\nfingerprint = \"0123456789ab\"\nreason = \"tty, not ours\"\n\
                         link = \"https://example.org/1\"\nexpires = 2026-12-31\n";

    fn known(text: &str, today: &str) -> Result<KnownSplats, String> {
        let today = today.parse().unwrap();
        KnownSplats::parse(text, Path::new("k.toml"), today).map_err(|error| error.to_string())
    }

    fn splat(kind: SplatKind, line: &str) -> ConsoleFinding {
        ConsoleFinding { kind, lines: vec!["first".to_owned(), line.to_owned()] }
    }

    const KERNEL: Option<KernelVersion> = Some(KernelVersion { major: 6, minor: 12 });

    #[test]
    fn an_entry_counts_up_to_its_last_day() {
        let splat = splat(SplatKind::Warning, "x");
        let on_the_day = known(WHOLE, "2026-12-31").unwrap();
        assert!(
            matches!(on_the_day.look_up(&splat, "0123456789ab", KERNEL), Known::Yes(entry) if entry.line == 2)
        );
        assert!(matches!(on_the_day.look_up(&splat, "0123456789ac", KERNEL), Known::No));
        assert_eq!(on_the_day.expired(), [""; 0]);
        let after = known(WHOLE, "2027-01-01").unwrap();
        assert!(matches!(after.look_up(&splat, "0123456789ab", KERNEL), Known::Expired(_)));
        let words = after.expired().concat();
        assert!(
            words.starts_with("k.toml:2: the known splat 0123456789ab expired on 2026-12-31: tty, not ours"),
            "{words}"
        );
    }

    #[test]
    fn an_entry_may_be_of_some_kernels_and_of_a_pattern() {
        let text = "[[splat]]\nkind = \"lockdep\"\npattern = '^\\s*tty_.*'\nkernels = [\"5.10\", \"6.1\"]\nreason = \"r\"\n\
                    link = \"http://example.org\"\nexpires = \"2026-12-31\"\n";
        let known = known(text, "2026-01-01").unwrap();
        let is_known = |kind, line, kernel: &str| {
            matches!(known.look_up(&splat(kind, line), "", KernelVersion::of(kernel)), Known::Yes(_))
        };
        assert!(is_known(SplatKind::Lockdep, " tty_lock+0x1/0x2", "6.1"));
        assert!(!is_known(SplatKind::Lockdep, " tty_lock+0x1/0x2", "6.12"));
        assert!(!is_known(SplatKind::Lockdep, " pty_lock+0x1/0x2", "6.1"));
        assert!(!is_known(SplatKind::Warning, " tty_lock+0x1/0x2", "6.1"));
    }

    #[test]
    fn a_panic_is_never_known() {
        let by_fingerprint = known(WHOLE, "2026-01-01").unwrap();
        let panic = splat(SplatKind::Panic, "x");
        assert!(matches!(by_fingerprint.look_up(&panic, "0123456789ab", KERNEL), Known::No));
        let text = WHOLE.replace("fingerprint = \"0123456789ab\"", "kind = \"panic\"\npattern = \"x\"");
        assert_eq!(known(&text, "2026-01-01").unwrap_err(), "k.toml:3: kind: a panic is never put up with");
    }

    #[test]
    fn an_entry_that_stands_goes_before_one_that_has_expired() {
        let text = format!("{WHOLE}{}", WHOLE.replace("2026-12-31", "2027-12-31"));
        let known = known(&text, "2027-01-01").unwrap();
        let found = known.look_up(&splat(SplatKind::Warning, "x"), "0123456789ab", KERNEL);
        assert!(matches!(found, Known::Yes(entry) if entry.line == 8));
        assert_eq!(known.expired().len(), 1);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_its_line() {
        for (from, to, expected) in [
            ("reason = \"tty, not ours\"\n", "", "k.toml:2: reason: is missing"),
            ("\"tty, not ours\"", "\" \"", "k.toml:4: reason: is empty"),
            ("link = \"https://example.org/1\"\n", "", "k.toml:2: link: is missing"),
            ("https://example.org/1", "", "k.toml:5: link: is empty"),
            ("https://example.org/1", "a mail", "k.toml:5: link: `a mail` is no address"),
            ("https://example.org/1", "https:///x", "k.toml:5: link: `https:///x` is no address"),
            ("expires = 2026-12-31\n", "", "k.toml:2: expires: is missing"),
            ("2026-12-31", "\"\"", "k.toml:6: expires: `` is no date"),
            ("2026-12-31", "\"soon\"", "k.toml:6: expires: `soon` is no date"),
            ("2026-12-31", "2026-12-31T10:00:00Z", "k.toml:6: expires: `2026-12-31T10:00:00Z` is no date"),
            ("2026-12-31", "7", "k.toml:6: expires: `7` is no date"),
            ("fingerprint = \"0123456789ab\"\n", "", "k.toml:2: fingerprint: is missing"),
            ("0123456789ab", "0123", "k.toml:3: fingerprint: `0123` is none"),
            ("reason", "kind = \"warning\"\nreason", "k.toml:2: fingerprint: stands beside"),
            ("fingerprint = \"0123456789ab\"", "kind = \"warning\"", "k.toml:2: pattern: is missing"),
            ("fingerprint = \"0123456789ab\"", "pattern = \"x\"", "k.toml:2: kind: is missing"),
            (
                "fingerprint = \"0123456789ab\"",
                "kind = \"warn\"\npattern = \"x\"",
                "k.toml:3: kind: `warn` is none",
            ),
            ("fingerprint = \"0123456789ab\"", "kind = \"warning\"\npattern = \"(\"", "k.toml:4: pattern: "),
            (
                "fingerprint = \"0123456789ab\"",
                "kind = \"warning\"\npattern = \"\"",
                "k.toml:4: pattern: is empty",
            ),
            ("reason", "kernels = []\nreason", "k.toml:4: kernels: is empty"),
            ("reason", "kernels = [\"six\"]\nreason", "k.toml:4: kernels: `six` is no kernel version"),
        ] {
            assert!(WHOLE.contains(from), "{from}");
            let error = known(&WHOLE.replacen(from, to, 1), "2026-01-01").unwrap_err();
            assert!(error.starts_with(expected), "{error}\nexpected {expected}");
        }
        let unknown = known(&WHOLE.replace("reason", "raeson"), "2026-01-01").unwrap_err();
        assert!(unknown.contains("line 4") && unknown.contains("raeson"), "{unknown}");
    }

    #[test]
    fn the_file_of_the_project_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-configs").join(FILE_NAME);
        KnownSplats::read(&path, Date::of_unix(0)).unwrap();
    }
}
