// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's command line.
//!
//! microvm without ACPI boots fastest. It needs `tsc_early_khz` and `tsc=reliable`, as it has no other clock to
//! calibrate the TSC by: without them some boots hang. `nolapic_timer` takes the PIT, which TCG serves
//! more cheaply. `reboot=t` resets by a triple fault, as there is no keyboard controller to wait for. The machine keeps
//! its RTC although nobody needs the time: without it the kernel waits two seconds for an update flag that never
//! clears (mc146818_avoid_UIP, 6.12). The console, QMP, both ports and the share are sockets that are connected already
//! and that QEMU inherits: no path to guess or to connect to, and their end is seen at once.
//!
//! The guest is untrusted, and so is QEMU once the guest has taken it over: there is no network device, no monitor but our
//! QMP, nothing of the user's or the system's configuration, and seccomp takes away what QEMU does not need to run.

use std::{fmt::Write as _, os::fd::RawFd};

use nstrail_wire::message::{AUDIT_PORT, CONTROL_PORT, SHARE_TAG};

use super::VmSpec;
use crate::process::Argv;

/// Where QEMU finds the other ends.
#[derive(Debug, Clone)]
pub struct Ends {
    pub console: String,
    pub qmp: String,
    pub control: String,
    pub audit: String,
    /// The virtiofs daemon's.
    pub share: Option<String>,
}

/// A chardev on a descriptor that QEMU inherits.
pub fn inherited(fd: RawFd) -> String {
    format!("socket,fd={fd}")
}

/// The arguments after the program.
pub fn arguments(spec: &VmSpec, tsc_khz: u64, ends: &Ends) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut push = |parts: &[&str]| args.extend(parts.iter().map(|part| (*part).to_owned()));
    push(&["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-no-reboot"]);
    push(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    let memory = if ends.share.is_some() { ",memory-backend=ram" } else { "" };
    push(&["-machine", &format!("microvm,acpi=off,rtc=on{memory}")]);
    // Instructions can be counted where one thread runs all vCPUs, and QEMU refuses it elsewhere.
    let accelerator = spec.perturbation.icount.map_or(spec.accelerator.flag(), |_| "tcg,thread=single");
    push(&["-accel", accelerator, "-cpu", spec.accelerator.cpu()]);
    if let Some(icount) = spec.perturbation.icount {
        push(&["-icount", icount]);
    }
    push(&["-smp", &spec.vcpus.to_string(), "-m", &format!("{}M", spec.memory_mib)]);
    if ends.share.is_some() {
        push(&["-object", &format!("memory-backend-memfd,id=ram,size={}M,share=on", spec.memory_mib)]);
    }
    push(&["-kernel", &spec.kernel.to_string_lossy(), "-initrd", &spec.initrd.to_string_lossy()]);
    push(&["-append", &cmdline(spec, tsc_khz)]);
    push(&["-chardev", &format!("{},id=console", ends.console), "-serial", "chardev:console"]);
    push(&["-chardev", &format!("{},id=qmp", ends.qmp), "-mon", "chardev=qmp,mode=control"]);
    push(&["-device", "virtio-serial-device"]);
    push(&["-chardev", &format!("{},id=control", ends.control)]);
    push(&["-device", &format!("virtserialport,chardev=control,name={CONTROL_PORT}")]);
    push(&["-chardev", &format!("{},id=audit", ends.audit)]);
    push(&["-device", &format!("virtserialport,chardev=audit,name={AUDIT_PORT}")]);
    if let Some(share) = &ends.share {
        push(&["-chardev", &format!("{share},id=share")]);
        push(&["-device", &format!("vhost-user-fs-device,chardev=share,tag={SHARE_TAG}")]);
    }
    args
}

fn cmdline(spec: &VmSpec, tsc_khz: u64) -> String {
    let mut line =
        "console=ttyS0 reboot=t panic=-1 oops=panic quiet loglevel=5 nokaslr nolapic_timer tsc=reliable"
            .to_owned();
    // Writing to a String cannot fail.
    let _ = write!(line, " tsc_early_khz={tsc_khz}");
    if spec.share.is_some() {
        line.push_str(" nstrail.share=1");
    }
    for parameter in &spec.cmdline {
        line.push(' ');
        line.push_str(parameter);
    }
    line
}

