// SPDX-License-Identifier: MIT OR Apache-2.0
//! A patch by the eyes of the kernel's own `scripts/checkpatch.pl --strict`.

use std::path::Path;

use super::patch::Patch;
use super::series::Series;
use super::source::Source;
use super::store::{Store, StoreError, io_error};
use crate::process::{ChildSpec, NoSandbox, ProcessError, SandboxMode, View};

/// Why checkpatch has said nothing.
#[derive(Debug, thiserror::Error)]
pub enum CheckpatchError {
    /// perl, or the script.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A sandbox was demanded.
    #[error(transparent)]
    Sandbox(#[from] NoSandbox),
    /// A file of the cache.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What checkpatch of `source`'s own tree has to say of a patch of `series`: `LINE: ERROR:TYPE: message`, and nothing
/// for a clean one. Types that series.toml lists under `checkpatch_ignore` are left out.
///
/// # Errors
/// As [`CheckpatchError`].
pub fn checkpatch(
    store: &Store,
    source: &Source,
    series: &Series,
    patch: &Patch,
    sandbox: SandboxMode,
) -> Result<Vec<String>, CheckpatchError> {
    let folder = store.temp("checkpatch", "patch")?;
    let file = folder.path().join(Path::new(&patch.name).file_name().unwrap_or_default());
    std::fs::write(&file, &patch.text).map_err(io_error("write", &file))?;
    let mut child = ChildSpec::new("perl")
        .arg(source.tree.join("scripts/checkpatch.pl"))
        .args(["--strict", "--terse", "--no-summary", "--show-types", "--color=never", "--root"])
        .arg(&source.tree);
    if !series.checkpatch_ignore.is_empty() {
        child = child.arg("--ignore").arg(series.checkpatch_ignore.join(","));
    }
    child = child.arg(&file);
    // The script is the source's own, but the patch is what it makes of it, and it runs more of the tree's scripts.
    if let Some(sandbox) = sandbox.choose()? {
        let read = vec![source.tree.clone(), folder.path().to_owned()];
        child = child.confine(sandbox, &View { read, ..View::default() });
    }
    let mut said = Vec::new();
    let ran = child.run_lines(|line| said.push(line.to_owned()));
    let prefix = format!("{}:", file.display());
    // What else is there is not checkpatch's own: the spdxcheck.py that it runs may lack a Python module.
    let told: Vec<String> = said
        .iter()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(|rest| rest.trim().to_owned())
        .collect();
    match ran {
        Ok(_) => Ok(told),
        // It exits with 1 if it has something to say.
        Err(error) if error.status().and_then(|status| status.code()) == Some(1) && !told.is_empty() => {
            Ok(told)
        }
        Err(error) => Err(error.into()),
    }
}
