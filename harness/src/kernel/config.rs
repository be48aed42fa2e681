// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration: tinyconfig, our fragments by the kernel's own merge_config.sh, olddefconfig; and the
//! proof that every symbol that was asked for survived. Kconfig drops what it cannot grant without a word.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::digest::Hash;
use super::fragment::{DotConfig, Fragment, Request};
use super::kconfig::{Blame, Kconfig};
use super::make::{ErrorWatch, FirstError, Make, reproducible};
use super::store::{StoreError, io_error, read_json, remove_tree, write_json, write_whole};
use crate::process::{ChildSpec, ProcessError};

/// Kconfig asks nobody and ends by itself; this is for one that hangs all the same.
const LIMIT: Duration = Duration::from_secs(300);

/// The kernel's name for the architecture that guests have.
pub(super) const SRCARCH: &str = "x86";

/// A symbol that has not the value that a fragment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingSymbol {
    /// Without `CONFIG_`.
    pub symbol: String,
    /// Value that was asked for; `n` for "is not set".
    pub requested: String,
    /// Value in the final `.config`.
    pub got: String,
    /// The fragment that asks.
    pub fragment: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// Why.
    pub blame: Blame,
}

impl fmt::Display for MissingSymbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingSymbol { symbol, requested, got, fragment, line, blame } = self;
        write!(
            f,
            "CONFIG_{symbol}: requested {requested}, got {got} ({}:{line}); {blame}",
            fragment.display()
        )
    }
}

/// A symbol that exists although a fragment says that it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentSymbol {
    /// Without `CONFIG_`.
    pub symbol: String,
    /// The fragment that says so.
    pub fragment: PathBuf,
    /// Its line, from 1.
    pub line: usize,
}

impl fmt::Display for PresentSymbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CONFIG_{} ({}:{})", self.symbol, self.fragment.display(), self.line)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Symbols that Kconfig did not grant.
    #[error("the configuration lacks {} of the requested symbols{}", .0.len(), Listed(.0))]
    Missing(Vec<MissingSymbol>),
    /// Symbols that a fragment says this kernel does not have, and that it has.
    #[error("the kernel has {} of the symbols that are said to be absent{}", .0.len(), Listed(.0))]
    Present(Vec<PresentSymbol>),
    /// A make target or merge_config.sh failed.
    #[error("the configuration failed{}: {source}", because(first))]
    Failed {
        /// The first error in its output.
        first: Option<Box<FirstError>>,
        /// What ran, and its last lines.
        source: ProcessError,
    },
    /// A file of the cache.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|symbol| write!(f, "\n    {symbol}"))
    }
}

fn because(first: &Option<Box<FirstError>>) -> String {
    first.as_ref().map(|first| format!(" at {first}")).unwrap_or_default()
}

/// What a `.config` was made of, and what came of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Configured {
    inputs: Hash,
    config: Hash,
}

/// Makes `.config` in the build folder of `make`. `inputs` names all that decides over it: with the same ones the
/// `.config` that is there stays, which saves three runs of Kconfig (10 s) after an edit of a C file.
pub(super) fn configure(
    make: &Make<'_>,
    fragments: &[Fragment],
    inputs: &Hash,
    log: &Path,
) -> Result<(), ConfigError> {
    let o = make.src.join(make.o);
    let path = o.join(".config");
    let memo = o.join("nstrail-configured.json");
    let now = || {
        let config = Hash::of(read_own(&path).ok()?.as_bytes());
        Some(Configured { inputs: inputs.clone(), config })
    };
    if now().is_some_and(|now| read_json(&memo) == Some(now)) {
        return Ok(());
    }
    remove_tree(&memo)?;
    run(make.spec().arg("tinyconfig"), log)?;
    let merged = o.join("nstrail-fragments");
    remove_tree(&merged)?;
    let mut merge = ChildSpec::new("sh").arg(make.src.join("scripts/kconfig/merge_config.sh"));
    merge = reproducible(merge).args(["-m", "-O", ".", ".config"]).dir(&o);
    for (i, fragment) in fragments.iter().enumerate() {
        // Numbered: two fragments may have one name. Without blanks: the script splits its list at them.
        let name: String = fragment.name.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
        let path = merged.join(format!("{i:02}-{name}.config"));
        write_whole(&path, fragment.text.as_bytes())?;
        merge = merge.arg(Path::new("nstrail-fragments").join(format!("{i:02}-{name}.config")));
    }
    run(make.confine(merge), log)?;
    run(make.spec().arg("olddefconfig"), log)?;
    let text = read_own(&path)?;
    verify(make.src, fragments, &DotConfig::parse(&text))?;
    // Only a verified one is remembered.
    write_json(&memo, &Configured { inputs: inputs.clone(), config: Hash::of(text.as_bytes()) })?;
    Ok(())
}

/// A file of the build folder. Not through a link: errors show parts of it, and that could be any file of the user's.
fn read_own(path: &Path) -> Result<String, StoreError> {
    let mut text = String::new();
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(io_error("read", path))?;
    file.read_to_string(&mut text).map_err(io_error("read", path))?;
    Ok(text)
}

