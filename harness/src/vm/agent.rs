// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest agent's binary: static, so that it runs as PID 1 of an empty initramfs.
//!
//! Looked for in this order: `$NSTRAIL_AGENT`; `target/agent/` of the checkout, built by cargo first if
//! it is missing or older than its sources; outside of a checkout, `nstrail-agent` in the folder of our own
//! program (an installed `nstrail`). It has a target folder of its own, because it is linked
//! statically and the host's programs are not.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use thiserror::Error;

use crate::process::{ChildSpec, ProcessError};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What the agent is made of, relative to the checkout.
const SOURCES: [&str; 4] = ["guest-rootfs/agent", "harness/wire", "Cargo.toml", "Cargo.lock"];

/// No agent.
#[derive(Debug, Error)]
pub enum AgentError {
    #[error("cannot read {}: {source} (hint: NSTRAIL_AGENT names a static nstrail-agent)", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the guest agent does not build: {0}")]
    Build(#[source] ProcessError),
}

/// Finds the agent, building it if need be, and gives its bytes.
///
/// # Errors
/// If it cannot be built or read.
pub fn load(root: &Path) -> Result<Vec<u8>, AgentError> {
    let path = match std::env::var_os("NSTRAIL_AGENT") {
        Some(path) => PathBuf::from(path),
        None if is_made_of(root) => built(root)?,
        None => beside_us(),
    };
    fs::read(&path).map_err(|source| AgentError::Read { path, source })
}

/// Whether a project has the agent's sources, so that cargo is needed.
#[must_use]
pub fn is_made_of(root: &Path) -> bool {
    root.join(SOURCES[0]).is_dir()
}

fn built(root: &Path) -> Result<PathBuf, AgentError> {
    let target = root.join("target/agent");
    let binary = target.join(TARGET).join("release/nstrail-agent");
    let built = fs::metadata(&binary).and_then(|metadata| metadata.modified()).ok();
    let newest = SOURCES.iter().filter_map(|source| newest(&root.join(source))).max();
    if built.is_some() && built >= newest {
        return Ok(binary);
    }
    ChildSpec::new("cargo")
        .args(["build", "--quiet", "--release", "--package", "nstrail-agent", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .dir(root)
        .run()
        .map_err(AgentError::Build)?;
    // cargo leaves a binary alone that needs no new link; it is fresh all the same.
    if let Ok(file) = fs::File::options().append(true).open(&binary) {
        // A time that cannot be set costs another call of cargo the next time.
        let _ = file.set_modified(SystemTime::now());
    }
    Ok(binary)
}

/// Where an installed `nstrail` has its agent. Whether it is there shows when it is read.
fn beside_us() -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name("nstrail-agent")
}

/// Time of the newest file of a tree.
fn newest(path: &Path) -> Option<SystemTime> {
    let metadata = fs::metadata(path).ok()?;
    if metadata.is_dir() {
        return fs::read_dir(path).ok()?.flatten().filter_map(|entry| newest(&entry.path())).max();
    }
    metadata.modified().ok()
}
