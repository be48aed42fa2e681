// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sandbox for children that run code which somebody else wrote: a build of a patch series, or a daemon that a
//! guest talks to.
//!
//! In it there is no network, no process but its own, none of the user's files but those that a [`View`] names, and
//! no variable of our environment but `PATH` and `TERM` and what the spec sets. The system's programs are there to be
//! read; everything else that can be written is gone at the end. Capabilities are gone, also root's. Paths are those of
//! the host, so that what is built does not depend on whether there is a sandbox.
//!
//! Bubblewrap does that where it is installed and works; else `unshare`, `mount` and `setpriv` of util-linux do
//! the same. Both need user namespaces, which some distributions and container runtimes forbid: so which one works is
//! found out by running `true` in it, once for a process of ours.
//!
//! Everything dies at once: a sandbox has a pid namespace, whose first process is in the group that we kill. So there
//! is no grace, and what make has half written is for the caller to find (`kernel::tree`). The group is a session, so
//! that nobody in it can type into our terminal (TIOCSTI). bubblewrap could make one itself, but between that and its
//! prctl(PR_SET_PDEATHSIG) nothing would reach what it has started: seen in one of some hundred kills.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::{ChildSpec, ProcessError};

/// Folders with the system's programs. None of them has anything of a user's.
const SYSTEM: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu"];
/// What programs read of /etc. Not the whole: root could read /etc/shadow there.
const ETC: [&str; 6] = [
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/perl",
];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Variables of ours that a confined child gets.
const VARIABLES: [&str; 2] = ["PATH", "TERM"];
/// `HOME` in it: empty, and gone at the end.
pub(super) const HOME: &str = "/tmp/home";
/// How long a sandbox may take to run `true`.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// Whether to use one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SandboxMode {
    /// If one works; else without, and it is said.
    #[default]
    Auto,
    /// Not without.
    On,
    /// Without.
    Off,
}

impl SandboxMode {
    /// The sandbox, or none; also with [`SandboxMode::Auto`] if none works.
    ///
    /// # Errors
    /// [`NoSandbox`] if one is demanded and none works.
    pub fn choose(self) -> Result<Option<Sandbox>, NoSandbox> {
        match self {
            SandboxMode::Off => Ok(None),
            SandboxMode::Auto => Ok(Sandbox::find().ok()),
            SandboxMode::On => Sandbox::find().map(Some),
        }
    }
}

/// What makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// bwrap
    Bubblewrap,
    /// unshare, mount, setpriv
    Unshare,
}

impl std::fmt::Display for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Sandbox::Bubblewrap => "bubblewrap",
            Sandbox::Unshare => "unshare",
        })
    }
}

/// No sandbox works here; why, for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no sandbox works here: {0} (hint: apt-get install bubblewrap, and allow user namespaces)")]
pub struct NoSandbox(pub String);

impl Sandbox {
    /// The first one that works, found out once.
    ///
    /// # Errors
    /// [`NoSandbox`].
    pub fn find() -> Result<Sandbox, NoSandbox> {
        static FOUND: OnceLock<Result<Sandbox, NoSandbox>> = OnceLock::new();
        FOUND.get_or_init(|| Sandbox::first(&[Sandbox::Bubblewrap, Sandbox::Unshare])).clone()
    }

    fn first(of: &[Sandbox]) -> Result<Sandbox, NoSandbox> {
        let mut reasons = Vec::new();
        for sandbox in of {
            match sandbox.probe() {
                Ok(()) => return Ok(*sandbox),
                Err(reason) => reasons.push(format!("{sandbox}: {reason}")),
            }
        }
        Err(NoSandbox(reasons.join("; ")))
    }

    /// Whether it runs anything.
    fn probe(self) -> Result<(), String> {
        match ChildSpec::new("true").confine(self, &View::default()).limit(PROBE_LIMIT).run() {
            Ok(_) => Ok(()),
            Err(ProcessError::Start { source, .. }) => Err(source.to_string()),
            Err(error) => Err(error.tail().last().cloned().unwrap_or_else(|| error.to_string())),
        }
    }

    /// The command line that stands before a child's.
    fn wrapper(self, view: &View) -> Vec<OsString> {
        let mut wrapper = match self {
            Sandbox::Bubblewrap => bubblewrap(view),
            Sandbox::Unshare => unshare(view),
        };
        if view.background {
            wrapper.extend(BACKGROUND.map(OsString::from));
        }
        wrapper
    }
}

/// What a confined child has of the file system, beside the system's programs. Everything must exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// To read.
    pub read: Vec<PathBuf>,
    /// To write as well; it may lie in something to read, and the other way round.
    pub write: Vec<PathBuf>,
    /// Whether it takes itself for root. It has no more rights by that: files that it makes are ours.
    pub root: bool,
    /// At the lowest priority among all: a sandbox is a session of its own, and the kernel's autogroups share out the CPUs by session first, whatever
    /// nice says within one (sched(7)).
    pub background: bool,
}

/// Says so to the kernel, which takes such a word from one of all users every tenth of a second (kernel/sched/autogroup.c); where there are no autogroups,
/// nothing has to be said.
const BACKGROUND: [&str; 4] = [
    "sh",
    "-c",
    "[ ! -e /proc/self/autogroup ] || for _ in 1 2 3 4 5 6 7 8 9 10; do \
     if echo 19 2>/dev/null >/proc/self/autogroup; then break; fi; sleep 0.1; done; exec \"$@\"",
    "background",
];

