// SPDX-License-Identifier: MIT OR Apache-2.0
//! Warnings of the compiler (`W=1`) and of sparse, where it is installed, about some files of a kernel.
//!
//! Only the objects of those files are compiled, in the build folder that the kernel was built in. What is
//! *new* in a patch is what its kernel has and the kernel before it had not, whatever the line numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::build::{KernelError, KernelSpec, Plan, own_file, sandbox};
use super::digest::KeyHasher;
use super::event::{BuildEvent, Events};
use super::make::{ErrorWatch, Make, ccache, confine};
use super::store::{Store, read_json, write_json, write_whole};
use super::tree::Tree;
use crate::process::{ChildSpec, View};

/// A warning, without its line: that changes with every patch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Warning {
    /// Relative to the tree.
    pub file: PathBuf,
    /// With the compiler's `[-Wname]`.
    pub message: String,
}

/// A warning as it is told, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    warning: Warning,
    /// `kernel/audit.c:12:5`, of the first one.
    place: String,
    count: u32,
}

/// What a kernel's objects warn of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warnings {
    told: Vec<Told>,
    /// Files whose objects were compiled.
    pub compiled: Vec<PathBuf>,
    /// Files that this configuration does not build.
    pub not_built: Vec<PathBuf>,
    /// Version of sparse, if it had its say.
    pub sparse: Option<String>,
}

impl Warnings {
    /// Those in `files` that `before` has not, or has less often: as `PLACE: MESSAGE`.
    #[must_use]
    pub fn new_since(&self, before: &Warnings, files: &[PathBuf]) -> Vec<String> {
        let old: BTreeMap<&Warning, u32> =
            before.told.iter().map(|told| (&told.warning, told.count)).collect();
        self.told
            .iter()
            .filter(|told| files.contains(&told.warning.file))
            .filter(|told| told.count > old.get(&told.warning).copied().unwrap_or(0))
            .map(|told| format!("{}: {}", told.place, told.warning.message))
            .collect()
    }
}

/// Version of what is stored.
const SCHEMA: u32 = 1;

/// Compiles the objects of `files` with `W=1` and takes down what is said; or has it from the cache.
///
/// # Errors
/// As [`super::build`].
pub fn warnings(
    store: &Store,
    spec: &KernelSpec,
    files: &[PathBuf],
    events: Events<'_>,
) -> Result<Warnings, KernelError> {
    let plan = Plan::new(store, spec, events)?;
    let sparse = sparse(spec);
    let mut hasher = KeyHasher::new("warnings");
    hasher.part("schema", SCHEMA.to_string());
    hasher.part("image", plan.key.0.as_str());
    hasher.part("sparse", sparse.as_deref().unwrap_or_default());
    files.iter().for_each(|file| hasher.part("file", file.as_os_str().as_encoded_bytes()));
    let key = hasher.finish();
    let kept = store.path("warnings").join(format!("{}.json", key.short()));
    if let Some(warnings) = read_json(&kept) {
        return Ok(warnings);
    }
    let mut tree = Tree::open(store, &plan.source, plan.label, events)?;
    tree.sync(store, &plan.source, &plan.overlay, events)?;
    let o = plan.build_folder();
    let src = tree.src();
    let folder = src.join(&o);
    let log = store.path("logs").join(format!("warnings-{}.log", key.short()));
    write_whole(&log, b"")?;
    let ccache = ccache(store)?;
    let make = Make {
        src: &src,
        o: &o,
        variables: &spec.make,
        ccache: ccache.as_deref(),
        background: spec.background,
        sandbox: sandbox(spec.sandbox, events)?,
    };
    let sources =
        |file: &&PathBuf| file.extension().is_some_and(|end| end == "c") && src.join(file).is_file();
    tree.begin(&o, events)?;
    plan.configure(&make, &log)?;
    if !folder.join("vmlinux").is_file() {
        // Which objects there are is only known of a kernel that was built here.
        run(&make, spec, &["vmlinux".to_owned()], &log, &mut |_| {})?;
    }
    let object = |file: &Path| file.with_extension("o");
    let (built, not_built): (Vec<&PathBuf>, Vec<&PathBuf>) =
        files.iter().filter(sources).partition(|file| own_file(&folder, object(file), &log).is_ok());
    let mut warnings = Warnings {
        told: Vec::new(),
        compiled: built.iter().map(|file| (*file).clone()).collect(),
        not_built: not_built.into_iter().cloned().collect(),
        sparse,
    };
    if !built.is_empty() {
        events(BuildEvent::Warnings { objects: built.len() });
        let mut arguments = vec!["W=1".to_owned()];
        if warnings.sparse.is_some() {
            arguments.push("C=2".to_owned());
        }
        // Objects that are up to date under the same flags would keep what they have to say to themselves.
        for file in &built {
            let path = folder.join(object(file));
            std::fs::remove_file(&path).map_err(super::store::io_error("remove", &path))?;
        }
        arguments.extend(built.iter().map(|file| object(file).display().to_string()));
        let mut told = BTreeMap::new();
        run(&make, spec, &arguments, &log, &mut |line| take(line, &mut told))?;
        warnings.told =
            told.into_iter().map(|(warning, (place, count))| Told { warning, place, count }).collect();
    }
    tree.end(&o, None)?;
    write_json(&kept, &warnings)?;
    Ok(warnings)
}

