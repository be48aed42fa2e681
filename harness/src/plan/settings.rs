// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail.toml`: defaults of a user or a project, below flags and environment.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// Name of the file, looked for in the current folder.
pub const FILE_NAME: &str = "nstrail.toml";

/// What the file may set. All optional; unknown keys are an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// As `--kernel`.
    pub kernel: Option<String>,
    /// As `--series`.
    pub series: Option<PathBuf>,
    /// As `--accel`: auto, kvm or tcg.
    pub accel: Option<String>,
    /// As `--vcpus`.
    pub vcpus: Option<u8>,
    /// As `--jobs`.
    pub jobs: Option<usize>,
    /// As `--seed`.
    pub seed: Option<u64>,
    /// As `--out`.
    pub out: Option<PathBuf>,
    /// As `--cache`.
    pub cache: Option<PathBuf>,
    /// As `--snapshots`: auto, deny or off.
    pub snapshots: Option<String>,
    /// As `--sandbox`: auto or on.
    pub sandbox: Option<String>,
    /// As `--known-splats`.
    pub known_splats: Option<PathBuf>,
    /// As the positional scenarios.
    pub scenarios: Option<Vec<String>>,
}

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The message of the TOML parser has line, column and what was expected.
    #[error("{}: {message} (hint: known keys are kernel, series, accel, vcpus, jobs, seed, out, cache, snapshots, sandbox, known-splats, scenarios)", path.display())]
    Parse { path: PathBuf, message: String },
}

impl Settings {
    /// Reads `nstrail.toml` of a folder; no file is no settings.
    ///
    /// # Errors
    /// If the file is there and cannot be read or parsed.
    pub fn read(folder: &Path) -> Result<Self, SettingsError> {
        let path = folder.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        toml::from_str(&text)
            .map_err(|error| SettingsError::Parse { path, message: error.to_string().trim_end().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_no_settings() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(folder.path()).unwrap(), Settings::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "kernel = \"6.12\"\nkernal = \"6.1\"\n").unwrap();
        let message = Settings::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("kernal"), "{message}");
    }
}
