// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's make: how it is called, what its lines mean, and which compiler it uses.

use std::path::{Path, PathBuf};

use super::digest::KeyHasher;
use super::store::{Store, StoreError, write_whole};
use crate::process::sandbox::is_system;
use crate::process::{ChildSpec, ProcessError, Sandbox, View};

/// Variables of ours that would change a build behind the cache key's back, or tie it to the make that started
/// us.
const FOREIGN: [&str; 28] = [
    "LANGUAGE",
    "LC_CTYPE",
    "LC_MESSAGES",
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "MAKEFILES",
    "GNUMAKEFLAGS",
    "KBUILD_OUTPUT",
    "KBUILD_EXTMOD",
    "KBUILD_VERBOSE",
    "KCONFIG_CONFIG",
    "KCONFIG_ALLCONFIG",
    "KCFLAGS",
    "KCPPFLAGS",
    "KAFLAGS",
    "KERNELRELEASE",
    "LOCALVERSION",
    "ARCH",
    "SUBARCH",
    "CROSS_COMPILE",
    "LLVM",
    "LLVM_IAS",
    "O",
    "M",
    "V",
    "W",
];

/// A `KEY=VALUE` that is passed through to make.
pub type MakeVariable = (String, String);

/// How a tree is made.
#[derive(Debug, Clone)]
pub struct Make<'a> {
    /// The source tree.
    pub src: &'a Path,
    /// Name of the build folder in it: kbuild then writes relative paths, so that a tree can be moved.
    pub o: &'a str,
    /// Passed through.
    pub variables: &'a [MakeVariable],
    /// The compiler cache's folder, if there is a ccache.
    pub ccache: Option<&'a Path>,
    /// At the lowest priority, so that guests which run meanwhile keep their CPUs.
    pub background: bool,
    /// What runs of the tree is confined by it.
    pub sandbox: Option<Sandbox>,
}

impl Make<'_> {
    /// make with everything but its targets.
    pub fn spec(&self) -> ChildSpec {
        let mut spec = match self.background {
            true => ChildSpec::new("nice").args(["-n", "19", "make"]),
            false => ChildSpec::new("make"),
        };
        spec = spec.arg("-C").arg(self.src).arg(format!("O={}", self.o));
        for (key, value) in self.variables {
            spec = spec.arg(format!("{key}={value}"));
        }
        if let Some(folder) = self.ccache {
            let compiler = compiler(self.variables);
            // A ccache in front of a ccache refuses to run.
            if !compiler.starts_with("ccache ") {
                spec = spec.arg(format!("CC=ccache {compiler}"));
            }
            spec = spec
                .env("CCACHE_DIR", folder)
                // The same file in another tree is the same file: kbuild's paths are relative.
                .env("CCACHE_NOHASHDIR", "1")
                // One preprocessor run less per file.
                .env("CCACHE_DEPEND", "1")
                .env("CCACHE_MAXSIZE", "5G");
        }
        self.confine(reproducible(spec))
    }

    /// Another program that the build needs, confined as make is: the tree to read, the build folder and the compiler
    /// cache to write.
    pub fn confine(&self, spec: ChildSpec) -> ChildSpec {
        let mut view =
            View { read: vec![self.src.to_owned()], background: self.background, ..View::default() };
        view.write.push(self.src.join(self.o));
        if let Some(folder) = self.ccache {
            view.write.push(folder.to_owned());
            // Whoever could write that could name a program that ccache runs, also without a sandbox.
            view.read.push(folder.join(CCACHE_CONF));
        }
        confine(self.sandbox, self.variables, view, spec)
    }
}

/// A program of the build, with what it sees beside the tools.
pub(super) fn confine(
    sandbox: Option<Sandbox>,
    variables: &[MakeVariable],
    mut view: View,
    spec: ChildSpec,
) -> ChildSpec {
    let Some(sandbox) = sandbox else { return spec };
    view.read.extend(toolchains(variables));
    spec.confine(sandbox, &view)
}

/// ccache's settings in its folder.
const CCACHE_CONF: &str = "ccache.conf";

