// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtiofs daemon: the virtiofsd crate as a library, in a child of our own.
//!
//! One daemon serves one guest and ends with it. We bind its socket before either side starts, so that nobody
//! has to wait for it to appear, and it inherits the listening end. The socket lies in a private
//! folder (0700), which the daemon removes as soon as QEMU has connected: from then on not even a SIGKILL
//! of ours leaves anything behind.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, RawFd},
        unix::{fs::PermissionsExt as _, net::UnixListener, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use vhost::vhost_user::{Error::Disconnected, Listener};
use vhost_user_backend::{Error::HandleRequest, VhostUserDaemon};
use virtiofsd::{
    passthrough::{CachePolicy, Config, PassthroughFs},
    vhost_user::VhostUserFsBackendBuilder,
};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::BootFailure;
use crate::process::{Child, ChildSpec, ExitFd, Sink};

/// The daemon's hidden subcommand.
pub const SUBCOMMAND: &str = "virtiofsd";
const LOG: &str = "virtiofsd.log";

/// A running daemon. Dropping it ends it and removes its socket.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    _folder: TempDir,
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
        let fd = listener.as_raw_fd();
        let program = own_program().map_err(BootFailure::OwnProgram)?;
        let child = ChildSpec::new(program)
            .arg(SUBCOMMAND)
            .arg(fd.to_string())
            .arg(folder)
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
            })
            .spawn()?;
        Ok(Self { child, socket, _folder: private })
    }

    /// What becomes ready when it ends.
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

    /// Where QEMU connects.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
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
    let config = Config {
        root_dir: folder.to_string_lossy().into_owned(),
        cache_policy: CachePolicy::Always,
        entry_timeout: Duration::from_secs(86_400),
        attr_timeout: Duration::from_secs(86_400),
        guest_fd_limit: 1024,
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
    let address = listener.local_addr().map_err(|error| format!("FD: {error}"))?;
    let mut listener = Listener::from(listener);
    daemon.start(&mut listener).map_err(|error| format!("start: {error:?}"))?;
    if let Some(socket) = address.as_pathname() {
        // QEMU has connected. If this fails, our parent does it at the end.
        let _ = fs::remove_file(socket);
        let _ = socket.parent().map(fs::remove_dir);
    }
    match daemon.wait() {
        Ok(()) | Err(HandleRequest(Disconnected)) => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    }
}
