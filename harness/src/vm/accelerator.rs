// SPDX-License-Identifier: MIT OR Apache-2.0
//! KVM or TCG: decided by booting, remembered per host.
//!
//! `/dev/kvm` may exist and be useless: on some nested hosts QEMU aborts, on others the guest spins without
//! a line of output, and `accel=kvm:tcg` falls back from neither. So a probe of a few instructions,
//! in an ELF file with a PVH note as our kernels have one, must get through to the isa-debug-exit device
//! within [`PROBE_LIMIT`].

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::process::{ChildSpec, ProcessError, Sink, interrupt};

/// How long a probe may take. A working KVM needs 0.1 s.
pub const PROBE_LIMIT: Duration = Duration::from_secs(3);
const MEMORY_FILE: &str = "accelerator.json";
/// What the probe's guest writes, and what QEMU makes of it (`(value << 1) | 1`).
const EXIT_VALUE: u8 = 0x10;
const EXIT_STATUS: i32 = 33;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

impl Accelerator {
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    pub(super) const fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }

    /// The word used in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceleratorChoice {
    Auto,
    Kvm,
    Tcg,
}

/// What was decided, and why in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub accelerator: Accelerator,
    pub reason: String,
    /// Whether a probe was booted now; otherwise it was asked for or remembered.
    pub probed: bool,
}

/// The accelerator asked for cannot be had.
#[derive(Debug, Error)]
pub enum AcceleratorError {
    #[error("KVM does not work here: {0} (hint: --accel auto or --accel tcg)")]
    KvmUnusable(String),
    #[error("cannot write the probe to {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The probe says nothing about KVM, so nothing is remembered.
    #[error("the accelerator cannot be probed: {0}")]
    Probe(#[source] ProcessError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    host: String,
    /// `None` if KVM works, otherwise why it does not.
    trouble: Option<String>,
}

/// Decides. `cache` is where the result is remembered; it is forgotten when kernel, CPU, QEMU or
/// `/dev/kvm` change.
///
/// # Errors
/// If KVM was asked for and does not work, or no probe can be made: QEMU is missing, or we are
/// interrupted.
pub fn decide(choice: AcceleratorChoice, qemu: &Path, cache: &Path) -> Result<Decision, AcceleratorError> {
    if choice == AcceleratorChoice::Tcg {
        let reason = "asked for".to_owned();
        return Ok(Decision { accelerator: Accelerator::Tcg, reason, probed: false });
    }
    let host = host_key(qemu);
    let memory = cache.join(MEMORY_FILE);
    let remembered = recall(&memory, &host);
    let probed = remembered.is_none();
    let trouble = match remembered {
        Some(remembered) => remembered.trouble,
        None => {
            let trouble = probe_kvm(qemu, cache)?;
            remember(qemu, cache, trouble.clone());
            trouble
        }
    };
    match (trouble, choice) {
        (None, _) => {
            Ok(Decision { accelerator: Accelerator::Kvm, reason: "a probe booted".to_owned(), probed })
        }
        (Some(trouble), AcceleratorChoice::Kvm) => Err(AcceleratorError::KvmUnusable(trouble)),
        (Some(trouble), _) => {
            Ok(Decision { accelerator: Accelerator::Tcg, reason: distrust(&trouble), probed })
        }
    }
}

/// Remembers in `cache` whether KVM works on this host: `None` if so. A memory that cannot be written costs a probe the
/// next time, no more.
pub(super) fn remember(qemu: &Path, cache: &Path, trouble: Option<String>) {
    let remembered = Remembered { host: host_key(qemu), trouble };
    if let Ok(text) = serde_json::to_string_pretty(&remembered) {
        let _ = fs::write(cache.join(MEMORY_FILE), text);
    }
}

/// Why it is not KVM.
pub(super) fn distrust(trouble: &str) -> String {
    format!("KVM does not work: {trouble}")
}

/// Forgets what is remembered in `cache`.
///
/// # Errors
/// If the file is there and cannot be removed.
pub fn forget(cache: &Path) -> io::Result<()> {
    match fs::remove_file(cache.join(MEMORY_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn recall(memory: &Path, host: &str) -> Option<Remembered> {
    let remembered: Remembered = serde_json::from_str(&fs::read_to_string(memory).ok()?).ok()?;
    (remembered.host == host).then_some(remembered)
}

/// What the answer depends on.
fn host_key(qemu: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    let boot = read("/proc/sys/kernel/random/boot_id");
    let device = fs::metadata("/dev/kvm").map_or_else(
        |error| error.kind().to_string(),
        |metadata| {
            use std::os::unix::fs::MetadataExt as _;
            format!("{:o} {} {}", metadata.mode(), metadata.uid(), metadata.gid())
        },
    );
    // SAFETY: no arguments, cannot fail.
    let user = unsafe { libc::geteuid() };
    format!("{} / {cpu} / {device} / user {user} / {}", boot.trim(), program_identity(qemu))
}

/// Which QEMU it is: its file, found as the kernel's execvp would, with size and time. An upgrade
/// changes one of them, and asking for `--version` would cost each run more.
fn program_identity(qemu: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = match qemu.components().count() {
        1 => std::env::split_paths(&path).map(|folder| folder.join(qemu)).find(|file| file.is_file()),
        _ => None,
    };
    let file = found.as_deref().unwrap_or(qemu);
    let stat = fs::metadata(file).map_or((0, 0), |metadata| (metadata.len(), metadata.mtime()));
    format!("{} {} {}", file.display(), stat.0, stat.1)
}

/// Boots the probe under KVM: `None` if it got through, otherwise what went wrong.
fn probe_kvm(qemu: &Path, cache: &Path) -> Result<Option<String>, AcceleratorError> {
    match fs::File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => boot_probe(qemu, Accelerator::Kvm, cache),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some("there is no /dev/kvm".to_owned())),
        Err(error) => Ok(Some(format!("/dev/kvm: {error}"))),
    }
}

/// Boots the probe: `None` if it got through, otherwise what went wrong.
///
/// # Errors
/// If the probe's file cannot be written, QEMU not be started, or we are interrupted.
pub fn boot_probe(
    qemu: &Path,
    accelerator: Accelerator,
    cache: &Path,
) -> Result<Option<String>, AcceleratorError> {
    let file = tempfile::Builder::new().prefix("probe-").tempfile_in(cache);
    let file = file.map_err(|source| AcceleratorError::Write { path: cache.to_owned(), source })?;
    let path = file.path().to_owned();
    fs::write(&path, probe_image())
        .map_err(|source| AcceleratorError::Write { path: path.clone(), source })?;
    let spawned = ChildSpec::new(qemu)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "microvm,acpi=off,rtc=off", "-m", "64M"])
        .args(["-accel", accelerator.flag(), "-cpu", accelerator.cpu()])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-kernel")
        .arg(&path)
        .stdout(Sink::Null)
        .limit(PROBE_LIMIT)
        .grace(Duration::ZERO)
        .run();
    if interrupt::requested().is_some()
        && let Err(error) = spawned
    {
        // The interrupt has killed it: that says nothing about KVM.
        return Err(AcceleratorError::Probe(error));
    }
    Ok(match spawned {
        Ok(_) => Some("the probe's guest reset itself".to_owned()),
        Err(error) if error.status().and_then(|status| status.code()) == Some(EXIT_STATUS) => None,
        Err(ProcessError::TimedOut { .. }) => {
            Some(format!("the probe hung and was killed after {} s", PROBE_LIMIT.as_secs()))
        }
        Err(ProcessError::Failed { status, tail, .. }) => Some(format!(
            "the probe's QEMU ended with {status}{}",
            tail.last().map_or_else(String::new, |line| format!(": {line}"))
        )),
        Err(error) => return Err(AcceleratorError::Probe(error)),
    })
}

