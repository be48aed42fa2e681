// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every command shares: the folders, the settings file, how much to say.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use nstrail::plan::{project::Project, settings::Settings};

use super::args::Global;

/// See the module.
#[derive(Debug)]
pub struct Context {
    pub settings: Settings,
    pub quiet: bool,
    /// Progress may overwrite its line.
    pub terminal: bool,
    folder: PathBuf,
    root: Option<PathBuf>,
    cache: Option<PathBuf>,
}

impl Context {
    /// Reads the settings of the current folder.
    pub fn new(global: &Global) -> Result<Self, String> {
        let folder = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?;
        let settings = Settings::read(&folder).map_err(|error| error.to_string())?;
        Ok(Self {
            quiet: global.quiet,
            terminal: std::io::stderr().is_terminal() && std::env::var_os("CI").is_none(),
            root: global.root.clone(),
            cache: global.cache.clone().or_else(|| settings.cache.clone()),
            settings,
            folder,
        })
    }

    /// The checkout with series, fragments and snapshots.
    pub fn project(&self) -> Result<Project, String> {
        Project::find(self.root.as_deref(), &self.folder).map_err(|error| error.to_string())
    }

    /// The cache folder that was named by flag, environment or settings.
    pub fn named_cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }
}
