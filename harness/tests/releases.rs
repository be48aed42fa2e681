// SPDX-License-Identifier: MIT OR Apache-2.0
//! The series of every kernel line on every point release of it that Debian's archive has.
//!
//! Each is downloaded and unpacked in a cache of its own, which is gone before the next: a minute for each, half a minute
//! of it on the network. So it is behind a feature: `make releases`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{expect, nstrail, text};

#[test]
fn the_series_apply_to_every_release_of_the_archive_with_offsets_at_most() {
    let out = tempfile::tempdir().unwrap();
    let listed = text(&expect(0, out.path(), &["kernels", "list", "--archive"]).stdout);
    let releases: Vec<(&str, &str)> = listed
        .lines()
        .map(|line| {
            let (line, release) = line.split_once(' ').unwrap();
            (line, release.trim())
        })
        .collect();
    for line in ["5.10", "6.1", "6.12", "7.2", "7.3"] {
        assert!(releases.iter().any(|(of, _)| *of == line), "no release of {line} in\n{listed}");
    }
    let mut applied: Vec<&str> = Vec::new();
    for (line, release) in releases {
        let cache = tempfile::tempdir().unwrap();
        let cache = cache.path().to_str().unwrap();
        let output = nstrail(out.path(), &["apply", "--cache", cache, "--kernel", release]);
        let said = text(&output.stderr);
        // Indices also list packages that the site has removed; nothing can be said about those.
        if output.status.code() == Some(70) && said.contains("404  Not Found") {
            println!("{line} {release}: the archive lists it, and does not have it");
            continue;
        }
        assert!(output.status.success() && !said.contains("fuzz"), "{line} {release}: {said}");
        println!("{line} {release}: {} hunks with an offset", said.matches("offset").count());
        applied.push(line);
    }
    for line in ["5.10", "6.1", "6.12", "7.2", "7.3"] {
        assert!(applied.contains(&line), "no release of {line} could be had");
    }
}
