// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each thing that a sandbox takes away is tried with and without: what is shown is the difference.

use super::super::{ProcessError, Sink};
use super::*;
use std::net::TcpListener;
use std::time::Instant;

const EVERY: [Sandbox; 2] = [Sandbox::Bubblewrap, Sandbox::Unshare];

/// What a script prints, without a sandbox or in one. None that works is a failure: `.ci/setup` installs one.
fn say(script: &str, how: Option<(Sandbox, &View)>) -> String {
    let spec = ChildSpec::new("sh").args(["-c", script]);
    let spec = match how {
        Some((sandbox, view)) => spec.confine(sandbox, view),
        None => spec,
    };
    let finished = spec.stdout(Sink::Capture).run_unchecked(|_| ()).unwrap();
    String::from_utf8(finished.stdout).unwrap().trim().to_owned()
}

/// In each sandbox, and what it says without one.
fn compare(script: &str, view: &View, outside: &str, inside: &str) {
    assert_eq!(say(script, None), outside, "without a sandbox: {script}");
    for sandbox in EVERY {
        assert_eq!(say(script, Some((sandbox, view))), inside, "{sandbox}: {script}");
    }
}

#[test]
fn there_is_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect =
        format!("perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(\"127.0.0.1:{port}\") ? 1 : 0'");
    compare(&connect, &View::default(), "1", "0");
    // Nor sockets of the host that have no name in the file system.
    let name = format!("nstrail-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name);
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&address.unwrap()).unwrap();
    let connect = format!(
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); print connect(S, pack(\"Sa*\", AF_UNIX, \"\\0{name}\")) ? 1 : 0'"
    );
    compare(&connect, &View::default(), "1", "0");
}

#[test]
fn files_of_the_user_are_not_there_and_named_ones_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, hidden) = (dir.path().join("seen"), dir.path().join("hidden"));
    for folder in [&seen, &hidden] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("f"), "secret").unwrap();
    }
    let view = View { read: vec![seen.clone()], ..View::default() };
    compare(&format!("cat {}/f", hidden.display()), &view, "secret", "");
    compare(&format!("cat {}/f", seen.display()), &view, "secret", "secret");
    let write = format!("echo x 2>/dev/null > {}/new && echo written", seen.display());
    compare(&write, &view, "written", "");
    let shadow = if say("id -u", None) == "0" { "there" } else { "" };
    compare("test -r /etc/shadow && echo there", &View::default(), shadow, "");
    // What can be written and is no folder of ours is gone at the end.
    let scratch = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let write = "echo x > $HOME/x && cat $HOME/x && touch /tmp/nstrail-sandbox-test";
    for sandbox in EVERY {
        assert_eq!(say(write, Some((sandbox, &view))), "x", "{sandbox}");
    }
    assert!(!Path::new("/tmp/nstrail-sandbox-test").exists() && scratch.path().exists());
}

#[test]
fn what_may_be_written_is_written_as_the_user_also_in_something_to_read() {
    for root in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tree/build");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("settings"), "ours").unwrap();
        let view = View {
            read: vec![dir.path().join("tree"), folder.join("settings")],
            write: vec![folder.clone()],
            root,
            ..View::default()
        };
        let script = "for f in build/new new build/settings; do echo x > $f && echo $f; done; mv build/settings build/moved && echo moved; id -u";
        for sandbox in EVERY {
            let spec = ChildSpec::new("sh")
                .args(["-c", script])
                .dir(dir.path().join("tree"))
                .confine(sandbox, &view);
            let finished = spec.stdout(Sink::Capture).run_unchecked(|_| ()).unwrap();
            let said = String::from_utf8(finished.stdout).unwrap();
            let said: Vec<&str> = said.lines().collect();
            let user = say("id -u", None);
            let expected = if root || sandbox == Sandbox::Unshare { "0" } else { &user };
            assert_eq!(said, ["build/new", expected], "{sandbox}");
            assert_eq!(std::fs::read_to_string(folder.join("settings")).unwrap(), "ours");
            let made = std::os::unix::fs::MetadataExt::uid(&folder.join("new").metadata().unwrap());
            assert_eq!(made.to_string(), user, "{sandbox}");
        }
    }
}

#[test]
fn the_environment_is_cleared_but_for_what_the_spec_sets() {
    // Every test process has these from cargo.
    compare("echo ${CARGO_MANIFEST_DIR:+secret}", &View::default(), "secret", "");
    for sandbox in EVERY {
        let spec = ChildSpec::new("env").env("LC_ALL", "C").env("PATH", "/usr/bin").env_remove("TERM");
        let text = spec.confine(sandbox, &View::default()).read().unwrap();
        let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
        // What the shell of the script and bubblewrap itself set.
        names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LC_ALL", "PATH"], "{sandbox}: {text}");
        assert!(text.contains("HOME=/tmp/home\n") && text.contains("PATH=/usr/bin\n"), "{text}");
    }
}

