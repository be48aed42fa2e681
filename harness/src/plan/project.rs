// SPDX-License-Identifier: MIT OR Apache-2.0
//! The project's folders: where series, fragments and snapshots lie.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::known_splats;

/// A folder that has `patches/`, `kernel-configs/` and `snapshots/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    root: PathBuf,
}

/// No such folder.
#[derive(Debug, Error)]
pub enum ProjectError {
    #[error("{} has no kernel-configs/ (hint: --root DIR names the checkout of nstrail)", .0.display())]
    NotAProject(PathBuf),
    #[error(
        "{} lies in no checkout of nstrail (hint: go there, or name it with --root DIR or NSTRAIL_ROOT)",
        .0.display()
    )]
    NotFound(PathBuf),
}

impl Project {
    /// The folder that was named, or the one that encloses `from`.
    ///
    /// # Errors
    /// If it is not a checkout.
    pub fn find(named: Option<&Path>, from: &Path) -> Result<Self, ProjectError> {
        if let Some(root) = named {
            return if is_project(root) {
                Ok(Self { root: root.to_owned() })
            } else {
                Err(ProjectError::NotAProject(root.to_owned()))
            };
        }
        from.ancestors()
            .find(|folder| is_project(folder))
            .map(|root| Self { root: root.to_owned() })
            .ok_or_else(|| ProjectError::NotFound(from.to_owned()))
    }

    /// The checkout itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the series for a kernel version (`6.12`) lies.
    #[must_use]
    pub fn series(&self, version: &str) -> PathBuf {
        self.root.join("patches/auditnsid").join(version)
    }

    /// Faults to plant in a series.
    #[must_use]
    pub fn mutants(&self) -> PathBuf {
        self.root.join("patches/mutants")
    }

    /// Configuration fragments.
    #[must_use]
    pub fn configs(&self) -> PathBuf {
        self.root.join("kernel-configs")
    }

    /// Splats that are known and put up with, for a time.
    #[must_use]
    pub fn known_splats(&self) -> PathBuf {
        self.configs().join(known_splats::FILE_NAME)
    }

    /// The package of the reviewed snapshots.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }
}

fn is_project(folder: &Path) -> bool {
    folder.join("kernel-configs").is_dir() && folder.join("patches").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_enclosing_checkout_is_found_and_a_wrong_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        for part in ["a/b", "kernel-configs", "patches"] {
            std::fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        assert_eq!(Project::find(None, &inner).unwrap().root(), folder.path());
        let error = Project::find(Some(&inner), folder.path()).unwrap_err().to_string();
        assert!(error.contains("kernel-configs") && error.contains("hint"), "{error}");
    }
}
