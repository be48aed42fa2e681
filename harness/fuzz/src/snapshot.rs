// SPDX-License-Identifier: MIT OR Apache-2.0
//! A snapshot file that somebody has edited, compared with a run's canonical form, reviewed and accepted.

use std::{fs, path::Path};

use nstrail::snapshot::{Canonical, Comparison, Mode, Shelf};

const KIND: &[u8] = b"\n=== run\n";

/// A snapshot file; what follows a line `=== run` is the body of the canonical form.
pub fn snapshot(bytes: &[u8]) {
    let at = bytes.windows(KIND.len()).position(|window| window == KIND);
    let (file, body) = at.map_or((bytes, &b""[..]), |at| (&bytes[..=at], &bytes[at + KIND.len()..]));
    // insta reads files.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("smoke.snap");
    fs::write(&path, file).expect("a snapshot");
    review(&Shelf::new(folder.path()), &path, &form(body));
}

/// As the checker writes one: it has no space at the end of a line.
fn form(body: &[u8]) -> Canonical {
    let mut text = "lineage of smoke (form 1)\n\n".to_owned();
    for line in String::from_utf8_lossy(body).replace('\r', " ").lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Canonical::from(text)
}

fn review(shelf: &Shelf, path: &Path, form: &Canonical) {
    let compare = |mode| shelf.compare("smoke", "6.12", form, mode);
    let denied = compare(Mode::Deny);
    assert_eq!(shelf.pending().expect("the folder"), [""; 0], "a pending file without leave");
    // Of a file that is none insta may think otherwise.
    let said = if denied.is_ok() { description(path) } else { None };
    match compare(Mode::Auto) {
        Err(error) => {
            assert_eq!(denied.expect_err("the same without writing").to_string(), error.to_string());
            assert!(error.to_string().contains("smoke.snap"));
            return;
        }
        Ok(Comparison::Match { .. }) => {
            assert_eq!(shelf.pending().expect("the folder"), [""; 0]);
            return;
        }
        Ok(Comparison::Changed { diff, .. }) => {
            assert_eq!(shelf.diff("smoke").expect("a difference"), diff);
            assert!(diff.contains("\n+") || diff.contains("\n-"), "{diff}");
        }
        Ok(other) => panic!("{other:?} though the file is there"),
    }
    assert_eq!(shelf.pending().expect("the folder"), ["smoke"]);
    shelf.accept("smoke").expect("what was written is a snapshot");
    let again = compare(Mode::Deny).expect("what was accepted");
    assert!(matches!(again, Comparison::Match { .. }), "{again:?}");
    assert_eq!(description(path), said, "what it says of itself is kept");
}

/// What the file says of itself, read by insta.
fn description(path: &Path) -> Option<String> {
    insta::Snapshot::from_file(path).ok()?.metadata().description().map(str::to_owned)
}