/// An ELF file with a PVH entry note whose code writes to isa-debug-exit.
fn probe_image() -> Vec<u8> {
    const LOAD: u32 = 0x10_0000;
    const CODE_AT: u32 = 0x100;
    const NOTE_AT: u32 = 0xC0;
    // 32-bit protected mode: mov dx, 0xf4; mov al, VALUE; out dx, al; hlt; jmp to the hlt.
    let code = [0x66, 0xBA, 0xF4, 0x00, 0xB0, EXIT_VALUE, 0xEE, 0xF4, 0xEB, 0xFD];
    let mut image = vec![0_u8; CODE_AT as usize];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // ELF header: 32 bit, little endian, executable, i386.
    put(0, b"\x7fELF\x01\x01\x01");
    put(16, &2_u16.to_le_bytes());
    put(18, &3_u16.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(24, &(LOAD + CODE_AT).to_le_bytes());
    put(28, &52_u32.to_le_bytes());
    put(40, &52_u16.to_le_bytes());
    put(42, &32_u16.to_le_bytes());
    put(44, &2_u16.to_le_bytes());
    let size = CODE_AT + u32::try_from(code.len()).unwrap_or(0);
    // Program headers: PT_LOAD of the whole file, PT_NOTE.
    for (at, fields) in [
        (52, [1, 0, LOAD, LOAD, size, size, 7, 0x1000]),
        (84, [4, NOTE_AT, LOAD + NOTE_AT, LOAD + NOTE_AT, 20, 20, 4, 4]),
    ] {
        for (index, field) in fields.into_iter().enumerate() {
            put(at + index * 4, &u32::to_le_bytes(field));
        }
    }
    // XEN_ELFNOTE_PHYS32_ENTRY (18): where to start in 32-bit mode.
    let note = NOTE_AT as usize;
    put(note, &4_u32.to_le_bytes());
    put(note + 4, &4_u32.to_le_bytes());
    put(note + 8, &18_u32.to_le_bytes());
    put(note + 12, b"Xen\0");
    put(note + 16, &(LOAD + CODE_AT).to_le_bytes());
    image.extend_from_slice(&code);
    image
}

/// The host's TSC frequency in kHz, measured once against CLOCK_MONOTONIC.
///
/// A guest under TCG reads the host's TSC; one without ACPI has no clock to calibrate it by.
#[must_use]
pub fn tsc_khz() -> u64 {
    static KHZ: OnceLock<u64> = OnceLock::new();
    *KHZ.get_or_init(|| {
        const WINDOW: Duration = Duration::from_millis(10);
        // SAFETY: every x86-64 CPU has it, and Linux leaves it enabled.
        let ticks = || unsafe { core::arch::x86_64::_rdtsc() };
        // The tightest of some pairs: on a busy host we may be preempted between the two clocks, and the
        // guest's clock would be wrong by that time's share of the window.
        let reading = || {
            let pair = |_| {
                let before = ticks();
                let now = Instant::now();
                let after = ticks();
                (after.wrapping_sub(before), now, before)
            };
            let (_, now, ticks) = (0..8).map(pair).min_by_key(|pair| pair.0).unwrap_or_else(|| pair(0));
            (now, ticks)
        };
        let (from, ticks_from) = reading();
        let (to, ticks_to) = loop {
            let now = reading();
            if now.0.duration_since(from) >= WINDOW {
                break now;
            }
            std::hint::spin_loop();
        };
        kilohertz(ticks_to.wrapping_sub(ticks_from), to.duration_since(from))
    })
}

fn kilohertz(ticks: u64, time: Duration) -> u64 {
    let nanoseconds = time.as_nanos().max(1);
    u64::try_from(u128::from(ticks) * 1_000_000 / nanoseconds).unwrap_or(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_gets_through_under_tcg() {
        let cache = tempfile::tempdir().unwrap();
        let trouble = boot_probe(Path::new("qemu-system-x86_64"), Accelerator::Tcg, cache.path()).unwrap();
        assert_eq!(trouble, None);
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "the probe's file stays behind");
    }

    #[test]
    fn auto_decides_within_five_seconds_and_remembers() {
        let cache = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let first = decide(AcceleratorChoice::Auto, Path::new("qemu-system-x86_64"), cache.path()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(first.probed);
        let second = decide(AcceleratorChoice::Auto, Path::new("qemu-system-x86_64"), cache.path()).unwrap();
        assert_eq!(
            (second.accelerator, second.reason, second.probed),
            (first.accelerator, first.reason, false)
        );
    }

    #[test]
    fn a_missing_qemu_is_no_verdict_on_kvm() {
        let cache = tempfile::tempdir().unwrap();
        let error = boot_probe(Path::new("/nowhere/qemu"), Accelerator::Kvm, cache.path()).unwrap_err();
        assert!(matches!(error, AcceleratorError::Probe(_)), "{error}");
    }

    #[test]
    fn kilohertz_are_ticks_a_millisecond() {
        assert_eq!(kilohertz(25_000_000, Duration::from_millis(10)), 2_500_000);
        assert_eq!(kilohertz(u64::MAX, Duration::from_secs(10_000_000_000)), 1_844_674);
        assert_eq!(kilohertz(7, Duration::ZERO), 7_000_000);
        // The real one: no CPU that runs this has less than 100 MHz or more than 100 GHz.
        assert!((100_000..100_000_000).contains(&tsc_khz()), "{} kHz", tsc_khz());
    }

    #[test]
    fn a_kvm_that_hangs_is_given_up_and_named() {
        let cache = tempfile::tempdir().unwrap();
        let qemu = cache.path().join("qemu");
        fs::write(&qemu, "#!/bin/sh\nexec sleep 60\n").unwrap();
        fs::set_permissions(&qemu, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let trouble = boot_probe(&qemu, Accelerator::Kvm, cache.path()).unwrap().unwrap();
        assert!(trouble.contains("hung and was killed"), "{trouble}");
    }

    #[test]
    fn a_kvm_that_aborts_is_given_up_with_its_last_words() {
        let cache = tempfile::tempdir().unwrap();
        let qemu = cache.path().join("qemu");
        fs::write(&qemu, "#!/bin/sh\necho kvm_init_vcpu failed >&2\nkill -ABRT $$\n").unwrap();
        fs::set_permissions(&qemu, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let trouble = boot_probe(&qemu, Accelerator::Kvm, cache.path()).unwrap().unwrap();
        assert!(trouble.contains("kvm_init_vcpu failed"), "{trouble}");
    }
}
