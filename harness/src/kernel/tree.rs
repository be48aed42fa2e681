// SPDX-License-Identifier: MIT OR Apache-2.0
//! Private trees: a pristine source plus a series, with the build folders in it.
//!
//! A tree is kept, and only files whose content differs are written, so that make sees what a change of
//! the series really changed: an edit in its last patch costs one file and a link. Files are hard links to the
//! pristine tree, and are replaced, never written to. A patched and an unpatched kernel have a tree each:
//! with one for both, every switch would touch include/linux/sched.h and recompile 1,166 of 1,335 objects.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::apply::{Overlay, OverlayFile};
use super::digest::{Hash, TreeDepth, hash_tree, walk};
use super::event::{BuildEvent, Events};
use super::lock::Lock;
use super::source::{Source, SourceError};
use super::store::{Store, StoreError, io_error, read_json, remove_tree, write_json, write_whole};
use crate::process::ChildSpec;

/// Build folders start with it.
const BUILD_PREFIX: &str = "o-";

/// Which of a source's trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeLabel {
    /// For the source as it is.
    Baseline,
    /// For any series.
    Patched,
}

impl TreeLabel {
    fn name(self) -> &'static str {
        match self {
            TreeLabel::Baseline => "baseline",
            TreeLabel::Patched => "patched",
        }
    }
}

/// What we did to a tree, as far as it must be known to do the next thing.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Files that differ from the pristine tree; while they are being written, also those that did before.
    overridden: Vec<PathBuf>,
    /// Sizes and times of all files but the build folders', once they are written.
    stat: Option<Hash>,
    /// The build folder in which a make runs, or was killed.
    building: Option<String>,
    /// Steps of the last full build in each build folder.
    steps: BTreeMap<String, u32>,
}

/// A tree, held under its lock.
#[derive(Debug)]
pub struct Tree {
    folder: PathBuf,
    state: State,
    _lock: Lock,
}

impl Tree {
    /// Takes the tree of a source for us alone. Nothing is made yet.
    ///
    /// # Errors
    /// The lock is not got.
    pub fn open(
        store: &Store,
        source: &Source,
        label: TreeLabel,
        events: Events<'_>,
    ) -> Result<Tree, StoreError> {
        let lock = store.lock(&Self::lock_name(source, label), events)?;
        let folder = Self::folder_of(store, source, label);
        let state = read_json(&folder.join("state.json")).unwrap_or_default();
        Ok(Tree { folder, state, _lock: lock })
    }

    /// What its lock is called.
    pub fn lock_name(source: &Source, label: TreeLabel) -> String {
        format!("tree-{}-{}", source.key, label.name())
    }

    fn folder_of(store: &Store, source: &Source, label: TreeLabel) -> PathBuf {
        store.path("trees").join(source.key.as_str()).join(label.name())
    }

    /// The source tree of a source, whether or not it is there.
    pub fn src_of(store: &Store, source: &Source, label: TreeLabel) -> PathBuf {
        Self::folder_of(store, source, label).join("src")
    }

    /// The source tree.
    pub fn src(&self) -> PathBuf {
        self.folder.join("src")
    }

    /// Brings the files to the pristine ones plus `overlay`; gives the number of files that changed.
    ///
    /// # Errors
    /// A source that cannot be restored, or a file.
    pub fn sync(
        &mut self,
        store: &Store,
        source: &Source,
        overlay: &Overlay,
        events: Events<'_>,
    ) -> Result<usize, SourceError> {
        if let Some(reason) = self.damage()? {
            if self.src().exists() {
                events(BuildEvent::Damaged { path: self.src(), reason: reason.into() });
            }
            self.seed(store, source, events)?;
        }
        let mut paths: Vec<PathBuf> = self.state.overridden.clone();
        paths.extend(overlay.files().keys().cloned());
        paths.sort_unstable();
        paths.dedup();
        let mut changes = Vec::new();
        for path in &paths {
            let wanted = match overlay.files().get(path) {
                Some(file) => file.clone(),
                None => read(&source.tree.join(path))?,
            };
            if read(&self.src().join(path))? != wanted {
                changes.push((path, wanted));
            }
        }
        let overridden: Vec<PathBuf> = overlay.files().keys().cloned().collect();
        if changes.is_empty() && self.state.overridden == overridden {
            events(BuildEvent::Synced { changed: 0 });
            return Ok(0);
        }
        // First the intent, so that whoever comes after a crash reverts every file that we may have touched.
        self.state.overridden.clone_from(&paths);
        self.state.stat = None;
        self.save()?;
        for (path, wanted) in &changes {
            replace(&self.src().join(path), wanted.as_ref())?;
        }
        self.state.overridden = overridden;
        self.state.stat = Some(self.stat()?);
        self.save()?;
        events(BuildEvent::Synced { changed: changes.len() });
        Ok(changes.len())
    }

