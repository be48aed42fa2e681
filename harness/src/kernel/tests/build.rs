// SPDX-License-Identifier: MIT OR Apache-2.0
//! Apply, configure, build, cache: against a fake kernel.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::*;
use super::{Seen, fake_kernel};
use crate::process::{ChildSpec, ProcessError, SandboxMode};

pub(super) struct Bench {
    pub dir: tempfile::TempDir,
    pub store: Store,
    pub spec: KernelSpec,
}

const EDIT_B: &str = "--- a/kernel/b.c\n+++ b/kernel/b.c\n@@ -1,5 +1,5 @@\n #include \"common.h\"\n int g(void)\n {\n-\treturn 2;\n+\treturn VALUE;\n }\n";

fn edit_b(value: &str) -> String {
    EDIT_B.replace("VALUE", value)
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        fake_kernel(&dir.path().join("linux"));
        for name in BASE {
            let text = format!("CONFIG_{}=y\n", name.to_uppercase());
            std::fs::create_dir_all(dir.path().join("configs")).unwrap();
            std::fs::write(dir.path().join(format!("configs/{name}.config")), text).unwrap();
        }
        let mut spec = KernelSpec::new(SourceSpec::Directory(dir.path().join("linux")));
        spec.fragments = Fragments::Folder(dir.path().join("configs"));
        spec.jobs = 1;
        let store = Store::open(&dir.path().join("cache")).unwrap();
        Bench { dir, store, spec }
    }

    pub fn series(&mut self, patches: &[&str]) {
        let folder = self.dir.path().join("series");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (i, text) in patches.iter().enumerate() {
            std::fs::write(folder.join(format!("{:04}-x.patch", i + 1)), text).unwrap();
        }
        self.spec.series = Some(Series::read(&folder).unwrap());
    }

    pub fn try_build(&self) -> (Result<KernelImage, KernelError>, Seen) {
        let mut seen = Seen::default();
        let result = build(&self.store, &self.spec, &mut |event| seen.0.push(event));
        (result, seen)
    }

    pub fn build(&self) -> (KernelImage, Seen) {
        let (result, seen) = self.try_build();
        (result.unwrap_or_else(|error| panic!("{error}")), seen)
    }

    /// The private tree for a series.
    pub fn patched(&self) -> PathBuf {
        apply(&self.store, &self.spec, &mut |_| ()).unwrap().src
    }
}

/// How often the configuration was made for an image.
fn configured(image: &KernelImage) -> usize {
    std::fs::read_to_string(&image.build_log).unwrap().matches("GEN     config").count()
}

#[test]
fn a_second_build_compiles_nothing_and_says_so() {
    let bench = Bench::new();
    let (first, seen) = bench.build();
    assert_eq!(seen.steps(), ["CC kernel/a.o", "CC kernel/b.o", "LD vmlinux"]);
    assert_eq!((first.cached, first.release.as_str(), first.version.as_str()), (false, "6.12.7", "6.12.7"));
    assert!(std::fs::read_to_string(&first.config).unwrap().contains("CONFIG_VIRTIO=y"));
    assert!(std::fs::read(&first.vmlinux).unwrap().starts_with(b"\x7fELF"));
    assert!(std::fs::read_to_string(&first.build_log).unwrap().contains("CC      kernel/a.o"));
    let (second, seen) = bench.build();
    assert!(second.cached && seen.steps().is_empty());
    assert!(matches!(seen.0.last(), Some(BuildEvent::Cached { .. })));
    assert_eq!((second.key, second.steps), (first.key, 3));
}

#[test]
fn an_edit_of_the_last_patch_compiles_one_file() {
    let mut bench = Bench::new();
    bench.series(&[&edit_b("3")]);
    let (first, _) = bench.build();
    bench.series(&[&edit_b("4")]);
    let (second, seen) = bench.build();
    assert_eq!(seen.steps(), ["CC kernel/b.o", "LD vmlinux"]);
    assert_eq!((configured(&first), configured(&second)), (1, 0));
    assert_ne!(first.key, second.key);
    assert_ne!(std::fs::read(&first.vmlinux).unwrap(), std::fs::read(&second.vmlinux).unwrap());
    // A file that no patch touches any more is the pristine one again.
    let kconfig = "--- a/Kconfig\n+++ b/Kconfig\n@@ -1,2 +1,3 @@\n+# x\n config DENIED\n \tbool \"denied\"\n";
    bench.series(&[&edit_b("4"), kconfig]);
    assert_eq!(configured(&bench.build().0), 1);
    bench.series(&["--- a/kernel/a.c\n+++ b/kernel/a.c\n@@ -2,2 +2,2 @@\n-int f(void)\n+int f(void) \n {\n"]);
    let (_, seen) = bench.build();
    assert_eq!(seen.steps(), ["CC kernel/a.o", "CC kernel/b.o", "LD vmlinux"]);
    let pristine = std::fs::read(bench.dir.path().join("linux/kernel/b.c")).unwrap();
    assert_eq!(std::fs::read(bench.patched().join("kernel/b.c")).unwrap(), pristine);
}