impl View {
    /// In an order in which nothing hides what came before, with whether it may be written.
    fn mounts(&self) -> Vec<(&Path, bool)> {
        let read = self.read.iter().map(|path| (path.as_path(), false));
        let mut mounts: Vec<(&Path, bool)> =
            read.chain(self.write.iter().map(|path| (path.as_path(), true))).collect();
        mounts.sort();
        mounts.dedup();
        mounts
    }
}

/// What of [`SYSTEM`] and [`ETC`] is there: a link with what it points to, or something to be mounted.
fn system() -> impl Iterator<Item = (&'static Path, Option<PathBuf>)> {
    SYSTEM.iter().chain(&ETC).map(Path::new).filter(|path| path.exists()).map(|path| {
        // A link among the programs' folders is `lib -> usr/lib`; one in /etc is followed.
        let link = SYSTEM.contains(&path.to_str().unwrap_or_default());
        (path, path.read_link().ok().filter(|_| link))
    })
}

/// Whether a path is one of the system's programs, which every sandbox has.
#[must_use]
pub fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|folder| path.starts_with(folder))
}

fn bubblewrap(view: &View) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["bwrap", "--unshare-all", "--unshare-user", "--cap-drop", "ALL", "--die-with-parent"]
            .map(Into::into)
            .into();
    let mut push = |parts: &[&OsStr]| args.extend(parts.iter().map(|part| (*part).to_owned()));
    if view.root {
        push(&["--uid".as_ref(), "0".as_ref(), "--gid".as_ref(), "0".as_ref()]);
    }
    for (path, link) in system() {
        match link {
            Some(target) => push(&["--symlink".as_ref(), target.as_ref(), path.as_ref()]),
            None => push(&["--ro-bind".as_ref(), path.as_ref(), path.as_ref()]),
        }
    }
    push(&["--proc".as_ref(), "/proc".as_ref(), "--dev".as_ref(), "/dev".as_ref()]);
    push(&["--tmpfs".as_ref(), "/tmp".as_ref(), "--dir".as_ref(), HOME.as_ref()]);
    for (path, writable) in view.mounts() {
        let how = if writable { "--bind" } else { "--ro-bind" };
        push(&[how.as_ref(), path.as_ref(), path.as_ref()]);
    }
    // The folders above them are bubblewrap's own: who writes there shall hear that it cannot.
    push(&["--remount-ro".as_ref(), "/".as_ref(), "--".as_ref()]);
    args
}

/// Root of the new namespaces builds the file system on a tmpfs, makes it the root, and gives up all capabilities.
/// /sys is where the tmpfs is put meanwhile: it is always there, and nobody needs it. `remount` keeps the flags that a
/// user namespace may not take away.
const SCRIPT: &str = r#"set -e
path=$PATH here=$(pwd)
PATH=$PATH:/usr/sbin:/sbin
mount --make-rprivate /
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /sys
mkdir /sys/tmp
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /sys/tmp
while [ "$1" != -- ]; do
    to=/sys$2
    case $1 in
    link) ln -s "$3" "$to"; shift ;;
    dir) mkdir -p "$to" ;;
    *)
        if [ -d "$2" ]; then mkdir -p "$to"; else mkdir -p "${to%/*}"; [ -e "$to" ] || : > "$to"; fi
        mount --rbind "$2" "$to"
        if [ "$1" = read ]; then mount -o remount,bind,ro "$to"; fi ;;
    esac
    shift 2
done
shift
ln -s /proc/self/fd /sys/dev/fd
mount -t proc -o nosuid,nodev,noexec proc /sys/proc
cd /sys
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,bind,ro /
cd "$here" 2>/dev/null || cd /
PATH=$path
exec /usr/bin/setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"#;

fn unshare(view: &View) -> Vec<OsString> {
    // Only root can mount, so it is root in there; bubblewrap keeps the user's own number unless asked.
    let mut args: Vec<OsString> =
        ["unshare", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--uts"].map(Into::into).into();
    let mut push = |parts: &[&OsStr]| args.extend(parts.iter().map(|part| (*part).to_owned()));
    push(&["--fork".as_ref(), "--kill-child".as_ref(), "--".as_ref()]);
    push(&["sh".as_ref(), "-c".as_ref(), SCRIPT.as_ref(), "sandbox".as_ref()]);
    for (path, link) in system() {
        match link {
            Some(target) => push(&["link".as_ref(), path.as_ref(), target.as_ref()]),
            None => push(&["read".as_ref(), path.as_ref()]),
        }
    }
    for folder in ["/dev", "/proc", HOME, "/old"] {
        push(&["dir".as_ref(), folder.as_ref()]);
    }
    for device in DEVICES {
        push(&["write".as_ref(), device.as_ref()]);
    }
    for (path, writable) in view.mounts() {
        let how = if writable { "write" } else { "read" };
        push(&[how.as_ref(), path.as_ref()]);
    }
    push(&["--".as_ref()]);
    args
}

impl ChildSpec {
    /// Runs it in a sandbox. Its command line, as errors show it, stays the same.
    #[must_use]
    pub fn confine(mut self, sandbox: Sandbox, view: &View) -> Self {
        self.wrapper = sandbox.wrapper(view);
        self.grace = Duration::ZERO;
        self
    }

    /// Whether it runs in a sandbox.
    #[must_use]
    pub fn is_confined(&self) -> bool {
        !self.wrapper.is_empty()
    }

    /// The whole environment of a confined child.
    pub(super) fn confined_environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = VARIABLES
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        environment.push(("HOME".into(), HOME.into()));
        for (name, value) in &self.env {
            environment.retain(|(known, _)| known != name);
            environment.extend(value.clone().map(|value| (name.clone(), value)));
        }
        environment
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
