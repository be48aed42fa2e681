// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks for auditnsids where nobody may find them: outside the audit log (CONTRACT.md, "Terms").

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders whose files would be where a kernel shows such a number, and files that would have a field for it.
const FOLDERS: [&str; 4] = ["/proc/self", "/proc/self/attr", "/proc/thread-self", "/proc/sys/kernel"];
const FILES: [&str; 2] = ["/proc/self/status", "/proc/thread-self/status"];

/// No fact is long.
const LONGEST: usize = 100;

/// Files of /proc, and fields of files (`FILE: FIELD`), that by their name show an auditnsid.
///
/// # Errors
/// If one of them cannot be read; one that is not there shows nothing.
pub fn exposed() -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let Some(names) = there(names(Path::new(folder)))? else { continue };
        found.extend(names.into_iter().filter(|path| shows(path)).map(|path| path.display().to_string()));
    }
    for file in FILES {
        let Some(text) = there(fs::read_to_string(file))? else { continue };
        found.extend(fields(&text).map(|field| format!("{file}: {field}")));
    }
    found.sort();
    Ok(found.into_iter().map(|path| path.chars().take(LONGEST).collect()).collect())
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn shows(path: &Path) -> bool {
    path.file_name().is_some_and(|name| names_a_set(&name.to_string_lossy()))
}

fn fields(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(field, _)| field)
        .filter(|field| names_a_set(field))
}

/// `auditnsid`, `AuditNsid`, `audit_ns_id`, `nsid`; not `NSsid` or `ns_last_pid`, which every kernel has.
fn names_a_set(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphabetic).collect();
    plain.to_ascii_lowercase().contains("nsid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_shows_a_set_is_told_from_those_that_are_there_anyway() {
        for name in ["auditnsid", "audit_ns_id", "AuditNsid", "nsid"] {
            assert!(names_a_set(name), "{name}");
        }
        for name in ["NSsid", "NSpid", "NStgid", "ns_last_pid", "sessionid", "loginuid", "ns", "uid_map"] {
            assert!(!names_a_set(name), "{name}");
        }
    }

    #[test]
    fn a_field_is_found_in_a_status() {
        let text = "Name:\tcat\nNSsid:\t7\nAuditNsid:\t0x2\nThreads:\t1\n";
        assert_eq!(fields(text).collect::<Vec<_>>(), ["AuditNsid"]);
    }

    #[test]
    fn a_kernel_without_the_series_shows_nothing() {
        assert_eq!(exposed().unwrap(), Vec::<String>::new());
    }
}