/// Makes the folder of the compiler cache, if there is a ccache.
///
/// # Errors
/// It cannot be made.
pub fn ccache(store: &Store) -> Result<Option<PathBuf>, StoreError> {
    if !has_ccache() {
        return Ok(None);
    }
    let folder = store.path("ccache");
    let settings = folder.join(CCACHE_CONF);
    if !settings.exists() {
        write_whole(&settings, b"")?;
    }
    Ok(Some(folder))
}

/// Where those tools lie that are none of the system's.
fn toolchains(variables: &[MakeVariable]) -> Vec<PathBuf> {
    let values = variables.iter().flat_map(|(_, value)| value.split_whitespace());
    let named = values.filter(|word| word.starts_with('/')).map(PathBuf::from);
    let tools = [compiler(variables), tool(variables, "ld", "ld.lld"), objcopy(variables)];
    let words = tools.iter().flat_map(|tool| tool.split_whitespace());
    let programs = words.chain(["make", "ccache", "sparse"]).filter_map(program);
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for path in named.chain(programs) {
        let real = path.canonicalize().ok();
        found.extend([Some(path), real].iter().flatten().map(|path| toolchain(path, &home)));
    }
    found.retain(|path| path.exists() && !is_system(path));
    found.sort_unstable();
    found.dedup();
    found
}

/// The folder above the `bin` that a tool lies in, or that is one. Only the tool itself where that folder is the user's
/// own, or a hidden one in it: ~/.local has more than programs.
fn toolchain(path: &Path, home: &Path) -> PathBuf {
    let bin = if path.is_dir() { Some(path) } else { path.parent() };
    let root = bin.filter(|bin| bin.ends_with("bin")).and_then(Path::parent);
    let is_private = |root: &&Path| {
        let hidden = |below: &Path| below.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
        home.starts_with(root) || root.strip_prefix(home).is_ok_and(hidden)
    };
    root.filter(|root| !is_private(root)).unwrap_or(path).to_owned()
}

/// A program in `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// What decides over the bytes of a build and is not in the tree, fixed or taken away.
pub(super) fn reproducible(spec: ChildSpec) -> ChildSpec {
    let spec = FOREIGN.iter().fold(spec, ChildSpec::env_remove);
    spec.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
        .env("KBUILD_BUILD_USER", "nstrail")
        .env("KBUILD_BUILD_HOST", "nstrail")
        .env("KBUILD_BUILD_VERSION", "1")
        // Set and empty: no `+` after the version where the cache lies in somebody's git tree.
        .env("LOCALVERSION", "")
        // kbuild takes LC_ALL away again; messages must be in the language that we look for errors in.
        .env("LC_ALL", "C")
        .env("LANG", "C")
}

fn variable<'a>(variables: &'a [MakeVariable], name: &str) -> Option<&'a str> {
    variables.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A tool's name as kbuild makes it from LLVM= and CROSS_COMPILE=.
fn tool(variables: &[MakeVariable], gnu: &str, llvm: &str) -> String {
    match variable(variables, "LLVM") {
        // LLVM=-14 is a suffix, LLVM=/path/ a prefix (Documentation/kbuild/llvm.rst).
        Some(suffix) if suffix.starts_with('-') => format!("{llvm}{suffix}"),
        Some(prefix) if prefix.ends_with('/') => format!("{prefix}{llvm}"),
        Some(_) => llvm.to_owned(),
        None => format!("{}{gnu}", variable(variables, "CROSS_COMPILE").unwrap_or_default()),
    }
}

fn compiler(variables: &[MakeVariable]) -> String {
    match variable(variables, "CC") {
        Some(compiler) => compiler.to_owned(),
        None => tool(variables, "gcc", "clang"),
    }
}

/// The objcopy that goes with the compiler.
pub(super) fn objcopy(variables: &[MakeVariable]) -> String {
    tool(variables, "objcopy", "llvm-objcopy")
}

/// Compiler and linker, each by the first line of its `--version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Compiler.
    pub compiler: String,
    /// Linker.
    pub linker: String,
}

