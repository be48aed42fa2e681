// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtiofs daemon: the virtiofsd crate as a library, in a child of our own.
//!
//! One daemon serves one guest and ends with it. We bind its socket, connect to it and remove it before either side
//! starts: the daemon inherits the listening end and QEMU the connected one, so nobody has to wait for the socket to
//! appear, nobody else can connect, and not even a SIGKILL of ours leaves anything behind.
//!
//! A guest is untrusted, and the daemon does what it says. So it runs in a sandbox where one works: there it sees
//! nothing but the share, which is read-only except for `artifacts/`. What lands there has limits of its own
//! ([`LIMIT`], [`ENTRIES`]). No quota can be had without root, so the daemon keeps them: RLIMIT_FSIZE holds for
//! every file, and a look at the whole, ten times a second, takes it down to 0 (writes then end in EFBIG) or ends the
//! daemon. fallocate(2) is refused: with FALLOC_FL_KEEP_SIZE it takes space that no RLIMIT_FSIZE counts.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use vhost::vhost_user::{Error::Disconnected, Listener};
use vhost_user_backend::{Error::HandleRequest, VhostUserDaemon};
use virtiofsd::{
    passthrough::{CachePolicy, Config, PassthroughFs},
    soft_idmap::cmdline::IdMap,
    vhost_user::VhostUserFsBackendBuilder,
};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::BootFailure;
use crate::process::{Child, ChildSpec, ExitFd, Sandbox, Sink, View};

/// The daemon's hidden subcommand.
pub const SUBCOMMAND: &str = "virtiofsd";
/// The folder of the share that the guest writes to.
pub const ARTIFACTS: &str = "artifacts";
/// How many bytes it may hold, and what comes until that is seen.
pub const LIMIT: u64 = 64 << 20;
/// How many files and folders.
pub const ENTRIES: usize = 4096;
const LOOK: Duration = Duration::from_millis(100);
const LOG: &str = "virtiofsd.log";

/// A running daemon. Dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    client: OwnedFd,
}

impl Daemon {
    /// Starts a daemon that shares `folder`; its log goes to `run_dir`.
    ///
    /// # Errors
    /// If the socket cannot be made or the child not be started.
    pub fn start(folder: &Path, run_dir: &Path) -> Result<Self, BootFailure> {
        let private = tempfile::Builder::new()
            .prefix("nstrail-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(BootFailure::Channel)?;
        let socket = private.path().join("fs.sock");
        let listener = UnixListener::bind(&socket).map_err(BootFailure::Channel)?;
        let client = UnixStream::connect(&socket).map_err(BootFailure::Channel)?;
        private.close().map_err(BootFailure::Channel)?;
        let fd = listener.as_raw_fd();
        let program = own_program().map_err(BootFailure::OwnProgram)?;
        let folder = folder.canonicalize().map_err(BootFailure::Channel)?;
        let artifacts = folder.join(ARTIFACTS);
        fs::create_dir_all(&artifacts).map_err(BootFailure::Channel)?;
        let mut spec = ChildSpec::new(&program)
            .arg(SUBCOMMAND)
            .arg(fd.to_string())
            .arg(&folder)
            .stdout(Sink::Null)
            .stderr(Sink::File(run_dir.join(LOG)))
            .grace(Duration::ZERO)
            .before_spawn(move |command| {
                // SAFETY: fcntl is async-signal-safe, and touches only a descriptor of the child.
                unsafe {
                    command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
                        -1 => Err(io::Error::last_os_error()),
                        _ => Ok(()),
                    })
                };
                Ok(())
            });
        // Where none works, the command line has said so.
        if let Ok(sandbox) = Sandbox::find() {
            // As root of a user namespace it makes files for root of the guest also if we are an ordinary user.
            let view =
                View { read: vec![program, folder], write: vec![artifacts], root: true, ..View::default() };
            spec = spec.confine(sandbox, &view);
        }
        Ok(Self { child: spec.spawn()?, client: client.into() })
    }

    /// What becomes ready when it ends.
    ///
    /// # Errors
    /// If the kernel gives no descriptor for it.
    pub fn exit(&self) -> io::Result<ExitFd> {
        self.child.exit()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Whether a signal has stopped it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.child.is_stopped()
    }

    /// QEMU's end of the connection.
    #[must_use]
    pub fn client(&self) -> RawFd {
        self.client.as_raw_fd()
    }

    /// The child that we started, for tests.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error can only say that it is gone already.
        let _ = self.child.kill();
    }
}

/// `nstrail` itself, also from a test or a bench of this package, which lie one folder below it.
fn own_program() -> io::Result<PathBuf> {
    let current = std::env::current_exe()?;
    if current.file_stem().is_some_and(|stem| stem == "nstrail") {
        return Ok(current);
    }
    let beside = current.ancestors().skip(1).take(2).map(|folder| folder.join("nstrail"));
    beside
        .into_iter()
        .find(|program| program.is_file())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no `nstrail` beside this program"))
}

