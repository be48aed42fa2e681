// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel stage tells while it works. Nothing here prints.

use std::path::PathBuf;
use std::time::Duration;

use super::series::{AppliedPatch, BaseCheck, SeriesNote};
use crate::process::{NoSandbox, Sandbox};

/// Where events go.
pub type Events<'a> = &'a mut dyn FnMut(BuildEvent);

/// One thing that happened, in the order in which it did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildEvent {
    /// Another nstrail holds a lock; we wait for it.
    Waiting {
        /// The lock file.
        lock: PathBuf,
    },
    /// The package indices of Debian's suites are being brought up to date.
    Indexing {
        /// The suites.
        suites: Vec<String>,
    },
    /// A source package is being downloaded.
    Fetching {
        /// `linux-source-6.12`.
        package: String,
        /// Exact Debian version.
        version: String,
        /// Size of the download.
        bytes: u64,
    },
    /// What was in the cache is not what was put there: it is made again.
    Damaged {
        /// The file or tree.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A source is being unpacked or copied into the cache.
    Unpacking {
        /// Key of the source.
        source: String,
    },
    /// Something about how the series was read.
    Note(SeriesNote),
    /// The commit that the series was made on, and the tree that is used.
    Base(BaseCheck),
    /// A patch applies.
    Applied(AppliedPatch),
    /// The private tree is being made from the pristine one.
    Seeding {
        /// The tree.
        tree: PathBuf,
    },
    /// The private tree is at source plus series.
    Synced {
        /// Files whose content changed by that.
        changed: usize,
    },
    /// What runs of the tree runs in a sandbox.
    Confined(Sandbox),
    /// It runs as the user: no sandbox works here.
    Unconfined(NoSandbox),
    /// The configuration is being made.
    Configuring,
    /// make starts.
    Building {
        /// Jobs.
        jobs: usize,
        /// Where make's output goes.
        log: PathBuf,
    },
    /// make started a step.
    Step {
        /// Steps so far.
        done: u32,
        /// Steps to expect, for a full build: those of the last one, or of versions.toml. Only a measure: there
        /// may be more.
        total: Option<u32>,
        /// `CC`, `LD`, ...
        tool: String,
        /// What it makes.
        target: String,
    },
    /// Some objects are being compiled again for their warnings.
    Warnings {
        /// How many.
        objects: usize,
    },
    /// The image is in the store.
    Built {
        /// Steps that make took.
        steps: u32,
        /// Time of make.
        elapsed: Duration,
    },
    /// The image was in the store: nothing is compiled.
    Cached {
        /// Key of the image.
        key: String,
    },
}
