// SPDX-License-Identifier: MIT OR Apache-2.0
//! A QEMU that misbehaves, for the tests of the VM stage (tests/vm_faults.rs).
//!
//! It is started by `vm::launch` like QEMU, understands as much of QEMU's command line as it needs to
//! find its channels, and then does what the last part of its own name says: the tests link to it under
//! those names. As `host` it is the other side: a program that launches a machine and waits to be killed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a part of a test, seen by it alone"
)]

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write},
    os::fd::FromRawFd as _,
    path::Path,
    process::exit,
    thread,
    time::Duration,
};

use nstrail::{
    process::interrupt,
    vm::{self, Accelerator, Limits, Perturbation, VmSpec},
};
use nstrail_audit::record::split_line;
use nstrail_wire::{
    batch,
    frame::{FrameDecoder, FrameEncoder, HEADER_LEN},
    message::{self, GuestMessage, PROTOCOL},
};

/// Batches that `floods` sends.
const FLOOD: u16 = 2000;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let mode = Path::new(&arguments[0]).file_name().unwrap().to_str().unwrap().to_owned();
    if mode == "host" {
        host(&arguments[1..]);
    }
    let mut machine = Machine::new(&arguments);
    match mode.as_str() {
        "exits-at-once" => {
            eprintln!("fake_qemu: cannot set up guest memory 'ram'");
            exit(1);
        }
        "hangs" => {}
        "closes-its-channels" => {
            machine.channels.clear();
            drop(machine);
            sleep_forever();
        }
        "chatters" => loop {
            let mut payload = Vec::new();
            batch::push(&mut payload, 1300, b"audit(1.000:1): one more");
            let frame = machine.frame("audit", &payload);
            machine.raw("audit", &frame);
        },
        "sends-garbage" => {
            machine.hello();
            machine.raw("control", b"Kernel command line: console=ttyS0\n");
        }
        "flips-a-bit" => {
            machine.hello();
            let mut frame = machine.frame("audit", b"a payload of the audit stream");
            *frame.last_mut().unwrap() ^= 4;
            machine.raw("audit", &frame);
        }
        "cuts-a-frame" => {
            machine.hello();
            let frame = machine.frame("audit", &[7; 100]);
            machine.raw("audit", &frame[..HEADER_LEN + 60]);
            exit(0);
        }
        "doubles-a-frame" => {
            machine.hello();
            let mut payload = Vec::new();
            batch::push(&mut payload, 1300, b"audit(1.000:1): said once");
            let frame = machine.frame("audit", &payload);
            machine.raw("audit", &frame);
            machine.raw("audit", &frame);
        }
        "swaps-frames" => {
            machine.hello();
            let (first, second) = (machine.frame("audit", b"first"), machine.frame("audit", b"second"));
            machine.raw("audit", &second);
            machine.raw("audit", &first);
        }
        "claims-an-absurd-length" => {
            machine.hello();
            let mut frame = machine.frame("audit", b"short");
            frame[4..8].fill(0xff);
            machine.raw("audit", &frame);
        }
        "is-killed" => {
            machine.hello();
            // SAFETY: a signal to this process.
            unsafe { libc::raise(libc::SIGKILL) };
        }
        "is-stopped" => {
            machine.hello();
            // SAFETY: a signal to this process.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
        "speaks-once-on-the-console" => machine.console("[    0.000000] Linux version 6.12.0-fake"),
        "hangs-at-power-off" => {
            machine.hello();
            machine.message(&GuestMessage::Finished { workload_ns: 1, containers: 0, pid_rollovers: 0 });
            sleep_forever();
        }
        "talks-nonsense" => {
            let frame = machine.frame("control", &[0xff; 9]);
            machine.raw("control", &frame);
        }
        "exits-in-the-middle" => {
            machine.hello();
            machine.message(&GuestMessage::Facts(Vec::new()));
            exit(0);
        }
        "panics-and-hangs" => {
            machine.hello();
            machine.console("[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000008");
            machine.console("[    1.0] Kernel panic - not syncing: Fatal exception");
            machine.console("[    1.0] Kernel Offset: disabled");
        }
        "panics-without-end" => {
            machine.hello();
            machine.console("[    1.0] Kernel panic - not syncing: Fatal exception");
            loop {
                machine.console("[    1.0]  ? x+0x1/0x2");
                thread::sleep(Duration::from_millis(50));
            }
        }
        "splats-and-finishes" => {
            machine.hello();
            machine.console("[    1.0] WARNING: possible circular locking dependency detected");
            machine.console("[    1.0] x/1 is trying to acquire lock:");
            machine.message(&GuestMessage::Finished { workload_ns: 1, containers: 0, pid_rollovers: 0 });
        }
        "floods" => {
            machine.hello();
            for number in 0..FLOOD {
                let mut payload = Vec::new();
                batch::push(&mut payload, number, &[b'x'; 8000]);
                let frame = machine.frame("audit", &payload);
                machine.raw("audit", &frame);
            }
            machine.message(&GuestMessage::Finished { workload_ns: 1, containers: 0, pid_rollovers: 0 });
        }
        "ignores-quit" => {
            machine.hello();
            sleep_forever();
        }
        "runs" => machine.hello(),
        "plays" => play(&mut machine, &arguments),
        other => {
            eprintln!("fake_qemu: no behaviour is called {other}");
            exit(64);
        }
    }
    machine.obey();
}