/// The child's main: `FD FOLDER`. Runs until QEMU hangs up.
#[must_use]
pub fn daemon_main(args: &[OsString]) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Standard error is this daemon's log file.
            let _ = io::Write::write_all(&mut io::stderr(), format!("virtiofsd: {message}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &[OsString]) -> Result<(), String> {
    let [fd, folder] = args else { return Err("expected FD FOLDER".to_owned()) };
    let fd: RawFd = fd.to_string_lossy().parse().map_err(|error| format!("FD: {error}"))?;
    restrict().map_err(|error| format!("cannot restrict itself: {error}"))?;
    let artifacts = Path::new(folder).join(ARTIFACTS);
    std::thread::Builder::new()
        .name("limit".into())
        .spawn(move || keep_limits(&artifacts))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let (uid_map, gid_map) = squashed();
    let config = Config {
        root_dir: folder.to_string_lossy().into_owned(),
        cache_policy: CachePolicy::Always,
        entry_timeout: Duration::from_secs(86_400),
        attr_timeout: Duration::from_secs(86_400),
        guest_fd_limit: 1024,
        uid_map: Some(uid_map),
        gid_map: Some(gid_map),
        ..Config::default()
    };
    let file_system = PassthroughFs::new(config).map_err(|error| format!("{}: {error}", folder.display()))?;
    let backend = VhostUserFsBackendBuilder::default()
        .build(file_system)
        .map_err(|error| format!("backend: {error}"))?;
    let mut daemon = VhostUserDaemon::new(
        "nstrail-virtiofs".to_owned(),
        Arc::new(backend),
        GuestMemoryAtomic::new(GuestMemoryMmap::new()),
    )
    .map_err(|error| format!("daemon: {error:?}"))?;
    // SAFETY: our parent has made this descriptor for us, and nobody else here uses it.
    let listener = unsafe { UnixListener::from_raw_fd(fd) };
    daemon.start(&mut Listener::from(listener)).map_err(|error| format!("start: {error:?}"))?;
    match daemon.wait() {
        Ok(()) | Err(HandleRequest(Disconnected)) => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// Whoever owns a file in the guest, here it is ours: an ordinary user can give files to nobody else.
fn squashed() -> (Vec<IdMap>, Vec<IdMap>) {
    // SAFETY: both only answer with a number.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let squash = |to_host| vec![IdMap::SquashGuest { from_guest: 0, to_host, count: u32::MAX }];
    (squash(uid), squash(gid))
}

/// No file above [`LIMIT`], and no fallocate(2). Every thread that is started later has it, too.
fn restrict() -> io::Result<()> {
    // SAFETY: a disposition without a function.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    limit_files(LIMIT)?;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump_if = |k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    // struct seccomp_data: nr at 0, arch at 4. Another architecture's numbers (int 0x80) are not ours: killed.
    let mut filter = [
        statement(load, 4),
        jump_if(AUDIT_ARCH, 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS),
        statement(load, 0),
        jump_if(libc::SYS_fallocate as u32, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the first takes numbers; the second reads `program` and the filter that it points to, both of which live.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// AUDIT_ARCH_X86_64, of linux/audit.h; the guests that we run are of no other.
const AUDIT_ARCH: u32 = 0xc000_003e;

fn limit_files(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: LIMIT };
    // SAFETY: the struct is read only.
    match unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Looks at what the guest has left, again and again.
fn keep_limits(artifacts: &Path) {
    let mut was_full = false;
    loop {
        let bytes = usage(artifacts);
        let is_full = bytes.is_none_or(|bytes| bytes > LIMIT);
        if is_full && !was_full {
            // As long as we can write ourselves.
            let text = format!(
                "virtiofsd: the guest has left more than {} MiB or {ENTRIES} files in {}\n",
                LIMIT >> 20,
                artifacts.display()
            );
            let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        }
        // Files of no size have no limit but this.
        if bytes.is_none() || limit_files(if is_full { 0 } else { LIMIT }).is_err() {
            std::process::exit(1);
        }
        was_full = is_full;
        std::thread::sleep(LOOK);
    }
}

/// Bytes on the disk; nothing if there are too many entries, or they cannot be counted.
fn usage(folder: &Path) -> Option<u64> {
    let (mut bytes, mut entries) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()? {
            let Ok(entry) = entry else { continue };
            entries += 1;
            if entries > ENTRIES {
                return None;
            }
            // It may be gone again: links are not followed.
            let Ok(meta) = entry.metadata() else { continue };
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Sink;

    /// What a shell says that is restricted as the daemon is.
    fn restricted(folder: &Path, script: &str) -> String {
        let spec = ChildSpec::new("sh").args(["-c", script]).dir(folder).stdout(Sink::Capture);
        let spec = spec.before_spawn(|command| {
            // SAFETY: `restrict` makes system calls on memory of its own: no allocation, no lock.
            unsafe { command.pre_exec(restrict) };
            Ok(())
        });
        String::from_utf8(spec.run_unchecked(|_| ()).unwrap().stdout).unwrap()
    }

    #[test]
    fn a_file_has_a_limit_and_no_space_is_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let script = "head -c 80M /dev/zero > f 2>error; echo $?; : > g; fallocate --keep-size -l 1M g 2>>error; echo $?";
        assert_eq!(restricted(dir.path(), script), "1\n1\n");
        assert_eq!(dir.path().join("f").metadata().unwrap().len(), LIMIT);
        assert_eq!(dir.path().join("g").metadata().unwrap().blocks(), 0);
        let said = fs::read_to_string(dir.path().join("error")).unwrap();
        assert!(said.contains("File too large") && said.contains("unsupported"), "{said}");
    }

    #[test]
    fn what_is_there_is_counted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/f"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let bytes = usage(dir.path()).unwrap();
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
        for i in 0..ENTRIES {
            fs::write(dir.path().join(format!("a/{i}")), "").unwrap();
        }
        assert_eq!(usage(dir.path()), None);
    }
}
