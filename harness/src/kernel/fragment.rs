// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configuration fragments: files of kernel-configs/, each a list of requests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Flavours that every kernel of ours has.
pub const BASE: [&str; 4] = ["base", "audit", "namespaces", "virtio"];

/// The fragments as they were when this program was built, for use without a checkout.
const EMBEDDED: [(&str, &str); 6] = [
    ("base", include_str!("../../../kernel-configs/base.config")),
    ("audit", include_str!("../../../kernel-configs/audit.config")),
    ("namespaces", include_str!("../../../kernel-configs/namespaces.config")),
    ("virtio", include_str!("../../../kernel-configs/virtio.config")),
    ("auditnsid", include_str!("../../../kernel-configs/auditnsid.config")),
    ("kunit", include_str!("../../../kernel-configs/kunit.config")),
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
    #[error("{}:{line}: `{text}` asks for nothing (hint: `CONFIG_X=y`, or `# CONFIG_X is not set`)", path.display())]
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
    /// Reads the fragments of some flavours, in their order. A folder may hold `versions/LINE/NAME.config`: what
    /// this flavour asks for in addition on that kernel line.
    ///
    /// # Errors
    /// As [`FragmentError`].
    pub fn read<S: AsRef<str>>(
        &self,
        names: &[S],
        line: Option<&str>,
    ) -> Result<Vec<Fragment>, FragmentError> {
        let mut fragments = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            match self {
                Fragments::Embedded => {
                    let Some((_, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) else {
                        return Err(FragmentError::Unknown {
                            name: name.to_owned(),
                            folder: "the fragments of this program".into(),
                            known: EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect(),
                        });
                    };
                    let path = Path::new("kernel-configs").join(format!("{name}.config"));
                    fragments.push(Fragment::parse(name, path, text)?);
                }
                Fragments::Folder(folder) => {
                    let path = folder.join(format!("{name}.config"));
                    // A name must stay in the folder: `../x` is none.
                    if name.contains('/') || !path.is_file() {
                        let (name, folder) = (name.to_owned(), folder.clone());
                        let known = flavours(&folder);
                        return Err(FragmentError::Unknown { name, folder, known });
                    }
                    fragments.push(Fragment::open(name, path)?);
                    if let Some(line) = line {
                        let path = folder.join("versions").join(line).join(format!("{name}.config"));
                        if path.is_file() {
                            fragments.push(Fragment::open(&format!("{name}@{line}"), path)?);
                        }
                    }
                }
            }
        }
        Ok(fragments)
    }

    /// Whether there is a fragment of that name.
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
        let mut requests = Vec::new();
        for (i, raw) in text.lines().enumerate() {
            let line = raw.trim();
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
        Ok(Fragment { name: name.to_owned(), path, text: text.to_owned(), requests })
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
    use super::*;

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
        for line in ["CONFIG_A", "CONFIG_A =y", "config_a=y", "CONFIG_A="] {
            let error = Fragment::parse("x", "x.config".into(), &format!("\n{line}\n")).unwrap_err();
            assert!(error.to_string().starts_with(&format!("x.config:2: `{line}`")), "{error}");
        }
    }

    #[test]
    fn every_embedded_fragment_can_be_read() {
        let names: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
        let fragments = Fragments::Embedded.read(&names, Some("6.12")).unwrap();
        assert!(fragments.iter().all(|fragment| !fragment.requests.is_empty()));
        assert!(Fragments::Embedded.has("kunit") && !Fragments::Embedded.has("kasan"));
    }

    #[test]
    fn a_folder_adds_what_a_kernel_line_needs() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("versions/5.10")).unwrap();
        std::fs::write(dir.path().join("base.config"), "CONFIG_A=y\n").unwrap();
        std::fs::write(dir.path().join("versions/5.10/base.config"), "CONFIG_B=y\n").unwrap();
        let folder = Fragments::Folder(dir.path().into());
        let names = |line| -> Vec<String> {
            folder.read(&["base"], Some(line)).unwrap().into_iter().map(|fragment| fragment.name).collect()
        };
        assert_eq!(names("6.12"), ["base"]);
        assert_eq!(names("5.10"), ["base", "base@5.10"]);
        for name in ["bas", "../base"] {
            let error = folder.read(&[name], None).unwrap_err().to_string();
            assert!(error.contains("there are base)"), "{error}");
        }
    }
}