fn run(spec: ChildSpec, log: &Path) -> Result<(), ConfigError> {
    let mut errors = ErrorWatch::default();
    match spec.log(log).limit(LIMIT).run_lines(|line| errors.line(line)) {
        Ok(_) => Ok(()),
        Err(source) => Err(ConfigError::Failed { first: errors.found().map(Box::new), source }),
    }
}

/// Whether every request is granted. Of several for one symbol the last one counts, and none for a symbol that a
/// fragment says this kernel does not have; if that is true.
fn verify(src: &Path, fragments: &[Fragment], config: &DotConfig) -> Result<(), ConfigError> {
    let absent: Vec<PresentSymbol> = fragments.iter().flat_map(said_to_be_absent).collect();
    if !absent.is_empty() {
        let kconfig = Kconfig::read(src, SRCARCH);
        let present: Vec<_> = absent.iter().filter(|said| kconfig.defines(&said.symbol)).cloned().collect();
        if !present.is_empty() {
            return Err(ConfigError::Present(present));
        }
    }
    let requests: Vec<(&Fragment, &Request)> =
        fragments.iter().flat_map(|fragment| fragment.requests.iter().map(move |r| (fragment, r))).collect();
    let missing = requests.iter().enumerate().filter(|(i, (_, request))| {
        let overridden = requests[i + 1..].iter().any(|(_, later)| later.symbol == request.symbol);
        let absent = absent.iter().any(|said| said.symbol == request.symbol);
        !overridden && !absent && config.value(&request.symbol) != request.value
    });
    let missing: Vec<_> = missing.map(|(_, found)| *found).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let kconfig = Kconfig::read(src, SRCARCH);
    let explain = |(fragment, request): (&Fragment, &Request)| MissingSymbol {
        symbol: request.symbol.clone(),
        requested: request.value.clone(),
        got: config.value(&request.symbol).to_owned(),
        fragment: fragment.path.clone(),
        line: request.line,
        blame: kconfig.blame(&request.symbol, config),
    };
    Err(ConfigError::Missing(missing.into_iter().map(explain).collect()))
}

fn said_to_be_absent(fragment: &Fragment) -> impl Iterator<Item = PresentSymbol> {
    fragment.absent.iter().map(|absent| PresentSymbol {
        symbol: absent.symbol.clone(),
        fragment: fragment.path.clone(),
        line: absent.line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fragments: &[&str], config: &str) -> Result<(), ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let kconfig = "config A\n\tbool \"a\"\n\tdepends on B && C\nconfig B\n\tbool \"b\"\n";
        std::fs::write(dir.path().join("Kconfig"), kconfig).unwrap();
        let parse = |(i, text): (usize, &&str)| {
            Fragment::parse(&format!("f{i}"), format!("f{i}.config").into(), text).unwrap()
        };
        let fragments: Vec<Fragment> = fragments.iter().enumerate().map(parse).collect();
        verify(dir.path(), &fragments, &DotConfig::parse(config))
    }

    #[test]
    fn a_symbol_that_was_dropped_is_an_error_with_its_reason() {
        let error = check(&["CONFIG_B=y\n", "\nCONFIG_A=y\n"], "CONFIG_B=y\n").unwrap_err().to_string();
        let expected = "the configuration lacks 1 of the requested symbols\n    \
            CONFIG_A: requested y, got n (f1.config:2); unmet: C [=n]";
        assert_eq!(error, expected);
    }

    #[test]
    fn values_and_unset_symbols_are_verified_too() {
        check(&["CONFIG_N=8\nCONFIG_S=\"x\"\n# CONFIG_B is not set\n"], "CONFIG_N=8\nCONFIG_S=\"x\"\n")
            .unwrap();
        let error = check(&["CONFIG_N=8\n# CONFIG_B is not set\n"], "CONFIG_N=4\nCONFIG_B=y\n").unwrap_err();
        let ConfigError::Missing(missing) = error else { panic!("{error}") };
        let got: Vec<_> = missing.iter().map(|m| (m.symbol.as_str(), m.got.as_str())).collect();
        assert_eq!(got, [("N", "4"), ("B", "y")]);
    }

    #[test]
    fn the_last_request_for_a_symbol_counts() {
        check(&["CONFIG_B=y\n", "# CONFIG_B is not set\n"], "").unwrap();
        assert!(check(&["# CONFIG_B is not set\n", "CONFIG_B=y\n"], "").is_err());
    }

    #[test]
    fn a_symbol_that_does_not_exist_in_this_line_is_not_missing() {
        let fragments = ["CONFIG_GONE=y\nCONFIG_B=y\n", "# nstrail: absent CONFIG_GONE\n"];
        check(&fragments, "CONFIG_B=y\n").unwrap();
        // Also if it is a later fragment that asks for it.
        check(&[fragments[1], fragments[0]], "CONFIG_B=y\n").unwrap();
        assert!(check(&fragments[..1], "CONFIG_B=y\n").is_err());
    }

    #[test]
    fn a_symbol_that_is_wrongly_said_to_be_absent_is_an_error() {
        let fragments = ["CONFIG_A=y\n", "# why\n# nstrail: absent CONFIG_A\n"];
        for config in ["", "CONFIG_A=y\n"] {
            let error = check(&fragments, config).unwrap_err().to_string();
            let expected =
                "the kernel has 1 of the symbols that are said to be absent\n    CONFIG_A (f1.config:2)";
            assert_eq!(error, expected);
        }
    }
}
