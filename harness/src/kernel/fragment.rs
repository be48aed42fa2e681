// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configuration fragments: files of kernel-configs/, each a list of requests.
//!
//! A kernel line may have fragments of its own, which versions.toml names. They come after the common ones, so that
//! what they ask for counts, and may say `# nstrail: absent CONFIG_X`: this line has no such symbol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Flavours that every kernel of ours has.
pub const BASE: [&str; 4] = ["base", "audit", "namespaces", "virtio"];

/// The fragments as they were when this program was built, for use without a checkout.
const EMBEDDED: &[(&str, &str)] = &[
    ("base", include_str!("../../../kernel-configs/base.config")),
    ("audit", include_str!("../../../kernel-configs/audit.config")),
    ("namespaces", include_str!("../../../kernel-configs/namespaces.config")),
    ("virtio", include_str!("../../../kernel-configs/virtio.config")),
    ("auditnsid", include_str!("../../../kernel-configs/auditnsid.config")),
    ("kunit", include_str!("../../../kernel-configs/kunit.config")),
    ("slub", include_str!("../../../kernel-configs/slub.config")),
    ("full", include_str!("../../../kernel-configs/full.config")),
    ("xtables-legacy", include_str!("../../../kernel-configs/xtables-legacy.config")),
    ("lockdep", include_str!("../../../kernel-configs/lockdep.config")),
    ("kasan", include_str!("../../../kernel-configs/kasan.config")),
    ("kcsan", include_str!("../../../kernel-configs/kcsan.config")),
    ("kmemleak", include_str!("../../../kernel-configs/kmemleak.config")),
    ("lkdtm", include_str!("../../../kernel-configs/lkdtm.config")),
    ("one-sysctl", include_str!("../../../kernel-configs/one-sysctl.config")),
];

/// A fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Flavour: the file's name without `.config`.
    pub name: String,
    /// What messages call it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What it asks for, in its order.
    pub requests: Vec<Request>,
    /// What it says the kernel does not have, whoever asks for it.
    pub absent: Vec<Absent>,
    /// How many times longer its guests may take, from 1.
    pub slowdown: u32,
}

/// One line that asks for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Symbol, without `CONFIG_`.
    pub symbol: String,
    /// `y`, a number, a string in quotes, or `n` for "is not set".
    pub value: String,
    /// Line in the fragment, from 1.
    pub line: usize,
}

/// One line that says that a symbol does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Symbol, without `CONFIG_`.
    pub symbol: String,
    /// Line in the fragment, from 1.
    pub line: usize,
}

/// Why there is no fragment.
#[derive(Debug, thiserror::Error)]
pub enum FragmentError {
    /// No such flavour.
    #[error("no configuration fragment `{name}` in {} (hint: there are {})", folder.display(), list(known))]
    Unknown {
        /// Flavour.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// Flavours that are there.
        known: Vec<String>,
    },
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The fragment.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A line is no request.
    #[error("{}:{line}: `{text}` asks for nothing (hint: `CONFIG_X=y`, `# CONFIG_X is not set`, or \
             `# nstrail: absent CONFIG_X`)", path.display())]
    Line {
        /// The fragment.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

fn list(known: &[String]) -> String {
    known.join(", ")
}

/// Where fragments are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fragments {
    /// The folder kernel-configs/ of a checkout.
    Folder(PathBuf),
    /// Those that this program was built with.
    Embedded,
}

impl Fragments {
    /// Reads the fragments of some flavours, in their order.
    ///
    /// # Errors
    /// As [`FragmentError`].
    pub fn read<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<Fragment>, FragmentError> {
        names.iter().map(|name| self.one(name.as_ref())).collect()
    }

    fn one(&self, name: &str) -> Result<Fragment, FragmentError> {
        match self {
            Fragments::Embedded => {
                let Some((_, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) else {
                    return Err(FragmentError::Unknown {
                        name: name.to_owned(),
                        folder: "the fragments of this program".into(),
                        known: EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect(),
                    });
                };
                Fragment::parse(name, Path::new("kernel-configs").join(format!("{name}.config")), text)
            }
            Fragments::Folder(folder) => {
                let path = folder.join(format!("{name}.config"));
                // A name must stay in the folder: `../x` is none.
                if name.contains('/') || !path.is_file() {
                    let (name, folder) = (name.to_owned(), folder.clone());
                    let known = flavours(&folder);
                    return Err(FragmentError::Unknown { name, folder, known });
                }
                Fragment::open(name, path)
            }
        }
    }

    /// Whether there is a fragment of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Fragments::Embedded => EMBEDDED.iter().any(|(known, _)| *known == name),
            Fragments::Folder(folder) => flavours(folder).iter().any(|known| known == name),
        }
    }
}

fn flavours(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".config").map(str::to_owned)).collect();
    names.sort_unstable();
    names
}

impl Fragment {
    fn open(name: &str, path: PathBuf) -> Result<Fragment, FragmentError> {
        match std::fs::read_to_string(&path) {
            Ok(text) => Fragment::parse(name, path, &text),
            Err(source) => Err(FragmentError::Read { path, source }),
        }
    }

