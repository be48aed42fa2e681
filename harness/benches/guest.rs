// SPDX-License-Identifier: MIT OR Apache-2.0
//! What whole guests cost, as ratios within one run: absolute times drift by tens of percent.
//!
//! `cargo bench --package nstrail` (or `make bench`) needs the kernels in the cache; it builds them if they
//! are not. It prints a table; nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nstrail::vm::accelerator;
use serde_json::Value;

const RUNS: usize = 7;
const RATE_RUNS: usize = 3;
const PAIRS: usize = 9;

fn main() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let bench = Bench { out: out.path().to_owned() };
    let patched = bench.build(&[]);
    bench.build(&["--unpatched"]);

    let smoke = median(RUNS, || bench.wall(&["run", "smoke", "--snapshots", "off"]));
    let floor = median(RUNS, || bench.floor(&patched));
    println!("plain QEMU floor (2 vCPUs, same kernel)  {:>8.3} s", floor.as_secs_f64());
    println!("warm `nstrail run smoke`                 {:>8.3} s", smoke.as_secs_f64());
    println!("ratio                                    {:>8.2}", smoke.as_secs_f64() / floor.as_secs_f64());
    let last = bench.summary();
    let figures = &last["kernels"][0]["scenarios"][0]["figures"];
    for part in ["boot_seconds", "workload_seconds", "vm_seconds", "check_seconds"] {
        println!("  of the last: {part:<27} {:>8.3} s", figures[part].as_f64().unwrap_or_default());
    }
    let own =
        last["seconds"].as_f64().unwrap_or_default() - figures["vm_seconds"].as_f64().unwrap_or_default();
    println!("  of the last: nstrail's own               {own:>8.3} s");

    // Interleaved, so that a drift of the machine meets all of them alike.
    let (mut audited, mut silent, mut unpatched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RATE_RUNS {
        audited.push(bench.rate("audited.toml", &[]));
        silent.push(bench.rate("silent.toml", &[]));
        unpatched.push(bench.rate("silent.toml", &["--unpatched"]));
    }
    let (audited, silent, unpatched) = (middle(audited), middle(silent), middle(unpatched));
    let ledger = bench.ledger();
    println!("containers/s, audit on, captured         {audited:>8.0}");
    println!("containers/s, audit disabled             {silent:>8.0}");
    println!("containers/s, audit disabled, unpatched  {unpatched:>8.0}");
    println!("containers/s, storm                      {:>8.0}", ledger.on);
    println!("containers/s, storm, ledger off          {:>8.0}", ledger.off);
    println!("ledger on / ledger off, median of pairs  {:>8.2}", ledger.ratio);
    println!("  each pair                              {}", ledger.pairs.join(" "));
    println!("  by the guest's instructions            {:>8.2}", ledger.instructions);
    println!("audit on / audit disabled                {:>8.2}", audited / silent);
    println!("patched / unpatched, audit disabled      {:>8.2}", silent / unpatched);
}

/// What the ledger costs a storm.
struct Ledger {
    /// Containers a second with and without it, medians.
    on: f64,
    off: f64,
    /// Median of the pairs' ratios: the machine's speed drifts by more than the ledger costs, less so within a pair.
    ratio: f64,
    pairs: Vec<String>,
    /// Of what the guest executes, by `-icount`: nothing of the host goes into it; the guest's idle waits do, as time that its clock skips.
    instructions: f64,
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn median(runs: usize, mut measure: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..runs).map(|_| measure()).collect();
    times.sort();
    times[times.len() / 2]
}

struct Bench {
    out: PathBuf,
}

