// SPDX-License-Identifier: MIT OR Apache-2.0
//! A quilt series file: patches by name, one a line, in order.

use std::path::{Component, Path};

use super::super::patch::Strip;
use super::error::SeriesError;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// In the file, from 1.
    pub line: usize,
    /// Path of the patch, from the file's folder.
    pub name: String,
    /// Of its paths.
    pub strip: Strip,
}

/// Reads the text of the file at `path`.
///
/// # Errors
/// [`SeriesError::Quilt`] with the line.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Listed>, SeriesError> {
    let mut found: Vec<Listed> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let error = |what: String| SeriesError::Quilt { path: path.to_owned(), line: i + 1, what };
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(name) = words.next() else { continue };
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(error(format!("`{name}` leaves the folder of the series")));
        }
        let mut strip = Strip::One;
        while let Some(word) = words.next() {
            let value = match word {
                "-p" => words.next(),
                _ => word.strip_prefix("-p"),
            };
            strip = match value {
                Some("0") => Strip::None,
                Some("1" | "ab") => Strip::One,
                _ => {
                    return Err(error(format!(
                        "`{word}` is not supported for {name} (hint: -p1 and -p0 are; refresh the patch with quilt \
                         refresh -p1)"
                    )));
                }
            };
        }
        if let Some(before) = found.iter().find(|listed| listed.name == name) {
            return Err(error(format!("{name} is listed twice, first in line {}", before.line)));
        }
        found.push(Listed { line: i + 1, name: name.to_owned(), strip });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_strip_options_are_kept() {
        let text = "# all\n\na.patch\nsub/b.patch -p0 # why\nc.patch -p 1\n  d.patch -pab\n#e.patch\n";
        let found = parse(Path::new("series"), text).unwrap();
        let seen: Vec<_> =
            found.iter().map(|listed| (listed.line, listed.name.as_str(), listed.strip)).collect();
        let expected = [
            (3, "a.patch", Strip::One),
            (4, "sub/b.patch", Strip::None),
            (5, "c.patch", Strip::One),
            (6, "d.patch", Strip::One),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_not_supported_is_named_with_its_line() {
        for (text, expected) in [
            ("a\nb -p2\n", "p/series:2: `-p2` is not supported for b"),
            ("a -R\n", "p/series:1: `-R` is not supported for a"),
            ("a -p\n", "p/series:1: `-p` is not supported for a"),
            ("a\na\n", "p/series:2: a is listed twice, first in line 1"),
            ("../a\n", "p/series:1: `../a` leaves the folder"),
            ("/a\n", "p/series:1: `/a` leaves the folder"),
        ] {
            let error = parse(Path::new("p/series"), text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
