// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants: small patches on top of the series, each with one planted fault that the checker has to see.
//!
//! `patches/mutants/NN-name/` has `mutant.toml` (what is broken, and what must see it) and `fault.patch`, or
//! `fault-VERSION.patch` where a kernel version needs another text for the same fault.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::scenario;
use crate::check::Invariant;

/// Name of the file that describes a mutant.
pub const FILE_NAME: &str = "mutant.toml";

/// Guarantees of the contract.
const GUARANTEES: [&str; 9] = ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9"];

/// Of which kind a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// Wrong each time.
    Always,
    /// Wrong beyond some number.
    Limit,
    /// Wrong if two things happen at once.
    Race,
    /// Wrong now and then, without a word.
    Silent,
}

impl FaultKind {
    /// The word of mutant.toml and of the reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Limit => "limit",
            Self::Race => "race",
            Self::Silent => "silent",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    title: String,
    kind: FaultKind,
    guarantees: Vec<String>,
    invariants: Vec<String>,
    scenarios: Vec<String>,
    missed: String,
    tries: Option<u32>,
    #[serde(default)]
    kernels: Vec<String>,
    #[serde(default)]
    flavours: Vec<String>,
}

/// A planted fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Name of its folder: `07-flags-as-passed`.
    pub name: String,
    /// One line: what the kernel does wrong.
    pub title: String,
    pub kind: FaultKind,
    /// What of the contract it breaks: `G1` to `G9`.
    pub guarantees: Vec<String>,
    /// Invariants of which one must see it.
    pub invariants: Vec<Invariant>,
    /// Scenarios that should show it, the cheapest first.
    pub scenarios: Vec<String>,
    /// Why a reviewer could miss it.
    pub missed: String,
    /// In how many runs it may show itself.
    pub tries: u32,
    /// Kernel versions that can have it; all if none is named.
    pub kernels: Vec<String>,
    /// Fragments that a kernel must be built with for the fault to show.
    pub flavours: Vec<String>,
    folder: PathBuf,
}

/// A mutant that cannot be used.
#[derive(Debug, Error)]
pub enum MutantError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The parser's message has line and column.
    #[error("{}: {message}", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("{}: {field}: {message}", path.display())]
    Value { path: PathBuf, field: &'static str, message: String },
    #[error("{} has no mutant (hint: a folder NN-name with {FILE_NAME} and fault.patch is one)", .0.display())]
    None(PathBuf),
    #[error("no mutant `{name}` (hint: {known})")]
    Unknown { name: String, known: String },
}

impl Mutant {
    /// All mutants of a folder, by name.
    ///
    /// # Errors
    /// If one cannot be read, names what does not exist, or there is none.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, MutantError> {
        let read = |source| MutantError::Read { path: folder.to_owned(), source };
        let mut mutants = Vec::new();
        for entry in fs::read_dir(folder).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if path.is_dir() {
                mutants.push(Self::read(&path)?);
            }
        }
        if mutants.is_empty() {
            return Err(MutantError::None(folder.to_owned()));
        }
        mutants.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(mutants)
    }

    /// One mutant.
    ///
    /// # Errors
    /// If it cannot be read, or names what does not exist.
    pub fn read(folder: &Path) -> Result<Self, MutantError> {
        let path = folder.join(FILE_NAME);
        let text =
            fs::read_to_string(&path).map_err(|source| MutantError::Read { path: path.clone(), source })?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mutant = Self::parse(&text, &path, name, folder)?;
        // There must be a patch for each kernel that it may be asked for.
        let any = folder.join("fault.patch").is_file();
        let missing = |version: &&String| !any && !folder.join(format!("fault-{version}.patch")).is_file();
        if let Some(version) = mutant.kernels.iter().find(missing) {
            let message = format!("there is neither fault.patch nor fault-{version}.patch");
            return Err(MutantError::Value { path, field: "kernels", message });
        }
        if mutant.kernels.is_empty() && !any {
            let message = "there is no fault.patch (hint: or name the kernels that have one)".to_owned();
            return Err(MutantError::Value { path, field: "kernels", message });
        }
        Ok(mutant)
    }

    fn parse(text: &str, path: &Path, name: String, folder: &Path) -> Result<Self, MutantError> {
        let table: Table = toml::from_str(text).map_err(|error| MutantError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let wrong =
            |field, message: String| Err(MutantError::Value { path: path.to_owned(), field, message });
        let number = name.split('-').next().unwrap_or_default();
        if name.len() <= 3 || number.len() < 2 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return wrong("folder", format!("`{name}` is no NN-name, as 07-flags-as-passed"));
        }
        for (field, text) in [("title", &table.title), ("missed", &table.missed)] {
            if text.trim().is_empty() {
                return wrong(field, "is empty, expected a sentence".to_owned());
            }
        }
        let lists = [
            ("guarantees", &table.guarantees),
            ("invariants", &table.invariants),
            ("scenarios", &table.scenarios),
        ];
        for (field, list) in lists {
            if list.is_empty() {
                return wrong(field, "is empty, expected at least one".to_owned());
            }
        }
        let known = |guarantee: &&String| !GUARANTEES.contains(&guarantee.as_str());
        if let Some(unknown) = table.guarantees.iter().find(known) {
            return wrong("guarantees", format!("`{unknown}` is none, expected G1 to G9"));
        }
        let mut invariants = Vec::new();
        for id in &table.invariants {
            match Invariant::ALL.iter().find(|invariant| invariant.id() == id) {
                Some(invariant) => invariants.push(*invariant),
                None => return wrong("invariants", format!("`{id}` is none (hint: docs/invariants.md)")),
            }
        }
        for scenario in &table.scenarios {
            if scenario::embedded(scenario).is_none() {
                let hint = "(hint: `nstrail scenarios list`)";
                return wrong("scenarios", format!("`{scenario}` is no embedded one {hint}"));
            }
        }
        if table.tries == Some(0) {
            return wrong("tries", "is 0, expected at least 1".to_owned());
        }
        Ok(Self {
            name,
            title: table.title.trim().to_owned(),
            kind: table.kind,
            guarantees: table.guarantees,
            invariants,
            scenarios: table.scenarios,
            missed: table.missed.trim().to_owned(),
            tries: table.tries.unwrap_or(1),
            kernels: table.kernels,
            flavours: table.flavours,
            folder: folder.to_owned(),
        })
    }

    /// Whether a kernel version can have the fault.
    #[must_use]
    pub fn is_for(&self, version: &str) -> bool {
        self.kernels.is_empty() || self.kernels.iter().any(|kernel| kernel == version)
    }

    /// The patch for a kernel version.
    #[must_use]
    pub fn patch(&self, version: &str) -> PathBuf {
        let own = self.folder.join(format!("fault-{version}.patch"));
        if own.is_file() { own } else { self.folder.join("fault.patch") }
    }
}