/// The command as a shell line that works by hand: the channels are sockets in the current folder,
/// the console is the terminal, and there is no share.
pub fn by_hand(spec: &VmSpec, tsc_khz: u64) -> String {
    let spec = VmSpec { share: None, ..spec.clone() };
    let listening = |name: &str| format!("socket,path={name}.sock,server=on,wait=off");
    let ends = Ends {
        console: "stdio".to_owned(),
        qmp: listening("qmp"),
        control: listening("control"),
        audit: listening("audit"),
        share: None,
    };
    let mut argv = vec![spec.qemu.clone().into_os_string()];
    argv.extend(arguments(&spec, tsc_khz, &ends).into_iter().map(Into::into));
    format!("{}\n", Argv(argv))
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;
    use crate::vm::{Accelerator, Limits, Perturbation};

    fn spec(share: Option<PathBuf>) -> VmSpec {
        VmSpec {
            qemu: "qemu-system-x86_64".into(),
            kernel: "/k/vmlinux".into(),
            initrd: "/k/initrd".into(),
            vcpus: 2,
            memory_mib: 512,
            accelerator: Accelerator::Tcg,
            perturbation: Perturbation::default(),
            cmdline: vec!["audit=1".into()],
            run_dir: "/run".into(),
            share,
            limits: Limits {
                wall: Duration::from_secs(1),
                silence: Duration::from_secs(1),
                first_sign: Duration::from_secs(1),
            },
        }
    }

    fn with_share() -> Vec<String> {
        let ends = Ends {
            console: inherited(3),
            qmp: inherited(4),
            control: inherited(5),
            audit: inherited(6),
            share: Some(inherited(7)),
        };
        arguments(&spec(Some("/share".into())), 1, &ends)
    }

    /// What the guest and whoever else is on this machine can reach of QEMU.
    #[test]
    fn there_is_no_network_and_no_monitor_but_ours() {
        let args = with_share();
        let values = |flag: &str| -> Vec<&str> {
            let pairs = args.iter().zip(args.iter().skip(1));
            pairs.filter(|(name, _)| *name == flag).map(|(_, value)| value.as_str()).collect()
        };
        let sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        assert_eq!(values("-sandbox"), [sandbox]);
        for flag in ["-nodefaults", "-no-user-config"] {
            assert!(args.iter().any(|arg| arg == flag), "{flag}");
        }
        assert_eq!(values("-nic"), ["none"]);
        assert_eq!(values("-display"), ["none"]);
        assert_eq!(values("-mon"), ["chardev=qmp,mode=control"]);
        for flag in
            ["-netdev", "-net", "-monitor", "-qmp", "-gdb", "-s", "-vnc", "-spice", "-drive", "-virtfs"]
        {
            assert!(!args.iter().any(|arg| arg == flag), "{flag}");
        }
        // Every channel is a socket that is connected already; none is listened on, and none has a name.
        let chardevs: Vec<&str> = values("-chardev");
        let expected = [(3, "console"), (4, "qmp"), (5, "control"), (6, "audit"), (7, "share")];
        assert_eq!(chardevs, expected.map(|(fd, id)| format!("socket,fd={fd},id={id}")));
        assert!(!args.iter().any(|arg| arg.contains("server") || arg.contains("virtio-net")), "{args:?}");
    }

    #[test]
    fn the_line_by_hand_is_one_line_with_the_parameters_quoted() {
        let line = by_hand(&spec(Some("/share".into())), 2_400_000);
        assert_eq!(line.lines().count(), 1);
        assert!(line.starts_with("qemu-system-x86_64 -nodefaults"), "{line}");
        assert!(
            line.contains("'console=ttyS0 reboot=t ") && line.contains(" tsc_early_khz=2400000 audit=1'"),
            "{line}"
        );
        assert!(!line.contains("vhost-user-fs"), "{line}");
    }

    #[test]
    fn a_share_needs_shared_memory() {
        let args = with_share();
        assert!(args.iter().any(|arg| arg == "memory-backend-memfd,id=ram,size=512M,share=on"), "{args:?}");
        assert!(args.iter().any(|arg| arg.ends_with("memory-backend=ram")), "{args:?}");
        assert!(args.iter().any(|arg| arg == "vhost-user-fs-device,chardev=share,tag=nstrail"), "{args:?}");
    }
}
