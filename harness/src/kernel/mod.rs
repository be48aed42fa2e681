// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a kernel version and a series to an image that boots.
//!
//! [`Store::source`] fetches; [`Series::read`] parses; [`apply`] brings a private tree to source plus
//! series; [`build`] gives the [`KernelImage`], from the store if nothing changed. All of them
//! report through a callback of [`BuildEvent`]s and return values; nothing here prints.

mod apply;
mod apt;
mod build;
mod checkpatch;
mod config;
mod decode;
mod digest;
mod event;
mod fragment;
mod image;
mod kconfig;
mod lock;
mod make;
mod patch;
mod revert;
mod series;
mod source;
mod store;
mod tree;
mod unpack;
mod versions;
mod warnings;

#[cfg(test)]
mod tests;

pub use apply::{ApplyError, HunkOffset, Overlay, OverlayFile, Reject, RejectedHunk};
pub use apt::{AptError, AptTools};
pub use build::{KernelError, KernelSpec, PatchedTree, SeriesSymbol, apply, build};
pub use checkpatch::{CheckpatchError, checkpatch};
pub use config::{ConfigError, MissingSymbol, PresentSymbol};
pub use decode::{BuildPlace, NotDecoded, decode};
pub use digest::Hash;
pub use event::{BuildEvent, Events};
pub use fragment::{Absent, BASE, DotConfig, Fragment, FragmentError, Fragments, Request};
pub use image::{BuildTimes, ImageKey, KernelImage};
pub use kconfig::Blame;
pub use lock::LockError;
pub use make::{FirstError, MakeVariable, Toolchain};
pub use patch::{FilePatch, Hunk, HunkLine, Patch, PatchError, Strip};
pub use revert::revert;
pub use series::{
    AppliedPatch, BaseCheck, BaseVerdict, Commit, DiffError, DiffStat, FileStat, MailError, MessagePlace,
    PickError, Picks, Place, Series, SeriesError, SeriesInput, SeriesNote, Side, range_diff,
};
pub use source::{KernelRow, Origin, Source, SourceError, SourceKey, SourceSpec};
pub use store::{Store, StoreError};
pub(crate) use store::{read_json, write_json};
pub use tree::TreeLabel;
pub use unpack::UnpackError;
pub use versions::{DebianVersion, KernelLine};
pub use warnings::{Warning, Warnings, warnings};
