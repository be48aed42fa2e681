// SPDX-License-Identifier: MIT OR Apache-2.0
//! The matrix: kernels x configurations x scenarios x vCPUs, from a `matrix.toml` or from flags.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nstrail_wire::scenario::Scenario;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::scenario::{self, ScenarioError};

/// Name of the file, looked for in the current folder and then in the checkout.
pub const FILE_NAME: &str = "matrix.toml";

/// A configuration axis: fragments of kernel-configs/ on top of those that every kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConfigAxis {
    /// What it is called; empty for the plain one.
    #[serde(default)]
    pub name: String,
    /// Fragments, by name.
    #[serde(default)]
    pub flavours: Vec<String>,
    /// Scenarios of this configuration alone: what takes a minute on a plain kernel takes an hour under KASAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenarios: Option<Vec<String>>,
    /// Kernels of this configuration alone, some of the matrix's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<Vec<String>>,
    /// When its kernels are built and run without the series.
    #[serde(default)]
    pub baseline: BaselineRuns,
}

/// When a kernel is built and run without the series as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaselineRuns {
    #[default]
    Always,
    /// Only if something does not build or run with the series: a second kernel is built for nothing otherwise.
    OnFailure,
}

/// Cells that are left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclude {
    pub kernel: Option<String>,
    pub config: Option<String>,
    pub scenario: Option<String>,
    pub vcpus: Option<u8>,
    /// Shown with every cell that is skipped for it.
    pub reason: String,
}

/// A `matrix.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixFile {
    pub kernels: Vec<String>,
    #[serde(default, rename = "config")]
    pub configs: Vec<ConfigAxis>,
    #[serde(default)]
    pub scenarios: Vec<String>,
    /// Empty: each scenario's own number.
    #[serde(default)]
    pub vcpus: Vec<u8>,
    #[serde(default, rename = "exclude")]
    pub excludes: Vec<Exclude>,
}

/// A matrix that cannot be used.
#[derive(Debug, Error)]
pub enum MatrixError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The parser's message has line and column.
    #[error("{}: {message}", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("{}: {field}: {message}", path.display())]
    Value { path: PathBuf, field: &'static str, message: String },
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("`{0}` is no part of a matrix (hint: slice:1/4 is the first of four)")]
    Partition(String),
}

impl MatrixFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is no matrix.
    pub fn read(path: &Path) -> Result<Self, MatrixError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| MatrixError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, MatrixError> {
        let path = || path.to_owned();
        let file: Self = toml::from_str(text).map_err(|error| MatrixError::Parse {
            path: path(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let wrong = |field, message: &str| {
            Err(MatrixError::Value { path: path(), field, message: message.to_owned() })
        };
        if file.kernels.is_empty() {
            return wrong("kernels", "is empty, expected at least one, as \"6.12\"");
        }
        if file.vcpus.iter().any(|vcpus| !(1..=8).contains(vcpus)) {
            return wrong("vcpus", "has a number out of range, expected 1 to 8");
        }
        let mut names = BTreeSet::new();
        for config in &file.configs {
            let plain =
                config.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !plain {
                return wrong("config.name", "has other characters than lower-case letters, digits and `-`");
            }
            if !names.insert(&config.name) {
                return wrong("config.name", &format!("`{}` stands there twice", config.name));
            }
            let unknown = |name: &&String| !file.kernels.contains(name);
            if let Some(name) = config.kernels.iter().flatten().find(unknown) {
                return wrong("config.kernels", &format!("`{name}` is none of the matrix's kernels"));
            }
        }
        Ok(file)
    }
}

/// One kernel: a line and a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelCell {
    /// As asked for: `6.12`.
    pub kernel: String,
    pub config: ConfigAxis,
}

impl fmt::Display for KernelCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kernel)?;
        if self.config.name.is_empty() { Ok(()) } else { write!(f, "+{}", self.config.name) }
    }
}

/// One guest.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    pub kernel: KernelCell,
    pub scenario: Scenario,
    pub vcpus: u8,
    /// Set if it is not to run.
    pub excluded: Option<String>,
}

impl Cell {
    /// `6.12+lockdep/churn/2`: names it in journals, tables and recorded times.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.kernel, self.scenario.name, self.vcpus)
    }
}

/// All cells, in the order of the axes: kernels, configurations, scenarios, vCPUs.
///
/// # Errors
/// A scenario that is not there.
pub fn cells(file: &MatrixFile) -> Result<Vec<Cell>, MatrixError> {
    let plain = [ConfigAxis::default()];
    let configs = if file.configs.is_empty() { &plain[..] } else { &file.configs };
    let all: Vec<String> = scenario::defaults().into_iter().map(str::to_owned).collect();
    let common = if file.scenarios.is_empty() { &all } else { &file.scenarios };
    let mut cells = Vec::new();
    for kernel in &file.kernels {
        let of_kernel =
            |config: &&ConfigAxis| config.kernels.as_ref().is_none_or(|names| names.contains(kernel));
        for config in configs.iter().filter(of_kernel) {
            let cell = KernelCell { kernel: kernel.clone(), config: config.clone() };
            for name in config.scenarios.as_ref().unwrap_or(common) {
                let scenario = scenario::find(name)?;
                let own = [scenario.vcpus];
                let vcpus = if file.vcpus.is_empty() { &own[..] } else { &file.vcpus };
                for vcpus in vcpus {
                    let matches = |exclude: &&Exclude| {
                        exclude.kernel.as_ref().is_none_or(|name| name == kernel)
                            && exclude.config.as_ref().is_none_or(|name| *name == config.name)
                            && exclude.scenario.as_ref().is_none_or(|name| *name == scenario.name)
                            && exclude.vcpus.is_none_or(|number| number == *vcpus)
                    };
                    let excluded = file.excludes.iter().find(matches).map(|exclude| exclude.reason.clone());
                    let (kernel, scenario) = (cell.clone(), scenario.clone());
                    cells.push(Cell { kernel, scenario, vcpus: *vcpus, excluded });
                }
            }
        }
    }
    Ok(cells)
}