#[test]
fn a_reverted_edit_is_found_in_the_store_and_other_words_change_no_key() {
    let mut bench = Bench::new();
    bench.series(&[&edit_b("3")]);
    let (first, _) = bench.build();
    bench.series(&[&edit_b("4")]);
    bench.build();
    bench.series(&[&format!("Subject: [PATCH] said otherwise\n\n{}", edit_b("3"))]);
    let (again, seen) = bench.build();
    assert!(again.cached && seen.steps().is_empty());
    assert_eq!(again.key, first.key);
    assert_eq!(again.patches[0].subject, "said otherwise");
}

#[test]
fn the_key_is_of_everything_that_decides_over_the_bytes() {
    let mut bench = Bench::new();
    let mut keys = vec![bench.build().0.key];
    std::fs::write(bench.dir.path().join("configs/extra.config"), "CONFIG_EXTRA=y\n").unwrap();
    bench.spec.flavours = vec!["extra".into()];
    keys.push(bench.build().0.key);
    bench.spec.flavours.clear();
    bench.spec.make = vec![("CFLAGS".into(), "-O1".into())];
    keys.push(bench.build().0.key);
    bench.spec.make.clear();
    bench.series(&[&edit_b("3")]);
    keys.push(bench.build().0.key);
    std::fs::write(bench.dir.path().join("linux/include/common.h"), "#define COMMON 5\n").unwrap();
    keys.push(bench.build().0.key);
    let mut unique = keys.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), keys.len(), "{keys:?}");
}

#[test]
fn a_patch_that_does_not_apply_is_typed_and_builds_nothing() {
    let mut bench = Bench::new();
    bench.series(&[&edit_b("3"), &edit_b("4")]);
    let (result, seen) = bench.try_build();
    let KernelError::Rejected(rejected) = result.unwrap_err() else { panic!("no reject") };
    assert_eq!((rejected.patch.as_str(), rejected.hunk, rejected.hunks), ("0002-x.patch", 1, 1));
    assert_eq!(rejected.file, Path::new("kernel/b.c"));
    assert!(rejected.found.contains(&"\treturn 3;".to_owned()), "{rejected}");
    assert!(seen.steps().is_empty());
    assert!(!bench.store.root().join("trees").exists());
}

#[test]
fn a_failed_build_names_the_first_error_and_the_next_one_succeeds() {
    let mut bench = Bench::new();
    bench.series(&[&edit_b("undeclared")]);
    let error = bench.try_build().0.unwrap_err();
    let text = error.to_string();
    let KernelError::Build { first, log, .. } = error else { panic!("{error}") };
    let first = first.unwrap();
    assert_eq!(first.file, Some(("kernel/b.c".into(), 4)));
    assert!(text.starts_with("the build failed at kernel/b.c:4: 'undeclared' undeclared"), "{text}");
    assert!(text.contains(&format!("(hint: the whole output is in {})", log.display())), "{text}");
    bench.series(&[&edit_b("3")]);
    assert!(!bench.build().0.cached);
}

#[test]
fn a_symbol_that_kconfig_drops_is_an_error_with_its_dependencies() {
    let mut bench = Bench::new();
    let configs = bench.dir.path().join("configs");
    std::fs::write(configs.join("extra.config"), "# why\nCONFIG_DENIED=y\n").unwrap();
    bench.spec.flavours = vec!["extra".into()];
    let error = bench.try_build().0.unwrap_err();
    let KernelError::Config(ConfigError::Missing(missing)) = &error else { panic!("{error}") };
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].fragment, configs.join("extra.config"));
    assert!(missing[0].to_string().ends_with("extra.config:2); unmet: ABSENT [=n]"), "{error}");
}

#[test]
fn a_series_own_symbol_is_asked_for() {
    let mut bench = Bench::new();
    bench.series(&[&edit_b("3")]);
    bench.spec.series.as_mut().unwrap().config = Some("OF_THE_SERIES".into());
    let (image, _) = bench.build();
    assert!(std::fs::read_to_string(&image.config).unwrap().contains("CONFIG_OF_THE_SERIES=y"));
}

#[test]
fn a_damaged_image_is_seen_and_made_again() {
    let bench = Bench::new();
    let (image, _) = bench.build();
    let good = std::fs::read(&image.vmlinux).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for bad in [&flipped[..], &good[..good.len() / 2], b""] {
        std::fs::write(&image.vmlinux, bad).unwrap();
        let (again, seen) = bench.build();
        assert_eq!((again.cached, seen.damaged()), (false, 1));
        assert_eq!(std::fs::read(&again.vmlinux).unwrap(), good);
    }
    std::fs::remove_file(&image.config).unwrap();
    assert_eq!(bench.build().1.damaged(), 1);
}

#[test]
fn a_private_tree_that_somebody_edited_is_made_anew() {
    let mut bench = Bench::new();
    bench.series(&[&edit_b("3")]);
    bench.build();
    let file = bench.patched().join("kernel/a.c");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "int f(void) { return 99; }\n").unwrap();
    bench.series(&[&edit_b("4")]);
    let (_, seen) = bench.build();
    assert_eq!(seen.damaged(), 1);
    assert!(std::fs::read_to_string(&file).unwrap().contains("COMMON"));
    assert_eq!(seen.steps().len(), 3);
}