    /// Reads a fragment's text.
    ///
    /// # Errors
    /// [`FragmentError::Line`]: merge_config.sh passes over what it does not understand, we do not.
    pub fn parse(name: &str, path: PathBuf, text: &str) -> Result<Fragment, FragmentError> {
        let (mut requests, mut absent, mut slowdown) = (Vec::new(), Vec::new(), 1);
        for (i, raw) in text.lines().enumerate() {
            let line = raw.trim();
            if let Some(word) = line.strip_prefix('#').and_then(|rest| rest.trim().strip_prefix("nstrail:")) {
                match Directive::parse(word.trim()) {
                    Some(Directive::Absent(symbol)) => {
                        absent.push(Absent { symbol: symbol.to_owned(), line: i + 1 });
                    }
                    Some(Directive::Slowdown(factor)) => slowdown = factor,
                    None => return Err(FragmentError::Line { path, line: i + 1, text: raw.to_owned() }),
                }
                continue;
            }
            let request = match line.strip_prefix('#') {
                Some(comment) => unset(comment).map(|symbol| (symbol, "n")),
                None => match line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('=')) {
                    Some((symbol, value)) if is_symbol(symbol) && !value.is_empty() => Some((symbol, value)),
                    _ if line.is_empty() => None,
                    _ => return Err(FragmentError::Line { path, line: i + 1, text: raw.to_owned() }),
                },
            };
            if let Some((symbol, value)) = request {
                requests.push(Request { symbol: symbol.to_owned(), value: value.to_owned(), line: i + 1 });
            }
        }
        Ok(Fragment { name: name.to_owned(), path, text: text.to_owned(), requests, absent, slowdown })
    }
}

/// What a `# nstrail: ` line says.
enum Directive<'a> {
    /// `absent CONFIG_X`
    Absent(&'a str),
    /// `slowdown N`
    Slowdown(u32),
}

impl<'a> Directive<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        match text.split_once(' ')? {
            ("absent", symbol) => {
                symbol.strip_prefix("CONFIG_").filter(|name| is_symbol(name)).map(Directive::Absent)
            }
            ("slowdown", factor) => {
                factor.parse().ok().filter(|factor| (1..=100).contains(factor)).map(Directive::Slowdown)
            }
            _ => None,
        }
    }
}

/// ` CONFIG_X is not set`
fn unset(comment: &str) -> Option<&str> {
    let symbol = comment.trim().strip_prefix("CONFIG_")?.strip_suffix(" is not set")?;
    is_symbol(symbol).then_some(symbol)
}

fn is_symbol(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// The values of a `.config`; a symbol that is not in it is `n`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DotConfig(BTreeMap<String, String>);

impl DotConfig {
    /// Reads the text of a `.config`.
    #[must_use]
    pub fn parse(text: &str) -> DotConfig {
        let pairs = text.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='));
        DotConfig(pairs.map(|(symbol, value)| (symbol.to_owned(), value.to_owned())).collect())
    }

    /// The value of a symbol, as it stands there.
    pub fn value(&self, symbol: &str) -> &str {
        self.0.get(symbol).map_or("n", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::super::versions::KernelLine;
    use super::*;

    #[test]
    fn a_fragment_says_how_much_slower_its_guests_are() {
        let slowdown = |text: &str| Fragment::parse("x", "x.config".into(), text).map(|f| f.slowdown);
        assert_eq!(slowdown("CONFIG_A=y\n").unwrap(), 1);
        assert_eq!(slowdown("# nstrail: slowdown 8\n").unwrap(), 8);
        for wrong in ["slowdown", "slowdown 0", "slowdown x", "slowdown 1000", "slower 3"] {
            let error = slowdown(&format!("\n# nstrail: {wrong}\n")).unwrap_err().to_string();
            assert!(error.contains("x.config:2:"), "{error}");
        }
    }

    #[test]
    fn a_fragment_is_a_list_of_requests() {
        let text = "# why\nCONFIG_A=y\n\n# CONFIG_B is not set\nCONFIG_C=\"a b\"\n";
        let fragment = Fragment::parse("x", "x.config".into(), text).unwrap();
        let requests: Vec<_> =
            fragment.requests.iter().map(|r| (r.symbol.as_str(), r.value.as_str(), r.line)).collect();
        assert_eq!(requests, [("A", "y", 2), ("B", "n", 4), ("C", "\"a b\"", 5)]);
    }

    #[test]
    fn a_line_that_merge_config_would_pass_over_is_an_error() {
        let typos = ["# nstrail: abesnt CONFIG_A", "#nstrail: absent A", "# nstrail: absent CONFIG_A=y"];
        for line in ["CONFIG_A", "CONFIG_A =y", "config_a=y", "CONFIG_A="].into_iter().chain(typos) {
            let error = Fragment::parse("x", "x.config".into(), &format!("\n{line}\n")).unwrap_err();
            assert!(error.to_string().starts_with(&format!("x.config:2: `{line}`")), "{error}");
        }
    }

    #[test]
    fn a_fragment_says_what_its_kernel_line_does_not_have() {
        let text = "# CONFIG_B is not set\n# nstrail: absent CONFIG_A\n# absent CONFIG_C, we think\n";
        let fragment = Fragment::parse("x", "x.config".into(), text).unwrap();
        assert_eq!(fragment.absent, [Absent { symbol: "A".into(), line: 2 }]);
        assert_eq!(fragment.requests.len(), 1);
    }

    #[test]
    fn every_embedded_fragment_can_be_read() {
        let names: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
        let fragments = Fragments::Embedded.read(&names).unwrap();
        assert!(fragments.iter().all(|fragment| fragment.requests.len() + fragment.absent.len() > 0));
        assert!(Fragments::Embedded.has("kunit") && !Fragments::Embedded.has("no-such"));
    }

    #[test]
    fn what_a_kernel_line_names_is_there() {
        for line in KernelLine::all() {
            Fragments::Embedded.read(&line.fragments).unwrap();
        }
    }

    #[test]
    fn a_name_stays_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("base.config"), "CONFIG_A=y\n").unwrap();
        let folder = Fragments::Folder(dir.path().into());
        assert_eq!(folder.read(&["base"]).unwrap()[0].name, "base");
        for name in ["bas", "../base"] {
            let error = folder.read(&[name]).unwrap_err().to_string();
            assert!(error.contains("there are base)"), "{error}");
        }
    }
}
