// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series whose build means harm: what it reaches without a sandbox, it does not in one.

use std::net::TcpListener;

use super::super::*;
use super::build::Bench;
use crate::process::SandboxMode;

/// A patch that appends lines to the recipe of vmlinux, tab and all.
fn recipe(lines: &[String]) -> String {
    let added: String = lines.iter().map(|line| format!("+\t@{}\n", line.replace('$', "$$"))).collect();
    format!(
        "--- a/Makefile\n+++ b/Makefile\n@@ -24,3 +24,{} @@\n \t@nm $@ > $(O)/System.map\n \t@mkdir -p $(O)/include/config\n \t@echo 6.12.7 > $(O)/include/config/kernel.release\n{added}",
        3 + lines.len(),
    )
}

#[test]
fn what_a_build_reaches_without_a_sandbox_it_does_not_reach_in_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".secret"), "of the user").unwrap();
    let mut said = Vec::new();
    for mode in [SandboxMode::Off, SandboxMode::On] {
        let mut bench = Bench::new();
        let cache = bench.store.root().to_owned();
        let outside = bench.dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let source = bench.store.source(&bench.spec.source, false, &mut |_| ()).unwrap();
        let tell =
            |name: &str, command: String| format!("{command} 2>/dev/null >&2 && echo REACHED {name} || true");
        bench.series(&[&recipe(&[
            tell(
                "network",
                format!("perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(\"127.0.0.1:{port}\")'"),
            ),
            tell("secret", format!("cat {}/.secret", home.path().display())),
            // Every process that cargo starts has it: it stands for a token.
            tell("environment", "test -n \"$CARGO_MANIFEST_DIR\"".to_owned()),
            tell("outside", format!("touch {}/x", outside.display())),
            // Files of the private tree are links to the pristine one.
            tell("pristine", "sh -c 'chmod u+w kernel/a.c; echo >> kernel/a.c'".to_owned()),
            tell("images", format!("mkdir -p {}/images/x", cache.display())),
            tell("ccache.conf", format!("sh -c 'echo >> {}/ccache/ccache.conf'", cache.display())),
            // What it needs is there all the same.
            tell(
                "own",
                "sh -c 'echo x > $(ls -d o-*)/own && echo x > /tmp/scratch && rm /tmp/scratch'".to_owned(),
            ),
        ])]);
        bench.spec.sandbox = mode;
        let (result, seen) = bench.try_build();
        let image = result.unwrap_or_else(|error| panic!("{error}"));
        let confined = seen.0.iter().any(|event| matches!(event, BuildEvent::Confined(_)));
        assert_eq!(confined, mode == SandboxMode::On);
        let log = std::fs::read_to_string(&image.build_log).unwrap();
        let reached: Vec<String> =
            log.lines().filter_map(|line| line.strip_prefix("REACHED ")).map(str::to_owned).collect();
        // In a sandbox that is a folder of its own /tmp.
        let reached: Vec<String> = reached.into_iter().filter(|name| name != "images").collect();
        for file in [outside.join("x"), cache.join("images/x")] {
            assert_eq!(file.exists(), mode == SandboxMode::Off, "{}", file.display());
        }
        assert_eq!(bench.store.intact(&source).unwrap(), mode == SandboxMode::On);
        said.push(reached);
    }
    let everything = ["network", "secret", "environment", "outside", "pristine", "ccache.conf", "own"];
    assert_eq!(said[0], everything, "without a sandbox");
    assert_eq!(said[1], ["own"], "in a sandbox");
}

/// Nothing is compiled again because of a sandbox: one folder, one image, one key.
#[test]
fn with_and_without_a_sandbox_the_build_is_the_same() {
    let mut bench = Bench::new();
    bench.spec.sandbox = SandboxMode::Off;
    let (first, _) = bench.build();
    let bytes = std::fs::read(&first.vmlinux).unwrap();
    bench.spec.sandbox = SandboxMode::On;
    let (second, seen) = bench.build();
    assert!(second.cached && seen.steps().is_empty());
    // Only the image is gone: the objects in the build folder are up to date.
    std::fs::remove_dir_all(first.vmlinux.parent().unwrap()).unwrap();
    let (third, seen) = bench.build();
    assert_eq!((third.cached, third.key, seen.steps()), (false, first.key, vec![]));
    assert_eq!(std::fs::read(&third.vmlinux).unwrap(), bytes);
    // And from nothing.
    std::fs::remove_dir_all(bench.store.root()).unwrap();
    let (fourth, seen) = bench.build();
    assert_eq!((seen.steps().len(), std::fs::read(&fourth.vmlinux).unwrap()), (3, bytes));
}

#[test]
fn what_a_build_leaves_as_a_link_is_not_read() {
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "CONFIG_SECRET=y\n").unwrap();
    for (file, command) in [
        (".config", format!("ln -sf {} $(O)/.config", secret.display())),
        ("System.map", format!("ln -sf {} $(O)/System.map", secret.display())),
        ("System.map", "rm $(O)/System.map && mkdir $(O)/System.map".to_owned()),
        (
            "include/config/kernel.release",
            format!(
                "cp {} $(O)/kernel.release && rm -r $(O)/include/config && ln -s .. $(O)/include/config",
                secret.display()
            ),
        ),
    ] {
        let mut bench = Bench::new();
        // Without a sandbox as well: there it matters most.
        bench.spec.sandbox = SandboxMode::Off;
        let patch = recipe(&[command]).replace("$$(O)", "$(O)");
        bench.series(&[&patch]);
        let error = bench.try_build().0.unwrap_err();
        let KernelError::NotOfTheBuild { path, .. } = &error else { panic!("{file}: {error}") };
        assert!(path.ends_with(file), "{error}");
        assert!(!bench.store.root().join("images").exists());
    }
}

#[test]
fn what_we_write_into_a_build_folder_goes_through_no_link_there() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("profile");
    for name in ["nstrail-building", "nstrail-configured.json", "nstrail-fragments", "vmlinux.stripped"] {
        std::fs::write(&file, "of the user").unwrap();
        let mut bench = Bench::new();
        bench.spec.sandbox = SandboxMode::Off;
        let link = format!("ln -sfn {} $(O)/{name}", file.display());
        bench.series(&[&recipe(std::slice::from_ref(&link)).replace("$$(O)", "$(O)")]);
        bench.try_build().0.unwrap_or_else(|error| panic!("{name}: {error}"));
        bench.series(&[&recipe(&[link, "true".into()]).replace("$$(O)", "$(O)")]);
        bench.try_build().0.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "of the user", "{name}");
    }
}
