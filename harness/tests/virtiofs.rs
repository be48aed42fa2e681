// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon of a share: what it can reach, and what it does when the guest fills its folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nstrail::vm::virtiofs::{ARTIFACTS, Daemon, ENTRIES, LIMIT, SUBCOMMAND};

struct Share {
    folder: tempfile::TempDir,
    daemon: Option<Daemon>,
}

impl Share {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("share/rootfs")).unwrap();
        let daemon = Daemon::start(&folder.path().join("share"), folder.path()).unwrap();
        Self { folder, daemon: Some(daemon) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder in /proc of the daemon itself, not of what confines it.
    fn proc(&self) -> PathBuf {
        let share = self.path("share").display().to_string();
        let is_ours = |folder: &Path| {
            let line = fs::read(folder.join("cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words.first().is_some_and(|program| program.ends_with(b"/nstrail"))
                && words.get(1) == Some(&SUBCOMMAND.as_bytes())
                && words.get(3) == Some(&share.as_bytes())
        };
        until(|| {
            fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|path| is_ours(path))
        })
    }

    fn limit(&self) -> String {
        let limits = fs::read_to_string(self.proc().join("limits")).unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max file size")).unwrap_or_default();
        line.split_whitespace().next().unwrap_or_default().to_owned()
    }
}

/// What `look` finds, within some seconds.
fn until<T>(look: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_daemon_has_the_share_alone_and_writes_only_artifacts() {
    let share = Share::new();
    let proc = share.proc();
    let status = || fs::read_to_string(proc.join("status")).unwrap();
    let status = until(|| Some(status()).filter(|status| status.contains("Seccomp:\t2")));
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{status}");
    }
    for namespace in ["net", "pid", "mnt", "user", "ipc"] {
        let of = |process: &Path| fs::read_link(process.join("ns").join(namespace)).unwrap();
        assert_ne!(of(&proc), of(Path::new("/proc/self")), "{namespace}");
    }
    let root = proc.join("root");
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap());
    assert!(inside(&share.path("share/rootfs")).is_dir());
    assert!(!inside(Path::new("/etc/passwd")).exists());
    assert_eq!(fs::read_dir(inside(share.folder.path())).unwrap().count(), 1, "more than the share is there");
    for (name, expected) in [("share/x", false), ("share/rootfs/x", false), ("share/artifacts/x", true)] {
        assert_eq!(fs::write(inside(&share.path(name)), "x").is_ok(), expected, "{name}");
        assert_eq!(share.path(name).exists(), expected, "{name}");
    }
}

#[test]
fn a_full_folder_takes_no_more_and_one_with_too_many_files_ends_the_daemon() {
    let share = Share::new();
    let limit = LIMIT.to_string();
    until(|| (share.limit() == limit).then_some(()));
    let file = share.path("share").join(ARTIFACTS).join("f");
    fs::write(&file, vec![1; usize::try_from(LIMIT).unwrap() + 4096]).unwrap();
    until(|| (share.limit() == "0").then_some(()));
    fs::remove_file(&file).unwrap();
    until(|| (share.limit() == limit).then_some(()));
    for number in 0..=ENTRIES {
        fs::write(file.with_file_name(number.to_string()), "").unwrap();
    }
    let log = share.path("virtiofsd.log");
    until(|| fs::read_to_string(&log).unwrap().contains("or 4096 files in").then_some(()));
    let pid = share.daemon.as_ref().unwrap().pid();
    // A zombie until it is reaped.
    until(|| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ").then_some(()));
}

#[test]
fn the_socket_has_no_name_once_the_daemon_runs() {
    let mut share = Share::new();
    let proc = share.proc();
    let sockets: Vec<String> = fs::read_dir(proc.join("fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    assert!(!sockets.is_empty());
    // What is bound to a path that is there, anybody may connect to.
    let unix = fs::read_to_string("/proc/net/unix").unwrap();
    for line in
        unix.lines().filter(|line| sockets.iter().any(|inode| line.split_whitespace().nth(6) == Some(inode)))
    {
        let path = line.split_whitespace().nth(7).unwrap_or_default();
        assert!(path.is_empty() || !Path::new(path).exists(), "{line}");
    }
    drop(share.daemon.take());
    until(|| (!proc.join("exe").exists()).then_some(()));
}