    /// Why the tree cannot be used as it is.
    fn damage(&self) -> Result<Option<&'static str>, StoreError> {
        if !self.src().exists() {
            return Ok(Some("it is not there"));
        }
        Ok(match &self.state.stat {
            // A sync was cut off: its files are known and will be looked at one by one.
            None if !self.state.overridden.is_empty() => None,
            None => Some("it was never finished"),
            Some(stat) if *stat == self.stat()? => None,
            Some(_) => Some("files were changed by somebody else"),
        })
    }

    fn stat(&self) -> Result<Hash, StoreError> {
        let src = self.src();
        hash_tree(&src, TreeDepth::Stat, is_build_folder).map_err(io_error("read", &src))
    }

    /// Makes the tree anew, as links to the pristine one. Build folders stay: their objects are as new as
    /// make finds them to be.
    fn seed(&mut self, store: &Store, source: &Source, events: Events<'_>) -> Result<(), SourceError> {
        if !store.intact(source)? {
            let reason = "files differ from those that were unpacked".to_owned();
            events(BuildEvent::Damaged { path: source.tree.clone(), reason });
            store.restore(source, events)?;
        }
        let src = self.src();
        events(BuildEvent::Seeding { tree: src.clone() });
        let steps = std::mem::take(&mut self.state.steps);
        self.state = State { steps, ..State::default() };
        self.save()?;
        let new = self.folder.join("src.new");
        remove_tree(&new)?;
        ChildSpec::new("cp").args(["-a", "--link", "--"]).arg(&source.tree).arg(&new).run()?;
        // The old tree's files may have had any content at any time: what was built of them is of no use.
        remove_tree(&src)?;
        std::fs::rename(&new, &src).map_err(io_error("rename", &new))?;
        self.state.stat = Some(self.stat()?);
        self.save()?;
        Ok(())
    }

    /// Steps of the last full build in a build folder.
    pub fn steps(&self, o: &str) -> Option<u32> {
        self.state.steps.get(o).copied()
    }

    /// Notes that a make starts in `o`. If the one before was killed there, what it may have half
    /// written is removed first: make would take it for finished.
    ///
    /// # Errors
    /// A file.
    pub fn begin(&mut self, o: &str, events: Events<'_>) -> Result<(), StoreError> {
        if let Some(killed) = self.state.building.take() {
            let folder = self.src().join(&killed);
            let marker = folder.join(MARKER);
            match marker.metadata().and_then(|meta| meta.modified()) {
                Ok(since) => remove_half_written(&folder, since)?,
                Err(_) => remove_tree(&folder)?,
            }
            events(BuildEvent::Damaged { path: folder, reason: "a build was cut off in it".into() });
        }
        let folder = self.src().join(o);
        std::fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        let marker = folder.join(MARKER);
        // In the place of whatever lies there: a build could have left a link.
        write_whole(&marker, b"")?;
        self.state.building = Some(o.to_owned());
        self.save()
    }

    /// Notes that make ended by itself, and, after a full build, in how many steps.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn end(&mut self, o: &str, full: Option<u32>) -> Result<(), StoreError> {
        self.state.building = None;
        if let Some(steps) = full {
            self.state.steps.insert(o.to_owned(), steps);
        }
        self.save()
    }

    fn save(&self) -> Result<(), StoreError> {
        write_json(&self.folder.join("state.json"), &self.state)
    }
}

/// In a build folder: as old as the start of the make that runs there.
const MARKER: &str = "nstrail-building";

/// Whether an entry at the top of a tree is a build folder.
pub(super) fn is_build_folder(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(BUILD_PREFIX.as_bytes())
}

/// Name of the build folder for some flavours and variables: incremental builds only make sense between builds
/// that differ in the series alone, or in what a flavour's file says.
pub(super) fn build_folder(flavours: &[String], variables: &[(String, String)]) -> String {
    let mut name = format!("{BUILD_PREFIX}{}", flavours.join("-"));
    if !variables.is_empty() {
        let mut hasher = super::digest::KeyHasher::new("variables");
        variables.iter().for_each(|(key, value)| hasher.part(key, value));
        name = format!("{name}-{}", hasher.finish().short());
    }
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

/// Removes what a killed make may have half written, and nothing else, so that an interrupted build goes on where it
/// was. kbuild writes `.NAME.cmd` after NAME is whole (scripts/Kbuild.include:if_changed): a file of this build
/// that is newer than the `.cmd` of an earlier one was cut off. Without a `.cmd` kbuild makes it again by itself,
/// and its headers are made under another name and moved (filechk).
fn remove_half_written(folder: &Path, since: SystemTime) -> Result<(), StoreError> {
    for path in walk(folder, &|_| false).map_err(io_error("read", folder))? {
        let path = folder.join(path);
        let Some(name) = path.file_name().map(OsStr::to_string_lossy) else { continue };
        let modified = |path: &Path| path.symlink_metadata().and_then(|meta| meta.modified());
        let Ok(command) = modified(&path.with_file_name(format!(".{name}.cmd"))) else { continue };
        let written = modified(&path).map_err(io_error("read", &path))?;
        if written >= since && written > command {
            std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<OverlayFile>, StoreError> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(None) };
    let content = std::fs::read(path).map_err(io_error("read", path))?;
    Ok(Some(OverlayFile { content, executable: meta.permissions().mode() & 0o111 != 0 }))
}

/// Puts a new file in the place of an old one, which may be a link to the pristine tree's. Its time is now: also
/// where a file goes back to what it was, what was built of it is out of date.
fn replace(path: &Path, file: Option<&OverlayFile>) -> Result<(), StoreError> {
    let Some(file) = file else { return remove_tree(path) };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    let mut temp = tempfile::NamedTempFile::new_in(folder).map_err(io_error("create a file in", folder))?;
    temp.write_all(&file.content).map_err(io_error("write", path))?;
    let mode = if file.executable { 0o755 } else { 0o644 };
    temp.as_file().set_permissions(Permissions::from_mode(mode)).map_err(io_error("write", path))?;
    temp.persist(path).map_err(|error| error.error).map_err(io_error("write", path))?;
    Ok(())
}