impl Bench {
    fn nstrail(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nstrail"));
        command
            .args(args)
            .arg("--quiet")
            .env("NSTRAIL_OUT", &self.out)
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn build(&self, args: &[&str]) -> PathBuf {
        let output = self
            .nstrail(&[&["build"], args].concat())
            .stdout(Stdio::piped())
            .output()
            .expect("nstrail build");
        assert!(output.status.success(), "nstrail build {args:?} failed");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    }

    fn wall(&self, args: &[&str]) -> Duration {
        let start = Instant::now();
        let status = self.nstrail(args).status().expect("nstrail");
        assert!(status.success(), "nstrail {args:?}: {status}");
        start.elapsed()
    }

    fn summary(&self) -> Value {
        let text = fs::read(self.out.join("latest/summary.json")).expect("summary.json");
        serde_json::from_slice(&text).expect("summary.json")
    }

    /// Containers a second. The verdict does not matter: the unpatched kernel fails, and so does a run without a ledger.
    fn rate(&self, scenario: &str, args: &[&str]) -> f64 {
        let scenario = root().join("harness/benches").join(scenario);
        let scenario = scenario.to_string_lossy();
        self.nstrail(&[&["run", &scenario, "--snapshots", "off"], args].concat()).status().expect("nstrail");
        let summary = self.summary();
        let figures = &summary["kernels"][0]["scenarios"][0]["figures"];
        let (containers, seconds) = (figures["containers"].as_f64(), figures["workload_seconds"].as_f64());
        assert!(
            containers.is_some_and(|count| count > 0.0),
            "{scenario} {args:?} did not finish: {summary:#}"
        );
        containers.unwrap_or_default() / seconds.unwrap_or(f64::NAN)
    }

    fn ledger(&self) -> Ledger {
        const OFF: [&str; 2] = ["--append", "nstrail.ledger=off"];
        let (mut on, mut off) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            // Whoever comes second finds another machine, if only a warmer one.
            if pair % 2 == 0 {
                on.push(self.rate("rapid.toml", &[]));
            }
            off.push(self.rate("rapid.toml", &OFF));
            if pair % 2 == 1 {
                on.push(self.rate("rapid.toml", &[]));
            }
        }
        let counted = ["--perturb", "icount-0"];
        let counted_on = self.rate("rapid.toml", &counted);
        let counted_off = self.rate("rapid.toml", &[counted, OFF].concat());
        let ratios: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on / off).collect();
        Ledger {
            pairs: ratios.iter().map(|ratio| format!("{ratio:.2}")).collect(),
            ratio: middle(ratios),
            on: middle(on),
            off: middle(off),
            instructions: counted_on / counted_off,
        }
    }

    /// QEMU with the same kernel and machine, and an init that resets at once.
    fn floor(&self, kernel: &Path) -> Duration {
        let initrd = self.out.join("floor.cpio");
        fs::write(&initrd, nstrail::vm::initramfs::archive(&reset_program())).expect("initrd");
        let append = format!(
            "console=ttyS0 panic=-1 quiet nokaslr nolapic_timer tsc=reliable reboot=t tsc_early_khz={} audit=1",
            accelerator::tsc_khz()
        );
        let start = Instant::now();
        let status = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "microvm,acpi=off", "-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", "2", "-m", "512M", "-serial", "null", "-append", &append])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(&initrd)
            .status()
            .expect("qemu-system-x86_64");
        assert!(status.success(), "{status}");
        start.elapsed()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout").to_owned()
}

/// A static program of one system call: reboot(LINUX_REBOOT_CMD_RESTART).
fn reset_program() -> Vec<u8> {
    const LOAD: u64 = 0x40_0000;
    // mov eax, 169; mov edi, 0xfee1dead; mov esi, 672274793; mov edx, 0x01234567; syscall; jmp .
    let code = [
        0xB8, 0xA9, 0, 0, 0, 0xBF, 0xAD, 0xDE, 0xE1, 0xFE, 0xBE, 0x69, 0x19, 0x12, 0x28, 0xBA, 0x67, 0x45,
        0x23, 0x01, 0x0F, 0x05, 0xEB, 0xFE,
    ];
    let mut image = vec![0_u8; 120];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2_u16.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(24, &(LOAD + 120).to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &64_u16.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &1_u16.to_le_bytes());
    let size = 120 + code.len() as u64;
    put(64, &1_u32.to_le_bytes());
    put(68, &5_u32.to_le_bytes());
    for (index, value) in [0, LOAD, LOAD, size, size, 0x1000].into_iter().enumerate() {
        put(72 + index * 8, &u64::to_le_bytes(value));
    }
    image.extend_from_slice(&code);
    image
}
