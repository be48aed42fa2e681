// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that the kernel has lost, where it was built with kmemleak (Documentation/dev-tools/kmemleak.rst): what it
//! finds at the end of a run goes to the console, where splats are looked for.

use std::{fs, io, io::Write as _, path::Path, thread, time::Duration};

use crate::mounts::{DEBUGFS, mount_debugfs};

const REPORT: &str = "/sys/kernel/debug/kmemleak";
const KMSG: &str = "/dev/kmsg";
const DEVKMSG: &str = "/proc/sys/kernel/printk_devkmsg";

/// Younger objects are not reported (MSECS_MIN_AGE in mm/kmemleak.c): their pointers may be in a register.
const MIN_AGE: Duration = Duration::from_millis(5100);

/// Lines of the report that are told.
const LINES: usize = 80;

/// Scans and tells what is found; nothing where the kernel has no kmemleak.
///
/// # Errors
/// If it has and cannot be asked.
pub fn tell() -> io::Result<()> {
    if !Path::new(DEBUGFS).is_dir() {
        return Ok(());
    }
    if !Path::new(REPORT).exists() {
        mount_debugfs()?;
    }
    if !Path::new(REPORT).exists() {
        return Ok(());
    }
    // The age counts from the allocation, and the run's last ones are of just now: nothing to wait for but time.
    thread::sleep(MIN_AGE);
    // An object is reported if its content stayed the same from one scan to the next.
    for _ in 0..2 {
        fs::write(REPORT, "scan")?;
    }
    let report = fs::read_to_string(REPORT)?;
    let found = report.lines().filter(|line| line.starts_with("unreferenced object ")).count();
    if found == 0 {
        return Ok(());
    }
    // More than ten lines are dropped unless this is on (kernel/printk/printk.c:devkmsg_write). It wants its newline.
    fs::write(DEVKMSG, "on\n")?;
    let mut console = fs::OpenOptions::new().write(true).open(KMSG)?;
    // The kernel's own line says where the report is to be read; this one begins it. Each write is a line.
    let head = format!("kmemleak: {found} new suspected memory leaks");
    for line in std::iter::once(head.as_str()).chain(report.lines().take(LINES)) {
        console.write_all(format!("<3>{line}\n").as_bytes())?;
    }
    Ok(())
}
