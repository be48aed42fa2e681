// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where in the sources the functions of a call trace are, for a kernel that was built without debug information.
//!
//! Only the objects that a trace names are compiled once more, from the tree that the image was built in, with `-g` and into
//! a folder of their own; gcc makes the same code with it, and that is checked: the function must lie at the same
//! place in its section and be as large as in the object that was linked. The tree is read and never written to. What cannot be
//! decoded in time, or with certainty, stays as the kernel printed it.

mod command;
mod object;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::image::KernelImage;
use super::lock::Lock;
use super::store::Store;
use crate::process::ProcessError;
use crate::vm::console::{Frame, frame_of};
use object::{Rebuilt, Symbols};

/// Objects that are compiled again for one trace at most.
const OBJECTS: usize = 24;

/// Where an image was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildPlace {
    /// The lock of the tree.
    pub lock: String,
    /// The tree's sources.
    pub src: PathBuf,
    /// The build folder in it.
    pub folder: PathBuf,
}

/// Why a trace stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum NotDecoded {
    /// It names no function.
    #[error("no line of it names a function")]
    NoFrames,
    /// Nobody knows where the image was built.
    #[error(
        "the build tree of the kernel is gone (hint: `nstrail build` makes the next one of this kernel leave it behind)"
    )]
    NoTree,
    /// A build runs there.
    #[error("a build runs in the tree of the kernel (hint: run the scenario alone)")]
    InUse,
    /// Something else was built there since.
    #[error("the build tree of the kernel holds another one by now: {} differs (hint: build that kernel again, with an empty image cache)", .0.display())]
    OtherImage(PathBuf),
    /// The objects, or what they are made of, are not what was linked.
    #[error("none of its functions is where it was when the kernel was linked: {0}")]
    Nothing(String),
    /// A tool.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// The lines of a trace, with the place in the sources behind each function that could be found.
///
/// # Errors
/// As [`NotDecoded`]; none of them says anything about the kernel.
pub fn decode(
    store: &Store,
    image: &KernelImage,
    lines: &[String],
    limit: Duration,
) -> Result<Vec<String>, NotDecoded> {
    let deadline = Instant::now() + limit;
    let frames: Vec<(usize, Frame<'_>)> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((at, frame_of(line)?))).collect();
    if frames.is_empty() {
        return Err(NotDecoded::NoFrames);
    }
    let place = image.place.as_ref().filter(|place| place.folder.is_dir()).ok_or(NotDecoded::NoTree)?;
    // Whoever builds in it changes it; nobody waits for the other.
    let lock = store.path("locks").join(format!("{}.lock", place.lock));
    let _lock = Lock::try_take(&lock).ok().flatten().ok_or(NotDecoded::InUse)?;
    for (ours, theirs) in [(&image.system_map, "System.map"), (&image.config, ".config")] {
        let theirs = place.folder.join(theirs);
        if read(ours)? != read(&theirs)? {
            return Err(NotDecoded::OtherImage(theirs));
        }
    }
    let symbols = Symbols::of(&place.folder, deadline)?;
    let mut by_object: BTreeMap<PathBuf, Vec<(usize, Frame<'_>)>> = BTreeMap::new();
    for (at, frame) in frames {
        if let Some(object) = symbols.object_of(&frame) {
            by_object.entry(object.to_owned()).or_default().push((at, frame));
        }
    }
    let mut decoded = lines.to_vec();
    let mut count = 0;
    let mut trouble = "no object has them".to_owned();
    // The top of the trace first, and last what the unwinder does not believe in.
    let mut order: Vec<(PathBuf, Vec<(usize, Frame<'_>)>)> = by_object.into_iter().collect();
    order.sort_by_key(|(_, frames)| frames.iter().map(|(at, frame)| (!frame.sure, *at)).min());
    for (object, frames) in order.into_iter().take(OBJECTS) {
        if Instant::now() >= deadline {
            trouble = format!("no time was left after {} s", limit.as_secs());
            break;
        }
        let found =
            Rebuilt::make(place, &object, deadline).and_then(|rebuilt| rebuilt.places(&frames, deadline));
        match found {
            Ok(found) => {
                for (at, text) in found {
                    let spot = frame_end(&decoded[at]);
                    decoded[at].insert_str(spot, &format!(" ({text})"));
                    count += 1;
                }
            }
            Err(error) => trouble = error,
        }
    }
    if count == 0 { Err(NotDecoded::Nothing(trouble)) } else { Ok(decoded) }
}

/// Behind `func+0x1/0x2` in a line.
fn frame_end(line: &str) -> usize {
    let at = line.find("+0x").unwrap_or(line.len());
    line[at..].find(char::is_whitespace).map_or(line.len(), |space| at + space)
}

fn read(path: &Path) -> Result<Vec<u8>, NotDecoded> {
    std::fs::read(path).map_err(|source| NotDecoded::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