fn run(
    make: &Make<'_>,
    spec: &KernelSpec,
    arguments: &[String],
    log: &Path,
    line: &mut dyn FnMut(&str),
) -> Result<(), KernelError> {
    let jobs = match spec.jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let mut errors = ErrorWatch::default();
    let child = make.spec().arg(format!("-j{jobs}")).args(arguments).log(log).limit(spec.limit);
    let ran = child.run_lines(|text| {
        errors.line(text);
        line(text);
    });
    match ran {
        Ok(_) => Ok(()),
        Err(source) => {
            Err(KernelError::Build { first: errors.found().map(Box::new), log: log.to_owned(), source })
        }
    }
}

/// `../kernel/audit.c:12:5: warning: message [-Wname]`; sparse has errors as well that do not end make.
fn take(line: &str, told: &mut BTreeMap<Warning, (String, u32)>) {
    let Some((place, message)) =
        [": warning: ", ": error: "].into_iter().find_map(|mark| line.split_once(mark))
    else {
        return;
    };
    let place = place.trim_start_matches("../");
    let Some((file, _)) = place.split_once(':') else { return };
    let warning = Warning { file: file.into(), message: message.to_owned() };
    told.entry(warning).or_insert_with(|| (place.to_owned(), 0)).1 += 1;
}

/// Version of sparse, if it is installed, and where the build can see it.
fn sparse(spec: &KernelSpec) -> Option<String> {
    let sparse = ChildSpec::new("sparse").arg("--version");
    let sandbox = spec.sandbox.choose().ok()?;
    let text = confine(sandbox, &spec.make, View::default(), sparse).read().ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Warnings {
        let mut told = BTreeMap::new();
        lines.iter().for_each(|line| take(line, &mut told));
        let told = told.into_iter().map(|(warning, (place, count))| Told { warning, place, count }).collect();
        Warnings { told, ..Warnings::default() }
    }

    #[test]
    fn only_what_is_new_in_the_files_is_told_whatever_the_lines() {
        let before = read(&[
            "  CC      kernel/audit.o",
            "../kernel/audit.c:12:5: warning: unused variable 'x' [-Wunused-variable]",
            "../kernel/audit.c:90:5: warning: no previous prototype for 'f' [-Wmissing-prototypes]",
        ]);
        let after = read(&[
            "../kernel/audit.c:14:5: warning: unused variable 'x' [-Wunused-variable]",
            "../kernel/audit.c:20:5: warning: unused variable 'x' [-Wunused-variable]",
            "../kernel/audit.c:95:5: warning: no previous prototype for 'f' [-Wmissing-prototypes]",
            "../include/linux/audit.h:3:1: warning: odd [-Wodd]",
            "../include/linux/sched.h:3:1: warning: odd [-Wodd]",
        ]);
        let files = ["kernel/audit.c".into(), "include/linux/audit.h".into()];
        assert_eq!(
            after.new_since(&before, &files),
            [
                "include/linux/audit.h:3:1: odd [-Wodd]",
                "kernel/audit.c:14:5: unused variable 'x' [-Wunused-variable]",
            ]
        );
        assert!(before.new_since(&before, &files).is_empty());
    }
}