/// Those that are named, by name or number; all if none is.
///
/// # Errors
/// If a name is no mutant's.
pub fn select(mutants: Vec<Mutant>, names: &[String]) -> Result<Vec<Mutant>, MutantError> {
    if names.is_empty() {
        return Ok(mutants);
    }
    let is = |mutant: &Mutant, name: &str| {
        let number = |text: &str| text.parse::<u32>().ok();
        let own = mutant.name.split('-').next().and_then(number);
        mutant.name == name || own.is_some() && own == number(name)
    };
    let mut wanted = BTreeSet::new();
    for name in names {
        match mutants.iter().find(|mutant| is(mutant, name)) {
            Some(mutant) => {
                wanted.insert(mutant.name.clone());
            }
            None => {
                let ends = [mutants.first(), mutants.last()].map(|end| end.map_or("", |end| &end.name));
                let known = format!("{} to {}; `nstrail mutants --list`", ends[0], ends[1]);
                return Err(MutantError::Unknown { name: name.clone(), known });
            }
        }
    }
    Ok(mutants.into_iter().filter(|mutant| wanted.contains(&mutant.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "title = \"An id comes back\"\nkind = \"always\"\nguarantees = [\"G3\"]\n\
        invariants = [\"NS-G3-UNIQUE\"]\nscenarios = [\"smoke\"]\nmissed = \"It looks like a cache.\"\n";

    fn parse(text: &str, name: &str) -> Result<Mutant, MutantError> {
        Mutant::parse(text, Path::new("mutant.toml"), name.to_owned(), Path::new(name))
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        assert_eq!(parse(GOOD, "01-a").unwrap().invariants, [Invariant::G3Unique]);
        for (from, to, parts) in [
            ("G3\"]", "G10\"]", &["guarantees", "`G10`", "G1 to G9"][..]),
            ("NS-G3-UNIQUE", "NS-G3-UNIK", &["invariants", "`NS-G3-UNIK`", "docs/invariants.md"]),
            ("\"smoke\"", "\"smok\"", &["scenarios", "`smok`", "scenarios list"]),
            ("\"always\"", "\"often\"", &["line 2", "`always`", "`race`"]),
            ("It looks like a cache.", " ", &["missed", "sentence"]),
            ("[\"smoke\"]", "[]", &["scenarios", "at least one"]),
            ("title =", "tries = 0\ntitle =", &["tries", "at least 1"]),
            ("title =", "name = 1\ntitle =", &["line 1", "name"]),
        ] {
            let message = parse(&GOOD.replacen(from, to, 1), "01-a").unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        for name in ["a", "1-a", "ab-c", "01"] {
            assert!(parse(GOOD, name).unwrap_err().to_string().contains("NN-name"), "{name}");
        }
    }

    #[test]
    fn a_version_has_its_own_patch_or_that_of_all() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("01-a");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(FILE_NAME), GOOD).unwrap();
        let message = Mutant::read(&folder).unwrap_err().to_string();
        assert!(message.contains("no fault.patch"), "{message}");
        fs::write(folder.join("fault-5.10.patch"), "").unwrap();
        fs::write(folder.join("fault.patch"), "").unwrap();
        let mutant = Mutant::read_all(root.path()).unwrap().remove(0);
        assert_eq!(mutant.patch("5.10"), folder.join("fault-5.10.patch"));
        assert_eq!(mutant.patch("6.12"), folder.join("fault.patch"));
        assert!(mutant.is_for("6.12"));
    }

    #[test]
    fn mutants_are_named_by_number_or_name() {
        let all = || vec![parse(GOOD, "01-a").unwrap(), parse(GOOD, "02-b").unwrap()];
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            select(all(), &names).map(|all| all.into_iter().map(|one| one.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["01-a", "02-b"]);
        assert_eq!(names(&["02", "2", "02-b"]).unwrap(), ["02-b"]);
        assert!(names(&["3"]).unwrap_err().to_string().contains("01-a to 02-b"));
    }
}