impl Toolchain {
    /// Asks the tools.
    ///
    /// # Errors
    /// One of them cannot be run.
    pub fn probe(variables: &[MakeVariable]) -> Result<Toolchain, ProcessError> {
        let version = |command: &str| -> Result<String, ProcessError> {
            let mut words = command.split_whitespace();
            let program = words.next().unwrap_or_default();
            let text = ChildSpec::new(program).args(words).arg("--version").env("LC_ALL", "C").read()?;
            Ok(text.lines().next().unwrap_or_default().to_owned())
        };
        let linker = variable(variables, "LD").map_or_else(|| tool(variables, "ld", "ld.lld"), str::to_owned);
        Ok(Toolchain { compiler: version(&compiler(variables))?, linker: version(&linker)? })
    }

    pub(super) fn key(&self, hasher: &mut KeyHasher) {
        hasher.part("compiler", &self.compiler);
        hasher.part("linker", &self.linker);
    }
}

/// Whether a ccache can be used.
fn has_ccache() -> bool {
    program("ccache").is_some()
}

/// A line of make that names a step: `  CC      kernel/fork.o` is `("CC", "kernel/fork.o")`.
pub fn step(line: &str) -> Option<(&str, &str)> {
    let (tool, target) = line.strip_prefix("  ")?.split_once("  ").or_else(|| line[2..].split_once(' '))?;
    let is_tool = !tool.is_empty()
        && tool.starts_with(|c: char| c.is_ascii_uppercase())
        && tool.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || b"_ [M]-+".contains(&c));
    let target = target.trim();
    (is_tool && !target.is_empty()).then_some((tool.trim(), target))
}

/// The first error in make's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstError {
    /// The file, relative to the tree, and line, if the message names one.
    pub file: Option<(PathBuf, u32)>,
    /// The message.
    pub message: String,
}