#[test]
fn a_pristine_tree_that_was_damaged_is_restored() {
    let bench = Bench::new();
    let source = bench.store.source(&bench.spec.source, false, &mut |_| ()).unwrap();
    std::fs::write(source.tree.join("kernel/a.c"), "cut").unwrap();
    assert!(!bench.store.intact(&source).unwrap());
    let (image, seen) = bench.build();
    assert_eq!((image.cached, seen.damaged()), (false, 1));
    assert!(bench.store.intact(&source).unwrap());
    // The user's own tree is only read.
    assert!(std::fs::read_to_string(bench.dir.path().join("linux/kernel/a.c")).unwrap().contains("COMMON"));
}

#[test]
fn what_a_killed_make_has_half_written_is_not_taken_for_finished() {
    for sandbox in [SandboxMode::Off, SandboxMode::On] {
        a_killed_make(sandbox);
    }
}

fn a_killed_make(sandbox: SandboxMode) {
    let mut bench = Bench::new();
    bench.spec.sandbox = sandbox;
    bench.series(&[&edit_b("3")]);
    bench.build();
    // The tree's own files are checked: the file that gets make killed comes with the series.
    let killed = "--- /dev/null\n+++ b/KILLED\n@@ -0,0 +1 @@\n+x\n";
    bench.series(&[&edit_b("4"), killed]);
    let error = bench.try_build().0.unwrap_err();
    let KernelError::Build { source: ProcessError::Failed { status, .. }, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    let object = bench.patched().join("o-base-audit-namespaces-virtio/b.o");
    assert_eq!(std::fs::read_to_string(&object).unwrap(), "half\n");
    // Newer than every source: make alone would link it.
    let later = SystemTime::now() + Duration::from_secs(60);
    std::fs::File::open(&object).unwrap().set_modified(later).unwrap();
    bench.series(&[&edit_b("5")]);
    let (image, seen) = bench.build();
    assert!(!image.cached && seen.damaged() == 1);
    // And what was whole stays.
    assert_eq!(seen.steps(), ["CC kernel/b.o", "LD vmlinux"]);
}

#[test]
fn two_that_build_the_same_at_once_compile_it_once() {
    let bench = Bench::new();
    let run = || {
        let mut seen = Seen::default();
        let image = build(&bench.store, &bench.spec, &mut |event| seen.0.push(event)).unwrap();
        (image.key, image.cached, seen.steps().len())
    };
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(results.iter().map(|(_, _, steps)| steps).sum::<usize>(), 3, "{results:?}");
    assert_eq!(results.iter().filter(|(_, cached, _)| !cached).count(), 1);
    assert!(results.iter().all(|(key, ..)| *key == results[0].0));
}

#[test]
fn tarball_directory_and_git_tree_are_sources() {
    let bench = Bench::new();
    let path = |name: &str| bench.dir.path().join(name);
    let run = |spec: ChildSpec| spec.dir(bench.dir.path()).run().unwrap();
    run(ChildSpec::new("tar").args(["--use-compress-program", "xz -T0", "-cf", "linux.tar.xz", "linux"]));
    for command in [
        &["init", "-q", "linux"][..],
        &["-C", "linux", "add", "-A"],
        &["-C", "linux", "-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "-qm", "x"],
        &["-C", "linux", "tag", "v6.12"],
    ] {
        run(ChildSpec::new("git").args(command).env_remove("GIT_DIR"));
    }
    let text = |name: &str| path(name).display().to_string();
    let mut keys = Vec::new();
    for (text, kind) in
        [(text("linux.tar.xz"), "tar-"), (text("linux"), "dir-"), (text("linux") + "@v6.12", "git-")]
    {
        let spec = SourceSpec::parse(&text).unwrap();
        let source = bench.store.source(&spec, false, &mut |_| ()).unwrap();
        assert_eq!(source.version, "6.12.7");
        assert!(source.key.as_str().starts_with(kind), "{}", source.key);
        assert!(source.tree.join("kernel/a.c").is_file() && !source.tree.join(".git").exists());
        let mut seen = Seen::default();
        let again = bench.store.source(&spec, false, &mut |event| seen.0.push(event)).unwrap();
        assert_eq!((again.key, seen.0), (source.key.clone(), vec![]));
        keys.push(source.key);
    }
    std::fs::write(path("linux/kernel/a.c"), "int f;\n").unwrap();
    let changed = bench.store.source(&bench.spec.source, false, &mut |_| ()).unwrap();
    assert_ne!(changed.key, keys[1]);
    assert!(matches!(SourceSpec::parse("/nowhere@v1"), Err(SourceError::NoSuchPath(_))));
}

#[test]
fn a_folder_that_was_built_in_is_refused() {
    let bench = Bench::new();
    std::fs::write(bench.dir.path().join("linux/.config"), "").unwrap();
    let error = bench.try_build().0.unwrap_err();
    assert!(error.to_string().contains("make mrproper"), "{error}");
}
