// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults of a machine, played by a fake QEMU (examples/fake_qemu.rs): each has its event, and after each
//! nothing is left: no process, no socket, no temporary file.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nstrail::{
    plan::scenario,
    process::ProcessError,
    vm::{
        self, Accelerator, BootFailure, Channel, Limits, Perturbation, RunningVm, StreamFault, VmEvent,
        VmSpec, console::SplatKind,
    },
};
use nstrail_wire::{
    batch,
    frame::FrameError,
    message::{GuestMessage, HostMessage},
};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);

/// A folder that everything of one test names, so that what is left of it can be found.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("vm-faults-").tempdir().unwrap();
        for name in ["run", "share", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("vmlinux"), b"").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The fake under the name of what it shall do.
    fn fake(&self, behaviour: &str) -> PathBuf {
        let program = Path::new(env!("CARGO_BIN_EXE_nstrail")).with_file_name("examples").join("fake_qemu");
        assert!(program.is_file(), "{} is missing: cargo build --examples makes it", program.display());
        let link = self.path(behaviour);
        symlink(program, &link).unwrap();
        link
    }

    fn spec(&self, behaviour: &str) -> VmSpec {
        VmSpec {
            qemu: self.fake(behaviour),
            kernel: self.path("vmlinux"),
            initrd: self.path("vmlinux"),
            vcpus: 1,
            memory_mib: 64,
            accelerator: Accelerator::Tcg,
            perturbation: Perturbation::default(),
            cmdline: Vec::new(),
            run_dir: self.path("run"),
            share: None,
            limits: Limits { wall: LONG, silence: LONG, first_sign: LONG },
        }
    }

    fn launch(&self, behaviour: &str) -> RunningVm {
        vm::launch(&self.spec(behaviour)).unwrap()
    }

    /// Processes whose command line names the folder: the fake, and the virtiofs daemon of a share.
    fn processes(&self) -> Vec<String> {
        let needle = self.folder.path().to_str().unwrap();
        let commands = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            entry.file_name().to_str()?.parse::<u32>().ok()?;
            fs::read(entry.path().join("cmdline")).ok()
        });
        let commands = commands.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
        commands.filter(|command| command.contains(needle)).collect()
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        let left: Vec<_> = fs::read_dir(self.path("tmp")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn expect_hello(machine: &mut RunningVm) {
    let event = machine.next_event();
    assert!(
        matches!(event, VmEvent::Control { message: GuestMessage::Hello { .. }, .. }),
        "expected the first message, found {event:?}"
    );
}

fn expect_exit(machine: &mut RunningVm) -> String {
    match machine.next_event() {
        VmEvent::Exited { status } => status,
        other => panic!("expected the end of QEMU, found {other:?}"),
    }
}

/// Trouble of this host, in words.
fn expect_broken(machine: &mut RunningVm) -> String {
    match machine.next_event() {
        VmEvent::Broken { reason } => reason,
        other => panic!("expected trouble of the host, found {other:?}"),
    }
}

#[test]
fn a_missing_program_is_named() {
    let bench = Bench::new();
    let spec = VmSpec { qemu: bench.path("no-qemu"), ..bench.spec("hangs") };
    let failure = vm::launch(&spec).unwrap_err();
    assert!(matches!(failure, BootFailure::Process(ProcessError::Start { .. })), "{failure}");
    assert!(failure.to_string().contains("no-qemu"), "{failure}");
    bench.assert_nothing_is_left();
}

#[test]
fn an_exit_at_once_is_told_with_the_last_words() {
    let bench = Bench::new();
    let mut machine = bench.launch("exits-at-once");
    let reason = expect_broken(&mut machine);
    for part in ["exit status: 1", "cannot set up guest memory", "hint: QEMU 7.2 or newer"] {
        assert!(reason.contains(part), "expected `{part}` in {reason}");
    }
    machine.shutdown();
    bench.assert_nothing_is_left();
}

#[test]
fn an_exit_in_the_middle_comes_after_what_was_sent_before() {
    let bench = Bench::new();
    let mut machine = bench.launch("exits-in-the-middle");
    expect_hello(&mut machine);
    let event = machine.next_event();
    assert!(matches!(event, VmEvent::Control { message: GuestMessage::Facts(_), .. }), "{event:?}");
    assert_eq!(expect_exit(&mut machine), "exit status: 0");
    bench.assert_nothing_is_left();
}

#[test]
fn a_qemu_that_is_killed_is_trouble_of_this_host() {
    let bench = Bench::new();
    let mut machine = bench.launch("is-killed");
    expect_hello(&mut machine);
    let reason = expect_broken(&mut machine);
    assert!(reason.contains("SIGKILL") && reason.contains("for want of memory"), "{reason}");
    machine.shutdown();
    bench.assert_nothing_is_left();
}

#[test]
fn a_qemu_that_is_stopped_is_told_from_a_guest_that_hangs() {
    let bench = Bench::new();
    let silence = Duration::from_millis(300);
    for (behaviour, who) in [("is-stopped", Some("QEMU is stopped by a signal")), ("ignores-quit", None)] {
        let limits = Limits { wall: LONG, silence, first_sign: LONG };
        let mut machine = vm::launch(&VmSpec { limits, ..bench.spec(behaviour) }).unwrap();
        expect_hello(&mut machine);
        let event = machine.next_event();
        assert!(matches!(event, VmEvent::SilenceLimit(_)), "{behaviour}: {event:?}");
        assert_eq!(machine.stopped(), who, "{behaviour}");
        let start = Instant::now();
        machine.shutdown();
        assert!(start.elapsed() < Duration::from_secs(2), "{behaviour}: {:?}", start.elapsed());
        bench.assert_nothing_is_left();
    }
}

/// The virtiofs daemon of a bench's machine: itself, not the sandbox around it.
fn daemon(bench: &Bench) -> libc::pid_t {
    let needle = bench.path("share").to_str().unwrap().to_owned();
    let start = Instant::now();
    loop {
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
            // Not what confines it, whose command line ends with the daemon's.
            let ours = words[0].ends_with(b"/nstrail") && words.get(1) == Some(&&b"virtiofsd"[..]);
            (ours && words.contains(&needle.as_bytes())).then_some(pid)
        });
        let pids: Vec<libc::pid_t> = pids.collect();
        if let [pid] = pids[..] {
            return pid;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", bench.processes());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_virtiofs_daemon_that_dies_or_is_stopped_is_named() {
    for signal in [libc::SIGKILL, libc::SIGSTOP] {
        let bench = Bench::new();
        let silence = Duration::from_millis(if signal == libc::SIGSTOP { 500 } else { 30_000 });
        let limits = Limits { wall: LONG, silence, first_sign: LONG };
        let spec = VmSpec { share: Some(bench.path("share")), limits, ..bench.spec("runs") };
        let mut machine = vm::launch(&spec).unwrap();
        expect_hello(&mut machine);
        let start = Instant::now();
        // SAFETY: a signal to a child of this process, which is not reaped yet.
        assert_eq!(unsafe { libc::kill(daemon(&bench), signal) }, 0);
        if signal == libc::SIGKILL {
            let reason = expect_broken(&mut machine);
            // 137 is what a sandbox makes of a SIGKILL.
            let killed = reason.contains("SIGKILL") || reason.contains("137");
            assert!(reason.contains("virtiofs daemon") && killed, "{reason}");
            assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        } else {
            let event = machine.next_event();
            assert!(matches!(event, VmEvent::SilenceLimit(_)), "{event:?}");
            assert_eq!(machine.stopped(), Some("the virtiofs daemon is stopped by a signal"));
        }
        machine.shutdown();
        bench.assert_nothing_is_left();
    }
}

#[test]
fn frames_that_are_doubled_swapped_or_absurdly_long_are_faults() {
    for behaviour in ["doubles-a-frame", "swaps-frames", "claims-an-absurd-length"] {
        let bench = Bench::new();
        let mut machine = bench.launch(behaviour);
        let mut taken = 0;
        let fault = loop {
            match machine.next_event() {
                VmEvent::Audit(_) => taken += 1,
                VmEvent::Control { .. } => {}
                VmEvent::Fault { channel: Channel::Audit, fault: StreamFault::Frame(fault) } => break fault,
                other => panic!("{behaviour}: {other:?}"),
            }
        };
        match behaviour {
            "doubles-a-frame" => {
                assert!(matches!(fault, FrameError::Sequence { .. }) && taken == 1, "{fault}");
            }
            "swaps-frames" => assert!(matches!(fault, FrameError::Sequence { .. }) && taken == 0, "{fault}"),
            _ => assert!(matches!(fault, FrameError::TooLong { .. }) && taken == 0, "{fault}"),
        }
        machine.shutdown();
        bench.assert_nothing_is_left();
    }
}

#[test]
fn a_silent_machine_reaches_the_silence_limit() {
    let bench = Bench::new();
    let silence = Duration::from_millis(300);
    let spec = VmSpec { limits: Limits { wall: LONG, silence, first_sign: silence }, ..bench.spec("hangs") };
    let start = Instant::now();
    let mut machine = vm::launch(&spec).unwrap();
    let event = machine.next_event();
    assert!(matches!(event, VmEvent::SilenceLimit(limit) if limit == silence), "{event:?}");
    assert!(start.elapsed() >= silence);
    machine.shutdown();
    bench.assert_nothing_is_left();
}

#[test]
fn a_machine_that_never_falls_silent_reaches_the_wall_clock_limit() {
    let bench = Bench::new();
    let wall = Duration::from_millis(500);
    let spec = VmSpec { limits: Limits { wall, silence: LONG, first_sign: LONG }, ..bench.spec("chatters") };
    let start = Instant::now();
    let mut machine = vm::launch(&spec).unwrap();
    let event = loop {
        match machine.next_event() {
            // A reader slower than the guest: something is always waiting to be received.
            VmEvent::Audit(_) => thread::sleep(Duration::from_millis(2)),
            other => break other,
        }
        assert!(start.elapsed() < LONG / 2, "the wall clock limit is not kept");
    };
    assert!(matches!(event, VmEvent::WallLimit(limit) if limit == wall), "{event:?}");
    drop(machine);
    bench.assert_nothing_is_left();
}

#[test]
fn a_machine_without_channels_that_still_runs_is_ended() {
    let bench = Bench::new();
    let mut machine = bench.launch("closes-its-channels");
    let reason = expect_broken(&mut machine);
    assert!(reason.contains("still runs"), "{reason}");
    drop(machine);
    bench.assert_nothing_is_left();
}

#[test]
fn garbage_on_the_control_port_is_a_fault_of_that_port() {
    let bench = Bench::new();
    let mut machine = bench.launch("sends-garbage");
    expect_hello(&mut machine);
    let event = machine.next_event();
    assert!(
        matches!(
            event,
            VmEvent::Fault {
                channel: Channel::Control,
                fault: StreamFault::Frame(FrameError::Magic { sequence: 1, .. })
            }
        ),
        "{event:?}"
    );
    machine.shutdown();
    bench.assert_nothing_is_left();
}

#[test]
fn a_flipped_bit_in_the_audit_stream_is_a_fault_of_that_stream() {
    let bench = Bench::new();
    let mut machine = bench.launch("flips-a-bit");
    let mut events = [machine.next_event(), machine.next_event()];
    events.sort_by_key(|event| matches!(event, VmEvent::Fault { .. }));
    assert!(
        matches!(
            events[1],
            VmEvent::Fault {
                channel: Channel::Audit,
                fault: StreamFault::Frame(FrameError::Checksum { sequence: 0, .. })
            }
        ),
        "{events:?}"
    );
    machine.shutdown();
    bench.assert_nothing_is_left();
}

#[test]
fn a_frame_that_is_no_message_is_a_fault() {
    let bench = Bench::new();
    let mut machine = bench.launch("talks-nonsense");
    let event = machine.next_event();
    assert!(
        matches!(event, VmEvent::Fault { channel: Channel::Control, fault: StreamFault::Message(_) }),
        "{event:?}"
    );
    machine.shutdown();
    bench.assert_nothing_is_left();
}

#[test]
fn a_cut_frame_is_told_before_the_end() {
    let bench = Bench::new();
    let mut machine = bench.launch("cuts-a-frame");
    let mut faults = Vec::new();
    loop {
        match machine.next_event() {
            VmEvent::Fault { channel, fault: StreamFault::Frame(fault) } => faults.push((channel, fault)),
            VmEvent::Exited { .. } => break,
            VmEvent::Control { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(faults, [(Channel::Audit, FrameError::Truncated { sequence: 0, missing: 40 })]);
    bench.assert_nothing_is_left();
}

#[test]
fn a_panic_ends_within_two_seconds_although_qemu_hangs() {
    for behaviour in ["panics-and-hangs", "panics-without-end"] {
        let bench = Bench::new();
        let mut machine = bench.launch(behaviour);
        expect_hello(&mut machine);
        let start = Instant::now();
        let finding = match machine.next_event() {
            VmEvent::Console(finding) => finding,
            other => panic!("{behaviour}: {other:?}"),
        };
        assert_eq!(finding.kind, SplatKind::Panic, "{finding:?}");
        assert!(finding.lines.len() >= 2, "{finding:?}");
        machine.shutdown();
        assert!(start.elapsed() < Duration::from_secs(2), "{behaviour}: {:?}", start.elapsed());
        bench.assert_nothing_is_left();
    }
}

#[test]
fn a_splat_just_before_the_end_is_not_lost() {
    let bench = Bench::new();
    let mut machine = bench.launch("splats-and-finishes");
    expect_hello(&mut machine);
    let event = machine.next_event();
    assert!(matches!(event, VmEvent::Control { message: GuestMessage::Finished { .. }, .. }), "{event:?}");
    let findings = machine.shutdown();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].kind, findings[0].lines.len()), (SplatKind::Lockdep, 2));
    let log = fs::read_to_string(bench.path("run/console.log")).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    bench.assert_nothing_is_left();
}

#[test]
fn a_slow_reader_throttles_the_guest_and_loses_nothing() {
    let bench = Bench::new();
    let mut machine = bench.launch("floods");
    let mut numbers = Vec::new();
    let mut finished = false;
    while !(finished && numbers.len() == 2000) {
        match machine.next_event() {
            VmEvent::Audit(payload) => {
                numbers.extend(batch::records(&payload).map(|record| record.unwrap().0));
                if numbers.len() % 100 == 0 {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            VmEvent::Control { message: GuestMessage::Finished { .. }, .. } => finished = true,
            VmEvent::Control { .. } => {}
            other => panic!("after {} batches: {other:?}", numbers.len()),
        }
    }
    assert!(numbers.iter().copied().eq(0..2000));
    machine.shutdown();
    bench.assert_nothing_is_left();
}

#[test]
fn a_qemu_that_ignores_quit_is_killed() {
    let bench = Bench::new();
    let mut machine = bench.launch("ignores-quit");
    expect_hello(&mut machine);
    let start = Instant::now();
    machine.shutdown();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    bench.assert_nothing_is_left();
}

#[test]
fn a_qemu_that_does_not_read_takes_a_small_message_and_is_ended() {
    let bench = Bench::new();
    let mut machine = bench.launch("ignores-quit");
    expect_hello(&mut machine);
    let scenario = scenario::find("smoke").unwrap();
    machine.send(&HostMessage::Start { scenario, seed: 1 }).unwrap();
    drop(machine);
    bench.assert_nothing_is_left();
}

#[test]
fn a_panic_of_ours_leaves_nothing() {
    let bench = Bench::new();
    let spec = VmSpec { share: Some(bench.path("share")), ..bench.spec("runs") };
    let ours = thread::spawn(move || {
        let mut machine = vm::launch(&spec).unwrap();
        expect_hello(&mut machine);
        panic!("on purpose");
    });
    assert!(ours.join().is_err());
    bench.assert_nothing_is_left();
}

#[test]
fn neither_sigkill_nor_sigterm_of_ours_leaves_anything() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        let bench = Bench::new();
        let mut host = Command::new(bench.fake("host"))
            .args([bench.path("vmlinux"), bench.path("run"), bench.path("share"), bench.fake("runs")])
            .env("TMPDIR", bench.path("tmp"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(host.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("Hello"), "{line}");
        // The socket is gone before anybody runs.
        assert_eq!(fs::read_dir(bench.path("tmp")).unwrap().count(), 0);
        let start = Instant::now();
        let programs = || {
            let wrapped = |line: &String| ["bwrap ", "unshare ", "sh "].iter().any(|w| line.starts_with(w));
            bench.processes().iter().filter(|line| !wrapped(line)).count()
        };
        while programs() < 3 && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(programs(), 3, "host, fake, daemon: {:?}", bench.processes());
        // SAFETY: a signal to our own child, which is not reaped yet.
        unsafe { libc::kill(i32::try_from(host.id()).unwrap(), signal) };
        host.wait().unwrap();
        // Orphans die by their parent-death signal; init reaps them a moment later.
        while !bench.processes().is_empty() && start.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(5));
        }
        bench.assert_nothing_is_left();
    }
}