/// A part of a matrix: contiguous, so that a kernel is built in as few parts as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From 1.
    pub part: usize,
    pub of: usize,
}

impl FromStr for Partition {
    type Err = MatrixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (part, of) = text.strip_prefix("slice:")?.split_once('/')?;
            let partition = Partition { part: part.parse().ok()?, of: of.parse().ok()? };
            (1..=partition.of).contains(&partition.part).then_some(partition)
        };
        read().ok_or_else(|| MatrixError::Partition(text.to_owned()))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slice:{}/{}", self.part, self.of)
    }
}

impl Partition {
    /// The cells of this part. All parts together are all cells, and none is in two.
    #[must_use]
    pub fn of<T>(self, mut cells: Vec<T>) -> Vec<T> {
        let bound = |part: usize| cells.len() * part / self.of;
        let (from, to) = (bound(self.part - 1), bound(self.part));
        cells.truncate(to);
        cells.split_off(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MatrixFile, MatrixError> {
        MatrixFile::parse(text, Path::new("matrix.toml"))
    }

    #[test]
    fn cells_are_the_product_of_the_axes_less_what_is_excluded() {
        let file = parse(
            "kernels = [\"6.12\", \"5.10\"]\nscenarios = [\"smoke\", \"nest\"]\nvcpus = [1, 2]\n\
             [[config]]\n[[config]]\nname = \"lockdep\"\nflavours = [\"lockdep\"]\nscenarios = [\"smoke\"]\n\
             [[config]]\nname = \"kasan\"\nkernels = [\"5.10\"]\nscenarios = [\"nest\"]\n\
             [[exclude]]\nkernel = \"5.10\"\nconfig = \"lockdep\"\nreason = \"not yet\"\n",
        )
        .unwrap();
        let cells = cells(&file).unwrap();
        let ids: Vec<String> = cells.iter().map(Cell::id).collect();
        assert_eq!(
            ids[..6],
            [
                "6.12/smoke/1",
                "6.12/smoke/2",
                "6.12/nest/1",
                "6.12/nest/2",
                "6.12+lockdep/smoke/1",
                "6.12+lockdep/smoke/2"
            ]
        );
        assert_eq!(ids.len(), 14);
        assert_eq!(ids[12..], ["5.10+kasan/nest/1", "5.10+kasan/nest/2"]);
        let excluded = cells.iter().filter(|cell| cell.excluded.is_some()).map(Cell::id);
        assert_eq!(excluded.collect::<Vec<_>>(), ["5.10+lockdep/smoke/1", "5.10+lockdep/smoke/2"]);
    }

    #[test]
    fn the_plain_matrix_takes_every_scenario_with_its_own_vcpus() {
        let cells = cells(&parse("kernels = [\"6.12\"]\n").unwrap()).unwrap();
        assert_eq!(cells.len(), scenario::defaults().len());
        assert!(cells.iter().all(|cell| cell.vcpus == cell.scenario.vcpus));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, parts) in [
            ("kernels = [\"6.12\"]\nkernel = 1\n", &["matrix.toml", "line 2", "kernel"][..]),
            ("kernels = []\n", &["kernels", "at least one"]),
            ("kernels = [\"6.12\"]\nvcpus = [0]\n", &["vcpus", "1 to 8"]),
            ("kernels = [\"6.12\"]\n[[config]]\n[[config]]\n", &["config.name", "twice"]),
            ("kernels = [\"6.12\"]\n[[config]]\nname = \"a/b\"\n", &["config.name"]),
            ("kernels = [\"6.12\"]\n[[config]]\nkernels = [\"6.1\"]\n", &["config.kernels", "`6.1`"]),
            ("kernels = [\"6.12\"]\n[[exclude]]\nkernel = \"6.12\"\n", &["line 2", "reason"]),
            (
                "kernels = [\"6.12\"]\n[[config]]\nbaseline = \"no\"\n",
                &["line 3", "`always`", "`on-failure`"],
            ),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn the_parts_of_a_partition_are_the_whole() {
        for count in 0..20 {
            for of in 1..6 {
                let all: Vec<usize> = (0..count).collect();
                let parts = (1..=of).flat_map(|part| Partition { part, of }.of(all.clone()));
                assert_eq!(parts.collect::<Vec<_>>(), all, "{count} in {of}");
            }
        }
        for wrong in ["slice:0/4", "slice:5/4", "hash:1/4", "slice:1", "slice:1/0", ""] {
            assert!(wrong.parse::<Partition>().is_err(), "{wrong}");
        }
        assert_eq!("slice:2/4".parse::<Partition>().unwrap().to_string(), "slice:2/4");
    }
}
