// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel images: content-addressed, and verified each time before use.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decode::BuildPlace;
use super::digest::Hash;
use super::event::{BuildEvent, Events};
use super::make::Toolchain;
use super::series::AppliedPatch;
use super::source::{Origin, SourceKey};
use super::store::{Store, StoreError, io_error, read_json, remove_tree, write_json};

/// Version of the key's parts and of the manifest's form.
pub(super) const SCHEMA: u32 = 1;

const VMLINUX: &str = "vmlinux";
const CONFIG: &str = "config";
const SYSTEM_MAP: &str = "System.map";
const LOG: &str = "build.log";

/// Names an image by everything that went into it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageKey(pub Hash);

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.short())
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.short())
    }
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BuildTimes {
    /// To find, fetch or unpack the source.
    pub source: Duration,
    /// To apply the series, and bring the private tree to it.
    pub apply: Duration,
    /// Until the configuration was verified.
    pub configure: Duration,
    /// make, and the image's way into the store.
    pub build: Duration,
}

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelImage {
    /// Names it.
    pub key: ImageKey,
    /// ELF with a PVH note, without symbols: QEMU boots it as it is.
    pub vmlinux: PathBuf,
    /// The final `.config`.
    pub config: PathBuf,
    /// Addresses of its symbols, to decode traces.
    pub system_map: PathBuf,
    /// make's output.
    pub build_log: PathBuf,
    /// `uname -r` in the guest.
    pub release: String,
    /// `6.12.117`, of the source's Makefile.
    pub version: String,
    /// The source.
    pub source: SourceKey,
    /// Where the source came from.
    pub origin: Origin,
    /// Compiler and linker.
    pub toolchain: Toolchain,
    /// The series' patches, in their order; empty for an unpatched kernel.
    pub patches: Vec<AppliedPatch>,
    /// Whether it was in the store: nothing was compiled.
    pub cached: bool,
    /// Steps that make took for it, when it was built.
    pub steps: u32,
    /// How many times longer its guests may take: what its fragments say.
    pub slowdown: u32,
    /// Where it was built, if this call knows; something else may be there by now.
    pub place: Option<BuildPlace>,
    /// Of this call.
    pub times: BuildTimes,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    key: ImageKey,
    release: String,
    version: String,
    source: SourceKey,
    origin: Origin,
    compiler: String,
    linker: String,
    steps: u32,
    /// SHA-256 of each file.
    files: BTreeMap<String, Hash>,
}

impl Store {
    /// The image of a key, if every file of it is what was stored. A damaged one is removed.
    pub(super) fn image(
        &self,
        key: &ImageKey,
        events: Events<'_>,
    ) -> Result<Option<KernelImage>, StoreError> {
        let folder = self.image_folder(key);
        if !folder.exists() {
            return Ok(None);
        }
        let mut damaged = |path: PathBuf, reason: &str| {
            events(BuildEvent::Damaged { path, reason: reason.to_owned() });
            remove_tree(&folder).map(|()| None)
        };
        let manifest_path = folder.join("manifest.json");
        let Some(manifest) = read_json::<Manifest>(&manifest_path) else {
            return damaged(manifest_path, "it cannot be read");
        };
        if manifest.schema != SCHEMA || manifest.key != *key {
            return damaged(manifest_path, "it is another image's");
        }
        for name in [VMLINUX, CONFIG, SYSTEM_MAP, LOG] {
            let path = folder.join(name);
            let got = Hash::of_file(&path).ok();
            if got.is_none() || got.as_ref() != manifest.files.get(name) {
                return damaged(path, "it is not what was built");
            }
        }
        Ok(Some(open(&folder, manifest, true)))
    }

    /// Puts an image into the store. Its files are copied.
    pub(super) fn put_image(&self, key: &ImageKey, built: Built<'_>) -> Result<KernelImage, StoreError> {
        let temp = self.temp("images", &key.to_string())?;
        let mut files = BTreeMap::new();
        let sources = [
            (VMLINUX, built.vmlinux),
            (CONFIG, built.config),
            (SYSTEM_MAP, built.system_map),
            (LOG, built.log),
        ];
        for (name, from) in sources {
            let to = temp.path().join(name);
            std::fs::copy(from, &to).map_err(io_error("copy", from))?;
            files.insert(name.to_owned(), Hash::of_file(&to).map_err(io_error("read", &to))?);
        }
        let manifest = Manifest {
            schema: SCHEMA,
            key: key.clone(),
            release: built.release,
            version: built.version,
            source: built.source,
            origin: built.origin,
            compiler: built.toolchain.compiler,
            linker: built.toolchain.linker,
            steps: built.steps,
            files,
        };
        write_json(&temp.path().join("manifest.json"), &manifest)?;
        let folder = self.image_folder(key);
        remove_tree(&folder)?;
        let temp = temp.keep();
        std::fs::rename(&temp, &folder).map_err(io_error("rename", &temp))?;
        Ok(open(&folder, manifest, false))
    }

    fn image_folder(&self, key: &ImageKey) -> PathBuf {
        self.path("images").join(key.0.as_str())
    }
}

/// What a finished build leaves.
pub(super) struct Built<'a> {
    pub vmlinux: &'a Path,
    pub config: &'a Path,
    pub system_map: &'a Path,
    pub log: &'a Path,
    pub release: String,
    pub version: String,
    pub source: SourceKey,
    pub origin: Origin,
    pub toolchain: Toolchain,
    pub steps: u32,
}

fn open(folder: &Path, manifest: Manifest, cached: bool) -> KernelImage {
    KernelImage {
        key: manifest.key,
        vmlinux: folder.join(VMLINUX),
        config: folder.join(CONFIG),
        system_map: folder.join(SYSTEM_MAP),
        build_log: folder.join(LOG),
        release: manifest.release,
        version: manifest.version,
        source: manifest.source,
        origin: manifest.origin,
        toolchain: Toolchain { compiler: manifest.compiler, linker: manifest.linker },
        patches: Vec::new(),
        cached,
        steps: manifest.steps,
        slowdown: 1,
        place: None,
        times: BuildTimes::default(),
    }
}