impl std::fmt::Display for FirstError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some((file, line)) => write!(f, "{}:{line}: {}", file.display(), self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Looks for the first error line by line: the compiler's or the linker's, or else make's own.
#[derive(Debug, Clone, Default)]
pub struct ErrorWatch {
    found: Option<FirstError>,
    make: Option<FirstError>,
}

impl ErrorWatch {
    /// Shows it a line of the output.
    pub fn line(&mut self, line: &str) {
        if self.found.is_none() {
            self.found = compiler_error(line).or_else(|| linker_error(line));
        }
        // `make[2]: *** No rule to make target ...`; but not the echo of an error that went before.
        if self.make.is_none() && line.starts_with("make") && line.contains("*** ") {
            let message = line.split_once("*** ").map_or(line, |(_, message)| message);
            self.make = Some(FirstError { file: None, message: message.to_owned() });
        }
    }

    /// The first error so far.
    pub fn found(self) -> Option<FirstError> {
        self.found.or(self.make)
    }
}

/// `../kernel/audit.c:12:5: error: message`, as gcc, clang, as and Kconfig write it.
fn compiler_error(line: &str) -> Option<FirstError> {
    let (place, message) = [": fatal error: ", ": error: ", ": Error: "]
        .into_iter()
        .find_map(|mark| line.split_once(mark))
        .or_else(|| {
            let (place, message) = line.split_once(": ")?;
            (place.contains("Kconfig") && place.contains(':')).then_some((place, message))
        })?;
    let mut parts = place.split(':');
    let file = parts.next().unwrap_or_default();
    let number = parts.next().and_then(|number| number.parse().ok());
    let file = number.map(|number| (PathBuf::from(file.trim_start_matches("../")), number));
    if file.is_none() && !place.starts_with(char::is_alphabetic) {
        return None;
    }
    Some(FirstError { file, message: message.to_owned() })
}

/// `ld: kernel/fork.o: in function ...: undefined reference to ...`, and modpost's errors.
fn linker_error(line: &str) -> Option<FirstError> {
    let is_error = line.contains(": undefined reference to ")
        || line.contains(": multiple definition of ")
        || line.starts_with("ERROR: modpost:")
        || (line.contains("ld: ") && line.contains("cannot find"));
    is_error.then(|| FirstError { file: None, message: line.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_other_lines() {
        assert_eq!(step("  CC      kernel/fork.o"), Some(("CC", "kernel/fork.o")));
        assert_eq!(step("  LD [M]  fs/x.ko"), Some(("LD [M]", "fs/x.ko")));
        assert_eq!(step("  HOSTCC  scripts/basic/fixdep"), Some(("HOSTCC", "scripts/basic/fixdep")));
        assert_eq!(step("  SYSHDR  arch/x86/include/generated/uapi/asm/unistd_32.h").unwrap().0, "SYSHDR");
        for line in
            ["make[1]: Entering directory", "    7 | int x", "  note: x", "", "  ", "kernel/x.c: warning"]
        {
            assert_eq!(step(line), None, "{line}");
        }
    }

    fn first(output: &str) -> String {
        let mut watch = ErrorWatch::default();
        output.lines().for_each(|line| watch.line(line));
        watch.found().unwrap().to_string()
    }

    #[test]
    fn the_first_error_is_found() {
        let output = "  CC      kernel/a.o
../kernel/audit.c: In function 'f':
../kernel/audit.c:12:5: error: 'x' undeclared (first use in this function)
../kernel/audit.c:13:5: error: second
make[3]: *** [../scripts/Makefile.build:229: kernel/audit.o] Error 1";
        assert_eq!(first(output), "kernel/audit.c:12: 'x' undeclared (first use in this function)");
        let undefined = "ld: kernel/fork.o: in function `f':\nfork.c:(.text+0x1): undefined reference to `g'";
        assert_eq!(first(undefined), "fork.c:(.text+0x1): undefined reference to `g'");
        let rule =
            "make[2]: *** No rule to make target 'kernel/none.o', needed by 'kernel/built-in.a'.  Stop.";
        assert_eq!(
            first(rule),
            "No rule to make target 'kernel/none.o', needed by 'kernel/built-in.a'.  Stop."
        );
        assert_eq!(
            first("init/Kconfig:12: syntax error\nmake: *** [x] Error 1"),
            "init/Kconfig:12: syntax error"
        );
        assert_eq!(first("cc1: error: bad flag"), "bad flag");
    }

    #[test]
    fn tools_follow_the_variables() {
        let with = |pairs: &[(&str, &str)]| {
            let variables: Vec<_> =
                pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            (compiler(&variables), objcopy(&variables))
        };
        assert_eq!(with(&[]), ("gcc".into(), "objcopy".into()));
        assert_eq!(with(&[("LLVM", "1")]), ("clang".into(), "llvm-objcopy".into()));
        assert_eq!(with(&[("LLVM", "-14")]), ("clang-14".into(), "llvm-objcopy-14".into()));
        assert_eq!(with(&[("CC", "gcc-12")]).0, "gcc-12");
        assert_eq!(with(&[("CROSS_COMPILE", "x-")]), ("x-gcc".into(), "x-objcopy".into()));
    }

    #[test]
    fn a_toolchain_is_seen_whole_and_a_home_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        for folder in ["home/bin", "home/.local/bin", "home/cross/bin", "opt/llvm/bin"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for (path, expected) in [
            ("opt/llvm/bin/", "opt/llvm"),
            ("opt/llvm/bin/clang", "opt/llvm"),
            ("opt/llvm/bin/x-", "opt/llvm"),
            ("home/cross/bin/gcc", "home/cross"),
            ("home/bin/sparse", "home/bin/sparse"),
            ("home/.local/bin/ccache", "home/.local/bin/ccache"),
            ("etc/shadow", "etc/shadow"),
        ] {
            assert_eq!(toolchain(&dir.path().join(path), &home), dir.path().join(expected), "{path}");
        }
    }

    #[test]
    fn the_command_line_has_every_variable() {
        let variables = [("W".to_owned(), "1".to_owned())];
        let make = Make {
            src: Path::new("/s"),
            o: "o-x",
            variables: &variables,
            ccache: Some(Path::new("/c")),
            background: false,
            sandbox: None,
        };
        assert_eq!(make.spec().argv().to_string(), "make -C /s O=o-x W=1 'CC=ccache gcc'");
        let make = Make { background: true, variables: &[], ccache: None, ..make };
        assert_eq!(make.spec().argv().to_string(), "nice -n 19 make -C /s O=o-x");
    }
}