/// Plays a recorded run of smoke, unless the kernel has words in it that say otherwise: DOES_NOT_BOOT, FAILS, and
/// FAILS_RARELY, which does so in one of three runs, as dice say whose state lies beside the fake.
fn play(machine: &mut Machine, arguments: &[String]) {
    let kernel = arguments.windows(2).find(|pair| pair[0] == "-kernel").unwrap();
    let kernel = fs::read(&kernel[1]).unwrap();
    let says = |word: &str| kernel.windows(word.len()).any(|window| window == word.as_bytes());
    if says("DOES_NOT_BOOT") {
        machine.console("[    0.1] Kernel panic - not syncing: no init");
        return;
    }
    if says("FAILS") && (!says("FAILS_RARELY") || unlucky(Path::new(&arguments[0]))) {
        machine.hello();
        machine.console("[    1.0] Kernel panic - not syncing: planted");
        return;
    }
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../snapshots/runs/6.12/smoke");
    let mut batch = Vec::new();
    for line in fs::read(recording.join("audit.log")).unwrap().split(|byte| *byte == b'\n') {
        if let Ok((kind, record)) = split_line(line) {
            batch::push(&mut batch, kind.0, record);
        }
    }
    let frame = machine.frame("audit", &batch);
    machine.raw("audit", &frame);
    let mut decoder = FrameDecoder::new();
    decoder.extend(&fs::read(recording.join("ledger.frames")).unwrap());
    while let Some(payload) = decoder.next_frame().unwrap() {
        // It was recorded by an agent of its time, and is played by one of now.
        if let Ok(GuestMessage::Hello { .. }) = message::decode(payload) {
            machine.hello();
        } else {
            let frame = machine.frame("control", payload);
            machine.raw("control", &frame);
        }
    }
}

/// Rolls the dice (Marsaglia's xorshift) once.
fn unlucky(program: &Path) -> bool {
    let state = program.with_file_name("dice");
    let mut dice: u64 =
        fs::read_to_string(&state).map_or(0x2545_f491_4f6c_dd1d, |text| text.parse().unwrap());
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    fs::write(&state, dice.to_string()).unwrap();
    (dice >> 33).is_multiple_of(3)
}

fn sleep_forever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// `KERNEL RUN_DIR SHARE QEMU`: launches a machine, says so, and waits for its end.
fn host(arguments: &[String]) -> ! {
    let [kernel, run_dir, share, qemu] = arguments else { exit(64) };
    interrupt::install().unwrap();
    let spec = VmSpec {
        qemu: qemu.into(),
        kernel: kernel.into(),
        initrd: kernel.into(),
        vcpus: 1,
        memory_mib: 64,
        accelerator: Accelerator::Tcg,
        perturbation: Perturbation::default(),
        cmdline: Vec::new(),
        run_dir: run_dir.into(),
        share: Some(share.into()),
        limits: Limits {
            wall: Duration::from_secs(60),
            silence: Duration::from_secs(60),
            first_sign: Duration::from_secs(60),
        },
    };
    let mut machine = vm::launch(&spec).unwrap();
    println!("{:?}", machine.next_event());
    println!("{:?}", machine.next_event());
    drop(machine);
    exit(0);
}

/// The channels, as QEMU finds them on its command line.
struct Machine {
    channels: BTreeMap<String, File>,
    encoders: BTreeMap<String, FrameEncoder>,
    _share: Option<File>,
}

impl Machine {
    fn new(arguments: &[String]) -> Self {
        let mut channels = BTreeMap::new();
        for pair in arguments.windows(2).filter(|pair| pair[0] == "-chardev") {
            let fields: BTreeMap<&str, &str> =
                pair[1].split(',').filter_map(|field| field.split_once('=')).collect();
            if let Some(fd) = fields.get("fd") {
                // SAFETY: our parent has made these descriptors for us, each named once.
                let file = unsafe { File::from_raw_fd(fd.parse().unwrap()) };
                channels.insert(fields["id"].to_owned(), file);
            }
        }
        let share = channels.remove("share");
        assert_eq!(channels.len(), 4, "console, qmp, control, audit: {channels:?}");
        Self { channels, encoders: BTreeMap::new(), _share: share }
    }

    fn frame(&mut self, channel: &str, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.encoders.entry(channel.to_owned()).or_default().encode(payload, &mut frame).unwrap();
        frame
    }

    /// A host that hangs up ends the machine.
    fn raw(&mut self, channel: &str, bytes: &[u8]) {
        if self.channels.get_mut(channel).unwrap().write_all(bytes).is_err() {
            exit(0);
        }
    }

    fn message(&mut self, message: &GuestMessage) {
        let frame = self.frame("control", &message::encode(message).unwrap());
        self.raw("control", &frame);
    }

    fn hello(&mut self) {
        self.message(&GuestMessage::Hello {
            protocol: PROTOCOL,
            kernel_release: "6.12.0-fake".to_owned(),
            cpus: 1,
            booted_ns: 1,
        });
    }

    fn console(&mut self, line: &str) {
        self.raw("console", format!("{line}\r\n").as_bytes());
    }

    /// Does nothing but wait for QMP's quit.
    fn obey(self) -> ! {
        for line in BufReader::new(&self.channels["qmp"]).lines() {
            if line.is_ok_and(|line| line.contains("\"quit\"")) {
                exit(0);
            }
        }
        sleep_forever();
    }
}