#[test]
fn there_are_no_rights_to_get_out_with() {
    let view = View { root: true, ..View::default() };
    for sandbox in EVERY {
        for view in [&View::default(), &view] {
            let capabilities = say("grep CapEff /proc/self/status", Some((sandbox, view)));
            assert_eq!(capabilities.split_whitespace().last(), Some("0000000000000000"), "{sandbox}");
            assert_eq!(
                say("mount -o remount,bind,rw /usr 2>/dev/null && echo mounted", Some((sandbox, view))),
                ""
            );
            assert_eq!(say("umount /usr 2>/dev/null && echo gone", Some((sandbox, view))), "", "{sandbox}");
            // Nor the terminal of the one who started us.
            assert_eq!(
                say("(exec < /dev/tty) 2>/dev/null && echo tty", Some((sandbox, view))),
                "",
                "{sandbox}"
            );
        }
    }
}

/// Processes whose command line has a mark.
fn marked(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let has = |path: PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
    };
    entries.filter(|entry| has(entry.path())).count()
}

fn gone(mark: &str) -> bool {
    let start = Instant::now();
    while marked(mark) > 0 && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    marked(mark) == 0
}

#[test]
fn nothing_survives_not_even_in_a_session_of_its_own() {
    for (number, sandbox) in EVERY.into_iter().enumerate() {
        let sleep = |part: usize| format!("sleep 10{number}{part}.{}", std::process::id());
        // When it exits, when it is dropped, at its limit.
        let script = |part: usize| {
            format!("setsid {} & echo up; {}", sleep(part), if part == 0 { "sleep 0.3" } else { "wait" })
        };
        let spec =
            |part: usize| ChildSpec::new("sh").args(["-c", &script(part)]).confine(sandbox, &View::default());
        let mut seen = 0;
        spec(0).run_lines(|_| seen = 1).unwrap();
        assert!(seen == 1 && gone(&sleep(0)), "{sandbox}");
        let child = spec(1).spawn().unwrap();
        let start = Instant::now();
        while marked(&sleep(1)) < 2 && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(child);
        assert!(gone(&sleep(1)), "{sandbox}");
        // At any moment of its start.
        for delay in [0, 1, 2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 60] {
            let child = spec(3).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            drop(child);
            assert!(gone(&sleep(3)), "{sandbox}: after {delay} ms");
        }
        let error = spec(2).limit(Duration::from_millis(500)).run().unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut { .. }) && gone(&sleep(2)), "{sandbox}: {error}");
    }
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    for sandbox in EVERY {
        let fails = |script: &str| {
            ChildSpec::new("sh").args(["-c", script]).confine(sandbox, &View::default()).run().unwrap_err()
        };
        let error = fails("echo last words; exit 2");
        assert!(error.has_exited() && error.status().unwrap().code() == Some(2), "{sandbox}: {error}");
        // The command line is the child's own.
        assert!(error.to_string().starts_with("`sh -c 'echo last words; exit 2'` failed"), "{error}");
    }
    // With unshare it is the first process of its pid namespace, which cannot kill itself.
    let killed = ChildSpec::new("sh").args(["-c", "kill -9 $$"]);
    let error = killed.confine(Sandbox::Bubblewrap, &View::default()).run().unwrap_err();
    let signal = std::os::unix::process::ExitStatusExt::signal(&error.status().unwrap());
    assert_eq!((error.has_exited(), signal), (false, Some(libc::SIGKILL)), "{error}");
}

#[test]
fn what_does_not_work_is_told_with_the_reason() {
    assert_eq!(Sandbox::first(&EVERY), Ok(Sandbox::Bubblewrap));
    assert!(SandboxMode::On.choose().unwrap().is_some() && SandboxMode::Off.choose().unwrap().is_none());
    let NoSandbox(reason) = Sandbox::first(&[]).unwrap_err();
    assert_eq!(reason, "");
    let text = NoSandbox("bubblewrap: No such file or directory".into()).to_string();
    assert!(text.contains("(hint: apt-get install bubblewrap"), "{text}");
}

#[test]
fn a_sandbox_in_the_background_stands_behind_all_other_sessions() {
    // Built without CONFIG_SCHED_AUTOGROUP the kernel has no such file, and nice alone decides.
    let autogroups = Path::new("/proc/self/autogroup").exists();
    for (background, expected) in [(false, "nice 0"), (true, "nice 19")] {
        let view = View { background, ..View::default() };
        for sandbox in EVERY {
            let said = say("cat /proc/self/autogroup 2>/dev/null; echo ran", Some((sandbox, &view)));
            assert!(said.ends_with("ran"), "{sandbox}: {said}");
            // Its session is named only where autogroups are switched on.
            let named = said.contains("/autogroup-");
            assert!(!autogroups || !named || said.contains(expected), "{sandbox}: {said}");
        }
    }
}
