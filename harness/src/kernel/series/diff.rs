// SPDX-License-Identifier: MIT OR Apache-2.0
//! `git range-diff` of two series that need not be commits anywhere.
//!
//! Both are applied in memory, and what they touch becomes two branches of a throw-away repository: a base with
//! the source's own files, and a commit a patch. One git fast-import writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::apply::{Overlay, OverlayFile};
use super::super::build::KernelError;
use super::super::event::Events;
use super::super::patch::Patch;
use super::super::source::{SourceSpec, git};
use super::super::store::{Store, io_error};
use super::Series;
use crate::process::{ChildSpec, ProcessError, Sink};

/// One of the two.
#[derive(Debug, Clone)]
pub struct Side {
    /// As the user named it.
    pub label: String,
    /// Its patches.
    pub series: Series,
    /// What they apply to.
    pub source: SourceSpec,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
#[error("{label}: {source}")]
pub struct DiffError {
    /// Of the side, or `git`.
    pub label: String,
    /// What failed.
    pub source: Box<KernelError>,
}

/// Compares, and gives git's output line by line.
///
/// # Errors
/// [`DiffError`]: a source, a patch that does not apply, git.
pub fn range_diff(
    store: &Store,
    sides: [&Side; 2],
    colour: bool,
    events: Events<'_>,
    on_line: impl FnMut(&str),
) -> Result<(), DiffError> {
    let failed = |label: &str| {
        let label = label.to_owned();
        move |source: KernelError| DiffError { label, source: Box::new(source) }
    };
    let mut stream = Vec::new();
    for (branch, side) in ["a", "b"].into_iter().zip(sides) {
        export(store, side, branch, &mut stream, events).map_err(failed(&side.label))?;
    }
    compare(store, &stream, colour, events, on_line).map_err(failed("git range-diff"))
}

fn compare(
    store: &Store,
    stream: &[u8],
    colour: bool,
    events: Events<'_>,
    on_line: impl FnMut(&str),
) -> Result<(), KernelError> {
    // The folder goes when it is dropped; what a killed process left goes with the next one that has the lock.
    let _lock = store.lock("range-diff", events)?;
    let folder = store.temp("scratch", "range-diff")?;
    let input = folder.path().join("stream");
    std::fs::write(&input, stream).map_err(io_error("write", &input))?;
    let repository = folder.path().join("repository");
    alone(ChildSpec::new("git")).args(["init", "--quiet", "--bare", "--template="]).arg(&repository).run()?;
    alone(git(&repository)).args(["fast-import", "--quiet"]).stdin(&input).run()?;
    let log = folder.path().join("stderr");
    let run = alone(git(&repository))
        .args(["--no-pager", "range-diff", if colour { "--color=always" } else { "--no-color" }])
        .args(["a-base..a", "b-base..b"])
        .stderr(Sink::File(log))
        .run_lines(on_line);
    // The file is gone before anybody could read it: the error has its last lines.
    run.map(drop).map_err(|error| match error {
        ProcessError::Failed { argv, status, tail, .. } => {
            ProcessError::Failed { argv, status, tail, log: None }.into()
        }
        other => other.into(),
    })
}

/// Nothing of the user's configuration.
fn alone(git: ChildSpec) -> ChildSpec {
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("LC_ALL", "C.UTF-8")
}

fn export(
    store: &Store,
    side: &Side,
    branch: &str,
    stream: &mut Vec<u8>,
    events: Events<'_>,
) -> Result<(), KernelError> {
    let source = store.source(&side.source, false, events)?;
    let mut overlay = Overlay::new(&source.tree);
    let touched: BTreeSet<&Path> = side.series.patches.iter().flat_map(paths).collect();
    commit(stream, &format!("{branch}-base"), None, "", &format!("base: {}", source.origin));
    for path in touched {
        if let Some(file) = overlay.read(path)? {
            put(stream, path, Some(&file));
        }
    }
    let mut parent = Some(format!("{branch}-base"));
    for patch in &side.series.patches {
        let done = overlay.apply(patch)?;
        events(super::BuildEvent::Applied(done));
        let title = if patch.subject.is_empty() { &patch.name } else { &patch.subject };
        let message = format!("{title}\n\n{}\n", patch.message);
        // Without a parent it goes on top of what the branch has.
        commit(stream, branch, parent.take().as_deref(), &patch.author, &message);
        let paths: BTreeSet<&Path> = paths(patch).collect();
        for path in paths {
            if let Some(file) = overlay.files().get(path) {
                put(stream, path, file.as_ref());
            }
        }
    }
    Ok(())
}

fn paths(patch: &Patch) -> impl Iterator<Item = &Path> {
    patch.files.iter().flat_map(|file| file.old.iter().chain(&file.new)).map(PathBuf::as_path)
}

/// The commands of git fast-import for a commit; [`put`] adds its files.
fn commit(stream: &mut Vec<u8>, branch: &str, parent: Option<&str>, author: &str, message: &str) {
    let (name, address) = match author.split_once('<') {
        Some((name, address)) => (name.trim(), address.trim_end_matches('>')),
        None => (author, ""),
    };
    let clean = |text: &str| text.replace(['<', '>', '\n', '\0'], "");
    let (name, address) = (clean(name), clean(address));
    let person = format!("{name}{}<{address}> 0 +0000", if name.is_empty() { "" } else { " " });
    let text = format!("commit refs/heads/{branch}\nauthor {person}\ncommitter nstrail <> 0 +0000\n");
    stream.extend_from_slice(text.as_bytes());
    data(stream, message.as_bytes());
    if let Some(parent) = parent {
        stream.extend_from_slice(format!("from refs/heads/{parent}\n").as_bytes());
    }
}

fn put(stream: &mut Vec<u8>, path: &Path, file: Option<&OverlayFile>) {
    let mode = match file {
        None => "D ",
        Some(OverlayFile { executable: true, .. }) => "M 100755 inline ",
        Some(_) => "M 100644 inline ",
    };
    stream.extend_from_slice(mode.as_bytes());
    stream.push(b'"');
    for byte in path.as_os_str().as_encoded_bytes() {
        if matches!(byte, b'"' | b'\\') {
            stream.push(b'\\');
        }
        stream.push(*byte);
    }
    stream.extend_from_slice(b"\"\n");
    if let Some(file) = file {
        data(stream, &file.content);
    }
}

fn data(stream: &mut Vec<u8>, bytes: &[u8]) {
    stream.extend_from_slice(format!("data {}\n", bytes.len()).as_bytes());
    stream.extend_from_slice(bytes);
    stream.push(b'\n');
}
